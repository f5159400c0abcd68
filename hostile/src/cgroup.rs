//! A machine with little memory: a control group that the kernel holds to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::relay::FILES;

/// Where both versions are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group of our own, which goes with the value.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: PathBuf,
    /// Names of the files of its version: who is in it, the most memory so far.
    procs: &'static str,
    peak: &'static str,
}

impl Cgroup {
    /// One with so much memory and no swap.
    ///
    /// Fails where the system lets nobody make one.
    pub(crate) fn create(memory_bytes: u64) -> anyhow::Result<Self> {
        let name = format!("supernode-hostile-{}", std::process::id());
        let version_1 = Path::new(ROOT).join("memory");
        let (directory, limit, procs, peak) = match version_1.is_dir() {
            true => (version_1.join(name), "memory.limit_in_bytes", "cgroup.procs", "memory.max_usage_in_bytes"),
            false => (Path::new(ROOT).join(name), "memory.max", "cgroup.procs", "memory.peak"),
        };
        if !version_1.is_dir() {
            // What the root does not hand down, its children lack: the limit cannot be set then, and that is the reason.
            let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+memory");
        }
        fs::create_dir(&directory).with_context(|| format!("{}: no control group", directory.display()))?;
        let cgroup = Self { directory, procs, peak };
        let file = cgroup.directory.join(limit);
        fs::write(&file, memory_bytes.to_string())
            .with_context(|| format!("{}: the memory controller cannot be set", file.display()))?;
        // Not everywhere is there swap to forbid.
        let _ = fs::write(cgroup.directory.join("memory.swap.max"), "0");
        let _ = fs::write(cgroup.directory.join("memory.memsw.limit_in_bytes"), memory_bytes.to_string());
        if cgroup.peak_bytes().is_none() {
            bail!("{}: does not say how much memory was used", cgroup.directory.join(peak).display());
        }
        Ok(cgroup)
    }

    /// A command that runs `program` in it, on one core.
    pub(crate) fn command(&self, core: usize, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let enter = r#"echo $$ > "$1" && shift && exec taskset -c "$@""#;
        command
            .args(["-c", enter, "sh"])
            .arg(self.directory.join(self.procs))
            .arg(core.to_string())
            .args(FILES)
            .arg(program);
        command
    }

    /// The most memory that was used in it so far, the kernel's for it included.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.directory.join(self.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whoever was in it may take a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
