//! Objects for one other node: what waits here, and what has been handed to the link.
//!
//! To the ledger a node is a subscriber: what is owed to it is handed over or dropped for one of the same reasons. Whether that has
//! come, the other side tells ([`Sent`]).

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, SendDatagramError};
use supernode_proto::{
    close::StreamCode,
    control::TrackKind,
    object::{DATAGRAM_HEADER_BYTES_MAX, DatagramHeader, STREAM_HEADER_BYTES_MAX, StreamHeader, TrackAlias},
};

use crate::{
    core::{
        Address, StreamKey,
        fan_out::Offer,
        forward::Subscriber,
        group_cache::CachedStream,
        ledger::{DropReason, Ledger},
        limits::Limits,
        queue::DatagramQueue,
        stream::StreamPart,
    },
    shard::{
        quic::link_codec::LinkCodec,
        streams::{GRACE, egress::Egress, worth_least},
    },
};

/// Bytes of objects in datagrams that may wait for a node at one shard. Default 2 MiB: a quarter of a second at 64 Mbit/s, after
/// which they expire.
const DATAGRAMS_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of streams of media that may wait likewise. Default 8 MiB: sixteen times what waits for a client.
const STREAMS_BYTES: usize = 8 * 1024 * 1024;
/// QUIC's own buffer of datagrams, and what it is handed of it before packets are built; once the congestion controller holds it
/// back, one packet's worth. What waits here can still expire.
pub(super) const SEND_BYTES: usize = HANDOVER_BYTES + 2 * 1024;
const HANDOVER_BYTES: usize = 64 * 1024;
const HANDOVER_BLOCKED_BYTES: usize = 1_200;
/// Streams of data on a link at once. Default 32: the other side may leave all of them unread, each with a window's worth, and still
/// takes letters and media.
pub(super) const DATA_STREAMS_MAX: usize = 32;
/// First byte of a stream that begins with what came before anybody there subscribed.
pub(super) const LATE_STREAM: u8 = 0x02;
/// Share of the bound on a data stream's queue at which its publisher is held, and at which it goes on.
const HOLD_SHARE: usize = 4;
const RELEASE_SHARE: usize = 8;
/// How long a node may hold a stream before it loses it. Default 10 s, as a client may.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How many objects went one way between two shards of two nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// In datagrams.
    pub(crate) datagrams: u64,
    /// On streams, whole.
    pub(crate) objects: u64,
}

impl Sent {
    pub(super) fn add(&mut self, more: Self) {
        self.datagrams += more.datagrams;
        self.objects += more.objects;
    }
}

/// A publisher's stream whose node takes it too slowly, or fast enough again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) key: StreamKey,
    pub(crate) by: Address,
    pub(crate) on: bool,
}

/// What one life of a node is sent by this shard.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    datagrams: DatagramQueue,
    egress: Vec<(StreamKey, Egress)>,
    /// Bytes that wait on streams of media.
    streams_bytes: usize,
    /// Data streams whose publishers are held, by whom and since when.
    holding: Vec<(StreamKey, Address, Instant)>,
    /// Which shard there gathers a data stream.
    gathers: Vec<(StreamKey, Address)>,
    held_back: bool,
    /// All that was handed over, on all links.
    sent: Sent,
    /// The same as of the last two times that it was told what had come.
    sent_before: [Sent; 2],
    /// What came of it, as far as the node has told.
    came: Sent,
    /// What did not.
    lost: Sent,
}

impl Outgoing {
    /// An object in a datagram.
    pub(super) fn offer(
        &mut self,
        wire: Bytes,
        (header, kind): (&DatagramHeader, TrackKind),
        arrived: Instant,
        limits: &Limits,
        ledger: &mut Ledger,
    ) {
        let ttl = Duration::from_millis(header.hop.ttl_ms.into()).min(limits.queue_age_max);
        let alias = header.hop.alias;
        let offer = Offer { link: 0, next: None, alias, kind, arrived, expires: arrived + ttl };
        ledger.offered += 1;
        self.datagrams.push(offer, wire, DATAGRAMS_BYTES, ledger);
    }

