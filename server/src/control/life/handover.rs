//! How two processes of one relay settle an upgrade: `supernode serve --takeover`.
//!
//! The running relay waits at `handover.sock` in its state directory, which only its own user can open:
//!
//! | step | from | what |
//! |---|---|---|
//! | 1 | new | `Ask` |
//! | 2 | old | `Offer`, its sockets attached; or `Refusal` |
//! | 3 | new | `Ready`: everything is loaded, only packets are missing |
//! | 4 | old | `Go`: it reads its sockets no more |
//! | 5 | new | `Running`: every shard has turned |
//! | 6 | old | `Verdict`: `Yours`, and it drains; or `TakenBack` |
//!
//! Between steps 4 and 5 nobody is served, so the old process waits for no longer than [`TAKE_BACK_AFTER`]. If the new one
//! is not there by then, or ends, the old one ends it for good, reads its sockets again, and goes on as if nothing had
//! happened. A process that it cannot end, as one in another container, finds out before it reads a packet: the passages
//! are closed, and the verdict is against it. How packets of the old process's connections reach it is in
//! `shard/net/handover.rs`.

use std::{
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use supernode_proto::troubles;

use super::ports::Ports;
use crate::control::state_dir::{Door, StateDir, StateError};
use crate::shard::{Estate, Handle, Incarnation, Retained};

/// The most that can be handed over: the kernel passes 253 descriptors in one message (`SCM_MAX_FD`), two for each
/// shard and one for each of four [`Ports`].
pub const HANDOVER_SHARDS_MAX: usize = 124;
/// Changes when the steps or what a connection ID says do.
const VERSION: u32 = 3;
/// How long one side waits for the other's next step, while the old process serves.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the new process may take from `Go` to `Running`: it starts its threads, which takes milliseconds, and nobody is
/// served meanwhile. A busy machine may make an upgrade fail by it; that is better than a call without sound.
pub const TAKE_BACK_AFTER: Duration = Duration::from_secs(3);
/// How long the kernel may take to end a process.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// Messages are far smaller.
const MESSAGE_BYTES_MAX: usize = 4096;
const DESCRIPTORS_MAX: usize = 253;

troubles! {
    /// Why a hand-over did not happen. The running relay goes on.
    pub HandoverError as WORDS, through State(StateError):
    Refused { reason: String }, "the running relay refuses to hand over: {reason}",
        "as is said: it gives its reason", "do as it says; it goes on as before";
    BrokeOff { step: &'static str, source: io::Error }, "the hand-over broke off at: {step}",
        "the other process ended, or is of a version that does not know how",
        "look at the other process's log; if it runs on, try again, else start the relay as usual";
    TakenBack { ended: bool, source: io::Error },
        "{process} did not serve within {seconds} s: the sockets were taken back"
            with (process = if *.ended { "the new process, now ended," } else { "the new process" }, seconds = TAKE_BACK_AFTER.as_secs()),
        "its own log says why it did not serve in time",
        "look at what the new process logged, mend that, and run supernode upgrade again";
    TooLate, "the running relay has taken its sockets back: this process did not serve within {seconds} s"
            with (seconds = TAKE_BACK_AFTER.as_secs()),
        "as is said; the relay that ran before goes on",
        "look at the log above for what took so long, and try again when the machine has less to do";
    Differs { key: &'static str, wanted: String, running: String },
        "{key} = {wanted}: the running relay has {running}, and a hand-over keeps it",
        "the sockets that the new process would get are opened with that setting",
        "start it with the running relay's setting, or end that one first (supernode drain)";
}

#[derive(Serialize, Deserialize)]
struct Ask {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Offer(Offer),
    Refusal(String),
}

#[derive(Serialize, Deserialize)]
struct Offer {
    pid: u32,
    shards: usize,
    incarnation: Incarnation,
    /// Whether there is the TCP port for clients behind the admin port.
    tcp: bool,
    /// ... and behind that the one where pages are told of certificates.
    #[serde(default)]
    certificates: bool,
    /// ... and the page's.
    #[serde(default)]
    page: bool,
}

#[derive(Serialize, Deserialize)]
struct Ready {}

#[derive(Serialize, Deserialize)]
struct Go {}

#[derive(Serialize, Deserialize)]
struct Running {}

#[derive(Serialize, Deserialize)]
enum Verdict {
    Yours,
    TakenBack,
}

/// The process that asks, held so that its number cannot come to mean another.
#[derive(Debug)]
pub struct Peer {
    /// Its number here; `None` if it is out of our sight, as from one container to another.
    pub pid: Option<Pid>,
    process: Option<OwnedFd>,
}

impl Peer {
    /// By the number that the kernel gives with its connection.
    pub fn of(pid: Option<i32>) -> Self {
        let pid = pid.and_then(Pid::from_raw);
        Self { pid, process: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) }
    }

    /// Ends it, so that it reads nothing more. Whether it has ended.
    fn end(&self) -> bool {
        let Some(process) = &self.process else { return false };
        // One that has ended already cannot be sent anything: the wait tells.
        let _ = pidfd_send_signal(process, Signal::KILL);
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&END_TIMEOUT)).is_ok_and(|ready| ready > 0)
    }
}

