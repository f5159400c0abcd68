//! Scenario files: what ships is sound, and a slip of the pen is named.

use supernode_benches::load::scenario::{SHIPPED, Scenario, Shape, Size};

/// Every table that a scenario can have, and a key of it.
const TABLES: &[(&str, &str)] = &[
    ("video", "kbit_per_s = 800"),
    ("slow", "members = 1"),
    ("churn", "stay_s = 1.0"),
    ("flood", "pairs = 1"),
    ("outsiders", "kicked = 1"),
    ("presence", "people = 10\nwatchers = 3"),
    ("rings", "pairs = 3"),
    ("validity", "busy_max = 0.8"),
];

fn error(text: &str) -> String {
    Scenario::parse("mine.toml", text, &[]).expect_err(text).to_string()
}

#[test]
fn every_shipped_scenario_parses_and_a_bogus_key_in_any_of_its_tables_is_named() {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(name, text, &[]).expect(name);
        assert!(!scenario.about.is_empty() && !scenario.slo.is_empty(), "{name} says what it is and what must hold");
        let planted = format!("bogus = 1\n{text}");
        let error = Scenario::parse(name, &planted, &[]).expect_err(name).to_string();
        assert_eq!(error, format!("{name}: bogus: unknown key (nearest: none)"));
        for line in text.lines().filter(|line| line.starts_with('[')) {
            let planted = text.replace(line, &format!("{line}\nbogus_key = 1"));
            let error = Scenario::parse(name, &planted, &[]).expect_err(name).to_string();
            let table = line.trim_matches(['[', ']']);
            assert!(error.starts_with(&format!("{name}: {table}.bogus_key: unknown key")), "{error}");
        }
    }
}

#[test]
fn the_shipped_scenarios_are_those_in_the_directory() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let entries = std::fs::read_dir(directory).expect("the scenarios' directory");
    let mut files: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    files.sort();
    let mut shipped: Vec<String> = SHIPPED.iter().map(|(name, _)| format!("{name}.toml")).collect();
    shipped.sort();
    assert_eq!(files, shipped);
}

#[test]
fn every_table_is_known_and_an_unknown_key_is_answered_with_the_nearest() {
    for (table, keys) in TABLES {
        let text = format!("[{table}]\n{keys}\n");
        Scenario::parse("mine.toml", &text, &[]).expect(table);
        assert!(
            error(&format!("{text}bogus_key = 1\n")).starts_with(&format!("mine.toml: {table}.bogus_key: unknown key"))
        );
    }
    assert_eq!(error("piars = 3"), "mine.toml: piars: unknown key (nearest: pairs)");
    assert_eq!(
        error("[video]\nkbits_per_s = 3"),
        "mine.toml: video.kbits_per_s: unknown key (nearest: video.kbit_per_s)"
    );
    assert_eq!(error("zzzzzzzzzz = 3"), "mine.toml: zzzzzzzzzz: unknown key (nearest: none)");
}

#[test]
fn values_out_of_bounds_are_named_with_their_bound() {
    assert_eq!(error("pairs = 0"), "mine.toml: pairs = 0: must be 1 to 100000");
    assert_eq!(error("object_bytes = 1151"), "mine.toml: object_bytes = 1151: must be 47 to 1150");
    assert_eq!(error("object_bytes = [160, 120]"), "mine.toml: object_bytes = 160: must be at most 120, the second");
    assert_eq!(error("[presence]\npeople = 5\nwatchers = 5"), "mine.toml: presence.watchers = 5: must be 1 to 4");
    assert!(error("slo = [\"loss < \"]").contains("a number was expected"));
    assert!(error("shape = \"circles\"").contains("circles"));
    assert!(error("pairs = \"many\"").starts_with("mine.toml: "));
    assert!(error("pairs = ").starts_with("mine.toml: "));
}

#[test]
fn overrides_win_and_are_checked_like_the_file() {
    let set = |given: &[&str]| {
        let given: Vec<String> = given.iter().map(|given| (*given).to_owned()).collect();
        Scenario::parse("mine.toml", "pairs = 3\nshape = \"calls\"", &given)
    };
    let changed = set(&["pairs=7", "video.kbit_per_s=800", "shape=rooms", "object_bytes=[60, 90]"]).expect("overrides");
    assert_eq!((changed.pairs, changed.shape), (7, Shape::Rooms));
    assert_eq!(changed.video.map(|video| video.kbit_per_s), Some(800.0));
    assert_eq!(changed.object_bytes, Size::Range([60, 90]));
    assert!(set(&["piars=7"]).is_err());
    assert!(set(&["pairs"]).is_err());
    assert!(set(&["pairs.x=1"]).is_err());
}
