//! The report as a page.

use super::report::Report;

/// A page that needs nothing else.
pub fn page(report: &Report) -> String {
    report.to_string()
}