    /// A stream begins.
    pub(super) fn open(
        &mut self,
        key: StreamKey,
        at: Address,
        (header, wire): (&StreamHeader, &Bytes),
        kind: TrackKind,
        (way, age_max): (Duration, Duration),
    ) {
        if kind == TrackKind::Data {
            self.gathers.push((key, at));
        }
        let mut shorter = *header;
        shorter.hop.ttl_ms = less(header.hop.ttl_ms, way);
        let wire = if shorter == *header || kind == TrackKind::Data { wire.clone() } else { stream_header(&shorter) };
        self.egress.push((key, egress(&shorter, wire, kind, age_max)));
    }

    /// Nobody there wants the layer of a stream that has just begun.
    pub(super) fn leave_out(&mut self, key: StreamKey, quic: &mut Connection, ledger: &mut Ledger) {
        if let Some((_, egress)) = self.egress.last_mut().filter(|(other, _)| *other == key) {
            egress.abandon(quic, StreamCode::LAYER_DROPPED, DropReason::LayerNotWanted, ledger);
        }
    }

    /// A stream as far as it has come, unless it is on its way already.
    pub(super) fn join(
        &mut self,
        stream: &CachedStream<StreamKey>,
        kind: TrackKind,
        (age_max, now): (Duration, Instant),
        quic: &mut Connection,
        ledger: &mut Ledger,
    ) {
        if self.egress.iter().any(|(other, egress)| *other == stream.key && !egress.is_abandoned()) {
            return;
        }
        self.egress.retain(|(other, _)| *other != stream.key);
        let mut wire = stream.wire.to_vec();
        if let Some(first) = wire.first_mut() {
            *first = LATE_STREAM;
        }
        self.egress.push((stream.key, egress(&stream.header, wire.into(), kind, age_max)));
        for part in &stream.parts {
            self.push(stream.key, part, (now + GRACE, usize::MAX), quic, ledger);
        }
        if stream.ended {
            self.finish(stream.key);
        }
    }

    /// A part of a stream, as soon as it has come.
    pub(super) fn push(
        &mut self,
        key: StreamKey,
        part: &StreamPart,
        (arrived, data_bytes_max): (Instant, usize),
        quic: &mut Connection,
        ledger: &mut Ledger,
    ) {
        let begins = u64::from(part.begins.is_some());
        ledger.offered += begins;
        let Some(at) = self.egress.iter().rposition(|(other, _)| *other == key) else {
            return ledger.drop(DropReason::Gone, begins);
        };
        let (_, egress) = &mut self.egress[at];
        if egress.is_reliable() {
            if egress.queue.bytes() + part.wire.len() > data_bytes_max {
                egress.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
            }
            return egress.push(part, arrived, ledger);
        }
        let before = egress.queue.bytes();
        egress.push(part, arrived, ledger);
        self.streams_bytes += egress.queue.bytes() - before;
        while self.streams_bytes > STREAMS_BYTES
            && let Some(worst) = worth_least(&self.egress)
        {
            let (_, worst) = &mut self.egress[worst];
            self.streams_bytes -= worst.queue.bytes();
            worst.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
        }
    }

    /// A stream has come to its end.
    pub(super) fn finish(&mut self, key: StreamKey) {
        if let Some((_, egress)) = self.egress.iter_mut().rfind(|(other, _)| *other == key) {
            egress.finish();
        }
    }

    /// A stream ends before its last byte.
    pub(super) fn abort(&mut self, key: StreamKey, code: StreamCode, quic: &mut Connection, ledger: &mut Ledger) {
        self.take_away(|other, _| other == key, (code, DropReason::Cancelled), quic, ledger);
    }

    /// The node takes no more of a track.
    pub(super) fn end_track(&mut self, alias: TrackAlias, quic: &mut Connection, ledger: &mut Ledger) {
        self.datagrams.purge(alias, ledger);
        let why = (StreamCode::UNSUBSCRIBED, DropReason::Unsubscribed);
        self.take_away(|_, of| of == alias, why, quic, ledger);
    }

