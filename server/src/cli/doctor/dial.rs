//! Dials a relay as a client does: every address that its name leads to, with the checks of a client, in by its invite.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use data_encoding::BASE64URL_NOPAD;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};
use supernode_keys::{DeviceSecret, IdentitySecret};
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, FrameReader, RelayMessage, client_message, frame, relay_message},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL, RelayPin},
    invite::{HostPort, Invite},
};
use supernode_server::control::{
    admission::is_for_one_use,
    serve::{unix_now_ms, unix_now_s},
    tls::pin_of,
    trust::{self, Objection},
};
use supernode_session::{Channel, Introduction};
use supernode_tcp::{Carrier, Target, Way};
use supernode_tls::AnyCertificate;

use super::{Finding, Verdict, bad, bundle, good, poor, port};

/// How long a handshake, and being let in, may take together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Farther apart, clients warn of it; from about a minute on what is signed may not hold.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(30);
/// How long who comes to look may be in: not a minute.
const DELEGATED_S: u64 = 3600;

/// How long one larger packet has to get there and be acknowledged, at least; how many are waited for, and for how long in a row
/// none may have come through before that is the size.
const SIZE_PAUSE_MIN: Duration = Duration::from_millis(100);
const SIZE_PAUSES: u32 = 12;
const SIZE_SAME: u32 = 3;

const AS_CLIENT: &str = "as a client";
const OVER_TCP: &str = "over TCP";
const LET_THROUGH: &str = "let UDP to this port through the firewall, forward it if there is a NAT, and take an address out of the name \
                           that no relay has; then try from outside too";

/// Where to, and by what it is known there.
pub(super) struct Destination {
    pub(super) link: Invite,
    /// Of a relay elsewhere nothing may be known but its address.
    pub(super) is_known: bool,
}

/// Every address of a link, tried as a client does.
pub(super) fn as_client(Destination { link, is_known }: &Destination) -> Vec<Finding> {
    let only = |HostPort { host, port }| Destination {
        link: Invite { host, port, also: Vec::new(), ..link.clone() },
        is_known: *is_known,
    };
    link.addresses().flat_map(|address| at_host(&only(address))).collect()
}

fn at_host(destination: &Destination) -> Vec<Finding> {
    let link = &destination.link;
    let name = port::authority(link);
    let mut addresses: Vec<SocketAddr> = match (link.host.as_str(), link.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let found = format!("{}: cannot be resolved: {error}", link.host);
            return vec![bad(
                AS_CLIENT,
                found,
                "look at the name, and at its A and AAAA records (dig A NAME; dig AAAA NAME)",
            )];
        }
    };
    addresses.sort_unstable();
    addresses.dedup();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return vec![bad(AS_CLIENT, format!("no runtime: {error}"), "")],
    };
    let tried = addresses.iter().flat_map(|address| {
        // Without a route of that family, clients elsewhere have one still.
        if !port::is_routed(*address) {
            let found = format!("{name}, UDP {address}: this machine has no way to addresses of that family");
            return vec![poor(AS_CLIENT, found, "try it from a machine that has one")];
        }
        // At once where the other side says that nobody is there; a handshake would wait.
        if let Err(error) = port::answers(*address) {
            return vec![bad(AS_CLIENT, format!("{name}, UDP {address}: {error}"), LET_THROUGH)];
        }
        match runtime.block_on(async { tokio::time::timeout(PATIENCE, dial(link, *address)).await }) {
            Ok(Ok(seen)) => {
                let mut findings = seen.findings(destination, &format!("UDP {address}"));
                findings.push(bundle::arrives("GSO on the way", *address, seen.packet_bytes));
                findings
            }
            Ok(Err(error)) => {
                vec![bad(AS_CLIENT, format!("{name}, UDP {address}: {error:#}"), "the relay's log may say more")]
            }
            Err(_) => {
                let found = format!("{name}, UDP {address}: answers, but no handshake within {} s", PATIENCE.as_secs());
                vec![bad(AS_CLIENT, found, "packets of 1,200 bytes must get through both ways: look at the path's MTU")]
            }
        }
    });
    let mut findings: Vec<Finding> = tried.collect();
    if let Some(port) = link.tcp {
        let at = |address: &SocketAddr| SocketAddr::new(address.ip(), port);
        let routed = addresses.iter().filter(|address| port::is_routed(**address));
        findings.extend(routed.flat_map(|address| runtime.block_on(over_tcp(destination, at(address)))));
    }
    findings
}

