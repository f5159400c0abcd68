//! Steps that run beside each other. What a step prints is kept, and shown whole when it ends; the first failure ends whatever
//! runs beside it. A process that we start here leads a group of its own, so that all that it starts ends with it.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

const POLL: Duration = Duration::from_millis(50);
/// How long a group has to end in order.
const GRACE: Duration = Duration::from_secs(5);

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with success.
    Well,
    /// By itself, without.
    Failed,
    /// It took too long.
    TooLong,
    /// Something else failed, or somebody interrupted us.
    Stopped,
}

/// A step: its name and the command that does it.
pub struct Step {
    /// Its name.
    pub name: String,
    /// What does it.
    pub command: Command,
}

/// How a step ended, and what it printed.
pub struct Done<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub took: Duration,
    /// What it printed.
    pub printed: String,
}

/// Runs each lane's steps one after the other, the lanes beside each other, and tells of each step when it has ended; a step
/// that another's failure stopped is not told of. Whether all ended well. Outputs are kept in `directory` meanwhile.
///
/// # Errors
/// If a process cannot be started, or an output not be kept.
pub fn run(lanes: Vec<Vec<Step>>, directory: &Path, tell: impl Fn(&Done<'_>) + Sync) -> anyhow::Result<bool> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let stop = interrupted()?;
    let one_speaks = Mutex::new(());
    let lane = |steps: Vec<Step>| -> anyhow::Result<()> {
        for Step { name, mut command } in steps {
            let (log, begun) = (directory.join(format!("{name}.log")), Instant::now());
            let file = File::create(&log).with_context(|| log.display().to_string())?;
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
            let group = Group::start(&mut command).with_context(|| format!("cannot start {name}"))?;
            let ended = group.wait(None, &stop)?;
            if ended == Ended::Stopped {
                return Ok(());
            }
            let failed = ended != Ended::Well;
            let printed = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let _turn = one_speaks.lock().unwrap_or_else(PoisonError::into_inner);
            tell(&Done { name: &name, ended, took: begun.elapsed(), printed });
            if failed {
                stop.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = lanes.into_iter().map(|steps| scope.spawn(|| lane(steps))).collect();
        let ended = lanes.into_iter().map(|lane| {
            let result = lane.join().expect("a lane returns its errors");
            result.inspect_err(|_| stop.store(true, Ordering::Relaxed))
        });
        ended.fold(Ok(()), Result::and)
    })?;
    Ok(!stop.load(Ordering::Relaxed))
}

/// Becomes true when somebody interrupts us: the groups that we start do not hear it from the terminal.
///
/// # Errors
/// If signals cannot be caught.
pub fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot catch signals")?;
    }
    Ok(flag)
}

/// A process and all that it starts. Ends when this is dropped.
pub struct Group {
    child: Child,
    has_ended: bool,
}

impl Group {
    /// Starts `command` as the leader of a new group.
    ///
    /// # Errors
    /// If it cannot start.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self { child: command.process_group(0).spawn()?, has_ended: false })
    }

    /// Waits until it has ended, or for `longest`, or until `stop` is set; it has ended then in any case.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn wait(mut self, longest: Option<Duration>, stop: &AtomicBool) -> anyhow::Result<Ended> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.has_ended = true;
                return Ok(if status.success() { Ended::Well } else { Ended::Failed });
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Ended::Stopped);
            }
            if longest.is_some_and(|longest| begun.elapsed() > longest) {
                return Ok(Ended::TooLong);
            }
            thread::sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // They may have ended meanwhile, which is what is wanted.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, script: &str) -> Step {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Step { name: name.into(), command }
    }

    fn told(lanes: Vec<Vec<Step>>) -> Vec<(String, Ended, String)> {
        let directory = std::env::temp_dir().join(format!("supernode-lanes-{:?}", thread::current().id()));
        let told = Mutex::new(Vec::new());
        let all_well = run(lanes, &directory, |done| {
            let it = (done.name.to_owned(), done.ended, done.printed.clone());
            told.lock().expect("nobody panics").push(it);
        })
        .expect("there is a shell");
        fs::remove_dir_all(directory).expect("it is ours");
        let told = told.into_inner().expect("nobody panics");
        assert_eq!(all_well, told.iter().all(|(_, ended, _)| *ended == Ended::Well));
        told
    }

    #[test]
    fn lanes_run_beside_each_other_and_each_output_is_whole() {
        // Neither ends before the other has begun.
        let pipe = std::env::temp_dir().join(format!("supernode-lanes-pipe-{}", std::process::id()));
        let at = pipe.display();
        let lanes = vec![
            vec![step("reads", &format!("until [ -p {at} ]; do sleep 0.02; done; echo one; cat {at}"))],
            vec![step("writes", &format!("mkfifo {at}; echo two > {at}; rm {at}")), step("then", "echo 3; echo 4 >&2")],
        ];
        let mut told = told(lanes);
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("reads", "one\ntwo\n"), ("then", "3\n4\n"), ("writes", "")];
        let expected = expected.map(|(name, printed)| (name.to_owned(), Ended::Well, printed.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn the_first_failure_ends_what_runs_beside_it_with_all_that_it_started() {
        let begun = Instant::now();
        let pid = std::env::temp_dir().join(format!("supernode-lanes-pid-{}", std::process::id()));
        let at = pid.display();
        let lanes = vec![
            vec![step("slow", &format!("sleep 60 & echo $! > {at}; wait")), step("never", "echo never")],
            vec![step("fails", &format!("until [ -s {at} ]; do sleep 0.02; done; echo no; exit 3"))],
        ];
        assert_eq!(told(lanes), [("fails".to_owned(), Ended::Failed, "no\n".to_owned())]);
        assert!(begun.elapsed() < Duration::from_secs(30));
        let id = fs::read_to_string(&pid).expect("it was written");
        fs::remove_file(pid).expect("it is ours");
        let status = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        assert!(status.is_empty() || status.contains(") Z"), "it runs on: {status}");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let mut command = Command::new("sleep");
        let group = Group::start(command.arg("60")).expect("there is sleep");
        let ended = group.wait(Some(Duration::from_millis(100)), &AtomicBool::new(false)).expect("it is waited for");
        assert_eq!(ended, Ended::TooLong);
    }
}
