//! The admin port answers this machine only, and its metrics are well formed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::{close::CloseCode, control::TrackKind};
use supernode_server::{
    control::{
        admin::{self, Admin, AdminError},
        certificate::Certificate,
        cluster::ClusterReading,
        dashboard::Dashboard,
        marks::{Event, Marks},
        metrics::{Metrics, Read, Reading, ShardReading},
        process::Usage,
        reload::Shown,
        state_dir::StateDir,
        status::{Phase, Status, StatusSource},
        tls,
    },
    core::{
        Admit, Applicant, Grant,
        counts::LIMITS,
        directory::Population,
        ledger::{CLASSES, DropReason, Ledger},
        limits::Limits,
    },
    shard::{
        self, Offload, Onward, SHARDS_MAX,
        counters::{Detail, Tally},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn shard(scale: u64) -> ShardReading {
    let mut tally = Tally {
        datagrams_in: scale,
        datagrams_out: 2 * scale,
        receive_buffer_bytes: 1000 * scale,
        send_buffer_bytes: 5000 - 1000 * scale,
        sessions: 1,
        handshakes_refused: 2 * scale,
        over_handshakes: scale,
        over_prefix_connections: scale,
        over_prefix_handshakes: 3 * scale,
        queue_oldest_us: 1000 * scale,
        ..Tally::default()
    };
    tally.closed[CloseCode::REPLACED.place()] = scale;
    *tally.closed.last_mut().expect("a place for unknown codes") = 1;
    let mut ledger = Ledger { offered: 10 * scale, delivered: 7 * scale, ..Ledger::default() };
    ledger.drop(DropReason::Expired, scale);
    ledger.drop(DropReason::Gone, scale);
    let mut detail = Detail::default();
    detail.counts.limits[0] = scale;
    let arrived = Instant::now();
    for _ in 0..scale {
        detail.ledger.let_in(TrackKind::Video, 1, 1000);
        detail.ledger.write(TrackKind::Video, 1000);
        detail.ledger.deliver(TrackKind::Video, arrived);
    }
    detail.ledger.turn_ended(arrived + Duration::from_micros(700));
    ShardReading { tally, ledger, detail }
}

fn read() -> Read {
    let population = Population { rooms: 5, ..Population::default() };
    Arc::new(move || Reading {
        shards: vec![shard(1), shard(3)],
        population,
        draining: true,
        certificate_left_s: 86_400,
        offload: Some(Offload { segments_out_max: 64, segments_in_max: 1, steering: true }),
        log_lines_left_out: [7, 8],
        push_outcomes: std::array::from_fn(|place| u64::from(place == 0)),
        hook_outcomes: std::array::from_fn(|place| u64::from(place == 0)),
        hook_waiting: 2,
        process: Usage::now(),
        cluster: Some(ClusterReading { nodes: 3, life_held: true, nats_connected: true, ..ClusterReading::default() }),
        ..Reading::default()
    })
}

fn marks() -> Marks {
    let marks = Marks::default();
    marks.note(Event::Started);
    marks.drains(Duration::from_secs(60));
    marks
}

fn metrics() -> Metrics {
    Metrics::new(read()).expect("a consistent table")
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
            let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let whole = parts.filter(|whole| families.get(*whole).is_some_and(|family| family.kind == ["histogram"]));
            let (name, labels) = whole.map_or((name, labels.to_owned()), |whole| (whole, format!("{name} {labels}")));
            let family = families.get_mut(name).expect("HELP and TYPE come before the sample");
            let value = value.parse().expect("a number");
            assert_eq!(family.samples.insert(labels, value), None, "{sample} is there twice");
        }
    }
    families
}

#[test]
fn every_metric_is_there_once_with_help_and_type() {
    let families = parse(&metrics().text().expect("text"));
    let table: Vec<_> = Metrics::table().collect();
    assert_eq!(families.len(), table.len());
    for metric in table {
        let name = metric.name;
        let family = &families[name];
        assert_eq!(family.help, [metric.help], "{name}");
        assert_eq!(family.kind, [metric.kind], "{name}");
        assert_eq!(metric.kind == "counter", name.ends_with("_total"), "{name} is a {}", metric.kind);
        assert!(!family.samples.is_empty(), "{name} has no sample");
    }
}

#[test]
fn what_the_kernel_does_for_the_sockets_is_told() {
    let families = parse(&metrics().text().expect("text"));
    let segments = &families["supernode_udp_segments_max"].samples;
    assert_eq!((segments["direction=\"out\""], segments["direction=\"in\""]), (64.0, 1.0));
    assert_eq!(families["supernode_udp_steering"].samples[""], 1.0);
}

