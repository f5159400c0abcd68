//! The table of all metrics: one row each with its name, label, help and where its values come from.

use std::{borrow::Cow, fs};

use supernode_proto::{close::CloseCode, control::Rung};

use super::{Reading, ShardReading};
use crate::{
    control::{
        cluster::{ClusterReading, Loss},
        hook::Outcome,
        push,
    },
    core::{
        counts::{LIMITS, REFUSAL_REASONS, RING_OUTCOMES},
        histogram::Histogram,
        ladder::RUNGS,
        ledger::{CLASSES, DropReason, Ledger, NodeCounts, RefuseReason, Volume},
    },
    shard::{
        BUFFER_BYTES_WANTED, NodeFigures, Offload,
        counters::{CODES, Tally},
        distributions::Distributions,
    },
};

/// What is read for one row; the label's value is empty where the row has no label.
type Samples<T> = Vec<(Cow<'static, str>, T)>;

/// Where a metric's values come from.
pub(super) enum Values {
    /// What only grows.
    Counter(fn(&Reading) -> Samples<f64>),
    /// What comes and goes.
    Gauge(fn(&Reading) -> Samples<f64>),
    /// How values are spread: bounds divided by `scale`, up to `largest`.
    Histogram {
        /// How many of the histogram's units make one of the metric's.
        scale: f64,
        /// Largest bound that is worth showing, in the histogram's unit.
        largest: u64,
        /// The counts.
        read: fn(&Reading) -> Samples<Histogram>,
    },
}

/// One metric.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) values: Values,
}

use Values::{Counter, Gauge};

/// Which side of the relay.
const IN: &str = "in";
const OUT: &str = "out";

