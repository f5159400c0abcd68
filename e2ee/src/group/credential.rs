//! MLS credentials: a delegation, as the content of a basic credential (RFC 9420 section 5.3).

use openmls::prelude::{BasicCredential, Credential, CredentialWithKey, LeafNode};
use supernode_proto::identity::{Delegation, DeviceKey, IdentityKey};

use crate::error::Error;
use crate::group::change::Member;

/// The credential that a device shows.
pub(crate) fn of_delegation(delegation: &Delegation) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(delegation.to_bytes()).into(),
        signature_key: delegation.device.as_bytes().to_vec().into(),
    }
}

/// Whose leaf this is, if an identity certified its signature key and still does at `now_unix_s`.
pub(crate) fn verify(
    credential: &Credential,
    signature_key: &[u8],
    now_unix_s: u64,
) -> Result<(IdentityKey, DeviceKey), Error> {
    let delegation = read(credential, signature_key)?;
    delegation.verify(now_unix_s)?;
    Ok((delegation.identity, delegation.device))
}

/// As [`verify`], of a leaf that is not in the tree yet.
pub(crate) fn verify_leaf(leaf: &LeafNode, now_unix_s: u64) -> Result<(IdentityKey, DeviceKey), Error> {
    verify(leaf.credential(), leaf.signature_key().as_slice(), now_unix_s)
}

/// A member whose credential was verified when they came.
pub(crate) fn known_member(member: &openmls::prelude::Member) -> Result<Member, Error> {
    let delegation = read(&member.credential, &member.signature_key)?;
    Ok(Member { leaf: member.index.u32(), identity: delegation.identity, device: delegation.device })
}

fn read(credential: &Credential, signature_key: &[u8]) -> Result<Delegation, Error> {
    let basic = BasicCredential::try_from(credential.clone()).map_err(|_| Error::Malformed { what: "a credential" })?;
    let delegation = Delegation::from_bytes(basic.identity())?;
    if delegation.device.as_bytes() != signature_key {
        return Err(Error::DelegationDevice);
    }
    Ok(delegation)
}
