//! Whether clients will take a certificate that they check by the authorities they trust: what they check is checked here,
//! before they do.

use rustls::{
    CertificateError, Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer};

use crate::control::certificate::names_of;

/// What clients will say to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// All of them refuse it.
    Refused(String),
    /// Those refuse it that trust the authorities which this machine trusts, and no others.
    Untrusted(String),
}

impl Objection {
    /// In words.
    pub fn words(&self) -> &str {
        match self {
            Self::Refused(words) | Self::Untrusted(words) => words,
        }
    }

    /// Whether nobody takes it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// The authorities that this machine trusts.
pub fn authorities_of_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What clients that come to this host will say, and trust these authorities.
pub fn objections(
    shown: &[CertificateDer<'static>],
    host: Option<&str>,
    roots: &RootCertStore,
    now_unix_s: u64,
) -> Vec<Objection> {
    let chain: Vec<X509Certificate<'_>> =
        shown.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let Some((leaf, ParsedCertificates { parsed, intermediates })) = chain.first().zip(parse(shown)) else {
        return vec![Objection::Refused("it cannot be read as clients read it".to_owned())];
    };
    let mut objections = Vec::new();
    objections.extend(out_of_time(&chain, now_unix_s));
    objections.extend(wrong_name(&parsed, host, &names_of(leaf)));
    let in_time = objections.iter().all(|objection| !objection.words().contains("ran out"));
    let supported = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix_s));
    match verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, supported) {
        Ok(()) => {}
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            objections.push(unknown_issuer(leaf, &chain))
        }
        // That is said already, with the day.
        Err(_) if !in_time => {}
        Err(error) => objections.push(Objection::Refused(format!("clients refuse it: {error}"))),
    }
    objections
}

struct ParsedCertificates<'a> {
    parsed: ParsedCertificate<'a>,
    intermediates: &'a [CertificateDer<'static>],
}

