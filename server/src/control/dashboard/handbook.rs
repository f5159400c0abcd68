//! The handbook as pages: what to do about a warning is read where the warning is, with nothing but the relay itself.

use std::{collections::BTreeMap, fmt::Write, sync::LazyLock};

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// The documents that an operator needs at the relay itself. The others are named in their text.
const DOCUMENTS: &[(&str, &str)] = &[
    ("OPERATING", include_str!("../../../../docs/OPERATING.md")),
    ("RELAY-MESSAGES", include_str!("../../../../docs/RELAY-MESSAGES.md")),
    ("CONFIG", include_str!("../../../../docs/CONFIG.md")),
    ("THREAT-MODEL", include_str!("../../../../docs/THREAT-MODEL.md")),
];

/// A document as a page, made once.
pub(super) fn page(document: &str) -> Option<&'static str> {
    static PAGES: LazyLock<BTreeMap<&str, String>> =
        LazyLock::new(|| DOCUMENTS.iter().map(|(name, text)| (*name, render(text))).collect());
    PAGES.get(document).map(String::as_str)
}

fn render(text: &str) -> String {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut anchors = BTreeMap::new();
    // Where the heading began that is being read, and its words.
    let mut heading: Option<(usize, String)> = None;
    let mut title = String::new();
    // How many links and pictures lead to what is not served here: their words stay, without the way.
    let mut left_out = 0;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        let event = match event {
            Event::Start(Tag::Heading { .. }) => {
                heading = Some((events.len(), String::new()));
                event
            }
            Event::End(TagEnd::Heading(level)) => {
                if let Some((start, words)) = heading.take() {
                    let id = anchor(&words, &mut anchors);
                    if let Some(Event::Start(Tag::Heading { id: place, .. })) = events.get_mut(start) {
                        *place = Some(CowStr::from(id));
                    }
                    if level == HeadingLevel::H1 {
                        title = words;
                    }
                }
                event
            }
            Event::Text(words) | Event::Code(words) if heading.is_some() => {
                if let Some((_, so_far)) = &mut heading {
                    so_far.push_str(&words);
                }
                Event::Text(words)
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => match way(&dest_url) {
                Some(dest_url) if left_out == 0 => {
                    Event::Start(Tag::Link { link_type, dest_url: dest_url.into(), title, id })
                }
                _ => {
                    left_out += 1;
                    continue;
                }
            },
            Event::End(TagEnd::Link) if left_out > 0 => {
                left_out -= 1;
                continue;
            }
            // Pictures show this page.
            Event::Start(Tag::Image { .. }) => {
                left_out += 1;
                continue;
            }
            Event::End(TagEnd::Image) => {
                left_out -= 1;
                continue;
            }
            // Remarks of the source, such as who writes a list.
            Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {
                continue;
            }
            event => event,
        };
        events.push(event);
    }
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" \
         href=\"/dashboard.css\">\n</head>\n<body class=\"handbook\">\n<header><a href=\"/\">the relay now</a>"
    );
    for (name, _) in DOCUMENTS {
        let _ = write!(page, " · <a href=\"/handbook/{name}\">{name}</a>");
    }
    page.push_str("</header>\n<main>\n");
    html::push_html(&mut page, events.into_iter());
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Where a link leads on this relay: to a place in the same document or in another one of the handbook, or out of it.
fn way(link: &str) -> Option<String> {
    if link.starts_with('#') || link.starts_with("http://127.0.0.1") {
        return Some(link.to_owned());
    }
    let (file, place) = link.split_once('#').map_or((link, None), |(file, place)| (file, Some(place)));
    let name = file.strip_suffix(".md")?;
    DOCUMENTS.iter().find(|(document, _)| *document == name)?;
    Some(match place {
        Some(place) => format!("/handbook/{name}#{place}"),
        None => format!("/handbook/{name}"),
    })
}

/// A heading's place in its document, as forges make it: words in small letters, joined by hyphens; the second of the
/// same words gets a number.
fn anchor(words: &str, taken: &mut BTreeMap<String, u32>) -> String {
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    let id: String = kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect();
    let times = taken.entry(id.clone()).or_default();
    *times += 1;
    if *times == 1 { id } else { format!("{id}-{}", *times - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_has_a_place_to_which_the_page_links() {
        let page = page("OPERATING").expect("there");
        let rules = include_str!("../../../../deploy/prometheus/supernode.rules.yaml");
        let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert!(alerts.len() > 10, "{alerts:?}");
        for alert in alerts {
            assert!(page.contains(&format!(" id=\"{}\">", alert.to_lowercase())), "{alert} has no heading");
        }
    }

    #[test]
    fn links_lead_to_what_is_served_and_nothing_comes_from_elsewhere() {
        for (name, _) in DOCUMENTS {
            let page = page(name).expect("there");
            for link in page.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let served = link.starts_with('#')
                    || ["/", "/dashboard.css", "data:,"].contains(&link)
                    || link.starts_with("http://127.0.0.1:9464/")
                    || link.starts_with("/handbook/");
                assert!(served, "{name} leads to {link}");
                let place = link.strip_prefix('#').map(|place| (page, place)).or_else(|| {
                    let (document, place) = link.strip_prefix("/handbook/")?.split_once('#')?;
                    Some((super::page(document).expect("a document"), place))
                });
                if let Some((page, place)) = place {
                    assert!(page.contains(&format!(" id=\"{place}\"")), "{name}: {link} is no heading");
                }
            }
            assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("<!--"), "{name}");
        }
        assert!(page("PERFORMANCE").is_none() && page("../Cargo").is_none());
    }

    #[test]
    fn headings_of_the_same_words_are_told_apart() {
        let page =
            render("# A b\n\n## Of `x`, y\n\n## Of x y\n\n[out](https://example.org/) and [in](CONFIG.md#keys)\n");
        assert!(page.contains("<h2 id=\"of-x-y\">Of x, y</h2>") && page.contains("<h2 id=\"of-x-y-1\">"), "{page}");
        assert!(page.contains("out and <a href=\"/handbook/CONFIG#keys\">in</a>"), "{page}");
    }
}
