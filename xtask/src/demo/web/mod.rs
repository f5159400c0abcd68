//! `cargo xtask demo --web`: somebody in a browser by the page, and somebody with a program.
//!
//! The page comes from the relay itself. Its microphone hums and its camera shows something, both as Chromium makes them; the
//! program plays speech and a film. What each of them got of the other is judged by what it is: pitch, words, colours.

mod pictures;
mod report;
mod sound;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use serde::{Deserialize, de::DeserializeOwned};
use supernode_proto::identity::IdentityKey;

use super::{
    CALL_TIMEOUT, Directory, Evidence, Outcome, Ready, START_TIMEOUT, SUBSCRIPTIONS, Stage,
    canaries::{self, Word},
    during,
    memory::Memory,
    process::Process,
    report::Side,
    settled,
    shown::Shown,
};
use crate::workspace;
use pictures::{Fields, Seen};
use report::WebReport;
use sound::{Speech, Timed};

/// What the browser's microphone hums: web/tests/page_demo.ts.
const HUM_HZ: f64 = 440.0;
/// Opening a browser and the page on a busy machine, beside the call.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(60);
/// What the browser may take to close when it is told to: killed, node would leave it behind.
const BROWSER_GRACE: Duration = Duration::from_secs(5);
/// What the program says when it begins to play.
const PLAYING: &str = "all of them listen: playing";

/// The shortest call in which there are words to be found.
pub(super) const SECONDS_MIN: u64 = 3;

/// What a relay is told that takes pages in and has one.
pub(super) fn settings() -> anyhow::Result<String> {
    let page = workspace::root().join("web/dist/supernode.html");
    let page = page.to_str().context("the path of the page is no text")?;
    Ok(format!(
        "[web]\npages = \"on\"\nlisten = \"127.0.0.1:0\"\npage = \"127.0.0.1:0\"\npage_file = {}\n",
        // JSON's strings are TOML's as well.
        serde_json::Value::from(page)
    ))
}

/// What was seen from the browser during the call.
#[derive(Deserialize)]
struct InPage {
    /// When the first sample of what was heard was in the loudspeaker.
    heard_from_unix_ms: Option<f64>,
    safety_number: String,
    complaints: Vec<String>,
    theirs: Vec<Fields>,
    ours: Vec<Fields>,
}

/// What is in files.
#[derive(Deserialize)]
struct InFiles {
    /// Samples that the decoder of the speech gives before the first that is here.
    pre_skip: u32,
    picture: Vec<Fields>,
    video: Vec<Fields>,
}

