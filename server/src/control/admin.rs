//! The admin port: plain HTTP for the operator's own machine, and for nobody else.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | all metrics in the text format of Prometheus |
//! | `GET /healthz` | 200 `ok` as long as the control thread runs |

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::metrics::Metrics;

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
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> io::Result<()> {
    axum::serve(listener, router(metrics)).await
}

fn router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(metrics_text)).route("/healthz", get(|| async { "ok\n" })).with_state(metrics)
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
