//! The page that shows an operator at a glance how the relay is: no outside assets, no cookies, nothing that names
//! anybody. It reads what the metrics read.

mod handbook;
mod history;
mod warnings;

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

use self::warnings::{Minute, is_harmless};
pub use self::{
    history::{History, INTERVAL, SAMPLES_MAX, Sample},
    warnings::{Level, Warning, warnings},
};
use super::{
    hook::Outcome,
    marks::{Mark, Marks},
    metrics::{Read, Reading, limit_hits, rung_name},
    page::Served,
    serve::unix_now_ms,
    status::PageTold,
    what_i_see::LEDGER,
};
use crate::core::{
    ladder::RUNGS,
    ledger::{CLASSES, DropReason},
};

/// Nothing is loaded but from here, nothing is embedded, nothing is sent away.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's data.
pub struct Dashboard {
    read: Read,
    marks: Marks,
    page: Option<(String, Served)>,
    started: Instant,
    history: Mutex<History>,
}

impl Dashboard {
    /// A page over what `read` gives, with these marks on it, of a relay that serves this page to people, if any.
    pub fn new(read: Read, marks: Marks, page: Option<(String, Served)>) -> Self {
        Self { read, marks, page, started: Instant::now(), history: Mutex::default() }
    }

    /// Watches the relay, until the task is dropped.
    pub async fn watch(&self) -> Infallible {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let reading = (self.read)();
            self.history.lock().unwrap_or_else(PoisonError::into_inner).take(reading, Instant::now(), unix_now_ms());
        }
    }

    /// What the page shows, with the samples that it has not seen yet.
    pub fn view(&self, after: Option<u64>) -> View {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = Reading::default();
        let (before, now) = history.minute().unwrap_or((&nothing, &nothing));
        View {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            draining: now.draining,
            marks: self.marks.all(),
            page: self.page.as_ref().map(PageTold::of),
            hook: Hook::of(before, now),
            certificate_left_s: now.certificate_left_s,
            interval_s: INTERVAL.as_secs(),
            samples_max: SAMPLES_MAX,
            classes: CLASSES,
            rungs: (0..RUNGS).map(rung_name).collect(),
            now: Now::of(now),
            minute: Minute::of(before, now),
            warnings: warnings(before, now, history.last()),
            drops: drops(before, now),
            limits: limits(before, now),
            closed: closed(now),
            shards: now.shards.iter().map(|shard| shard.tally.connections).collect(),
            samples: history.since(after).cloned().collect(),
        }
    }
}

