//! What can be seen of the relay only while a call runs: its memory, and what forwarding costs it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{
    memory::Memory,
    metrics::Metrics,
    process::{Interrupted, Process},
    sockets,
};

/// What people may take until media flows between all of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);
/// How long media flows before the relay's memory is read; half of the call if that is shorter.
const BEFORE_READING: Duration = Duration::from_secs(2);
/// How long before the hang-up the measurement ends: we notice the beginning of the call late.
const BEFORE_HANG_UP: Duration = Duration::from_millis(500);
const MEASUREMENT_MIN: Duration = Duration::from_millis(200);

/// A relay in the middle of a call.
#[derive(Debug)]
pub(super) struct During {
    /// All of the relay's memory.
    pub(super) memory: Memory,
    /// The UDP ports of each of the people.
    pub(super) ports: Vec<Vec<u16>>,
    /// The relay's metrics right after its memory was read.
    pub(super) metrics: Metrics,
    /// What forwarding cost from then until shortly before the hang-up.
    pub(super) load: Load,
}

/// What a relay did and spent in a time in which it forwarded media and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Load {
    /// How long that was.
    pub(super) seconds: f64,
    /// Processor time of the whole process, in seconds.
    pub(super) cpu_s: f64,
    /// UDP datagrams that it sent.
    pub(super) datagrams_out: f64,
}

impl Load {
    pub(super) fn between(first: &Metrics, last: &Metrics, time: Duration) -> anyhow::Result<Self> {
        let cpu = |metrics: &Metrics| metrics.sum("supernode_process_cpu_seconds_total");
        let out = |metrics: &Metrics| metrics.labelled("supernode_udp_datagrams_total", r#"{direction="out"}"#);
        Ok(Self {
            seconds: time.as_secs_f64(),
            cpu_s: cpu(last)? - cpu(first)?,
            datagrams_out: out(last)? - out(first)?,
        })
    }

    /// With that of another relay at the same time.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.max(other.seconds),
            cpu_s: self.cpu_s + other.cpu_s,
            datagrams_out: self.datagrams_out + other.datagrams_out,
        }
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { seconds, datagrams_out, .. } = self;
        let cost = self.cpu_us_per_datagram();
        format!(
            "  relay's cost   {cost:.1} µs of processor time for each of the {datagrams_out} UDP datagrams it sent in \
             {seconds:.1} s while media flowed"
        )
    }

    /// Microseconds of processor time for each UDP datagram sent; zero if there was none.
    pub(super) fn cpu_us_per_datagram(&self) -> f64 {
        if self.datagrams_out > 0.0 { self.cpu_s * 1e6 / self.datagrams_out } else { 0.0 }
    }
}

/// Waits until media flows and there are so many subscriptions, and looks at the relay until shortly before the hang-up, `seconds` later.
///
/// # Errors
/// If the call does not come about, ends too early, or the relay's memory cannot be read.
pub(super) fn watch(
    relay: &Process,
    admin: SocketAddr,
    seconds: u64,
    people: &mut [Process],
    subscriptions: usize,
    interrupted: &Interrupted,
) -> anyhow::Result<During> {
    let waiting_since = Instant::now();
    loop {
        let metrics = Metrics::fetch(admin)?;
        let forwarded = metrics.sum("supernode_datagrams_forwarded_total")?;
        if metrics.sum("supernode_subscriptions")? >= subscriptions as f64 && forwarded > 0.0 {
            break;
        }
        for person in &mut *people {
            if let Some(status) = person.ended()? {
                bail!("{} ended with {status} before media flowed between all", person.name());
            }
        }
        if waiting_since.elapsed() > CONNECT_TIMEOUT {
            bail!("no media flowed between all after {} s", CONNECT_TIMEOUT.as_secs());
        }
        interrupted.pause()?;
    }
    let (started, length) = (Instant::now(), Duration::from_secs(seconds));
    interrupted.wait_until(started + BEFORE_READING.min(length / 2))?;
    let ports: Vec<Vec<u16>> = people.iter().map(|person| sockets::udp_ports(person.id())).collect::<Result<_, _>>()?;
    let memory = Memory::of_process(relay.id())?;
    let (first, measured_from) = (Metrics::fetch(admin)?, Instant::now());
    if first.sum("supernode_sessions")? < people.len() as f64 {
        bail!("the call ended before the relay's memory was read");
    }
    interrupted.wait_until((started + length - BEFORE_HANG_UP).max(measured_from + MEASUREMENT_MIN))?;
    let (last, time) = (Metrics::fetch(admin)?, measured_from.elapsed());
    let load = Load::between(&first, &last, time)?;
    Ok(During { memory, ports, metrics: first, load })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_came_in_between_and_counts_what_was_sent_only() {
        let page = |cpu: f64, out: u64| {
            let text = format!(
                "supernode_process_cpu_seconds_total {cpu}\nsupernode_udp_datagrams_total{{direction=\"in\"}} 7\n\
                 supernode_udp_datagrams_total{{direction=\"out\"}} {out}\n"
            );
            Metrics::parse(&text).expect("a page")
        };
        let load = Load::between(&page(1.0, 100), &page(1.5, 5100), Duration::from_secs(2)).expect("metrics");
        assert_eq!(load, Load { seconds: 2.0, cpu_s: 0.5, datagrams_out: 5000.0 });
        assert_eq!(load.cpu_us_per_datagram(), 100.0);
        Load::between(&Metrics::default(), &page(1.0, 1), Duration::ZERO).expect_err("no metrics");
    }
}
