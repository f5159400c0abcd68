//! Clients of a relay at several addresses, some of which are silent, full or gone. Time is virtual.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_session::{
    Moment, Next, Obstacle, Patience, Reconnect,
    places::{AVOIDED_FOR, Memory, NEXT_AFTER, Race},
};

/// As the SDK has them.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
const PATIENCE: Patience = Patience {
    backoff_base: Duration::from_millis(250),
    backoff_max: Duration::from_secs(15),
    give_up_after: Duration::from_secs(300),
};
const REFUSALS_MAX: usize = 3;

const START: Moment = Moment::at(Duration::from_secs(1_000));
const CLIENTS: usize = 200;

/// What a relay does with whoever comes.
#[derive(Clone, Copy, PartialEq)]
enum Relay {
    Lets(Duration),
    Refuses(Duration),
    Silent,
}
use Relay::{Lets, Refuses, Silent};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client, and whom it dialled when.
#[derive(Default)]
struct Client {
    memory: Memory<usize>,
    dialled: Vec<(Moment, usize)>,
}

impl Client {
    /// One attempt, as the SDK makes it: who has let it in, or nobody, and when that is known.
    fn attempt(&mut self, relays: &[Relay], now: Moment) -> (Option<usize>, Moment) {
        let (until, mut refused_by, mut at) = (now + ATTEMPT_MAX, Vec::new(), now);
        while refused_by.len() < REFUSALS_MAX {
            let (found, found_at) = self.race(relays, &refused_by, at, until);
            at = found_at;
            match found {
                None => break,
                Some(relay) if matches!(relays[relay], Lets(_)) => {
                    self.memory.let_in(&relay);
                    return (Some(relay), at);
                }
                Some(relay) => {
                    self.memory.avoid(&relay, at);
                    refused_by.push(relay);
                }
            }
        }
        (None, at)
    }

    /// The first that answers. Whoever refuses does so once it is greeted: a round trip later.
    fn race(&mut self, relays: &[Relay], except: &[usize], now: Moment, until: Moment) -> (Option<usize>, Moment) {
        let hosts: Vec<Vec<usize>> = (0..relays.len()).map(|relay| vec![relay]).collect();
        let mut order = self.memory.order(&hosts, |_| false, now);
        order.retain(|relay| !except.contains(relay));
        let (mut race, mut running, mut now) = (Race::new(order, now), Vec::new(), now);
        loop {
            while let Some(relay) = race.due(now) {
                self.dialled.push((now, relay));
                let answers_at = match relays[relay] {
                    Lets(rtt) => now + rtt,
                    Refuses(rtt) => now + 2 * rtt,
                    Silent => until,
                };
                running.push((answers_at, relay));
            }
            let first = running.iter().min().copied();
            match (race.next_at(), first) {
                (Some(next), Some((at, _))) if next < at => now = next,
                (_, Some((at, relay))) if at < until => {
                    let slower = running.iter().map(|(_, other)| *other).take_while(|other| *other != relay);
                    slower.for_each(|slower| self.memory.avoid(&slower, at));
                    return (Some(relay), at);
                }
                _ => return (None, until),
            }
        }
    }

    /// From the moment on that its connection is lost until it is let in: by whom, and when.
    fn come_back(&mut self, relays: &[Relay], now: Moment, rng: &mut StdRng) -> Option<(usize, Moment)> {
        let (mut reconnect, mut now) = (Reconnect::new(&PATIENCE, now), now);
        loop {
            match reconnect.failed(Obstacle::Passing, now, |range| rng.random_range(range)) {
                Next::Attempt { at, .. } => now = at,
                Next::GiveUp => return None,
            }
            match self.attempt(relays, now) {
                (Some(relay), at) => return Some((relay, at)),
                (None, at) => now = at,
            }
        }
    }
}

