//! How other processes of ours tell the one in a room what to do: a socket beside the identity file, one line of JSON
//! each way.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::figures::MemberFigures;
use crate::{
    failure::{Failure, told},
    trouble::Trouble,
};

/// Longest order or answer: a roster of the largest room.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Orders that may wait.
const ORDERS_MAX: usize = 16;
/// Longest that carrying one out may take: an invitation rings for a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Order {
    Leave,
    Kick {
        who: String,
    },
    /// Nobody to hear who knocks.
    Admit {
        who: Option<String>,
    },
    Invite {
        ticket: String,
    },
    Say {
        line: String,
    },
    Roster,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What happened, why and what to do, as people are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<MemberFigures>,
    /// Who knocks and is not let in unless told to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) knocking: Vec<String>,
}

impl Answer {
    pub(super) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { error: Some(told(&error.into())), ..Self::default() }
    }
}

/// An order, and where its answer goes.
pub(super) type Ordered = (Order, oneshot::Sender<Answer>);

/// The socket; its file goes with it.
pub(super) struct Control {
    path: PathBuf,
    pub(super) orders: mpsc::Receiver<Ordered>,
}

impl Control {
    /// Listens beside the identity file.
    pub(super) fn listen(identity: &Path) -> Result<Self, Trouble> {
        let path = path_of(identity);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(Trouble::InRoom { path: path.display().to_string() });
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Trouble::write(&path)(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(Trouble::write(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Trouble::write(&path))?;
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone()));
            }
        });
        Ok(Self { path, orders })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that is left behind is found stale by the next process.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, orders: mpsc::Sender<Ordered>) {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    let answer = match BufReader::new(input.take(LINE_BYTES_MAX)).read_line(&mut line).await {
        Ok(_) => match serde_json::from_str(&line) {
            Ok(order) => carry_out(order, &orders).await,
            Err(error) => Answer::failed(Trouble::NoOrder(error)),
        },
        Err(error) => Answer::failed(Trouble::NoOrder(serde::de::Error::custom(error))),
    };
    if let Ok(mut text) = serde_json::to_string(&answer) {
        text.push('\n');
        // Whoever asked may have gone.
        let _ = output.write_all(text.as_bytes()).await;
    }
}

async fn carry_out(order: Order, orders: &mpsc::Sender<Ordered>) -> Answer {
    let (sender, answer) = oneshot::channel();
    if orders.send((order, sender)).await.is_err() {
        return Answer::failed(Trouble::LeavesRoom);
    }
    answer.await.unwrap_or_else(|_| Answer::failed(Trouble::LeavesRoom))
}

/// Gives an order to the process that is in a room with this identity.
pub(super) fn tell(identity: &Path, order: &Order) -> Result<Answer, Failure> {
    let answer = ask(&path_of(identity), order)?;
    match answer.error {
        Some(told) => Err(Failure::of_order(told)),
        None => Ok(answer),
    }
}

fn ask(path: &Path, order: &Order) -> Result<Answer, Trouble> {
    use std::io::{BufRead, BufReader, Read, Write};
    let shown = || path.display().to_string();
    let stream = std::os::unix::net::UnixStream::connect(path);
    let mut stream = stream.map_err(|source| Trouble::NotInRoom { path: shown(), source })?;
    let exchange = || -> io::Result<Answer> {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    exchange().map_err(|source| Trouble::Silent { path: shown(), source })
}

fn path_of(identity: &Path) -> PathBuf {
    let mut path = identity.as_os_str().to_owned();
    path.push(".room");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_is_carried_out_by_the_process_in_the_room_and_its_socket_is_private() {
        let directory = std::env::temp_dir().join(format!("supernode-room-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let identity = directory.join("alice.identity");
        let mut control = Control::listen(&identity).expect("listens");
        assert!(Control::listen(&identity).is_err(), "only one is in a room");
        let mode = fs::metadata(path_of(&identity)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let asked = tokio::task::spawn_blocking({
            let identity = identity.clone();
            move || tell(&identity, &Order::Kick { who: "sn-id-x".into() })
        });
        let (order, answer) = control.orders.recv().await.expect("an order");
        assert!(matches!(order, Order::Kick { who } if who == "sn-id-x"));
        answer.send(Answer::failed(Trouble::Declined)).expect("somebody waits");
        let refused = asked.await.expect("asked").expect_err("refused");
        assert_eq!(refused.told(), "they declined\n  -> ask them by another way", "as if it had happened here");

        let junk = tokio::task::spawn_blocking({
            let path = path_of(&identity);
            move || {
                use std::io::{Read, Write};
                let mut stream = std::os::unix::net::UnixStream::connect(path).expect("connects");
                stream.write_all(b"{\"do\":\"dance\"}\n").expect("written");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("read");
                text
            }
        });
        let junk = junk.await.expect("asked");
        assert!(junk.contains("does not understand this order: unknown variant `dance`"), "{junk}");
        assert!(junk.contains("\\n  -> have it leave"), "{junk}");
        drop(control);
        assert!(!path_of(&identity).exists());
        fs::remove_dir_all(directory).expect("cleaned up");
    }
}
