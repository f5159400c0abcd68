//! What narrow, lossy and dead paths do to those behind them, and to nobody else.

use std::time::Duration;

use rstest::rstest;
use supernode_proto::{
    close::CloseCode,
    control::{RefusalReason, Rung, client_message::Body as Request},
};
use supernode_server::core::{
    ledger::{DropReason, Ledger},
    limits::Limits,
};
use supernode_testkit::subscription;
use supernode_world::{network::Conditions, stage::Stage};

use crate::{
    ALICE, BOB, cut, ms, narrow,
    performance::{Heard, Phase, Speaker, delays},
    stage_of, wide,
};

/// Why the ladder leaves objects out.
const LADDER: [DropReason; 5] = [
    DropReason::LadderTemporal2,
    DropReason::LadderTemporal1,
    DropReason::LadderSpatial,
    DropReason::LadderSpeakerOnly,
    DropReason::LadderAudioOnly,
];
/// What the relay's turns and the way to it add.
const SLACK: Duration = Duration::from_millis(60);

/// Objects dropped for any of these reasons.
fn dropped(ledger: &Ledger, reasons: &[DropReason]) -> u64 {
    reasons.iter().map(|reason| ledger.dropped[*reason as usize]).sum()
}

/// The longest that an object may be on its way to somebody behind a path: it waits at the relay as long as it may, and
/// then in the path's own buffer.
fn delay_max(path: &Conditions) -> Duration {
    let buffered = Duration::from_secs_f64(path.queue_bytes as f64 / path.bytes_per_second as f64);
    Limits::default().queue_age_max + buffered + path.delay + SLACK
}

/// Rungs as they changed between two times.
fn rungs(heard: &Heard, from: Duration, until: Duration) -> Vec<Rung> {
    let told = heard.rungs.iter().filter(|(at, _)| (from..until).contains(&at.since_beginning()));
    let mut rungs: Vec<Rung> = told.map(|(_, rung)| *rung).collect();
    rungs.dedup();
    rungs
}

/// Alice on stage, and so many who listen.
fn stage_with(shards: usize, limits: Limits, listeners: usize) -> (Stage, Speaker) {
    let mut stage = stage_of(shards, limits, 1 + listeners);
    let speaker = Speaker::new(&mut stage);
    for listener in 1..=listeners {
        for track in [speaker.audio, speaker.video] {
            stage.subscribe(listener, subscription(track));
        }
    }
    stage.demand(ALICE, speaker.video, listeners as u32);
    (stage, speaker)
}

//
#[rstest]
fn a_path_that_is_squeezed_keeps_its_audio_and_gets_its_picture_back(#[values(1, 2)] shards: usize) {
    let (mut stage, speaker) = stage_with(shards, Limits::default(), 1);
    let [wide, narrow] = [4_000_000, 300_000].map(narrow);
    stage.path(BOB, wide.clone());
    let before = speaker.perform(&mut stage, 10, 4);
    stage.path(BOB, narrow.clone());
    let squeezed_at = stage.now().since_beginning();
    let during = speaker.perform(&mut stage, 20, 10);
    stage.path(BOB, wide.clone());
    let widened_at = stage.now().since_beginning();
    let after = speaker.perform(&mut stage, 40, 12);
    stage.pass(Duration::from_secs(3));
    let (ledger, heard) = (stage.ledger(), Heard::of(&stage, BOB));
    heard.assert_in_order_and_once();

    for (name, phase, path) in [("wide", &before, &wide), ("narrow", &during, &narrow), ("wide again", &after, &narrow)]
    {
        let audio = heard.audio_of(phase);
        let lost = phase.audio_objects() - audio.len() as u64;
        let [p50, p99, max] = delays(&audio);
        eprintln!("{name}: lost {lost} of {}, delay {p50:?}, {p99:?}, {max:?}", phase.audio_objects());
        assert!(lost * 100 < phase.audio_objects(), "{name}: {lost} of {} are lost", phase.audio_objects());
        assert!(p50 <= wide.delay * 2 + SLACK, "{name}: {p50:?}");
        assert!(max <= delay_max(path), "{name}: {max:?}, {:?} explained", delay_max(path));
    }
    let told = [
        rungs(&heard, Duration::ZERO, squeezed_at),
        rungs(&heard, squeezed_at, widened_at),
        rungs(&heard, widened_at, Duration::MAX),
    ];
    let at_of = |from: Duration, is_it: fn(Rung) -> bool| {
        let found = heard.rungs.iter().map(|(at, rung)| (at.since_beginning(), *rung));
        found.into_iter().find(|(at, rung)| *at > from && is_it(*rung)).map_or(Duration::MAX, |(at, _)| at - from)
    };
    let low = at_of(squeezed_at, |rung| rung >= Rung::SpeakerOnly);
    let full = at_of(widened_at, |rung| rung == Rung::Full);
    eprintln!("low after {low:?}, full after {full:?}; {told:?}");

    assert!(told[0].iter().all(|rung| *rung == Rung::Full), "{told:?}");
    assert_eq!(heard.video_of(&before).len() as u64, before.video_objects(), "all layers come");
    assert!(low <= Duration::from_secs(1) + delay_max(&narrow), "down within a second, and told: {low:?}");
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
    stage.end();
}

