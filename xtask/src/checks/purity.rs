//! The core never names a runtime, a transport or a socket; the wire never names I/O, threads or clocks.

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
const NOT_IN_PROTO: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "SystemTime",
    "Instant",
];

/// What the core names and must not.
pub fn core(files: &[SourceFile]) -> Findings {
    below(files, "server/src/core/", NOT_IN_CORE, "the core knows no runtime, transport or socket")
}

/// What the wire names and must not.
pub fn proto(files: &[SourceFile]) -> Findings {
    below(files, "proto/src/", NOT_IN_PROTO, "the wire does no I/O and has no clock")
}

fn below(files: &[SourceFile], place: &str, words: &[&str], sentence: &str) -> Findings {
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
    fn input_output_or_a_clock_in_the_wire_is_found() {
        for line in ["use std::net::IpAddr;", "fn f(now: SystemTime) {}", "std::thread::yield_now();"] {
            assert_eq!(proto(&file("proto/src/lib.rs", line)).len(), 1, "{line}");
        }
    }

    #[test]
    fn a_place_that_is_gone_is_found() {
        assert_eq!(core(&file("server/src/main.rs", "")).len(), 1);
    }
}