//
#[test]
fn a_silent_address_costs_a_quarter_of_a_second_once_and_each_further_one_as_much() {
    let mut client = Client::default();
    let relays = [Silent, Lets(ms(40)), Lets(ms(5))];
    assert_eq!(client.attempt(&relays, START), (Some(1), START + NEXT_AFTER + ms(40)));
    assert_eq!(client.attempt(&relays, START), (Some(1), START + ms(40)), "it is known by then");
    let mut client = Client::default();
    assert_eq!(client.attempt(&[Silent, Silent, Lets(ms(5))], START), (Some(2), START + 2 * NEXT_AFTER + ms(5)));
    let mut client = Client::default();
    assert_eq!(client.attempt(&[Silent; 3], START), (None, START + ATTEMPT_MAX));
    assert_eq!(client.dialled.len(), 3, "each once in an attempt");
}

//
#[test]
fn what_was_near_last_is_near_again_and_who_is_nearer_is_dialled_only_when_it_is_late() {
    let mut client = Client::default();
    assert_eq!(client.attempt(&[Lets(ms(400)), Lets(ms(20))], START).0, Some(1), "20 ms from here");
    client.dialled.clear();
    let much_later = START + AVOIDED_FOR;
    assert_eq!(client.attempt(&[Lets(ms(400)), Lets(ms(20))], much_later), (Some(1), much_later + ms(20)));
    assert_eq!(client.dialled.len(), 1, "nobody else heard of it");
}

//
#[test]
fn a_full_relay_costs_two_round_trips_and_is_not_asked_again_for_a_minute() {
    let mut client = Client::default();
    let relays = [Refuses(ms(10)), Lets(ms(20)), Lets(ms(20))];
    assert_eq!(client.attempt(&relays, START), (Some(1), START + ms(40)));
    let after = START + AVOIDED_FOR / 2;
    client.memory.avoid(&1, after);
    client.dialled.clear();
    assert_eq!(client.attempt(&relays, after).0, Some(2), "the third, which nobody has spoken ill of");
    assert_eq!(client.dialled, [(after, 2)]);
    let mut client = Client::default();
    assert_eq!(
        client.attempt(&[Refuses(ms(10)); 8], START),
        (None, START + 3 * ms(20)),
        "it does not ask all eight at once"
    );
    assert_eq!(client.dialled.len(), REFUSALS_MAX);
}

//
#[test]
fn when_one_relay_dies_its_clients_are_with_the_next_within_half_a_second_and_not_in_step() {
    let mut rng = StdRng::seed_from_u64(14);
    let mut came = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::default();
        assert_eq!(client.attempt(&[Lets(ms(20)); 3], START).0, Some(0));
        let (relay, at) =
            client.come_back(&[Silent, Lets(ms(30)), Lets(ms(30))], START, &mut rng).expect("somebody is there");
        assert_eq!(relay, 1);
        came.push(at.since(START));
    }
    let latest = came.iter().max().expect("clients");
    assert!(*latest <= PATIENCE.backoff_base + NEXT_AFTER + ms(30), "{latest:?}");
    let most = came.iter().map(|at| came.iter().filter(|other| at.abs_diff(**other) <= ms(5)).count()).max();
    assert!(most.is_some_and(|most| most < CLIENTS / 8), "{most:?} of {CLIENTS} within 10 ms");
}

//
#[test]
fn relays_that_are_all_gone_are_not_hammered() {
    let mut rng = StdRng::seed_from_u64(14);
    for relays in [[Silent; 3], [Refuses(ms(1)); 3]] {
        let mut client = Client::default();
        assert_eq!(client.come_back(&relays, START, &mut rng), None);
        let mut of_first = client.dialled.iter().filter(|(_, relay)| *relay == 0).map(|(at, _)| *at);
        let begin = of_first.next().expect("it is dialled");
        let rest: Vec<Moment> = of_first.filter(|at| at.since(begin) > ms(60_000)).collect();
        let spans = PATIENCE.give_up_after.as_secs() - 60;
        assert!((5..=spans as usize / 4).contains(&rest.len()), "{} in {spans} s", rest.len());
    }
}
