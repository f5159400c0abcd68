//! Which addresses the public Internet has: a name that somebody else's DNS answers for must not lead into our own networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether it may be dialled for somebody who named only a host (IANA's registries of special-purpose addresses, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // This network, private (RFC 1918), loopback, shared by a carrier, link-local, multicast and what is reserved.
        (0 | 10 | 127 | 224.., ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (169, 254, _) => true,
        // Of the protocol itself, 6to4's relays, documentation, benchmarks.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) => true,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64 leads to an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(ipv4(high, low)),
        // So does 6to4.
        [0x2002, high, low, ..] => is_public_v4(ipv4(high, low)),
        // Teredo and others of the protocol itself, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is all that has been given out; the rest is loopback, mapped, local, multicast or nobody's.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn ipv4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn no_address_of_a_private_network_is_public() {
        let parse = |text: &&str| text.parse::<IpAddr>().expect("an address");
        let public = ["1.1.1.1", "142.250.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"];
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
        ];
        assert!(public.iter().all(|text| is_public(parse(text))));
        for text in &private {
            assert!(!is_public(parse(text)), "{text}");
        }
    }
}