fn parse<'a>(chain: &'a [CertificateDer<'static>]) -> Option<ParsedCertificates<'a>> {
    let (leaf, intermediates) = chain.split_first()?;
    Some(ParsedCertificates { parsed: ParsedCertificate::try_from(leaf).ok()?, intermediates })
}

fn out_of_time(chain: &[X509Certificate<'_>], now_unix_s: u64) -> Option<Objection> {
    let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    chain.iter().enumerate().find_map(|(index, certificate)| {
        let validity = certificate.validity();
        let which = if index == 0 { "it".to_owned() } else { format!("certificate {} of its chain", index + 1) };
        let words = match () {
            () if validity.not_after.timestamp() < now => format!("{which} ran out on {}", validity.not_after),
            () if validity.not_before.timestamp() > now => {
                format!("{which} is not good before {}: is this machine's clock right?", validity.not_before)
            }
            () => return None,
        };
        Some(Objection::Refused(words))
    })
}

fn wrong_name(parsed: &ParsedCertificate<'_>, host: Option<&str>, names: &[String]) -> Option<Objection> {
    let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
    let Some(host) = host else {
        return Some(Objection::Refused(format!(
            "it is for {names}: say under which name clients come (relay.advertise)"
        )));
    };
    let fits = ServerName::try_from(host).is_ok_and(|name| verify_server_name(parsed, &name).is_ok());
    (!fits).then(|| {
        Objection::Refused(format!("it is for {names}, and clients come to {host} (relay.advertise): they refuse it"))
    })
}

/// No authority that is trusted is at the chain's end, or something is missing between.
fn unknown_issuer(leaf: &X509Certificate<'_>, chain: &[X509Certificate<'_>]) -> Objection {
    let gap = chain.windows(2).position(|pair| pair[0].issuer() != pair[1].subject());
    if let Some(gap) = gap {
        let (here, next) = (gap + 1, gap + 2);
        return Objection::Refused(format!(
            "certificate {next} of its file did not sign certificate {here}: put each one's signer right behind it"
        ));
    }
    let names_a_signer = leaf
        .extensions()
        .iter()
        .any(|extension| matches!(extension.parsed_extension(), ParsedExtension::AuthorityInfoAccess(_)));
    if chain.len() == 1 && leaf.issuer() != leaf.subject() && names_a_signer {
        let issuer = leaf.issuer();
        return Objection::Refused(format!(
            "its file has the certificate alone, and not the one of {issuer} that signed it: take the whole chain \
             (fullchain.pem)"
        ));
    }
    let issuer = chain.last().unwrap_or(leaf).issuer();
    Objection::Untrusted(format!(
        "{issuer} is no authority that this machine trusts: clients take it only where they trust that one (supernode-call \
         --authority-file)"
    ))
}

#[cfg(test)]
mod tests {
    use crate::control::certificate::Certificate;
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// 15 January 2027.
    const NOW: u64 = 1_800_000_000;
    const GOOD: [(i32, u8, u8); 2] = [(2027, 1, 1), (2027, 4, 1)];

    /// An authority, one below it, and what they sign.
    struct World {
        root: (Vec<u8>, KeyPair, CertificateParams),
        middle: (String, KeyPair, CertificateParams),
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().expect("a key")
    }

    impl World {
        fn new(root: &str, middle: &str) -> Self {
            let (params, root_key) = (authority(root), key());
            let root = params.self_signed(&root_key).expect("signed").der().to_vec();
            let (below, below_key) = (authority(middle), key());
            let pem = below.signed_by(&below_key, &Issuer::from_params(&params, &root_key)).expect("signed").pem();
            Self { root: (root, root_key, params), middle: (pem, below_key, below) }
        }

        /// A certificate for `relay.example`, good between these days, and its key.
        fn shown(
            &self,
            [from, to]: [(i32, u8, u8); 2],
            change: impl FnOnce(&mut CertificateParams),
        ) -> (String, String) {
            let mut params = CertificateParams::new(vec!["relay.example".to_owned()]).expect("valid");
            let at = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
            (params.not_before, params.not_after) = (at(from), at(to));
            change(&mut params);
            let key = key();
            let signed = params.signed_by(&key, &Issuer::from_params(&self.middle.2, &self.middle.1)).expect("signed");
            (signed.pem(), key.serialize_pem())
        }

        fn say(&self, chain: &str, key: &str, host: &str) -> Vec<Objection> {
            let home = tempfile::tempdir().expect("a temporary directory");
            let (certificate, key_file) = (home.path().join("chain.pem"), home.path().join("key.pem"));
            std::fs::write(&certificate, chain).expect("ours");
            std::fs::write(&key_file, key).expect("ours");
            let certificate = Certificate::from_files(&certificate, &key_file).expect("they belong together");
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(self.root.0.clone())).expect("a root");
            objections(&certificate.chain, Some(host), &roots, NOW)
        }
    }

    #[test]
    fn a_whole_chain_for_the_right_name_is_taken() {
        let world = World::new("Root", "Middle");
        let (leaf, key) = world.shown(GOOD, |_| {});
        assert_eq!(world.say(&(leaf + &world.middle.0), &key, "relay.example"), []);
    }

    #[test]
    fn what_clients_refuse_is_named() {
        let world = World::new("Root", "Middle");
        let one = |objections: Vec<Objection>| match objections.as_slice() {
            [one] => one.clone(),
            other => panic!("{other:?}"),
        };
        let (leaf, key) = world.shown(GOOD, |_| {});
        let chain = format!("{leaf}{}", world.middle.0);
        let name = one(world.say(&chain, &key, "other.example"));
        assert!(
            name.is_final() && name.words().contains("for relay.example, and clients come to other.example"),
            "{name:?}"
        );

        let (old, old_key) = world.shown([(2026, 11, 1), (2027, 1, 10)], |_| {});
        let ended = one(world.say(&(old + &world.middle.0), &old_key, "relay.example"));
        assert!(ended.is_final() && ended.words().starts_with("it ran out on"), "{ended:?}");
        let (new, new_key) = world.shown([(2027, 1, 20), (2027, 4, 1)], |_| {});
        let early = world.say(&(new + &world.middle.0), &new_key, "relay.example");
        assert!(early[0].words().starts_with("it is not good before"), "{early:?}");

        let alone = one(world.say(&leaf, &key, "relay.example"));
        assert!(!alone.is_final() && alone.words().contains("CN=Middle is no authority"), "{alone:?}");
        let where_from = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], vec![0x30, 0]);
        let (public, public_key) = world.shown(GOOD, |params| params.custom_extensions.push(where_from));
        let alone = one(world.say(&public, &public_key, "relay.example"));
        assert!(alone.is_final() && alone.words().contains("fullchain.pem"), "{alone:?}");

        let root = data_encoding::BASE64.encode(&world.root.0);
        let root = format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
        let stranger = World::new("Strange Root", "Strange Middle");
        let (other, other_key) = stranger.shown(GOOD, |_| {});
        let gap = one(world.say(&(other + &root), &other_key, "relay.example"));
        assert!(
            gap.is_final() && gap.words().contains("certificate 2 of its file did not sign certificate 1"),
            "{gap:?}"
        );
        let (other, other_key) = stranger.shown(GOOD, |_| {});
        let unknown = one(world.say(&(other + &stranger.middle.0), &other_key, "relay.example"));
        assert!(!unknown.is_final() && unknown.words().contains("CN=Strange Root is no authority"), "{unknown:?}");
    }
}
