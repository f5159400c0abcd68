//! What an operator should know now, in plain words: the same conditions as the alerts in `deploy/prometheus`.

use serde::Serialize;
use supernode_proto::close::CloseCode;

use super::history::Sample;
use crate::{
    control::{
        hook::Outcome,
        metrics::{Reading, ShardReading, limit_hits},
        reload::CERTIFICATE_WARN_S,
    },
    core::{
        histogram::Histogram,
        ledger::{CLASSES, DropReason},
    },
    shard::{BUFFER_BYTES_WANTED, counters::Tally},
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Calls suffer.
    Problem,
    /// Good to know.
    Notice,
}

/// One warning.
#[derive(Debug, Clone, Serialize)]
pub struct Warning {
    /// How bad it is.
    pub level: Level,
    /// Name of the alert, under which `docs/OPERATING.md` says more.
    pub alert: &'static str,
    /// What is the matter.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
    /// Whether one that stands above explains it.
    pub follows: bool,
}

/// A shard that is busier than this has no reserve for a burst.
const BUSY_MAX: f64 = 0.8;
/// An object that stays in the relay for longer than this at the 99th percentile can be heard.
const DELAY_MAX_US: u64 = 50_000;
/// A shard that wakes later than this at the 99th percentile delays what it carries as audibly.
const LAG_MAX_US: u64 = 50_000;
/// Objects of 1,000 that the relay may drop before it is worth a word.
const DROPPED_PER_MILLE_MAX: u64 = 10;
/// Failed handshakes in a minute that are nobody's typing error.
const HANDSHAKES_FAILED_MAX: u64 = 100;
/// Objects in a minute from which shares mean something.
const OBJECTS_MIN: u64 = 1000;

/// How often a shard may dial other nodes in a minute: each once when it starts. One that is not reached is dialled every 2 s.
const DIALS_OF_A_SHARD_MAX: u64 = 10;

/// Sessions of 100 that may be below the ladder's top before it is not their own paths.
const LOW_PERCENT_MAX: u64 = 30;
/// Sessions from which shares of them mean something.
const SESSIONS_MIN: u64 = 10;

/// How advice ends that leads to a warning above.
const SEE_FIRST: &str = "see that first.";

/// As the page's tiles show it.
fn shown(us: u64) -> String {
    match us {
        1_000_000.. => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} ms", us / 1000),
    }
}

/// Drops that somebody asked for, or that leave nobody without. The ladder's have a warning of their own.
pub(super) fn is_harmless(reason: DropReason) -> bool {
    const HARMLESS: &[DropReason] = &[
        DropReason::LayerNotWanted,
        DropReason::AwaitsIndependent,
        DropReason::NotSpeaking,
        DropReason::Cancelled,
        DropReason::Stopped,
        DropReason::Unsubscribed,
        DropReason::Gone,
    ];
    HARMLESS.contains(&reason) || reason.label().starts_with("ladder_")
}

/// What 99 of 100 were no longer than in the last minute: tiles and warnings say the same.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Minute {
    /// Stays of objects in the relay, in microseconds, by place in [`CLASSES`].
    delay_p99_us: [u64; CLASSES.len()],
    /// How late shards woke, in microseconds.
    lag_p99_us: u64,
    /// Round trips to clients, in microseconds.
    rtt_p99_us: u64,
}

impl Minute {
    /// Between two readings.
    pub(super) fn of(before: &Reading, now: &Reading) -> Self {
        let p99 =
            |read: &dyn Fn(&ShardReading) -> &Histogram| now.merged(read).since(&before.merged(read)).quantile(0.99);
        Self {
            delay_p99_us: std::array::from_fn(|class| p99(&|shard| &shard.detail.ledger.residence_us[class])),
            lag_p99_us: p99(&|shard| &shard.detail.distributions.late_us),
            rtt_p99_us: p99(&|shard| &shard.detail.distributions.rtt_us),
        }
    }
}

