//! What a configuration comes to, once the files that it names have been read: checked the same way before a start,
//! before a reload and by `supernode check-config`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;
use supernode_proto::troubles;

use crate::control::{
    admission::{AdmissionMode, TokenVerifier},
    allow_list::{AllowList, AllowListError},
    certificate::{Certificate, CertificateError},
    classes::Classes,
    cluster::{ClusterError, ClusterFiles},
    config::{AdmissionChoice, Config, PagesChoice, TlsChoice},
    files,
    hook::{HookError, Hooks, hook_url},
    invite::parse_host,
    page::{Page, PageError},
    pages::PageCertificates,
    relay_key, rotation,
    serve::unix_now_s,
    spent::Spent,
    state_dir::{StateDir, StateError},
    tls::relay_pin,
    trust::{self, Objection},
};

troubles! {
    /// Why a configuration that holds in itself is of no use here.
    pub PrepareError as WORDS, through Certificate(CertificateError) AllowList(AllowListError) Hook(HookError) State(StateError) Page(PageError) Cluster(ClusterError):
    Secret { path: PathBuf, reason: String }, "{path}: {reason}",
        "the hook's secret is one line of printable characters, in a file that this user may read",
        "write the secret into the file that admission.hook.secret_file names, on one line, readable for this user";
}

/// What a door is made of besides the configuration.
#[derive(Debug)]
pub struct DoorParts {
    /// Where the keys are.
    pub state: StateDir,
    /// Who is asked.
    pub hooks: Arc<Hooks>,
    /// Tokens for one use.
    pub spent: Arc<Spent>,
}

impl DoorParts {
    /// The files that it is made from: a change to one of them asks for another look.
    pub fn files(&self) -> Vec<PathBuf> {
        [rotation::files(&self.state), relay_key::files(&self.state)].concat()
    }

    /// The relay's own certificate, and by what clients that know an earlier key know it.
    ///
    /// # Errors
    /// [`PrepareError::State`] or [`PrepareError::Certificate`].
    pub fn own_certificate(&self) -> Result<Certificate, PrepareError> {
        let (before, _) = relay_key::before(&self.state, unix_now_s())?;
        Ok(Certificate::self_signed(&self.state.keys()?)?.followed_by(before))
    }

    /// What pages are shown where all others are shown this certificate, if they may come in.
    ///
    /// # Errors
    /// [`PrepareError::State`].
    pub fn for_pages(&self, config: &Config, certificate: &Certificate) -> Result<Option<ForPages>, PrepareError> {
        if config.web.pages == PagesChoice::Off {
            return Ok(None);
        }
        if certificate.by_authority {
            return Ok(Some(ForPages { certificate: certificate.clone(), told: Vec::new(), until_unix_s: None }));
        }
        let now_unix_s = unix_now_s();
        let (before, _) = relay_key::before(&self.state, now_unix_s)?;
        let pages = PageCertificates::at(&self.state, &self.state.keys()?, now_unix_s)?;
        let told = pages.told().map(|der| [vec![der.clone()], before.clone()].concat());
        Ok(Some(ForPages {
            certificate: pages.shown.followed_by(before),
            told: told.into(),
            until_unix_s: Some(pages.until_unix_s),
        }))
    }
}

/// What pages are shown.
#[derive(Debug)]
pub struct ForPages {
    /// The certificate.
    pub certificate: Certificate,
    /// What they are told of, each with what comes behind it; nothing where an authority speaks for the relay.
    pub told: Vec<Vec<CertificateDer<'static>>>,
    /// When another one is to be shown, Unix time.
    pub until_unix_s: Option<u64>,
}

/// What the files say.
#[derive(Debug)]
pub struct Prepared {
    /// The operator's certificate, with `tls.mode = "files"`.
    pub certificate: Option<Certificate>,
    /// The list, with `admission.mode = "allow-list"`.
    pub allow_list: Option<AllowList>,
    /// The page, with `web.page`.
    pub page: Option<Arc<Page>>,
    /// What a node of a cluster needs, with `cluster.nats`.
    pub cluster: Option<ClusterFiles>,
    /// What the admission hook is shown, with `admission.hook.secret_file`.
    hook_secret: Option<String>,
}

/// A secret is a line.
const SECRET_BYTES_MAX: u64 = 4096;

