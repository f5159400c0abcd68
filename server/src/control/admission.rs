//! Admission: may this identity use this relay at all?
//!
//! Unless the operator chose otherwise, a relay admits whoever shows a token that it signed itself: an EdDSA JSON Web
//! Token (RFC 7519, RFC 8037) for this relay's pin, in the name of one identity or of whoever carries it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use supernode_proto::{
    close::CloseCode,
    identity::{IdentityKey, RelayPin},
    limits::ADMISSION_TOKEN_BYTES_MAX,
};

use super::{allow_list::AllowList, hook::Hook};
use crate::core::Admit;

/// The longest that a token can run: 366 days, in seconds. There is no way yet to take one back.
pub const TOKEN_LIFETIME_S_MAX: u64 = 366 * 24 * 3600;

const ISSUER: &str = "supernode";
const BEARER: &str = "*";

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It would run too long.
    #[error("lifetime of {lifetime_s} s: 1 to {TOKEN_LIFETIME_S_MAX}")]
    Lifetime {
        /// What was asked for.
        lifetime_s: u64,
    },
    /// The key does not sign.
    #[error("the admission key does not sign")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Who gets in.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum AdmissionMode {
    /// Everybody.
    Open,
    /// Whoever shows a token of this relay.
    Tokens(TokenVerifier),
    /// Whoever is on a list.
    AllowList(AllowList),
    /// Whomever a service lets in.
    Hook(Hook),
}

/// At the door: an [`AdmissionMode`] that can be changed while people come in.
#[derive(Debug)]
pub struct Doorkeeper(ArcSwap<AdmissionMode>);

impl Doorkeeper {
    /// Admits by this at first.
    pub fn new(mode: AdmissionMode) -> Self {
        Self(ArcSwap::from_pointee(mode))
    }

    /// Admits by this from now on.
    pub fn set(&self, mode: AdmissionMode) {
        self.0.store(Arc::new(mode));
    }
}

impl Admit for Doorkeeper {
    fn is_decided(&self, identity: &IdentityKey, token: &str) -> bool {
        self.0.load().is_decided(identity, token)
    }

    fn admit(&self, identity: &IdentityKey, token: &str, now_unix_s: u64) -> Result<(), CloseCode> {
        self.0.load().admit(identity, token, now_unix_s)
    }
}

impl Admit for AdmissionMode {
    fn is_decided(&self, identity: &IdentityKey, token: &str) -> bool {
        match self {
            Self::Hook(hook) => hook.is_decided(identity, token),
            Self::Open | Self::Tokens(_) | Self::AllowList(_) => true,
        }
    }

    /// The identity has proven itself by then. A genuine token past its time is [`CloseCode::TOKEN_EXPIRED`]; whatever
    /// else is wrong is [`CloseCode::NOT_ADMITTED`].
    fn admit(&self, identity: &IdentityKey, token: &str, now_unix_s: u64) -> Result<(), CloseCode> {
        match self {
            Self::Open => Ok(()),
            Self::Tokens(verifier) => verifier.verify(identity, token, now_unix_s),
            Self::AllowList(list) => list.admit(identity),
            Self::Hook(hook) => hook.admit(identity, token),
        }
    }
}

impl std::fmt::Debug for AdmissionMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Tokens(_) => "Tokens(..)",
            Self::AllowList(_) => "AllowList(..)",
            Self::Hook(_) => "Hook(..)",
        })
    }
}

/// Makes tokens.
pub struct TokenIssuer {
    key: EncodingKey,
    audience: String,
}

impl TokenIssuer {
    /// An issuer for the relay with this pin; `key` is Ed25519.
    pub fn new(key: &KeyPair, pin: &RelayPin) -> Self {
        Self { key: EncodingKey::from_ed_der(key.serialized_der()), audience: audience(pin) }
    }

    /// A token for `identity`, or for whoever carries it, that is good from `now_unix_s` for `lifetime_s` seconds, at
    /// most [`TOKEN_LIFETIME_S_MAX`]. `id` is random and tells tokens apart.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue(
        &self,
        identity: Option<&IdentityKey>,
        now_unix_s: u64,
        lifetime_s: u64,
        id: [u8; 16],
    ) -> Result<String, IssueError> {
        if !(1..=TOKEN_LIFETIME_S_MAX).contains(&lifetime_s) {
            return Err(IssueError::Lifetime { lifetime_s });
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: self.audience.clone(),
            sub: identity.map_or_else(|| BEARER.to_owned(), IdentityKey::to_text),
            iat: now_unix_s,
            exp: now_unix_s.saturating_add(lifetime_s),
            jti: BASE64URL_NOPAD.encode(&id),
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)?)
    }
}

/// Checks tokens. Holds the public half of the key only.
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
}

impl TokenVerifier {
    /// A verifier for the relay with this pin; `key` is Ed25519.
    pub fn new(key: &KeyPair, pin: &RelayPin) -> Self {
        // The list of algorithms is ours, never the token's: `none` and HMAC under the public key stay outside.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false; // the library would take its own clock: `verify` compares
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[audience(pin)]);
        Self { key: DecodingKey::from_ed_der(key.public_key_raw()), validation }
    }

    fn verify(&self, identity: &IdentityKey, token: &str, now_unix_s: u64) -> Result<(), CloseCode> {
        if token.is_empty() || token.len() > ADMISSION_TOKEN_BYTES_MAX {
            return Err(CloseCode::NOT_ADMITTED);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|_| CloseCode::NOT_ADMITTED)?
            .claims;
        if claims.sub != BEARER && IdentityKey::from_text(&claims.sub).as_ref() != Ok(identity) {
            return Err(CloseCode::NOT_ADMITTED);
        }
        // RFC 7519 section 4.1.4: on or after this second it is not accepted.
        if now_unix_s >= claims.exp {
            return Err(CloseCode::TOKEN_EXPIRED);
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
}

fn audience(pin: &RelayPin) -> String {
    BASE64URL_NOPAD.encode(&pin.0)
}