/// The way over TCP: up to a packet that the relay answers, and then in by the invite.
async fn over_tcp(destination: &Destination, address: SocketAddr) -> Vec<Finding> {
    const LET_THROUGH: &str = "let TCP to this port through the firewall and forward it if there is a NAT; see tcp.listen and \
        tcp.advertise_port";
    let link = &destination.link;
    let target = Target { host: link.host.clone(), address, proxy: None };
    let begin = Instant::now();
    let mut stream = match tokio::time::timeout(PATIENCE, supernode_tcp::open(&target)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return vec![bad(OVER_TCP, format!("TCP {address}: {error}"), LET_THROUGH)],
        Err(_) => {
            let found = format!("TCP {address}: nothing within {} s", PATIENCE.as_secs());
            return vec![bad(OVER_TCP, found, LET_THROUGH)];
        }
    };
    let took = begin.elapsed().as_millis();
    if !supernode_tcp::answers(&mut stream).await {
        let advice = "is the relay overloaded, or does a web server answer in its place?";
        return vec![bad(OVER_TCP, format!("TCP {address}: a WebSocket, and no relay behind it"), advice)];
    }
    let found = format!("TCP {address}: a WebSocket in {took} ms, and the relay behind it answers");
    let mut findings = vec![good(OVER_TCP, found)];
    let way = Way::new(SocketAddr::new(address.ip(), link.port));
    let carrier = Carrier::start(way.clone(), target, stream);
    findings.extend(match tokio::time::timeout(PATIENCE, dial_over(link, way)).await {
        Ok(Ok(seen)) => seen.findings(destination, &format!("TCP {address}")),
        Ok(Err(error)) => {
            vec![bad(OVER_TCP, format!("TCP {address}: {error:#}"), "the relay's log may say more")]
        }
        Err(_) => {
            let found = format!("TCP {address}: no QUIC handshake within {} s", PATIENCE.as_secs());
            vec![bad(OVER_TCP, found, "is what answers there the relay of this link?")]
        }
    });
    drop(carrier);
    findings
}

/// What a client saw.
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    handshake: Duration,
    /// Milliseconds that our clock is ahead of the relay's, or why we were not let in; `None` if that was not tried.
    let_in: Option<Result<i64, CloseCode>>,
    /// How large packets are on this way, as the connection has found out.
    packet_bytes: u16,
}

impl Seen {
    fn findings(&self, Destination { link, is_known }: &Destination, way: &str) -> Vec<Finding> {
        let milliseconds = self.handshake.as_millis();
        let by = format!("{way}: handshake in {milliseconds} ms");
        let mut findings = match link.pin {
            _ if !is_known => vec![self.by_nothing(&by)],
            Some(pin) => vec![self.by_pin(pin, &by)],
            None => self.by_authority(&link.host, &by),
        };
        match &self.let_in {
            None => {}
            Some(Ok(ahead_ms)) => {
                let apart = Duration::from_millis(ahead_ms.unsigned_abs());
                let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
                let found = format!("let in; this machine's clock is {:.1} s {way} the relay's", apart.as_secs_f64());
                findings.push(match apart > CLOCKS_APART_MAX {
                    true => bad(
                        AS_CLIENT,
                        found,
                        "set the one that is wrong: tokens, tickets and certificates hold by a clock",
                    ),
                    false => good(AS_CLIENT, found),
                });
            }
            Some(Err(code)) => {
                findings.push(bad(AS_CLIENT, format!("not let in: {code}"), "make another invite (supernode invite)"))
            }
        }
        findings
    }

    fn by_nothing(&self, by: &str) -> Finding {
        let pin = self.chain.first().and_then(|own| pin_of(own)).map(|pin| BASE64URL_NOPAD.encode(&pin.0));
        let pin = pin.unwrap_or_else(|| "none".to_owned());
        let found =
            format!("{by}; it shows the key pin={pin}: whether that is the right one, a link says (--invite-file)");
        good(AS_CLIENT, found)
    }

    fn by_pin(&self, pin: RelayPin, by: &str) -> Finding {
        let pins: Vec<Option<RelayPin>> = self.chain.iter().map(|certificate| pin_of(certificate)).collect();
        match pins.iter().position(|shown| *shown == Some(pin)) {
            Some(0) => good(AS_CLIENT, format!("{by}; its key is the link's")),
            Some(_) => poor(
                AS_CLIENT,
                format!("{by}; its key is a new one, which that of the link vouches for"),
                "give people new links before the old pin ends",
            ),
            None => bad(
                AS_CLIENT,
                format!("{by}; its key is not the one in the link"),
                "it is another relay, or another state directory: clients with this link refuse it",
            ),
        }
    }