/// What `before` and `now`, a minute apart, and the last interval tell. The worst first.
pub fn warnings(before: &Reading, now: &Reading, last: Option<&Sample>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |level, alert, text: String, advice: &'static str| {
        let follows = advice.ends_with(SEE_FIRST);
        warnings.push(Warning { level, alert, text, advice, follows });
    };
    let grown = |read: &dyn Fn(&Reading) -> u64| read(now).saturating_sub(read(before));

    if now.draining {
        let until = now.drain_left_s.map_or(String::new(), |left_s| format!(", in {left_s} s at the latest"));
        let left = match now.total(|shard| shard.tally.sessions) {
            0 => "Nobody is left".to_owned(),
            1 => "One session is left".to_owned(),
            left => format!("{left} sessions are left"),
        };
        warn(
            Level::Notice,
            "SupernodeDraining",
            format!("The relay is draining and starts nothing new. {left}; it ends with the last one{until}."),
            "If you asked for it, there is nothing to do. New clients need another relay until this one is back.",
        );
    }
    if let Some(cluster) = &now.cluster {
        // For a minute: a server that is restarted, and a node that begins to live, take a few seconds.
        let before = before.cluster.unwrap_or_default();
        if !cluster.nats_connected && !before.nats_connected {
            warn(
                Level::Problem,
                "SupernodeNatsAway",
                "No NATS server is there for this node: to the rest of the cluster it is gone.".into(),
                "See whether the servers run and can be reached from here: supernode cluster says what was heard last, and \
                 supernode check-config tries them.",
            );
        } else if !cluster.life_held && !before.life_held {
            warn(
                Level::Problem,
                "SupernodeNoLife",
                "NATS is there, and this node does not live in its cluster.".into(),
                "supernode cluster says why: most likely another relay has the same cluster.node, or JetStream is off.",
            );
        }
    }
    let dialled = |shard: &ShardReading| shard.detail.distributions.nodes.map_or(0, |nodes| nodes.dialled);
    let dials = grown(&|reading| reading.total(dialled));
    if dials > DIALS_OF_A_SHARD_MAX * now.shards.len() as u64 {
        warn(
            Level::Problem,
            "SupernodeNodesApart",
            format!(
                "This node has dialled other nodes {dials} times in the last minute: links do not come about, or do not hold."
            ),
            "See which node all others dial: UDP does not get through to it, or its cluster.address is another one.",
        );
    }
    let drops = grown(&|reading| reading.total(|shard| shard.tally.kernel_drops));
    if drops > 0 {
        warn(
            Level::Problem,
            "SupernodeReceiveDrops",
            format!("The kernel dropped {drops} packets in the last minute because a receive buffer was full."),
            "Raise net.core.rmem_max (deploy/sysctl.d), or give the relay more cores and shards.",
        );
    }
    let turned_away = grown(&|reading| reading.tcp.over_links);
    if turned_away > 0 {
        warn(
            Level::Problem,
            "SupernodeTcpFull",
            format!(
                "The TCP port had no place for {turned_away} connections in the last minute: there are {} of them.",
                now.tcp.links
            ),
            "Raise limits.tcp_links_max, if they are clients; each takes up to 128 KiB.",
        );
    }
    if let Some((shard, busy)) = busiest(last).filter(|(_, busy)| *busy > BUSY_MAX) {
        warn(
            Level::Problem,
            "SupernodeShardBusy",
            format!("Shard {shard} is busy {:.0} % of the time: packets will have to wait.", busy * 100.0),
            "Give the relay more cores and shards, or lengthen the batching window.",
        );
    }
    let minute = Minute::of(before, now);
    let is_starved = minute.lag_p99_us > LAG_MAX_US && busiest(last).is_none_or(|(_, busy)| busy <= BUSY_MAX);
    if is_starved {
        warn(
            Level::Problem,
            "SupernodeStarved",
            format!(
                "The machine does not give the relay the CPU: one in a hundred times a shard wakes {} late or later, and none \
                 is busy.",
                shown(minute.lag_p99_us)
            ),
            "See what else runs on the machine, or on its host, and give the relay whole cores.",
        );
    }
    for (class, name) in CLASSES.iter().enumerate() {
        let p99_us = minute.delay_p99_us[class];
        if p99_us > DELAY_MAX_US {
            let advice = match is_starved {
                true => "That the shards wake late explains it: see that first.",
                false => {
                    "See whether a shard is busy; if none is, the receivers' paths are too narrow for what they are sent."
                }
            };
            let text = format!("One in a hundred {name} objects stays in the relay for {} or longer.", shown(p99_us));
            warn(Level::Problem, "SupernodeSlow", text, advice);
        }
    }
    let offered = grown(&|reading| reading.total(|shard| shard.ledger.offered));
    let reason = |reason: DropReason| grown(&|reading| reading.total(|shard| shard.ledger.dropped[reason as usize]));
    let dropped: Vec<(DropReason, u64)> =
        DropReason::ALL.iter().filter(|other| !is_harmless(**other)).map(|other| (*other, reason(*other))).collect();
    let sum: u64 = dropped.iter().map(|(_, count)| count).sum();
    if offered >= OBJECTS_MIN
        && sum * 1000 > offered * DROPPED_PER_MILLE_MAX
        && let Some((most, _)) = dropped.iter().max_by_key(|(_, count)| *count)
    {
        let percent = 100.0 * sum as f64 / offered as f64;
        warn(
            Level::Problem,
            "SupernodeDrops",
            format!(
                "{percent:.1} % of the objects were dropped in the last minute, mostly because {}.",
                most.sentence()
            ),
            match is_starved {
                true => "What shards that wake late carry is late as well: see that first.",
                false => "Look at the relay's load and its uplink; if one receiver is behind it, at theirs.",
            },
        );
    }
    let rungs = |read: fn(&[u64]) -> u64| now.total(|shard| read(&shard.detail.distributions.holdings.rungs));
    let (low, all) = (rungs(|rungs| rungs[1..].iter().sum()), rungs(|rungs| rungs.iter().sum()));
    if all >= SESSIONS_MIN && low * 100 > all * LOW_PERCENT_MAX {
        warn(
            Level::Problem,
            "SupernodePathsNarrow",
            format!("{low} of {all} sessions are sent less than they asked for, because their paths take no more."),
            match is_starved {
                true => "A relay that wakes late makes paths look narrow: see that first.",
                false => "So many at once share something: most likely this relay's own uplink is full.",
            },
        );
    }
    if grown(&|reading| reading.total(|shard| shard.tally.desynchronised)) > 0 {
        warn(
            Level::Problem,
            "SupernodeDesynchronised",
            "A shard lost control mail and closed its sessions, which will come back.".into(),
            "The relay had far more to do than it can: see which limit to lower, or give it more cores.",
        );
    }
    let errors = grown(&|reading| reading.total(|shard| shard.tally.send_errors()));
    if errors > 0 {
        warn(
            Level::Problem,
            "SupernodeSendErrors",
            format!("The kernel did not take {errors} packets in the last minute{}.", why_refused(before, now)),
            "Raise net.core.wmem_max; see whether a route or a firewall of this machine refuses them. The log has the error.",
        );
    }
    if now.offload.is_some_and(|offload| offload.segments_out_max > 1) && now.segments_out_max() == 1 {
        warn(
            Level::Notice,
            "SupernodeBundlesRefused",
            "The kernel refuses bundles of packets (GSO) on a way out: they go one by one, which costs more CPU."
                .into(),
            "See which network card or tunnel cannot cut them (ethtool -k: tx-checksumming, tx-udp-segmentation).",
        );
    }
    let failed = grown(&|reading| reading.total(|shard| shard.tally.handshakes_failed));
    let made = grown(&|reading| reading.total(|shard| shard.tally.handshakes_ok));
    if failed > HANDSHAKES_FAILED_MAX && failed > made {
        warn(
            Level::Notice,
            "SupernodeHandshakesFail",
            format!("{failed} handshakes failed in the last minute, and {made} did not."),
            "Somebody scans or floods the port, or a path loses large packets. The relay defends itself by Retry.",
        );
    }
    let (answered, unanswered) = Outcome::grown(&before.hook_outcomes, &now.hook_outcomes);
    if unanswered > 0 {
        warn(
            Level::Problem,
            "SupernodeHookSilent",
            format!(
                "The admission hook gave no answer to {unanswered} questions in the last minute, and {answered} answers."
            ),
            "See whether the service at admission.hook.url runs and answers in time. Nobody new is let in without it; \
             those who are in stay for admission.hook.grace_s.",
        );
    }
    let refused = grown(&|reading| {
        let codes = [CloseCode::TOO_MANY_SESSIONS, CloseCode::OVERLOADED];
        reading.total(|shard| codes.iter().map(|code| shard.tally.closed[code.place()]).sum())
    });
    if refused > 0 {
        warn(
            Level::Problem,
            "SupernodeSessionsRefused",
            format!("{refused} sessions were turned away in the last minute for want of room."),
            "Raise sessions_max if the machine has reserve, or add a relay; see whether one identity has too many devices.",
        );
    }
    let hits = |reading: &Reading| limit_hits(reading);
    for ((limit, after), (_, earlier)) in hits(now).into_iter().zip(hits(before)) {
        if after > earlier {
            warn(
                Level::Notice,
                "SupernodeLimit",
                format!("The limit {limit} bit {} times in the last minute.", after - earlier),
                "If honest clients meet it, raise it in the configuration; else it does its work.",
            );
        }
    }
    match now.certificate_left_s {
        ..0 => warn(
            Level::Problem,
            "SupernodeCertificateExpired",
            "The relay's certificate has run out: clients that check it refuse this relay.".into(),
            "Put a new one in its place: the relay takes it within seconds. With ACME, the log says why none came.",
        ),
        left_s @ 0..CERTIFICATE_WARN_S => warn(
            Level::Notice,
            "SupernodeCertificateExpires",
            format!("The relay's certificate runs out in {} days.", left_s / 86_400),
            "Renew it: the relay takes new files within seconds. With ACME, the log says why no new one came.",
        ),
        _ => {}
    }
    let wanted = 2 * BUFFER_BYTES_WANTED as u64;
    let granted =
        now.shards.iter().map(|shard| shard.tally.receive_buffer_bytes.min(shard.tally.send_buffer_bytes)).min();
    if let Some(granted) = granted.filter(|granted| (1..wanted).contains(granted)) {
        warn(
            Level::Notice,
            "SupernodeBuffersClamped",
            format!(
                "The kernel grants socket buffers of {} KiB; the relay asks for {} KiB.",
                // It counts each twice: once for itself.
                granted / 2 / 1024,
                wanted / 2 / 1024
            ),
            "Raise net.core.rmem_max and wmem_max to 8388608 bytes (deploy/sysctl.d) and start the relay again.",
        );
    }
    warnings.sort_by_key(|warning| warning.level);
    warnings
}

