//! Whether calls can be made from here, and if not, what is in the way: for people.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_client::{
    Client, Config, Error, Event, Network, Proxy, ProxyChoice, Transport,
    e2ee::{Device, DeviceSecret, IdentitySecret},
    proto::{invite::Invite, probe},
};
use supernode_tcp::Target;

use crate::{
    failure::Failure,
    papers::{
        identity::{self, unix_s},
        links,
    },
    say,
    trouble::Trouble,
};

/// How often an address is asked, and how long each answer may take.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stranger that comes to look is certified.
const DELEGATED_S: u64 = 3600;
/// News of the clock comes with the Welcome.
const NEWS_TIMEOUT: Duration = Duration::from_millis(300);
/// What silence may mean, for people in a hurry.
const BLOCKED_OR_NOBODY: &str = "UDP is blocked here, or no relay runs there";

/// What to look with.
pub(crate) struct With<'a> {
    pub(crate) invite_file: Option<&'a PathBuf>,
    pub(crate) identity: Option<&'a Path>,
    pub(crate) authority_file: Option<PathBuf>,
    pub(crate) proxy: ProxyChoice,
}

/// Looks, and says what it sees, line by line and in the end in short.
pub(crate) fn run(with: &With<'_>) -> Result<(), Failure> {
    let invite = links::invite(with.invite_file)?;
    let mut short = Vec::new();
    let looked = look(with, &invite, &mut short);
    say(&format!("\nIn short: {}.", short.join("; ")))?;
    looked
}

fn look(with: &With<'_>, invite: &Invite, short: &mut Vec<String>) -> Result<(), Failure> {
    let proxy = invite.tcp.and_then(|_| with.proxy.for_host(&invite.host));
    let addresses = match resolve(invite) {
        Ok(addresses) => {
            good("name", &format!("{} has {} address(es)", invite.host, addresses.len()))?;
            addresses
        }
        Err(error) if proxy.is_some() => {
            let found = format!("{}: no address: {error}", invite.host);
            bad("name", &found, "fine if the proxy knows the name")?;
            Vec::new()
        }
        Err(error) => {
            bad(
                "name",
                &format!("{}: no address: {error}", invite.host),
                "look for a mistake in the link, and whether this device is on line",
            )?;
            short.push(format!("{} leads nowhere from here", invite.host));
            return Err(Failure::relay(Error::Resolve(error)));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Trouble::System)?;
    let mut ways = Vec::new();
    if !addresses.is_empty() {
        ways.push(by_udp(&addresses, invite.port)?);
    }
    if let Some(port) = invite.tcp {
        ways.push(runtime.block_on(by_tcp(&invite.host, port, &addresses, proxy.as_ref()))?);
    }
    let a_relay_runs = ways.iter().any(|way| way.leads_there);
    short.extend(ways.iter().map(|way| match way.word {
        // Whoever answers over TCP runs.
        BLOCKED_OR_NOBODY if a_relay_runs => "UDP is blocked here".to_owned(),
        word => word.to_owned(),
    }));
    if !a_relay_runs {
        let advice = "try another network, such as a phone's: if it works there, this one does not let calls through. Else ask \
                      whoever runs the relay whether it runs";
        bad("relay", "no address answers", advice)?;
        return Err(Failure::no_way());
    }
    let device = match with.identity {
        Some(path) => identity::load(path)?.into_device()?,
        None if invite.token.as_deref().is_some_and(links::is_for_one_use) => {
            let words = "not tried: the invite is for the first device that uses it; name yours with --identity FILE";
            short.push("whether you are let in was not tried".into());
            return good("let in", words);
        }
        None => stranger(),
    };
    runtime.block_on(come_in(invite, device, with, short))
}

fn resolve(invite: &Invite) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = (invite.host.as_str(), invite.port).to_socket_addrs()?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(addresses) }
}

/// A way to the relay.
struct Way {
    leads_there: bool,
    /// For people in a hurry.
    word: &'static str,
}

