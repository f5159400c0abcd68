//! What a configuration comes to, once the files that it names have been read: checked the same way before a start,
//! before a reload and by `supernode check-config`.

use std::path::PathBuf;

use super::{
    admission::{AdmissionMode, TokenVerifier},
    allow_list::{AllowList, AllowListError},
    certificate::{Certificate, CertificateError},
    config::{AdmissionChoice, Config, TlsChoice},
    hook::{HookError, Hooks, hook_url},
    state_dir::KeyMaterial,
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
    /// [`PrepareError::Hook`].
    pub fn admission(self, config: &Config, keys: &KeyMaterial, hooks: &Hooks) -> Result<AdmissionMode, PrepareError> {
        let tokens = || AdmissionMode::Tokens(TokenVerifier::new(&keys.admission_key, &relay_pin(keys)));
        Ok(match config.admission.mode {
            AdmissionChoice::Open => AdmissionMode::Open,
            AdmissionChoice::Tokens => tokens(),
            AdmissionChoice::AllowList => self.allow_list.map_or_else(tokens, AdmissionMode::AllowList),
            AdmissionChoice::Hook => match config.admission.hook.url.as_deref().and_then(hook_url) {
                Some(url) => AdmissionMode::Hook(hooks.with(url, &config.admission.hook)?),
                None => tokens(),
            },
        })
    }
}
