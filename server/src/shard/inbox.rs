//! Mail between shards: one bounded inbox each for media and for control, and a bell.
//!
//! Media that does not fit is dropped and counted by the sender. Control mail that does not fit would leave the shards
//! with different views: instead the receiving shard is marked, closes its sessions, and its clients come back. What
//! clients ask for cannot bring that about, because nobody is asked any more long before an inbox is full ([`held_from`]).

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    object::StreamHeader,
};

use super::{
    census::Census,
    inspect::{SessionView, Whom},
    socket::Received,
};
use crate::core::{ControlMail, SessionId, ShardId, StreamKey, group_cache::CachedStream, stream::StreamPart};

/// Media mail that may wait for one shard. Default 16,384: 30 ms at half a million objects a second.
const MEDIA_MAX: usize = 16_384;
/// Letters that may wait for one shard. Default 65,536. A request, a deadline or a letter makes another shard's core at
/// most one letter for each shard, however many clients and messages it is about: so many are what 650 sessions cause in a
/// second at the rate of requests that they are granted, if this shard takes none of them, and it takes
/// [`super::engine::MAIL_PER_TURN`] a turn.
const CONTROL_MAX: usize = 65_536;

/// Letters that wait for some shard and from which on no shard, of so many, reads clients' streams: whoever asks
/// for much waits until what was asked for has been taken. What all inboxes hold then fits one of them with three quarters
/// left: for what these letters bring about there, one each, and for sessions that end, which cannot wait.
pub(super) fn held_from(shards: usize) -> usize {
    (CONTROL_MAX / (4 * shards)).max(MAIL_ROOM_MIN)
}

/// Even among very many shards so many may wait.
const MAIL_ROOM_MIN: usize = 256;

/// Media on its way to another shard's subscribers: one copy, however many they are.
#[derive(Debug)]
pub(super) enum MediaMail {
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
pub(super) enum Letter {
    /// Everything that one step of another core wants done here.
    Core(Vec<ControlMail>),
    /// The stream ends before its last byte.
    StreamAborted(StreamKey, StreamCode),
    /// Subscribers of a shard take a data stream too slowly, or fast enough again.
    StreamHold { key: StreamKey, by: ShardId, on: bool },
    /// The relay goes away: tell the clients.
    Drain(std::time::Duration),
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
}

/// Where others put mail for a shard.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    media: Sender<MediaMail>,
    control: Sender<Letter>,
    bell: Arc<Bell>,
}

/// A shard's own end of its [`Mailbox`].
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) media: Receiver<MediaMail>,
    pub(super) control: Receiver<Letter>,
    pub(super) bell: Arc<Bell>,
}

/// Wakes a shard that sleeps, and only then costs a system call.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) fd: OwnedFd,
    asleep: AtomicBool,
    /// Control mail was lost.
    desynchronised: AtomicBool,
}

/// A shard's mailbox and inbox.
///
/// # Errors
/// When the system has no descriptor left.
pub(super) fn inbox() -> std::io::Result<(Mailbox, Inbox)> {
    let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let bell = Arc::new(Bell { fd, asleep: AtomicBool::new(false), desynchronised: AtomicBool::new(false) });
    let (media_in, media) = bounded(MEDIA_MAX);
    let (control_in, control) = bounded(CONTROL_MAX);
    Ok((Mailbox { media: media_in, control: control_in, bell: bell.clone() }, Inbox { media, control, bell }))
}

impl Mailbox {
    /// Puts media into the inbox; `false` if it is full. Ring afterwards.
    pub(super) fn put_media(&self, mail: MediaMail) -> bool {
        self.media.try_send(mail).is_ok()
    }

    /// Puts control mail into the inbox, or marks the shard. Ring afterwards.
    pub(super) fn put_control(&self, letter: Letter) {
        if self.control.try_send(letter).is_err() {
            self.bell.desynchronised.store(true, Ordering::SeqCst);
        }
    }

    /// Letters that wait.
    pub(super) fn control_waits(&self) -> usize {
        self.control.len()
    }

    /// Wakes the shard if it sleeps.
    pub(super) fn ring(&self) {
        if self.bell.asleep.swap(false, Ordering::SeqCst) {
            // A full counter means that it has been rung already.
            let _ = rustix::io::write(&self.bell.fd, &1u64.to_ne_bytes());
        }
    }
}

impl Inbox {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.media.is_empty() && self.control.is_empty()
    }

    /// Says that the shard is about to sleep; look at [`Self::is_empty`] once more after it.
    pub(super) fn doze(&self) {
        self.bell.asleep.store(true, Ordering::SeqCst);
    }

    /// The shard is awake and need not be rung.
    pub(super) fn wake(&self) {
        self.bell.asleep.store(false, Ordering::SeqCst);
    }

    /// Stops the bell, whose descriptor is readable.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.bell.fd, &mut [0; 8]);
    }

    /// Whether control mail was lost since the last call.
    pub(super) fn take_desynchronised(&self) -> bool {
        self.bell.desynchronised.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn when_all_shards_stop_reading_an_inbox_has_room_for_what_waits_everywhere() {
        for shards in 1..=64 {
            assert!(shards * held_from(shards) <= CONTROL_MAX / 4, "{shards} shards");
        }
    }
}
