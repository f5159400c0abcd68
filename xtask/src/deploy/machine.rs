//! A machine of its own for the service: a small Debian made by mmdebstrap, booted with its own systemd by systemd-nspawn,
//! in namespaces where nothing but loopback can be reached.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::tools;
use crate::workspace::{self, Run};

/// The release of Debian in it: the first with a systemd that knows `Type=notify-reload`.
const SUITE: &str = "trixie";
/// Packages beside apt and what every Debian has: systemd; what the package's scripts and the tests of it call; and strip(1),
/// for the image that builds containers.
const PACKAGES: &str = "systemd-sysv,procps,binutils";
/// How long it may take to boot, and to be put away.
const BOOT: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// What keeps machines from being made here. Everything else that goes wrong is a fault.
///
/// # Errors
/// If tools are missing and cannot be installed.
pub(super) fn missing_right() -> anyhow::Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Some("this is not root".to_owned()));
    }
    tools::ensure("mmdebstrap", "mmdebstrap")?;
    tools::ensure("systemd-nspawn", "systemd-container")?;
    // What nspawn does, bit by bit, so that a fault of ours is none of these.
    let try_out = "mount -t tmpfs none /mnt && mkdir /mnt/cgroup /mnt/proc && mount -t cgroup2 none /mnt/cgroup && mount -t \
                   proc none /mnt/proc && mknod /mnt/null c 1 3 && : > /mnt/null";
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--uts", "--ipc", "--pid", "--net", "--cgroup", "--fork", "sh", "-ec", try_out]);
    let output = probe.output().context("unshare")?;
    if output.status.success() {
        return Ok(None);
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Ok(Some(format!("namespaces, mounts or devices are not allowed: {words}")))
}

