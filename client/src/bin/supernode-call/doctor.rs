//! Whether calls can be made from here, and if not, what is in the way: for people.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_client::{
    Client, Config, Error, Event, ProxyChoice, Transport,
    e2ee::{Device, DeviceSecret, IdentitySecret},
    proto::{invite::Invite, probe},
};

use supernode_tcp::Target;

use crate::{
    failure::Failure,
    identity::{self, unix_s},
    links, say,
};

/// How often an address is asked, and how long each answer may take.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stranger that comes to look is certified.
const DELEGATED_S: u64 = 3600;
/// News of the clock comes with the Welcome.
const NEWS_TIMEOUT: Duration = Duration::from_millis(300);

/// What to look with.
pub(crate) struct With<'a> {
    pub(crate) invite_file: Option<&'a PathBuf>,
    pub(crate) identity: Option<&'a Path>,
    pub(crate) authority_file: Option<PathBuf>,
}

/// Looks, and says what it sees.
pub(crate) fn run(with: &With<'_>) -> Result<(), Failure> {
    let invite = links::invite(with.invite_file).map_err(Failure::here)?;
    let addresses = match resolve(&invite) {
        Ok(addresses) => addresses,
        Err(error) => {
            bad(
                "name",
                &format!("{}: no address: {error}", invite.host),
                "look for a mistake in the link, and whether this device is on line",
            )?;
            return Err(Failure::relay(Error::Resolve(error)));
        }
    };
    good("name", &format!("{} has {} address(es)", invite.host, addresses.len()))?;
    let mut reached = false;
    for address in &addresses {
        let shown = format!("{address} (port {}, UDP)", invite.port);
        match ask(*address) {
            Ok(took) => {
                reached = true;
                good("way", &format!("{shown} answers in {} ms", took.as_millis()))?;
            }
            Err(error) => bad("way", &format!("{shown}: {}", words_of(&error)), advice_for(&error))?,
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::here(error.into()))?;
    if let Some(port) = invite.tcp {
        for address in &addresses {
            reached |= runtime.block_on(over_tcp(&invite.host, SocketAddr::new(address.ip(), port)))?;
        }
    }
    if !reached {
        let advice = "try another network, such as a phone's: if it works there, this one lets nothing through. Else ask whoever \
                      runs the relay whether it runs";
        bad("relay", "no address answers", advice)?;
        return Err(Failure::no_way());
    }
    let device = match with.identity {
        Some(path) => identity::load(path)?.into_device()?,
        None if invite.token.as_deref().is_some_and(links::is_for_one_use) => {
            let words = "not tried: the invite is for the first device that uses it; name yours with --identity FILE";
            return good("let in", words);
        }
        None => stranger()?,
    };
    runtime.block_on(come_in(&invite, device, with.authority_file.clone()))
}

fn resolve(invite: &Invite) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = (invite.host.as_str(), invite.port).to_socket_addrs()?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(addresses) }
}

