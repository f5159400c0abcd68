//! Debian's browsers, without a window, with one page each.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::relay::Running;

/// A browser that has never been started takes seconds for that alone.
const PATIENCE: Duration = Duration::from_secs(60);
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages");

/// How a browser is started.
pub(crate) struct Browser {
    program: &'static str,
    options: &'static [&'static str],
    profile: &'static str,
}

impl Browser {
    pub(crate) fn chromium() -> Self {
        // Without a sandbox of its own it runs as root, as tests do.
        let options =
            &["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
        Self { program: "chromium", options, profile: "--user-data-dir=" }
    }

    pub(crate) fn firefox() -> Self {
        Self { program: "firefox-esr", options: &["--headless", "--no-remote", "--profile"], profile: "" }
    }

    /// Opens the page, which is told this.
    pub(crate) fn open(self, told: &str) -> Page {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let home = tempfile::tempdir().unwrap();
        let fragment: String = told.chars().map(|letter| if letter == '#' { '_' } else { letter }).collect();
        let address = format!("http://{}/#{fragment}", server.local_addr().unwrap());
        let directory = home.path().join("profile");
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(self.program);
        if self.profile.is_empty() {
            command.args(self.options).arg(&directory);
        } else {
            command.args(self.options).arg(format!("{}{}", self.profile, directory.display()));
        }
        command.arg(address).env("HOME", home.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}; is it installed?", self.program));
        let (tell, results) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                if let Some(result) = answer(stream) {
                    let _ = tell.send(result); // nobody may wait any more
                }
            }
        });
        Page { results, told: VecDeque::new(), _process: Running(process), _home: home }
    }
}

/// A page that is open.
pub(crate) struct Page {
    results: mpsc::UnboundedReceiver<Value>,
    told: VecDeque<Value>,
    _process: Running,
    _home: tempfile::TempDir,
}

impl Page {
    /// What it tells next.
    pub(crate) async fn next_told(&mut self) -> Value {
        if let Some(told) = self.told.pop_front() {
            return told;
        }
        tokio::time::timeout(PATIENCE, self.results.recv()).await.expect("the page tells something").unwrap()
    }
}

/// Gives a file to whoever asks, and takes what the page tells.
fn answer(mut stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut request).ok()?;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let built =
        PathBuf::from(std::env::var_os("SUPERNODE_GUEST").expect("SUPERNODE_GUEST: where the example is built"));
    let path = request.split(' ').nth(1)?;
    let (file, kind) = match path {
        "/worker.js" => (Path::new(FILES).join("worker.js"), "text/javascript"),
        "/page.js" => (built.join("page.js"), "text/javascript"),
        "/page_bg.wasm" => (built.join("page_bg.wasm"), "application/wasm"),
        _ => (Path::new(FILES).join("page.html"), "text/html"),
    };
    let content = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: ");
    stream.write_all(&[format!("{head}{}\r\n\r\n", content.len()).as_bytes(), &content].concat()).ok()?;
    if path == "/result" { serde_json::from_slice(&body).ok() } else { None }
}
