//! The relay's program, taking pages in.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use supernode_client::proto::invite::Invite;

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A relay that lets everybody in, at an address that stays.
pub(crate) struct Relay {
    invite: Invite,
    home: tempfile::TempDir,
    process: Running,
}

impl Relay {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (listen, told) = (supernode_testkit::lasting_port(), supernode_testkit::lasting_port());
        let config = format!(
            "[relay]\nlisten = \"{listen}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[web]\npages = \"on\"\nlisten = \"{told}\"\n"
        );
        fs::write(home.path().join("supernode.toml"), config).unwrap();
        let (process, invite) = run(home.path());
        Self { invite: Invite { pages: Some(told.port()), ..invite }, home, process }
    }

    /// As pages get it: with the port where certificates are told.
    pub(crate) fn invite(&self) -> Invite {
        self.invite.clone()
    }
}

fn run(home: &Path) -> (Running, Invite) {
    // Built with the relay's own tests of pages.
    let program = Path::new(env!("CARGO_BIN_EXE_supernode-call")).with_file_name("supernode");
    let mut serve = Command::new(program);
    serve.args(["serve", "--open", "--config"]).arg(home.join("supernode.toml"));
    serve.arg("--state-dir").arg(home.join("state")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Running(serve.spawn().expect("the relay is built"));
    let mut ready = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: Value = serde_json::from_str(&ready).expect("the ready line");
    (process, ready["invite"].as_str().unwrap().parse().unwrap())
}
