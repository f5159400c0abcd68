//! Admission: may this identity use this relay at all?
//!
//! Unless the operator chose otherwise, a relay admits whoever shows a token that it signed itself: an EdDSA JSON Web
//! Token (RFC 7519, RFC 8037) for this relay's pin, in the name of one identity or of whoever carries it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use supernode_proto::{
    close::CloseCode,
    identity::{IdentityKey, RelayPin},
    limits::ADMISSION_TOKEN_BYTES_MAX,
    troubles,
};

use crate::control::{allow_list::AllowList, classes::Classes, hook::Hook, rotation::KeyBefore, spent::Spent};
use crate::core::{Admit, Applicant, Grant, Resident, Voucher, limits::Limits};

/// The longest that a token can run: 366 days, in seconds. There is no way yet to take one back.
pub const TOKEN_LIFETIME_S_MAX: u64 = 366 * 24 * 3600;

const ISSUER: &str = "supernode";
const BEARER: &str = "*";

troubles! {
    /// Why no token was made.
    pub IssueError as WORDS:
    Lifetime { lifetime_s: u64 }, "lifetime of {lifetime_s} s: 1 to {bound}" with (bound = TOKEN_LIFETIME_S_MAX),
        "as is said: the token would be good for too short or too long a time", "name a time within the bounds that are said";
    Sign(#[from] jsonwebtoken::errors::Error), "the admission key does not sign",
        "its file is damaged", "put a new key in its place (supernode rotate admission-key)";
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
    Hook(Arc<Hook>),
}

/// At the door: an [`AdmissionMode`] that can be changed while people come in.
#[derive(Debug)]
pub struct Doorkeeper {
    mode: ArcSwap<AdmissionMode>,
    generation: AtomicU64,
}

impl Doorkeeper {
    /// Admits by this at first.
    pub fn new(mode: AdmissionMode) -> Self {
        Self { mode: ArcSwap::from_pointee(mode), generation: AtomicU64::new(0) }
    }

    /// The classes that tokens may name now.
    pub fn classes(&self) -> Vec<String> {
        match &**self.mode.load() {
            AdmissionMode::Tokens(verifier) => verifier.classes(),
            AdmissionMode::Open | AdmissionMode::AllowList(_) | AdmissionMode::Hook(_) => Vec::new(),
        }
    }

    /// Admits by this from now on; those who are in are asked about again.
    pub fn set(&self, mode: AdmissionMode) {
        self.mode.store(Arc::new(mode));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Admit for Doorkeeper {
    fn is_decided(&self, who: &Applicant, now_unix_s: u64) -> bool {
        self.mode.load().is_decided(who, now_unix_s)
    }

    fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode> {
        self.mode.load().admit(who, now_unix_s)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn stays(&self, who: &Resident, grant: &mut Grant, now_unix_s: u64) -> Result<(), CloseCode> {
        self.mode.load().stays(who, grant, now_unix_s)
    }
}

impl Admit for AdmissionMode {
    fn is_decided(&self, who: &Applicant, now_unix_s: u64) -> bool {
        match self {
            Self::Tokens(verifier) => verifier.is_decided(who, now_unix_s),
            Self::Hook(hook) => hook.is_decided(who),
            Self::Open | Self::AllowList(_) => true,
        }
    }

    /// The identity has proven itself by then. A genuine token past its time is [`CloseCode::TOKEN_EXPIRED`]; whatever
    /// else is wrong is [`CloseCode::NOT_ADMITTED`].
    fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode> {
        match self {
            Self::Open => Ok(Grant::without_end(Voucher::Nobody)),
            Self::Tokens(verifier) => verifier.admit(who, now_unix_s),
            Self::AllowList(list) => list.admit(&who.identity).map(|()| Grant::without_end(Voucher::List)),
            Self::Hook(hook) => hook.admit(who, now_unix_s),
        }
    }

    /// By what a session came in is kept, but no token that may be checked again: where that is asked for now and was not
    /// then, the session ends so that its client shows what it has at the door ([`CloseCode::REMOVED`]).
    fn stays(&self, who: &Resident, grant: &mut Grant, now_unix_s: u64) -> Result<(), CloseCode> {
        match (self, &mut grant.by) {
            (Self::Open, _) => *grant = Grant::without_end(Voucher::Nobody),
            (Self::AllowList(list), _) => {
                list.admit(&who.identity)?;
                *grant = Grant::without_end(Voucher::List);
            }
            (Self::Tokens(verifier), Voucher::Token { key, expires_unix_s, class }) => {
                grant.limits = verifier.limits(class.as_deref())?;
                grant.until_unix_s = verifier.still_good(*key, *expires_unix_s, now_unix_s)?;
            }
            (Self::Hook(hook), Voucher::Service(word)) => {
                grant.until_unix_s = hook.stays(&who.identity, word, now_unix_s)?;
            }
            (Self::Tokens(_) | Self::Hook(_), _) => return Err(CloseCode::REMOVED),
        }
        Ok(())
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
    once: bool,
    class: Option<String>,
}

impl TokenIssuer {
    /// An issuer for the relay with this pin; `key` is Ed25519.
    pub fn new(key: &KeyPair, pin: &RelayPin) -> Self {
        Self { key: EncodingKey::from_ed_der(key.serialized_der()), audience: audience(pin), once: false, class: None }
    }

    /// Whether its tokens are for the first device that uses them only.
    #[must_use]
    pub fn for_one_use(self, once: bool) -> Self {
        Self { once, ..self }
    }

    /// The class of limits that its tokens grant.
    #[must_use]
    pub fn with_class(self, class: Option<String>) -> Self {
        Self { class, ..self }
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
            once: self.once,
            class: self.class.clone(),
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)?)
    }
}

/// Checks tokens. Holds the public halves of keys only.
pub struct TokenVerifier {
    keys: Vec<VerifyingKey>,
    validation: Validation,
    classes: Classes,
    spent: Option<Arc<Spent>>,
}

struct VerifyingKey {
    name: u64,
    key: DecodingKey,
    /// From this second of Unix time on, nothing is good by it; the present key has no end.
    ends_unix_s: Option<u64>,
}

impl VerifyingKey {
    fn new(public: &[u8], ends_unix_s: Option<u64>) -> Self {
        let [name @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] =
            Sha256::digest(public).into();
        Self { name: u64::from_be_bytes(name), key: DecodingKey::from_ed_der(public), ends_unix_s }
    }

    fn is_good(&self, now_unix_s: u64) -> bool {
        self.ends_unix_s.is_none_or(|ends| now_unix_s < ends)
    }

    /// Until when something is good by it that ends then by itself.
    fn bound(&self, expires_unix_s: u64) -> u64 {
        self.ends_unix_s.map_or(expires_unix_s, |ends| ends.min(expires_unix_s))
    }
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
        Self {
            keys: vec![VerifyingKey::new(key.public_key_raw(), None)],
            validation,
            classes: Classes::default(),
            spent: None,
        }
    }

    /// Tokens that these keys signed are good as well, until those end.
    #[must_use]
    pub fn with_keys_before(mut self, before: &[KeyBefore]) -> Self {
        self.keys.extend(before.iter().map(|key| VerifyingKey::new(&key.public, Some(key.ends_unix_s))));
        self
    }

    /// Tokens for these pins, by which the relay was known before, are good as well.
    #[must_use]
    pub fn with_pins_before(mut self, pin: &RelayPin, before: &[RelayPin]) -> Self {
        let pins: Vec<String> = [pin].into_iter().chain(before).map(audience).collect();
        self.validation.set_audience(&pins);
        self
    }

    /// Tokens may name these classes, and no other.
    #[must_use]
    pub fn with_classes(self, classes: Classes) -> Self {
        Self { classes, ..self }
    }

    /// Tokens for one use are remembered there; without it, none is good.
    #[must_use]
    pub fn with_spent(self, spent: Arc<Spent>) -> Self {
        Self { spent: Some(spent), ..self }
    }

    /// The names of the classes.
    pub fn classes(&self) -> Vec<String> {
        self.classes.names()
    }

    /// Whether [`Self::admit`] knows: of a token for one use, once it is written down whose that is.
    fn is_decided(&self, who: &Applicant, now_unix_s: u64) -> bool {
        if !is_for_one_use(&who.token) {
            return true;
        }
        match (self.verify(&who.identity, &who.token, now_unix_s), &self.spent) {
            (Ok((claims, _)), Some(spent)) => spent.is_decided(&claims.jti, &who.device, claims.exp),
            _ => true,
        }
    }

    fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode> {
        let (claims, key) = self.verify(&who.identity, &who.token, now_unix_s)?;
        let limits = self.limits(claims.class.as_deref())?;
        if claims.once {
            self.spent.as_ref().ok_or(CloseCode::NOT_ADMITTED)?.admit(&claims.jti, &who.device)?;
        }
        let by = Voucher::Token {
            key: key.name,
            expires_unix_s: claims.exp,
            class: claims.class.map(String::into_boxed_str),
        };
        Ok(Grant { by, until_unix_s: key.bound(claims.exp), limits })
    }

    fn limits(&self, class: Option<&str>) -> Result<Option<Arc<Limits>>, CloseCode> {
        class.map(|class| self.classes.limits(class).ok_or(CloseCode::UNKNOWN_CLASS)).transpose()
    }

    /// What a genuine token says, and by which key it is one.
    fn verify(
        &self,
        identity: &IdentityKey,
        token: &str,
        now_unix_s: u64,
    ) -> Result<(Claims, &VerifyingKey), CloseCode> {
        if token.is_empty() || token.len() > ADMISSION_TOKEN_BYTES_MAX {
            return Err(CloseCode::NOT_ADMITTED);
        }
        let decode = |key: &VerifyingKey| jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation).ok();
        let mut in_time = self.keys.iter().filter(|key| key.is_good(now_unix_s));
        let genuine = in_time.find_map(|key| Some((decode(key)?.claims, key)));
        let (claims, key) = genuine.ok_or(CloseCode::NOT_ADMITTED)?;
        if claims.sub != BEARER && IdentityKey::from_text(&claims.sub).as_ref() != Ok(identity) {
            return Err(CloseCode::NOT_ADMITTED);
        }
        // RFC 7519 section 4.1.4: on or after this second it is not accepted.
        if now_unix_s >= claims.exp {
            return Err(CloseCode::TOKEN_EXPIRED);
        }
        Ok((claims, key))
    }

    /// Until when a token that was verified by this key, and is good up to this second, is good as things stand now.
    fn still_good(&self, key: u64, expires_unix_s: u64, now_unix_s: u64) -> Result<u64, CloseCode> {
        let key = self.keys.iter().find(|known| known.name == key && known.is_good(now_unix_s));
        let key = key.ok_or(CloseCode::NOT_ADMITTED)?;
        if now_unix_s >= expires_unix_s {
            return Err(CloseCode::TOKEN_EXPIRED);
        }
        Ok(key.bound(expires_unix_s))
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
    /// Whether it is for the first device that uses it only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    once: bool,
    /// The class of limits that it grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
}

/// What is looked at of a token before it is verified.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    once: bool,
}

/// Whether a token claims to be for one use. Nothing is believed by it: it only says whether to look closer.
pub fn is_for_one_use(token: &str) -> bool {
    let peek = || {
        let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
        serde_json::from_slice::<Peek>(&payload).ok()
    };
    token.len() <= ADMISSION_TOKEN_BYTES_MAX && peek().is_some_and(|peek| peek.once)
}

fn audience(pin: &RelayPin) -> String {
    BASE64URL_NOPAD.encode(&pin.0)
}