/// A directory that is in memory where there is room for it, and gone in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn new() -> anyhow::Result<Self> {
        /// Machine and images take half of that.
        const ROOM_KIB: u64 = 2 << 20;
        let shm = Path::new("/dev/shm");
        let free = Run::new(&["df", "--output=avail", "/dev/shm"]).output().unwrap_or_default();
        let has_room =
            free.lines().last().and_then(|kib| kib.trim().parse().ok()).is_some_and(|kib: u64| kib > ROOM_KIB);
        let parent = if has_room { shm.to_owned() } else { workspace::target_directory()? };
        let path = parent.join(format!("supernode-service-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it costs memory until the next start of this machine, and nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a Debian at `root`.
///
/// # Errors
/// If mmdebstrap fails, twice.
pub(super) fn debian(root: &Path) -> anyhow::Result<()> {
    tools::again_after_a_pause(|| {
        let _ = fs::remove_dir_all(root); // of the first attempt
        let log = root.with_extension("log");
        let mut command = Command::new("timeout");
        command.args(["300", "mmdebstrap", "--quiet", "--mode=root", "--variant=apt"]);
        command.arg(format!("--include={PACKAGES}"));
        // Nothing of it outlives the step.
        command.args([
            "--dpkgopt=force-unsafe-io",
            "--aptopt=Acquire::Languages \"none\"",
            "--aptopt=Acquire::Retries \"3\"",
        ]);
        let status =
            command.arg(SUITE).arg(root).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let status = status.stdin(Stdio::null()).status().context("mmdebstrap")?;
        if status.success() {
            return Ok(());
        }
        bail!("mmdebstrap: {status}\n{}", fs::read_to_string(&log).unwrap_or_default())
    })
}

/// The namespaces of a process, for scripts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside(u32);

impl Inside {
    /// A shell in it, of root's, with this script.
    pub(super) fn shell(self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.to_string(), "--all", "--root", "--wd", "--"]);
        let paths = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.args(["env", "-i", paths, "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        command.args(["sh", "-ec", script]).stdin(Stdio::null());
        command
    }

    fn name(self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default()
    }

    fn output(self, script: &str) -> anyhow::Result<Output> {
        self.shell(script).output().context("nsenter")
    }

    /// What a script prints.
    ///
    /// # Errors
    /// If it fails: with all that it has said.
    pub(super) fn run(self, script: &str) -> anyhow::Result<String> {
        let output = self.output(script)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!("{script}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }

    /// Waits until a script prints what is wanted, and gives it.
    ///
    /// # Errors
    /// If that takes longer than `patience`: with what it prints then.
    pub(super) fn until(
        self,
        script: &str,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let said = self.run(script);
            match said {
                Ok(said) if wanted(&said) => return Ok(said),
                said if begun.elapsed() > patience => {
                    bail!(
                        "{script}: not in {} s as it should be: {}",
                        patience.as_secs(),
                        said.unwrap_or_else(|error| format!("{error:#}"))
                    )
                }
                _ => thread::sleep(POLL),
            }
        }
    }
}

/// One that runs.
pub(super) struct Machine {
    first: First,
    console: PathBuf,
}

/// What made the namespaces, and the first process in them, with which all others end.
struct First {
    outside: Child,
    inside: Option<Inside>,
}

impl Machine {
    /// Boots the system at `root`; directories of this machine can be read there at the paths beside them.
    ///
    /// # Errors
    /// If it does not come up.
    pub(super) fn boot(root: &Path, bound: &[(&Path, &str)]) -> anyhow::Result<Self> {
        let console = root.with_extension("console");
        let log = File::create(&console)?;
        // It ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "systemd-nspawn"]);
        command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--private-network", "--link-journal=no"]);
        // Each as it is, and nothing of this machine's names.
        command.args(["--resolv-conf=off", "--timezone=off", "--hostname=relay", "--console=pipe"]);
        command.arg(format!("--machine=supernode-{}", std::process::id())).arg("--directory").arg(root);
        for (from, to) in bound {
            command.arg(format!("--bind-ro={}:{to}", from.display()));
        }
        // Also where this machine itself still has control groups of the first kind: its systemd knows the second only.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.stdout(log.try_clone()?).stderr(log);
        let mut machine = Self { first: First::of(&mut command)?, console };
        let begun = Instant::now();
        loop {
            if let Some(status) = machine.first.outside.try_wait()? {
                bail!("systemd-nspawn ended with {status}\n{}", machine.said());
            }
            // It is up with units that failed, too: those that a container cannot have.
            let asked = machine.first.look().map(|inside| inside.output("systemctl is-system-running"));
            if let Some(Ok(output)) = asked
                && ["running\n", "degraded\n"].iter().any(|state| output.stdout == state.as_bytes())
            {
                return Ok(machine);
            }
            if begun.elapsed() > BOOT {
                bail!("it has not booted after {} s\n{}", BOOT.as_secs(), machine.said());
            }
            thread::sleep(POLL);
        }
    }

    /// For scripts.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn inside(&self) -> anyhow::Result<Inside> {
        self.first.inside.context("there is no first process")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }
}

/// Namespaces with nothing but loopback in them, and everything else as it is here.
pub(super) struct Room(First);

impl Room {
    /// Makes them.
    ///
    /// # Errors
    /// If they are refused.
    pub(super) fn new() -> anyhow::Result<Self> {
        tools::ensure("ip", "iproute2")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--cgroup"]);
        command.args(["--mount-proc", "--fork", "--kill-child", "sh", "-ec"]);
        // Control groups of the second kind only: what starts containers takes no mixture.
        let cgroups = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup";
        command.arg(format!("{cgroups}; ip link set lo up; exec sleep infinity"));
        let mut first = First::of(&mut command)?;
        let begun = Instant::now();
        // Its name is the last thing that changes.
        while first.look().is_none_or(|inside| inside.name() != "sleep\n") {
            if first.outside.try_wait()?.is_some() || begun.elapsed() > BOOT {
                bail!("unshare made no namespaces");
            }
            thread::sleep(POLL);
        }
        Ok(Self(first))
    }

    /// For scripts.
    ///
    /// # Errors
    /// If they have ended.
    pub(super) fn inside(&self) -> anyhow::Result<Inside> {
        self.0.inside.context("there is no first process")
    }
}

impl First {
    fn of(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self { outside: command.stdin(Stdio::null()).spawn().context("setpriv")?, inside: None })
    }

    /// The first process, once it is there. What makes the namespaces has another child for a moment before.
    fn look(&mut self) -> Option<Inside> {
        self.inside = first_child(self.outside.id()).map(Inside).or(self.inside);
        self.inside
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // Who made the namespaces puts away then what it has made.
        if let Some(first) = self.inside.and_then(|inside| i32::try_from(inside.0).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(first, Signal::KILL); // it may have ended
        }
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(self.outside.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        let _ = self.outside.kill();
        let _ = self.outside.wait();
    }
}

/// The first child of a process.
fn first_child(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