/// Microseconds in a second.
const MICROS: f64 = 1e6;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // ---- the process
    Row { name: "supernode_build_info", label: "version", values: Gauge(|_| vec![(env!("CARGO_PKG_VERSION").into(), 1.0)]),
        help: "Always 1; the label is the version of the relay." },
    Row { name: "supernode_draining", label: "", values: Gauge(|r| one(f64::from(u8::from(r.draining)))),
        help: "1 while the relay drains: it starts nothing new and waits for its clients to leave." },
    Row { name: "supernode_shards", label: "", values: Gauge(|r| one(r.shards.len() as f64)),
        help: "Shards that run: threads, each with its own UDP socket." },
    Row { name: "supernode_process_cpu_seconds_total", label: "", values: Counter(|r| one(r.process.cpu_s)),
        help: "CPU time of the whole process, user and system, in seconds." },
    Row { name: "supernode_process_resident_bytes", label: "", values: Gauge(|r| one(r.process.resident_bytes as f64)),
        help: "Memory of the process that is in RAM, in bytes." },
    Row { name: "supernode_process_open_files", label: "", values: Gauge(|_| one(open_files())),
        help: "Open file descriptors of the process." },
    Row { name: "supernode_log_lines_left_out_total", label: "reason",
        values: Counter(|r| vec![("rate".into(), r.log_lines_left_out[0] as f64), ("sink".into(), r.log_lines_left_out[1] as f64)]),
        help: "Lines of the log that were left out: rate, as their place spoke too often; sink, as standard error did not take them." },

    // ---- the cluster: nothing where there is none
    Row { name: "supernode_cluster_nodes", label: "", values: Gauge(|r| of_cluster(r, |cluster| cluster.nodes as f64)),
        help: "Nodes of the cluster that live, as this one saw last, itself among them." },
    Row { name: "supernode_cluster_life_held", label: "",
        values: Gauge(|r| of_cluster(r, |cluster| f64::from(u8::from(cluster.life_held)))),
        help: "1 while this node lives for the others too: its record in NATS was renewed within the last 4 s." },
    Row { name: "supernode_cluster_homes", label: "", values: Gauge(|r| of_cluster(r, |cluster| cluster.homes as f64)),
        help: "Rooms that have their home at this node." },
    Row { name: "supernode_cluster_nats_connected", label: "",
        values: Gauge(|r| of_cluster(r, |cluster| f64::from(u8::from(cluster.nats_connected)))),
        help: "1 while this node is connected to a NATS server." },
    Row { name: "supernode_cluster_nats_connects_total", label: "",
        values: Counter(|r| of_cluster(r, |cluster| cluster.nats_connects as f64)),
        help: "Times that a connection to a NATS server came about: more than one is that it was gone meanwhile." },
    Row { name: "supernode_cluster_bus_messages_total", label: "direction",
        values: Counter(|r| r.cluster.map_or_else(Vec::new, |cluster| vec![
            (IN.into(), cluster.bus.heard as f64), (OUT.into(), cluster.bus.said as f64)])),
        help: "Short messages to and from other nodes through NATS." },
    Row { name: "supernode_cluster_bus_lost_total", label: "reason", values: Counter(bus_lost),
        help: "Those that were lost at this node: away, as NATS was not there; no_room, as too much waited; too_long; not_sealed, as they \
               came from nobody who has the cluster's secret; busy, as a shard had too much to read. What is lost is said again." },
    Row { name: "supernode_cluster_bus_subjects", label: "",
        values: Gauge(|r| of_cluster(r, |cluster| cluster.bus.listens as f64)),
        help: "Subjects that this node listens to in NATS: those of people who are watched or online here, and one of all nodes." },
    Row { name: "supernode_cluster_rooms", label: "",
        values: Gauge(|r| of_cluster(r, |cluster| cluster.wishes.wanted as f64)),
        help: "Rooms that somebody at this node is in or wants to be in, wherever they have their home." },
    Row { name: "supernode_cluster_rooms_waiting", label: "",
        values: Gauge(|r| of_cluster(r, |cluster| cluster.wishes.waiting as f64)),
        help: "Those of them whose home is being asked for or taken: for milliseconds each, where all is well." },
    Row { name: "supernode_cluster_homes_moved_total", label: "",
        values: Counter(|r| of_cluster(r, |cluster| cluster.wishes.moved as f64)),
        help: "Times that a room with people of this node got another home: they came in anew." },
    Row { name: "supernode_cluster_wishes_dropped_total", label: "",
        values: Counter(|r| of_cluster(r, |cluster| cluster.wishes.dropped as f64)),
        help: "Times that nobody asked for a room's home, as this node has too many rooms: whoever wants to come in is told to try again." },
    Row { name: "supernode_cluster_letters_total", label: "direction",
        values: Counter(|r| of_links(r, |all| vec![(IN.into(), all(|n| n.letters_in)), (OUT.into(), all(|n| n.letters_out))])),
        help: "Letters to and from other nodes, on links of their own." },
    Row { name: "supernode_cluster_letters_lost_total", label: "", values: Counter(|r| of_links(r, |all| vec![("".into(), all(|n| n.letters_lost))])),
        help: "Those that were lost as a link broke, or as nobody was there: both ends have begun anew since." },
    Row { name: "supernode_cluster_links_dialled_total", label: "", values: Counter(|r| of_links(r, |all| vec![("".into(), all(|n| n.dialled))])),
        help: "Links to other nodes that were dialled: one for each shard and node, and again whenever one breaks or is not answered." },
    Row { name: "supernode_cluster_hellos_refused_total", label: "", values: Counter(|r| of_links(r, |all| vec![("".into(), all(|n| n.refused))])),
        help: "Links that somebody else dialled and that were refused: by no node that this one knows, or to another life of it." },
    Row { name: "supernode_cluster_objects_offered_total", label: "", values: Counter(|r| of_nodes(r, |n| vec![("".into(), n.offered)])),
        help: "Objects of publishers here that were owed to other nodes, once for each node: always sent + dropped + queued." },
    Row { name: "supernode_cluster_objects_sent_total", label: "", values: Counter(|r| of_nodes(r, |n| vec![("".into(), n.sent)])),
        help: "Of these, handed to a link in full." },
    Row { name: "supernode_cluster_objects_dropped_total", label: "reason",
        values: Counter(|r| of_nodes(r, |n| DropReason::ALL.iter().map(|reason| (reason.label().into(), n.dropped[*reason as usize])).collect())),
        help: "Of these, not handed to it, by reason." },
    Row { name: "supernode_cluster_objects_lost", label: "", values: Gauge(|r| of_nodes(r, |n| vec![("".into(), n.lost)])),
        help: "Objects that were sent to other nodes and did not come there, as far as these have told; what they tell after a break takes some back." },
    Row { name: "supernode_cluster_objects_received_total", label: "", values: Counter(|r| of_nodes(r, |n| vec![("".into(), n.received)])),
        help: "Objects that came from other nodes." },

    // ---- UDP
    Row { name: "supernode_udp_datagrams_total", label: "direction",
        values: Counter(|r| vec![(IN.into(), r.sum(|t| t.datagrams_in)), (OUT.into(), r.sum(|t| t.datagrams_out))]),
        help: "UDP datagrams received from and handed to the kernel." },
    Row { name: "supernode_udp_bytes_total", label: "direction",
        values: Counter(|r| vec![(IN.into(), r.sum(|t| t.bytes_in)), (OUT.into(), r.sum(|t| t.bytes_out))]),
        help: "UDP payload bytes received from and handed to the kernel." },
    Row { name: "supernode_udp_batches_total", label: "direction",
        values: Counter(|r| vec![(IN.into(), r.sum(|t| t.recv_batches)), (OUT.into(), r.sum(|t| t.send_batches))]),
        help: "System calls that received or sent datagrams; datagrams by batches is the batch size." },
    Row { name: "supernode_udp_send_errors_total", label: "reason",
        values: Counter(|r| vec![
            ("no_room".into(), r.sum(|t| t.send_no_room)),
            ("forbidden".into(), r.sum(|t| t.send_forbidden)),
            ("unreachable".into(), r.sum(|t| t.send_unreachable)),
            ("too_large".into(), r.sum(|t| t.send_too_large)),
            ("other".into(), r.sum(|t| t.send_other))]),
        help: "Packets that the kernel did not take; too_large are QUIC's probes for how large a packet may be." },
    Row { name: "supernode_udp_gso_refused_total", label: "", values: Counter(|r| one(r.sum(|t| t.bundles_refused))),
        help: "Bundles of packets (GSO) that the kernel refused on their way out; they went again, packet by packet." },
    Row { name: "supernode_udp_receive_drops_total", label: "", values: Counter(|r| one(r.sum(|t| t.kernel_drops))),
        help: "Packets that the kernel threw away because a socket's receive buffer was full, counted once a second." },
    Row { name: "supernode_udp_handed_over_total", label: "", values: Counter(|r| one(r.sum(|t| t.handed_over))),
        help: "Packets that reached a shard other than the one their connection ID names and were passed on." },
    Row { name: "supernode_udp_passed_back_total", label: "outcome",
        values: Counter(|r| vec![("passed".into(), r.sum(|t| t.passed_back)), ("lost".into(), r.sum(|t| t.passed_back_lost))]),
        help: "Packets of the process that this one replaced in an upgrade, passed on to it while it drained." },
    Row { name: "supernode_udp_buffer_bytes", label: "direction",
        values: Gauge(|r| vec![(IN.into(), r.least(|t| t.receive_buffer_bytes)), (OUT.into(), r.least(|t| t.send_buffer_bytes))]),
        help: "Smallest socket buffer of any shard in bytes, read back from the kernel, which may grant less than was asked." },
    Row { name: "supernode_udp_buffer_wanted_bytes", label: "", values: Gauge(|_| one(2.0 * BUFFER_BYTES_WANTED as f64)),
        help: "Socket buffer that the relay wants, as the kernel counts it (twice what is asked); smaller ones were clamped." },
    Row { name: "supernode_udp_segments_max", label: "direction", values: Gauge(segments),
        help: "Most datagrams that a shard's socket takes in one send (out, GSO) or gives in one receive (in, GRO); 1 is none." },
    Row { name: "supernode_udp_steering", label: "",
        values: Gauge(|r| one(f64::from(u8::from(r.offload.is_some_and(|offload| offload.steering))))),
        help: "1 if the kernel brings packets of a client that has moved to its shard, or there is only one shard." },

    // ---- TCP
    Row { name: "supernode_tcp_connections", label: "", values: Gauge(|r| one(r.tcp.links as f64)),
        help: "Connections to the TCP port, of clients whose network lets no UDP through; 0 where `tcp.listen` is not set." },
    Row { name: "supernode_tcp_accepted_total", label: "", values: Counter(|r| one(r.tcp.accepted as f64)),
        help: "Connections that came to the TCP port." },
    Row { name: "supernode_tcp_closed_total", label: "reason",
        values: Counter(|r| vec![
            ("links".into(), r.tcp.over_links as f64),
            ("network".into(), r.tcp.over_network as f64),
            ("pace".into(), r.tcp.over_pace as f64),
            ("not_opened".into(), r.tcp.not_opened as f64)]),
        help: "Connections to the TCP port that were closed: links, for another's sake as there were `limits.tcp_links_max`; network, as \
               theirs had as many as it may; pace, too many handshakes in a second; not_opened, they became no WebSocket of ours in time." },
    Row { name: "supernode_tcp_packets_total", label: "direction",
        values: Counter(|r| vec![(IN.into(), r.tcp.packets_in as f64), (OUT.into(), r.tcp.packets_out as f64)]),
        help: "QUIC packets that came and went over TCP." },
    Row { name: "supernode_tcp_bytes_total", label: "direction",
        values: Counter(|r| vec![(IN.into(), r.tcp.bytes_in as f64), (OUT.into(), r.tcp.bytes_out as f64)]),
        help: "Their bytes, without those of WebSockets and TLS." },
    Row { name: "supernode_tcp_dropped_total", label: "reason",
        values: Counter(|r| vec![
            ("late".into(), r.tcp.dropped_late as f64),
            ("no_room".into(), r.tcp.dropped_no_room as f64),
            ("inbox".into(), r.tcp.dropped_inbox as f64)]),
        help: "QUIC packets that TCP did not take: late, TCP made them wait for 100 ms, or the machine for 500; no_room, too much waited; inbox, a shard was behind. QUIC \
               counts them as lost." },

    // ---- shards
    Row { name: "supernode_shard_busy_seconds_total", label: "shard",
        values: Counter(|r| r.by_shard(|s| s.detail.distributions.busy.as_secs_f64())),
        help: "Time each shard spent working, in seconds: its growth by second is the share of the time that it is busy." },
    Row { name: "supernode_shard_connections", label: "shard", values: Gauge(|r| r.by_shard(|s| s.tally.connections as f64)),
        help: "QUIC connections of each shard now." },
    Row { name: "supernode_shard_turn_seconds", label: "",
        values: Values::Histogram { scale: MICROS, largest: 1 << 20, read: |r| r.spread(|d| &d.turn_us) },
        help: "How long turns of a shard took; what comes in meanwhile waits." },
    Row { name: "supernode_shard_lag_seconds", label: "",
        values: Values::Histogram { scale: MICROS, largest: 1 << 20, read: |r| r.spread(|d| &d.late_us) },
        help: "How late a shard was for its earliest deadline; up to the batching window is meant." },
    Row { name: "supernode_turn_datagrams_in", label: "",
        values: Values::Histogram { scale: 1.0, largest: 4096, read: |r| r.spread(|d| &d.datagrams_in) },
        help: "UDP datagrams received in one turn of a shard." },
    Row { name: "supernode_turn_datagrams_out", label: "",
        values: Values::Histogram { scale: 1.0, largest: 4096, read: |r| r.spread(|d| &d.datagrams_out) },
        help: "UDP datagrams sent in one turn of a shard." },

    // ---- connections and sessions
    Row { name: "supernode_connections", label: "", values: Gauge(|r| one(r.sum(|t| t.connections))),
        help: "QUIC connections now, with and without a session." },
    Row { name: "supernode_handshaking", label: "", values: Gauge(|r| one(r.sum(|t| t.handshaking))),
        help: "QUIC handshakes in progress now." },
    Row { name: "supernode_handshakes_total", label: "outcome", values: Counter(|r| vec![
            ("ok".into(), r.sum(|t| t.handshakes_ok)),
            ("failed".into(), r.sum(|t| t.handshakes_failed)),
            ("refused".into(), r.sum(|t| t.handshakes_refused))]),
        help: "QUIC handshakes that ended: ok, failed, or refused because there were too many or the relay drains." },
    Row { name: "supernode_retries_total", label: "", values: Counter(|r| one(r.sum(|t| t.retries))),
        help: "Addresses asked to prove themselves by a Retry packet." },
    Row { name: "supernode_strangers_total", label: "outcome",
        values: Counter(|r| vec![
            ("answered".into(), r.sum(|t| t.strangers_answered)), ("dropped".into(), r.sum(|t| t.strangers_dropped))]),
        help: "Packets of no connection that were told the version of QUIC or turned away, or dropped because as many had been." },
    Row { name: "supernode_unproven_withheld_total", label: "", values: Counter(|r| one(r.sum(|t| t.unproven_withheld))),
        help: "Packets not sent to an address that had proven nothing, which would have got more than three times what came from it." },
    Row { name: "supernode_crumbs_dropped_total", label: "", values: Counter(|r| one(r.sum(|t| t.crumbs_dropped))),
        help: "Packets dropped because their client sends its streams in pieces of a few bytes, or packets that take long to read." },
    Row { name: "supernode_held_for_mail_total", label: "", values: Counter(|r| one(r.sum(|t| t.held_for_mail))),
        help: "Times that a client's streams were left unread for a moment because another shard had much mail to take, or much waited \
               for clients to read." },
    Row { name: "supernode_refused_by_prefix_total", label: "", values: Counter(|r| one(r.sum(|t| t.refused_by_prefix))),
        help: "Handshakes refused because the client's network had as many as it may, or as many connections." },
    Row { name: "supernode_hook_questions_total", label: "outcome", values: Counter(hook_outcomes),
        help: "Questions to the admission hook by what came of them: yes and no are answers, all others are none." },
    Row { name: "supernode_hook_questions_waiting", label: "", values: Gauge(|r| one(r.hook_waiting as f64)),
        help: "Questions that wait for the admission hook to be asked." },
    Row { name: "supernode_pushes_total", label: "outcome", values: Counter(push_outcomes),
        help: "Times that somebody was to be woken by a push service, by what came of it; too_soon are rings that woke nobody, as somebody \
               had a moment ago." },
    Row { name: "supernode_push_endpoints", label: "", values: Gauge(|r| one(r.population.push_endpoints as f64)),
        help: "Places where devices can be woken while nobody of their person is online." },
    Row { name: "supernode_tls_certificate_expiry_seconds", label: "", values: Gauge(|r| one(r.certificate_left_s as f64)),
        help: "Seconds until the relay's certificate runs out, below zero once it has." },
    Row { name: "supernode_sessions", label: "", values: Gauge(|r| one(r.sum(|t| t.sessions))),
        help: "Authenticated sessions now." },
    Row { name: "supernode_sessions_by_link", label: "link", values: Gauge(links),
        help: "Sessions by how they travel: native over UDP, over TCP, or a page's by WebTransport. As of the last look at all of \
               them, of which there are a thousand a second." },
    Row { name: "supernode_sessions_by_rung", label: "rung", values: Gauge(rungs),
        help: "Sessions now by rung of the ladder; all but full are sent less than they asked for, as their path takes no more." },
    Row { name: "supernode_ladder_steps_down_total", label: "rung", values: Counter(|r| steps(r, |l| &l.ladder_down)),
        help: "Times that a subscriber's path was too narrow, by the rung of the ladder that it was put on." },
    Row { name: "supernode_ladder_steps_up_total", label: "rung", values: Counter(|r| steps(r, |l| &l.ladder_up)),
        help: "Times that a subscriber's path was tried with more, by the rung of the ladder that it was put on." },
    Row { name: "supernode_sessions_closed_total", label: "code", values: Counter(closed),
        help: "Sessions that ended, by close code." },
    Row { name: "supernode_desynchronised_total", label: "", values: Counter(|r| one(r.sum(|t| t.desynchronised))),
        help: "Times that control mail between shards was lost and the sessions had to be closed." },
    Row { name: "supernode_mls_withheld_total", label: "", values: Counter(|r| one(r.sum(|t| t.mls_withheld))),
        help: "Messages of rooms' mailboxes that members with too much to read were to be sent later." },
    Row { name: "supernode_rtt_seconds", label: "",
        values: Values::Histogram { scale: MICROS, largest: 1 << 22, read: |r| r.spread(|d| &d.rtt_us) },
        help: "Round-trip times to clients; each session is sampled at most once a second." },

    Row { name: "supernode_path_bits_per_second", label: "",
        values: Values::Histogram { scale: 0.001, largest: 1 << 22, read: |r| r.spread(|d| &d.path_kbits) },
        help: "Estimates of what clients' paths take, in bits a second; sampled likewise, where there is an estimate." },

    // ---- people, rings, rooms
    Row { name: "supernode_people", label: "", values: Gauge(|r| one(r.population.people as f64)),
        help: "Identities that have a device online, a watcher or a push endpoint now." },
    Row { name: "supernode_watches", label: "", values: Gauge(|r| one(r.sum(|t| t.watches))),
        help: "Watches of somebody's presence now." },
    Row { name: "supernode_rings", label: "", values: Gauge(|r| one(r.population.rings as f64)),
        help: "Rings that are not settled now." },
    Row { name: "supernode_rings_started_total", label: "", values: Counter(|r| one(r.total(|s| s.detail.counts.rings_started) as f64)),
        help: "Rings that reached at least one device." },
    Row { name: "supernode_rings_settled_total", label: "outcome",
        values: Counter(|r| r.table(&RING_OUTCOMES[1..], |s| &s.detail.counts.rings[1..])),
        help: "Rings that ended, by outcome." },
    Row { name: "supernode_rooms", label: "", values: Gauge(|r| one(r.population.rooms as f64)),
        help: "Rooms with at least one member now." },
    Row { name: "supernode_members", label: "", values: Gauge(|r| one(r.sum(|t| t.members))),
        help: "Memberships of rooms now." },
    Row { name: "supernode_commits_rejected_total", label: "", values: Counter(|r| one(r.count(|l| l.commits_rejected))),
        help: "Commits of groups that most of the room's members rejected, so that their epoch was opened again." },
    Row { name: "supernode_mailboxes_bytes", label: "", values: Gauge(|r| one(r.population.mailboxes_bytes as f64)),
        help: "Bytes of group messages that rooms keep for members that were away." },
    Row { name: "supernode_tracks", label: "", values: Gauge(|r| one(r.population.tracks as f64)),
        help: "Published tracks now." },
    Row { name: "supernode_subscriptions", label: "", values: Gauge(|r| one(r.sum(|t| t.subscriptions))),
        help: "Subscriptions to tracks now." },

    // ---- what was refused
    Row { name: "supernode_requests_refused_total", label: "reason",
        values: Counter(|r| r.table(REFUSAL_REASONS, |s| &s.detail.counts.refusals)),
        help: "Control requests that were refused, by reason." },
    Row { name: "supernode_limit_hits_total", label: "limit", values: Counter(limit_hits),
        help: "Times that a limit bit, by its key in [limits]; ingest_rate is ingest_objects_per_second_max or \
               ingest_bytes_per_second_max, first_packets is eight for each handshake that \
               handshakes_per_second_max lets begin, key_packages_max is fixed, and other is what has no name." },

    // ---- objects: the drop ledger
    Row { name: "supernode_objects_in_total", label: "", values: Counter(|r| one(r.count(|l| l.objects_in))),
        help: "Objects that publishers sent and that were let in." },
    Row { name: "supernode_objects_refused_total", label: "reason",
        values: Counter(|r| RefuseReason::ALL.iter().map(|reason| (reason.label().into(), r.count(|l| l.refused[*reason as usize]))).collect()),
        help: "Objects turned away before they had subscribers, by reason; not part of the drop ledger." },
    Row { name: "supernode_objects_offered_total", label: "", values: Counter(|r| one(r.count(|l| l.offered))),
        help: "Object and subscriber pairs: always delivered + dropped + queued." },
    Row { name: "supernode_objects_delivered_total", label: "", values: Counter(|r| one(r.count(|l| l.delivered))),
        help: "Offered objects handed to the subscriber's connection in full." },
    Row { name: "supernode_objects_dropped_total", label: "reason",
        values: Counter(|r| DropReason::ALL.iter().map(|reason| (reason.label().into(), r.count(|l| l.dropped[*reason as usize]))).collect()),
        help: "Offered objects that did not reach the subscriber, by reason; the ladder's rungs are reasons." },
    Row { name: "supernode_objects_queued", label: "", values: Gauge(|r| one(r.count(Ledger::queued))),
        help: "Offered objects that wait for the subscriber's connection now." },
    Row { name: "supernode_queues_bytes", label: "", values: Gauge(|r| one(r.total(|s| s.detail.ledger.queued_bytes) as f64)),
        help: "Bytes that wait in all queues now, each object with the packet that it keeps." },
    Row { name: "supernode_queue_oldest_seconds", label: "", values: Gauge(|r| one(r.most(|t| t.queue_oldest_us) / MICROS)),
        help: "Longest that an object was seen waiting for a subscriber's connection in the last second." },
    Row { name: "supernode_queue_wait_max_seconds", label: "", values: Gauge(|r| one(longest_wait_s(r))),
        help: "The longest that any object of media has waited for its subscriber's connection and was then sent." },
    Row { name: "supernode_late_joiners_total", label: "", values: Counter(|r| one(r.count(|l| l.late_joiners))),
        help: "Subscriptions that were sent the newest group of their track at once." },
    Row { name: "supernode_group_cache_bytes", label: "", values: Gauge(|r| one(r.count(|l| l.cached_bytes))),
        help: "Bytes of newest groups that are kept for those who come late, with what it takes to keep them." },
    Row { name: "supernode_groups_outgrown_total", label: "", values: Counter(|r| one(r.count(|l| l.groups_outgrown))),
        help: "Newest groups that were not kept because they outgrew a bound: who comes late waits for a key frame." },
    Row { name: "supernode_datagrams_forwarded_total", label: "", values: Counter(|r| one(r.count(|l| l.delivered_datagrams))),
        help: "Delivered objects that went in QUIC DATAGRAM frames." },
    Row { name: "supernode_datagrams_recalled_total", label: "", values: Counter(|r| one(r.count(|l| l.recalled))),
        help: "Of them, taken back before QUIC had sent them: they had expired, or their subscriber was put out of a room." },
    Row { name: "supernode_media_objects_in_total", label: "class", values: Counter(|r| r.volume(|l| &l.media_in, |v| v.objects)),
        help: "Objects let in, by class." },
    Row { name: "supernode_media_bytes_in_total", label: "class", values: Counter(|r| r.volume(|l| &l.media_in, |v| v.bytes)),
        help: "Bytes of objects let in, by class." },
    Row { name: "supernode_media_objects_out_total", label: "class", values: Counter(|r| r.volume(|l| &l.media_out, |v| v.objects)),
        help: "Objects delivered, by class." },
    Row { name: "supernode_media_bytes_out_total", label: "class", values: Counter(|r| r.volume(|l| &l.media_out, |v| v.bytes)),
        help: "Bytes written for subscribers, by class." },
    Row { name: "supernode_residence_seconds", label: "class",
        values: Values::Histogram { scale: MICROS, largest: 1 << 20, read: residence },
        help: "How long delivered objects stayed in the relay, from their arrival to the hand-over of the turn's packets to the kernel, by class." },
];

