//! A relay as people run it: the release program, on a core of its own.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup::Cgroup, client::Door};

/// How long a relay may take to end in order.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a program may have open unless it asks for more: as systems start services.
pub(crate) const FILES: [&str; 2] = ["prlimit", "--nofile=1024:"];

/// Where the relay's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// Into a file, whose lines are counted.
    File,
    /// Into a pipe that nobody reads, at the level that says most.
    Stalled,
}

/// What is special about a relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Configuration, as variables.
    pub(crate) config: &'static [(&'static str, &'static str)],
    pub(crate) log: Log,
    /// Whether it shows anything only where the relay has no more memory than the smallest machine.
    pub(crate) only_small: bool,
    pub(crate) shards: u16,
    /// What is done to it stops it, or a part of it, by itself: the call need only go on afterwards, and nobody comes before.
    pub(crate) interrupts: bool,
}

impl Setting {
    pub(crate) const PLAIN: Self =
        Self { config: &[], log: Log::File, only_small: false, shards: 1, interrupts: false };
}

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    home: tempfile::TempDir,
    program: PathBuf,
    /// The admin port.
    pub(crate) admin: String,
    pub(crate) door: Door,
    log: Log,
    _stalled: Option<ChildStderr>,
    pub(crate) cgroup: Option<Cgroup>,
}

impl Relay {
    /// Starts `program` on this core, in a control group if it is to be in one, and makes an invite.
    pub(crate) fn start(
        program: &Path,
        core: usize,
        setting: &Setting,
        cgroup: Option<Cgroup>,
    ) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut command = match &cgroup {
            Some(cgroup) => cgroup.command(core, program),
            None => pinned(core, program),
        };
        environment(&mut command, home.path());
        let shards = setting.shards.to_string();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", &shards]);
        command.envs(setting.config.iter().copied()).stdout(Stdio::piped());
        match setting.log {
            Log::File => command.stderr(File::create(home.path().join("log"))?),
            Log::Stalled => command.stderr(Stdio::piped()).env("SUPERNODE__LOG__FILTER", "debug"),
        };
        let mut child = command.spawn().with_context(|| format!("taskset -c {core} {}", program.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let stalled = child.stderr.take();
        // From here on the process ends with the value.
        let mut relay = Self {
            child,
            home,
            program: program.to_owned(),
            admin: String::new(),
            door: Door {
                address: ([127, 0, 0, 1], 0).into(),
                pin: supernode_proto::identity::RelayPin([0; 32]),
                token: String::new(),
            },
            log: setting.log,
            _stalled: stalled,
            cgroup,
        };
        let Ok(ready) = serde_json::from_str::<serde_json::Value>(&line) else {
            bail!("the relay did not start: {}", relay.log_text());
        };
        relay.admin = ready["admin"].as_str().context("an admin port in the ready line")?.to_owned();
        let listen = ready["listen"].as_str().context("an address in the ready line")?;
        relay.door = Door::from_link(&relay.command(&["invite", "--host", listen])?)?;
        Ok(relay)
    }

    /// What a command of the program prints about this relay.
    pub(crate) fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        environment(&mut command, self.home.path());
        let output = command.args(arguments).output()?;
        if !output.status.success() {
            bail!("supernode {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| status.to_string()))
    }

    /// Memory that it holds; nothing once it has ended.
    pub(crate) fn rss_bytes(&self) -> u64 {
        rss_bytes(self.child.id())
    }

    /// Lines of its log so far, where somebody could count them.
    pub(crate) fn log_lines(&self) -> Option<usize> {
        (self.log == Log::File).then(|| self.log_text().lines().count())
    }

    /// The end of its log, to show.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        // A stopped process would not hear that it is to end.
        let _ = kill_process(pid, Signal::CONT);
        let _ = kill_process(pid, Signal::KILL);
        let deadline = Instant::now() + END_PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Memory that a process holds; nothing once it has ended.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A command that runs `program` on one core only.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).args(FILES).arg(program);
    command
}

fn environment(command: &mut Command, home: &Path) {
    command.env("XDG_STATE_HOME", home).env_remove("RUST_LOG");
}
