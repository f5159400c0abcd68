//! The processes of the demo: none of them outlives it, however it ends.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(20);

/// Becomes true when somebody wants the demo to end: interrupt, terminate or hang up.
#[derive(Clone)]
pub(crate) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the signals cannot be caught.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot catch signals")?;
        }
        Ok(Self(flag))
    }

    /// Sleeps a moment.
    ///
    /// # Errors
    /// If somebody wants the demo to end.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        thread::sleep(POLL);
        if self.0.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
    }

    /// Sleeps until `moment`, or not at all if it has passed.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub(crate) fn wait_until(&self, moment: Instant) -> anyhow::Result<()> {
        while Instant::now() < moment {
            self.pause()?;
        }
        Ok(())
    }
}

/// A running process that is killed and reaped when this is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    readers: Vec<JoinHandle<String>>,
    is_released: bool,
    /// What it may take to end by itself before it is killed.
    grace: Duration,
}

impl Process {
    /// Starts it away from the terminal's process group, so that an interrupt reaches the demo alone and the demo ends
    /// it in order. What it prints goes to our own output line by line behind `prefix`.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) fn start(
        name: impl Into<String>,
        prefix: impl Into<String>,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        Self::start_listening(name, prefix, command, "").map(|(process, _)| process)
    }

    /// As above, and notes when it first writes a line with these words to standard error.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn start_listening(
        name: impl Into<String>,
        prefix: impl Into<String>,
        command: &mut Command,
        words: &'static str,
    ) -> anyhow::Result<(Self, Arc<OnceLock<SystemTime>>)> {
        let (name, prefix) = (name.into(), prefix.into());
        let heard = Arc::new(OnceLock::new());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut process = Self { name, child, readers: Vec::new(), is_released: false, grace: Duration::ZERO };
        if let Some(stdout) = process.child.stdout.take() {
            process.readers.push(thread::spawn(move || gather_lines(stdout)));
        }
        if let Some(stderr) = process.child.stderr.take() {
            let heard = heard.clone();
            process.readers.push(thread::spawn(move || pass_lines_on(stderr, &prefix, words, &heard)));
        }
        Ok((process, heard))
    }

    /// Lets it have so long to end by itself when it is no longer wanted: for one that has processes of its own.
    pub(crate) fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts it with its output in files, so that it can outlive us if that is wished.
    ///
    /// # Errors
    /// If it cannot start or the files cannot be made.
    pub(crate) fn start_with_files(
        name: impl Into<String>,
        stdout: &Path,
        stderr: &Path,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        command.stdin(Stdio::null()).stdout(File::create(stdout)?).stderr(File::create(stderr)?).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, readers: Vec::new(), is_released: false, grace: Duration::ZERO })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end by itself with success, and gives what it wrote to standard output.
    ///
    /// # Errors
    /// If it fails, takes longer than `timeout`, or we are interrupted.
    pub(crate) fn finish(mut self, timeout: Duration, interrupted: &Interrupted) -> anyhow::Result<String> {
        let started = Instant::now();
        let status = loop {
            match self.ended()? {
                Some(status) => break status,
                None if started.elapsed() > timeout => bail!("{} still runs after {} s", self.name, timeout.as_secs()),
                None => interrupted.pause()?,
            }
        };
        let mut outputs = self.readers.drain(..).map(|reader| reader.join().unwrap_or_default());
        let stdout = outputs.next().unwrap_or_default();
        outputs.for_each(drop);
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(stdout)
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn terminate(self, timeout: Duration, interrupted: &Interrupted) -> anyhow::Result<String> {
        self.ask_to_end()?;
        self.finish(timeout, interrupted)
    }

    fn ask_to_end(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(id, Signal::TERM).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Lets it live on after us.
    pub(crate) fn release(mut self) {
        self.is_released = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_released && !matches!(self.child.try_wait(), Ok(Some(_))) {
            let asked = Instant::now();
            if !self.grace.is_zero() && self.ask_to_end().is_ok() {
                while asked.elapsed() < self.grace && !matches!(self.child.try_wait(), Ok(Some(_))) {
                    thread::sleep(POLL);
                }
            }
            // It may end between the two calls; then there is nothing left to kill, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn gather_lines(output: impl Read) -> String {
    BufReader::new(output).lines().map_while(Result::ok).map(|line| format!("{line}\n")).collect()
}

/// Passes lines on behind a prefix, and notes when one first has these words.
fn pass_lines_on(output: impl Read, prefix: &str, words: &str, heard: &OnceLock<SystemTime>) -> String {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line.contains(words) {
            heard.get_or_init(SystemTime::now);
        }
        println!("{prefix}{line}");
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start("shell", "test | ", Command::new("sh").args(["-c", script])).expect("there is a shell")
    }

    fn not_interrupted() -> Interrupted {
        Interrupted(Arc::default())
    }

    fn runs(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn a_process_gives_its_output_when_it_succeeds_and_its_status_when_it_fails() {
        assert_eq!(shell("echo one; echo two").finish(LONG, &not_interrupted()).expect("succeeds"), "one\ntwo\n");
        let error = shell("exit 3").finish(LONG, &not_interrupted()).expect_err("fails");
        assert_eq!(error.to_string(), "shell ended with exit status: 3");
    }

    #[test]
    fn a_process_is_asked_to_end_before_it_is_killed() {
        let process = shell("trap 'echo asked; exit 0' TERM; echo > /dev/null; while :; do sleep 0.05; done");
        thread::sleep(Duration::from_millis(300));
        assert_eq!(process.terminate(LONG, &not_interrupted()).expect("it ends in order"), "asked\n");
    }

    #[test]
    fn what_it_says_is_heard_when_it_says_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo wait >&2; sleep 0.3; echo I am playing >&2; sleep 0.3; echo playing again >&2"]);
        let started = SystemTime::now();
        let (process, heard) = Process::start_listening("shell", "test | ", &mut command, "playing").expect("a shell");
        process.finish(LONG, &not_interrupted()).expect("succeeds");
        let after = heard.get().expect("it said so").duration_since(started).expect("later").as_secs_f64();
        assert!(after >= 0.3 && SystemTime::now().duration_since(started).expect("later").as_secs_f64() - after >= 0.3);
    }

    #[test]
    fn one_with_processes_of_its_own_has_time_to_end_them() {
        let file = std::env::temp_dir().join(format!("supernode-grace-{}", std::process::id()));
        let script = format!("trap 'echo ended > {}; exit 0' TERM; while :; do sleep 0.05; done", file.display());
        let process = shell(&script).with_grace(LONG);
        thread::sleep(Duration::from_millis(300));
        drop(process);
        assert_eq!(std::fs::read_to_string(&file).expect("it was asked"), "ended\n");
        std::fs::remove_file(&file).expect("ours");
    }

    #[test]
    fn nothing_outlives_the_demo_however_it_ends() {
        let dropped = shell("exec sleep 60");
        let id = dropped.id();
        assert!(runs(id));
        drop(dropped);
        assert!(!runs(id), "dropped");

        let too_slow = shell("exec sleep 60");
        let id = too_slow.id();
        too_slow.finish(Duration::ZERO, &not_interrupted()).expect_err("too slow");
        assert!(!runs(id), "timed out");

        let interrupted = shell("exec sleep 60");
        let id = interrupted.id();
        interrupted.finish(LONG, &Interrupted(Arc::new(AtomicBool::new(true)))).expect_err("interrupted");
        assert!(!runs(id), "interrupted");
    }
}
