//! What narrow, lossy and dead paths do to those behind them, and to nobody else.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rstest::rstest;
use supernode_proto::{close::CloseCode, control::Rung};
use supernode_server::core::{
    ledger::{DropReason, Ledger},
    limits::Limits,
};
use supernode_testkit::{Person, Relay, Room, in_time};

use crate::{
    path::{Path, Shape},
    performance::{Came, Delays, Heard, Listener, Phase, Speaker},
    stage::Stage,
};

/// Why the ladder leaves objects out.
const LADDER: [DropReason; 5] = [
    DropReason::LadderTemporal2,
    DropReason::LadderTemporal1,
    DropReason::LadderSpatial,
    DropReason::LadderSpeakerOnly,
    DropReason::LadderAudioOnly,
];

/// What a test allows on top of what it can explain: two CPUs, and others who want them.
const SLACK: Duration = Duration::from_millis(250);

/// Objects dropped for any of these reasons.
fn dropped(ledger: &Ledger, reasons: &[DropReason]) -> u64 {
    reasons.iter().map(|reason| ledger.dropped[*reason as usize]).sum()
}

/// The longest that an object may be on its way to somebody behind a path: it waits at the relay as long as it may, and
/// then in the path's own buffer.
fn delay_max(path: &Path, shape: Shape) -> Duration {
    Limits::default().queue_age_max + path.toll.buffered_max() + shape.delay + SLACK
}

