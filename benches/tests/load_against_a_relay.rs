//! The load generator against a real relay in this process.

mod support;

use std::time::Duration;

use supernode_benches::load::{
    html,
    report::Report,
    run::{Options, run},
    scenario::Scenario,
};
use supernode_server::{core::limits::Limits, shard::Onward};
use supernode_testkit::{Door, Relay, Setup};

use crate::support::{load, load_seen};

fn assert_all_delivered(report: &Report, due: u64, expected: u64) {
    assert_eq!(report.doubts, Vec::<String>::new());
    assert_eq!((report.objects.due, report.objects.expected), (due, expected));
    assert_eq!((report.objects.delivered, report.objects.lost, report.objects.duplicates), (expected, 0, 0));
    assert_eq!(report.sessions.alive_after, report.sessions.planned);
    assert!(report.valid && report.delay_ms.p50 > 0.0 && report.delay_ms.p50 <= report.delay_ms.max);
}

#[test]
fn calls_and_rooms_are_delivered_in_full_and_the_sessions_live() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let report = load(&relay, "pairs = 3\nworkers = 2\nslo = [\"loss == 0\", \"duplicates == 0 && reordered == 0\"]")
        .expect("a report");
    assert_all_delivered(&report, 6 * 50, 6 * 50);
    assert!(report.passes() && report.sessions.subscriptions_planned == 6);
    assert!(report.relay.cpu_us_per_delivered.is_some_and(|cost| cost > 0.0));
    assert!(relay.ledger().objects_in >= 6 * 65, "warm-up and linger are sent as well");

    let rooms = "shape = \"rooms\"\nrooms = 2\nmembers = 4\nobjects_per_second = 20\n[video]\nkbit_per_s = 200\n\
                 group_frames = 10\n[churn]\nsessions = 2\nstay_s = 0.8";
    let report = load(&relay, rooms).expect("a report");
    assert_all_delivered(&report, 8 * (20 + 30), 8 * 3 * (20 + 30));
    assert!(report.objects.delivered_aside > 0, "those who come and go hear something");

    let page = html::page(&report);
    assert!(page.contains("every SLO holds") && page.matches("<svg").count() == 6);
    assert!(!page.contains("http"), "a page that fetches nothing");
}

#[test]
fn pieces_that_are_over_are_told_meanwhile_once_each_and_as_they_stand_in_the_report() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let (mut settled, mut from_unix_ms) = (Vec::new(), None);
    // The last ten seconds have not settled when the measured part ends.
    let report = load_seen(&relay, "pairs = 2\nworkers = 2\nobjects_per_second = 10\nhold_s = 13", &mut |progress| {
        from_unix_ms = progress.measured_from_unix_ms.or(from_unix_ms);
        settled.extend(progress.settled.iter().map(|piece| format!("{piece:?}")));
    });
    let report = report.expect("a report");
    assert_all_delivered(&report, 4 * 130, 4 * 130);
    assert_eq!(from_unix_ms, Some(report.measured_from_unix_ms));
    assert!((2..=3).contains(&settled.len()) && report.intervals.len() == 13, "{settled:?}");
    let told: Vec<_> = report.intervals.iter().map(|piece| format!("{piece:?}")).take(settled.len()).collect();
    assert_eq!(settled, told);
    assert!(report.intervals.iter().all(|piece| piece.due_per_s > 0.0 && piece.generator_busy.is_some()));
}

#[test]
fn outsiders_ask_and_get_nothing() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let report = load(
        &relay,
        "shape = \"rooms\"\nrooms = 2\nmembers = 3\n[video]\nkbit_per_s = 200\n[outsiders]\nstrangers = 2\nkicked = 1",
    )
    .expect("a report");
    assert_eq!(report.doubts, Vec::<String>::new());
    assert_eq!((report.objects.trespasses, report.objects.lost, report.objects.reordered), (0, 0, 0));
    // Both strangers ask for all 12 tracks, and each of the two who are put out for the six of its room.
    assert_eq!((report.sessions.put_out, report.sessions.turned_away), (2, 2 * 12 + 2 * 6));
    assert!(report.objects.delivered_aside > 0, "until they are put out, they hear what the others hear");
    assert!(report.sessions.refused.is_empty(), "{:?}", report.sessions.refused);
}

#[test]
fn presence_and_rings_reach_those_they_are_for() {
    let relay = Relay::of(Setup::new(
        1,
        Door::Everybody,
        Limits { presence_interval: Duration::from_millis(50), ..Limits::default() },
    ));
    let report = load(&relay, "shape = \"silent\"\n[presence]\npeople = 6\nwatchers = 3\nchanges_per_second = 4\n[rings]\npairs = 2\nper_minute = 60")
        .expect("a report");
    assert_all_delivered(&report, 6 * 4 + 2, 6 * 4 * 3 + 2 * 2);
    assert!(report.sessions.refused.is_empty(), "{:?}", report.sessions.refused);
}

