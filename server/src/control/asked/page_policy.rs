//! What the page may do, as its answer's head says: run what stands in it, known by hash, and nothing else.

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// Elements of a page that the policy lists. Ours has one of each kind.
const LISTED_MAX: usize = 32;

/// The page's own policy stands in the file, and both hold; this one also keeps it out of other pages' frames, which a file
/// cannot. Which relay it talks to, says the link.
pub(super) fn policy(page: &[u8]) -> String {
    let (scripts, styles) = inline(page);
    let sources = |hashes: Vec<String>| match hashes.is_empty() {
        true => "'none'".to_owned(),
        false => hashes.join(" "),
    };
    // A worklet comes from a data: address, a worker from a blob: address; what a push service wakes lies beside the page.
    let script = [scripts, vec!["'wasm-unsafe-eval'".to_owned(), "data:".to_owned()]].concat().join(" ");
    format!(
        "default-src 'none'; script-src {script}; worker-src blob: 'self'; style-src {}; img-src blob: data:; \
         media-src blob: mediastream:; connect-src https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sources(styles),
    )
}

/// Hashes of the texts of inline scripts and styles, as a policy lists them.
fn inline(page: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut scripts, mut styles, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(open) = find(page, at, b"<") {
        let rest = &page[open..];
        at = open + 1;
        if rest.starts_with(b"<!--") {
            at = find(page, open, b"-->").unwrap_or(page.len());
            continue;
        }
        let Some(name) = [&b"script"[..], b"style"].into_iter().find(|name| begins(rest, name)) else { continue };
        let Some(text) = find(page, open, b">").map(|end| end + 1) else { break };
        // A browser takes what is not ended as text to the page's end, and runs none of it.
        let Some(end) = find(page, text, &[b"</", name].concat()) else { break };
        let listed = if name == b"script" { &mut scripts } else { &mut styles };
        if listed.len() < LISTED_MAX {
            // A browser reads the ends of all lines as one character.
            let text = String::from_utf8_lossy(&page[text..end]).replace("\r\n", "\n").replace('\r', "\n");
            listed.push(format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text))));
        }
        at = end;
    }
    (scripts, styles)
}

/// Whether an element of this name begins here.
fn begins(text: &[u8], name: &[u8]) -> bool {
    let Some((found, behind)) = text.get(1..).and_then(|text| text.split_at_checked(name.len())) else { return false };
    found.eq_ignore_ascii_case(name) && behind.first().is_some_and(|next| *next == b'>' || next.is_ascii_whitespace())
}

fn find(text: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let found = text.get(from..)?.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))?;
    Some(from + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> String {
        format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)))
    }

    #[test]
    fn what_stands_in_a_page_may_run_and_nothing_else_may() {
        let script = "if (a < b) document.title = '<style>no style</style>'; // <script>";
        let page = format!(
            "<!doctype html><!-- <script>left out</script> --><STYLE media=all>p {{ }}</STYLE><scripts></scripts>\
             <script type=\"module\">{script}</script><script>\r\n</script><p onclick=\"no()\">"
        );
        assert_eq!(inline(page.as_bytes()), (vec![hash(script), hash("\n")], vec![hash("p { }")]));
        let policy = policy(page.as_bytes());
        assert!(
            policy.contains(&format!("script-src {} {} 'wasm-unsafe-eval' data:;", hash(script), hash("\n"))),
            "{policy}"
        );
        assert!(!policy.contains("unsafe-inline") && policy.ends_with("frame-ancestors 'none'"), "{policy}");
    }

    #[test]
    fn a_page_without_any_or_of_no_text_has_a_policy_as_well() {
        for page in [&b""[..], b"<", b"<script", b"<script>never ended", b"<!--", &[0xff, b'<', 0xfe]] {
            assert_eq!(inline(page), (Vec::new(), Vec::new()));
            assert!(policy(page).contains("style-src 'none'"));
        }
        let many = "<style></style>".repeat(LISTED_MAX + 1);
        assert_eq!(inline(many.as_bytes()).1.len(), LISTED_MAX);
    }
}
