//! The running relay, as commands reach it: HTTP by the Unix socket in its state directory.

use std::{path::Path, time::Duration};

use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use supernode_server::control::{
    state_dir::{Door, StateDir, StateError},
    status::Status,
};
use tokio::net::UnixStream;

use super::{exit::Exit, state::State};

/// How long an answer may take: the relay gives its shards 3 s for theirs.
const PATIENCE: Duration = Duration::from_secs(15);

/// The relay that runs with a state directory.
pub(super) struct Relay {
    name: String,
    state: StateDir,
}

impl Relay {
    /// Finds it; whether it runs shows with the first question.
    pub(super) fn of(state: &State) -> anyhow::Result<Self> {
        Self::at(&state.path()?)
    }

    /// The one with this state directory.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        match StateDir::open(path) {
            // Where no relay ever ran, none runs.
            Err(StateError::Missing { .. }) => Err(Exit::NotRunning { state: name }.into()),
            opened => Ok(Self { name, state: opened? }),
        }
    }

    /// Its state directory.
    pub(super) fn state(&self) -> &StateDir {
        &self.state
    }

    /// What it is doing.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        self.get("/status.json")
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> anyhow::Result<bool> {
        Ok(self.state.knock(Door::Control)?.is_some())
    }

    /// Asks for JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.ask(Method::GET, path, Bytes::new())?;
        serde_json::from_slice(&body).map_err(|source| Exit::OtherVersion { path: path.to_owned(), source }.into())
    }

    /// Asks for something to be done; the answer's bytes.
    pub(super) fn post(&self, path: &str, wanted: &impl Serialize) -> anyhow::Result<Bytes> {
        self.ask(Method::POST, path, serde_json::to_vec(wanted)?.into())
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let Some(stream) = self.state.knock(Door::Control)? else {
            return Err(Exit::NotRunning { state: self.name.clone() }.into());
        };
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "relay")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let exchanged = runtime.block_on(async {
            let exchange = exchange(UnixStream::from_std(stream)?, request);
            let late = |_| anyhow!("no answer within {} s", PATIENCE.as_secs());
            tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
        });
        let (code, body) = exchanged.map_err(Exit::Silent)?;
        let words = || String::from_utf8_lossy(&body).trim().to_owned();
        match code {
            code if code.is_success() => Ok(body),
            StatusCode::CONFLICT => Err(Exit::no(words())),
            code => Err(Exit::Answer { code, words: words() }.into()),
        }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response; what went wrong shows there.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let code = response.status();
    Ok((code, response.into_body().collect().await?.to_bytes()))
}
