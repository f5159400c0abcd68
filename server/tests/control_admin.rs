//! The admin port answers this machine only, and its metrics are well formed.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use supernode_proto::close::CloseCode;
use supernode_server::{
    control::{
        admin::{self, AdminError},
        metrics::{Metrics, Reading},
    },
    core::{
        directory::Population,
        ledger::{DropReason, Ledger},
    },
    shard::counters::Tally,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn shard(scale: u64) -> (Tally, Ledger) {
    let mut tally = Tally {
        datagrams_in: scale,
        datagrams_out: 2 * scale,
        receive_buffer_bytes: 1000 * scale,
        send_buffer_bytes: 5000 - 1000 * scale,
        sessions: 1,
        ..Tally::default()
    };
    tally.closed[CloseCode::REPLACED.0 as usize] = scale;
    *tally.closed.last_mut().expect("a place for unknown codes") = 1;
    let mut ledger = Ledger { offered: 10 * scale, delivered: 7 * scale, ..Ledger::default() };
    ledger.drop(DropReason::Expired, scale);
    ledger.drop(DropReason::Gone, scale);
    (tally, ledger)
}

fn metrics() -> Metrics {
    let population = Population { rooms: 5, ..Population::default() };
    Metrics::new(Box::new(move || Reading { shards: vec![shard(1), shard(3)], population }))
        .expect("a consistent table")
}

#[derive(Default, Debug)]
struct Family {
    help: Vec<String>,
    kind: Vec<String>,
    samples: BTreeMap<String, f64>,
}

/// Reads the text format of Prometheus; panics on anything that is not of it.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a name and a text");
            families.entry(name.to_owned()).or_default().help.push(help.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a name and a kind");
            families.entry(name.to_owned()).or_default().kind.push(kind.to_owned());
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = sample.split_once('{').map_or((sample, ""), |(name, labels)| {
                (name, labels.strip_suffix('}').expect("labels end in a brace"))
            });
            let family = families.get_mut(name).expect("HELP and TYPE come before the sample");
            let value = value.parse().expect("a number");
            assert_eq!(family.samples.insert(labels.to_owned(), value), None, "{sample} is there twice");
        }
    }
    families
}

#[test]
fn every_metric_is_there_once_with_help_and_type() {
    let families = parse(&metrics().text().expect("text"));
    let table: Vec<_> = Metrics::table().collect();
    assert_eq!(families.len(), table.len());
    for (name, help) in table {
        let family = &families[name];
        assert_eq!(family.help, [help], "{name}");
        assert_eq!(family.kind.len(), 1, "{name}");
        assert_eq!(family.kind[0] == "counter", name.ends_with("_total"), "{name} is a {}", family.kind[0]);
        assert!(!family.samples.is_empty(), "{name} has no sample");
    }
}

#[test]
fn the_names_others_build_on_are_there() {
    let families = parse(&metrics().text().expect("text"));
    for name in [
        "supernode_datagrams_forwarded_total",
        "supernode_objects_offered_total",
        "supernode_objects_delivered_total",
        "supernode_objects_dropped_total",
        "supernode_objects_queued",
        "supernode_process_cpu_seconds_total",
        "supernode_sessions",
        "supernode_udp_datagrams_total",
        "supernode_udp_bytes_total",
        "supernode_udp_batches_total",
        "supernode_build_info",
        "supernode_udp_buffer_bytes",
        "supernode_shards",
    ] {
        assert!(families.contains_key(name), "{name}");
    }
}

#[test]
fn shards_are_added_up_and_the_ledger_balances() {
    let families = parse(&metrics().text().expect("text"));
    let value = |name: &str, labels: &str| families[name].samples[labels];
    assert_eq!(value("supernode_shards", ""), 2.0);
    assert_eq!(value("supernode_udp_datagrams_total", "direction=\"in\""), 4.0);
    assert_eq!(value("supernode_udp_datagrams_total", "direction=\"out\""), 8.0);
    assert_eq!(value("supernode_objects_dropped_total", "reason=\"expired\""), 4.0);
    assert_eq!(value("supernode_udp_buffer_bytes", "direction=\"in\""), 1000.0, "the smallest of all shards");
    assert_eq!(value("supernode_udp_buffer_bytes", "direction=\"out\""), 2000.0, "the smallest of all shards");
    assert_eq!(value("supernode_rooms", ""), 5.0);
    assert_eq!(value("supernode_sessions_closed_total", "code=\"REPLACED\""), 4.0);
    assert_eq!(value("supernode_sessions_closed_total", "code=\"OTHER\""), 2.0);
    assert_eq!(families["supernode_sessions_closed_total"].samples.len(), CloseCode::ALL.len() + 1);
    assert_eq!(families["supernode_objects_dropped_total"].samples.len(), DropReason::COUNT, "zeros too");
    assert_eq!(value("supernode_objects_queued", ""), 4.0);
    let dropped: f64 = families["supernode_objects_dropped_total"].samples.values().sum();
    assert_eq!(
        value("supernode_objects_offered_total", ""),
        value("supernode_objects_delivered_total", "") + dropped + value("supernode_objects_queued", "")
    );
}

#[test]
fn cpu_time_is_the_process_s_own_and_moves() {
    let cpu_s = || parse(&metrics().text().expect("text"))["supernode_process_cpu_seconds_total"].samples[""];
    let before = cpu_s();
    assert!(before > 0.0);
    while cpu_s() - before < 0.02 {}
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
        let address: SocketAddr = address.parse().expect("an address");
        let error = admin::bind(address).await.expect_err("not loopback");
        assert!(matches!(error, AdminError::NotLoopback(refused) if refused == address));
        assert!(error.to_string().contains("must be on a loopback address"), "{error}");
    }
    let taken = admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let again = admin::bind(taken.local_addr().expect("bound")).await.expect_err("taken");
    assert!(matches!(again, AdminError::Bind { .. }));
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the admin port");
    stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn metrics_and_health_are_served_and_nothing_else() {
    let listener = admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(admin::serve(listener, Arc::new(metrics())));

    let answer = ask(address, "GET /metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(parse(body).len(), Metrics::table().count());

    assert!(ask(address, "GET /healthz").await.ends_with("\r\n\r\nok\n"));
    for (request, status) in [("GET /", 404), ("GET /metrics/x", 404), ("POST /metrics", 405), ("DELETE /healthz", 405)]
    {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request}: {answer}");
    }
}
