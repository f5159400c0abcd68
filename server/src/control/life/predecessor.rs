//! The process whose place this one took, as long as it drains: what an operator asks of this one is asked of it, too.
//!
//! It answers at `predecessor.sock` in the state directory, by the same small HTTP as at the control socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::control::state_dir::{Door, StateDir, StateError};
use crate::shard::Handle;

/// How long it may take to answer: it gives its shards 3 s for theirs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long it may take to open its door once this process serves.
const DOOR_TIMEOUT: Duration = Duration::from_secs(2);
/// A list of 10,000 sessions takes 3 MB.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Its answer to a request such as `POST /kick`, or why there is none; `None` if no process drains. Waits for it.
pub(crate) fn ask<T: DeserializeOwned>(
    state: &StateDir,
    shards: &Handle,
    request: &str,
    wanted: &impl Serialize,
) -> Option<Result<T, String>> {
    let pid = shards.predecessor()?;
    let answer = knock(state, shards).map_err(|error| error.to_string()).and_then(|stream| {
        let stream = stream.ok_or_else(|| "it does not listen".to_owned())?;
        exchange(stream, request, wanted).map_err(|error| error.to_string())
    });
    match answer {
        Ok(answer) => Some(Ok(answer)),
        // It has ended meanwhile, and everything there with it.
        Err(_) if shards.predecessor().is_none() => None,
        Err(why) => Some(Err(format!("process {pid}: {why}"))),
    }
}

/// It opens its door once this process serves, so there may be a moment without.
fn knock(state: &StateDir, shards: &Handle) -> Result<Option<UnixStream>, StateError> {
    let until = Instant::now() + DOOR_TIMEOUT;
    loop {
        let stream = state.knock(Door::Predecessor)?;
        if stream.is_some() || Instant::now() >= until || shards.predecessor().is_none() {
            return Ok(stream);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// HTTP/1.0 with one answer: no more is needed between two processes of ours.
fn exchange<T: DeserializeOwned>(mut stream: UnixStream, request: &str, wanted: &impl Serialize) -> io::Result<T> {
    let body = serde_json::to_string(wanted)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let length = body.len();
    let head =
        format!("{request} HTTP/1.0\r\nhost: relay\r\ncontent-type: application/json\r\ncontent-length: {length}");
    // At once: who answers without having read a body that comes later resets the connection, and the answer with it.
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(serde_json::from_str(body)?),
        _ => Err(io::Error::other(body.trim().to_owned())),
    }
}
