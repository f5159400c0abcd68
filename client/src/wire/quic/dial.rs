//! Which of a relay's addresses are tried when, and by which way: UDP, and TCP a moment after it.

use std::{fmt, io, net::SocketAddr};

use supernode_tcp::OpenError;

use super::{
    lookup::{Host, is_unknown},
    network::Ways,
    reach::Reach,
    socket::Faults,
};
use crate::{
    Error, Transport,
    wire::unreachable::{Silent, Unreachable},
};

/// An address, and by which way it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// The same relay's by UDP: by that it is known.
    pub(crate) relay: SocketAddr,
    /// The host that has it, by its place among those that are tried.
    pub(crate) host: usize,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}

/// The addresses that were tried, and what came of each.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<(Candidate, Option<Error>)>);

/// What to try at each moment: an address by UDP, and with the next one the first by TCP. If TCP is what answered last time
/// it goes first, with UDP a moment after it. `order` has the relays' addresses by UDP.
pub(crate) fn steps(order: &[SocketAddr], hosts: &[Host], ways: Ways, tcp_is_usual: bool) -> Vec<Vec<Candidate>> {
    let (mut by_udp, mut over_tcp) = (Vec::new(), Vec::new());
    for relay in order.iter().copied() {
        let Some(host) = hosts.iter().position(|host| host.addresses.contains(&relay)) else { continue };
        if ways != Ways::Tcp && !is_unknown(relay.ip()) {
            by_udp.push(Candidate { transport: Transport::Udp, address: relay, relay, host });
        }
        let has_proxy = hosts[host].proxy.is_some();
        if let Some(port) = hosts[host].tcp.filter(|_| ways != Ways::Udp)
            // A proxy is told the name, and finds the address itself.
            && !(has_proxy && over_tcp.iter().any(|other: &Candidate| other.host == host))
        {
            let address = SocketAddr::new(relay.ip(), port);
            over_tcp.push(Candidate { transport: Transport::Tcp, address, relay, host });
        }
    }
    let tcp_goes_first = tcp_is_usual && !over_tcp.is_empty() || by_udp.is_empty();
    let (first, second) = if tcp_goes_first { (over_tcp, by_udp) } else { (by_udp, over_tcp) };
    let moments = first.len().max(second.len() + 1);
    let of = |list: &[Candidate], moment: Option<usize>| moment.and_then(|moment| list.get(moment).copied());
    let step = |moment: usize| of(&first, Some(moment)).into_iter().chain(of(&second, moment.checked_sub(1))).collect();
    (0..moments).map(step).filter(|step: &Vec<Candidate>| !step.is_empty()).collect()
}

impl Tried {
    pub(crate) fn begin(&mut self, candidate: Candidate) {
        self.0.push((candidate, None));
    }

    pub(crate) fn note(&mut self, candidate: &Candidate, error: Error) {
        if let Some((_, outcome)) = self.0.iter_mut().rev().find(|(tried, _)| tried == candidate) {
            *outcome = Some(error);
        }
    }

    /// How many there are by now.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The relays that were dialled before this one answered, since there were so many, and did not.
    pub(super) fn slower_than(&self, winner: &Candidate, since: usize) -> Vec<SocketAddr> {
        let before = self.0[since..].iter().take_while(|(candidate, _)| candidate != winner);
        before.map(|(candidate, _)| candidate.relay).filter(|relay| *relay != winner.relay).collect()
    }

    /// Why nobody answered. Somebody who answered and is not whom we look for is worse than silence.
    pub(crate) fn into_error(self, reach: &Reach) -> Error {
        self.blaming(&reach.faults)
    }

    fn blaming(mut self, faults: &Faults) -> Error {
        let other = |(_, outcome): &(_, Option<Error>)| {
            let silent = |error: &Error| {
                matches!(error, Error::Connection(_) | Error::TimedOut(_) | Error::NothingListens | Error::Tcp(_))
            };
            outcome.as_ref().is_some_and(|error| !silent(error))
        };
        match self.0.iter().position(other) {
            Some(place) => self.0.swap_remove(place).1.unwrap_or(Error::Disconnected),
            None if faults.is_too_narrow() => Error::TooNarrow(unreachable(self.0, faults)),
            None => Error::Unreachable(unreachable(self.0, faults)),
        }
    }
}

