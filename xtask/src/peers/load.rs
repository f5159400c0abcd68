//! The clients of each relay, and what they say.

use std::{
    io::Read,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{
    programs::Programs,
    relay::{CLIENT_CORE, RELAY_CORE, Running},
    works::{Relay, Run, SESSIONS_MORE, Traffic},
};

/// Clients of one worker that share a UDP socket, where the client allows that.
const SOCKETS: u32 = 8;
/// How often we look whether the clients have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// After the measured part: how long what is under way may take, in s.
const LINGER_S: &str = "0.5";

/// The part that we read of what `supernode-load --json` and the peers' clients print.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Measured {
    pub(super) valid: bool,
    pub(super) doubts: Vec<String>,
    pub(super) objects: Objects,
    pub(super) delay_ms: Quantiles,
    pub(super) generator: Generator,
    pub(super) relay: RelayUse,
    /// What we have seen of it ourselves; the clients know nothing of it.
    #[serde(skip_deserializing)]
    pub(super) process: Process,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Objects {
    pub(super) loss: f64,
    pub(super) delivered_per_s: f64,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Generator {
    pub(super) busy: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct RelayUse {
    pub(super) busy: Option<f64>,
    pub(super) cpu_us_per_delivered: Option<f64>,
    pub(super) rss_mib: Option<f64>,
}

/// The relay's process.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Process {
    pub(super) start_up_ms: Option<f64>,
    /// What it takes for each session more, in KiB; of runs that are about memory.
    pub(super) rss_kib_per_session: Option<f64>,
}

/// Starts the relay, does the work, and ends it. A run about memory does so twice, the second time with more sessions.
///
/// # Errors
/// If the relay or its clients fail, or are not done by `until`. That the clients were the cap is no error: it is in
/// the result.
pub(super) fn measure(programs: &Programs, run: Run, hold_s: f64, until: Instant) -> anyhow::Result<Measured> {
    let few = measure_once(programs, run, hold_s, until)?;
    match run.with_more_sessions() {
        Some(more) => Ok(few.grown_to(measure_once(programs, more, hold_s, until)?)),
        None => Ok(few),
    }
}

fn measure_once(programs: &Programs, run: Run, hold_s: f64, until: Instant) -> anyhow::Result<Measured> {
    let running = Running::start(programs, run.relay)?;
    let (text, status) = output(command(programs, run, running.as_ref(), hold_s, until)?, until)?;
    let Some(mut measured) = read(&text) else { bail!("its clients gave no result ({status})") };
    measured.process.start_up_ms = running.map(|running| running.start_up_ms);
    Ok(measured)
}

impl Measured {
    /// Whether it says something about the relay: its clients trust themselves, and nothing was lost. If it does not,
    /// why not.
    pub(super) fn flaw(&self) -> Option<String> {
        if !self.valid {
            return Some(self.doubts.first().cloned().unwrap_or_else(|| "its clients call it invalid".to_owned()));
        }
        let loss = self.objects.loss;
        (loss > 0.0).then(|| format!("{:.3} % lost", loss * 100.0))
    }

    /// What the relay has grown by from this run to one with more sessions.
    fn grown_to(mut self, more: Self) -> Self {
        let grown_mib = more.relay.rss_mib.zip(self.relay.rss_mib).map(|(more, few)| more - few);
        self.process.rss_kib_per_session = grown_mib.map(|mib| mib * 1024.0 / f64::from(SESSIONS_MORE));
        self.valid &= more.valid;
        self.doubts.extend(more.doubts);
        self.objects.loss = self.objects.loss.max(more.objects.loss);
        self
    }
}

/// What it writes until it ends; it is ended if it does not.
fn output(mut command: Command, until: Instant) -> anyhow::Result<(String, ExitStatus)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().context("taskset")?;
    let mut stdout = child.stdout.take().context("it was piped")?;
    // In a thread of its own, so that a full pipe does not keep the clients from ending.
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait()?;
            bail!("its clients were not done in time");
        }
        thread::sleep(POLL_INTERVAL);
    };
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok((String::from_utf8_lossy(&text).into_owned(), status))
}

