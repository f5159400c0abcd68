//! When, where and by what a result was made: without that it can be compared with nothing.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct About {
    /// When it began, Unix time.
    pub begun_unix_s: u64,
    /// The machine that the generator ran on.
    pub host: String,
    /// Its processor, and how many of its cores the generator may use.
    pub processor: String,
    /// See there.
    pub cores: usize,
    /// Its kernel.
    pub kernel: String,
    /// The generator's version.
    pub version: String,
    /// The relay's, by its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_version: Option<String>,
    /// The machines of the other generators, where there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_hosts: Vec<String>,
    /// By what command.
    pub command_line: Vec<String>,
}

impl About {
    /// Of a run that begins now.
    pub fn now(command_line: &[String]) -> Self {
        let read = |path| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        Self {
            begun_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            host: read("/proc/sys/kernel/hostname"),
            processor: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            relay_version: None,
            other_hosts: Vec::new(),
            command_line: command_line.to_vec(),
        }
    }

    /// The time at which it began, in UTC, as RFC 3339 writes it.
    pub fn begun(&self) -> String {
        // Days are counted in eras of 400 years, each of which begins with a 1 March: the leap day is a year's last.
        let days = self.begun_unix_s / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year_of_era + era * 400 + next_year;
        let second = self.begun_unix_s % 86_400;
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, processor, cores, kernel, version, relay_version, command_line, .. } = self;
        let relay = relay_version.as_deref().unwrap_or("of unknown version");
        writeln!(f, "{}, {host}: {processor}, {cores} cores, Linux {kernel}", self.begun())?;
        write!(f, "supernode-load {version}, relay {relay}")?;
        if !self.other_hosts.is_empty() {
            write!(f, ", with {} more generators on {}", self.other_hosts.len(), self.other_hosts.join(", "))?;
        }
        if command_line.is_empty() { Ok(()) } else { write!(f, "\n$ {}", command_line.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_says_when_where_and_by_what() {
        let about = About { begun_unix_s: 1_709_210_096, ..About::now(&["supernode-load".into(), "run".into()]) };
        assert_eq!(about.begun(), "2024-02-29T12:34:56Z");
        let text = about.to_string();
        assert!(
            text.contains(&about.host) && text.contains("Linux") && text.ends_with("$ supernode-load run"),
            "{text}"
        );
        assert!(about.cores > 0 && !about.kernel.is_empty());
    }
}