/// The most frequent reason of those that say something.
fn why_refused(before: &Reading, now: &Reading) -> &'static str {
    let grown = |read: fn(&Tally) -> u64| {
        now.total(|shard| read(&shard.tally)).saturating_sub(before.total(|shard| read(&shard.tally)))
    };
    let reasons = [
        (grown(|tally| tally.send_other), ""),
        (grown(|tally| tally.send_no_room), ", for want of room in a buffer"),
        (grown(|tally| tally.send_unreachable), ", for want of a route"),
        (grown(|tally| tally.send_forbidden), ", because a firewall forbids it"),
    ];
    reasons.iter().max_by_key(|(packets, _)| *packets).map_or("", |(_, words)| words)
}

fn busiest(last: Option<&Sample>) -> Option<(usize, f64)> {
    let busy = last?.busy.iter().copied().enumerate();
    busy.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        control::{cluster::ClusterReading, dashboard::History},
        shard::{NodeFigures, Offload},
    };

    fn reading(change: impl FnOnce(&mut ShardReading)) -> Reading {
        let mut shard = ShardReading::default();
        shard.tally.receive_buffer_bytes = 2 * BUFFER_BYTES_WANTED as u64;
        shard.tally.send_buffer_bytes = 2 * BUFFER_BYTES_WANTED as u64;
        shard.ledger.offered = 100_000;
        change(&mut shard);
        let offload = Some(Offload { segments_out_max: 64, segments_in_max: 64, steering: true });
        Reading { shards: vec![shard], certificate_left_s: CERTIFICATE_WARN_S, offload, ..Reading::default() }
    }

    /// Alerts of a minute that began with nothing wrong.
    fn alerts(change: impl FnOnce(&mut ShardReading)) -> Vec<&'static str> {
        let before = reading(|shard| shard.ledger.offered = 0);
        warnings(&before, &reading(change), None).iter().map(|warning| warning.alert).collect()
    }

    #[test]
    fn a_relay_that_works_is_quiet() {
        assert_eq!(alerts(|_| {}), [""; 0]);
        assert_eq!(
            alerts(|shard| shard.ledger.drop(DropReason::LayerNotWanted, 50_000)),
            [""; 0],
            "nobody wanted them"
        );
        assert_eq!(alerts(|shard| shard.ledger.drop(DropReason::Expired, 900)), [""; 0], "less than one in a hundred");
        let few_low = |shard: &mut ShardReading| {
            shard.ledger.drop(DropReason::LadderAudioOnly, 50_000);
            shard.detail.distributions.holdings.rungs = [97, 1, 1, 1, 0, 0];
        };
        assert_eq!(alerts(few_low), [""; 0], "some people's networks are narrow");
    }

    #[test]
    fn what_calls_suffer_from_is_named() {
        assert_eq!(alerts(|shard| shard.tally.kernel_drops = 1), ["SupernodeReceiveDrops"]);
        assert_eq!(alerts(|shard| shard.ledger.drop(DropReason::Expired, 1100)), ["SupernodeDrops"]);
        let many_low = |shard: &mut ShardReading| shard.detail.distributions.holdings.rungs = [60, 0, 0, 40, 0, 0];
        assert_eq!(alerts(many_low), ["SupernodePathsNarrow"]);
        assert_eq!(alerts(|shard| shard.tally.desynchronised = 1), ["SupernodeDesynchronised"]);
        assert_eq!(alerts(|shard| shard.tally.send_other = 1), ["SupernodeSendErrors"]);
        assert_eq!(alerts(|shard| shard.tally.send_too_large = 1), [""; 0], "QUIC only tried");
        let bundles = |shard: &mut ShardReading| shard.tally.segments_out_max = 1;
        assert_eq!(alerts(bundles), ["SupernodeBundlesRefused"]);
        assert_eq!(alerts(|shard| shard.tally.handshakes_failed = 200), ["SupernodeHandshakesFail"]);
        assert_eq!(alerts(|shard| shard.detail.counts.limits[0] = 3), ["SupernodeLimit"]);
        for code in [CloseCode::TOO_MANY_SESSIONS, CloseCode::OVERLOADED] {
            assert_eq!(alerts(|shard| shard.tally.closed[code.place()] = 1), ["SupernodeSessionsRefused"]);
        }
        assert_eq!(alerts(|shard| shard.tally.receive_buffer_bytes = 425_984), ["SupernodeBuffersClamped"]);
        assert_eq!(alerts(|shard| shard.detail.ledger.residence_us[0].observe(60_000, 10)), ["SupernodeSlow"]);
    }

    #[test]
    fn a_machine_that_gives_no_cpu_is_named_before_what_comes_of_it() {
        let starved = |shard: &mut ShardReading| {
            shard.detail.distributions.late_us.observe(80_000, 10);
            shard.detail.ledger.residence_us[0].observe(90_000, 10);
            shard.detail.distributions.holdings.rungs = [60, 0, 0, 40, 0, 0];
        };
        let said = warnings(&reading(|shard| shard.ledger.offered = 0), &reading(starved), None);
        let alerts: Vec<&str> = said.iter().map(|warning| warning.alert).collect();
        assert_eq!(alerts, ["SupernodeStarved", "SupernodeSlow", "SupernodePathsNarrow"]);
        assert!(said.iter().skip(1).all(|warning| warning.follows), "and not the uplink: {said:?}");
        assert!(!said[0].follows && said[0].text.contains("wakes "), "{said:?}");
        assert_eq!([999, 60_499, 12_582_912].map(shown), ["0 ms", "60 ms", "12.6 s"]);
        assert!(alerts_of_lag(10_000).is_empty(), "as late as machines are");
        // Whoever is late for being busy has the CPU.
        let (mut history, begin) = (History::default(), Instant::now());
        for second in 0..2 {
            let busy = reading(|shard| shard.detail.distributions.busy = Duration::from_millis(900 * second));
            history.take(busy, begin + Duration::from_secs(second), 0);
        }
        let said = warnings(&reading(|shard| shard.ledger.offered = 0), &reading(starved), history.last());
        assert_eq!(said[0].alert, "SupernodeShardBusy");
        assert!(said.iter().all(|warning| warning.alert != "SupernodeStarved"));
    }

    fn alerts_of_lag(us: u64) -> Vec<&'static str> {
        alerts(|shard| shard.detail.distributions.late_us.observe(us, 10))
    }

    #[test]
    fn a_hook_that_gives_no_answer_is_a_problem_of_its_own_and_not_want_of_room() {
        let after = |outcome: Outcome| {
            let mut now = reading(|shard| shard.tally.closed[CloseCode::ADMISSION_DOWN.place()] = 3);
            now.hook_outcomes[outcome as usize] = 3;
            warnings(&reading(|shard| shard.ledger.offered = 0), &now, None)
        };
        for outcome in Outcome::ALL.iter().filter(|outcome| !outcome.is_answer()) {
            let said = after(*outcome);
            assert_eq!(said.iter().map(|warning| warning.alert).collect::<Vec<_>>(), ["SupernodeHookSilent"]);
        }
        assert!(after(Outcome::Yes).is_empty() && after(Outcome::No).is_empty(), "an answer is an answer");
    }

    #[test]
    fn a_drain_says_who_is_left_and_until_when() {
        let said = |sessions, drain_left_s| {
            let now = Reading { draining: true, drain_left_s, ..reading(|shard| shard.tally.sessions = sessions) };
            let mut all = warnings(&reading(|shard| shard.ledger.offered = 0), &now, None);
            assert_eq!((all.len(), all[0].level, all[0].alert), (1, Level::Notice, "SupernodeDraining"));
            all.remove(0).text
        };
        let words = "12 sessions are left; it ends with the last one, in 48 s at the latest.";
        assert!(said(12, Some(48)).ends_with(words), "{}", said(12, Some(48)));
        assert!(said(1, None).ends_with("One session is left; it ends with the last one."), "after an upgrade");
        assert!(said(0, Some(0)).contains("Nobody is left"));
    }

    #[test]
    fn a_certificate_is_warned_of_in_time_and_once_it_has_run_out() {
        let after = |certificate_left_s| {
            let now = Reading { certificate_left_s, ..reading(|_| {}) };
            warnings(&reading(|shard| shard.ledger.offered = 0), &now, None)
        };
        assert!(after(CERTIFICATE_WARN_S).is_empty());
        let soon = after(CERTIFICATE_WARN_S - 1);
        assert_eq!((soon.len(), soon[0].level, soon[0].alert), (1, Level::Notice, "SupernodeCertificateExpires"));
        assert!(soon[0].text.ends_with("in 13 days."), "{}", soon[0].text);
        let late = after(-1);
        assert_eq!((late.len(), late[0].level, late[0].alert), (1, Level::Problem, "SupernodeCertificateExpired"));
    }

    #[test]
    fn a_tcp_port_without_a_place_is_named() {
        let before = reading(|_| {});
        let mut now = reading(|_| {});
        (now.tcp.links, now.tcp.over_links, now.tcp.not_opened) = (1024, 7, 99);
        let warned = warnings(&before, &now, None);
        assert_eq!(warned.iter().map(|warning| warning.alert).collect::<Vec<_>>(), ["SupernodeTcpFull"]);
        assert!(warned[0].text.contains("7 connections") && warned[0].text.contains("1024"), "{}", warned[0].text);
    }

    #[test]
    fn a_node_outside_of_its_cluster_is_named_once_it_has_been_for_a_while() {
        let after = |before: [bool; 2], now: [bool; 2]| {
            let of = |[nats_connected, life_held]: [bool; 2]| {
                let cluster = Some(ClusterReading { nats_connected, life_held, ..ClusterReading::default() });
                Reading { cluster, ..reading(|shard| shard.ledger.offered = 0) }
            };
            let said = warnings(&of(before), &of(now), None);
            said.iter().map(|warning| warning.alert).collect::<Vec<_>>()
        };
        assert_eq!(after([false, false], [false, false]), ["SupernodeNatsAway"]);
        assert_eq!(after([true, false], [true, false]), ["SupernodeNoLife"]);
        for quiet in [[true, true], [false, false], [true, false]] {
            assert_eq!(after([true, true], quiet), [""; 0], "it has just begun: {quiet:?}");
            assert_eq!(after(quiet, [true, true]), [""; 0], "it is over: {quiet:?}");
        }
    }

    #[test]
    fn links_that_do_not_hold_are_named_and_those_of_a_start_are_not() {
        let after = |dialled| {
            let nodes = Some(NodeFigures { dialled, ..NodeFigures::default() });
            alerts(|shard| shard.detail.distributions.nodes = nodes)
        };
        assert_eq!(after(DIALS_OF_A_SHARD_MAX), [""; 0]);
        assert_eq!(after(DIALS_OF_A_SHARD_MAX + 1), ["SupernodeNodesApart"]);
    }

    #[test]
    fn problems_come_before_notices() {
        let both = alerts(|shard| {
            shard.detail.counts.limits[0] = 3;
            shard.tally.receive_buffer_bytes = 425_984;
            shard.tally.send_other = 1;
        });
        assert_eq!(both, ["SupernodeSendErrors", "SupernodeLimit", "SupernodeBuffersClamped"]);
    }
}