    fn by_authority(&self, host: &str, by: &str) -> Vec<Finding> {
        let objections = trust::objections(&self.chain, Some(host), &trust::authorities_of_machine(), unix_now_s());
        if objections.is_empty() {
            return vec![good(AS_CLIENT, format!("{by}; its certificate is one to trust for {host}"))];
        }
        let finding = |objection: &Objection| {
            let (verdict, words) = match objection {
                Objection::Refused(words) => (Verdict::Bad, words),
                Objection::Untrusted(words) => (Verdict::Poor, words),
            };
            let advice =
                "renew or change its certificate: supernode doctor on the relay's machine says more".to_owned();
            Finding { check: AS_CLIENT, verdict, found: format!("{by}; of its certificate: {words}"), advice }
        };
        objections.iter().map(finding).collect()
    }
}

async fn dial(link: &Invite, address: SocketAddr) -> anyhow::Result<Seen> {
    let here = if address.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let endpoint = quinn::Endpoint::client(SocketAddr::new(here, 0)).context("no UDP socket")?;
    look(&endpoint, link, address, true).await
}

async fn dial_over(link: &Invite, way: Arc<Way>) -> anyhow::Result<Seen> {
    let (config, runtime, address) = (quinn::EndpointConfig::default(), Arc::new(quinn::TokioRuntime), way.remote());
    let endpoint = quinn::Endpoint::new_with_abstract_socket(config, None, way, runtime).context("no endpoint")?;
    // Over TCP all packets are of one size.
    look(&endpoint, link, address, false).await
}

/// Connects, and comes in if the link lets anybody in more than once.
async fn look(
    endpoint: &quinn::Endpoint,
    link: &Invite,
    address: SocketAddr,
    is_size_asked: bool,
) -> anyhow::Result<Seen> {
    // What is shown is looked at afterwards, and told.
    let verifier = Arc::new(AnyCertificate::default());
    let tls = supernode_tls::client_config(aws_lc_rs::default_provider().into(), verifier);
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let begin = Instant::now();
    let connection =
        endpoint.connect_with(config, address, &link.host)?.await.map_err(|error| anyhow!("no handshake: {error}"))?;
    let handshake = begin.elapsed();
    let chain = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.map(|chain| *chain).unwrap_or_default();
    let let_in = match link.token.as_deref().filter(|token| !is_for_one_use(token)) {
        Some(token) => Some(come_in(&connection, &chain, token).await?),
        None => None,
    };
    let packet_bytes = match let_in {
        // Whoever is turned away has no connection any more.
        Some(Err(_)) => connection.stats().path.current_mtu,
        _ if !is_size_asked => connection.stats().path.current_mtu,
        _ => settled_size(&connection).await,
    };
    connection.close(quinn::VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    Ok(Seen { chain, handshake, let_in, packet_bytes })
}

/// The size of packets, once it does not grow any more: QUIC tries larger ones, one after the other.
async fn settled_size(connection: &quinn::Connection) -> u16 {
    let size = || connection.stats().path.current_mtu;
    let pause = SIZE_PAUSE_MIN.max(connection.rtt() * 3);
    let (mut known, mut same) = (size(), 0);
    for _ in 0..SIZE_PAUSES {
        tokio::time::sleep(pause).await;
        same = if size() == known { same + 1 } else { 0 };
        known = size();
        // One that is lost is tried again.
        if same == SIZE_SAME {
            break;
        }
    }
    known
}

/// Says Hello as somebody who has never been there and never comes again.
async fn come_in(
    connection: &quinn::Connection,
    chain: &[CertificateDer<'static>],
    token: &str,
) -> anyhow::Result<Result<i64, CloseCode>> {
    let pin = chain.first().and_then(|own| pin_of(own)).context("the relay showed no certificate")?;
    let mut exporter = [0; EXPORTER_BYTES];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").map_err(|_| anyhow!("no TLS exporter"))?;
    let (identity, device) = (IdentitySecret::from_bytes(&rand::random()), DeviceSecret::from_bytes(&rand::random()));
    let delegation = identity.delegate(&device.public(), unix_now_s() + DELEGATED_S);
    let channel = Channel::by_exporter(pin, exporter, device.public());
    let hello = client_message::Body::Hello(channel.hello(&device, &Introduction::new(&delegation, token)));
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&frame(&ClientMessage { request: 0, body: Some(hello) })).await?;
    let mut reader = FrameReader::default();
    loop {
        if let Some(message) =
            reader.next_message::<RelayMessage>().map_err(|_| anyhow!("what answers speaks another language"))?
        {
            let Some(relay_message::Body::Welcome(welcome)) = message.body else { continue };
            return Ok(Ok(unix_now_ms() as i64 - welcome.unix_ms as i64));
        }
        match receive.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            _ => match connection.closed().await {
                quinn::ConnectionError::ApplicationClosed(close) => {
                    return Ok(Err(CloseCode(close.error_code.into_inner())));
                }
                other => return Err(other.into()),
            },
        }
    }
}
