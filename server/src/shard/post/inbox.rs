//! Mail between shards: one bounded inbox each for media and for control, and a way to wake who sleeps.
//!
//! Media that does not fit is dropped and counted by the sender. Control mail that does not fit would leave the shards
//! with different views: instead the receiving shard is marked, closes its sessions, and its clients come back. What
//! clients ask for cannot bring that about, because nobody is asked any more long before an inbox is full ([`held_from`]).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use prost::Message;
use rustix::event::{EventfdFlags, eventfd};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::MlsDelivery,
    object::StreamHeader,
};

use crate::{
    core::{
        Address, ClientMail, ControlMail, RoomAsk, SessionId, StreamKey, group_cache::CachedStream, stream::StreamPart,
    },
    shard::{
        Onward,
        figures::{
            census::Census,
            inspect::{SessionView, Whom},
        },
        net::socket::Received,
        nodes::{Roster, Word},
    },
};

/// Media mail that may wait for one shard. Default 8,192: 16 ms at half a million objects a second, and 12 MiB of packets.
const MEDIA_MAX: usize = 8_192;
/// Letters that may wait for one shard. Default 65,536. A request, a deadline or a letter makes another shard's core at
/// most one letter for each shard, however many clients and messages it is about: so many are what 650 sessions cause in a
/// second at the rate of requests that they are granted, if this shard takes none of them, and it takes
/// [`super::PER_TURN_MAX`] a turn.
const CONTROL_MAX: usize = 65_536;

/// Letters that wait for some shard and from which on no shard, of so many, reads clients' streams: whoever asks
/// for much waits until what was asked for has been taken. What all inboxes hold then fits one of them with three quarters
/// left: for what these letters bring about there, one each, and for sessions that end, which cannot wait.
pub(crate) fn held_from(shards: usize) -> usize {
    (CONTROL_MAX / (4 * shards)).max(MAIL_ROOM_MIN)
}

/// Even among very many shards so many may wait.
const MAIL_ROOM_MIN: usize = 256;

/// The same in bytes: 4 MiB for the inbox of a shard, of which each of so many has an equal part. A ring carries 16 KiB, a
/// room's message 60 KiB, and what somebody has missed 512 KiB; so few of these would be too much long before the letters
/// are too many.
pub(crate) fn bytes_held_from(shards: usize) -> usize {
    LETTER_BYTES_MAX / shards
}

const LETTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of letters that may wait for a shard while it still takes what is said on the bus. Default 2 MiB: half of the bytes from
/// which clients are left unread; fifty of the longest messages.
const BUS_BYTES_MAX: usize = LETTER_BYTES_MAX / 2;

/// Media on its way to another shard's subscribers: one copy, however many they are.
#[derive(Debug)]
pub(crate) enum MediaMail {
    Datagram {
        wire: Bytes,
        arrived: Instant,
    },
    StreamOpen {
        key: StreamKey,
        header: StreamHeader,
        wire: Bytes,
    },
    StreamPart {
        key: StreamKey,
        part: StreamPart,
        arrived: Instant,
    },
    StreamEnd {
        key: StreamKey,
    },
    /// The publisher's shard holds the stream until it is told that this has been seen, and so all that was put before it.
    StreamSeen {
        key: StreamKey,
    },
    /// A stream as far as it has come, for one who came late; if it goes on, its parts follow.
    StreamJoin {
        stream: Box<CachedStream<StreamKey>>,
        session: SessionId,
    },
    /// A packet of a client that has moved, for the shard that its connection ID names.
    Packet(Received),
}

/// Control mail, of the core's and the shards' own.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Everything that one step of another core wants done here.
    Core(Vec<ControlMail>),
    /// The stream ends before its last byte.
    StreamAborted(StreamKey, StreamCode),
    /// Subscribers of a shard take a data stream too slowly, or fast enough again.
    StreamHold { key: StreamKey, by: Address, on: bool },
    /// The relay goes away: tell the clients.
    Drain(Onward, std::time::Duration),
    /// Another process has the socket now: read from this one, and say so.
    Relieve(OwnedFd, Sender<()>),
    /// The socket is this process's again: read it, and say so.
    Reclaim(Sender<()>),
    /// The operator wants to see so many sessions.
    Inspect(usize, Sender<Vec<SessionView>>),
    /// Somebody wants to know how full the tables are.
    Census(Sender<Census>),
    /// The operator ends sessions, and wants to know how many there were.
    Expel(Whom, CloseCode, Sender<usize>),
    /// Which other nodes live now.
    Nodes(Arc<Roster>),
    /// Another node has come, or all that was known through it is over.
    Node(Word),
}

