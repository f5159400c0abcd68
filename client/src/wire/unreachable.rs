//! Where nobody answered.

use std::{fmt, net::SocketAddr};

/// A place that was tried, and what came of it.
#[derive(Debug)]
pub(crate) struct Silent {
    /// As people are told it.
    pub(crate) place: String,
    /// `None` where only a browser knows it.
    pub(crate) address: Option<SocketAddr>,
    /// What came of it.
    pub(crate) outcome: String,
}

/// Where nobody answered.
#[derive(Debug)]
pub struct Unreachable {
    pub(crate) tried: Vec<Silent>,
    pub(crate) nothing_listens: bool,
    /// Why, or what to look at.
    pub(crate) advice: String,
}

impl Unreachable {
    /// The addresses that were tried, as far as we have known them.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.tried.iter().filter_map(|silent| silent.address)
    }

    /// Whether the machines at all of them say that nothing listens at that port.
    pub fn nothing_listens(&self) -> bool {
        self.nothing_listens
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Silent { place, outcome, .. }) in self.tried.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{place} ({outcome})")?;
        }
        write!(f, ". {}", self.advice)
    }
}
