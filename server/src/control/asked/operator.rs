//! What the commands of the relay's own user ask of the running relay: HTTP and JSON by the Unix socket `control.sock`.
//!
//! | request | answer |
//! |---|---|
//! | everything of the [admin port](super::admin) | the same |
//! | `GET /sessions?limit=N` | a list of [`Session`] |
//! | `GET /config` | a list of [`Row`]: every key as it is in effect |
//! | `GET /classes` | names of the classes of limits that tokens may name |
//! | `POST /drain` `{"patience_s": 60, "to": "HOST:PORT"}` | 202: the relay drains |
//! | `POST /upgrade` | 202 `{"pid": 7}`: that process was started to take this one's place; 409 says why none was |
//! | `GET /upgrade` | an [`Attempt`], or null: what has become of the process that was started last |
//! | `POST /kick` `{"session": "0-1-2"}`, `{"identity": "sn-id-..."}`, `{"device": "sn-dev-..."}` or `{"network": "192.0.2.0/24"}` | `{"sessions": 1}` |
//! | `POST /follow` `{"whom": "sn-id-..."}` | a list of [`Event`](super::follow::Event): what that client did and was told since the last question |
//! | `POST /revoked` | the list was changed and is read again; `{"sessions": 1}` were ended |
//!
//! What concerns sessions also concerns the process whose place this one took, as long as it drains: it is asked the same
//! (`predecessor.rs`), and its answer is added. The names of its sessions begin with `old-`.
//!
//! Whoever can open the socket owns the relay's keys already, so nobody is asked for a token.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use supernode_proto::{
    close::CloseCode,
    identity::{DeviceKey, IdentityKey},
};
use tokio::{net::UnixListener, sync::mpsc};

use super::http;
use crate::control::{
    admin::{self, Admin},
    admission::Doorkeeper,
    config::reference::Row,
    follow::Target,
    handover::still_drains,
    predecessor,
    reload::InEffect,
    revocations::{Exceptions, Revocation, Revoked},
    state_dir::StateDir,
    status::Phase,
    successor::{Attempt, Program},
};
use crate::{
    core::{Address, SessionId, ShardId},
    shard::{Handle, Onward, SessionView, Whom},
};

/// Most sessions in one answer: 10,000 take about 3 MB.
pub const SESSIONS_MAX: usize = 10_000;

/// What the names of those sessions begin with that are at the process which still drains after an upgrade.
const OF_PREDECESSOR: &str = "old-";

/// What the commands act on.
pub struct Operator {
    /// What the admin port tells.
    pub admin: Arc<Admin>,
    /// The relay.
    pub shards: Handle,
    /// Where the list of those who are refused is.
    pub state: StateDir,
    /// Who lets people in.
    pub admission: Arc<Exceptions>,
    /// By what, apart from whom the operator has taken back.
    pub door: Arc<Doorkeeper>,
    /// What it goes by.
    pub in_effect: InEffect,
    /// Ends the relay in order, with this patience, and sends its clients there.
    pub drain: mpsc::Sender<(Onward, Duration)>,
    /// Can take its place.
    pub program: Program,
}

/// A session, as `supernode sessions` gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its name in `supernode kick`.
    pub session: String,
    /// Whose.
    pub identity: String,
    /// On which device.
    pub device: String,
    /// Where its packets come from.
    pub address: SocketAddr,
    /// Whether they come over TCP.
    #[serde(default)]
    pub over_tcp: bool,
    /// Whether it is a page's in a browser.
    #[serde(default)]
    pub page: bool,
    /// Seconds since it was let in.
    pub age_s: u64,
    /// Round trip in microseconds.
    pub rtt_us: u64,
    /// Rooms it is in.
    pub rooms: usize,
    /// Tracks it publishes.
    pub tracks: usize,
    /// Tracks it subscribes to.
    pub subscriptions: usize,
    /// Digest of the token it was let in with, for `supernode revoke`.
    pub token: Option<String>,
}

/// How many sessions to list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limit {
    /// At most [`SESSIONS_MAX`].
    pub limit: usize,
}

/// Whose sessions to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kick {
    /// The one of this name.
    Session(String),
    /// All of this person.
    Identity(String),
    /// All of this device.
    Device(String),
    /// All from this address or prefix.
    Network(String),
}

/// Whom to follow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Followed {
    /// An identity, a device, an address or a prefix.
    pub whom: String,
}

/// How patiently to drain, and where clients are to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drain {
    /// How long calls may go on.
    pub patience_s: u64,
    /// `HOST:PORT` of another relay with the same key.
    #[serde(default)]
    pub to: Option<String>,
}

/// A process was started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Started {
    /// Its number.
    pub pid: u32,
}

/// How many sessions were ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// So many.
    pub sessions: usize,
    /// Why the process that still drains could not be told, if one does and could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard: Option<String>,
}

