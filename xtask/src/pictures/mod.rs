//! `cargo xtask pictures`: the built-in page as operators meet it, taken from a real relay under a real load.

mod browser;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    demo::{self, Directory, Interrupted, Process},
    deploy::tools::ensure,
    workspace::{self, Profile, Run},
};
use browser::{Browser, Screen};

/// How long the relay has nobody, and then a load: the lines of the page are to show something.
const IDLE: Duration = Duration::from_secs(60);
const LOADED: Duration = Duration::from_secs(100);
/// How long the page has to notice.
const NOTICED: Duration = Duration::from_secs(20);
/// Calls with video, for longer than all of this takes.
const LOAD: [&str; 8] =
    ["--set", "pairs=20", "--set", "video.kbit_per_s=400", "--set", "ramp_s=20", "--set", "hold_s=600"];

const DESK: Screen = Screen { width: 1280, last: "footer", scale: 1.0, dark: false, phone: false };
/// What differs from state to state is at the top.
const TOP: Screen = Screen { last: "#media-charts article", ..DESK };
const DARK: Screen = Screen { dark: true, ..DESK };
const PHONE: Screen =
    Screen { width: 390, last: "#media-charts article:nth-child(3)", scale: 1.5, dark: false, phone: true };

/// Builds, runs, takes the pictures, and writes them to `directory`; to `docs/images` if none is named.
///
/// # Errors
/// If something is missing or does not start, or the page does not show what a picture is to show.
pub fn run(directory: Option<&Path>) -> anyhow::Result<()> {
    ensure("chromium", "chromium")?;
    ensure("pngquant", "pngquant")?;
    let to = directory.map_or_else(|| workspace::root().join("docs/images"), Path::to_owned);
    fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    workspace::as_for_tests().status()?;
    let programs = Profile::Debug.directory()?;
    take(&programs, &to)
}

fn take(programs: &Path, to: &Path) -> anyhow::Result<()> {
    let interrupted = Interrupted::listen()?;
    let directory = Directory::new()?;
    let options = demo::Options { shards: Some(2), ..demo::Options::default() };
    let (relay, ready) = demo::start_relay(programs, &directory, &options, &interrupted)?;
    let mut album = Album { browser: Browser::start(&directory.path("chromium"))?, interrupted, to: to.to_owned() };
    album.browser.open(&format!("http://{}/", ready.admin))?;

    album.wait(IDLE)?;
    album.take("idle", "ready", TOP)?;

    fs::write(directory.path("invite"), &ready.invite)?;
    let mut load = Command::new(programs.join("supernode-load"));
    load.args(["run", "calls", "--quiet", "--invite-file", &directory.text("invite")]).args(LOAD);
    let load = Process::start_with_files("load", &directory.path("load.txt"), &directory.path("load.log"), &mut load)?;
    album.wait(LOADED)?;
    album.take("light", "ready", DESK)?;
    album.take("dark", "ready", DARK)?;
    album.take("phone", "ready", PHONE)?;

    // Clients of the load stay as long as they may, as a call in the middle of a sentence does.
    let state = directory.text("relay");
    let mut drain = Command::new(programs.join("supernode"));
    let drain = Process::start("drain", "drain | ", drain.args(["drain", "--state-dir", &state]))?;
    album.take("draining", "draining", TOP)?;
    drop((load, drain));
    drop(relay);
    album.take("dead", "no answer", TOP)
}

struct Album {
    browser: Browser,
    interrupted: Interrupted,
    to: PathBuf,
}

impl Album {
    fn wait(&self, time: Duration) -> anyhow::Result<()> {
        self.interrupted.wait_until(Instant::now() + time)
    }

    /// A picture of the page once its state is `state`.
    fn take(&mut self, name: &str, state: &str, screen: Screen) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let shown = self.browser.ask("document.getElementById('state')?.textContent ?? ''")?;
            if shown == state {
                break;
            }
            if begun.elapsed() > NOTICED {
                bail!("the page says {shown:?}, and {state:?} was to be taken");
            }
            self.wait(Duration::from_millis(200))?;
        }
        // So that what is said of the last seconds has come as well.
        self.wait(Duration::from_secs(3))?;
        let png = self.browser.picture(screen)?;
        let path = self.to.join(format!("dashboard-{name}.png"));
        fs::write(&path, &png).with_context(|| path.display().to_string())?;
        let shown = path.to_string_lossy();
        // A page has few colours: a palette takes a third of the bytes.
        Run::new(&[
            "pngquant",
            "--force",
            "--strip",
            "--speed",
            "1",
            "--quality",
            "70-100",
            "--output",
            &shown,
            &shown,
        ])
        .status()?;
        println!("{shown}: {} KiB", fs::metadata(&path)?.len() / 1024);
        Ok(())
    }
}
