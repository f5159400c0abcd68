//! What needs a user of the relay's machine, or the operator's bad luck.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::relay::Setting;

/// Connections that say nothing: more than a process may have files open by default.
const IDLE: usize = 1005;
/// How long the admin port may take to answer while it is full: an idle connection's time and a little.
const LIVEZ_S_MAX: f64 = 6.0;
/// How long a command may take: its socket is not the admin port.
const COMMAND_S_MAX: f64 = 2.0;

pub(super) fn attacks() -> Vec<Attack> {
    let plain = |name, what, quick, run| Attack {
        name,
        what,
        quick,
        setting: Setting::PLAIN,
        seconds_min: 0.0,
        run: Run::Rust(run),
        rate_min: 0.0,
        judge: nothing_else,
    };
    vec![
        Attack {
            judge: |outcome: &Outcome| {
                outcome.at_least("tried", IDLE as f64)?;
                outcome.at_most("status_s", COMMAND_S_MAX)?;
                outcome.at_most("livez_s", LIVEZ_S_MAX)
            },
            ..plain("idle-admin-connections", "1,005 connections to the admin port that say nothing", true, idle_admin)
        },
        Attack {
            judge: |outcome: &Outcome| outcome.at_most("answered", 0.0),
            ..plain(
                "foreign-authority",
                "requests to the admin port under the name of another site, in every form that HTTP has",
                true,
                foreign_authority,
            )
        },
    ]
}

/// Fills the admin port, and asks after the relay by every way that an operator has.
fn idle_admin(target: &Target) -> anyhow::Result<Report> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let mut report = Report::of("connections");
    let end = Instant::now() + target.duration();
    let mut open = Vec::new();
    let mut tried = 0u32;
    for _ in 0..IDLE {
        tried += 1;
        // One that is not taken is as good as one that is closed again.
        let timeout = Duration::from_millis(20);
        if let Ok(stream) = TcpStream::connect_timeout(&target.admin.parse()?, timeout) {
            open.push(stream);
        }
    }
    report.count = open.len() as u64;
    report.found("tried", f64::from(tried));
    let begin = Instant::now();
    // What hangs is ended: that it hung is the result.
    let mut status = supernode(target, &["status", "--json"]).spawn()?;
    while status.try_wait()?.is_none() && begin.elapsed().as_secs_f64() < 2.0 * COMMAND_S_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
    let answered = status.try_wait()?.is_some_and(|status| status.success());
    report.found("status_s", if answered { begin.elapsed().as_secs_f64() } else { 2.0 * COMMAND_S_MAX });
    let _ = status.kill();
    status.wait()?;
    let begin = Instant::now();
    let limit = 1.5 * LIVEZ_S_MAX;
    while !livez(target).unwrap_or(false) && begin.elapsed().as_secs_f64() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    report.found("livez_s", begin.elapsed().as_secs_f64());
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    Ok(report)
}

fn supernode(target: &Target, arguments: &[&str]) -> Command {
    let mut command = Command::new(&target.program);
    command.args(arguments).env("XDG_STATE_HOME", &target.home).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn livez(target: &Target) -> anyhow::Result<bool> {
    Ok(exchange(target, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?.contains(" 200 "))
}

/// The first line of the answer.
fn exchange(target: &Target, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.admin.parse()?, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 64];
    let len = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..len]).into_owned();
    Ok(text.lines().next().unwrap_or("").to_owned())
}

/// What the relay's metrics say now.
pub(super) fn metrics(target: &Target) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.admin.parse()?, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// One of them, by its name and labels as they stand there.
pub(super) fn metric(metrics: &str, name: &str) -> anyhow::Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}

fn foreign_authority(target: &Target) -> anyhow::Result<Report> {
    let forms = [
        "GET /status.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://evil.example/status.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://localhost/status.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /status.json HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /status.json HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n",
        "GET /status.json HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
        "GET http://evil.example/status.json HTTP/1.0\r\n\r\n",
        // HTTP/2 with prior knowledge: this server speaks HTTP/1 only.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut report = Report::of("requests");
    let mut answered = BTreeSet::new();
    let end = Instant::now() + target.duration();
    while Instant::now() < end {
        for form in forms {
            report.count += 1;
            if exchange(target, form).is_ok_and(|line| line.contains(" 200 ")) {
                answered.insert(form);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    answered.iter().for_each(|form| eprintln!("answered: {form:?}"));
    report.found("answered", answered.len() as f64);
    Ok(report)
}
