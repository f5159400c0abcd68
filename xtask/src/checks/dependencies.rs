//! The dependency rule: the relay and the wire reach nothing that could hold or use a content key.

use super::Findings;

/// What the relay and the wire must never reach: our own crates above them, MLS, SFrame, and sealing by whatever name.
const BANNED: &[&str] = &[
    "supernode-client",
    "supernode-calls",
    "supernode-e2ee",
    "supernode-e2ee-interop",
    "openmls*",
    "mls-rs*",
    "mls-*",
    "hpke*",
    "sframe",
    "snow",
    "noise-*",
    "libsignal*",
    "vodozemac",
    "age",
    "aead",
    "aead-*",
    "aes-gcm",
    "aes-gcm-*",
    "aes-siv",
    "aes-ccm",
    "ccm",
    "eax",
    "ocb3",
    "ascon-aead",
    "chacha20poly1305",
    "xsalsa20poly1305",
    "crypto_box",
    "crypto_secretbox",
    "deoxys",
    "aegis",
    "ring",
    "orion",
    "openssl",
    "openssl-sys",
    "boring",
    "sodiumoxide",
    "libsodium-sys*",
    "dryoc",
    "libcrux*",
    "graviola",
    "rustls-ring",
    "secretbox",
];
/// The TLS provider can seal, so it is reached through those that do TLS (to a cluster's NATS servers, too), certificates (by
/// ACME too) and admission tokens only.
const PROVIDER: &[&str] = &["aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys"];
const MAY_REACH_PROVIDER: &[&str] =
    &["aws-lc-rs", "rustls", "rustls-webpki", "quinn-proto", "rcgen", "instant-acme", "jsonwebtoken", "async-nats"];

/// What `tree` reaches and must not. `tree` is what `cargo tree --edges normal,build,dev --prefix depth` prints for one package.
pub fn forbidden(tree: &str) -> Findings {
    let mut findings = Findings::new();
    let mut path: Vec<&str> = Vec::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let Some((depth, name)) = parse(line) else {
            findings.push(format!("cargo tree: `{line}`: not a line of `--prefix depth`"));
            continue;
        };
        path.truncate(depth);
        path.push(name);
        if BANNED.iter().any(|pattern| matches(pattern, name)) {
            findings.push(format!("{}: no package may lead there", path.join(" -> ")));
        }
        let parent = path.iter().rev().nth(1).copied().unwrap_or_default();
        if PROVIDER.contains(&name) && !MAY_REACH_PROVIDER.contains(&parent) {
            findings.push(format!("{}: only {} may use it", path.join(" -> "), MAY_REACH_PROVIDER.join(", ")));
        }
    }
    if path.is_empty() {
        findings.push("cargo tree: printed no package".into());
    }
    findings
}

/// A line such as `2aws-lc-rs v1.19.0 (*)`: how deep it stands and the package's name. A name never begins with a digit.
fn parse(line: &str) -> Option<(usize, &str)> {
    let name_at = line.find(|character: char| !character.is_ascii_digit())?;
    let depth = line[..name_at].parse().ok()?;
    Some((depth, line[name_at..].split_whitespace().next()?))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holder_below_the_relay_is_found_with_the_way_to_it() {
        let tree =
            "0supernode-server v0.1.0\n1serde v1.0.0\n2serde_core v1.0.0\n1gate v1.0.0\n2aes-gcm v0.10.3\n3aead v0.5.2";
        let expected = [
            "supernode-server -> gate -> aes-gcm: no package may lead there",
            "supernode-server -> gate -> aes-gcm -> aead: no package may lead there",
        ];
        assert_eq!(forbidden(tree), expected);
        for name in ["supernode-e2ee", "openmls_traits", "mls-rs-core", "sframe", "ring", "chacha20poly1305"] {
            assert_eq!(forbidden(&format!("0supernode-proto v0.1.0\n1{name} v1.0.0 (*)")).len(), 1, "{name}");
        }
        assert!(
            forbidden("0supernode-server v0.1.0\n1rand v0.10.0\n2chacha20 v0.10.0").is_empty(),
            "a generator seals nothing"
        );
    }

    #[test]
    fn the_tls_provider_is_reached_through_tls_only() {
        let through_rustls = "0supernode-server v0.1.0\n1rustls v0.23.0\n2aws-lc-rs v1.0.0\n3aws-lc-sys v0.1.0";
        assert!(forbidden(through_rustls).is_empty());
        let direct = "0supernode-server v0.1.0\n1rustls v0.23.0\n1aws-lc-rs v1.0.0 (*)";
        assert_eq!(forbidden(direct).len(), 1);
    }

    #[test]
    fn output_that_is_no_tree_is_found() {
        assert_eq!(forbidden("").len(), 1);
        assert_eq!(forbidden("error: no such package").len(), 2);
    }
}
