//! By what the relay is reached, as far as a page can say.

/// How to get to relays. The defaults suit every page.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Where certificates are told (PROTOCOL.md R-237), if not where the invite says or whence the page comes.
    pub certificates: Option<String>,
}