/// Where others put mail for a shard.
#[derive(Debug, Clone)]
pub(crate) struct Postbox {
    media: Sender<MediaMail>,
    control: Sender<Posted>,
    waits: Arc<AtomicUsize>,
    waker: Arc<Waker>,
}

/// A shard's own end of its [`Postbox`].
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) media: Receiver<MediaMail>,
    control: Receiver<Posted>,
    /// Bytes of the letters that wait.
    waits: Arc<AtomicUsize>,
    waker: Arc<Waker>,
}

/// A letter and what it keeps, weighed once.
#[derive(Debug)]
struct Posted {
    letter: Letter,
    bytes: usize,
}

/// Wakes a shard that sleeps, and only then costs a system call.
#[derive(Debug)]
struct Waker {
    fd: OwnedFd,
    asleep: AtomicBool,
    /// Control mail was lost.
    desynchronised: AtomicBool,
}

/// A shard's postbox and inbox.
///
/// # Errors
/// When the system has no descriptor left.
pub(crate) fn inbox() -> std::io::Result<(Postbox, Inbox)> {
    let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let waker = Arc::new(Waker { fd, asleep: AtomicBool::new(false), desynchronised: AtomicBool::new(false) });
    let (media_in, media) = bounded(MEDIA_MAX);
    let (control_in, control) = bounded(CONTROL_MAX);
    let waits = Arc::new(AtomicUsize::new(0));
    let postbox = Postbox { media: media_in, control: control_in, waits: waits.clone(), waker: waker.clone() };
    Ok((postbox, Inbox { media, control, waits, waker }))
}

impl Postbox {
    /// Puts media into the inbox; `false` if it is full. [`Self::wake`] it afterwards.
    pub(crate) fn put_media(&self, mail: MediaMail) -> bool {
        self.media.try_send(mail).is_ok()
    }

    /// Whether there is room for a packet that came over TCP: not in the last three quarters, which are for other shards'
    /// media.
    pub(crate) fn has_room_for_tcp(&self) -> bool {
        self.media.len() < MEDIA_MAX / 4
    }

    /// Whether there is room for what was said on the bus: it may be lost, while what shards tell each other may not.
    pub(crate) fn has_room_for_bus(&self) -> bool {
        self.control_waits() < CONTROL_MAX / 4 && self.control_bytes() < BUS_BYTES_MAX
    }

    /// Puts control mail into the inbox, or marks the shard; how many bytes it keeps. [`Self::wake`] it afterwards.
    pub(crate) fn put_control(&self, letter: Letter) -> usize {
        let bytes = letter.bytes();
        // Before it can be taken.
        self.waits.fetch_add(bytes, Ordering::Relaxed);
        if self.control.try_send(Posted { letter, bytes }).is_err() {
            self.waits.fetch_sub(bytes, Ordering::Relaxed);
            self.waker.desynchronised.store(true, Ordering::SeqCst);
        }
        bytes
    }

    /// Letters that wait.
    pub(crate) fn control_waits(&self) -> usize {
        self.control.len()
    }

    /// Bytes of them.
    pub(crate) fn control_bytes(&self) -> usize {
        self.waits.load(Ordering::Relaxed)
    }

    /// Wakes the shard if it sleeps.
    pub(crate) fn wake(&self) {
        if self.waker.asleep.swap(false, Ordering::SeqCst) {
            // A full counter means that it has been woken already.
            let _ = rustix::io::write(&self.waker.fd, &1u64.to_ne_bytes());
        }
    }
}

impl Letter {
    /// Bytes of memory that it keeps while it waits. Payloads count for each letter that names them.
    pub(crate) fn bytes(&self) -> usize {
        let mail = match self {
            Self::Core(mail) => mail.iter().map(mail_bytes).sum(),
            _ => 0,
        };
        size_of::<Posted>() + mail
    }
}

