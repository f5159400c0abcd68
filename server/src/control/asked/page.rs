//! The page with which people call from a browser, for whoever's browser asks: one file, and nothing else is there.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /push.js` | what a browser runs that its push service has woken: a browser takes none from within a page |
//!
//! What a link says behind `#` does not come here: browsers keep it. Nothing of a request is logged or kept, nobody is given a
//! cookie. Whoever serves a page can serve another one, to everybody or to one; so the file's SHA-256 is told to the operator,
//! and people may have the page from elsewhere (docs/THREAT-MODEL.md, "Who serves the page").

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use data_encoding::HEXLOWER;
use flate2::{Compression, write::GzEncoder};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use supernode_proto::troubles;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{http, page_policy};
use crate::control::{certificate::Certificate, files, ports, tls};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Longest page that is served: ours may have 1.5 MB as gzip has it, most of which is compressed before. It is in memory twice.
pub const PAGE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Connections that the kernel keeps until they are taken.
const BACKLOG: i32 = 128;
/// At a time: each has its file once and goes. Each takes a descriptor and at most [`PAGE_CONNECTION_BYTES`]; one more ends the
/// oldest of the network that has most.
pub const PAGE_CONNECTIONS_MAX: usize = 64;
/// What TLS keeps of one both ways (what is sealed of the page, a record), its state, and a request's head.
pub const PAGE_CONNECTION_BYTES: u64 = 64 * 1024;
/// Of the page, what TLS takes before the network has taken it: a record.
const SEALED_BYTES_MAX: usize = 16 * 1024;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a browser may take for the file: 1.5 MB at 100 kbit/s.
const LIFE: Duration = Duration::from_secs(120);

/// Of what a browser can do for a page, what a call needs and nothing of the rest that knows somebody.
const PERMISSIONS_POLICY: &str = "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), \
    screen-wake-lock=(self), fullscreen=(self), autoplay=(self), clipboard-write=(self), geolocation=(), usb=(), serial=(), \
    hid=(), midi=(), payment=(), browsing-topics=()";

/// The script of a page's service worker.
const WOKEN: &str = include_str!("push.js");

troubles! {
    /// Why there is no page.
    pub PageError as WORDS:
    Bind { address: SocketAddr, source: io::Error }, "{address}: cannot open the page's port",
        "another program has it (a web server, most likely), or it is below 1024",
        "see who has it (ss -tlpn); take another port for web.page, or let the relay open low ports (AmbientCapabilities=CAP_NET_BIND_SERVICE)";
    Nowhere, "this program has no page in it",
        "it was built without one (SUPERNODE_PAGE)",
        "name a page in web.page_file, or take a program that was built with one";
    Read { path: PathBuf, source: io::Error }, "{path}: cannot read the page",
        "the file that web.page_file names is not there, is too long, or this user may not read it",
        "compare the path in web.page_file, and let the relay's user read the file";
}

/// One file of HTML that holds everything.
#[derive(Debug)]
pub struct Page {
    plain: Bytes,
    gzip: Bytes,
    /// What it may do.
    policy: String,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

impl Page {
    /// The one that this program was built with.
    pub fn embedded() -> Option<Self> {
        EMBEDDED.map(|page| Self::of(Bytes::from_static(page)))
    }

    /// The one in this file, or without one the program's own.
    ///
    /// # Errors
    /// [`PageError::Read`] or [`PageError::Nowhere`].
    pub fn read(path: Option<&Path>) -> Result<Self, PageError> {
        let Some(path) = path else { return Self::embedded().ok_or(PageError::Nowhere) };
        let read = files::read(path, PAGE_BYTES_MAX);
        let page = read.map_err(|source| PageError::Read { path: path.to_owned(), source })?;
        Ok(Self::of(page.into()))
    }

    fn of(plain: Bytes) -> Self {
        // Once, and not for each who asks. Brotli would gain nothing: what is large in it is compressed before, and letters
        // of base64 are what is left to gain by.
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = gzip.write_all(&plain).and_then(|()| gzip.finish()).expect("a vector takes everything");
        let (sha256, policy) = (Sha256::digest(&plain).into(), page_policy::policy(&plain));
        Self { sha256, policy, gzip: gzip.into(), plain }
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.plain
    }

