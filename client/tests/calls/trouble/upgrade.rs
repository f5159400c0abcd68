//! Calls that go on while the relay is replaced by another process.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_client::{
    Call, CallEvent, Client, Error, OutgoingFrame, PublishOptions, RemoteTrack, RingOutcome, SubscribeOptions,
    TrackKind,
};
use supernode_client_testkit::{Pair, Person, in_time, next_ring, pair, track};
use supernode_testkit::Relay;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    programs::{PROGRAM, talk, text},
    rooms::{agree, room_of, tracks_of},
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

/// Listens until the first track ends.
fn listen(call: Call, calm: watch::Receiver<bool>) -> JoinHandle<Silence> {
    tokio::spawn(async move {
        let voice = call.track(TrackKind::Audio).await.unwrap();
        listen_to(call, voice, calm).await.unwrap()
    })
}

/// The longest times without a frame that somebody heard.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// Before the upgrade: what the machine does to everybody.
    calm: Duration,
    /// Then, up to the last frame.
    after: Duration,
    /// When that was.
    last: Instant,
    frames: u64,
}

impl Silence {
    /// Nobody misses a second but for what the machine took from them, and somebody was heard until the end.
    fn assert_short(&self, ended: Instant) {
        let longest = self.after.max(ended.saturating_duration_since(self.last));
        assert!(self.frames > 0 && longest < GAP_MAX + 4 * self.calm, "{longest:?} of silence: {self:?}");
    }
}

/// Listens until the track ends; `calm` is true until the upgrade begins.
fn listen_to(call: Call, voice: Arc<RemoteTrack>, calm: watch::Receiver<bool>) -> JoinHandle<Silence> {
    tokio::spawn(async move {
        let options = SubscribeOptions::for_kind(TrackKind::Audio);
        let mut subscription = call.subscribe(&voice, options).await.unwrap();
        subscription.next().await.unwrap();
        let mut silence = Silence { calm: Duration::ZERO, after: Duration::ZERO, last: Instant::now(), frames: 1 };
        while subscription.next().await.is_some() {
            let longest = if *calm.borrow() { &mut silence.calm } else { &mut silence.after };
            *longest = (*longest).max(silence.last.elapsed());
            silence.last = Instant::now();
            silence.frames += 1;
        }
        silence
    })
}

