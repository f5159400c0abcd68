//! `docs/PROTOCOL.md` lists every close code and every limit as `supernode-proto` has them, and no others.

use supernode_proto::{
    close::{CloseCode, Row, StreamCode},
    limits::{self, Limit},
};

use super::Findings;

const PATH: &str = "docs/PROTOCOL.md";

/// Codes and limits on which the document and the code differ. A code's row has cells with its number (`0x0c`) and its
/// name; a limit's row has cells with its name, its value (`65,536` or `65536`) and its unit. Backticks do not matter.
pub fn out_of_step(protocol: &str) -> Findings {
    let rows: Vec<(usize, Vec<String>)> =
        protocol.lines().enumerate().filter_map(|(index, line)| Some((index + 1, cells(line)?))).collect();
    let mut findings = Findings::new();
    for (table, codes) in [("CloseCode", CloseCode::ALL), ("StreamCode", StreamCode::ALL)] {
        for Row { code, name, .. } in codes {
            if !rows.iter().any(|(_, cells)| has(cells, &format!("{code:#04x}")) && has(cells, name)) {
                findings.push(format!("{PATH}: no table row with {code:#04x} and {name} ({table})"));
            }
        }
    }
    for Limit { name, value, unit, .. } in limits::ALL {
        if !rows.iter().any(|(_, cells)| has(cells, name) && has_quantity(cells, *value, unit)) {
            findings.push(format!("{PATH}: no table row with {name}, {value} and {unit}"));
        }
    }
    let stale = rows.iter().filter(|(_, cells)| !known_code(cells) || !known_limit(cells));
    findings.extend(stale.map(|(line, cells)| format!("{PATH}:{line}: no such code or limit: {}", cells.join(" | "))));
    findings
}

/// The cells of a table row, without backticks.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect())
}

fn has(cells: &[String], wanted: &str) -> bool {
    cells.iter().any(|cell| cell == wanted)
}

/// The value and the unit, in two cells or in one.
fn has_quantity(cells: &[String], value: u64, unit: &str) -> bool {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace(',', "")).collect();
    let value = value.to_string();
    (has(&cells, &value) && has(&cells, unit)) || has(&cells, &format!("{value} {unit}"))
}

/// A row that begins with a number in hexadecimal and a name in capitals is a code, and must be one of ours.
fn known_code(cells: &[String]) -> bool {
    let [number, name, ..] = cells else { return true };
    let Some(Ok(number)) = number.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) else { return true };
    !is_constant(name) || CloseCode::ALL.iter().chain(StreamCode::ALL).any(|row| row.code == number && row.name == name)
}

/// A row that begins with a constant that ends in `_MAX` is a limit, and must be one of ours.
fn known_limit(cells: &[String]) -> bool {
    let Some(name) = cells.first().filter(|name| is_constant(name) && name.ends_with("_MAX")) else { return true };
    limits::ALL.iter().any(|limit| limit.name == name && has_quantity(cells, limit.value, limit.unit))
}

fn is_constant(text: &str) -> bool {
    text.len() > 1
        && text
            .chars()
            .all(|character| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> String {
        let codes = CloseCode::ALL
            .iter()
            .chain(StreamCode::ALL)
            .map(|row| format!("| `{:#04x}` | `{}` | why |\n", row.code, row.name));
        let limits =
            limits::ALL.iter().map(|limit| format!("| `{}` | {} {} | why |\n", limit.name, limit.value, limit.unit));
        codes.chain(limits).collect()
    }

    #[test]
    fn a_complete_document_is_in_step() {
        assert_eq!(out_of_step(&complete()), Findings::new());
        let in_two_cells = complete().replace("65536 bytes", "65,536 | bytes");
        assert_eq!(out_of_step(&in_two_cells), Findings::new());
    }

    #[test]
    fn each_missing_row_is_found() {
        let document = complete();
        for line in document.lines() {
            assert_eq!(out_of_step(&document.replace(line, "")).len(), 1, "{line}");
        }
    }

    #[test]
    fn a_wrong_number_value_or_unit_is_found() {
        for (right, wrong) in
            [("`0x0c` | `REPLACED`", "`0x0d` | `REPLACED`"), ("65536 bytes", "65535 bytes"), ("60000 ms", "60000 s")]
        {
            let findings = out_of_step(&complete().replace(right, wrong));
            assert_eq!(findings.len(), 2, "what is missing and what is there instead: {findings:?}");
        }
    }

    #[test]
    fn a_row_for_what_is_gone_is_found() {
        assert_eq!(out_of_step(&(complete() + "| 0x7f | GONE | why |\n")).len(), 1);
        assert_eq!(out_of_step(&(complete() + "| GONE_MAX | 1 bytes | why |\n")).len(), 1);
        assert!(out_of_step(&(complete() + "| 0x01 | first byte of a stream |\n")).is_empty());
    }
}