/// Whether the relay answers over TCP, through the proxy that this machine has for such names.
async fn over_tcp(host: &str, address: SocketAddr) -> Result<bool, Failure> {
    let proxy = ProxyChoice::Environment.for_host(host);
    let by = proxy.as_ref().map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
    let shown = format!("{address} (port {}, TCP{by})", address.port());
    let target = Target { host: host.to_owned(), address, proxy };
    let begin = Instant::now();
    let patience = ATTEMPT_TIMEOUT * ATTEMPTS;
    let opened = tokio::time::timeout(patience, supernode_tcp::open(&target)).await;
    let what = match opened {
        Ok(Ok(mut stream)) => {
            if supernode_tcp::answers(&mut stream).await {
                good("way", &format!("{shown} answers in {} ms", begin.elapsed().as_millis()))?;
                return Ok(true);
            }
            "something takes a WebSocket, and no relay answers behind it".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", patience.as_secs()),
    };
    bad(
        "way",
        &format!("{shown}: {what}"),
        "fine if UDP gets through; else a firewall or a proxy (HTTPS_PROXY) is in the way",
    )?;
    Ok(false)
}

/// How long it takes until a relay, or something else that speaks QUIC, answers there.
fn ask(address: SocketAddr) -> io::Result<Duration> {
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(here)?;
    // Connected, it is told when nobody listens there (ICMP).
    socket.connect(address)?;
    socket.set_read_timeout(Some(ATTEMPT_TIMEOUT))?;
    let packet = probe::packet(&rand::random());
    let mut answer = [0; 1500];
    for attempt in 1..=ATTEMPTS {
        let begin = Instant::now();
        socket.send(&packet)?;
        match socket.recv(&mut answer) {
            Ok(length) if probe::is_answer(&answer[..length]) => return Ok(begin.elapsed()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no relay")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn words_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!("no answer to {ATTEMPTS} packets in {ATTEMPTS} s"),
        io::ErrorKind::ConnectionRefused => {
            "refused: that machine is there, and nothing listens at that port".to_owned()
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "this network has no way there".to_owned()
        }
        _ => error.to_string(),
    }
}

fn advice_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::WouldBlock => "UDP is blocked on the way, the address is wrong, or the relay's machine is off",
        io::ErrorKind::ConnectionRefused => "the relay does not run, or the port in the link is wrong",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "fine if another address answers",
        _ => "see what the system says",
    }
}

/// Somebody who was never there and never comes again.
fn stranger() -> Result<Arc<Device>, Failure> {
    let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&device.public(), unix_s() + DELEGATED_S);
    Device::new(device, delegation).map(Arc::new).map_err(|error| Failure::here(error.into()))
}

async fn come_in(invite: &Invite, device: Arc<Device>, authority_file: Option<PathBuf>) -> Result<(), Failure> {
    let begin = Instant::now();
    let config = Config { authority_file, ..Config::default() };
    let (client, mut events) = match Client::connect(invite, device, config).await {
        Ok(connected) => connected,
        Err(error) => {
            bad("let in", &error.to_string(), error.words().todo)?;
            return Err(Failure::relay(error));
        }
    };
    let by = match client.transport() {
        Some(Transport::Tcp) => "TCP, as no UDP gets through: a lost packet holds up what is behind it",
        Some(Transport::Udp) | None => "UDP",
    };
    let took = begin.elapsed().as_millis();
    good("let in", &format!("after {took} ms by {by}; the relay is the one that the link means"))?;
    let mut apart = None;
    while let Ok(Some(event)) = tokio::time::timeout(NEWS_TIMEOUT, events.next()).await {
        if let Event::ClockDiffers(skew) = event {
            apart = Some(skew);
        }
    }
    client.close().await;
    match apart {
        None => good("clock", "within a minute of the relay's"),
        Some(skew) => bad("clock", &skew.to_string(), "set the one that is wrong: what is signed holds by a clock"),
    }
}

fn good(check: &str, found: &str) -> Result<(), Failure> {
    say(&format!("good  {check:<7} {found}"))
}

fn bad(check: &str, found: &str, advice: &str) -> Result<(), Failure> {
    say(&format!("BAD   {check:<7} {found}\n      -> {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_refusal_and_another_language_are_told_apart() {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = silent.local_addr().expect("bound");
        assert!(words_of(&ask(address).expect_err("silence")).starts_with("no answer to 3 packets"));
        drop(silent);
        let begin = Instant::now();
        let refused = ask(address).expect_err("nobody");
        assert!(words_of(&refused).starts_with("refused:") && begin.elapsed() < ATTEMPT_TIMEOUT);
        let talking = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = talking.local_addr().expect("bound");
        let answering = std::thread::spawn(move || {
            let (_, from) = talking.recv_from(&mut [0; 1500]).expect("a packet");
            talking.send_to(b"this is no QUIC", from).expect("sent");
        });
        assert!(words_of(&ask(address).expect_err("no relay")).contains("no relay"));
        answering.join().expect("it ends");
    }
}
