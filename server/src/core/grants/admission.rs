//! Who is let in, by what, and for how long.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
    time::Instant,
};

use supernode_proto::{
    close::CloseCode,
    identity::{DeviceKey, IdentityKey},
};

use super::limits::Limits;
use crate::core::TokenDigest;

/// Decides who may use this relay at all, and for how long.
pub trait Admit: Send + Sync {
    /// Whether [`Self::admit`] knows. If not, it has begun to find out, and knows later.
    fn is_decided(&self, _who: &Applicant, _now_unix_s: u64) -> bool {
        true
    }

    /// Decides at a Unix time in seconds.
    ///
    /// # Errors
    /// Why it does not let in: the code to close with.
    fn admit(&self, who: &Applicant, now_unix_s: u64) -> Result<Grant, CloseCode>;

    /// Another number than before once whoever was let in may have to go: every session is to be asked about then.
    fn generation(&self) -> u64 {
        0
    }

    /// Whether a session that was let in by this grant may stay, and until when: see [`Grant::until_unix_s`].
    ///
    /// # Errors
    /// Why it may not: the code to close with.
    fn stays(&self, _who: &Resident, _grant: &mut Grant, _now_unix_s: u64) -> Result<(), CloseCode> {
        Ok(())
    }
}

/// Who wants in. Identity and device have proven themselves.
#[derive(Clone)]
pub struct Applicant {
    /// Whose.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
    /// From where.
    pub from: IpAddr,
    /// The admission token; empty if there is none.
    pub token: String,
}

/// Who is in.
#[derive(Clone, Copy)]
pub struct Resident {
    /// Whose.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
    /// Where its packets come from now.
    pub from: IpAddr,
    /// The token it showed, if it showed one.
    pub token: Option<TokenDigest>,
}

impl From<&Applicant> for Resident {
    fn from(who: &Applicant) -> Self {
        let Applicant { identity, device, from, token } = who;
        Self { identity: *identity, device: *device, from: *from, token: TokenDigest::of(token) }
    }
}

/// An address, or all that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// As IPv6; those of IPv4 are mapped (RFC 4291 section 2.5.5.2).
    first: u128,
    bits: u8,
}

impl Network {
    /// What a household or a host is given: an IPv4 address, or the first 56 bits of an IPv6 address.
    pub fn of(ip: IpAddr) -> Self {
        let bits = if ip.to_canonical().is_ipv4() { 128 } else { 56 };
        Self { first: mapped(ip) & mask(bits), bits }
    }

    /// Whether it is one of these.
    pub fn contains(&self, ip: IpAddr) -> bool {
        mapped(ip) & mask(self.bits) == self.first
    }
}

impl FromStr for Network {
    type Err = ();

    /// `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/56`. Bits behind the prefix must be zero: a slip there would refuse others
    /// than were meant.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(drop)?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let bits: u8 = bits.map_or(Ok(whole), str::parse).map_err(drop)?;
        let bits = bits.checked_add(128 - whole).filter(|bits| *bits <= 128).ok_or(())?;
        let first = mapped(ip);
        if first & !mask(bits) == 0 { Ok(Self { first, bits }) } else { Err(()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from_bits(self.first);
        match ip.to_ipv4_mapped().filter(|_| self.bits >= 96) {
            Some(ip) => write!(f, "{ip}/{}", self.bits - 96),
            None => write!(f, "{ip}/{}", self.bits),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network(..)")
    }
}

fn mapped(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

const fn mask(bits: u8) -> u128 {
    match bits {
        0 => 0,
        bits => u128::MAX << (128 - bits),
    }
}

/// What a session was let in by.
#[derive(Debug, Clone)]
pub struct Grant {
    /// By what.
    pub by: Voucher,
    /// From this second of Unix time on, [`Admit::stays`] is to be asked whether it may stay.
    pub until_unix_s: u64,
    /// What it is granted, where that is not what everybody is.
    pub limits: Option<Arc<Limits>>,
}

/// By whose word a session is there.
#[derive(Clone, PartialEq, Eq)]
pub enum Voucher {
    /// Nobody's: everybody may come.
    Nobody,
    /// That of a list.
    List,
    /// That of a token, signed with this key, up to its last second.
    Token {
        /// The key's name.
        key: u64,
        /// From this second on it is good no more.
        expires_unix_s: u64,
        /// The class of limits that it names.
        class: Option<Box<str>>,
    },
    /// That of a service, which is asked again with the same token.
    Service(Box<ServiceWord>),
}

/// What a service said.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceWord {
    /// What it is asked with.
    pub token: String,
    /// When it last said yes.
    pub said: Instant,
}

impl Grant {
    /// One that has no end of its own.
    pub fn without_end(by: Voucher) -> Self {
        Self { by, until_unix_s: u64::MAX, limits: None }
    }
}

impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Applicant(..)")
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resident(..)")
    }
}

impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::List => "List",
            Self::Token { .. } => "Token(..)",
            Self::Service(_) => "Service(..)",
        })
    }
}

impl fmt::Debug for ServiceWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceWord(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_prefix_in_either_form() {
        let network = |text: &str| text.parse::<Network>();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let block = network("192.0.2.0/24").expect("a prefix");
        assert!(block.contains(ip("192.0.2.255")) && block.contains(ip("::ffff:192.0.2.7")));
        assert!(!block.contains(ip("192.0.3.0")) && !block.contains(ip("2001:db8::1")));
        let home = network("2001:db8:0:100::/56").expect("a prefix");
        assert!(home.contains(ip("2001:db8:0:1ff::1")) && !home.contains(ip("2001:db8:0:200::1")));
        assert!(network("192.0.2.1").expect("an address").contains(ip("192.0.2.1")));
        assert!(network("::/0").expect("everybody").contains(ip("192.0.2.1")));
        for text in ["192.0.2.0/24", "192.0.2.1/32", "2001:db8::/56", "0.0.0.0/0", "::1/128", "::/0"] {
            assert_eq!(network(text).expect(text).to_string(), text);
        }
        for text in ["", "192.0.2.1/24", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/-1", "host", "192.0.2.0/24/8"] {
            assert_eq!(network(text), Err(()), "{text}");
        }
    }
}