fn mail_bytes(mail: &ControlMail) -> usize {
    let deliveries = |missed: &[MlsDelivery]| {
        missed.iter().map(|delivery| delivery.payload.len() + size_of::<MlsDelivery>()).sum::<usize>()
    };
    let clients = |to: &[SessionId]| size_of_val(to);
    let beside = match mail {
        ControlMail::Client(ClientMail::Send { message, .. }) => message.encoded_len(),
        ControlMail::Client(ClientMail::Tell { to, message }) => clients(to) + message.encoded_len(),
        ControlMail::Client(ClientMail::Deliver { to, delivery }) => clients(to) + delivery.payload.len(),
        ControlMail::Client(ClientMail::DeliverWithheld { missed: Some(missed), .. }) => deliveries(missed),
        ControlMail::Ask(ask) | ControlMail::AskHome(ask, _) | ControlMail::NotHome(ask, _) => {
            size_of::<RoomAsk>() + ask.payload_bytes()
        }
        ControlMail::FromHome { mail, .. } => mail_bytes(mail),
        ControlMail::Inside { members, .. } => size_of_val(&members[..]),
        ControlMail::Heard { bytes, .. } | ControlMail::FromNode { words: bytes, .. } => bytes.len(),
        _ => 0,
    };
    size_of::<ControlMail>() + beside
}

impl Inbox {
    /// The letter that has waited longest.
    pub(crate) fn next_letter(&self) -> Option<Letter> {
        let Posted { letter, bytes } = self.control.try_recv().ok()?;
        self.waits.fetch_sub(bytes, Ordering::Relaxed);
        Some(letter)
    }

    /// All that wait.
    #[cfg(test)]
    pub(crate) fn letters(&self) -> impl Iterator<Item = Letter> {
        std::iter::from_fn(|| self.next_letter())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.media.is_empty() && self.control.is_empty()
    }

    /// Readable once somebody has woken the shard.
    pub(crate) fn waker(&self) -> BorrowedFd<'_> {
        self.waker.fd.as_fd()
    }

    /// Says that the shard is about to sleep; look at [`Self::is_empty`] once more after it.
    pub(crate) fn doze(&self) {
        self.waker.asleep.store(true, Ordering::SeqCst);
    }

    /// The shard is awake and need not be woken.
    pub(crate) fn rise(&self) {
        self.waker.asleep.store(false, Ordering::SeqCst);
    }

    /// Whoever woke the shard is heard: its descriptor is readable no more.
    pub(crate) fn hear(&self) {
        let _ = rustix::io::read(&self.waker.fd, &mut [0; 8]);
    }

    /// Whether control mail was lost since the last call.
    pub(crate) fn take_desynchronised(&self) -> bool {
        self.waker.desynchronised.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::RoomId;

    use super::*;
    use crate::core::ShardId;

    //
    #[test]
    fn when_all_shards_stop_reading_an_inbox_has_room_for_what_waits_everywhere() {
        for shards in 1..=64 {
            assert!(shards * held_from(shards) <= CONTROL_MAX / 4, "{shards} shards");
            assert!(shards * bytes_held_from(shards) <= LETTER_BYTES_MAX, "{shards} shards");
        }
    }

    //
    #[test]
    fn letters_weigh_what_they_carry_until_they_are_taken() {
        let (postbox, inbox) = inbox().expect("a descriptor");
        let to = SessionId { at: Address::local(ShardId(0)), link: 0, generation: 0 };
        let delivery = MlsDelivery { payload: vec![0; 60_000].into(), ..MlsDelivery::default() };
        postbox.put_control(Letter::Core(vec![ControlMail::Client(ClientMail::Deliver {
            to: vec![to],
            delivery: delivery.clone(),
        })]));
        let missed = Some(vec![delivery; 3]);
        let room = RoomId([1; 16]);
        postbox.put_control(Letter::Core(vec![ControlMail::Client(ClientMail::DeliverWithheld { to, room, missed })]));
        assert!((240_000..242_000).contains(&postbox.control_bytes()), "{}", postbox.control_bytes());
        assert_eq!(inbox.letters().count(), 2);
        assert_eq!(postbox.control_bytes(), 0);
        for _ in 0..CONTROL_MAX + 9 {
            postbox.put_control(Letter::StreamAborted(
                StreamKey { at: Address::local(ShardId(0)), number: 1 },
                StreamCode::LAGGED,
            ));
        }
        assert_eq!(inbox.letters().count(), CONTROL_MAX);
        assert_eq!(postbox.control_bytes(), 0, "what had no room weighs nothing");
        assert!(inbox.take_desynchronised());
    }
}