impl Reading {
    fn sum(&self, read: impl Fn(&Tally) -> u64) -> f64 {
        self.total(|shard| read(&shard.tally)) as f64
    }

    fn count(&self, read: impl Fn(&Ledger) -> u64) -> f64 {
        self.total(|shard| read(&shard.ledger)) as f64
    }

    fn least(&self, read: impl Fn(&Tally) -> u64) -> f64 {
        self.shards.iter().map(|shard| read(&shard.tally)).min().unwrap_or(0) as f64
    }

    fn most(&self, read: impl Fn(&Tally) -> u64) -> f64 {
        self.shards.iter().map(|shard| read(&shard.tally)).max().unwrap_or(0) as f64
    }

    fn by_shard(&self, read: impl Fn(&ShardReading) -> f64) -> Samples<f64> {
        self.shards.iter().enumerate().map(|(index, shard)| (index.to_string().into(), read(shard))).collect()
    }

    /// Counts by place in a table of names.
    fn table(&self, names: &'static [&'static str], read: impl Fn(&ShardReading) -> &[u64]) -> Samples<f64> {
        let total = |place: usize| self.total(|shard| read(shard)[place]) as f64;
        names.iter().enumerate().map(|(place, name)| ((*name).into(), total(place))).collect()
    }

    fn volume(
        &self,
        side: impl Fn(&Ledger) -> &[Volume; CLASSES.len()],
        read: impl Fn(&Volume) -> u64,
    ) -> Samples<f64> {
        let total = |class: usize| self.total(|shard| read(&side(&shard.detail.ledger)[class])) as f64;
        CLASSES.iter().enumerate().map(|(class, name)| ((*name).into(), total(class))).collect()
    }

    fn spread(&self, read: impl Fn(&Distributions) -> &Histogram) -> Samples<Histogram> {
        vec![("".into(), self.merged(|shard| read(&shard.detail.distributions)))]
    }
}