#[test]
fn only_a_node_of_a_cluster_says_something_of_one() {
    let families = parse(&metrics().text().expect("text"));
    let value = |name: &str| families[name].samples[""];
    assert_eq!((value("supernode_cluster_nodes"), value("supernode_cluster_life_held")), (3.0, 1.0));
    assert_eq!((value("supernode_cluster_nats_connected"), value("supernode_cluster_homes")), (1.0, 0.0));
    let alone = Metrics::new(Arc::new(Reading::default)).expect("a consistent table").text().expect("text");
    assert!(!alone.contains("supernode_cluster_"), "{alone}");
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
fn what_is_seldom_told_is_added_up_too() {
    let families = parse(&metrics().text().expect("text"));
    let value = |name: &str, labels: &str| families[name].samples[labels];
    assert_eq!(value("supernode_draining", ""), 1.0);
    assert_eq!(value("supernode_queue_oldest_seconds", ""), 0.003, "the worst of all shards");
    assert_eq!(value("supernode_limit_hits_total", &format!("limit=\"{}\"", LIMITS[0])), 4.0);
    assert_eq!(value("supernode_limit_hits_total", "limit=\"handshakes_max\""), 4.0, "a drain refuses too");
    assert_eq!(value("supernode_limit_hits_total", "limit=\"connections_per_prefix_max\""), 4.0);
    assert_eq!(value("supernode_limit_hits_total", "limit=\"handshakes_per_prefix_per_second_max\""), 12.0);
    assert_eq!(value("supernode_media_objects_in_total", "class=\"video\""), 4.0);
    assert_eq!(value("supernode_media_bytes_out_total", "class=\"video\""), 4000.0);
    assert_eq!(families["supernode_media_bytes_out_total"].samples.len(), CLASSES.len());
    let residence = "supernode_residence_seconds";
    assert_eq!(value(residence, "supernode_residence_seconds_count class=\"video\""), 4.0);
    assert_eq!(value(residence, "supernode_residence_seconds_sum class=\"video\""), 0.0028);
    assert_eq!(value(residence, "supernode_residence_seconds_bucket class=\"video\",le=\"0.000512\""), 0.0);
    assert_eq!(value(residence, "supernode_residence_seconds_bucket class=\"video\",le=\"0.000768\""), 4.0);
    assert_eq!(value(residence, "supernode_residence_seconds_bucket class=\"video\",le=\"+Inf\""), 4.0);
}

#[test]
fn the_largest_relay_has_a_bounded_number_of_series_and_none_of_them_is_a_person_s() {
    let reading = Reading { shards: vec![shard(1); SHARDS_MAX], ..Reading::default() };
    let text = Metrics::new(Arc::new(move || reading.clone())).expect("a consistent table").text().expect("text");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!((400..1500).contains(&series), "{series} series");
    let labels = ["version", "direction", "shard", "outcome", "rung", "code", "reason", "limit", "class", "link", ""];
    for metric in Metrics::table() {
        assert!(labels.contains(&metric.label), "{}: is the label {} bounded?", metric.name, metric.label);
    }
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
        assert!(matches!(error, AdminError::NotLoopback { address: refused } if refused == address));
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

/// Lets nobody in.
struct Nobody;

impl Admit for Nobody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Err(CloseCode::NOT_ADMITTED)
    }
}

fn shards() -> shard::Running {
    let home = tempfile::tempdir().expect("a temporary directory");
    let keys = StateDir::create(home.path()).expect("made").keys_or_create().expect("made");
    shard::spawn(shard::Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        shards: 2,
        batch_window: Duration::ZERO,
        tls: tls::quic_server_config(&Certificate::self_signed(&keys).expect("a certificate"), None)
            .expect("a configuration"),
        pin: tls::relay_pin(&keys),
        reset_key: keys.reset_key,
        admission: Arc::new(Nobody),
        limits: Limits::default(),
        tcp: None,
        waking: None,
        node: None,
    })
    .expect("sockets")
}