/// The new process's side, between the offer and the end.
pub struct Takeover {
    stream: UnixStream,
    estate: Estate,
    /// The ports of the running relay, which has them until the end.
    pub ports: Ports<TcpListener>,
}

impl Takeover {
    /// Asks the relay that runs with this state directory for its sockets; `None` if none does.
    ///
    /// # Errors
    /// See [`HandoverError`].
    pub fn ask(state: &StateDir) -> Result<Option<Self>, HandoverError> {
        let Some(mut stream) = state.knock(Door::Handover)? else { return Ok(None) };
        stream.set_read_timeout(Some(STEP_TIMEOUT)).map_err(broke_off("the connection"))?;
        send(&mut stream, &Ask { version: VERSION }, &[]).map_err(broke_off("the question"))?;
        let (answer, descriptors) = receive(&stream).map_err(broke_off("the offer"))?;
        let offer = match answer {
            Answer::Offer(offer) => offer,
            Answer::Refusal(reason) => return Err(HandoverError::Refused { reason }),
        };
        let ports = 1 + [offer.tcp, offer.certificates, offer.page].into_iter().filter(|is_there| *is_there).count();
        if offer.shards == 0 || descriptors.len() != 2 * offer.shards + ports {
            let source = io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing");
            return Err(HandoverError::BrokeOff { step: "the offer", source });
        }
        let mut descriptors = descriptors.into_iter();
        let sockets = descriptors.by_ref().take(offer.shards).map(UdpSocket::from).collect();
        let passages = descriptors.by_ref().take(offer.shards).collect();
        let mut port = || TcpListener::from(descriptors.next().expect("counted above"));
        let ports = Ports {
            admin: port(),
            tcp: offer.tcp.then(&mut port),
            certificates: offer.certificates.then(&mut port),
            page: offer.page.then(&mut port),
        };
        let estate = Estate { sockets, passages, incarnation: offer.incarnation, pid: offer.pid };
        Ok(Some(Self { stream, estate, ports }))
    }

    /// The process that is replaced.
    pub fn pid(&self) -> u32 {
        self.estate.pid
    }

    /// The relay's address.
    ///
    /// # Errors
    /// [`HandoverError::BrokeOff`].
    pub fn local_addr(&self) -> Result<SocketAddr, HandoverError> {
        self.estate.sockets[0].local_addr().map_err(broke_off("the look at its address"))
    }