//
#[rstest]
fn a_large_audience_is_sent_each_object_once_and_nobody_else_any(#[values(1, 2, 4)] shards: usize) {
    const AUDIENCE: usize = 24;
    const STRANGER: usize = AUDIENCE + 1;
    let limits = Limits::default();
    let (mut stage, speaker) = stage_with(shards, limits.clone(), AUDIENCE);
    stage.come(STRANGER);
    for track in [speaker.audio, speaker.video] {
        let refusal = stage.ask(STRANGER, Request::Subscribe(subscription(track))).expect_err("it is not in the room");
        assert_eq!(refusal.reason, RefusalReason::UnknownTrack);
    }
    let phase = speaker.perform(&mut stage, 10, 3);
    let cached = stage.census().iter().map(|census| census.cached_bytes).max();
    assert!(
        (1..=limits.group_cache_track_bytes_max).contains(&cached.unwrap_or_default()),
        "{cached:?} bytes are kept"
    );
    stage.pass(Duration::from_secs(2));
    for listener in 1..=AUDIENCE {
        let heard = Heard::of(&stage, listener);
        heard.assert_in_order_and_once();
        assert!(heard.has_all_of(&phase), "{listener} has all of it");
    }
    let (ledger, stranger) = (stage.ledger(), stage.hand(STRANGER));
    assert!(stranger.datagrams.is_empty() && stranger.streams.is_empty(), "a stranger is sent nothing");
    assert_eq!(ledger.delivered, phase.objects() * AUDIENCE as u64, "{ledger:?}");
    stage.end();
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    StopsReading,
    Narrow,
    Lossy,
    Vanishes,
}

/// Those whose paths take everything: Bob and two others.
const FINE: std::ops::RangeInclusive<usize> = 1..=3;
const TROUBLED: usize = 4;