#[test]
fn sessions_that_only_open_are_counted_and_what_nobody_got_was_not_fast() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let scenario = "shape = \"silent\"\nslo = [\"opened_per_s > 0\", \"p99_delay_ms < 20\"]\n[churn]\nsessions = 6\n\
                    stay_s = 1.0\nwatches = 2";
    let report = load(&relay, scenario).expect("a report");
    assert_eq!(report.doubts, Vec::<String>::new());
    assert_eq!((report.objects.due, report.sessions.planned, report.sessions.opened), (0, 0, 6));
    assert!(report.relay.cpu_us_per_session_opened.is_some_and(|cost| cost > 0.0));
    assert!(report.sessions.refused.is_empty(), "{:?}", report.sessions.refused);
    let holds: Vec<Option<bool>> = report.slo.iter().map(|verdict| verdict.holds).collect();
    assert_eq!(holds, [Some(true), Some(false)], "nothing was delivered, so nothing in time");
}

#[test]
fn idle_sessions_are_believed_only_if_they_are_alive_in_the_end() {
    let idle = "shape = \"silent\"\n[presence]\npeople = 4\nwatchers = 1\nchanges_per_second = 0";
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let report = load(&relay, idle).expect("a report");
    assert_eq!((report.doubts.len(), report.objects.due, report.sessions.alive_after), (0, 0, 4));

    let handle = relay.handle();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1_000));
        handle.drain(&Onward::Elsewhere, Duration::ZERO, Duration::ZERO);
    });
    // Everybody is there by then, however busy the machine.
    let report = load(&relay, &format!("{idle}\n")).map(|report| report.doubts);
    ending.join().expect("it only drains");
    match report {
        Ok(doubts) => assert!(doubts.iter().any(|doubt| doubt.starts_with("only 0 of 4 sessions")), "{doubts:?}"),
        Err(error) => assert!(error.to_string().contains("ended or refused"), "{error}"),
    }
}

#[test]
fn flooders_come_back_when_they_are_sent_away() {
    let limits = Limits { ingest_objects_per_second_max: 100, ingest_excess_objects_max: 200, ..Limits::default() };
    let relay = Relay::of(Setup::new(1, Door::Everybody, limits));
    let report = load(&relay, "pairs = 1\n[flood]\nobjects_per_second = 20000").expect("a report");
    let sent_away = report.sessions.closed.get("RATE_EXCEEDED").copied().unwrap_or_default();
    assert!(sent_away > 2, "each of the two more than once: {:?}", report.sessions.closed);
    assert!(report.objects.flood_taken > 0 && report.objects.lost == 0, "{:?}", report.objects);
}

#[test]
fn what_the_relay_does_not_grant_shows_as_loss_and_fails_the_slo() {
    let limits = Limits { ingest_objects_per_second_max: 20, ..Limits::default() };
    let relay = Relay::of(Setup::new(1, Door::Everybody, limits));
    let report = load(&relay, "pairs = 1\nobjects_per_second = 200\nslo = [\"loss < 1%\"]").expect("a report");
    assert_eq!(report.objects.expected, 400);
    assert_eq!(report.objects.delivered + report.objects.lost, 400);
    assert!(report.objects.loss > 0.5, "{}", report.objects.loss);
    assert!(!report.passes());
}

#[test]
fn a_relay_that_lets_nobody_in_is_named_as_the_reason() {
    let relay = Relay::of(Setup::new(1, Door::Nobody, Limits::default()));
    let error = load(&relay, "pairs = 1").expect_err("nobody gets in").to_string();
    assert!(error.starts_with("0 of 2 clients were ready") && error.contains("NOT_ADMITTED"), "{error}");
}

#[test]
fn a_generator_that_is_late_does_not_call_its_result_valid() {
    let relay = Relay::of(Setup::new(1, Door::Everybody, Limits::default()));
    let scenario = "pairs = 1\ngather_us = 5000\n";
    let text = format!(
        "ramp_s = 0\nwarm_up_s = 0.3\nhold_s = 0.5\nlinger_s = 0.2\n{scenario}[validity]\nlag_p99_ms_max = 0.5"
    );
    let options = Options {
        relay: relay.address,
        pin: relay.pin,
        token: String::new(),
        scenario: Scenario::parse("test", &text, &[]).expect("a scenario"),
        relay_pid: None,
        metrics: None,
        scrape_every: None,
        begin_at_unix_s: None,
        command_line: Vec::new(),
    };
    let report = run(&options, &mut |_| {}).expect("a report");
    assert!(!report.valid && !report.passes());
    assert!(report.doubts[0].starts_with("the generator was the cap: it sent"), "{:?}", report.doubts);
    assert_eq!(report.objects.lost, 0, "late is not lost");
}
