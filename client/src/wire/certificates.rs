//! What a relay tells pages of its certificates (R-237), read and verified.

use data_encoding::BASE64;
use p256::ecdsa::{DerSignature, VerifyingKey, signature::Verifier as _};
use serde::Deserialize;
use supernode_proto::identity::RelayPin;
use supernode_session::{
    pages::{self, Demanded},
    pin::Signed,
};

#[derive(Deserialize)]
struct Told {
    /// Each a chain, the certificate that is shown first, in base64 and DER.
    certificates: Vec<Vec<String>>,
}

/// Those of a list that are of the relay with this pin; `None` if it is none.
pub(crate) fn demanded(file: &[u8], pin: &RelayPin, now_unix_s: u64) -> Option<Vec<Demanded>> {
    let Told { certificates } = serde_json::from_slice(file).ok()?;
    let chain = |chain: Vec<String>| chain.iter().map(|der| BASE64.decode(der.as_bytes()).ok()).collect();
    let told: Vec<Vec<Vec<u8>>> = certificates.into_iter().map(chain).collect::<Option<_>>()?;
    Some(pages::demanded(pin, &told, now_unix_s, is_good))
}

/// Whether a signature is good: ECDSA on P-256 with SHA-256, as all relays' own keys make it.
fn is_good(Signed { key, message, signature }: Signed<'_>) -> bool {
    let (key, signature) = (VerifyingKey::from_sec1_bytes(key), DerSignature::from_bytes(signature));
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::Signer as _};

    use super::*;

    // R-162, R-237
    #[test]
    fn a_signature_counts_for_its_key_and_message_only_and_what_is_none_for_nothing() {
        let [ours, others] = [[7; 32], [8; 32]].map(|seed| SigningKey::from_slice(&seed).expect("a key"));
        let key = |of: &SigningKey| of.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        let signature: DerSignature = ours.sign(b"the next key");
        let (ours, others, signature) = (key(&ours), key(&others), signature.as_bytes().to_vec());
        let good = |key: &[u8], message: &[u8], signature: &[u8]| is_good(Signed { key, message, signature });
        assert!(good(&ours, b"the next key", &signature));
        assert!(!good(&others, b"the next key", &signature));
        assert!(!good(&ours, b"another key", &signature));
        for cut in 0..signature.len() {
            assert!(!good(&ours, b"the next key", &signature[..cut]) && !good(&ours[..cut.min(64)], b"", &signature));
        }
    }

    // R-237
    #[test]
    fn a_list_that_is_none_says_nothing_and_one_of_strangers_names_nobody() {
        let pin = RelayPin([1; 32]);
        for file in ["", "{}", "[]", r#"{"certificates": "x"}"#, r#"{"certificates": [["not base64!"]]}"#] {
            assert_eq!(demanded(file.as_bytes(), &pin, 0), None, "{file}");
        }
        for file in [
            r#"{"certificates": []}"#,
            r#"{"certificates": [[]]}"#,
            r#"{"certificates": [["AAAA"], ["AAAA", "AAAA"]]}"#,
        ] {
            assert_eq!(demanded(file.as_bytes(), &pin, 0), Some(Vec::new()), "{file}");
        }
    }
}
