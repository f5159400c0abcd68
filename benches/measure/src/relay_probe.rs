//! What can be known of the relay from outside: its CPU time and memory by /proc, its drops by its metrics.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    str::FromStr,
    time::{Duration, Instant},
};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Longest wait for the relay's metrics.
const METRICS_PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of metrics.
const METRICS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `http://HOST:PORT/PATH`: metrics are served on loopback, without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsUrl {
    authority: String,
    path: String,
}

/// What a relay had used at one time, or between two.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RelayUse {
    /// When that was read.
    pub at: Option<Instant>,
    /// Between two: how long that is, in s.
    pub elapsed_s: f64,
    /// CPU time of its process, in s.
    pub cpu_s: Option<f64>,
    /// Its resident memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// Its counters by name and labels.
    pub counters: BTreeMap<String, f64>,
}

/// Why a relay cannot be looked at: better known before a run than after it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No such process, or none that may be looked at.
    #[error("--relay-pid {0}: there is no such process of this machine, or this user may not look at it")]
    Process(u32),
    /// No metrics.
    #[error("--metrics-url {0}: nothing answers there with metrics (200 and a line that begins with supernode_)")]
    Metrics(String),
}

impl RelayUse {
    /// Whether what is to be looked at is there.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn check(pid: Option<u32>, metrics: Option<&MetricsUrl>) -> Result<(), ProbeError> {
        let now = Self::read(pid, metrics);
        if let Some(pid) = pid.filter(|_| now.cpu_s.is_none() || now.rss_bytes.is_none()) {
            return Err(ProbeError::Process(pid));
        }
        match metrics.filter(|_| now.counters.is_empty()) {
            Some(MetricsUrl { authority, path }) => Err(ProbeError::Metrics(format!("http://{authority}{path}"))),
            None => Ok(()),
        }
    }

    /// The relay's version, by its own word.
    pub fn version(&self) -> Option<String> {
        let named =
            |name: &String| Some(name.strip_prefix("supernode_build_info{version=\"")?.split('"').next()?.to_owned());
        self.counters.keys().find_map(named)
    }

    /// Up to now.
    pub fn read(pid: Option<u32>, metrics: Option<&MetricsUrl>) -> Self {
        Self {
            at: Some(Instant::now()),
            elapsed_s: 0.0,
            cpu_s: pid.and_then(cpu_s),
            rss_bytes: pid
                .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
                .and_then(|text| rss(&text)),
            counters: metrics.and_then(MetricsUrl::fetch).map(|text| counters(&text)).unwrap_or_default(),
        }
    }

    /// Between `before` and now; memory is that of now.
    pub fn since(before: Self, pid: Option<u32>, metrics: Option<&MetricsUrl>) -> Self {
        let now = Self::read(pid, metrics);
        let counters = now.counters.into_iter().map(|(name, value)| {
            let grown = value - before.counters.get(&name).copied().unwrap_or(0.0);
            (name, grown)
        });
        let elapsed = now.at.zip(before.at).map(|(now, before)| now.saturating_duration_since(before));
        Self {
            at: now.at,
            elapsed_s: elapsed.unwrap_or_default().as_secs_f64(),
            cpu_s: now.cpu_s.zip(before.cpu_s).map(|(now, before)| now - before),
            rss_bytes: now.rss_bytes,
            counters: counters.collect(),
        }
    }

    /// Objects that the relay turned away or dropped, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let names = [("supernode_objects_dropped_total", "dropped"), ("supernode_objects_refused_total", "refused")];
        let mut drops = BTreeMap::new();
        for (name, value) in self.counters.iter().filter(|(_, value)| **value >= 1.0) {
            for (metric, word) in names {
                if let Some(labels) = name.strip_prefix(metric) {
                    let reason = labels.split('"').nth(1).unwrap_or(labels);
                    drops.insert(format!("{word}: {reason}"), *value as u64);
                }
            }
        }
        drops
    }
}

impl FromStr for MetricsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("must begin with http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        if !authority.contains(':') {
            return Err("must have a port".to_owned());
        }
        Ok(Self { authority: authority.to_owned(), path: format!("/{path}") })
    }
}