/// The last line that is one.
fn read(text: &str) -> Option<Measured> {
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn command(
    programs: &Programs,
    run: Run,
    running: Option<&Running>,
    hold_s: f64,
    until: Instant,
) -> anyhow::Result<Command> {
    let program = match run.relay.client() {
        Some(client) => programs.clients.join(client),
        None => programs.release.join("supernode-load"),
    };
    let mut command = Command::new("taskset");
    // The bare sender and its listeners are one process, which divides the cores itself.
    let cores = if run.relay == Relay::Blast { format!("{RELAY_CORE},{CLIENT_CORE}") } else { CLIENT_CORE.to_owned() };
    command.args(["-c", &cores]).arg(program).current_dir(&programs.work);
    match (run.relay, running) {
        (Relay::Blast, _) => {
            let Traffic::Webinar { listeners, per_s, bytes } = run.traffic else { bail!("{}", run.name()) };
            command.args(["blast", "--listeners", &listeners.to_string(), "--objects-per-second", &per_s.to_string()]);
            command.args(["--object-bytes", &bytes.to_string(), "--hold-s", &hold_s.to_string()]);
        }
        (_, None) => bail!("{}: no relay", run.name()),
        (Relay::Ours { .. }, Some(running)) => {
            invite(programs, running, until)?;
            command.args(["run", scenario(run.traffic), "--invite-file", "invite", "--json", "--quiet"]);
            command.args(["--relay-pid", &running.pid().to_string()]);
            for (key, value) in settings(run, hold_s) {
                command.args(["--set", &format!("{key}={value}")]);
            }
        }
        (relay, Some(running)) => {
            match relay {
                Relay::Iroh => command.args(["run", "--certificate", "default.crt"]),
                Relay::Moq { datagrams } => {
                    let carrier = if datagrams { "datagrams" } else { "groups" };
                    command.args(["--carrier", carrier, "--sockets", &SOCKETS.to_string()])
                }
                Relay::Coturn { both } => command.args(["turn", "--allocations", if both { "both" } else { "one" }]),
                _ => command.arg("plain"),
            };
            command.args(["--relay", &running.address.to_string(), "--relay-pid", &running.pid().to_string()]);
            let (rooms, members, per_s, bytes) = match run.traffic {
                Traffic::Rooms { rooms, members, per_s, bytes } => (rooms, members, per_s, bytes),
                Traffic::Memory { sessions, per_s } => (sessions / 2, 2, per_s, 160),
                Traffic::Webinar { .. } => bail!("{}: not written", run.name()),
            };
            command.args(["--rooms", &rooms.to_string(), "--members", &members.to_string()]);
            command.args(["--objects-per-second", &per_s.to_string(), "--object-bytes", &bytes.to_string()]);
            command.args(["--hold-s", &hold_s.to_string(), "--linger-s", LINGER_S]);
        }
    }
    Ok(command)
}

/// The clients of ours need its invite link.
fn invite(programs: &Programs, running: &Running, until: Instant) -> anyhow::Result<()> {
    let mut command = Command::new(programs.release.join("supernode"));
    command.args(["invite", "--state-dir", "state", "--host", &running.address.to_string()]);
    command.current_dir(&programs.work);
    let (link, status) = output(command, until)?;
    if !status.success() {
        bail!("supernode invite: {status}");
    }
    Ok(std::fs::write(programs.work.join("invite"), link)?)
}

fn scenario(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Rooms { members: 2, .. } => "calls",
        Traffic::Rooms { .. } => "rooms",
        Traffic::Webinar { .. } => "webinar",
        Traffic::Memory { per_s: 0.0, .. } => "idle",
        Traffic::Memory { .. } => "calls",
    }
}

