//! Which of a relay's addresses answers, and by which way: all are tried, each a moment after the one before, TCP a moment
//! after UDP, and the first to answer is it (R-170, R-230, RFC 8305).

use std::{fmt, io, net::SocketAddr, time::Duration};

use supernode_tcp::OpenError;
use tokio::task::JoinSet;

use super::{network::Ways, reach::Reach, socket::Faults};
use crate::{
    Error, Transport,
    wire::unreachable::{Silent, Unreachable},
};

/// How long an address has for itself before the next one is tried beside it (RFC 8305 section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// A name with more addresses than this is tried at the first ones.
const ADDRESSES_MAX: usize = 16;

/// An address, and by which way it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}

/// How a relay may be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) ways: Ways,
    /// Its TCP port, if it has one.
    pub(crate) tcp: Option<u16>,
    /// Whether that is reached through a proxy, which is told the name and needs no address.
    pub(crate) by_proxy: bool,
}

/// The addresses that were tried, and what came of each.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<(Candidate, Option<Error>)>);

/// What to try at each moment: an address by UDP, and with the next one the first by TCP. If TCP is what answered last time
/// it goes first, with UDP a moment after it.
pub(crate) fn steps(
    addresses: impl Iterator<Item = SocketAddr>,
    good: Option<Candidate>,
    choice: Choice,
) -> Vec<Vec<Candidate>> {
    let good_ip = good.map(|good| good.address.ip());
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    let known = addresses.iter().find(|address| Some(address.ip()) == good_ip).copied();
    addresses = in_turn(addresses.into_iter(), known);
    let tcp = choice.tcp.filter(|_| choice.ways != Ways::Udp);
    let over_tcp = |port: u16| {
        let many = if choice.by_proxy { 1 } else { usize::MAX };
        let at = |address: &SocketAddr| Candidate {
            transport: Transport::Tcp,
            address: SocketAddr::new(address.ip(), port),
        };
        addresses.iter().take(many).map(at).collect::<Vec<_>>()
    };
    let by_udp = addresses.iter().map(|address| Candidate { transport: Transport::Udp, address: *address });
    let first = match choice.ways {
        Ways::Tcp => Vec::new(),
        Ways::Both | Ways::Udp => by_udp.collect::<Vec<_>>(),
    };
    let second = tcp.map(over_tcp).unwrap_or_default();
    let tcp_is_good = good.is_some_and(|good| good.transport == Transport::Tcp) && !second.is_empty();
    let (first, second) = if tcp_is_good || first.is_empty() { (second, first) } else { (first, second) };
    let moments = first.len().max(second.len() + 1);
    let of = |list: &[Candidate], moment: Option<usize>| moment.and_then(|moment| list.get(moment).copied());
    let step = |moment: usize| of(&first, Some(moment)).into_iter().chain(of(&second, moment.checked_sub(1))).collect();
    (0..moments).map(step).filter(|step: &Vec<Candidate>| !step.is_empty()).collect()
}

/// The order in which to try: the one that answered last time, then the families in turn, beginning with the one that
/// the system puts first (RFC 8305 section 4).
fn in_turn(addresses: impl Iterator<Item = SocketAddr>, good: Option<SocketAddr>) -> Vec<SocketAddr> {
    let mut rest: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !rest.contains(&address) && rest.len() < ADDRESSES_MAX {
            rest.push(address);
        }
    }
    let mut order = Vec::with_capacity(rest.len());
    let mut family = rest.first().is_some_and(SocketAddr::is_ipv6);
    if let Some(place) = rest.iter().position(|address| Some(*address) == good) {
        order.push(rest.remove(place));
        family = !order[0].is_ipv6();
    }
    while !rest.is_empty() {
        let place = rest.iter().position(|address| address.is_ipv6() == family).unwrap_or(0);
        order.push(rest.remove(place));
        family = !family;
    }
    order
}

/// Dials the candidates until one answers, which is returned; the others are given up. `None` if none does.
pub(crate) async fn race<T, F>(
    steps: Vec<Vec<Candidate>>,
    tried: &mut Tried,
    dial: impl Fn(Candidate) -> F,
) -> Option<(Candidate, T)>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut waiting = steps.into_iter();
    loop {
        match waiting.next() {
            Some(step) => {
                for candidate in step {
                    tried.0.push((candidate, None));
                    let dialled = dial(candidate);
                    running.spawn(async move { (candidate, dialled.await) });
                }
            }
            None if running.is_empty() => return None,
            None => {}
        }
        tokio::select! {
            Some(answer) = running.join_next() => match answer {
                Ok((candidate, Ok(connection))) => return Some((candidate, connection)),
                Ok((candidate, Err(error))) => tried.note(candidate, error),
                // Only a panic ends it so.
                Err(error) => tracing::error!(%error, "dialling an address failed"),
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.len() > 0 => {}
        }
    }
}