impl Prepared {
    /// Reads the files that this configuration names.
    ///
    /// # Errors
    /// See [`PrepareError`].
    pub fn read(config: &Config) -> Result<Self, PrepareError> {
        let certificate = match (config.tls.mode, &config.tls.certificate, &config.tls.key) {
            (TlsChoice::Files, Some(certificate), Some(key)) => Some(Certificate::from_files(certificate, key)?),
            _ => None,
        };
        let allow_list = match (config.admission.mode, &config.admission.allow_list) {
            (AdmissionChoice::AllowList, Some(path)) => Some(AllowList::read(path)?),
            _ => None,
        };
        let hook_secret = match (config.admission.mode, &config.admission.hook.secret_file) {
            (AdmissionChoice::Hook, Some(path)) => Some(secret(path)?),
            _ => None,
        };
        let page = config.web.page.map(|_| Page::read(config.web.page_file.as_deref())).transpose()?.map(Arc::new);
        let cluster = ClusterFiles::read(config)?;
        Ok(Self { certificate, allow_list, page, cluster, hook_secret })
    }

    /// What clients will say to the certificate of the operator's files, if it is theirs that count.
    pub fn objections(&self, config: &Config) -> Vec<Objection> {
        let Some(certificate) = &self.certificate else { return Vec::new() };
        let host = config.relay.advertise.as_deref().and_then(|host| parse_host(host).ok()).map(|link| link.host);
        let host = host.or_else(|| certificate.names.iter().find(|name| !name.starts_with('*')).cloned());
        trust::objections(&certificate.chain, host.as_deref(), &trust::authorities_of_machine(), unix_now_s())
    }

    /// Says in the log what clients will say.
    pub fn warn_of_objections(&self, config: &Config) {
        for objection in self.objections(config) {
            tracing::warn!("clients will not take the certificate: {}", objection.words());
        }
    }

    /// The files that it was read from: a change to one of them asks for another look.
    pub fn files(config: &Config) -> Vec<PathBuf> {
        let (tls, web, admission, cluster) = (&config.tls, &config.web, &config.admission, &config.cluster);
        let files = [&tls.certificate, &tls.key, &web.page_file, &admission.allow_list, &admission.hook.secret_file];
        let of_cluster = [&cluster.secret_file, &cluster.nats_credentials_file, &cluster.nats_ca];
        files.into_iter().chain(of_cluster).flatten().cloned().collect()
    }

    /// The door. A new hook begins to work on the runtime that this is called in.
    ///
    /// # Errors
    /// [`PrepareError::Hook`] or [`PrepareError::State`].
    pub fn admission(self, config: &Config, parts: &DoorParts) -> Result<AdmissionMode, PrepareError> {
        let keys = parts.state.keys()?;
        let before = rotation::keys_before(&parts.state)?;
        let (_, pins) = relay_key::before(&parts.state, unix_now_s())?;
        let tokens = || {
            let pin = relay_pin(&keys);
            let verifier = TokenVerifier::new(&keys.admission_key, &pin).with_keys_before(&before);
            let verifier = verifier.with_pins_before(&pin, &pins);
            AdmissionMode::Tokens(verifier.with_classes(Classes::of(config)).with_spent(parts.spent.clone()))
        };
        Ok(match config.admission.mode {
            AdmissionChoice::Open => AdmissionMode::Open,
            AdmissionChoice::Tokens => tokens(),
            AdmissionChoice::AllowList => self.allow_list.map_or_else(tokens, AdmissionMode::AllowList),
            AdmissionChoice::Hook => match config.admission.hook.url.as_deref().and_then(hook_url) {
                Some(url) => {
                    let mut settings = config.admission.hook.clone();
                    settings.secret = self.hook_secret.or(settings.secret);
                    AdmissionMode::Hook(parts.hooks.with(url, &settings)?)
                }
                None => tokens(),
            },
        })
    }
}

fn secret(path: &Path) -> Result<String, PrepareError> {
    let failed = |reason: String| PrepareError::Secret { path: path.to_owned(), reason };
    let text = files::read_text(path, SECRET_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
    let secret = text.trim_end_matches(['\n', '\r']);
    let fits = !secret.is_empty() && secret.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    fits.then(|| secret.to_owned()).ok_or_else(|| failed("is not one line of printable ASCII characters".to_owned()))
}