fn segments(reading: &Reading) -> Samples<f64> {
    let most = |read: fn(Offload) -> usize| reading.offload.map_or(1, read) as f64;
    vec![(IN.into(), most(|offload| offload.segments_in_max)), (OUT.into(), reading.segments_out_max() as f64)]
}

fn one(value: f64) -> Samples<f64> {
    vec![("".into(), value)]
}

/// The tally has a place for each code of the table and a last one for all others.
fn closed(reading: &Reading) -> Samples<f64> {
    let names = CloseCode::ALL.iter().map(|row| (row.name, row.code as usize)).chain([("OTHER", CODES - 1)]);
    names.map(|(name, place)| (name.into(), reading.sum(|tally| tally.closed[place]))).collect()
}

fn of_cluster(reading: &Reading, read: fn(&ClusterReading) -> f64) -> Samples<f64> {
    reading.cluster.as_ref().map(|cluster| (Cow::Borrowed(""), read(cluster))).into_iter().collect()
}

/// The sum over all shards of one figure of their links.
type SumOfLinks<'a> = &'a dyn Fn(fn(&NodeFigures) -> u64) -> f64;

/// What is counted of the links to other nodes, where there is a cluster.
fn of_links(reading: &Reading, read: fn(SumOfLinks<'_>) -> Samples<f64>) -> Samples<f64> {
    let shards = || reading.shards.iter().filter_map(|shard| shard.detail.distributions.nodes.as_ref());
    if reading.cluster.is_none() {
        return Vec::new();
    }
    read(&|figure| shards().map(figure).sum::<u64>() as f64)
}

/// What is counted of objects to and from other nodes, where there is a cluster.
fn of_nodes(reading: &Reading, read: fn(&NodeCounts) -> Samples<u64>) -> Samples<f64> {
    let mut sum = NodeCounts::default();
    reading.shards.iter().for_each(|shard| sum.add(&shard.ledger.nodes));
    let read = reading.cluster.as_ref().map(|_| read(&sum)).unwrap_or_default();
    read.into_iter().map(|(label, count)| (label, count as f64)).collect()
}

fn bus_lost(reading: &Reading) -> Samples<f64> {
    let lost = reading.cluster.iter().flat_map(|cluster| Loss::ALL.iter().zip(cluster.bus.lost));
    lost.map(|(loss, count)| (loss.label().into(), count as f64)).collect()
}

fn push_outcomes(reading: &Reading) -> Samples<f64> {
    let counts = push::Outcome::ALL.iter().zip(reading.push_outcomes);
    let too_soon = reading.total(|shard| shard.detail.counts.pushes_too_soon);
    let sent = counts.map(|(outcome, count)| (outcome.label().into(), count as f64));
    sent.chain(std::iter::once(("too_soon".into(), too_soon as f64))).collect()
}

fn hook_outcomes(reading: &Reading) -> Samples<f64> {
    let counts = Outcome::ALL.iter().zip(reading.hook_outcomes);
    counts.map(|(outcome, count)| (outcome.label().into(), count as f64)).collect()
}

fn residence(reading: &Reading) -> Samples<Histogram> {
    let spread = |class: usize| reading.merged(|shard| &shard.detail.ledger.residence_us[class]);
    CLASSES.iter().enumerate().map(|(class, name)| ((*name).into(), spread(class))).collect()
}

fn links(reading: &Reading) -> Samples<f64> {
    let sum = |read: fn(&Tally) -> u64| reading.sum(read);
    vec![
        ("native".into(), sum(|tally| tally.sessions_native)),
        ("tcp".into(), sum(|tally| tally.sessions_over_tcp)),
        ("page".into(), sum(|tally| tally.sessions_of_pages)),
    ]
}

fn rungs(reading: &Reading) -> Samples<f64> {
    by_rung(|rung| reading.total(|shard| shard.detail.distributions.holdings.rungs[rung]))
}

fn steps(reading: &Reading, read: fn(&Ledger) -> &[u64; RUNGS]) -> Samples<f64> {
    by_rung(|rung| reading.total(|shard| read(&shard.ledger)[rung]))
}

fn by_rung(read: impl Fn(usize) -> u64) -> Samples<f64> {
    (0..RUNGS).map(|rung| (rung_name(rung).into(), read(rung) as f64)).collect()
}

/// What a rung is called: its name on the wire, such as `RUNG_AUDIO_ONLY`, without what all of them share.
pub(in crate::control) fn rung_name(rung: usize) -> String {
    let name = Rung::try_from(rung as i32).map_or("unknown", |rung| rung.as_str_name());
    name.trim_start_matches("RUNG_").to_lowercase()
}

fn longest_wait_s(reading: &Reading) -> f64 {
    let longest_us = reading.shards.iter().map(|shard| shard.ledger.longest_wait_us).max().unwrap_or(0);
    longest_us as f64 / MICROS
}

/// Limits that turn requests away, and those that do it elsewhere: at the door, by closing, by dropping.
pub(in crate::control) fn limit_hits(reading: &Reading) -> Samples<f64> {
    let closed = |code: CloseCode| reading.sum(|tally| tally.closed[code.place()]);
    let mut hits = reading.table(LIMITS, |shard| &shard.detail.counts.limits);
    hits.extend([
        ("ingest_rate".into(), reading.count(|l| l.refused[RefuseReason::RateExceeded as usize])),
        ("queue_bytes_max".into(), reading.count(|l| l.dropped[DropReason::QueueFull as usize])),
        ("relay_queue_bytes_max".into(), reading.count(|l| l.dropped[DropReason::RelayQueueFull as usize])),
        ("hello_timeout_ms".into(), closed(CloseCode::HELLO_TIMEOUT)),
        ("control_backlog_bytes_max".into(), closed(CloseCode::CONTROL_BACKLOG)),
        ("handshakes_before_retry".into(), reading.sum(|tally| tally.over_before_retry)),
        ("handshakes_max".into(), reading.sum(|tally| tally.over_handshakes)),
        ("handshakes_per_second_max".into(), reading.sum(|tally| tally.over_pace)),
        ("first_packets".into(), reading.sum(|tally| tally.first_packets_unread)),
        ("connections_per_prefix_max".into(), reading.sum(|tally| tally.over_prefix_connections)),
        ("handshakes_per_prefix_per_second_max".into(), reading.sum(|tally| tally.over_prefix_handshakes)),
    ]);
    hits
}

/// The directory's own descriptor is not counted.
fn open_files() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0, |open| open.count().saturating_sub(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::keys;

    #[test]
    fn a_limit_that_bites_has_the_name_of_its_key_or_is_explained() {
        let help = ROWS.iter().find(|row| row.name == "supernode_limit_hits_total").expect("a row").help;
        let reading = Reading { shards: vec![ShardReading::default()], ..Reading::default() };
        for (name, _) in limit_hits(&reading) {
            let is_key = keys::find(&format!("limits.{name}")).is_some();
            assert!(is_key || help.contains(&format!("{name} is")), "{name} is no key and not explained");
        }
    }
}