    /// By what people compare it with the page that they have.
    pub fn sha256_text(&self) -> String {
        HEXLOWER.encode(&self.sha256)
    }
}

/// How it is served.
#[derive(Debug, Clone)]
pub enum Way {
    /// Not yet: an authority's certificate is on its way. A browser would warn of any other.
    NotYet,
    /// By HTTP, on this machine, where browsers trust what they are given.
    Plain,
    /// By HTTPS.
    Tls(Arc<ServerConfig>),
}

impl Way {
    /// At this address, where the relay shows this certificate.
    ///
    /// # Errors
    /// See [`tls::TlsError`].
    pub fn at(address: SocketAddr, certificate: &Certificate) -> Result<Self, tls::TlsError> {
        Ok(match (certificate.by_authority, address.ip().is_loopback()) {
            (true, _) => Self::Tls(tls::tcp_server_config(certificate)?),
            (false, true) => Self::Plain,
            (false, false) => Self::NotYet,
        })
    }

    /// What a link to the page begins with.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::NotYet | Self::Tls(_) => "https",
        }
    }
}

/// What is served now, for whoever changes it.
#[derive(Debug, Clone)]
pub struct Served(Arc<ArcSwap<(Arc<Page>, Way)>>);

impl Served {
    /// From now on this page in this way.
    pub fn new(page: Arc<Page>, way: Way) -> Self {
        Self(Arc::new(ArcSwap::from_pointee((page, way))))
    }

    /// From now on this page in this way.
    pub fn set(&self, page: Arc<Page>, way: Way) {
        self.0.store(Arc::new((page, way)));
    }

    /// What it is.
    pub fn page(&self) -> Arc<Page> {
        self.0.load().0.clone()
    }
}

/// Opens the port, or takes that of the process that is replaced.
///
/// # Errors
/// [`PageError::Bind`].
pub fn bind(address: SocketAddr, theirs: Option<&StdListener>) -> Result<TcpListener, PageError> {
    let port = ports::open(address, theirs, BACKLOG).and_then(TcpListener::from_std);
    port.map_err(|source| PageError::Bind { address, source })
}

/// Answers requests until the task is dropped.
///
/// # Errors
/// None at present: accept errors are waited out.
pub async fn serve(listener: TcpListener, served: Served) -> io::Result<()> {
    let router = Router::new().route("/", get(page)).route("/push.js", get(woken));
    let router = router.fallback(nothing).with_state(served.clone());
    let answer = move |stream| answer(stream, served.clone(), router.clone());
    match http::serve_each(listener, PAGE_CONNECTIONS_MAX, |address: &SocketAddr| network(address.ip()), answer).await {}
}

/// Of one household or firm, as far as an address tells.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !(u128::MAX >> 64)).into()),
        v4 => v4,
    }
}

async fn answer(stream: TcpStream, served: Served, router: Router) {
    let way = served.0.load().1.clone();
    match way {
        Way::NotYet => {}
        Way::Plain => http::answer(TokioIo::new(stream), router, LIFE).await,
        Way::Tls(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            // How it fails is the other side's business.
            if let Ok(Ok(mut stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                stream.get_mut().1.set_buffer_limit(Some(SEALED_BYTES_MAX));
                http::answer(TokioIo::new(stream), router, LIFE).await;
            }
        }
    }
}

async fn page(State(served): State<Served>, asked: HeaderMap) -> Response {
    let page = served.page();
    let takes_gzip = all_words(&asked, header::ACCEPT_ENCODING).any(|word| word == "gzip");
    let (body, coding) = if takes_gzip { (&page.gzip, "gzip") } else { (&page.plain, "identity") };
    let tag = format!("\"{}-{coding}\"", page.sha256_text());
    let is_known = all_words(&asked, header::IF_NONE_MATCH).any(|word| word == tag);
    let (code, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, Body::empty()),
        false => (StatusCode::OK, Body::from(body.clone())),
    };
    let mut answer = (code, headers(), body).into_response();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    };
    put(header::ETAG, &tag);
    put(header::CONTENT_SECURITY_POLICY, &page.policy);
    if takes_gzip && !is_known {
        put(header::CONTENT_ENCODING, coding);
    }
    answer
}

/// It loads nothing and answers for nothing: it shows a line, and opens the page.
async fn woken() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONNECTION, "close"),
    ];
    (headers, WOKEN).into_response()
}

/// The words of a header that lists some, each without what may stand behind it.
fn all_words(asked: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lists = asked.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|word| word.split(';').next().unwrap_or(word).trim())
}

fn headers() -> [(HeaderName, &'static str); 10] {
    [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // Asked for again each time: whoever comes gets the page that there is, and mostly hears that it is the same.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
        // One file, and the place is somebody else's.
        (header::CONNECTION, "close"),
    ]
}

async fn nothing() -> Response {
    let headers = [(header::CONNECTION, "close"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (StatusCode::NOT_FOUND, headers, "the page is at /\n").into_response()
}