impl MetricsUrl {
    /// What is served there now.
    pub fn fetch(&self) -> Option<String> {
        let mut stream = TcpStream::connect(&self.authority).ok()?;
        stream.set_read_timeout(Some(METRICS_PATIENCE)).ok()?;
        let Self { authority, path } = self;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.take(METRICS_BYTES_MAX).read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(text)
    }
}

/// Datagrams that the kernel dropped at sockets with these ports of this machine: their buffers were full.
pub fn socket_drops(ports: &[u16]) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    tables.iter().filter_map(|path| fs::read_to_string(path).ok()).map(|table| drops_in(&table, ports)).sum()
}

/// Lines of proc(5)'s udp table: the local address is the second field, the drops are the last.
fn drops_in(table: &str, ports: &[u16]) -> u64 {
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((port, fields.last()?.parse::<u64>().ok()?))
    });
    lines.filter(|(port, _)| ports.contains(port)).map(|(_, drops)| drops).sum()
}

/// CPU time of all threads of a process, those that have ended included, in s. Its clock counts nanoseconds, where
/// proc(5)'s stat has ticks of 10 ms.
pub fn cpu_s(pid: u32) -> Option<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.try_into().ok()?)).ok()?;
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// CPU time of this process, in s.
pub fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    time.as_secs_f64()
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Samples of Prometheus's text format.
fn counters(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| line.starts_with("supernode_"));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            rss("Name:	x
VmRSS:	    2048 kB
"),
            Some(2 * 1024 * 1024)
        );
        assert!(RelayUse::read(Some(std::process::id()), None).rss_bytes.is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn what_cannot_be_looked_at_is_named_before_the_run() {
        let said = |pid, url: Option<&str>| {
            let url: Option<MetricsUrl> = url.map(|url| url.parse().expect("an address"));
            RelayUse::check(pid, url.as_ref()).expect_err("nothing there").to_string()
        };
        assert!(RelayUse::check(Some(std::process::id()), None).is_ok());
        assert!(said(Some(u32::MAX >> 2), None).starts_with("--relay-pid 1073741823: there is no such process"));
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback");
        let url = format!("http://{closed}/metrics");
        assert!(said(None, Some(&url)).starts_with(&format!("--metrics-url {url}: nothing answers there")));
    }

    #[test]
    fn cpu_time_is_exact_and_that_of_a_thread_which_ended_stays() {
        let before = RelayUse::read(Some(std::process::id()), None);
        let worked = std::thread::spawn(|| {
            let begun = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
            let worked = || {
                let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
                Duration::from(now) - Duration::from(begun)
            };
            while worked() < Duration::from_millis(3) {}
            worked()
        });
        let worked = worked.join().expect("it only counts");
        let used = RelayUse::since(before, Some(std::process::id()), None);
        assert!(used.cpu_s.is_some_and(|cpu_s| cpu_s >= worked.as_secs_f64()), "{:?} of {worked:?}", used.cpu_s);
        assert_eq!(RelayUse::read(Some(u32::MAX), None).cpu_s, None);
    }

    #[test]
    fn drops_are_named_by_their_reason() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP x\nsupernode_objects_dropped_total{reason=\"expired\"} 12\n\
                    supernode_objects_dropped_total{reason=\"gone\"} 0\nsupernode_objects_refused_total{reason=\"rate\"} 3\n";
        let used = RelayUse { counters: counters(text), ..RelayUse::default() };
        let expected = [("dropped: expired".to_owned(), 12), ("refused: rate".to_owned(), 3)];
        assert_eq!(used.drops(), BTreeMap::from(expected));
    }

    #[test]
    fn socket_drops_are_those_of_ones_own_ports() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     1: 00000000:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 11 2 0000000000000000 7\n\
                     2: 00000000:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 12 2 0000000000000000 9\n";
        assert_eq!(drops_in(table, &[0x1f90]), 7);
        assert_eq!(drops_in(table, &[0x1f90, 0x1f91, 1]), 16);
    }

    #[test]
    fn a_metrics_address_has_a_scheme_and_a_port() {
        let url: MetricsUrl = "http://127.0.0.1:9464/metrics".parse().expect("an address");
        assert_eq!((url.authority.as_str(), url.path.as_str()), ("127.0.0.1:9464", "/metrics"));
        assert!("https://x:1/".parse::<MetricsUrl>().is_err());
        assert!("http://localhost/metrics".parse::<MetricsUrl>().is_err());
    }
}
