//! Which of a relay's addresses answers: all are tried, each a moment after the one before, and the first to answer is
//! it (R-170, RFC 8305).

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::task::JoinSet;

use crate::{Error, wire::socket::Faults};

/// How long an address has for itself before the next one is tried beside it (RFC 8305 section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// A name with more addresses than this is tried at the first ones.
const ADDRESSES_MAX: usize = 16;

/// The addresses that were tried, and what came of each.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<(SocketAddr, Option<Error>)>);

/// The order in which to try: the one that answered last time, then the families in turn, beginning with the one that
/// the system puts first (RFC 8305 section 4).
pub(crate) fn in_turn(addresses: impl Iterator<Item = SocketAddr>, good: Option<SocketAddr>) -> Vec<SocketAddr> {
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

/// Dials the addresses until one answers, which is returned; the others are given up. `None` if none does.
pub(crate) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    tried: &mut Tried,
    dial: impl Fn(SocketAddr) -> F,
) -> Option<(SocketAddr, T)>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut waiting = addresses.into_iter();
    loop {
        match waiting.next() {
            Some(address) => {
                tried.0.push((address, None));
                let dialled = dial(address);
                running.spawn(async move { (address, dialled.await) });
            }
            None if running.is_empty() => return None,
            None => {}
        }
        tokio::select! {
            Some(answer) = running.join_next() => match answer {
                Ok((address, Ok(connection))) => return Some((address, connection)),
                Ok((address, Err(error))) => tried.note(address, error),
                // Only a panic ends it so.
                Err(error) => tracing::error!(%error, "dialling an address failed"),
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.len() > 0 => {}
        }
    }
}

impl Tried {
    fn note(&mut self, address: SocketAddr, error: Error) {
        if let Some((_, outcome)) = self.0.iter_mut().find(|(tried, _)| *tried == address) {
            *outcome = Some(error);
        }
    }

    /// Why nobody answered. Somebody who answered and is not whom we look for is worse than silence.
    pub(crate) fn into_error(mut self, faults: &Faults) -> Error {
        let other = |(_, outcome): &(_, Option<Error>)| {
            outcome.as_ref().is_some_and(|error| {
                !matches!(error, Error::Connection(_) | Error::TimedOut(_) | Error::NothingListens)
            })
        };
        match self.0.iter().position(other) {
            Some(place) => self.0.swap_remove(place).1.unwrap_or(Error::Disconnected),
            None if faults.is_too_narrow() => Error::TooNarrow(Unreachable::new(self.0, faults)),
            None => Error::Unreachable(Unreachable::new(self.0, faults)),
        }
    }
}

/// Where nobody answered.
#[derive(Debug)]
pub struct Unreachable {
    tried: Vec<(SocketAddr, String)>,
    nothing_listens: bool,
    why: Option<String>,
}

impl Unreachable {
    fn new(tried: Vec<(SocketAddr, Option<Error>)>, faults: &Faults) -> Self {
        let nothing_listens = |outcome: &Option<Error>| matches!(outcome, Some(Error::NothingListens));
        let words = |address: SocketAddr, outcome: Option<Error>| match outcome {
            Some(Error::Connection(error)) => error.to_string(),
            Some(error) if !matches!(error, Error::TimedOut(_)) => error.to_string(),
            _ => match faults.reported(address) {
                Some(error) => format!("no answer in time; on the way there they say: {error}"),
                None => "no answer in time".to_owned(),
            },
        };
        Self {
            nothing_listens: !tried.is_empty() && tried.iter().all(|(_, outcome)| nothing_listens(outcome)),
            why: faults.why(),
            tried: tried.into_iter().map(|(address, outcome)| (address, words(address, outcome))).collect(),
        }
    }

    /// The addresses that were tried.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.tried.iter().map(|(address, _)| *address)
    }

    /// Whether the machines at all of them say that nothing listens at that port.
    pub fn nothing_listens(&self) -> bool {
        self.nothing_listens
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, outcome)) in self.tried.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "UDP {address} ({outcome})")?;
        }
        match &self.why {
            Some(why) => write!(f, ". {why}"),
            None if self.nothing_listens => f.write_str(". Does the relay run, and is that its port?"),
            None => f.write_str(". Is the address right, and does this network let UDP through?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wire::icmp::Report;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
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
        let order: Vec<SocketAddr> = [SIX, FOUR].concat().into_iter().map(address).collect();
        let last = order[3];
        let mut tried = Tried::default();
        let started = Instant::now();
        let dial = move |to: SocketAddr| async move {
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
        let order: Vec<SocketAddr> = [SIX, FOUR].concat().into_iter().map(address).collect();
        let mut tried = Tried::default();
        let started = Instant::now();
        let dial = |_| async { Err::<(), _>(Error::TimedOut("a test")) };
        assert_eq!(race(order.clone(), &mut tried, dial).await, None);
        assert!(started.elapsed() < NEXT_AFTER, "{:?}", started.elapsed());
        let error = tried.into_error(&Faults::default());
        let text = error.to_string();
        assert!(order.iter().all(|address| text.contains(&address.to_string())), "{text}");
        assert!(matches!(error, Error::Unreachable(unreachable) if unreachable.addresses().count() == 4));
    }

    #[tokio::test]
    async fn whoever_answers_with_another_key_is_named_and_not_the_silent_ones() {
        let order = vec![address(FOUR[0]), address(FOUR[1])];
        let mut tried = Tried::default();
        let wrong = order[0];
        let dial =
            move |to| async move { Err::<(), _>(if to == wrong { Error::WrongPin } else { Error::Disconnected }) };
        race(order, &mut tried, dial).await;
        assert!(matches!(tried.into_error(&Faults::default()), Error::WrongPin));
    }

    #[test]
    fn what_kernel_and_network_said_is_the_reason() {
        let [narrow, nobody] = FOUR.map(address);
        let faults = Faults::default();
        faults.note_report(Report { to: narrow, errno: libc::EMSGSIZE, bytes_max: Some(1_172) });
        let told = Tried(vec![(narrow, None), (nobody, Some(Error::NothingListens))]).into_error(&faults);
        assert_eq!(
            told.to_string(),
            "the relay cannot be reached: UDP 192.0.2.1:4433 (no answer in time; on the way there they say: Message too \
             long (os error 90)), UDP 192.0.2.2:4433 (nothing listens there, says that machine). This path takes no packets \
             of 1200 bytes: it is too narrow for QUIC"
        );
        assert_eq!(told.words().name, "TooNarrow");
        let told = Tried(vec![(nobody, Some(Error::NothingListens))]).into_error(&Faults::default());
        assert_eq!(told.words().name, "NothingListens");
        assert!(told.to_string().ends_with("Does the relay run, and is that its port?"), "{told}");
        let silent = Tried(vec![(narrow, None), (nobody, Some(Error::NothingListens))]).into_error(&Faults::default());
        assert_eq!(silent.words().name, "Unreachable", "one of them may be it");
    }
}
