//! What a configuration comes to, once the files that it names have been read: checked the same way before a start,
//! before a reload and by `supernode check-config`.

use std::{path::PathBuf, sync::Arc};

use super::{
    admission::{AdmissionMode, TokenVerifier},
    allow_list::{AllowList, AllowListError},
    certificate::{Certificate, CertificateError},
    classes::Classes,
    config::{AdmissionChoice, Config, TlsChoice},
    hook::{HookError, Hooks, hook_url},
    relay_key, rotation,
    serve::unix_now_s,
    spent::Spent,
    state_dir::{StateDir, StateError},
    tls::relay_pin,
};

/// Why a configuration that holds in itself is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Its allow-list.
    #[error(transparent)]
    AllowList(#[from] AllowListError),
    /// Its hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The keys.
    #[error(transparent)]
    State(#[from] StateError),
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
}

/// What the files say.
#[derive(Debug)]
pub struct Prepared {
    /// The operator's certificate, with `tls.mode = "files"`.
    pub certificate: Option<Certificate>,
    /// The list, with `admission.mode = "allow-list"`.
    pub allow_list: Option<AllowList>,
}

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
        Ok(Self { certificate, allow_list })
    }

    /// The files that it was read from: a change to one of them asks for another look.
    pub fn files(config: &Config) -> Vec<PathBuf> {
        [&config.tls.certificate, &config.tls.key, &config.admission.allow_list]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
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
                Some(url) => AdmissionMode::Hook(parts.hooks.with(url, &config.admission.hook)?),
                None => tokens(),
            },
        })
    }
}
