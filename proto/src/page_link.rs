//! A link to a page: where the page is, and behind `#`, where browsers keep it from whoever serves the page, one of our links.
//!
//! `https://HOST[:PORT]/[PATH]#supernode://...`, with an invite link, a room's or a ticket's behind it.

use std::{fmt, str::FromStr};

/// Longest URL of a page: what browsers and messengers take without cutting it.
pub const PAGE_URL_BYTES_MAX: usize = 1_024;
/// Longest link to a page that is read: the URL, and a link whose characters may each have been written as three.
pub const PAGE_LINK_BYTES_MAX: usize = 16 * 1024;

/// Where a page is: `https:`, `http:` or `file:`, without `#` and without what a link's end could be mistaken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageUrl(String);

/// Why text is no page's URL, or no link to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageLinkError {
    /// Not `https://`, `http://` or `file:///`, or nothing behind it.
    #[error("a page's URL begins with https://HOST, http://HOST or file:///")]
    Scheme,
    /// A character that no URL has, or `#`.
    #[error("a page's URL has only printable ASCII without blanks, quotes, <, > and #")]
    Character,
    /// Above the bound.
    #[error("a page's URL is longer than {PAGE_URL_BYTES_MAX} bytes, or the whole link than {PAGE_LINK_BYTES_MAX}")]
    TooLong,
    /// No `#`, or nothing behind it, or something that is not UTF-8 once it is decoded.
    #[error("the link to a page has nothing behind #")]
    Fragment,
}

impl FromStr for PageUrl {
    type Err = PageLinkError;

    fn from_str(text: &str) -> Result<Self, PageLinkError> {
        let rest = ["https://", "http://", "file://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        match rest.ok_or(PageLinkError::Scheme)? {
            "" => Err(PageLinkError::Scheme),
            // A web server has a name before its path; a file on this machine has none.
            rest if rest.starts_with('/') != text.starts_with("file:") => Err(PageLinkError::Scheme),
            _ if text.len() > PAGE_URL_BYTES_MAX => Err(PageLinkError::TooLong),
            rest if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>#\\^`{|}".contains(&byte)) => {
                Err(PageLinkError::Character)
            }
            // Browsers ask for it so.
            rest if !rest.contains('/') => Ok(Self(format!("{text}/"))),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for PageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PageUrl {
    /// The link that opens the page with this link of ours. Whoever sees it has what that gives.
    pub fn with(&self, link: &str) -> String {
        let mut text = format!("{}#", self.0);
        for byte in link.bytes() {
            // What may stand in a fragment (RFC 3986 section 3.5). Of our links' characters it leaves out the brackets of an
            // IPv6 address only.
            match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte) {
                true => text.push(byte.into()),
                false => text.push_str(&format!("%{byte:02X}")),
            }
        }
        text
    }
}

/// What stands behind `#`, decoded once. `text` may also be the fragment alone, with its `#`, as a page has it.
///
/// # Errors
/// [`PageLinkError::TooLong`] or [`PageLinkError::Fragment`].
pub fn behind_page(text: &str) -> Result<String, PageLinkError> {
    let text = text.trim();
    if text.len() > PAGE_LINK_BYTES_MAX {
        return Err(PageLinkError::TooLong);
    }
    let (_, fragment) = text.split_once('#').ok_or(PageLinkError::Fragment)?;
    let mut decoded = Vec::with_capacity(fragment.len());
    let mut bytes = fragment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(PageLinkError::Fragment) };
        decoded.push((high << 4 | low) as u8);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PageLinkError::Fragment)?;
    if decoded.is_empty() { Err(PageLinkError::Fragment) } else { Ok(decoded) }
}

/// One of our links as people bring it: itself, or behind a page's URL.
pub fn unpaged(text: &str) -> Result<String, PageLinkError> {
    let is_page = ["https://", "http://", "file://"].iter().any(|scheme| text.trim_start().starts_with(scheme));
    if is_page { behind_page(text) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, PageLinkError> {
        text.parse::<PageUrl>().map(|url| url.to_string())
    }

    //
    #[test]
    fn a_link_comes_back_from_behind_a_page_s_url_whatever_was_encoded_on_the_way() {
        let link = "supernode://[2001:db8::1]:4433/?pin=abc-_&token=a.b.c&room=aaaa";
        let page: PageUrl = "https://call.example.org".parse().expect("a URL");
        let text = page.with(link);
        let expected = "https://call.example.org/#supernode://%5B2001:db8::1%5D:4433/?pin=abc-_&token=a.b.c&room=aaaa";
        assert_eq!(text, expected);
        assert_eq!(behind_page(&text).as_deref(), Ok(link));
        assert_eq!(unpaged(&text).as_deref(), Ok(link));
        assert_eq!(unpaged(link).as_deref(), Ok(link));
        // As a page has it, and as a messenger that encodes everything leaves it.
        assert_eq!(behind_page("#supernode%3A%2F%2Fh%2F%3fpin=x").as_deref(), Ok("supernode://h/?pin=x"));
        let file: PageUrl = "file:///home/anna/supernode.html".parse().expect("a URL");
        assert_eq!(file.with("supernode://h/"), "file:///home/anna/supernode.html#supernode://h/");
    }

    //
    #[test]
    fn what_is_no_page_s_url_is_named() {
        for text in
            ["", "call.example.org", "javascript://x", "data:text/html,x", "https://", "https:///x", "file://host/x"]
        {
            assert_eq!(url(text), Err(PageLinkError::Scheme), "{text}");
        }
        for text in ["https://h/#x", "https://h/a b", "https://h/\"", "https://h/ü", "https://h/\n", "https://h/<x>"] {
            assert_eq!(url(text), Err(PageLinkError::Character), "{text}");
        }
        assert_eq!(url(&format!("https://h/{}", "x".repeat(1_100))), Err(PageLinkError::TooLong));
        assert_eq!(url("http://127.0.0.1:8080").as_deref(), Ok("http://127.0.0.1:8080/"));
        assert_eq!(url("https://h/call?x=1").as_deref(), Ok("https://h/call?x=1"));
    }

    //
    #[test]
    fn what_has_nothing_to_be_read_behind_its_url_is_refused() {
        for text in ["https://h/", "https://h/#", "#", "", "#%", "#%2", "#%zz", "#%+1", "#%ff"] {
            assert_eq!(behind_page(text), Err(PageLinkError::Fragment), "{text}");
        }
        assert_eq!(behind_page(&format!("#{}", "x".repeat(PAGE_LINK_BYTES_MAX))), Err(PageLinkError::TooLong));
        // Once: what is encoded twice is not ours.
        assert_eq!(behind_page("#%2541").as_deref(), Ok("%41"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_every_link_comes_back(text in ".{0,200}", link in ".{1,200}") {
            let _ = behind_page(&text);
            let _ = url(&text);
            let page: PageUrl = "https://h/".parse().expect("a URL");
            proptest::prop_assert_eq!(behind_page(&page.with(&link)), Ok(link));
        }
    }
}
