//! Where pages in browsers are told which certificates the relay may show them, by plain HTTP: pages from disk and of other
//! hosts may ask it, and nobody is asked who they are.
//!
//! | path | answer |
//! |---|---|
//! | `GET /certificates` | a [`Certificates`]: the one that is shown now, then the next |
//!
//! Nothing here is to be believed: a page takes only what is of the key that its invite names.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use supernode_proto::troubles;
use tokio::net::TcpListener;

use super::http;
use crate::control::ports;

/// Connections that the kernel keeps until they are taken.
const BACKLOG: i32 = 128;

/// Certificates, each with what comes behind it.
type Chains = Vec<Vec<CertificateDer<'static>>>;

troubles! {
    /// Why there is no port for pages.
    pub PagesPortError as WORDS:
    Bind { address: SocketAddr, source: io::Error }, "{address}: cannot open the port for pages",
        "another program has it, or this user may not open it", "see who has it (ss -tlpn), or set another web.listen";
}

/// What is told now, for whoever changes it.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<ArcSwap<Chains>>);

/// What pages are told.
#[derive(Debug, Serialize)]
pub struct Certificates {
    /// Each a chain, the certificate that is shown first, in DER and base64.
    certificates: Vec<Vec<String>>,
}

impl Told {
    /// Tells this from now on.
    pub fn set(&self, chains: Chains) {
        self.0.store(Arc::new(chains));
    }

    fn say(&self) -> Certificates {
        let base64 = |chain: &Vec<CertificateDer<'static>>| chain.iter().map(|der| BASE64.encode(der)).collect();
        Certificates { certificates: self.0.load().iter().map(base64).collect() }
    }
}

/// Opens the port, or takes that of the process that is replaced.
///
/// # Errors
/// [`PagesPortError::Bind`].
pub fn bind(address: SocketAddr, theirs: Option<&StdListener>) -> Result<TcpListener, PagesPortError> {
    let port = ports::open(address, theirs, BACKLOG).and_then(TcpListener::from_std);
    port.map_err(|source| PagesPortError::Bind { address, source })
}

/// Answers requests until the task is dropped.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve(listener: TcpListener, told: Told) -> io::Result<()> {
    match http::serve(listener, router(told)).await {}
}

fn router(told: Told) -> Router {
    Router::new().route("/certificates", get(certificates)).with_state(told)
}

async fn certificates(State(told): State<Told>) -> Response {
    // Whatever page asks may read it, and none is to be told what another was told a week ago.
    let headers = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::CACHE_CONTROL, "no-store")];
    (headers, Json(told.say())).into_response()
}
