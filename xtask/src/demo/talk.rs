//! Two people in a call for as long as the samples are, somewhere: while something is done to their relay.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    CALL_TIMEOUT, START_TIMEOUT,
    process::{Interrupted, Process},
    report::{AUDIO_PACKETS_PER_SECOND, Side},
};

/// How long the samples are.
const SAMPLES: Duration = Duration::from_secs(12);
/// How long they have talked when something is done to the relay.
const BEFORE: Duration = Duration::from_secs(2);

/// Where they are: how a script is run there, and by which paths the program, the samples and their own files are known.
pub(crate) struct Place<'a> {
    pub(crate) shell: &'a dyn Fn(&str) -> Command,
    pub(crate) program: &'a str,
    pub(crate) samples: &'a str,
    /// Has the file `invite`.
    pub(crate) files: &'a str,
}

/// A call that goes on.
pub(crate) struct Talk {
    people: Vec<Process>,
    /// What they print.
    printed: PathBuf,
    interrupted: Interrupted,
}

impl Talk {
    /// Lets two people with fresh identities call each other by audio; they have talked for a moment when it returns. What
    /// they print goes to the directory `printed`.
    ///
    /// # Errors
    /// If the call does not come about.
    pub(crate) fn begin(place: &Place<'_>, printed: &Path) -> anyhow::Result<Self> {
        let Place { shell, program, samples, files } = place;
        let said = |script: String| -> anyhow::Result<String> {
            let output = shell(script.as_str()).output()?;
            if !output.status.success() {
                bail!("{script}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let a = said(format!("{program} identity --out {files}/a.identity --name A"))?;
        said(format!("{program} identity --out {files}/b.identity --name B"))?;
        said(format!("{program} ticket --identity {files}/b.identity --for {a} > {files}/ticket"))?;
        let mut talk = Self { people: Vec::new(), printed: printed.to_owned(), interrupted: Interrupted::listen()? };
        for (name, letter, verb) in [("B", "b", "listen"), ("A", "a", "call")] {
            let ticket = if verb == "call" { format!("--ticket-file {files}/ticket") } else { String::new() };
            let script = format!(
                "exec {program} {verb} --json --identity {files}/{letter}.identity --invite-file {files}/invite --audio \
                 {samples}/speech-{letter}.opus --record-dir {files}/{letter} {ticket}"
            );
            let (out, log) = (talk.file(name, "json"), talk.file(name, "log"));
            talk.people.push(Process::start_with_files(name, &out, &log, &mut shell(script.as_str()))?);
        }
        let begun = Instant::now();
        while !["A", "B"].iter().all(|name| talk.log(name).contains("in the call")) {
            talk.go_on()?;
            if begun.elapsed() > START_TIMEOUT {
                bail!("no call after {} s:\n{}", START_TIMEOUT.as_secs(), talk.logs());
            }
        }
        talk.interrupted.wait_until(Instant::now() + BEFORE)?;
        talk.go_on()?;
        Ok(talk)
    }

    /// Waits until they have hung up, and says what they heard.
    ///
    /// # Errors
    /// If the call was cut off, or somebody missed a second of it.
    pub(crate) fn finish(mut self) -> anyhow::Result<String> {
        for process in std::mem::take(&mut self.people) {
            process.finish(SAMPLES + CALL_TIMEOUT, &self.interrupted).with_context(|| self.logs())?;
        }
        let side = |name: &str| Side::parse(name, &fs::read_to_string(self.file(name, "json"))?);
        let (a, b) = (side("A")?, side("B")?);
        let mut lines = Vec::new();
        for (way, sent, received) in
            [("A to B", a.audio_sent, b.audio_received), ("B to A", b.audio_sent, a.audio_received)]
        {
            let all = SAMPLES.as_secs() * AUDIO_PACKETS_PER_SECOND;
            if sent + AUDIO_PACKETS_PER_SECOND < all || received + AUDIO_PACKETS_PER_SECOND < sent {
                bail!("{way}: of {all} packets {sent} were sent and {received} came\n{}", self.logs());
            }
            lines.push(format!("{way} {received} of {sent} packets came"));
        }
        Ok(lines.join(", "))
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        self.interrupted.pause()?;
        let logs = self.logs();
        for person in &mut self.people {
            if let Some(status) = person.ended()? {
                bail!("{} ended with {status}\n{logs}", person.name());
            }
        }
        Ok(())
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.printed.join(format!("{name}.{what}"))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.file(name, "log")).unwrap_or_default()
    }

    fn logs(&self) -> String {
        ["A", "B"].map(|name| format!("{name}:\n{}", self.log(name))).join("\n")
    }
}
