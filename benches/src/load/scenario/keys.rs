//! Which keys a scenario may have, and which one somebody may have meant.

use toml::Table;

/// Keys of the scenario itself; those of the next table among them name its tables.
const SCENARIO: &[&str] = &[
    "about",
    "shape",
    "link",
    "pairs",
    "rooms",
    "members",
    "listeners",
    "room_members_max",
    "objects_per_second",
    "object_bytes",
    "ttl_ms",
    "late_ms",
    "ramp_s",
    "warm_up_s",
    "hold_s",
    "stages",
    "linger_s",
    "workers",
    "sockets",
    "gather_us",
    "seed",
    "ack_threshold",
    "slo",
    "abort_after_s",
    "video",
    "slow",
    "churn",
    "flood",
    "outsiders",
    "presence",
    "rings",
    "validity",
];

const TABLES: &[(&str, &[&str])] = &[
    ("video", &["kbit_per_s", "frames_per_second", "group_frames", "key_frame_factor", "temporal_layers"]),
    ("slow", &["members", "read_kbit_per_s"]),
    ("churn", &["sessions", "stay_s", "watches"]),
    ("flood", &["pairs", "objects_per_second", "object_bytes"]),
    ("outsiders", &["strangers", "kicked"]),
    ("presence", &["people", "watchers", "changes_per_second"]),
    ("rings", &["pairs", "per_minute", "payload_bytes"]),
    ("validity", &["lag_p99_ms_max", "busy_max"]),
];

/// The first unknown key by its full path, and the known path that looks most like it.
pub(super) fn unknown(scenario: &Table) -> Option<(String, Option<String>)> {
    for (key, value) in scenario {
        if !SCENARIO.contains(&key.as_str()) {
            return Some((key.clone(), nearest(key, SCENARIO).map(str::to_owned)));
        }
        let known = TABLES.iter().find(|(name, _)| name == key);
        let (Some((name, known)), Some(table)) = (known, value.as_table()) else { continue };
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Some((format!("{name}.{key}"), nearest(key, known).map(|near| format!("{name}.{near}"))));
        }
    }
    None
}

/// The candidate with the fewest edits, unless even that one looks like another word.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, best) = known.iter().map(|known| (edits(key, known), *known)).min()?;
    (edits <= key.len().max(best.len()) / 2).then_some(best)
}

/// Levenshtein's distance: insertions, deletions and replacements from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("pairs", "pairs"), 0);
        assert_eq!(edits("piars", "pairs"), 2);
        assert_eq!(edits("", "pairs"), 5);
        assert_eq!(edits("kbit", "kbit_per_s"), 6);
    }

    #[test]
    fn the_document_has_every_key_and_every_name_of_an_slo() {
        let document = include_str!("../../../../docs/LOAD.md");
        let plain = SCENARIO.iter().filter(|key| TABLES.iter().all(|(table, _)| table != *key));
        let in_tables = TABLES.iter().flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
        for key in plain.map(|key| (*key).to_owned()).chain(in_tables) {
            assert!(document.contains(&format!("\n| `{key}` |")), "docs/LOAD.md lacks {key}");
        }
        for name in crate::load::slo::NAMES {
            assert!(document.contains(&format!("`{name}`")), "docs/LOAD.md lacks {name}");
        }
        for (name, _) in crate::load::scenario::SHIPPED {
            assert!(document.contains(&format!("`{name}`")), "docs/LOAD.md lacks {name}");
        }
    }

    #[test]
    fn a_word_that_looks_like_none_has_no_nearest() {
        assert_eq!(nearest("hold", SCENARIO), Some("hold_s"));
        assert_eq!(nearest("zzzzzzzzzz", SCENARIO), None);
    }
}
