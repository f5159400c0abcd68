//! Data on standard output.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::Exit;

/// Writes data. Whoever reads only the first lines, as `head` does, has what they wanted.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.map_err(Exit::Output)?),
    }
}

/// Columns of the terminal as the shell exports them, else what fits most screens.
pub(super) fn terminal_width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(120)
}

/// Writes data as JSON.
pub(super) fn print_json(data: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(data)?))
}

/// Says something to whoever looks, on standard error: data goes to standard output.
pub(super) fn say(words: &str) {
    // Nobody to hear it is no reason to fail.
    let _ = writeln!(io::stderr(), "{words}");
}

/// Bytes with a unit.
pub(super) fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A number that need not be exact.
pub(super) fn count(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_owned()
}

/// Bits a second with a unit.
pub(super) fn bits(per_second: f64) -> String {
    scaled(per_second, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
}

/// The two largest units.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The day of a second of Unix time, in UTC.
pub(super) fn date(unix_s: u64) -> String {
    // Days are counted in eras of 400 years, each of which begins with a 1 March: the leap day is a year's last.
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + next_year)
}

/// The time of day, in UTC.
pub(super) fn clock(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, unix_ms % 1000)
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = if unit == 0 || number >= 100.0 { 0 } else { 1 };
    format!("{number:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let days = [0, 951_782_400, 951_868_800, 1_735_689_599, 1_735_689_600, 4_107_542_399];
        let expected = ["1970-01-01", "2000-02-29", "2000-03-01", "2024-12-31", "2025-01-01", "2100-02-28"];
        assert_eq!(days.map(date), expected);
        assert_eq!(clock(1_735_689_599_042), "23:59:59.042");
    }

    #[test]
    fn numbers_are_short_and_have_a_unit() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(5 << 40)], ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]);
        assert_eq!([count(7), count(1_234_567)], ["7", "1.2 M"]);
        assert_eq!([bits(80.0), bits(12_300_000.0)], ["80 bit/s", "12.3 Mbit/s"]);
        assert_eq!(
            [duration(59), duration(61), duration(7260), duration(90_000)],
            ["59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]
        );
    }
}
