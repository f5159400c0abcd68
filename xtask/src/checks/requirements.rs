//! The numbered requirements of `docs/PROTOCOL.md`: each is cited where it is met and where it is tested.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, sources::SourceFile};

const PATH: &str = "docs/PROTOCOL.md";

/// Requirements that are stated twice, not cited by code, not cited by a test, or cited but not stated.
///
/// The document states one as `**R-7**` and a sentence with MUST; everything else refers to it as `R-7`.
pub fn uncited(protocol: &str, sources: &[SourceFile]) -> Findings {
    let mut stated: BTreeMap<u32, usize> = BTreeMap::new();
    for number in protocol.split("**").skip(1).step_by(2).filter_map(whole) {
        *stated.entry(number).or_default() += 1;
    }
    let (mut in_code, mut in_tests) = (BTreeSet::new(), BTreeSet::new());
    let mut findings = Findings::new();
    // Where tests of these checks themselves name requirements, they mean no real ones.
    for file in sources.iter().filter(|file| !file.path.starts_with("xtask/")) {
        let mut in_test = file.is_test();
        for (line_number, line) in file.lines() {
            in_test |= line.contains("#[cfg(test)]");
            for number in citations(line) {
                if !stated.contains_key(&number) {
                    findings.push(format!("{}:{line_number}: R-{number}: {PATH} does not state it", file.path));
                }
                if in_test {
                    in_tests.insert(number)
                } else {
                    in_code.insert(number)
                };
            }
        }
    }
    if stated.is_empty() {
        findings.push(format!("{PATH}: states no requirement (`**R-1** ...`)"));
    }
    for (number, times) in stated {
        if times > 1 {
            findings.push(format!("{PATH}: R-{number} is stated {times} times"));
        }
        if !in_code.contains(&number) {
            findings.push(format!("{PATH}: R-{number} is cited by no code"));
        }
        if !in_tests.contains(&number) {
            findings.push(format!("{PATH}: R-{number} is cited by no test"));
        }
    }
    findings
}

/// `R-7` or `R-7.`, and nothing else.
fn whole(text: &str) -> Option<u32> {
    text.trim_end_matches(['.', ':']).strip_prefix("R-")?.parse().ok()
}

fn citations(line: &str) -> impl Iterator<Item = u32> {
    line.match_indices("R-").filter_map(|(at, _)| {
        let continues_a_word = line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '-');
        let rest = &line[at + 2..];
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        if continues_a_word { None } else { rest[..digits].parse().ok() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "// R-1: why\nfn f() {}\n";
    const TEST: &str = "// R-1\n#[test]\nfn f() {}\n";

    fn found(protocol: &str, code: &str, test: &str) -> Findings {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
        uncited(protocol, &[file("server/src/core/mod.rs", code), file("server/tests/session.rs", test)])
    }

    #[test]
    fn a_requirement_met_and_tested_is_in_order() {
        assert_eq!(found("**R-1** A client MUST speak first. See R-1.", CODE, TEST), Findings::new());
        let tested_inside = format!("{CODE}#[cfg(test)]\nmod tests {{\n// R-1\n}}\n");
        assert_eq!(found("**R-1.** MUST", &tested_inside, ""), Findings::new());
    }

    #[test]
    fn what_nobody_cites_or_states_is_found() {
        assert_eq!(found("**R-1** MUST", "", TEST), ["docs/PROTOCOL.md: R-1 is cited by no code"]);
        assert_eq!(found("**R-1** MUST", CODE, ""), ["docs/PROTOCOL.md: R-1 is cited by no test"]);
        assert_eq!(found("**R-1** and **R-1** MUST", CODE, TEST), ["docs/PROTOCOL.md: R-1 is stated 2 times"]);
        let stray = found("**R-1** MUST", "// R-1, R-22", TEST);
        assert_eq!(stray, ["server/src/core/mod.rs:1: R-22: docs/PROTOCOL.md does not state it"]);
        assert_eq!(found("", "", "").len(), 1);
    }

    #[test]
    fn a_citation_is_a_word_of_its_own() {
        assert_eq!(citations("(R-1), R-23: and BAR-4, R-x, A-R-5").collect::<Vec<_>>(), [1, 23]);
    }
}
