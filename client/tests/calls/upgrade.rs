//! Calls that go on while the relay is replaced by another process.

use std::time::{Duration, Instant};

use supernode_client::{Call, CallEvent, Client, OutgoingFrame, PublishOptions, SubscribeOptions, TrackKind};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    people::{Pair, Person, in_time, next_ring, pair, track},
    relay::Relay,
};

/// What a call's members may miss of each other.
const GAP_MAX: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(20);

/// Speaks until told to stop.
fn speak(call: Call, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let options = PublishOptions::default();
        let mut publisher = call.publish(TrackKind::Audio, track("voice"), options).await.unwrap();
        publisher.wanted().await.unwrap();
        let mut ticks = tokio::time::interval(FRAME);
        for index in 0.. {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = ticks.tick() => {}
            }
            publisher.send(&OutgoingFrame::independent(&[7; 160], index * 20_000)).await.unwrap();
        }
        publisher.finish().await.unwrap();
    })
}

/// Listens until the track ends; the longest silence.
fn listen(call: Call) -> JoinHandle<Duration> {
    tokio::spawn(async move {
        let voice = call.track(TrackKind::Audio).await.unwrap();
        let options = SubscribeOptions::for_kind(TrackKind::Audio);
        let mut subscription = call.subscribe(&voice, options).await.unwrap();
        let (mut last, mut longest) = (None::<Instant>, Duration::ZERO);
        while subscription.next().await.is_some() {
            longest = longest.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
            last = Some(Instant::now());
        }
        longest
    })
}

//
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_ends_no_call_and_nobody_misses_a_second() {
    const CALLS: usize = 4;
    let mut relay = Relay::open(2);
    let (stop, stopped) = watch::channel(false);
    let mut pairs: Vec<Pair> = Vec::new();
    let (mut speaking, mut listening) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let pair = pair(&relay.invite()).await;
        for call in [&pair.caller, &pair.callee] {
            speaking.push(speak(call.clone(), stopped.clone()));
            listening.push(listen(call.clone()));
        }
        pairs.push(pair);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut events: Vec<_> = pairs.iter().flat_map(|pair| [pair.caller.events(), pair.callee.events()]).collect();

    let old = relay.upgrade(Duration::from_secs(2));
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    let old = in_time(old).await.unwrap();
    assert_eq!(relay.sessions(), 2 * CALLS as u64, "everybody is with the new process");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send_replace(true);
    for speaking in speaking {
        in_time(speaking).await.unwrap();
    }
    for listening in listening {
        let gap = in_time(listening).await.unwrap();
        assert!(gap < GAP_MAX, "{gap:?} of silence");
    }
    for pair in &pairs {
        assert!(pair.caller.safety_number().unwrap() == pair.callee.safety_number().unwrap());
    }
    drop(pairs);
    in_time(async {
        while relay.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let new = relay.ledger();
    for (name, ledger) in [("old", &old), ("new", &new)] {
        assert!(ledger.delivered > 0, "{name}: calls went by it");
        assert_eq!(ledger.queued(), 0, "{name}: every object is accounted for: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_comes_during_an_upgrade_is_let_in_and_can_be_rung() {
    let mut relay = Relay::open(2);
    let before = pair(&relay.invite()).await;
    let old = relay.upgrade(Duration::from_secs(2));
    // Those who are at the new process ring each other, while the others are still at the old one.
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events): (Client, _) = alice.online(&relay.invite()).await;
    let (_callee, mut callee_events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut callee_events).await.answer().await.unwrap() };
    let (outcome, _call) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    outcome.unwrap();
    in_time(old).await.unwrap();
    in_time(async {
        while before.caller.members().is_empty() || before.callee.members().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(relay.sessions(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_a_successor_lets_calls_go_on_until_its_patience_ends() {
    let relay = Relay::open(1);
    let pair = pair(&relay.invite()).await;
    let (stop, stopped) = watch::channel(false);
    let (speaking, listening) = (speak(pair.caller.clone(), stopped), listen(pair.callee.clone()));
    let mut events = pair.caller.events();
    relay.drain(Duration::from_millis(300), Duration::from_secs(30));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, CallEvent::Interrupted), "nobody else takes them: they stay");
    }
    stop.send_replace(true);
    in_time(speaking).await.unwrap();
    assert!(in_time(listening).await.unwrap() < GAP_MAX);
}
