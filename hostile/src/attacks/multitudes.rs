//! More networks and more people than a relay can remember, one after the other: what it keeps of each once it is gone has a
//! bound as well.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use super::{Attack, Outcome, Report, Run, Target};
use crate::{
    client::{Client, Dialled, Door, Person, dial_from, endpoint},
    forge::{Forge, INITIAL_BYTES, is_initial, retry},
    relay::Setting,
    runtime::block_on,
    tls,
};

/// Networks that a relay knows at most (`server/src/shard/door/prefixes.rs`).
const NETWORKS_MAX: usize = 131_072;
/// Identities without a session that a relay of the smallest machine remembers at most, and some more.
const IDENTITIES: u64 = 22_000;
/// Handshakes that are begun in a second: more than the 682 for which a relay of the smallest machine has places, so that those
/// who want to come in have to wait for their turn among them.
const PER_SECOND: f64 = 900.0;
/// How long answers may gather before they are looked at.
const PAUSE: Duration = Duration::from_millis(2);
/// People who come at once, and networks that they come from.
const COMING: u8 = 16;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "many-networks",
            what: "a handshake from each of 131,072 networks, that answers Retry and stops",
            quick: false,
            setting: Setting::PLAIN,
            seconds_min: 240.0,
            run: Run::Rust(many_networks),
            rate_min: 100.0,
            judge: |outcome: &Outcome| outcome.at_least("networks", NETWORKS_MAX as f64),
        },
        Attack {
            name: "many-identities",
            what: "22,000 identities come, use up some of what they are granted in a day, and leave",
            quick: false,
            // What a log-in takes comes back within one and a half minutes.
            setting: Setting {
                config: &[("SUPERNODE__LIMITS__EGRESS_BYTES_PER_DAY_MAX", "5000000")],
                ..Setting::PLAIN
            },
            seconds_min: 120.0,
            run: Run::Rust(many_identities),
            rate_min: 100.0,
            judge: |outcome: &Outcome| outcome.at_least("identities", IDENTITIES as f64),
        },
    ]
}

/// An address that has a number.
fn address(number: usize) -> Ipv4Addr {
    let [_, b, c, d] = (number as u32).to_be_bytes();
    Ipv4Addr::new(127, 64 + b, c, d)
}

/// One socket that has all addresses of the loopback network, and therefore gets the answers to all of them.
struct Everybody {
    socket: UdpSocket,
    state: UdpSocketState,
    door: Door,
}

impl Everybody {
    fn new(door: Door) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, door })
    }

    /// Sends a packet; one that the kernel does not take is lost, as on any path.
    fn send(&self, from: Ipv4Addr, contents: &[u8]) {
        let (destination, src_ip) = (self.door.address, Some(IpAddr::V4(from)));
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }

    /// A packet, and to whom it came.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<(Ipv4Addr, &'a [u8])> {
        let mut meta = [RecvMeta::default()];
        self.state.recv((&self.socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta).ok()?;
        let Some(IpAddr::V4(to)) = meta[0].dst_ip else { return None };
        Some((to, &buffer[..meta[0].len.min(meta[0].stride)]))
    }
}

/// Handshakes from one network after the other, until the relay has begun one with each.
fn many_networks(target: &Target) -> anyhow::Result<Report> {
    let (forge, all) = (Forge::new()?, Everybody::new(target.door()?)?);
    let (mut report, begin) = (Report::of("handshakes"), Instant::now());
    // Those whose packets were lost get another turn.
    let mut waiting: VecDeque<Ipv4Addr> = (0..NETWORKS_MAX).map(address).collect();
    let (mut met, mut begun) = (HashSet::new(), 0.0);
    let mut buffer = vec![0; 64 * INITIAL_BYTES];
    while begin.elapsed() < target.duration() && met.len() < NETWORKS_MAX {
        while begun < begin.elapsed().as_secs_f64() * PER_SECOND {
            let Some(from) = waiting.pop_front() else { break };
            if !met.contains(&from) {
                all.send(from, &forge.first(&rand::random::<[u8; 8]>(), &[]));
                waiting.push_back(from);
                begun += 1.0;
            }
        }
        std::thread::sleep(PAUSE);
        while let Some((to, datagram)) = all.receive(&mut buffer) {
            if let Some((id, token)) = retry(datagram) {
                all.send(to, &forge.first(id, token));
            } else if is_initial(datagram) && met.insert(to) {
                report.count += 1;
            }
            if met.len() == NETWORKS_MAX {
                break;
            }
        }
    }
    report.found("networks", met.len() as f64);
    report.found("took_s", begin.elapsed().as_secs_f64());
    Ok(report)
}

/// Sessions of identities that nobody has seen before, sixteen at a time.
fn many_identities(target: &Target) -> anyhow::Result<Report> {
    let (mut report, begin) = (Report::of("sessions"), Instant::now());
    block_on(async {
        let mut coming = tokio::task::JoinSet::new();
        for network in 0..COMING {
            let (door, end) = (target.door()?, begin + target.duration());
            coming.spawn(one_after_the_other(door, network, end));
        }
        while let Some(sessions) = coming.join_next().await {
            report.count += sessions??;
        }
        anyhow::Ok(())
    })?;
    report.found("identities", report.count as f64);
    report.found("took_s", begin.elapsed().as_secs_f64());
    Ok(report)
}

async fn one_after_the_other(door: Door, network: u8, end: Instant) -> anyhow::Result<u64> {
    let endpoint = endpoint(Ipv4Addr::new(127, 3, 2, 1 + network))?;
    let mut sessions = 0;
    while Instant::now() < end && sessions < IDENTITIES.div_ceil(COMING.into()) {
        // Whom the relay has no time for tries again.
        let Ok(connection) = dial_from(&endpoint, &door, Arc::new(tls::client()?), None).await else { continue };
        let dialled = Dialled { endpoint: endpoint.clone(), connection };
        if let Ok(client) = Client::greet(&door, dialled, Person::new()).await {
            client.connection.close(0u8.into(), b"");
            sessions += 1;
        }
    }
    endpoint.wait_idle().await;
    Ok(sessions)
}