#[tokio::test]
async fn metrics_health_and_status_are_served_and_nothing_else() {
    let listener = admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shards = shards();
    let admin = Admin {
        metrics: metrics(),
        dashboard: Dashboard::new(read(), marks(), None),
        status: StatusSource::of(&shards, Shown::default(), None, Duration::from_secs(60), None),
    };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));

    let answer = ask(address, "GET /metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(parse(body).len(), Metrics::table().count());

    for (path, code, word) in [("livez", 200, "ok"), ("healthz", 200, "ok"), ("readyz", 200, "ready")] {
        let answer = ask(address, &format!("GET /{path}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {code} ")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{word}\n")), "{answer}");
    }
    for (request, status) in
        [("GET /nothing", 404), ("GET /metrics/x", 404), ("POST /metrics", 405), ("DELETE /healthz", 405)]
    {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request}: {answer}");
    }
    let status: Status = status(address).await;
    assert_eq!((status.phase, status.shards, status.sessions), (Phase::Ready, 2, 0));
    assert_eq!((status.listen, status.pid), (shards.local_addr(), std::process::id()));

    shards.directory().start_draining();
    assert!(ask(address, "GET /readyz").await.starts_with("HTTP/1.0 503 "), "nobody is to be sent here any more");
    assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.0 200 "), "nobody is to end it");
    assert_eq!(self::status(address).await.phase, Phase::Draining);
    shards.handle().drain(&Onward::Elsewhere, Duration::ZERO, Duration::ZERO);
}

async fn status(address: SocketAddr) -> Status {
    let answer = ask(address, "GET /status.json").await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("a status")
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_shows_what_the_shards_counted() {
    let listener = admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let admin = Admin {
        metrics: metrics(),
        dashboard: Dashboard::new(read(), marks(), None),
        status: StatusSource::of(&shards(), Shown::default(), None, Duration::from_secs(60), None),
    };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));

    for (path, kind) in [
        ("", "text/html"),
        ("dashboard.css", "text/css"),
        ("dashboard.js", "text/javascript"),
        ("charts.js", "text/javascript"),
    ] {
        let answer = ask(address, &format!("GET /{path}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.0 200 ") && head.contains(&format!("content-type: {kind}; ")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'; "), "{head}");
        assert!(!head.contains("set-cookie"), "{head}");
        let elsewhere = body.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !elsewhere.contains("http://") && !elsewhere.contains("https://") && !elsewhere.contains("//cdn"),
            "{path}"
        );
        // The policy would silently ignore them.
        assert!(!body.contains(" style=") && !body.contains(" onclick=") && !body.contains("<style"), "{path}");
    }

    for (path, code) in [("handbook", 200), ("handbook/CONFIG", 200), ("handbook/..%2fCargo.toml", 404)] {
        let answer = ask(address, &format!("GET /{path}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {code} ")), "{path}: {answer:.100}");
    }

    let view = |after: &'static str| async move {
        let answer = ask(address, &format!("GET /dashboard.json{after}")).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str::<serde_json::Value>(body).expect("JSON")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = view("").await;
    while seen["samples"].as_array().is_none_or(Vec::is_empty) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = view("").await;
    }
    assert_eq!(seen["now"]["rooms"], 5);
    assert_eq!(seen["draining"], true);
    let alerts: Vec<_> = seen["warnings"].as_array().expect("a list").iter().map(|row| &row["alert"]).collect();
    assert_eq!(alerts, ["SupernodeDraining", "SupernodeCertificateExpires", "SupernodeBuffersClamped"]);
    let marks: Vec<_> = seen["marks"].as_array().expect("a list").iter().map(|mark| &mark["what"]).collect();
    assert_eq!(marks, ["started", "draining"]);
    assert_eq!(seen["hook"], serde_json::json!({ "answered": 0, "unanswered": 0, "waiting": 2 }), "asked long ago");
    let numbers = |view: &serde_json::Value| -> Vec<u64> {
        let samples = view["samples"].as_array().expect("a list").iter();
        samples.map(|sample| sample["number"].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers(&seen)[0], 0);
    let later = numbers(&view("?after=0").await);
    assert!(later.iter().all(|number| *number > 0), "only what the page has not seen: {later:?}");
    let answer = ask(address, "GET /what-i-see.json").await;
    assert!(answer.contains("\"field\":\"network address\""), "{answer}");
}

#[tokio::test]
async fn a_page_of_somebody_else_cannot_read_the_port_through_a_name_of_its_own() {
    let listener = admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let admin = Admin {
        metrics: metrics(),
        dashboard: Dashboard::new(read(), marks(), None),
        status: StatusSource::of(&shards(), Shown::default(), None, Duration::from_secs(60), None),
    };
    tokio::spawn(admin::serve(listener, Arc::new(admin)));
    for (host, code) in [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:9464", 200), ("evil.example:9464", 403)] {
        let answer = ask(address, &format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\nX: ")).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {code} ")), "{host}: {answer}");
    }
}