/// Answers requests until the task is dropped.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve(listener: UnixListener, operator: Arc<Operator>) -> io::Result<()> {
    let router = Router::new()
        .route("/classes", get(classes))
        .route("/config", get(config))
        .route("/follow", post(follow))
        .route("/drain", post(drain))
        .route("/upgrade", post(upgrade).get(attempt))
        .merge(of_sessions())
        .with_state(operator.clone())
        .merge(admin::router().with_state(operator.admin.clone()));
    match http::serve(listener, router).await {}
}

/// As [`serve`], for a process whose place another one has taken: what that one passes on.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve_as_predecessor(listener: UnixListener, operator: Arc<Operator>) -> io::Result<()> {
    match http::serve(listener, of_sessions().with_state(operator)).await {}
}

fn of_sessions() -> Router<Arc<Operator>> {
    Router::new().route("/sessions", get(sessions)).route("/kick", post(kick)).route("/revoked", post(revoked))
}

async fn sessions(State(operator): State<Arc<Operator>>, Query(Limit { limit }): Query<Limit>) -> Response {
    let limit = limit.min(SESSIONS_MAX);
    answer(move || {
        let mut sessions: Vec<Session> = operator.shards.sessions(limit).iter().map(Session::from).collect();
        match operator.ask_predecessor::<Vec<Session>>(&format!("GET /sessions?limit={limit}"), &()) {
            Some(Ok(theirs)) => sessions.extend(
                theirs
                    .into_iter()
                    .map(|session| Session { session: format!("{OF_PREDECESSOR}{}", session.session), ..session }),
            ),
            Some(Err(reason)) => tracing::warn!(reason, "sessions of the process that still drains are not listed"),
            None => {}
        }
        sessions.truncate(limit);
        Ok(Json(sessions).into_response())
    })
    .await
}

async fn classes(State(operator): State<Arc<Operator>>) -> Json<Vec<String>> {
    Json(operator.door.classes())
}

async fn config(State(operator): State<Arc<Operator>>) -> Json<Vec<Row>> {
    Json(operator.in_effect.rows())
}

async fn follow(State(operator): State<Arc<Operator>>, Json(wanted): Json<Followed>) -> Response {
    let Some(target) = Target::from_text(&wanted.whom) else {
        return (StatusCode::BAD_REQUEST, "neither an identity nor a device, an address or a prefix\n").into_response();
    };
    answer(move || {
        let views = operator.shards.sessions(SESSIONS_MAX);
        let named: Vec<_> = views.into_iter().map(|view| (Session::from(&view).session, view)).collect();
        Ok(Json(operator.admission.follow.ask(target, &named)).into_response())
    })
    .await
}

async fn drain(State(operator): State<Arc<Operator>>, Json(wanted): Json<Drain>) -> Response {
    let draining = operator.admin.status.phase() == Phase::Draining;
    let onward = match wanted.to.as_deref().map(str::parse).transpose() {
        Ok(to) => to.map_or(Onward::Elsewhere, Onward::To),
        Err(error) => return (StatusCode::BAD_REQUEST, format!("where to go: {error}\n")).into_response(),
    };
    match operator.drain.try_send((onward, Duration::from_secs(wanted.patience_s))) {
        Ok(()) if !draining => StatusCode::ACCEPTED.into_response(),
        _ => (StatusCode::CONFLICT, "the relay is draining already\n").into_response(),
    }
}

async fn upgrade(State(operator): State<Arc<Operator>>) -> Response {
    if operator.admin.status.phase() == Phase::Draining {
        return (StatusCode::CONFLICT, "the relay is draining already\n").into_response();
    }
    if let Some(reason) = no_upgrade(std::process::id(), operator.shards.predecessor()) {
        return (StatusCode::CONFLICT, format!("{reason}\n")).into_response();
    }
    answer(move || {
        let started =
            operator.program.start_successor().map_err(|error| format!("the program does not start: {error}"))?;
        Ok(match started {
            Some(pid) => (StatusCode::ACCEPTED, Json(Started { pid })).into_response(),
            None => (StatusCode::CONFLICT, "an upgrade is under way already\n").into_response(),
        })
    })
    .await
}

async fn attempt(State(operator): State<Arc<Operator>>) -> Json<Option<Attempt>> {
    Json(operator.program.attempt())
}

/// Why this process cannot be replaced now by one that it starts.
fn no_upgrade(own_pid: u32, predecessor: Option<u32>) -> Option<String> {
    if own_pid == 1 {
        let reason = "it is process 1, so its container would end with it, and its successor too; start a new container \
                      beside it (supernode serve --takeover), or restart this one: it drains first";
        return Some(format!("the running relay cannot be replaced from within: {reason}"));
    }
    predecessor.map(|pid| format!("the running relay cannot be replaced yet: {}", still_drains(pid)))
}