fn settings(run: Run, hold_s: f64) -> Vec<(&'static str, String)> {
    let mut settings = match run.traffic {
        Traffic::Rooms { rooms, members: 2, per_s, bytes } => {
            vec![
                ("pairs", rooms.to_string()),
                ("objects_per_second", per_s.to_string()),
                ("object_bytes", bytes.to_string()),
            ]
        }
        Traffic::Rooms { rooms, members, per_s, bytes } => vec![
            ("rooms", rooms.to_string()),
            ("members", members.to_string()),
            ("objects_per_second", per_s.to_string()),
            ("object_bytes", bytes.to_string()),
        ],
        Traffic::Webinar { listeners, per_s, bytes } => vec![
            ("listeners", listeners.to_string()),
            ("objects_per_second", per_s.to_string()),
            ("object_bytes", bytes.to_string()),
        ],
        Traffic::Memory { sessions, per_s: 0.0 } => vec![("presence.people", sessions.to_string())],
        Traffic::Memory { sessions, per_s } => vec![
            ("pairs", (sessions / 2).to_string()),
            ("objects_per_second", per_s.to_string()),
            ("object_bytes", "160".to_owned()),
        ],
    };
    settings.extend([("ramp_s", "0.5".to_owned()), ("hold_s", hold_s.to_string()), ("linger_s", LINGER_S.to_owned())]);
    settings.extend([("sockets", SOCKETS.to_string()), ("gather_us", run.gather_us.to_string())]);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_among_other_lines() {
        let line = r#"{"valid":false,"doubts":["late"],"sessions":{"planned":2},"objects":{"expected":4,"loss":0.25,
            "delivered_per_s":100.0},"delay_ms":{"p50":1.0,"p99":2.0,"p999":3.0,"max":9.0},"generator":{"busy":[0.5],
            "lag_ms":{"p99":6.0}},"relay":{"busy":0.5,"cpu_us_per_delivered":12.5,"rss_mib":null}}"#;
        let measured = read(&format!("a word before\n{}\n", line.replace('\n', " "))).expect("a result");
        assert!(!measured.valid && measured.doubts == ["late"]);
        assert_eq!((measured.objects.loss, measured.delay_ms.p999), (0.25, 3.0));
        assert_eq!((measured.relay.cpu_us_per_delivered, measured.relay.rss_mib), (Some(12.5), None));
        assert!(read("no result").is_none());
    }

    fn with_rss(rss_mib: f64, doubts: &[&str]) -> Measured {
        let json = serde_json::json!({
            "valid": doubts.is_empty(), "doubts": doubts, "objects": { "loss": 0.0, "delivered_per_s": 0.0 },
            "delay_ms": { "p50": 0.0, "p99": 0.0, "p999": 0.0 }, "generator": { "busy": [] },
            "relay": { "busy": 0.0, "cpu_us_per_delivered": 0.0, "rss_mib": rss_mib },
        });
        serde_json::from_value(json).expect("a result")
    }

    #[test]
    fn a_sessions_memory_is_what_more_sessions_take_and_dead_ones_are_no_result() {
        let measured = with_rss(50.0, &[]).grown_to(with_rss(60.0, &[]));
        assert_eq!(measured.process.rss_kib_per_session, Some(10.0 * 1024.0 / 500.0));
        assert_eq!(measured.flaw(), None);
        let dead = with_rss(50.0, &[]).grown_to(with_rss(60.0, &["only 3 of 1000 sessions were alive"]));
        assert_eq!(dead.flaw(), Some("only 3 of 1000 sessions were alive".to_owned()));
    }

    #[test]
    fn doubts_of_the_clients_come_before_what_was_lost() {
        let mut lossy = with_rss(1.0, &["its kernel dropped 3 datagrams"]);
        lossy.objects.loss = 0.25;
        assert_eq!(lossy.flaw(), Some("its kernel dropped 3 datagrams".to_owned()));
        (lossy.valid, lossy.doubts) = (true, Vec::new());
        assert_eq!(lossy.flaw(), Some("25.000 % lost".to_owned()));
    }

    #[test]
    fn clients_that_hang_are_ended_and_those_that_write_much_are_read() {
        let mut hanging = Command::new("sleep");
        hanging.arg("600");
        let error = output(hanging, Instant::now() + Duration::from_millis(50)).expect_err("it hangs").to_string();
        assert_eq!(error, "its clients were not done in time");
        let mut writing = Command::new("head");
        writing.args(["-c", "1000000", "/dev/zero"]);
        let (text, status) = output(writing, Instant::now() + Duration::from_secs(60)).expect("it ends");
        assert!(status.success() && text.len() == 1_000_000);
    }

    #[test]
    fn our_load_generator_is_told_the_same_work() {
        let traffic = Traffic::Rooms { rooms: 5, members: 20, per_s: 50.0, bytes: 160 };
        let run = Run { relay: Relay::Ours { window_us: 0, shards: 1 }, traffic, gather_us: 300 };
        let settings = settings(run, 2.0);
        for (key, value) in
            [("rooms", "5"), ("members", "20"), ("objects_per_second", "50"), ("hold_s", "2"), ("gather_us", "300")]
        {
            assert!(settings.contains(&(key, value.to_owned())), "{key}: {settings:?}");
        }
        assert_eq!(scenario(traffic), "rooms");
    }
}
