//! The configuration as the program uses it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    control::{
        classes::Class,
        cluster::NatsAddress,
        log::{DEFAULT_FILTER, Format},
    },
    core::{limits::Limits, push_services::PushHost},
};

/// Everything that can be set. [`super::keys::KEYS`] says of each part what it is and what it may be.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// UDP port and what drives it.
    pub relay: Relay,
    /// The way over TCP.
    pub tcp: Tcp,
    /// The operator's own port.
    pub admin: Admin,
    /// By what clients know the relay.
    pub tls: Tls,
    /// Pages in browsers.
    pub web: Web,
    /// Waking people whose page is closed.
    pub push: Push,
    /// More than one relay as one.
    pub cluster: Cluster,
    /// Who gets in.
    pub admission: Admission,
    /// What those who are in may do.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
}

/// `[relay]`
#[derive(Debug, Clone)]
pub struct Relay {
    /// UDP address; without it, the default port of every address of both families, or of IPv4 where there is no IPv6.
    pub listen: Option<SocketAddr>,
    /// `HOST` or `HOST:PORT` for invite links; without it, what [`Self::listen`] and the certificate tell.
    pub advertise: Option<String>,
    /// Threads with a socket each; zero for one a core.
    pub shards: usize,
    /// How long objects may wait to share a packet; zero for not at all.
    pub batch_window: Duration,
    /// How long calls may go on while the relay drains.
    pub drain_patience: Duration,
    /// Where the keys are; without it, where the XDG base directory specification puts them.
    pub state_dir: Option<PathBuf>,
}

/// `[tcp]`
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// TCP address; without it there is no such port.
    pub listen: Option<SocketAddr>,
    /// What clients see of it; zero for the port of [`Self::listen`].
    pub advertise_port: u16,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// TCP address, loopback only.
    pub listen: SocketAddr,
}

/// `[tls]`
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Where the certificate comes from.
    pub mode: TlsChoice,
    /// PEM file with the certificate and those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// `[tls.acme]`
    pub acme: Acme,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsChoice {
    /// The relay makes it; invite links carry its pin.
    #[default]
    SelfSigned,
    /// The operator's files.
    Files,
    /// An authority that speaks ACME.
    Acme,
}

/// `[tls.acme]`
#[derive(Debug, Clone)]
pub struct Acme {
    /// Names for which a certificate is ordered.
    pub domains: Vec<String>,
    /// Mail address that the authority may write to.
    pub contact: Option<String>,
    /// The authority's directory.
    pub directory: String,
    /// PEM file with the root that signs the directory's own certificate, for an authority of one's own.
    pub directory_ca: Option<PathBuf>,
    /// TCP address on which the authority's question is answered (HTTP-01).
    pub listen: SocketAddr,
}

/// `[web]`
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// Whether pages may come in.
    pub pages: PagesChoice,
    /// TCP address at which they are told which certificates they may be shown.
    pub listen: Option<SocketAddr>,
    /// TCP address at which the page is.
    pub page: Option<SocketAddr>,
    /// The page, where it is not the one that this program was built with.
    pub page_file: Option<PathBuf>,
    /// Where people find the page, for links; without it, what [`Self::page`] and the certificate tell.
    pub page_url: Option<String>,
}

/// `[push]`
#[derive(Debug, Clone)]
pub struct Push {
    /// Mail address that push services may write to; without it nobody is woken.
    pub contact: Option<String>,
    /// Where the relay may be told to wake somebody.
    pub hosts: Vec<PushHost>,
}

/// Those of the browsers that people have: Chrome and what is made of it, Firefox, Edge, Safari.
pub const PUSH_HOSTS: &[&str] =
    &["fcm.googleapis.com", "updates.push.services.mozilla.com", "*.notify.windows.com", "web.push.apple.com"];

impl Default for Push {
    fn default() -> Self {
        Self { contact: None, hosts: PUSH_HOSTS.iter().filter_map(|host| PushHost::parse(host)).collect() }
    }
}

/// `[cluster]`
#[derive(Debug, Clone)]
pub struct Cluster {
    /// NATS servers; without one, the relay is alone.
    pub nats: Vec<NatsAddress>,
    /// Where NATS may be spoken to without TLS.
    pub nats_plain: PlainChoice,
    /// File with what NATS lets the relay in by.
    pub nats_credentials_file: Option<PathBuf>,
    /// PEM file with the root that signs the NATS servers' certificates.
    pub nats_ca: Option<PathBuf>,
    /// On how many of the servers what is decided is kept.
    pub nats_replicas: usize,
    /// The cluster's name.
    pub name: Option<String>,
    /// This node's number; zero for none.
    pub node: u16,
    /// Where others reach this node, by UDP.
    pub address: Option<SocketAddr>,
    /// File with the secret of the cluster.
    pub secret_file: Option<PathBuf>,
}

/// Where NATS may be spoken to without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainChoice {
    /// On this machine.
    #[default]
    Loopback,
    /// Wherever the operator says that nobody listens in.
    Anywhere,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nats: Vec::new(),
            nats_plain: PlainChoice::default(),
            nats_credentials_file: None,
            nats_ca: None,
            nats_replicas: 1,
            name: None,
            node: 0,
            address: None,
            secret_file: None,
        }
    }
}

/// Whether pages in browsers may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PagesChoice {
    /// They are refused in the handshake.
    #[default]
    Off,
    /// They may.
    On,
}

/// `[admission]`
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// By what one gets in.
    pub mode: AdmissionChoice,
    /// File with one identity a line.
    pub allow_list: Option<PathBuf>,
    /// What tokens may grant instead of [`Config::limits`].
    pub classes: Vec<Class>,
    /// `[admission.hook]`
    pub hook: Hook,
}

/// By what one gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdmissionChoice {
    /// A token that this relay has signed.
    #[default]
    Tokens,
    /// One's identity being in a file.
    AllowList,
    /// The word of an HTTP service.
    Hook,
    /// Nothing.
    Open,
}

/// `[admission.hook]`
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// Where to ask.
    pub url: Option<String>,
    /// What is sent as `Authorization: Bearer`.
    pub secret: Option<String>,
    /// File with it.
    pub secret_file: Option<PathBuf>,
    /// How long the service may take.
    pub timeout: Duration,
    /// How long an answer is good for.
    pub cache: Duration,
    /// How long those who are in stay after that while the service gives no answer.
    pub grace: Duration,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// How lines are written.
    pub format: Format,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: None,
            shards: 0,
            batch_window: Duration::from_micros(500),
            drain_patience: Duration::from_secs(60),
            state_dir: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            contact: None,
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            directory_ca: None,
            listen: SocketAddr::from(([0; 8], 80)),
        }
    }
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            secret_file: None,
            timeout: Duration::from_secs(3),
            cache: Duration::from_secs(60),
            grace: Duration::from_secs(3600),
        }
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook(..)")
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: DEFAULT_FILTER.to_owned(), format: Format::default() }
    }
}
