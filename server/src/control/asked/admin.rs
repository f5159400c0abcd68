//! The admin port: plain HTTP for the operator's own machine, and for nobody else.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | all metrics in the text format of Prometheus |
//! | `GET /livez`, `GET /healthz` | 200 `ok` as long as the control thread runs |
//! | `GET /readyz` | 200 `ready` while clients are taken in, 503 `draining` from the moment on that they are not |
//! | `GET /` | a page for people |
//! | `GET /status.json` | a [`Status`]: numbers that name nobody |
//!
//! Nothing here changes anything: what does is asked for by the Unix socket in the state directory, which only the
//! relay's own user can open.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use supernode_proto::troubles;
use tokio::net::TcpListener;

use super::http;
use crate::control::{
    dashboard::{self, Dashboard},
    metrics::Metrics,
    status::{Phase, Status, StatusSource},
};

/// What the admin port tells of.
pub struct Admin {
    /// For Prometheus.
    pub metrics: Metrics,
    /// For people.
    pub dashboard: Dashboard,
    /// For programs and probes.
    pub status: StatusSource,
}

troubles! {
    /// Why there is no admin port.
    pub AdminError as WORDS:
    NotLoopback { address: SocketAddr },
        "{address}: the admin port asks for no password, so it must be on a loopback address, such as 127.0.0.1:9464",
        "whoever reaches it reads what is there",
        "set admin.listen to a loopback address such as 127.0.0.1:9464; from afar, reach it through ssh -L";
    Bind { address: SocketAddr, source: io::Error }, "{address}: cannot open the admin port",
        "another program has it, most likely a second relay on this machine",
        "see who has it (ss -tlpn), or set another admin.listen (--admin)";
}

/// Opens the admin port.
///
/// # Errors
/// See [`AdminError`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    if !address.ip().is_loopback() {
        return Err(AdminError::NotLoopback { address });
    }
    TcpListener::bind(address).await.map_err(|source| AdminError::Bind { address, source })
}

/// Answers requests until the task is dropped.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let app = router().layer(middleware::from_fn(only_as_meant)).with_state(admin.clone());
    tokio::select! {
        never = http::serve(listener, app) => match never {},
        never = admin.dashboard.watch() => match never {},
    }
}

/// Everything that can be asked by whoever reaches the port.
pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/status.json", get(status))
        .merge(dashboard::router(|admin: &Arc<Admin>| &admin.dashboard))
}

async fn only_as_meant(request: Request, next: Next) -> Response {
    match refusal(&request) {
        // Whatever may come behind the request is not looked at.
        Some((code, words)) => (code, [(header::CONNECTION, "close")], words).into_response(),
        None => next.run(request).await,
    }
}

/// Why a request is not answered.
fn refusal(request: &Request) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    // RFC 9112, section 3.2.
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some((StatusCode::BAD_REQUEST, "a request has one Host\n"));
    }
    // A page from elsewhere, open in the operator's browser, may have given its own name this machine's address. Its
    // requests come here, but under that name.
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if !host.into_iter().chain(authority).all(is_local) {
        return Some((StatusCode::FORBIDDEN, "ask for this port as localhost, 127.0.0.1 or [::1]\n"));
    }
    // Nothing that is asked for here needs one, and where it ends is what proxies and servers disagree about.
    let is_empty = headers.get_all(header::CONTENT_LENGTH).iter().all(|length| length == "0");
    if !is_empty || headers.contains_key(header::TRANSFER_ENCODING) {
        return Some((StatusCode::BAD_REQUEST, "a request to this port has no body\n"));
    }
    None
}

/// Whether a Host header's value is a name of this machine's own loopback.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readiness(State(admin): State<Arc<Admin>>) -> Response {
    let phase = admin.status.phase();
    let code = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", phase.word())).into_response()
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(admin.status.read())
}
