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
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{
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

/// Why there is no admin port.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Others could reach it, and it asks nobody for a password.
    #[error("{0}: the admin port asks for no password, so it must be on a loopback address, such as 127.0.0.1:9464")]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("{address}: cannot open the admin port")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the admin port.
///
/// # Errors
/// See [`AdminError`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    if !address.ip().is_loopback() {
        return Err(AdminError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| AdminError::Bind { address, source })
}

/// Answers requests until the task is dropped.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let app = router().layer(middleware::from_fn(only_by_a_local_name)).with_state(admin.clone());
    tokio::select! {
        served = axum::serve(listener, app) => served,
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

/// A page from elsewhere, open in the operator's browser, may have given its own name this machine's address. Its
/// requests come here, but under that name.
async fn only_by_a_local_name(request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if named.is_none_or(is_local) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "ask for this port as localhost, 127.0.0.1 or [::1]\n").into_response()
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