/// Routes of the page; `of` finds it in the state of the admin port.
pub fn router<S: Clone + Send + Sync + 'static>(of: fn(&S) -> &Dashboard) -> Router<S> {
    let view =
        move |State(state): State<S>, Query(asked): Query<Asked>| async move { Json(of(&state).view(asked.after)) };
    Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", include_str!("page.html"))))
        .route("/dashboard.css", get(async || asset("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/dashboard.js", get(async || asset("text/javascript; charset=utf-8", include_str!("page.js"))))
        .route("/charts.js", get(async || asset("text/javascript; charset=utf-8", include_str!("charts.js"))))
        .route("/handbook", get(async || handbook_page("OPERATING")))
        .route("/handbook/{document}", get(async |Path(name): Path<String>| handbook_page(&name)))
        .route("/dashboard.json", get(view))
        .route("/what-i-see.json", get(async || Json(LEDGER.iter().map(Seen::of).collect::<Vec<_>>())))
}

#[derive(Deserialize)]
struct Asked {
    /// The last sample that the page has.
    after: Option<u64>,
}

/// What the page is told every two seconds.
#[derive(Debug, Serialize)]
pub struct View {
    version: &'static str,
    uptime_s: u64,
    draining: bool,
    /// What happened to the relay itself.
    marks: Vec<Mark>,
    /// The page that people are served, if they are.
    page: Option<PageTold>,
    /// The admission hook, if it was ever asked.
    hook: Option<Hook>,
    /// Seconds until the certificate runs out, below zero once it has.
    certificate_left_s: i64,
    interval_s: u64,
    samples_max: usize,
    classes: [&'static str; CLASSES.len()],
    rungs: Vec<String>,
    now: Now,
    minute: Minute,
    warnings: Vec<Warning>,
    drops: Vec<Drops>,
    limits: Vec<Hits>,
    closed: Vec<Hits>,
    /// Connections of each shard.
    shards: Vec<u64>,
    samples: Vec<Sample>,
}

/// What there is now.
#[derive(Debug, Serialize)]
struct Now {
    connections: u64,
    /// Connections to the TCP port.
    over_tcp: u64,
    sessions: u64,
    /// Of them those of pages in browsers, and those over TCP.
    sessions_of_pages: u64,
    sessions_over_tcp: u64,
    people: u64,
    watches: u64,
    rings: u64,
    rooms: u64,
    members: u64,
    tracks: u64,
    subscriptions: u64,
    delivered: u64,
    dropped: u64,
    queued: u64,
}

/// What came of the questions to the admission hook in the last minute.
#[derive(Debug, Serialize)]
struct Hook {
    answered: u64,
    unanswered: u64,
    /// Those that wait now.
    waiting: u64,
}

/// Objects that did not reach a subscriber, for one reason.
#[derive(Debug, Serialize)]
struct Drops {
    reason: &'static str,
    sentence: &'static str,
    /// Whether somebody asked for it, or the ladder left it out so that the rest arrives.
    meant: bool,
    total: u64,
    last_minute: u64,
}

/// How often something happened.
#[derive(Debug, Serialize)]
struct Hits {
    name: String,
    total: u64,
    last_minute: u64,
}

/// A row of the ledger of metadata.
#[derive(Debug, Serialize)]
struct Seen {
    field: &'static str,
    sees: &'static str,
    why: &'static str,
    kept: &'static str,
}

impl Now {
    fn of(reading: &Reading) -> Self {
        let population = &reading.population;
        Self {
            connections: reading.total(|shard| shard.tally.connections),
            over_tcp: reading.tcp.links,
            sessions: reading.total(|shard| shard.tally.sessions),
            sessions_of_pages: reading.total(|shard| shard.tally.sessions_of_pages),
            sessions_over_tcp: reading.total(|shard| shard.tally.sessions_over_tcp),
            people: population.people,
            watches: reading.total(|shard| shard.tally.watches),
            rings: population.rings,
            rooms: population.rooms,
            members: reading.total(|shard| shard.tally.members),
            tracks: population.tracks,
            subscriptions: reading.total(|shard| shard.tally.subscriptions),
            delivered: reading.total(|shard| shard.ledger.delivered),
            dropped: reading.total(|shard| shard.ledger.dropped.iter().sum()),
            queued: reading.total(|shard| shard.ledger.queued()),
        }
    }
}

impl Hook {
    fn of(before: &Reading, now: &Reading) -> Option<Self> {
        let (answered, unanswered) = Outcome::grown(&before.hook_outcomes, &now.hook_outcomes);
        let asked = now.hook_outcomes.iter().sum::<u64>() > 0;
        asked.then_some(Self { answered, unanswered, waiting: now.hook_waiting })
    }
}

impl Seen {
    fn of(row: &super::what_i_see::Row) -> Self {
        Self { field: row.field, sees: row.sees, why: row.why, kept: row.kept }
    }
}

fn drops(before: &Reading, now: &Reading) -> Vec<Drops> {
    let total = |reading: &Reading, reason: DropReason| reading.total(|shard| shard.ledger.dropped[reason as usize]);
    let row = |reason: &DropReason| Drops {
        reason: reason.label(),
        sentence: reason.sentence(),
        meant: is_harmless(*reason),
        total: total(now, *reason),
        last_minute: total(now, *reason).saturating_sub(total(before, *reason)),
    };
    DropReason::ALL.iter().map(row).collect()
}

fn limits(before: &Reading, now: &Reading) -> Vec<Hits> {
    let rows = limit_hits(now).into_iter().zip(limit_hits(before));
    let rows = rows.map(|((name, after), (_, earlier))| Hits {
        name: name.into_owned(),
        total: after as u64,
        last_minute: (after - earlier).max(0.0) as u64,
    });
    rows.filter(|row| row.total > 0).collect()
}

fn closed(now: &Reading) -> Vec<Hits> {
    let rows = supernode_proto::close::CloseCode::ALL.iter().map(|row| Hits {
        name: format!("{}: {}", row.name, row.sentence),
        total: now.total(|shard| shard.tally.closed[row.code as usize]),
        last_minute: 0,
    });
    rows.filter(|row| row.total > 0).collect()
}

/// A page of the handbook: at 3 am the documents are on another machine.
fn handbook_page(document: &str) -> Response {
    match handbook::page(document) {
        Some(page) => asset("text/html; charset=utf-8", page),
        None => (StatusCode::NOT_FOUND, "no such page: see /handbook\n").into_response(),
    }
}

fn asset(kind: &'static str, text: impl Into<Body>) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text.into()).into_response()
}