//
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_ends_no_call_and_nobody_misses_a_second() {
    const CALLS: usize = 4;
    let mut relay = Relay::open(2);
    let (stop, stopped) = watch::channel(false);
    let (upgrading, calm) = watch::channel(true);
    let mut pairs: Vec<Pair> = Vec::new();
    let (mut speaking, mut listening) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let pair = pair(&relay.invite()).await;
        for call in [&pair.caller, &pair.callee] {
            speaking.push(speak(call.clone(), stopped.clone()));
            listening.push(listen(call.clone(), calm.clone()));
        }
        pairs.push(pair);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut events: Vec<_> = pairs.iter().flat_map(|pair| [pair.caller.events(), pair.callee.events()]).collect();

    upgrading.send_replace(false);
    let old = relay.upgrade(Duration::from_secs(2));
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    let old = in_time(old).await.unwrap();
    assert_eq!(relay.sessions(), 2 * CALLS as u64, "everybody is with the new process");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send_replace(true);
    let ended = Instant::now();
    for speaking in speaking {
        in_time(speaking).await.unwrap();
    }
    for listening in listening {
        in_time(listening).await.unwrap().assert_short(ended);
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
        assert_eq!(ledger.offered, ledger.settled(), "{name}: every object is accounted for: {ledger:?}");
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_eight_goes_through_an_upgrade_by_itself_and_nobody_misses_a_second() {
    const MEMBERS: usize = 8;
    let mut relay = Relay::open(2);
    let (guests, rooms, door) = room_of(&relay, MEMBERS).await;
    let (stop, stopped) = watch::channel(false);
    let (upgrading, calm) = watch::channel(true);
    let speaking: Vec<_> = rooms.iter().map(|room| speak(room.clone(), stopped.clone())).collect();
    let mut listening = Vec::new();
    for room in &rooms {
        let tracks = in_time(tracks_of(room, MEMBERS - 1)).await;
        listening.extend(tracks.into_iter().map(|voice| listen_to(room.clone(), voice, calm.clone())));
    }
    in_time(async {
        while relay.ledger().delivered < (10 * MEMBERS * (MEMBERS - 1)) as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut events: Vec<_> = rooms.iter().map(Call::events).collect();

    upgrading.send_replace(false);
    let old = in_time(relay.upgrade(Duration::from_secs(2))).await.unwrap();
    for events in &mut events {
        let resumed = async {
            loop {
                match events.recv().await.unwrap() {
                    CallEvent::Resumed => return,
                    CallEvent::Ended(end) => panic!("somebody would have to come again: {end:?}"),
                    _ => {}
                }
            }
        };
        in_time(resumed).await;
    }
    assert_eq!(relay.sessions(), MEMBERS as u64, "everybody is with the new process");
    in_time(async {
        while relay.ledger().delivered < (10 * MEMBERS * (MEMBERS - 1)) as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    agree(&rooms).await;
    stop.send_replace(true);
    let ended = Instant::now();
    for speaking in speaking {
        in_time(speaking).await.unwrap();
    }
    for listening in listening {
        in_time(listening).await.unwrap().assert_short(ended);
    }
    door.abort();
    drop((rooms, guests));
    in_time(async {
        while relay.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for (name, ledger) in [("old", &old), ("new", &relay.ledger())] {
        assert_eq!(ledger.offered, ledger.settled(), "{name}: every object is accounted for: {ledger:?}");
    }
}

/// Everybody moves by themselves, so somebody is the first in the new process and finds nobody there yet.
//
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_at_an_upgrade_that_the_others_have_gone() {
    let mut relay = Relay::open(2);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    for who in ["alice", "bob"] {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap());
    }
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("bob.json")).output().unwrap();
    std::fs::write(file("ticket"), text(ticket)).unwrap();
    std::fs::write(file("invite"), relay.invite().to_string()).unwrap();
    let begin = |mut command: Command| command.arg("--invite-file").arg(file("invite")).spawn().unwrap();
    let bob = begin(talk("listen", directory.path(), "bob", "b"));
    let mut calling = talk("call", directory.path(), "alice", "a");
    calling.arg("--ticket-file").arg(file("ticket")).args(["--seconds", "5"]);
    let alice = begin(calling);
    in_time(async {
        while relay.ledger().delivered < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    in_time(relay.upgrade(Duration::from_secs(2))).await.unwrap();
    for talking in [alice, bob] {
        let ended = tokio::task::block_in_place(|| talking.wait_with_output().unwrap());
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && told.contains("back in the call"), "{told}");
        assert!(!told.contains("nobody hears us"), "the call goes on: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_nobody_has_answered_ends_at_an_upgrade_and_the_next_one_is_answered() {
    let mut relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let (_callee, mut callee_events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let mut incoming = next_ring(&mut callee_events).await;
    in_time(relay.upgrade(Duration::from_secs(1))).await.unwrap();
    let ended = in_time(ring.outcome()).await;
    assert!(matches!(ended, Ok(RingOutcome::Gone) | Err(Error::Disconnected)), "at once, not after 45 s");
    in_time(incoming.ended()).await;

    in_time(async {
        while relay.sessions() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut again = in_time(async {
        loop {
            match caller.ring(&bob.ticket()).await {
                Ok(ring) => return ring,
                // Bob's device is back, and its key packages are on their way.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    let answer = async { next_ring(&mut callee_events).await.answer().await.unwrap() };
    let (outcome, _call) = in_time(async { tokio::join!(again.outcome(), answer) }).await;
    assert!(matches!(outcome, Ok(RingOutcome::Answered(_))));
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
    let (drain, calm) = watch::channel(true);
    let (speaking, listening) = (speak(pair.caller.clone(), stopped), listen(pair.callee.clone(), calm));
    let mut events = pair.caller.events();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drain.send_replace(false);
    relay.drain_patiently(Duration::from_millis(300), Duration::from_secs(30));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, CallEvent::Interrupted), "nobody else takes them: they stay");
    }
    stop.send_replace(true);
    let ended = Instant::now();
    in_time(speaking).await.unwrap();
    in_time(listening).await.unwrap().assert_short(ended);
}