    fn take_away(
        &mut self,
        which: impl Fn(StreamKey, TrackAlias) -> bool,
        (code, reason): (StreamCode, DropReason),
        quic: &mut Connection,
        ledger: &mut Ledger,
    ) {
        for (key, mut egress) in self.egress.extract_if(.., |(key, egress)| which(*key, egress.alias)) {
            if !egress.is_reliable() {
                self.streams_bytes -= egress.queue.bytes();
            }
            egress.abandon(quic, code, reason, ledger);
            self.gathers.retain(|(other, _)| *other != key);
        }
    }

    /// The link is lost: all that waits, and what has not been told to have come.
    pub(super) fn clear(&mut self, ledger: &mut Ledger, holds: &mut Vec<Hold>) {
        self.datagrams.clear(ledger);
        for (_, egress) in &mut self.egress {
            egress.queue.abandon(DropReason::Gone, ledger);
        }
        self.egress.clear();
        self.gathers.clear();
        holds.extend(self.holding.drain(..).map(|(key, by, _)| Hold { key, by, on: false }));
        (self.streams_bytes, self.held_back) = (0, false);
        self.sent_before = [self.sent; 2];
        self.lost = missing(self.sent, self.came);
    }

    /// The node says how much has come. Of what was sent some time ago nothing is on its way any more, but on streams of data,
    /// which may be held.
    pub(super) fn hear(&mut self, came: Sent) {
        let [before, _] = self.sent_before;
        let lost = missing(before, came);
        self.lost.datagrams = lost.datagrams;
        if self.gathers.is_empty() {
            self.lost.objects = lost.objects;
        }
        self.came = came;
        self.sent_before = [self.sent_before[1], self.sent];
    }

    /// Objects that did not come, as far as is known.
    pub(super) fn lost(&self) -> u64 {
        self.lost.datagrams + self.lost.objects
    }

    /// Whether anything waits.
    pub(super) fn waits(&self) -> bool {
        !self.datagrams.is_empty() || !self.egress.is_empty()
    }

    /// Hands over what waits, as far as there is room.
    pub(super) fn hand_over(&mut self, quic: &mut Connection, streams_max: usize, now: Instant, ledger: &mut Ledger) {
        let before = ledger.delivered;
        self.hand_over_datagrams(quic, now, ledger);
        let datagrams = ledger.delivered - before;
        let mut data =
            self.egress.iter().filter(|(_, egress)| egress.is_reliable() && egress.written().is_some()).count();
        let Self { egress, gathers, .. } = self;
        egress.retain_mut(|(key, egress)| {
            let is_new = egress.is_reliable() && egress.written().is_none();
            let streams_max = if is_new && data >= DATA_STREAMS_MAX { 0 } else { streams_max };
            let is_over = egress.flush(quic, streams_max, now, ledger);
            data += usize::from(is_new && egress.written().is_some());
            if is_over {
                gathers.retain(|(other, _)| other != key);
            }
            !is_over
        });
        let media = egress.iter().filter(|(_, egress)| !egress.is_reliable());
        self.streams_bytes = media.map(|(_, egress)| egress.queue.bytes()).sum();
        self.sent.add(Sent { datagrams, objects: ledger.delivered - before - datagrams });
    }