//
#[rstest]
fn a_member_in_trouble_hurts_nobody_else(
    #[values(Trouble::StopsReading, Trouble::Narrow, Trouble::Lossy, Trouble::Vanishes)] trouble: Trouble,
) {
    let limits = Limits { too_slow_after: Duration::from_secs(60), ..Limits::default() };
    let (mut stage, speaker) = stage_with(2, limits, TROUBLED);
    stage.path(TROUBLED, wide());
    let calm = speaker.perform(&mut stage, 10, 3);
    stage.pass(Duration::from_secs(2));
    let unhurt = stage.ledger();
    for listener in 1..=TROUBLED {
        assert!(Heard::of(&stage, listener).has_all_of(&calm), "all came to {listener} in the calm part");
    }
    let path = match trouble {
        Trouble::StopsReading => wide(),
        Trouble::Narrow => Conditions { queue_bytes: 16 * 1024, ..narrow(64_000) },
        Trouble::Lossy => Conditions { loss: 0.2, ..wide() },
        Trouble::Vanishes => cut(),
    };
    stage.path(TROUBLED, path.clone());
    stage.leave_streams_unread(TROUBLED, matches!(trouble, Trouble::StopsReading));
    let rough = speaker.perform(&mut stage, 20, 5);
    stage.pass(Duration::from_secs(3));

    for listener in FINE {
        let heard = Heard::of(&stage, listener);
        heard.assert_in_order_and_once();
        assert!(heard.has_all_of(&rough), "all came to {listener} in the rough part");
        assert!(heard.rungs.iter().all(|(_, rung)| *rung == Rung::Full), "{:?}", heard.rungs);
        let [calm, rough] = [&calm, &rough].map(|phase| delays(&heard.audio_of(phase)));
        assert!(rough[0] <= calm[0] + ms(5) && rough[1] <= calm[1] + ms(10), "{listener} waits: {calm:?}, {rough:?}");
    }

    // The others have everything: what is missing between offered and delivered is missing to the one in trouble.
    let ledger = stage.ledger();
    let (heard, owed) = (Heard::of(&stage, TROUBLED), rough.objects());
    heard.assert_in_order_and_once();
    let delivered = ledger.delivered - unhurt.delivered - owed * FINE.count() as u64;
    let left_out: u64 = ledger.dropped.iter().sum::<u64>() - unhurt.dropped.iter().sum::<u64>();
    assert_eq!(delivered + left_out, owed, "each object is delivered to the troubled one or dropped under a name");
    let audio = heard.audio_of(&rough);
    let came = (audio.len() + heard.video_of(&rough).len()) as u64;
    assert!(came <= delivered, "{came} came of {delivered} that were delivered");
    let [.., max] = delays(&audio);
    assert!(max <= delay_max(&path), "{max:?}, {:?} explained", delay_max(&path));

    // The trouble was one, and what it cost has the name that it should have.
    let (spoken, came) = (rough.audio_objects(), audio.len() as u64);
    let down: u64 = ledger.ladder_down.iter().sum();
    match trouble {
        // Datagrams go on: only streams need his window. What waits for it expires, or falls with the ladder if that is
        // earlier.
        Trouble::StopsReading => {
            assert_eq!(came, spoken, "the path takes everything");
            assert!(down > 0 && dropped(&ledger, &LADDER) > 0, "the ladder leaves pictures out: {ledger:?}");
        }
        Trouble::Narrow => {
            assert!(ledger.ladder_down[Rung::AudioOnly as usize] > 0, "no picture fits: {ledger:?}");
            assert!(dropped(&ledger, &LADDER) > 0, "{ledger:?}");
            assert!(came > 0, "some audio fits");
        }
        Trouble::Lossy => assert!(came * 100 < spoken * 95 && came * 100 > spoken * 50, "{came} of {spoken} come"),
        Trouble::Vanishes => {
            assert!(came * 100 < spoken * 5, "{came} of {spoken} come");
            assert!(dropped(&ledger, &[DropReason::Expired]) > 0, "what waits too long is dropped: {ledger:?}");
            assert!(down > 0 && dropped(&ledger, &LADDER) > 0, "{ledger:?}");
        }
    }
    stage.path(TROUBLED, wide());
    stage.leave_streams_unread(TROUBLED, false);
    stage.end();
}

//
#[rstest]
fn who_cannot_even_be_sent_audio_is_let_go(#[values(1, 2)] shards: usize) {
    let limits = Limits { too_slow_after: Duration::from_secs(1), ..Limits::default() };
    let (mut stage, speaker) = stage_with(shards, limits, 1);
    speaker.perform(&mut stage, 0, 1);
    stage.path(BOB, cut());
    speaker.perform(&mut stage, 10, 5);
    assert_eq!(stage.population().sessions, 1, "it is gone long before QUIC gives up");
    assert_eq!(stage.closed(CloseCode::TOO_SLOW), 1);
    stage.path(BOB, wide());
    stage.end();
}