    /// Whether what this process was told fits what it is given. Port 0 and no number of shards fit anything.
    ///
    /// # Errors
    /// [`HandoverError::Differs`].
    pub fn check(&self, listen: Option<SocketAddr>, shards: Option<usize>) -> Result<(), HandoverError> {
        let running = self.local_addr()?;
        if let Some(listen) = listen.filter(|listen| listen.port() != 0 && *listen != running) {
            let (wanted, running) = (listen.to_string(), running.to_string());
            return Err(HandoverError::Differs { key: "listen", wanted, running });
        }
        let running = self.estate.sockets.len();
        match shards.filter(|shards| *shards != running) {
            Some(shards) => {
                Err(HandoverError::Differs { key: "shards", wanted: shards.to_string(), running: running.to_string() })
            }
            None => Ok(()),
        }
    }

    /// Everything is loaded: asks the old process to stop reading. What is returned is ours from then on.
    ///
    /// # Errors
    /// [`HandoverError::BrokeOff`].
    pub fn relieve(self) -> Result<(Estate, Settlement), HandoverError> {
        let Self { mut stream, estate, .. } = self;
        send(&mut stream, &Ready {}, &[]).map_err(broke_off("ready"))?;
        let (Go {}, _) = receive(&stream).map_err(broke_off("go"))?;
        Ok((estate, Settlement { stream }))
    }
}

/// The last steps.
pub struct Settlement {
    stream: UnixStream,
}

impl Settlement {
    /// This process serves: the old one may drain.
    ///
    /// # Errors
    /// [`HandoverError::TooLate`]: the old process serves again, and this one must not read another packet.
    /// [`HandoverError::BrokeOff`]: the old process is gone, and this one has its port all the same.
    pub fn settle(mut self) -> Result<(), HandoverError> {
        send(&mut self.stream, &Running {}, &[]).or_else(|error| match error.kind() {
            // It may have said why before it closed.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
            _ => Err(broke_off("running")(error)),
        })?;
        match receive(&self.stream).map_err(broke_off("the verdict"))? {
            (Verdict::Yours, _) => Ok(()),
            (Verdict::TakenBack, _) => Err(HandoverError::TooLate),
        }
    }
}

/// The old process's side: carries all steps out with one that asks, and returns once that one serves.
///
/// # Errors
/// See [`HandoverError`]; this process goes on as before.
pub fn hand_over(
    mut stream: UnixStream,
    peer: &Peer,
    shards: &Handle,
    ports: &Ports<OwnedFd>,
) -> Result<(), HandoverError> {
    stream.set_read_timeout(Some(STEP_TIMEOUT)).map_err(broke_off("the connection"))?;
    let (Ask { version }, _) = receive(&stream).map_err(broke_off("the question"))?;
    let refused = match (shards.offer(), shards.predecessor()) {
        _ if version != VERSION => format!("it speaks version {VERSION}, this process {version}; stop it instead"),
        (_, Some(pid)) => still_drains(pid),
        (Ok((estate, _)), None) if estate.sockets.len() > HANDOVER_SHARDS_MAX => {
            format!("it has {} shards, and a hand-over takes at most {HANDOVER_SHARDS_MAX}", estate.sockets.len())
        }
        (Err(error), None) => format!("it has no descriptor left: {error}"),
        (Ok((estate, retained)), None) => {
            let offer = Offer {
                pid: std::process::id(),
                shards: estate.sockets.len(),
                incarnation: estate.incarnation,
                tcp: ports.tcp.is_some(),
                certificates: ports.certificates.is_some(),
                page: ports.page.is_some(),
            };
            let sockets = estate.sockets.iter().map(AsFd::as_fd);
            let passages = estate.passages.iter().map(AsFd::as_fd);
            let ports = ports.iter().map(AsFd::as_fd);
            let descriptors: Vec<BorrowedFd<'_>> = sockets.chain(passages).chain(ports).collect();
            send(&mut stream, &Answer::Offer(offer), &descriptors).map_err(broke_off("the offer"))?;
            // The other process has them now; ours would keep the passages open when it ends.
            drop(estate);
            let (Ready {}, _) = receive(&stream).map_err(|source| {
                // It has our sockets. If it woke up one day it would keep the port from whoever is to have it then.
                if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                    peer.end();
                }
                broke_off("ready")(source)
            })?;
            return let_go(&mut stream, shards, retained).map_err(|source| {
                // First it must not read any more, then this process may.
                let ended = peer.end();
                let _ = send(&mut stream, &Verdict::TakenBack, &[]); // if it can still hear it
                if !shards.reclaim() {
                    tracing::error!("a shard does not read its socket again");
                }
                HandoverError::TakenBack { ended, source }
            });
        }
    };
    send(&mut stream, &Answer::Refusal(refused.clone()), &[]).map_err(broke_off("the refusal"))?;
    Err(HandoverError::Refused { reason: refused })
}

