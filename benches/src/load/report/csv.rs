//! The measured part's pieces as comma-separated values, for a spreadsheet or a plotter.

use std::fmt::Write;

use super::Report;

/// A heading and a line for each piece; what was not measured is empty.
pub fn table(report: &Report) -> String {
    let mut text = String::from(
        "at_s,due_per_s,delivered_per_s,loss,p50_ms,p99_ms,generator_lag_max_ms,relay_busy,generator_busy\n",
    );
    let share = |busy: Option<f64>| busy.map_or_else(String::new, |busy| format!("{busy:.4}"));
    for piece in &report.intervals {
        let (relay, generator) = (share(piece.relay_busy), share(piece.generator_busy));
        let _ = writeln!(
            text,
            "{:.3},{:.1},{:.1},{:.6},{:.3},{:.3},{:.3},{relay},{generator}",
            piece.at_s,
            piece.due_per_s,
            piece.delivered_per_s,
            piece.loss,
            piece.p50_ms,
            piece.p99_ms,
            piece.lag_max_ms
        );
    }
    text
}