/// Runs the call. The report lacks its blindness until the evidence is judged.
pub(super) fn hold(stage: &Stage<'_>) -> anyhow::Result<(Box<dyn Outcome>, Evidence)> {
    let Stage { directory, options, relay, ready, interrupted, .. } = *stage;
    let native = Native::new(stage, "A")?;
    let recordings = directory.path("recorded-by-a");
    let mut command = native.command(stage)?;
    command.args(["--seconds", &options.seconds.to_string(), "--record-dir"]).arg(&recordings);
    let (mut program, playing) = Process::start_listening("A", "A     | ", &mut command, PLAYING)?;
    let address = directory.path("address");
    fs::write(&address, native.address(stage, &mut program)?)?;

    // What somebody calls themselves is for the room only.
    let name = format!("Visitor {}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    let seconds = options.seconds.to_string();
    let mut call = browser();
    call.arg("call").arg(&address).args([&name, &seconds]).arg(directory.path(""));
    let page = Process::start("the page", "page  | ", &mut call)?.with_grace(BROWSER_GRACE);
    let mut people = [program, page];
    let during = during::watch(relay, ready.admin, options.seconds, &mut people, SUBSCRIPTIONS, interrupted)?;
    let [program, page] = people;
    page.finish(BROWSER_TIMEOUT + Duration::from_secs(options.seconds), interrupted)?;
    let native_said = program.finish(CALL_TIMEOUT, interrupted)?;
    let side = Side::parse("A", &native_said)?;

    let after = settled(ready.admin, interrupted)?;
    println!("\nWhat the relay saw");
    after.seen().iter().for_each(|(name, value)| println!("  {name} {value}"));

    let (audio, video) = (one_of(&recordings, "-audio.opus")?, one_of(&recordings, "-video.ivf")?);
    let mut read = browser();
    read.arg("read").args([&native.audio, &native.video, &audio, &video]).arg(directory.path(""));
    Process::start("the reader of files", "read  | ", &mut read)?
        .with_grace(BROWSER_GRACE)
        .finish(BROWSER_TIMEOUT, interrupted)?;
    let (in_page, in_files): (InPage, InFiles) = (json(directory, "call.json")?, json(directory, "read.json")?);
    let (speech, heard) = (samples(directory, "speech.pcm")?, samples(directory, "heard.pcm")?);
    let playing = playing.get().context("A did not say when it began to play")?;
    let said_from_ms = unix_ms(*playing)? + f64::from(in_files.pre_skip) * 1000.0 / sound::RATE as f64;
    let speech = Speech::follow(
        Timed { samples: &speech, from_ms: said_from_ms },
        Timed { samples: &heard, from_ms: in_page.heard_from_unix_ms.context("the page's loudspeaker has no clock")? },
        options.seconds,
    );

    let page_key = audio.file_name().and_then(|name| name.to_str()?.strip_suffix("-audio.opus")?.rsplit_once('-'));
    let page_key = IdentityKey::from_text(page_key.context("a recording without a name")?.0)?;
    let mut words = canaries::of_safety_number(&side.safety_number);
    words.extend(canaries::of_identity("A", &native.identity)?);
    words.push(Word::new("the page's name", &name));
    for (audio, video) in [(&native.audio, &native.video), (&audio, &video)] {
        words.extend(canaries::of_audio(audio, options.seconds)?);
        words.extend(canaries::of_video(video, options.seconds)?);
    }
    let report = WebReport {
        native: side,
        page_number: in_page.safety_number,
        speech,
        is_hum_recorded: sound::is_hum(&samples(directory, "sound.pcm")?, HUM_HZ, options.seconds as f64 / 2.0),
        in_page: Seen::compare(&in_files.picture, &in_page.theirs),
        natively: Seen::compare(&in_page.ours, &in_files.video),
        complaints: in_page.complaints,
        shown: Shown::new(&after, during.load)?,
    };
    let evidence = Evidence {
        canaries: canaries::without_repeats(words),
        people: vec![("A".to_owned(), native.key), ("the page".to_owned(), page_key)],
        during,
        memory_after: Memory::of_process(relay.id())?,
        metrics_after: after.text().to_owned(),
    };
    Ok((Box::new(report), evidence))
}

/// Leaves somebody in a room to whom a person can go with a browser, until we are told to end.
pub(super) fn keep(stage: &Stage<'_>) -> anyhow::Result<()> {
    let native = Native::new(stage, "B")?;
    // What it says each second would hide the link.
    let (out, log) = (stage.directory.path("B.json"), stage.directory.path("B.log"));
    let mut host = Process::start_with_files("B", &out, &log, &mut native.command(stage)?)?;
    let address = native.address(stage, &mut host)?;
    println!(
        "\nThe relay stays up, and B is in a room. Open this in a browser on this machine, and in a second one to talk:"
    );
    println!("\n  {address}\n\nWhoever comes first hears and sees what B plays. Ctrl-C ends all of it.");
    // An interrupt is how this is to end.
    while stage.interrupted.pause().is_ok() {
        if let Some(status) = host.ended()? {
            bail!("B ended with {status}\n{}", fs::read_to_string(&log).unwrap_or_default());
        }
    }
    println!("\nNothing is left running.");
    Ok(())
}

/// Somebody with the program, who opens a room.
struct Native {
    identity: String,
    key: IdentityKey,
    audio: PathBuf,
    video: PathBuf,
    link: PathBuf,
}

impl Native {
    fn new(stage: &Stage<'_>, name: &str) -> anyhow::Result<Self> {
        let identity = stage.directory.text(&format!("{name}.identity"));
        let key = stage.quick(&["identity", "--out", &identity, "--name", name])?;
        let samples = workspace::root().join("client/samples");
        Ok(Self {
            key: IdentityKey::from_text(key.trim())?,
            identity,
            audio: samples.join("speech-a.opus"),
            video: samples.join("picture-a.ivf"),
            link: stage.directory.path(&format!("{name}.link")),
        })
    }

    fn command(&self, stage: &Stage<'_>) -> anyhow::Result<Command> {
        let invite = stage.directory.path("invite");
        fs::write(&invite, &stage.ready.invite)?;
        let mut command = Command::new(stage.program());
        command.args(["room", "create", "--json", "--wait-for", "2", "--identity", &self.identity]);
        command.arg("--invite-file").arg(invite).arg("--link-file").arg(&self.link);
        command.arg("--audio").arg(&self.audio).arg("--video").arg(&self.video);
        Ok(command)
    }

    /// Where a browser finds the room, once it is open.
    fn address(&self, stage: &Stage<'_>, program: &mut Process) -> anyhow::Result<String> {
        let Ready { page, .. } = stage.ready;
        let page = page.as_ref().context("the relay has no page")?;
        let opening = Instant::now();
        loop {
            let link = fs::read_to_string(&self.link).unwrap_or_default();
            if !link.is_empty() {
                return Ok(format!("{}#{}", page.url, link.trim()));
            }
            if let Some(status) = program.ended()? {
                bail!("{} ended with {status} before the room was open", program.name());
            }
            if opening.elapsed() > START_TIMEOUT {
                bail!("the room was not open after {} s", START_TIMEOUT.as_secs());
            }
            stage.interrupted.pause()?;
        }
    }
}

/// The script that drives the browser.
fn browser() -> Command {
    let mut command = Command::new("node");
    command.arg(workspace::root().join("web/build/demo.mjs"));
    command
}

/// The only recording of its kind.
fn one_of(recordings: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(recordings).with_context(|| recordings.display().to_string())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => bail!("A recorded {} files {ending} of the page, and not one", found.len()),
    }
}

fn json<T: DeserializeOwned>(directory: &Directory, name: &str) -> anyhow::Result<T> {
    let text = fs::read_to_string(directory.path(name)).with_context(|| name.to_owned())?;
    serde_json::from_str(&text).with_context(|| name.to_owned())
}

fn samples(directory: &Directory, name: &str) -> anyhow::Result<Vec<i16>> {
    let bytes = fs::read(directory.path(name)).with_context(|| name.to_owned())?;
    Ok(bytes.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect())
}

fn unix_ms(time: SystemTime) -> anyhow::Result<f64> {
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0)
}
