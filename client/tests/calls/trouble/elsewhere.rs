//! Relays at several addresses that have one key: clients go on at another one when theirs ends, is full or falls silent.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_client::{
    Call, CallEvent, Config, Event, Events, OutgoingFrame, PresenceState, TrackKind,
    proto::invite::{HostPort, Invite},
};
use supernode_client_testkit::{Pair, Person, in_time, pair, pair_with, quick, track};
use supernode_testkit::{Onward, Relay, Way};
use tokio::sync::broadcast::Receiver;

use crate::talks::{WHOLE, whole};

/// Far more than a handshake takes on this machine, and far less than any attempt may.
const SOON: Duration = Duration::from_secs(3);

/// Two relays with one key, and the directory that it is in.
fn two() -> ([Relay; 2], tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    ([Relay::open_in(&state), Relay::open_in(&state)], directory)
}

fn at(relay: &Relay) -> HostPort {
    relay.address.to_string().parse().unwrap()
}

/// Where a way begins.
fn by(way: &Way) -> HostPort {
    way.address().to_string().parse().unwrap()
}

/// A way to a relay that lets nothing through yet: on a busy machine both members of a pair would else not always be at the one
/// that their invite names first.
async fn shut_way(relay: &Relay) -> Way {
    let way = Way::to(relay).await;
    way.set_open(false);
    way
}

/// To these in this order.
fn invite(relay: &Relay, addresses: impl IntoIterator<Item = HostPort>) -> Invite {
    let link = relay.invite().at(addresses).unwrap().to_string();
    link.parse().unwrap()
}

async fn resumed(events: &mut Receiver<CallEvent>) {
    in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
}

async fn reconnected(events: &mut Events) {
    in_time(async { while !matches!(events.next().await.unwrap(), Event::Reconnected) {} }).await;
}