/// Whether that machine says that nothing listens there.
fn is_nobody_there(error: &Error) -> bool {
    match error {
        Error::NothingListens => true,
        Error::Tcp(failure) => match failure.what.downcast_ref() {
            Some(OpenError::Tcp(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            _ => false,
        },
        _ => false,
    }
}

/// Where nobody answered, and why, as far as this machine and the network have said.
fn unreachable(tried: Vec<(Candidate, Option<Error>)>, faults: &Faults) -> Unreachable {
    let nothing_listens = |outcome: &Option<Error>| outcome.as_ref().is_some_and(is_nobody_there);
    let words = |candidate: Candidate, outcome: Option<Error>| match outcome {
        Some(Error::Connection(error) | Error::Tcp(error)) => error.to_string(),
        Some(error) if !matches!(error, Error::TimedOut(_)) => error.to_string(),
        _ => match faults.reported(candidate.address).filter(|_| candidate.transport == Transport::Udp) {
            Some(error) => format!("no answer in time; on the way there they say: {error}"),
            None => "no answer in time".to_owned(),
        },
    };
    let nothing_listens = !tried.is_empty() && tried.iter().all(|(_, outcome)| nothing_listens(outcome));
    let tcp_too = tried.iter().any(|(candidate, _)| candidate.transport == Transport::Tcp);
    let advice = faults.why().unwrap_or_else(|| {
        let advice = match (nothing_listens, tcp_too) {
            (true, _) => "Does the relay run, and is that its port?",
            (false, true) => "Is the address right, and does this network let anything through?",
            (false, false) => "Is the address right, and does this network let UDP through?",
        };
        advice.to_owned()
    });
    let silent = |(candidate, outcome): (Candidate, Option<Error>)| Silent {
        place: candidate.to_string(),
        address: Some(candidate.address),
        outcome: words(candidate, outcome),
    };
    Unreachable { tried: tried.into_iter().map(silent).collect(), nothing_listens, advice }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use supernode_session::places::NEXT_AFTER;

    use super::*;
    use crate::wire::{bearer::icmp::Report, race::race};

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn udp(address: SocketAddr) -> Candidate {
        Candidate { transport: Transport::Udp, address, relay: address, host: 0 }
    }

    fn tcp(address: SocketAddr, relay: SocketAddr) -> Candidate {
        Candidate { transport: Transport::Tcp, address, relay, host: 0 }
    }

    fn one_by_one(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Vec<Candidate>> {
        addresses.map(|address| vec![udp(address)]).collect()
    }

    fn host(addresses: &[&str], tcp: Option<u16>, has_proxy: bool) -> Host {
        let proxy = has_proxy.then(|| "http://proxy.example:3128".parse().expect("a proxy"));
        Host {
            addresses: addresses.iter().map(|text| address(text)).collect(),
            tcp,
            proxy,
            name: "relay".to_owned(),
            port: 4433,
        }
    }

    fn words(hosts: &[Host], ways: Ways, tcp_is_usual: bool) -> Vec<String> {
        let order: Vec<SocketAddr> = hosts.iter().flat_map(|host| host.addresses.clone()).collect();
        let steps = steps(&order, hosts, ways, tcp_is_usual);
        steps.iter().map(|step| step.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")).collect()
    }

    //
    #[test]
    fn tcp_has_its_turn_a_moment_after_udp_unless_it_is_what_answered_last_time() {
        let one = |tcp| [host(&[FOUR[0]], tcp, false)];
        let both = [host(&FOUR, Some(443), false)];
        assert_eq!(words(&one(Some(443)), Ways::Both, false), ["UDP 192.0.2.1:4433", "TCP 192.0.2.1:443"]);
        assert_eq!(
            words(&both, Ways::Both, false),
            ["UDP 192.0.2.1:4433", "UDP 192.0.2.2:4433 + TCP 192.0.2.1:443", "TCP 192.0.2.2:443"]
        );
        assert_eq!(
            words(&both, Ways::Both, true),
            ["TCP 192.0.2.1:443", "TCP 192.0.2.2:443 + UDP 192.0.2.1:4433", "UDP 192.0.2.2:4433"]
        );
        let by_proxy = [host(&FOUR, Some(443), true)];
        assert_eq!(words(&by_proxy, Ways::Both, false)[1..], ["UDP 192.0.2.2:4433 + TCP 192.0.2.1:443"]);
        assert_eq!(words(&one(Some(443)), Ways::Udp, false), ["UDP 192.0.2.1:4433"]);
        assert_eq!(words(&one(None), Ways::Both, false), ["UDP 192.0.2.1:4433"]);
        assert_eq!(words(&one(None), Ways::Both, true), ["UDP 192.0.2.1:4433"], "it has no TCP any more");
        assert_eq!(words(&one(Some(443)), Ways::Tcp, false), ["TCP 192.0.2.1:443"]);
        assert!(words(&one(None), Ways::Tcp, false).is_empty());
    }

    //
    #[test]
    fn each_host_has_its_own_tcp_port_or_none_and_a_name_that_only_a_proxy_knows_is_left_to_it() {
        let hosts = [
            host(&[FOUR[0]], Some(443), false),
            host(&[FOUR[1]], None, false),
            host(&["198.51.100.2:9"], Some(8443), true),
        ];
        assert!(is_unknown(hosts[2].addresses[0].ip()));
        assert_eq!(
            words(&hosts, Ways::Both, false),
            ["UDP 192.0.2.1:4433", "UDP 192.0.2.2:4433 + TCP 192.0.2.1:443", "TCP 198.51.100.2:8443"]
        );
    }

    //
    #[test]
    fn whoever_was_dialled_before_the_one_that_answered_was_slower() {
        let [first, second] = FOUR.map(|text| udp(address(text)));
        let over_tcp = tcp(address("192.0.2.2:443"), second.relay);
        let tried =
            Tried(vec![(second, None), (first, None), (second, None), (over_tcp, None), (udp(address(SIX[0])), None)]);
        assert_eq!(tried.slower_than(&over_tcp, 1), [first.relay], "not its own other way, nor what came after it");
        assert!(tried.slower_than(&first, 1).is_empty());
    }

    #[test]
    fn where_tcp_was_tried_too_udp_is_not_blamed() {
        let relay = address(FOUR[0]);
        let tried = Tried(vec![(udp(relay), None), (tcp(address("192.0.2.1:443"), relay), None)]);
        let told = tried.blaming(&Faults::default()).to_string();
        assert_eq!(
            told,
            "the relay cannot be reached: UDP 192.0.2.1:4433 (no answer in time), TCP 192.0.2.1:443 (no answer in time). Is \
             the address right, and does this network let anything through?"
        );
    }

    const SIX: [&str; 2] = ["[2001:db8::1]:4433", "[2001:db8::2]:4433"];
    const FOUR: [&str; 2] = ["192.0.2.1:4433", "192.0.2.2:4433"];

    //
    #[tokio::test]
    async fn three_dead_addresses_cost_three_moments_and_the_fourth_answers() {
        let order = one_by_one([SIX, FOUR].concat().into_iter().map(address));
        let last = order[3][0];
        let mut tried = Tried::default();
        let started = Instant::now();
        let dial = move |to: Candidate| async move {
            if to != last {
                std::future::pending::<()>().await;
            }
            Ok(to)
        };
        assert_eq!(race(order, &mut tried, dial).await, Some((last, last)));
        let took = started.elapsed();
        assert!((3 * NEXT_AFTER..12 * NEXT_AFTER).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_makes_the_next_one_s_turn_come_at_once() {
        let order = one_by_one([SIX, FOUR].concat().into_iter().map(address));
        let mut tried = Tried::default();
        let started = Instant::now();
        let dial = |_| async { Err::<(), _>(Error::TimedOut("a test")) };
        assert_eq!(race(order.clone(), &mut tried, dial).await, None);
        assert!(started.elapsed() < NEXT_AFTER, "{:?}", started.elapsed());
        let error = tried.blaming(&Faults::default());
        let text = error.to_string();
        assert!(order.iter().all(|step| text.contains(&step[0].to_string())), "{text}");
        assert!(matches!(error, Error::Unreachable(unreachable) if unreachable.addresses().count() == 4));
    }

    #[tokio::test]
    async fn whoever_answers_with_another_key_is_named_and_not_the_silent_ones() {
        let order = one_by_one(FOUR.into_iter().map(address));
        let mut tried = Tried::default();
        let wrong = order[0][0];
        let dial =
            move |to| async move { Err::<(), _>(if to == wrong { Error::WrongPin } else { Error::Disconnected }) };
        race(order, &mut tried, dial).await;
        assert!(matches!(tried.blaming(&Faults::default()), Error::WrongPin));
    }

    #[test]
    fn what_kernel_and_network_said_is_the_reason() {
        let [narrow, nobody] = FOUR.map(|text| udp(address(text)));
        let faults = Faults::default();
        faults.note_report(Report { to: narrow.address, errno: libc::EMSGSIZE, bytes_max: Some(1_172) });
        let told = Tried(vec![(narrow, None), (nobody, Some(Error::NothingListens))]).blaming(&faults);
        assert_eq!(
            told.to_string(),
            "the relay cannot be reached: UDP 192.0.2.1:4433 (no answer in time; on the way there they say: Message too \
             long (os error 90)), UDP 192.0.2.2:4433 (nothing listens there, says that machine). This path takes no packets \
             of 1200 bytes: it is too narrow for QUIC"
        );
        assert_eq!(told.words().name, "TooNarrow");
        let told = Tried(vec![(nobody, Some(Error::NothingListens))]).blaming(&Faults::default());
        assert_eq!(told.words().name, "NothingListens");
        assert!(told.to_string().ends_with("Does the relay run, and is that its port?"), "{told}");
        let silent = Tried(vec![(narrow, None), (nobody, Some(Error::NothingListens))]).blaming(&Faults::default());
        assert_eq!(silent.words().name, "Unreachable", "one of them may be it");
    }
}
