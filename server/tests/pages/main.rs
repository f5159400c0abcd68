//! The link of pages, tried by who did not write it: two browsers, and an HTTP/3 stack in Python.
//!
//! `cargo xtask test --step pages` installs them and runs this: Debian's `chromium` and `firefox-esr`, and `aioquic` from PyPI
//! for the Python that `SUPERNODE_PYTHON` names.

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
    /// In base64.
    pin: String,
    /// Where certificates are told.
    told: String,
    home: tempfile::TempDir,
    _process: Running,
}

impl Relay {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let told = supernode_testkit::lasting_port();
        let config = format!(
            "[relay]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[web]\npages = \"on\"\nlisten = \"{told}\"\n"
        );
        fs::write(home.path().join("supernode.toml"), config).expect("ours");
        let mut serve = Command::new(env!("CARGO_BIN_EXE_supernode"));
        serve.args(["serve", "--open", "--config"]).arg(home.path().join("supernode.toml"));
        serve.arg("--state-dir").arg(home.path().join("state")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running(serve.spawn().expect("the relay is built"));
        let mut ready = String::new();
        let stdout = process.0.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut ready).expect("a line");
        let ready: Value = serde_json::from_str(&ready).expect("the ready line");
        let invite: Invite = ready["invite"].as_str().expect("an invite").parse().expect("a link");
        let pin = BASE64.encode(&invite.pin.expect("a pin").0);
        let listen = ready["listen"].as_str().expect("an address").to_owned();
        Self { listen, pin, told: format!("http://{told}/certificates"), home, _process: process }
    }

    /// What a page finds that comes in with this browser.
    fn tried_by(&self, browser: &str, options: &[&str], profile: &str) -> Value {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let page = server.local_addr().expect("bound");
        let address = format!("http://{page}/#{}|{}|{}", self.told, self.listen, self.pin);
        let directory = self.home.path().join(browser);
        fs::create_dir_all(&directory).expect("ours");
        let mut command = Command::new(browser);
        command.args(options).arg(profile.replace("{}", &directory.to_string_lossy())).arg(address);
        command.env("HOME", &directory).stdout(Stdio::null()).stderr(Stdio::null());
        let browser = command.spawn().unwrap_or_else(|error| panic!("{browser}: {error}; is it installed?"));
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
    // Without a sandbox of its own it runs as root, as tests do.
    let options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
    judge(&Relay::start().tried_by("chromium", &options, "--user-data-dir={}"));
}

//
#[test]
fn a_page_in_firefox_comes_in_and_learns_why_it_is_put_out() {
    judge(&Relay::start().tried_by("firefox-esr", &["--headless", "--no-remote", "--profile"], "{}"));
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