/// Asks every address over UDP.
fn by_udp(addresses: &[SocketAddr], port: u16) -> Result<Way, Failure> {
    let mut failed = Vec::new();
    for address in addresses {
        let shown = format!("{address} (port {port}, UDP)");
        match ask(*address) {
            Ok(took) => good("way", &format!("{shown} answers in {} ms", took.as_millis()))?,
            Err(error) => {
                bad("way", &format!("{shown}: {}", words_of(&error)), advice_for(&error))?;
                failed.push(error);
            }
        }
    }
    let all = |is_so: fn(&io::Error) -> bool| failed.iter().all(is_so);
    Ok(Way {
        leads_there: failed.len() < addresses.len(),
        word: match () {
            () if failed.len() < addresses.len() => "UDP gets through",
            () if all(|error| error.kind() == io::ErrorKind::ConnectionRefused) => {
                "UDP gets through, and no relay runs at that port"
            }
            () if all(is_too_long) => "the way is too narrow for QUIC",
            () if all(|error| error.kind() != io::ErrorKind::WouldBlock) => "UDP to there is refused",
            () => BLOCKED_OR_NOBODY,
        },
    })
}

/// Asks every address over TCP, or the proxy that this machine has for that name.
async fn by_tcp(host: &str, port: u16, addresses: &[SocketAddr], proxy: Option<&Proxy>) -> Result<Way, Failure> {
    let mut leads_there = false;
    // A proxy is told the name.
    let unknown = [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)];
    let addresses = if proxy.is_some() { &unknown[..] } else { addresses };
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port);
        let shown = match proxy {
            Some(proxy) => format!("{host} (port {port}, TCP through the proxy {proxy})"),
            None => format!("{address} (port {port}, TCP)"),
        };
        leads_there |= over_tcp(&Target { host: host.to_owned(), address, proxy: proxy.cloned() }, &shown).await?;
    }
    Ok(Way { leads_there, word: if leads_there { "TCP works" } else { "TCP does not work" } })
}

async fn over_tcp(target: &Target, shown: &str) -> Result<bool, Failure> {
    let begin = Instant::now();
    let patience = ATTEMPT_TIMEOUT * ATTEMPTS;
    let what = match tokio::time::timeout(patience, supernode_tcp::open(target)).await {
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
        "fine if UDP gets through; else a firewall or a proxy (--proxy, HTTPS_PROXY) is in the way",
    )?;
    Ok(false)
}

/// How long it takes until a relay, or something else that speaks QUIC, answers there.
fn ask(address: SocketAddr) -> io::Result<Duration> {
    let here = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(here)?;
    // As QUIC sends: in one piece or not at all.
    quinn::udp::UdpSocketState::new((&socket).into())?;
    socket.set_nonblocking(false)?;
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
        _ if is_too_long(error) => "no packets of 1,200 bytes get there, which QUIC needs".to_owned(),
        _ => error.to_string(),
    }
}

fn advice_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::WouldBlock => "UDP is blocked on the way, the address is wrong, or the relay's machine is off",
        io::ErrorKind::ConnectionRefused => "the relay does not run, or the port in the link is wrong",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "fine if another address answers",
        io::ErrorKind::PermissionDenied => "this device's own firewall refuses to send: let UDP to that port out",
        _ if is_too_long(error) => {
            "a VPN or another tunnel is too narrow: set its MTU to 1,280 or more, or try another network"
        }
        _ => "see what the system says",
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Somebody who was never there and never comes again.
fn stranger() -> Arc<Device> {
    let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
    let delegation = identity.delegate(&device.public(), unix_s() + DELEGATED_S);
    Arc::new(Device::new(device, delegation).expect("it was delegated to just now"))
}

async fn come_in(
    invite: &Invite,
    device: Arc<Device>,
    with: &With<'_>,
    short: &mut Vec<String>,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let (authority_file, proxy) = (with.authority_file.clone(), with.proxy.clone());
    let network = Network { authority_file, proxy, ..Network::default() };
    let config = Config { network, ..Config::default() };
    let (client, mut events) = match Client::connect(invite, device, config).await {
        Ok(connected) => connected,
        Err(error) => {
            bad("let in", &error.to_string(), error.words().todo)?;
            short.push(match &error {
                Error::ClockDiffers(skew) => skew.to_string(),
                other => other.words().what.to_owned(),
            });
            return Err(Failure::relay(error));
        }
    };
    let by = match client.transport() {
        Some(Transport::Tcp) => "TCP, as no UDP gets through: a lost packet holds up what is behind it",
        Some(Transport::WebTransport) => "a browser's WebTransport",
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
    short.push("you are let in".into());
    match apart {
        None => {
            short.push("your clock is right".into());
            good("clock", "within a minute of the relay's")
        }
        Some(skew) => {
            short.push(skew.to_string());
            bad("clock", &skew.to_string(), "set the one that is wrong: what is signed holds by a clock")
        }
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