/// Rungs as they changed between two times.
fn rungs(heard: &Heard, from: Duration, until: Duration) -> Vec<Rung> {
    let told = heard.rungs.iter().filter(|(at, _)| (from..until).contains(at));
    let mut rungs: Vec<Rung> = told.map(|(_, rung)| *rung).collect();
    rungs.dedup();
    rungs
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_squeezed_keeps_its_audio_and_gets_its_picture_back(#[values(1, 2)] shards: usize) {
    let mut stage = Stage::new(shards).await;
    let (wide, narrow) = (Shape::narrow(4_000_000), Shape::narrow(300_000));
    let path = Path::new(stage.relay.address, wide).await;
    let client = stage.relay.connect_over(path.address, &Person::new()).await;
    let bob = stage.listener_as(client).await;
    stage.overture(1).await;

    let before = stage.perform(1, 10, Duration::from_secs(4)).await;
    let buffered_wide = delay_max(&path, wide);
    path.set(narrow);
    let squeezed_at = stage.start.elapsed();
    let low = {
        let (counters, start) = (stage.relay.counters(), stage.start);
        let is_low = |ledger: &Ledger| {
            ledger.ladder_down[Rung::SpeakerOnly as usize] + ledger.ladder_down[Rung::AudioOnly as usize] > 0
        };
        tokio::spawn(async move {
            while !counters.iter().any(|counters| is_low(&counters.snapshot().1)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            start.elapsed()
        })
    };
    let during = stage.perform(1, 20, Duration::from_secs(10)).await;
    path.set(wide);
    let widened_at = stage.start.elapsed();
    let after = stage.perform(1, 40, Duration::from_secs(12)).await;
    let ledger = stage.settled().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let heard = bob.heard();

    let phases = [("wide", &before), ("narrow", &during), ("wide again", &after)];
    for (name, phase) in phases {
        let (audio, video) = (heard.audio_of(phase), heard.video_of(phase));
        let lost = phase.audio_objects() - audio.len() as u64;
        let delays = Delays::of(&audio);
        eprintln!(
            "{name}: lost {lost} of {} audio objects, delay {delays:?}; {} of {} video objects",
            phase.audio_objects(),
            video.len(),
            phase.video_objects()
        );
        assert!(lost * 100 < phase.audio_objects(), "{name}: {lost} of {} are lost", phase.audio_objects());
        assert!(delays.p50 <= wide.delay + SLACK, "{name}: {delays:?}");
        let most = if name == "wide" { buffered_wide } else { delay_max(&path, narrow) };
        assert!(delays.max <= most, "{name}: {delays:?}, {most:?} explained");
    }
    let told = [
        rungs(&heard, Duration::ZERO, squeezed_at),
        rungs(&heard, squeezed_at, widened_at),
        rungs(&heard, widened_at, Duration::MAX),
    ];
    let low = if low.is_finished() { low.await.unwrap() - squeezed_at } else { Duration::MAX };
    let full = heard.rungs.iter().find(|(at, rung)| *at > widened_at && *rung == Rung::Full);
    let full = full.map_or(Duration::MAX, |(at, _)| *at - widened_at);
    eprintln!("low after {low:?}, full after {full:?}; {told:?}; {:?} in a queue", stage.queue_oldest());

    assert!(told[0].iter().all(|rung| *rung == Rung::Full), "{told:?}");
    assert_eq!(heard.video_of(&before).len() as u64, before.video_objects(), "all layers come");
    assert!(low <= Duration::from_secs(1), "down within a second: {low:?}");
    assert!(told[1].iter().any(|rung| *rung >= Rung::SpeakerOnly), "and it is told: {told:?}");
    // The ladder tries the rung above when it was calm for long enough; when that does not hold, it waits for longer.
    let climbs = told[1].windows(3).filter(|three| three[0] <= three[1] && three[1] > three[2]).count();
    assert!(climbs <= 1, "it swings: {told:?}");
    assert!(full <= Duration::from_secs(10), "up within ten seconds: {full:?}");
    assert!(told[2].is_sorted_by(|earlier, later| earlier >= later), "and never down again: {told:?}");
    let newest = Phase { video: after.video.end - 1..after.video.end, ..after.clone() };
    assert_eq!(heard.video_of(&newest).len() as u64, newest.video_objects(), "the whole picture is back");
    assert!(dropped(&ledger, &LADDER) > 0, "what was left out has a name: {ledger:?}");
    let came = (heard.audio.len() + heard.video.len()) as u64;
    assert!(came <= ledger.delivered, "{came} came of {} that were delivered", ledger.delivered);
    stage.end(&[], &[bob]).await;
}

/// As large as two busy cores carry in a debug build; larger by `SUPERNODE_AUDIENCE`, up to 247. How much of it comes is
/// the machine's doing: what must hold holds all the same.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_audience_is_sent_each_object_once_and_nobody_else_any(#[values(1, 2)] shards: usize) {
    let listeners = std::env::var("SUPERNODE_AUDIENCE").map_or(24, |count| count.parse().unwrap());
    let mut stage = Stage::new(shards).await;
    let mut audience = Vec::new();
    for _ in 0..listeners {
        audience.push(stage.listener().await);
    }
    stage.overture(listeners).await;
    stage.perform(listeners, 10, Duration::from_secs(3)).await;
    let ledger = stage.settled().await;
    eprintln!("{} of {} delivered to {listeners}: {}", ledger.delivered, ledger.offered, named(&ledger));
    assert!(ledger.delivered > 0);
    stage.end(&[], &audience).await;
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    StopsReading,
    Narrow,
    Lossy,
    Vanishes,
}

/// How often it may be put down to the machine when the others are hurt: what the trouble does, it does each time.
const TRIES: usize = 3;
/// Those whose paths take everything.
const FINE: u64 = 3;

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_trouble_hurts_nobody_else(
    #[values(Trouble::StopsReading, Trouble::Narrow, Trouble::Lossy, Trouble::Vanishes)] trouble: Trouble,
) {
    let mut hurt = Vec::new();
    while let Err(how) = scene(trouble).await {
        hurt.push(how);
        assert!(hurt.len() < TRIES, "somebody else is hurt each time: {hurt:#?}");
    }
}

/// A calm part and a rough one. What must hold whatever the machine does is asserted; how the others were hurt is returned.
async fn scene(trouble: Trouble) -> Result<(), String> {
    let limits = Limits { too_slow_after: Duration::from_secs(60), ..Limits::default() };
    let mut stage = Stage::with_limits(2, limits).await;
    let mut fine = Vec::new();
    for _ in 0..FINE {
        fine.push(stage.listener().await);
    }
    let path = Path::new(stage.relay.address, Shape::wide()).await;
    let client = stage.relay.connect_over(path.address, &Person::new()).await;
    let troubled = stage.listener_as(client).await;
    stage.overture(FINE + 1).await;

    let calm = stage.perform(FINE + 1, 10, Duration::from_secs(3)).await;
    let unhurt = stage.settled().await;
    if !in_time(|| fine.iter().chain([&troubled]).all(|listener| listener.has_all_of(&calm))).await {
        return Err("not all came to everybody in the calm part".to_owned());
    }
    let shape = match trouble {
        Trouble::StopsReading => Shape::wide(),
        Trouble::Narrow => Shape { buffer_bytes: 16 * 1024, ..Shape::narrow(64_000) },
        Trouble::Lossy => Shape { loss: 0.2, ..Shape::wide() },
        Trouble::Vanishes => Shape { cut: true, ..Shape::wide() },
    };
    path.set(shape);
    if matches!(trouble, Trouble::StopsReading) {
        troubled.stop_reading();
    }
    let rough = stage.perform(FINE + 1, 20, Duration::from_secs(5)).await;
    if !in_time(|| fine.iter().all(|listener| listener.has_all_of(&rough))).await {
        return Err("not all came to the others in the rough part".to_owned());
    }
    eprintln!("{trouble:?}: {}", worse_than(&calm, &rough, &fine)?);
    for listener in &fine {
        let rungs = listener.heard().rungs;
        assert!(rungs.iter().all(|(_, rung)| *rung == Rung::Full), "{rungs:?}");
    }

    // The others have everything: what is missing between offered and delivered is missing to the one in trouble.
    let ledger = stage.settled().await;
    let heard = troubled.heard();
    let owed = rough.objects();
    let hurt = ledger.delivered - unhurt.delivered - owed * FINE;
    let left_out: u64 = ledger.dropped.iter().sum::<u64>() - unhurt.dropped.iter().sum::<u64>();
    assert_eq!(hurt + left_out, owed, "each object is delivered to the troubled one or dropped under a name");
    let (audio, video) = (heard.audio_of(&rough), heard.video_of(&rough));
    let came = (audio.len() + video.len()) as u64;
    let delays = Delays::of(&audio);
    eprintln!(
        "{trouble:?}: of {owed} objects {hurt} were delivered and {left_out} dropped ({}), {came} came; audio {delays:?}; \
         {:?}; rungs down {:?}; {:?} in a queue",
        named(&ledger),
        path.toll,
        ledger.ladder_down,
        stage.queue_oldest()
    );
    assert!(came <= hurt, "{came} came of {hurt} that were delivered");
    assert!(delays.max <= delay_max(&path, shape), "{delays:?}, {:?} explained", delay_max(&path, shape));
    assert_bites(trouble, &ledger, &path, &rough, &audio);
    path.set(Shape::wide());
    stage.end(&fine, &[troubled]).await;
    Ok(())
}

/// Drops by reason, for people.
fn named(ledger: &Ledger) -> String {
    let some = DropReason::ALL.iter().zip(ledger.dropped).filter(|(_, objects)| *objects > 0);
    some.map(|(reason, objects)| format!("{} {objects}", reason.label())).collect::<Vec<_>>().join(", ")
}

/// Compares what those who are fine waited for in two phases: the figures, as an error if the second was worse by more
/// than what a busy machine does.
fn worse_than(calm: &Phase, rough: &Phase, fine: &[Listener]) -> Result<String, String> {
    let heard: Vec<Heard> = fine.iter().map(Listener::heard).collect();
    let delays = |came: &dyn Fn(&Heard) -> Vec<Came>| Delays::of(&heard.iter().flat_map(came).collect::<Vec<_>>());
    let audio = [calm, rough].map(|phase| delays(&|heard: &Heard| heard.audio_of(phase)));
    let video = [calm, rough].map(|phase| delays(&|heard: &Heard| heard.video_of(phase)));
    let figures = format!("calm and rough: audio {audio:?}, video {video:?}");
    let ms = Duration::from_millis;
    let is_worse = [audio, video]
        .iter()
        .any(|[calm, rough]| rough.p50 > calm.p50 * 2 + ms(10) || rough.p99 > calm.p99 * 2 + ms(30));
    if is_worse { Err(figures) } else { Ok(figures) }
}

/// The trouble was one, and what it cost has the name that it should have.
fn assert_bites(trouble: Trouble, ledger: &Ledger, path: &Path, rough: &Phase, audio: &[Came]) {
    let spoken = rough.audio_objects();
    let heard = audio.len() as u64;
    let toll = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let down: u64 = ledger.ladder_down.iter().sum();
    match trouble {
        Trouble::StopsReading => {
            assert_eq!(path.toll.lost(), 0, "the path takes everything");
            // Datagrams go on: only streams need his window. What waits for it expires, or falls with the ladder if that
            // is earlier.
            assert!(down > 0 && dropped(ledger, &LADDER) > 0, "the ladder leaves pictures out: {ledger:?}");
        }
        Trouble::Narrow => {
            assert!(ledger.ladder_down[Rung::AudioOnly as usize] > 0, "no picture fits: {ledger:?}");
            assert!(dropped(ledger, &LADDER) > 0, "{ledger:?}");
            assert!(heard > 0, "some audio fits");
        }
        Trouble::Lossy => {
            assert!(toll(&path.toll.strayed) > 20, "packets are lost: {:?}", path.toll);
            assert!(heard * 100 < spoken * 95 && heard * 100 > spoken * 50, "{heard} of {spoken} are heard");
        }
        Trouble::Vanishes => {
            assert!(toll(&path.toll.cut) > 0, "packets go nowhere");
            assert!(heard * 100 < spoken * 5, "{heard} of {spoken} are heard");
            assert!(dropped(ledger, &[DropReason::Expired]) > 0, "what waits too long is dropped: {ledger:?}");
            assert!(down > 0 && dropped(ledger, &LADDER) > 0, "{ledger:?}");
        }
    }
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_even_be_sent_audio_is_let_go(#[values(1, 2)] shards: usize) {
    let limits = Limits { too_slow_after: Duration::from_secs(1), ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let room = Room::new();
    let speaker = Speaker::new(&relay, &room, true, Instant::now()).await;
    let path = Path::new(relay.address, Shape::wide()).await;
    let client = relay.connect_over(path.address, &Person::new()).await;
    let (bob, _) = Listener::join(client, &room, &speaker).await;
    speaker.perform(0, Duration::from_secs(1)).await;
    path.set(Shape { cut: true, ..Shape::wide() });
    speaker.perform(10, Duration::from_secs(5)).await;
    assert_eq!(relay.population().sessions, 1, "it is gone long before QUIC gives up");
    let too_slow = CloseCode::TOO_SLOW.place();
    assert_eq!(relay.tallies().iter().map(|tally| tally.closed[too_slow]).sum::<u64>(), 1);
    bob.close();
    speaker.client.close();
    relay.assert_empty().await;
}
