//! A result beside an earlier one.

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;

/// What an earlier result said, by the names of SLOs.
pub type Figures = BTreeMap<String, f64>;

/// Why a file is no earlier result.
#[derive(Debug, thiserror::Error)]
#[error("is no result of `supernode-load run --json` of this version")]
pub struct NoResult(#[from] serde_json::Error);

/// Reads what `--json` printed.
///
/// # Errors
/// See [`NoResult`].
pub fn figures(json: &str) -> Result<Figures, NoResult> {
    #[derive(Deserialize)]
    struct Part {
        figures: Figures,
    }
    Ok(serde_json::from_str::<Part>(json)?.figures)
}

/// A line for each figure that either of them has and that is not nothing in both.
pub fn table(before: &Figures, now: &BTreeMap<&'static str, f64>) -> String {
    let mut text = format!("\n{:<34} {:>12} {:>12} {:>9}\n", "compared with the baseline", "before", "now", "change");
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let names: std::collections::BTreeSet<&str> =
        before.keys().map(String::as_str).chain(now.keys().copied()).collect();
    for name in names {
        let (then, new) = (before.get(name).copied(), now.get(name).copied());
        if then.unwrap_or(0.0) == 0.0 && new.unwrap_or(0.0) == 0.0 {
            continue;
        }
        let change = match (then, new) {
            (Some(then), Some(new)) if then != 0.0 => format!("{:+.1} %", (new / then - 1.0) * 100.0),
            _ => String::new(),
        };
        let _ = writeln!(text, "{name:<34} {:>12} {:>12} {change:>9}", shown(then), shown(new));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_said_with_by_how_much() {
        let before = figures("{\"valid\":true,\"figures\":{\"p99_delay_ms\":2.0,\"loss\":0.0,\"relay_rss_mib\":30}}");
        let now = BTreeMap::from([("p99_delay_ms", 2.5), ("loss", 0.0), ("opened_per_s", 3.0)]);
        let table = table(&before.expect("a result"), &now);
        let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert!(line("p99_delay_ms").contains("2.000") && line("p99_delay_ms").ends_with("+25.0 %"), "{table}");
        assert!(line("relay_rss_mib").contains("30.000            -"), "{table}");
        assert!(line("opened_per_s").contains("-        3.000"), "{table}");
        assert_eq!(line("loss"), "", "nothing in both");
        assert!(figures("{}").is_err() && figures("nonsense").is_err());
    }
}
