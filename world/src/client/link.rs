//! One QUIC connection of a client, with its control stream and the media that comes on it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Dir, FrameStats, StreamId, VarInt, WriteError};
use supernode_proto::{
    close::CloseCode,
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
};
use supernode_session::{Clocks, Greeting, Moment, Seen, Silence, StreamReader, Verdict};

use crate::clock::Clock;

/// A relay that leaves questions open for so long is gone: the SDK's default.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// The connection and what waits for it.
pub(super) struct Link {
    /// QUIC.
    pub(super) quic: Connection,
    /// Its number at the endpoint.
    pub(super) handle: ConnectionHandle,
    /// Its number among all connections of the world.
    pub(super) serial: u64,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Media streams that are being read.
    pub(super) streams: BTreeMap<StreamId, StreamIn>,
    /// When the first packet left the relay of those that came since objects were read last.
    pub(super) unread_since: Option<Moment>,
    /// When the last packet left the relay of all that have come.
    pub(super) left_latest: Moment,
    /// The relay's process at the other end.
    pub(super) process: u16,
    control: Option<StreamId>,
    to_write: VecDeque<Bytes>,
    silence: Silence,
    look_at: Moment,
}

/// How far a connection has come.
pub(super) enum Stage {
    /// In its handshake.
    Dialing,
    /// Hello is said.
    Greeting(Box<Greeting>),
    /// The session is on it.
    Open,
    /// The relay was silent, or another connection has taken its place: it is left to itself.
    Left,
}

/// A media stream.
pub(super) struct StreamIn {
    /// Cuts it into objects.
    pub(super) reader: StreamReader,
    /// The object that comes next on a stream of data, and must not come again on any.
    pub(super) object_next: u64,
}

/// What a look at a connection found.
#[derive(PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Sound,
    /// The relay is gone.
    Gone,
}

impl Link {
    /// A connection that has just begun.
    pub(super) fn new(quic: Connection, handle: ConnectionHandle, serial: u64, now: Moment) -> Self {
        Self {
            quic,
            handle,
            serial,
            stage: Stage::Dialing,
            streams: BTreeMap::new(),
            unread_since: None,
            left_latest: Moment::default(),
            process: 0,
            control: None,
            to_write: VecDeque::new(),
            silence: Silence::new(SILENCE_MAX),
            look_at: now,
        }
    }

    /// Opens the control stream, once the handshake is done.
    pub(super) fn open_control(&mut self) {
        self.control = self.quic.streams().open(Dir::Bi);
        if let Some(id) = self.control {
            let _ = self.quic.send_stream(id).set_priority(100);
        }
    }

    /// What binds signatures to this connection.
    pub(super) fn exporter(&self) -> [u8; EXPORTER_BYTES] {
        let mut exporter = [0; EXPORTER_BYTES];
        let exported = self.quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        exported.expect("the handshake is done");
        exporter
    }

    /// Queues bytes of the control stream.
    pub(super) fn write(&mut self, bytes: Bytes) {
        self.to_write.push_back(bytes);
    }

    /// Writes as much of them as QUIC takes.
    pub(super) fn flush_control(&mut self) {
        let Some(id) = self.control else { return };
        let mut stream = self.quic.send_stream(id);
        while let Some(front) = self.to_write.front_mut() {
            match stream.write_chunks(std::slice::from_mut(front)) {
                Ok(_) if front.is_empty() => drop(self.to_write.pop_front()),
                Ok(_) => {}
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
    }

    /// What has come on the control stream.
    pub(super) fn read_control(&mut self) -> Vec<Bytes> {
        let Some(id) = self.control else { return Vec::new() };
        let mut read = Vec::new();
        let mut stream = self.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return read };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            read.push(chunk.bytes);
        }
        let _ = chunks.finalize();
        read
    }

    /// Ends it with a reason.
    pub(super) fn close(&mut self, code: CloseCode, now: Moment, clock: &Clock) {
        self.quic.close(clock.instant(now), VarInt::from_u32(code.0 as u32), Bytes::new());
    }

    /// Looks whether the relay is still there, when it is time to.
    pub(super) fn look(&mut self, now: Moment) -> Look {
        if now < self.look_at || !matches!(self.stage, Stage::Open) {
            return Look::Sound;
        }
        self.look_at = now + Silence::LOOK_EVERY;
        let stats = self.quic.stats();
        let seen = Seen { heard: stats.udp_rx.datagrams, asked: asked(&stats.frame_tx) };
        match self.silence.look(Clocks { moment: now, unix: Clock::unix(now) }, seen) {
            Verdict::Sound => Look::Sound,
            Verdict::Ask => {
                // An empty datagram says nothing and is acknowledged.
                let _ = self.quic.datagrams().send(Bytes::new(), true);
                Look::Sound
            }
            Verdict::Gone => Look::Gone,
        }
    }

    /// When it wants to be driven although nothing comes.
    pub(super) fn poll_timeout(&mut self, clock: &Clock) -> Option<Moment> {
        let quic = self.quic.poll_timeout().map(|at| clock.moment(at));
        let look = matches!(self.stage, Stage::Open).then_some(self.look_at);
        [quic, look].into_iter().flatten().min()
    }
}

/// How many frames were sent that must be acknowledged (RFC 9000 section 13.2.1).
fn asked(sent: &FrameStats) -> u64 {
    let control = [sent.crypto, sent.stream, sent.datagram, sent.ping, sent.immediate_ack, sent.ack_frequency];
    let streams = [sent.reset_stream, sent.stop_sending, sent.max_data, sent.max_stream_data];
    let paths = [sent.new_connection_id, sent.retire_connection_id, sent.path_challenge, sent.path_response];
    let blocked = [sent.data_blocked, sent.stream_data_blocked, sent.max_streams_bidi, sent.max_streams_uni];
    let frames = control.iter().chain(&streams).chain(&paths).chain(&blocked);
    frames.sum::<u64>() + sent.streams_blocked_bidi + sent.streams_blocked_uni
}