/// The shards stop reading, and the new process shows that it does.
fn let_go(stream: &mut UnixStream, shards: &Handle, retained: Retained) -> io::Result<()> {
    stream.set_read_timeout(Some(TAKE_BACK_AFTER))?;
    if !shards.relieve(retained) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "a shard did not stop reading"));
    }
    send(stream, &Go {}, &[])?;
    let (Running {}, _) = receive(stream)?;
    send(stream, &Verdict::Yours, &[])
}

/// Why there is no upgrade yet, and when there can be one.
pub(crate) fn still_drains(pid: u32) -> String {
    format!(
        "process {pid}, whose place it took, still drains, and its calls would be cut off; try again once that has ended \
         (relay.drain_patience_s after the last upgrade at the latest)"
    )
}

/// Turns one that asks away.
///
/// # Errors
/// What the system says.
pub fn refuse(mut stream: UnixStream, reason: &str) -> io::Result<()> {
    send(&mut stream, &Answer::Refusal(reason.to_owned()), &[])
}

fn broke_off(step: &'static str) -> impl FnOnce(io::Error) -> HandoverError {
    move |source| HandoverError::BrokeOff { step, source }
}

/// One message is one line of JSON; descriptors travel with its first byte.
fn send(stream: &mut UnixStream, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let sent = sendmsg(&*stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&line[sent..])
}

fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&buffer[..got.bytes]);
        if line.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
        }
    }
    Ok((serde_json::from_slice(&line)?, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_together() {
        let (mut here, there) = UnixStream::pair().expect("a pair");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let (other, _) = UnixStream::pair().expect("a pair");
        let offer =
            Offer { pid: 7, shards: 1, incarnation: Incarnation(3), tcp: false, certificates: false, page: false };
        send(&mut here, &Answer::Offer(offer), &[socket.as_fd(), other.as_fd()]).expect("sent");
        let (answer, descriptors) = receive::<Answer>(&there).expect("received");
        assert!(matches!(answer, Answer::Offer(Offer { pid: 7, shards: 1, .. })));
        let [first, _] = <[OwnedFd; 2]>::try_from(descriptors).expect("two");
        let twin = UdpSocket::from(first).local_addr().expect("a socket");
        assert_eq!(twin, socket.local_addr().expect("bound"));
    }

    #[test]
    fn whoever_breaks_off_or_talks_nonsense_is_an_error() {
        let (here, there) = UnixStream::pair().expect("a pair");
        drop(here);
        assert_eq!(receive::<Go>(&there).err().expect("gone").kind(), io::ErrorKind::UnexpectedEof);
        let (mut here, there) = UnixStream::pair().expect("a pair");
        here.write_all(b"go!\n").expect("sent");
        assert!(receive::<Ready>(&there).is_err());
        here.write_all(&[b'x'; MESSAGE_BYTES_MAX + 1]).expect("sent");
        assert_eq!(receive::<Ready>(&there).err().expect("too long").kind(), io::ErrorKind::InvalidData);
    }
}