impl Tried {
    fn note(&mut self, candidate: Candidate, error: Error) {
        if let Some((_, outcome)) = self.0.iter_mut().find(|(tried, _)| *tried == candidate) {
            *outcome = Some(error);
        }
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

    use super::*;
    use crate::wire::bearer::icmp::Report;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn udp(address: SocketAddr) -> Candidate {
        Candidate { transport: Transport::Udp, address }
    }

    fn one_by_one(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Vec<Candidate>> {
        addresses.map(|address| vec![udp(address)]).collect()
    }

    //
    #[test]
    fn tcp_has_its_turn_a_moment_after_udp_unless_it_is_what_answered_last_time() {
        let both = Choice { ways: Ways::Both, tcp: Some(443), by_proxy: false };
        let words = |addresses: &[&str], good: Option<Candidate>, choice| {
            let steps = steps(addresses.iter().map(|text| address(text)), good, choice);
            steps
                .iter()
                .map(|step| step.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "))
                .collect::<Vec<_>>()
        };
        let one = [FOUR[0]];
        assert_eq!(words(&one, None, both), ["UDP 192.0.2.1:4433", "TCP 192.0.2.1:443"]);
        assert_eq!(
            words(&FOUR, None, both),
            ["UDP 192.0.2.1:4433", "UDP 192.0.2.2:4433 + TCP 192.0.2.1:443", "TCP 192.0.2.2:443"]
        );
        let good = Candidate { transport: Transport::Tcp, address: address("192.0.2.2:443") };
        assert_eq!(
            words(&FOUR, Some(good), both),
            ["TCP 192.0.2.2:443", "TCP 192.0.2.1:443 + UDP 192.0.2.2:4433", "UDP 192.0.2.1:4433"]
        );
        let by_proxy = Choice { by_proxy: true, ..both };
        assert_eq!(words(&FOUR, None, by_proxy)[1..], ["UDP 192.0.2.2:4433 + TCP 192.0.2.1:443"]);
        assert_eq!(words(&one, None, Choice { ways: Ways::Udp, ..both }), ["UDP 192.0.2.1:4433"]);
        assert_eq!(words(&one, None, Choice { tcp: None, ..both }), ["UDP 192.0.2.1:4433"]);
        assert_eq!(words(&one, None, Choice { ways: Ways::Tcp, ..both }), ["TCP 192.0.2.1:443"]);
        assert!(words(&one, None, Choice { ways: Ways::Tcp, tcp: None, by_proxy: false }).is_empty());
    }

    #[test]
    fn where_tcp_was_tried_too_udp_is_not_blamed() {
        let tcp = Candidate { transport: Transport::Tcp, address: address("192.0.2.1:443") };
        let tried = Tried(vec![(udp(address(FOUR[0])), None), (tcp, None)]);
        let told = tried.blaming(&Faults::default()).to_string();
        assert_eq!(
            told,
            "the relay cannot be reached: UDP 192.0.2.1:4433 (no answer in time), TCP 192.0.2.1:443 (no answer in time). Is \
             the address right, and does this network let anything through?"
        );
    }

    const SIX: [&str; 2] = ["[2001:db8::1]:4433", "[2001:db8::2]:4433"];
    const FOUR: [&str; 2] = ["192.0.2.1:4433", "192.0.2.2:4433"];

    #[test]
    fn the_families_take_turns_after_the_one_that_answered_last_time() {
        let all = || [SIX, FOUR].concat().into_iter().map(address);
        let names = |good| in_turn(all(), good).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(None), [SIX[0], FOUR[0], SIX[1], FOUR[1]]);
        assert_eq!(names(Some(address(FOUR[1]))), [FOUR[1], SIX[0], FOUR[0], SIX[1]]);
        assert_eq!(names(Some(address("198.51.100.1:9"))), names(None), "its name has moved");
        assert_eq!(in_turn(all().chain(all()), None).len(), 4);
        let many = (0..99).map(|last| SocketAddr::from(([192, 0, 2, last], 1)));
        assert_eq!(in_turn(many, None).len(), ADDRESSES_MAX);
    }

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
