//! The ledger of metadata accounts for every field of the protocol, and the threat model says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use supernode_server::control::what_i_see::{LEDGER, table};

fn repository_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every field of the schema that holds a value of its own, as `Message.field`.
fn schema_fields(schema: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = schema.lines().map(|line| line.split("//").next().unwrap_or("").trim()).collect();
    let messages: BTreeSet<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("message ")?.split([' ', '{']).next()).collect();
    let mut fields = BTreeSet::new();
    let mut message = None;
    for line in &lines {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.split([' ', '{']).next();
        } else if line.starts_with("enum ") {
            message = None;
        }
        let Some(message) = message else { continue };
        let Some((declaration, _)) = line.split_once(" = ") else { continue };
        let mut words = declaration.split(' ').rev();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        if !messages.contains(kind) {
            fields.insert(format!("{message}.{name}"));
        }
    }
    fields
}

#[test]
fn every_field_of_the_protocol_is_accounted_for_once() {
    let fields = schema_fields(&repository_file("proto/schema/supernode.proto"));
    assert!(fields.len() > 100 && fields.contains("Hello.signature") && fields.contains("GoAway.alternative"));
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for row in LEDGER {
        for field in row.wire {
            let earlier = owners.insert(field, row.field);
            assert_eq!(earlier, None, "{field} is in two rows of the ledger");
        }
    }
    for field in &fields {
        assert!(owners.contains_key(field.as_str()), "{field}: say in LEDGER what the relay learns from it");
    }
    for field in owners.keys() {
        assert!(fields.contains(*field), "{field} of LEDGER is not in the schema");
    }
}

#[test]
fn the_threat_model_says_of_every_datum_what_the_program_says() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = words(&repository_file("docs/THREAT-MODEL.md"));
    for row in LEDGER {
        let entry = words(&format!("- **{}**: {}. *For*: {}. *Kept*: {}.", row.field, row.sees, row.why, row.kept));
        assert!(document.contains(&entry), "docs/THREAT-MODEL.md lacks this entry:\n{entry}");
    }
    assert_eq!(document.matches("*Kept*:").count(), LEDGER.len(), "an entry that the program does not know");
}

#[test]
fn the_table_shows_every_datum_whole_at_any_width() {
    for width in [0, 60, 80, 120, 400] {
        let text = table(width);
        let words: BTreeSet<&str> = text.split_whitespace().collect();
        for row in LEDGER {
            assert!(text.contains(row.field), "{} at {width}", row.field);
            let cells = [row.sees, row.why, row.kept];
            assert!(cells.iter().flat_map(|cell| cell.split_whitespace()).all(|word| words.contains(word)));
        }
        // A single word may stick out where a column is very narrow.
        if width >= 80 {
            assert!(text.lines().all(|line| line.chars().count() <= width), "a line is longer than {width}");
        }
    }
}