    fn hand_over_datagrams(&mut self, quic: &mut Connection, now: Instant, ledger: &mut Ledger) {
        let way = quic.rtt() / 2;
        loop {
            let used = (SEND_BYTES - size_of::<Bytes>()).saturating_sub(quic.datagrams().send_buffer_space());
            let handover = if self.held_back { HANDOVER_BLOCKED_BYTES } else { HANDOVER_BYTES };
            let Some((offer, wire)) = self.datagrams.take(handover.saturating_sub(used), now, ledger) else { return };
            let spent = now.saturating_duration_since(offer.arrived) + way;
            let Some(wire) = with_less_ttl(wire, spent) else {
                ledger.drop(DropReason::Expired, 1);
                continue;
            };
            let bytes = wire.len();
            match quic.datagrams().send(wire, false) {
                Ok(()) => {
                    ledger.write(offer.kind, bytes);
                    ledger.deliver(offer.kind, offer.arrived);
                    ledger.delivered_datagrams += 1;
                }
                Err(SendDatagramError::TooLarge) => ledger.drop(DropReason::TooLarge, 1),
                Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                    ledger.drop(DropReason::NoDatagrams, 1);
                }
                Err(SendDatagramError::Blocked(_)) => ledger.drop(DropReason::QueueFull, 1),
            }
        }
    }

    /// QUIC has built what it may: whether more could be handed over.
    pub(super) fn note_built(&mut self, quic: &mut Connection) -> bool {
        self.held_back = quic.datagrams().send_buffer_space() < SEND_BYTES - size_of::<Bytes>();
        !self.held_back && !self.datagrams.is_empty()
    }

    /// Data streams that are to be held or may go on. A node that stalls for too long loses the stream.
    pub(super) fn look_at_holds(
        &mut self,
        data_bytes_max: usize,
        quic: &mut Connection,
        now: Instant,
        ledger: &mut Ledger,
        holds: &mut Vec<Hold>,
    ) {
        let Self { egress, holding, gathers, .. } = self;
        let waits = |egress: &[(StreamKey, Egress)], key| {
            egress.iter().find(|(other, _)| *other == key).map_or(0, |(_, egress)| egress.queue.bytes())
        };
        for (key, by) in gathers.iter().copied() {
            let is_held = holding.iter().any(|(other, ..)| *other == key);
            if !is_held && waits(egress, key) > data_bytes_max / HOLD_SHARE {
                holding.push((key, by, now));
                holds.push(Hold { key, by, on: true });
            }
        }
        holding.retain(|(key, by, since)| {
            if now.saturating_duration_since(*since) > STALL_MAX
                && let Some((_, stalled)) = egress.iter_mut().find(|(other, _)| other == key)
            {
                stalled.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
            }
            let goes_on = waits(egress, *key) <= data_bytes_max / RELEASE_SHARE;
            if goes_on {
                holds.push(Hold { key: *key, by: *by, on: false });
            }
            !goes_on
        });
    }
}

fn missing(sent: Sent, came: Sent) -> Sent {
    Sent {
        datagrams: sent.datagrams.saturating_sub(came.datagrams),
        objects: sent.objects.saturating_sub(came.objects),
    }
}

fn egress(header: &StreamHeader, wire: Bytes, kind: TrackKind, age_max: Duration) -> Egress {
    let subscriber = Subscriber {
        link: 0,
        temporal_layer_max: u8::MAX,
        spatial_layer_max: u8::MAX,
        age_max,
        focus: false,
        speakers_max: 0,
        member: 0,
    };
    Egress::new(header, wire, kind, &subscriber, &LinkCodec::Native)
}

/// A time to live without what is spent of it.
fn less(ttl_ms: u32, spent: Duration) -> u32 {
    ttl_ms.saturating_sub(u32::try_from(spent.as_millis()).unwrap_or(u32::MAX))
}

/// A datagram whose time to live is shorter by what was spent of it; `None` if nothing is left. As it was if that is less than a
/// millisecond.
fn with_less_ttl(wire: Bytes, spent: Duration) -> Option<Bytes> {
    if spent < Duration::from_millis(1) {
        return Some(wire);
    }
    let (mut header, len) = DatagramHeader::decode(&wire).ok()?;
    header.hop.ttl_ms = less(header.hop.ttl_ms, spent);
    if header.hop.ttl_ms == 0 {
        return None;
    }
    let mut head = [0; DATAGRAM_HEADER_BYTES_MAX];
    let head_bytes = header.encode(&mut head);
    let mut shorter = BytesMut::with_capacity(head_bytes + wire.len() - len);
    shorter.extend_from_slice(head.get(..head_bytes)?);
    shorter.extend_from_slice(wire.get(len..)?);
    Some(shorter.freeze())
}

fn stream_header(header: &StreamHeader) -> Bytes {
    let mut head = [0; STREAM_HEADER_BYTES_MAX];
    let len = header.encode(&mut head);
    head.into_iter().take(len).collect()
}