async fn kick(State(operator): State<Arc<Operator>>, Json(kick): Json<Kick>) -> Response {
    let whom = match &kick {
        Kick::Session(name) => session_of(name.strip_prefix(OF_PREDECESSOR).unwrap_or(name)).map(Whom::Session),
        Kick::Identity(text) => IdentityKey::from_text(text).ok().map(Whom::Identity),
        Kick::Device(text) => DeviceKey::from_text(text).ok().map(Whom::Device),
        Kick::Network(text) => text.parse().ok().map(Whom::Network),
    };
    let Some(whom) = whom else {
        return (StatusCode::BAD_REQUEST, "neither a session nor an identity, a device, an address or a prefix\n")
            .into_response();
    };
    answer(move || {
        let expel = || operator.shards.expel(whom, CloseCode::REMOVED);
        let ended = match &kick {
            // A session's name says in which process it is.
            Kick::Session(name) => match name.strip_prefix(OF_PREDECESSOR) {
                Some(theirs) => operator.pass_on("POST /kick", &Kick::Session(theirs.to_owned()), 0),
                None => Ended { sessions: expel(), unheard: None },
            },
            Kick::Identity(_) | Kick::Device(_) | Kick::Network(_) => operator.pass_on("POST /kick", &kick, expel()),
        };
        Ok(Json(ended).into_response())
    })
    .await
}

async fn revoked(State(operator): State<Arc<Operator>>) -> Response {
    answer(move || {
        let new = operator.admission.replace(Revoked::read(&operator.state).map_err(|error| error.to_string())?);
        let expel = |revocation: Revocation| operator.shards.expel(revocation.whom(), CloseCode::NOT_ADMITTED);
        let here = new.into_iter().map(expel).sum();
        operator.admission.review();
        Ok(Json(operator.pass_on("POST /revoked", &json!({}), here)).into_response())
    })
    .await
}

impl Operator {
    /// Has the process that still drains do the same, if one does; `here` is what this one has ended.
    fn pass_on(&self, request: &str, wanted: &impl Serialize, here: usize) -> Ended {
        match self.ask_predecessor::<Ended>(request, wanted) {
            None => Ended { sessions: here, unheard: None },
            Some(Ok(ended)) => Ended { sessions: here + ended.sessions, ..ended },
            Some(Err(why)) => Ended { sessions: here, unheard: Some(why) },
        }
    }

    fn ask_predecessor<T: DeserializeOwned>(
        &self,
        request: &str,
        wanted: &impl Serialize,
    ) -> Option<Result<T, String>> {
        predecessor::ask(&self.state, &self.shards, request, wanted)
    }
}

/// Shards are asked from a thread that may wait.
async fn answer(ask: impl FnOnce() -> Result<Response, String> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(response)) => response,
        Ok(Err(message)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{message}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl From<&SessionView> for Session {
    fn from(view: &SessionView) -> Self {
        let SessionId { at, link, generation } = view.id;
        Self {
            session: format!("{}-{link}-{generation}", at.shard.0),
            identity: view.identity.to_text(),
            device: view.device.to_text(),
            address: view.address,
            over_tcp: view.over_tcp,
            page: view.page,
            age_s: view.age_s,
            rtt_us: view.rtt_us,
            rooms: view.rooms,
            tracks: view.tracks,
            subscriptions: view.subscriptions,
            token: view.token.map(crate::core::TokenDigest::to_text),
        }
    }
}

/// Reads the name of a session.
fn session_of(name: &str) -> Option<SessionId> {
    let mut parts = name.split('-');
    let (shard, link, generation) = (parts.next()?, parts.next()?, parts.next()?);
    let id = SessionId {
        at: Address::local(ShardId(shard.parse().ok()?)),
        link: link.parse().ok()?,
        generation: generation.parse().ok()?,
    };
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_first_process_starts_no_successor_and_nobody_does_while_the_last_one_drains() {
        assert_eq!(no_upgrade(7, None), None);
        assert!(no_upgrade(1, None).is_some_and(|reason| reason.contains("--takeover")));
        assert!(
            no_upgrade(7, Some(6)).is_some_and(|reason| reason.contains("process 6") && reason.contains("try again"))
        );
    }

    #[test]
    fn a_session_s_name_is_three_numbers() {
        let id = SessionId { at: Address::local(ShardId(1)), link: 22, generation: 333 };
        assert_eq!(session_of("1-22-333"), Some(id));
        for bad in ["", "1-2", "1-2-3-4", "a-1-2", "1-2-", "-1-2-3", "70000-1-1"] {
            assert_eq!(session_of(bad), None, "{bad}");
        }
    }
}
