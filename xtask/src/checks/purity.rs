//! The core never names a runtime, a transport or a socket; the wire, the keys, the session and calls never name I/O,
//! threads, clocks or dice.

use super::{
    Findings,
    sources::{SourceFile, code, find},
};

const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "quinn",
    "quinn_proto",
    "quinn_udp",
    "socket2",
    "rustix",
    "libc",
    "axum",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "std::io",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
];
/// Places that are nothing but the wire and what a client does on it and in its calls.
const WIRE: &[&str] = &["proto/src/", "keys/src/", "session/src/", "e2ee/src/", "calls/src/", "cluster/src/"];
/// Fresh keys are this module's, which is built only with the feature that its crate names it by; and what this one writes
/// into by `std::io` is memory.
const EXEMPT: &[&str] = &["keys/src/fresh.rs", "e2ee/src/store/storage.rs"];
const NOT_IN_WIRE: &[&str] = &["std::fs", "std::net", "std::io", "std::thread", "std::process", "std::env", "std::os"];
/// Crates that would bring in I/O. Those of the standard library are refused by the places' `clippy.toml`.
const INPUT_OUTPUT: &[&str] =
    &["tokio", "async-std", "smol", "quinn", "quinn-proto", "quinn-udp", "rustls", "mio", "socket2", "rustix", "nix"];
/// Crates that would bring in a clock or dice.
const CLOCKS_AND_DICE: &[&str] = &["rand", "getrandom", "web-time", "chrono"];

/// What the core names and must not.
pub fn core(files: &[SourceFile]) -> Findings {
    named(files, "server/src/core/", NOT_IN_CORE, "the core knows no runtime, transport or socket")
}

/// What a crate of the wire or of calls reaches and must not: I/O, and `without_dice` a clock or dice as well. `tree` is what
/// `cargo tree --edges normal --prefix none` prints for it.
pub fn below(tree: &str, without_dice: bool) -> Findings {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let Some(package) = names.first() else { return vec!["cargo tree: printed no package".into()] };
    let dice = if without_dice { CLOCKS_AND_DICE } else { &[] };
    let reached = names.iter().filter(|name| INPUT_OUTPUT.contains(name) || dice.contains(name));
    let sentence = if without_dice { "it does no I/O and has no clock and no dice" } else { "it does no I/O" };
    reached.map(|name| format!("{package} reaches {name}: {sentence}")).collect()
}

/// What the wire, the keys, the session and calls name and must not.
pub fn wire(files: &[SourceFile]) -> Findings {
    let files: Vec<SourceFile> = files.iter().filter(|file| !EXEMPT.contains(&file.path.as_str())).cloned().collect();
    let place = |place: &&str| named(&files, place, NOT_IN_WIRE, "the wire does no I/O and has no clock and no dice");
    WIRE.iter().flat_map(place).collect()
}

fn named(files: &[SourceFile], place: &str, words: &[&str], sentence: &str) -> Findings {
    let files: Vec<SourceFile> = files.iter().filter(|file| file.path.starts_with(place)).cloned().collect();
    if files.is_empty() {
        return vec![format!("{place}: has no source file: this check looks in the wrong place")];
    }
    find(&files, words, code, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile { path: path.into(), text: text.into() }]
    }

    fn wire_of(text: &str) -> Vec<SourceFile> {
        WIRE.iter().flat_map(|place| file(&format!("{place}lib.rs"), text)).collect()
    }

    #[test]
    fn a_runtime_or_socket_in_the_core_is_found() {
        for line in
            ["use tokio::time;", "use quinn_proto::Connection;", "fn f(socket: &UdpSocket) {}", "use std::io::Read;"]
        {
            assert_eq!(core(&file("server/src/core/mod.rs", line)).len(), 1, "{line}");
        }
        assert!(core(&file("server/src/core/mod.rs", "//! Names no tokio.\nuse std::net::IpAddr;")).is_empty());
    }

    #[test]
    fn input_output_in_the_wire_is_found() {
        for line in ["use std::net::IpAddr;", "fn f(now: std::io::Error) {}", "std::env::var(name)"] {
            let mut files = wire_of("");
            files.extend(file("session/src/channel.rs", line));
            assert_eq!(wire(&files).len(), 1, "{line}");
        }
        let mut exempt = wire_of("");
        EXEMPT.iter().for_each(|path| exempt.extend(file(path, "use std::io::Write;")));
        assert!(wire(&exempt).is_empty());
        assert_eq!(wire(&file("proto/src/lib.rs", "")).len(), WIRE.len() - 1, "the others are gone");
    }

    #[test]
    fn a_runtime_or_dice_below_the_wire_is_found() {
        let tree = |name: &str| format!("supernode-session v0.1.0 (/work)\nbytes v1.12.2\n{name} v1.0.0 (*)");
        assert!(below(&tree("thiserror"), true).is_empty());
        for name in ["tokio", "quinn-proto", "getrandom"] {
            assert_eq!(below(&tree(name), true).len(), 1, "{name}");
        }
        assert_eq!(below("", true).len(), 1);
        assert!(below(&tree("getrandom"), false).is_empty(), "keys are drawn somewhere");
        assert_eq!(below(&tree("tokio"), false).len(), 1);
    }

    #[test]
    fn a_place_that_is_gone_is_found() {
        assert_eq!(core(&file("server/src/main.rs", "")).len(), 1);
    }
}
