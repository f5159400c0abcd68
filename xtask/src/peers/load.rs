//! The clients of each relay, and what they say.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{
    programs::Programs,
    relay::{CLIENT_CORE, RELAY_CORE, Running},
    works::{Relay, Run, Traffic},
};

/// Clients of one worker that share a UDP socket, where the client allows that.
const SOCKETS: u32 = 8;

/// The part that we read of what `supernode-load --json` and the peers' clients print.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Measured {
    pub(super) valid: bool,
    pub(super) doubts: Vec<String>,
    pub(super) objects: Objects,
    pub(super) delay_ms: Quantiles,
    pub(super) generator: Generator,
    pub(super) relay: RelayUse,
    /// What we have seen of it ourselves; the clients know nothing of it.
    #[serde(skip)]
    pub(super) process: Option<Process>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Objects {
    pub(super) loss: f64,
    pub(super) delivered_per_s: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Generator {
    pub(super) busy: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RelayUse {
    pub(super) busy: Option<f64>,
    pub(super) cpu_us_per_delivered: Option<f64>,
    pub(super) rss_mib: Option<f64>,
}

/// The relay's process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pub(super) start_up_ms: f64,
    /// What it took for each session beyond what it had before anybody came, in KiB.
    pub(super) rss_kib_per_session: f64,
}

/// Starts the relay, does the work, and ends it.
///
/// # Errors
/// If the relay or its clients fail. That the clients were the cap is no error: it is in the result.
pub(super) fn measure(programs: &Programs, run: Run, hold_s: f64) -> anyhow::Result<Measured> {
    let running = Running::start(programs, run.relay)?;
    let mut command = command(programs, run, running.as_ref(), hold_s)?;
    let output = command.stderr(Stdio::inherit()).output().with_context(|| run.name())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(mut measured) = read(&text) else {
        bail!("{}: its clients gave no result ({})", run.name(), output.status);
    };
    if let (Traffic::Idle { .. }, Some(_)) = (run.traffic, measured.relay.rss_mib) {
        // Nothing was to be sent, which a load generator cannot but doubt.
        measured.doubts.clear();
        measured.valid = true;
    }
    measured.process = running.map(|running| {
        let grown = measured.relay.rss_mib.unwrap_or_default() * 1024.0 - running.rss_bytes as f64 / 1024.0;
        let rss_kib_per_session = grown.max(0.0) / f64::from(run.traffic.sessions());
        Process { start_up_ms: running.start_up_ms, rss_kib_per_session }
    });
    Ok(measured)
}

/// The last line that is one.
fn read(text: &str) -> Option<Measured> {
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn command(programs: &Programs, run: Run, running: Option<&Running>, hold_s: f64) -> anyhow::Result<Command> {
    let program = match run.relay {
        Relay::Ours { .. } => programs.release.join("supernode-load"),
        Relay::Iroh => programs.clients.join("peer-iroh"),
        Relay::Moq { .. } => programs.clients.join("peer-moq"),
        Relay::Coturn { .. } | Relay::Plain | Relay::Blast => programs.clients.join("peer-datagrams"),
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
            invite(programs, running)?;
            command.args(["run", scenario(run.traffic), "--invite-file", "invite", "--json", "--quiet"]);
            command.args(["--relay-pid", &running.pid().to_string()]);
            for (key, value) in settings(run.traffic, hold_s) {
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
                Traffic::Idle { sessions } => (sessions / 2, 2, 0.0, 160),
                Traffic::Webinar { .. } => bail!("{}: not written", run.name()),
            };
            command.args(["--rooms", &rooms.to_string(), "--members", &members.to_string()]);
            command.args(["--objects-per-second", &per_s.to_string(), "--object-bytes", &bytes.to_string()]);
            command.args(["--hold-s", &hold_s.to_string()]);
        }
    }
    Ok(command)
}

/// The clients of ours need its invite link.
fn invite(programs: &Programs, running: &Running) -> anyhow::Result<()> {
    let mut command = Command::new(programs.release.join("supernode"));
    command.args(["invite", "--state-dir", "state", "--host", &running.address.to_string()]);
    let output = command.current_dir(&programs.work).stderr(Stdio::inherit()).output().context("supernode invite")?;
    if !output.status.success() {
        bail!("supernode invite: {}", output.status);
    }
    Ok(std::fs::write(programs.work.join("invite"), output.stdout)?)
}

fn scenario(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Rooms { members: 2, .. } => "calls",
        Traffic::Rooms { .. } => "rooms",
        Traffic::Webinar { .. } => "webinar",
        Traffic::Idle { .. } => "presence-storm",
    }
}

fn settings(traffic: Traffic, hold_s: f64) -> Vec<(&'static str, String)> {
    let mut settings = match traffic {
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
        // Online, seen by one other, and changing next to never.
        Traffic::Idle { sessions } => vec![
            ("presence.people", sessions.to_string()),
            ("presence.watchers", "1".to_owned()),
            ("presence.changes_per_second", "0.001".to_owned()),
        ],
    };
    settings.extend([("ramp_s", "0.5".to_owned()), ("hold_s", hold_s.to_string()), ("sockets", SOCKETS.to_string())]);
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

    #[test]
    fn our_load_generator_is_told_the_same_work() {
        let traffic = Traffic::Rooms { rooms: 5, members: 20, per_s: 50.0, bytes: 160 };
        let settings = settings(traffic, 2.0);
        for (key, value) in [("rooms", "5"), ("members", "20"), ("objects_per_second", "50"), ("hold_s", "2")] {
            assert!(settings.contains(&(key, value.to_owned())), "{key}: {settings:?}");
        }
        assert_eq!(scenario(traffic), "rooms");
    }
}
