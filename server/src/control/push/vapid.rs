//! Who sends: a signature by the relay's own key, which is what pages subscribe with (RFC 8292).

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde::Serialize;

use super::PushError;

/// How long a token is good, in seconds: an hour, of the day that it may be, so that clocks may differ and one that got out is
/// soon of no use.
const LIFETIME_S: u64 = 3600;

/// The relay's key for push services, and whom they may write to.
pub struct Vapid {
    key: EncodingKey,
    public: Bytes,
    contact: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

impl Vapid {
    /// By this key, for an operator with this mail address.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn new(key: &KeyPair, contact: &str) -> Result<Self, PushError> {
        let vapid = Self {
            key: EncodingKey::from_ec_der(&key.serialize_der()),
            public: Bytes::copy_from_slice(key.der_bytes()),
            contact: format!("mailto:{contact}"),
        };
        // Here, where somebody is told of it.
        vapid.authorization("https://push.example", 0)?;
        Ok(vapid)
    }

    /// What pages subscribe with.
    pub fn public_key(&self) -> Bytes {
        self.public.clone()
    }

    /// The header that says who sends, to the push service at this origin.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn authorization(&self, origin: &str, now_unix_s: u64) -> Result<String, PushError> {
        let claims = Claims { aud: origin, exp: now_unix_s + LIFETIME_S, sub: &self.contact };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)?;
        Ok(format!("vapid t={token}, k={}", BASE64URL_NOPAD.encode(&self.public)))
    }
}

impl std::fmt::Debug for Vapid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vapid(..)")
    }
}