async fn sessions(relay: &Relay, count: u64) {
    in_time(async {
        while relay.sessions() != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// What one says the other hears.
async fn speak(from: &Call, to: &Call) {
    let mut publisher = in_time(from.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    let voice = in_time(to.track(TrackKind::Audio)).await.unwrap();
    let mut subscription = in_time(to.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::independent(b"on we go", 0)).await.unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().payload, "on we go");
}

/// Both are at this relay, in the same call, with the same number to compare.
async fn goes_on_at(pair: &Pair, relay: &Relay) {
    sessions(relay, 2).await;
    speak(&pair.caller, &pair.callee).await;
    assert!(pair.caller.safety_number().unwrap() == pair.callee.safety_number().unwrap());
}

//
#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_answers_costs_a_quarter_of_a_second() {
    let relay = Relay::open(1);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let hole: HostPort = silent.local_addr().unwrap().to_string().parse().unwrap();
    let started = Instant::now();
    let (_direct, _events) = Person::new().online(&relay.invite()).await;
    let direct = started.elapsed();
    let invite = invite(&relay, [hole, at(&relay)]);
    let started = Instant::now();
    let (_client, _events) = Person::new().online(&invite).await;
    let took = started.elapsed();
    println!("{direct:?} directly, {took:?} past a silent address");
    assert!(took >= Duration::from_millis(250), "it was tried first: {took:?}");
    assert!(
        took < Duration::from_millis(250) + 4 * direct + Duration::from_millis(250),
        "{took:?}, {direct:?} directly"
    );
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_at_the_other_relay_when_one_falls_silent() {
    let ([one, other], _directory) = two();
    let (way, to_other) = (Way::to(&one).await, shut_way(&other).await);
    let impatient = Config { silence_max: Duration::from_secs(1), ..quick() };
    let pair = pair_with(&invite(&one, [by(&way), by(&to_other)]), impatient).await;
    let mut events = [pair.caller.events(), pair.callee.events()];
    to_other.set_open(true);
    way.set_open(false);
    let cut = Instant::now();
    // Whoever asks nothing notices nothing.
    let asking = async {
        let (one, other) = (&pair.caller_client, &pair.callee_client);
        let busy = PresenceState::Busy;
        let _ = tokio::join!(one.set_presence(busy, Bytes::new()), other.set_presence(busy, Bytes::new()));
    };
    let both = async {
        for events in &mut events {
            resumed(events).await;
        }
        cut.elapsed()
    };
    let ((), took) = tokio::join!(asking, both);
    println!("back after {took:?}, of which 1 s is the silence that is waited for");
    assert!(took < Duration::from_secs(1) + SOON, "{took:?}");
    goes_on_at(&pair, &other).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_at_a_relay_that_drains_goes_on_at_the_other_address_of_the_invite() {
    let ([one, other], _directory) = two();
    let to_other = shut_way(&other).await;
    let pair = pair(&invite(&one, [at(&one), by(&to_other)])).await;
    to_other.set_open(true);
    let mut events = [pair.caller.events(), pair.callee.events()];
    let started = Instant::now();
    one.drain_patiently(Duration::from_millis(500), Duration::from_secs(60));
    for events in &mut events {
        resumed(events).await;
    }
    let took = started.elapsed();
    println!("both are back in their call {took:?} after the drain began");
    assert!(took < SOON, "{took:?}");
    goes_on_at(&pair, &other).await;
    sessions(&one, 0).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_where_the_relay_that_drains_says_and_comes_back_there() {
    let ([one, other], _directory) = two();
    let pair = pair(&one.invite()).await;
    let mut events = [pair.caller.events(), pair.callee.events()];
    one.drain_to(Onward::To(at(&other)), Duration::from_millis(500), Duration::from_secs(60));
    for events in &mut events {
        resumed(events).await;
    }
    goes_on_at(&pair, &other).await;
    // The invite does not name it, and nobody is where the invite leads.
    drop(one);
    let other = in_time(other.restart()).await;
    for events in &mut events {
        resumed(events).await;
    }
    goes_on_at(&pair, &other).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_sends_a_client_away_once_and_no_further_word_makes_it_knock_elsewhere() {
    let ([one, other], _directory) = two();
    // They are in a call, so that the relay waits for them.
    let pair = pair(&one.invite()).await;
    let mut events = pair.caller.events();
    let victim = UdpSocket::bind("127.0.0.1:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let there = victim.local_addr().unwrap().to_string().parse().unwrap();
    one.drain_to(Onward::To(at(&other)), Duration::from_millis(700), Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(20)).await;
    one.drain_to(Onward::To(there), Duration::ZERO, Duration::from_secs(60));
    resumed(&mut events).await;
    goes_on_at(&pair, &other).await;
    assert!(victim.recv_from(&mut [0; 2_000]).is_err(), "nothing was sent to whom the second notice named");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_at_the_place_that_was_named_the_others_are_tried() {
    let ([one, other], _directory) = two();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = silent.local_addr().unwrap().to_string().parse().unwrap();
    let to_other = shut_way(&other).await;
    let pair = pair(&invite(&one, [at(&one), by(&to_other)])).await;
    let mut events = pair.caller.events();
    to_other.set_open(true);
    let started = Instant::now();
    one.drain_to(Onward::To(nowhere), Duration::ZERO, Duration::from_secs(60));
    resumed(&mut events).await;
    let took = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(2) + SOON).contains(&took), "{took:?}");
    goes_on_at(&pair, &other).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_named_and_has_another_key_is_none() {
    let ([one, other], _directory) = two();
    let stranger = Relay::open(1);
    let to_other = shut_way(&other).await;
    let pair = pair(&invite(&one, [at(&one), by(&to_other)])).await;
    let mut events = pair.caller.events();
    to_other.set_open(true);
    one.drain_to(Onward::To(at(&stranger)), Duration::ZERO, Duration::from_secs(60));
    resumed(&mut events).await;
    goes_on_at(&pair, &other).await;
    assert_eq!(stranger.sessions(), 0);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_in_place_moves_nobody_to_another_address() {
    let ([mut one, other], _directory) = two();
    let to_other = shut_way(&other).await;
    let pair = pair(&invite(&one, [at(&one), by(&to_other)])).await;
    to_other.set_open(true);
    let mut events = [pair.caller.events(), pair.callee.events()];
    let old = one.upgrade(Duration::from_millis(500));
    for events in &mut events {
        resumed(events).await;
    }
    in_time(old).await.unwrap();
    goes_on_at(&pair, &one).await;
    assert_eq!(other.sessions(), 0);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_to_a_full_relay_is_with_the_next_at_once() {
    let ([mut one, other], _directory) = two();
    one.let_in_at_most(1);
    let invite = invite(&one, [at(&one), at(&other)]);
    let (_first, _events) = Person::new().online(&one.invite()).await;
    let started = Instant::now();
    let (_second, _events) = Person::new().online(&invite).await;
    let took = started.elapsed();
    println!("with the second relay after {took:?}");
    assert!(took < SOON, "{took:?}");
    assert_eq!((one.sessions(), other.sessions()), (1, 1));
    in_time(async {
        while one.closed_with("TOO_MANY_SESSIONS") != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_its_relay_ends_for_its_own_sake_goes_on_at_the_next() {
    let ([one, other], _directory) = two();
    let to_other = shut_way(&other).await;
    let (_client, mut events) = Person::new().online(&invite(&one, [at(&one), by(&to_other)])).await;
    to_other.set_open(true);
    // Nobody is in a room: it closes whoever is left once its window has passed, before some have gone.
    let started = Instant::now();
    one.drain_patiently(Duration::ZERO, Duration::ZERO);
    reconnected(&mut events).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!(other.sessions(), 1);
}
