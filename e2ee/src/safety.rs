//! The safety number: what people compare to know that nobody sits between them.

use sha2::{Digest, Sha512};
use supernode_proto::identity::IdentityKey;

const DOMAIN: &[u8] = b"supernode/1 safety number\0";
const GROUPS: usize = 12;
const BYTES_PER_GROUP: usize = 5;

/// Sixty decimal digits in twelve groups of five, the same for everybody who sees the same identities in the same MLS
/// epoch.
///
/// SHA-512 over a domain, the number of different identities (4 bytes, big-endian), these in ascending order, and the
/// epoch authenticator (RFC 9420 section 8.7); then each five bytes of the digest, big-endian, modulo 100,000. The
/// order in which `identities` are given, and how often, does not matter.
pub fn safety_number(identities: &[IdentityKey], epoch_authenticator: &[u8]) -> String {
    let mut identities = identities.to_vec();
    identities.sort_unstable();
    identities.dedup();
    let mut hash = Sha512::new().chain_update(DOMAIN).chain_update((identities.len() as u32).to_be_bytes());
    for identity in &identities {
        hash.update(identity.as_bytes());
    }
    let digest = hash.chain_update(epoch_authenticator).finalize();
    let groups: Vec<String> = digest.chunks_exact(BYTES_PER_GROUP).take(GROUPS).map(group).collect();
    groups.join(" ")
}

fn group(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{:05}", number % 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IdentityKey = IdentityKey::new([1; 32]);
    const B: IdentityKey = IdentityKey::new([2; 32]);

    //
    #[test]
    fn it_is_twelve_groups_of_five_digits() {
        let number = safety_number(&[A, B], b"authenticator");
        let groups: Vec<&str> = number.split(' ').collect();
        assert_eq!(groups.len(), 12);
        assert!(groups.iter().all(|group| group.len() == 5 && group.bytes().all(|byte| byte.is_ascii_digit())));
    }

    //
    #[test]
    fn neither_order_nor_a_second_device_matters() {
        assert_eq!(safety_number(&[A, B], b"x"), safety_number(&[B, A, B], b"x"));
    }

    //
    #[test]
    fn every_identity_and_the_authenticator_matter() {
        let number = safety_number(&[A, B], b"x");
        assert_ne!(number, safety_number(&[A], b"x"));
        assert_ne!(number, safety_number(&[A, IdentityKey::new([3; 32])], b"x"));
        assert_ne!(number, safety_number(&[A, B], b"y"));
    }
}
