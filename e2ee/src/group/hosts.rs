//! Who may put others out of a group: it stands in the group's context, so that every member sees the same and nobody
//! outside can change it.

use openmls::group::GroupContext;
use openmls::prelude::{
    Capabilities, Extension, ExtensionType, Extensions, RequiredCapabilitiesExtension, UnknownExtension,
};
use supernode_proto::identity::IdentityKey;

use crate::error::Error;
use crate::exchange::KeyExchange;

/// From the private use range of RFC 9420 section 17.3.
const TYPE: u16 = 0xf0a7;
const FORMAT_1: u8 = 1;
const KEY_BYTES: usize = 32;

/// How many may be named: whoever opened a room and those they trust with it.
pub const HOSTS_MAX: usize = 16;

/// What our leaves say that they understand: who puts others out, and a key package of a last resort, for what stands in a
/// key package its leaf must know (RFC 9420 section 10.1).
pub(crate) fn capabilities(exchanges: &[KeyExchange]) -> Capabilities {
    Capabilities::builder()
        .ciphersuites(exchanges.iter().map(|exchange| exchange.suite()).collect())
        .extensions(vec![ExtensionType::LastResort, ExtensionType::Unknown(TYPE)])
        .build()
}

/// The extension that names them: a format byte, then the identities, each once; and that all members must know it
/// (R-178, RFC 9420 section 11.1).
pub(crate) fn extensions(hosts: &[IdentityKey]) -> Result<Extensions<GroupContext>, Error> {
    check_names(hosts)?;
    let mut bytes = vec![FORMAT_1];
    hosts.iter().for_each(|host| bytes.extend_from_slice(host.as_bytes()));
    let named = Extension::Unknown(TYPE, UnknownExtension(bytes));
    Extensions::from_vec(vec![Extension::RequiredCapabilities(required()), named]).map_err(Error::mls("naming hosts"))
}

fn required() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(TYPE)], &[], &[])
}

/// Who is named; nobody in a group without hosts. Anything else that a group could have beside its members is refused:
/// external senders, say, could propose to remove some.
pub(crate) fn read(extensions: &Extensions<GroupContext>) -> Result<Vec<IdentityKey>, Error> {
    let all: Vec<&Extension> = extensions.iter().collect();
    let bytes = match all[..] {
        [] => return Ok(Vec::new()),
        [Extension::RequiredCapabilities(what), Extension::Unknown(TYPE, UnknownExtension(bytes))]
            if *what == required() =>
        {
            bytes
        }
        _ => return Err(Error::Refused { what: "group extensions other than the hosts" }),
    };
    let malformed = || Error::Malformed { what: "the list of hosts" };
    let (FORMAT_1, keys) = bytes.split_first().map(|(format, keys)| (*format, keys)).ok_or_else(malformed)? else {
        return Err(malformed());
    };
    let (keys, []) = keys.as_chunks::<KEY_BYTES>() else { return Err(malformed()) };
    let hosts: Vec<IdentityKey> = keys.iter().map(|key| IdentityKey::new(*key)).collect();
    check_names(&hosts)?;
    Ok(hosts)
}

fn check_names(hosts: &[IdentityKey]) -> Result<(), Error> {
    let is_again = |(at, host): (usize, &IdentityKey)| hosts[..at].contains(host);
    if hosts.is_empty() || hosts.len() > HOSTS_MAX || hosts.iter().enumerate().any(is_again) {
        return Err(Error::Malformed { what: "the list of hosts" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> Result<Vec<IdentityKey>, Error> {
        let named = Extension::Unknown(TYPE, UnknownExtension(bytes.to_vec()));
        let all = vec![Extension::RequiredCapabilities(required()), named];
        read(&Extensions::from_vec(all).expect("may stand there"))
    }

    //
    #[test]
    fn hosts_come_back_from_the_extension_that_names_them() {
        let hosts = [IdentityKey::new([1; 32]), IdentityKey::new([2; 32])];
        assert_eq!(read(&extensions(&hosts).expect("two")).expect("ours"), hosts);
        assert_eq!(read(&Extensions::empty()).expect("none"), []);
    }

    //
    #[test]
    fn a_list_that_no_honest_member_makes_is_refused() {
        let many: Vec<IdentityKey> = (0..=HOSTS_MAX as u8).map(|byte| IdentityKey::new([byte; 32])).collect();
        for hosts in [&many[..], &[], &[IdentityKey::new([1; 32]); 2]] {
            assert!(extensions(hosts).is_err());
        }
        let doubled = [&[1][..], &[7; 64]].concat();
        for bytes in [&[][..], &[1], &[2; 33], &[1; 32], &[1; 34], &doubled] {
            assert!(named(bytes).is_err(), "{bytes:?}");
        }
        let other = Extensions::single(Extension::Unknown(0xf0a8, UnknownExtension(vec![]))).expect("may stand there");
        assert!(matches!(read(&other), Err(Error::Refused { .. })), "what we do not know");
    }
}
