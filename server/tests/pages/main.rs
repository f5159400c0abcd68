//! The link of pages, tried by who did not write it: two browsers, and an HTTP/3 stack in Python.
//!
//! `cargo xtask test --step pages` installs them and runs this: Debian's `chromium` and `firefox-esr`, `certutil` of
//! `libnss3-tools`, and `aioquic` from PyPI for the Python that `SUPERNODE_PYTHON` names.

mod certificates;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use supernode_proto::{close::CloseCode, invite::Invite};

/// A browser that has never been started takes seconds for that alone.
const PATIENCE: Duration = Duration::from_secs(60);
/// In a relay's home.
const STATE: &str = "state";
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages");

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A relay that takes pages in.
struct Relay {
    listen: String,
    /// In base64; nothing where an authority has signed.
    pin: String,
    /// Where certificates are told.
    told: String,
    home: tempfile::TempDir,
    _process: Running,
}

impl Relay {
    fn start() -> Self {
        Self::start_with("127.0.0.1:0", "", |_| ())
    }

    /// One that has something more in its configuration, and something in its home before it begins.
    fn start_with(listen: &str, more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        prepare(home.path());
        let told = supernode_testkit::lasting_port();
        let more = more.replace("HOME", &home.path().to_string_lossy());
        let config = format!(
            "[relay]\nlisten = \"{listen}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[web]\npages = \"on\"\nlisten = \"{told}\"\n{more}"
        );
        fs::write(home.path().join("supernode.toml"), config).expect("ours");
        let mut serve = Command::new(env!("CARGO_BIN_EXE_supernode"));
        serve.args(["serve", "--open", "--config"]).arg(home.path().join("supernode.toml"));
        serve.arg("--state-dir").arg(home.path().join(STATE)).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running(serve.spawn().expect("the relay is built"));
        let mut ready = String::new();
        let stdout = process.0.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut ready).expect("a line");
        let ready: Value = serde_json::from_str(&ready).expect("the ready line");
        let invite: Invite = ready["invite"].as_str().expect("an invite").parse().expect("a link");
        let pin = invite.pin.map(|pin| BASE64.encode(&pin.0)).unwrap_or_default();
        let listen = ready["listen"].as_str().expect("an address").to_owned();
        Self { listen, pin, told: format!("http://{told}/certificates"), home, _process: process }
    }

    /// What a page finds that comes to this address of the relay with this browser, and tries this.
    fn tried_by(&self, browser: Browser, relay: &str, what: &str) -> Value {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let page = server.local_addr().expect("bound");
        let address = format!("http://{page}/#{}|{relay}|{}|{what}", self.told, self.pin);
        let mut command = browser.command(self.home.path());
        command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
        let browser = command.spawn().unwrap_or_else(|error| panic!("{browser:?}: {error}; is it installed?"));
        let _browser = Running(browser);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                if let Some(result) = answer(stream) {
                    let _ = tell.send(result); // nobody may wait any more
                }
            }
        });
        told.recv_timeout(PATIENCE).expect("the page tells what it has found")
    }
}

#[derive(Debug, Clone, Copy)]
enum Browser {
    Chromium,
    Firefox,
}

impl Browser {
    /// With a home of its own below this one.
    fn home(self, home: &Path) -> PathBuf {
        let directory = home.join(format!("{self:?}"));
        fs::create_dir_all(&directory).expect("ours");
        directory
    }

    fn command(self, home: &Path) -> Command {
        let home = self.home(home);
        let mut command = match self {
            Self::Chromium => {
                let mut command = Command::new("chromium");
                // Without a sandbox of its own it runs as root, as tests do.
                command.args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--no-first-run",
                    "--disable-background-networking",
                ]);
                // Or WebTransport takes no authority that somebody has added; it is checked all the same.
                command.arg("--webtransport-developer-mode");
                command.arg(format!("--user-data-dir={}", home.display()));
                command
            }
            Self::Firefox => {
                let mut command = Command::new("firefox-esr");
                command.args(["--headless", "--no-remote", "--profile"]).arg(&home);
                // Or it speaks no HTTP/3 once somebody has added an authority.
                let preference = "user_pref(\"network.http.http3.disable_when_third_party_roots_found\", false);\n";
                fs::write(home.join("user.js"), preference).expect("ours");
                command
            }
        };
        command.env("HOME", home);
        command
    }

    /// Where it keeps whom it trusts.
    fn trust(self, home: &Path) -> PathBuf {
        let directory = match self {
            Self::Chromium => self.home(home).join(".pki/nssdb"),
            Self::Firefox => self.home(home),
        };
        fs::create_dir_all(&directory).expect("ours");
        directory
    }
}

/// Gives the page to whoever asks, and takes what it tells.
fn answer(mut stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    let is_result = line.starts_with("POST");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let page = fs::read(Path::new(FILES).join("probe.html")).expect("it lies beside this file");
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: ";
    stream.write_all([format!("{head}{}\r\n\r\n", page.len()).as_bytes(), &page].concat().as_slice()).ok()?;
    if is_result { serde_json::from_slice(&body).ok() } else { None }
}

/// What every browser finds.
fn judge(found: &Value) {
    assert_eq!(found["version"], json!(1), "{found}");
    assert!(found["clockMs"].as_u64().is_some_and(|ms| ms < 5_000), "{found}");
    assert!(found["datagramBytes"].as_u64().is_some_and(|bytes| bytes >= 1_000), "{found}");
    assert_eq!(found["closed"], json!(CloseCode::MALFORMED_MESSAGE.0), "it learns why: {found}");
    assert_eq!((&found["elsewhere"], &found["undemanded"]), (&json!("refused"), &json!("refused")), "{found}");
}

//
#[test]
fn a_page_in_chromium_comes_in_and_learns_why_it_is_put_out() {
    let relay = Relay::start();
    judge(&relay.tried_by(Browser::Chromium, &relay.listen, "session"));
}

//
#[test]
fn a_page_in_firefox_comes_in_and_learns_why_it_is_put_out() {
    let relay = Relay::start();
    judge(&relay.tried_by(Browser::Firefox, &relay.listen, "session"));
}

//
#[test]
fn another_stack_comes_in_and_what_is_malformed_is_refused_by_name() {
    let relay = Relay::start();
    let python = std::env::var_os("SUPERNODE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let tried =
        Command::new(python).arg(Path::new(FILES).join("independent.py")).args([&relay.listen, &relay.pin]).output();
    let tried = tried.expect("Python");
    let said = String::from_utf8_lossy(&tried.stderr);
    let found: Value = serde_json::from_slice(&tried.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    const H3_NO_ERROR: u64 = 0x100;
    let expected = json!({
        "in": { "version": 1 },
        "signed_for_an_exporter": { "capsule": "6843", "length": 4, "code": CloseCode::BAD_SIGNATURE.0 },
        "another_path": 404,
        "another_method": 405,
        "another_protocol": 501,
        "no_protocol": 501,
        "before_there_is_one": H3_NO_ERROR,
        "too_long": H3_NO_ERROR,
    });
    assert_eq!(found, expected);
}
