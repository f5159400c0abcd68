//! One client's connection: its control stream, and what waits for it.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use quinn_proto::{ConnectionHandle, SendDatagramError, StreamId, Transmit, WriteError};
use supernode_proto::{
    close::StreamCode,
    control::{FrameReader, TrackKind},
    object::TrackAlias,
};

use super::{
    costs::Cost,
    crumbs::Crumbs,
    gaps::{Gaps, Kept},
    gather::Gather,
    withheld::Withheld,
};
use crate::{
    core::{
        SessionId, StreamKey,
        fan_out::Offer,
        ledger::{DropReason, Ledger},
        pool::{Pool, Share},
        queue::DatagramQueue,
        rate_estimate::Sample,
        stream::StreamParser,
    },
    shard::{
        door::{newcomer::Newcomer, prefixes::Prefix},
        quic::{
            crypto::{self, Told},
            link_codec::{DatagramOut, LinkCodec, webtransport::Names},
            meter,
            transport::{
                DATAGRAM_SEND_BYTES, DATAGRAM_SEND_SPACE, HANDOVER_BLOCKED_BYTES, HANDOVER_BYTES, SEND_STREAM_BYTES,
                SEND_STREAMS, SEND_WINDOW,
            },
        },
        streams::egress::Egress,
    },
};

/// Bytes of streams that QUIC is given beyond what it may send now, so that it never idles between two turns.
const SEND_AHEAD_BYTES: u64 = 16 * 1024;
/// Streams are read and written before lower ones; the control stream before all media.
const CONTROL_PRIORITY: i32 = i32::MAX;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TLS is under way.
    Handshaking,
    /// The client has not said Hello yet.
    Greeting,
    /// Authenticated.
    Open(SessionId),
    /// Closing or closed.
    Closed,
}

/// A QUIC connection and the relay's state about it.
///
/// The order of its fields is kept: what every packet and every object needs comes first and together, because between two
/// turns other connections take the processor's caches, and each line that is not in them costs a tenth of a microsecond.
#[repr(C)]
pub(crate) struct Connection {
    /// Whether it is on the shard's list of those to look at.
    is_marked: bool,
    /// Whether something came in for it that has not been served: a packet, or a time.
    pub(super) news: bool,
    /// Whether its packets must be built now: something other than audio is on its way, or happened.
    pub(crate) urgent: bool,
    /// The congestion controller holds datagrams back.
    held_back: bool,
    /// Whether it may keep more or less of what its shard counts than when that was counted.
    uncounted: bool,
    /// Whether there are objects in datagrams that its turn had no time for.
    pub(crate) has_more: bool,
    /// How many deliveries its last objects made, on this shard.
    pub(crate) reach: u32,
    pub(super) cost: Cost,
    pub(crate) phase: Phase,
    /// What kind of link it is.
    pub(crate) codec: LinkCodec,
    /// What is kept of it until it is let in, also when it never is.
    pub(crate) newcomer: Option<Box<Newcomer>>,
    /// When the first of those packets arrived that have not been served yet.
    pub(crate) unserved_since: Option<Instant>,
    pub(super) crumbs: Crumbs,
    /// Streams with more to read than its turn had time for.
    pub(crate) unread: Vec<StreamId>,
    gather: Gather,
    pub(crate) datagrams: DatagramQueue,
    /// How much QUIC is handed at once: less after it was held back, and then twice as much each time all of it went.
    handover_bytes: usize,
    /// Datagrams that QUIC was ever handed.
    handed_over: u64,
    /// When the last object expires that QUIC may still hold.
    held_until: Option<Instant>,
    /// Media streams to this client, oldest first.
    pub(crate) egress: Vec<(StreamKey, Egress)>,
    /// Until when objects wait because its identity was sent too much.
    throttled_until: Option<Instant>,
    /// Bytes that it was sent and its identity not charged for.
    uncharged: u64,
    control_out_bytes: usize,
    control_out: VecDeque<Bytes>,
    pub(crate) control: Option<StreamId>,
    pub(crate) withheld: Withheld,

    pub(crate) handle: ConnectionHandle,
    /// The network that it came from.
    pub(crate) prefix: Prefix,
    pub(crate) reader: FrameReader,
    /// What QUIC keeps of its streams, and of its control stream.
    pub(crate) kept: Kept,
    pub(crate) control_gaps: Gaps,
    /// Bytes of control messages that its shard has counted for it.
    pub(super) control_counted: usize,
    /// What its client may have in flight: once it publishes, and then it may open media streams.
    pub(crate) receive_window: Option<Share>,
    /// What QUIC may have in flight to it: once it is sent a stream of media.
    pub(crate) send_window: Option<Share>,
    /// Media streams from this client.
    pub(crate) ingress: HashMap<StreamId, Ingress, FixedState>,
    /// Media streams that QUIC was handed to their ends, and the client does not have yet.
    pub(crate) finished: Vec<Finished>,
    pub(crate) quic: quinn_proto::Connection,
}

/// A media stream to a client that QUIC sends, and sends again where something is lost, without us.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) id: StreamId,
    pub(crate) alias: TrackAlias,
    /// Its track is over, and no subscription is left to end it by.
    pub(crate) track_ended: bool,
}

/// A media stream from a publisher.
#[derive(Debug)]
pub(crate) struct Ingress {
    pub(crate) key: StreamKey,
    /// What its track carries, once its header has been read.
    pub(crate) kind: TrackKind,
    pub(crate) parser: StreamParser,
    /// Bytes that other shards have not said that they have seen; of data only.
    pub(crate) unseen_bytes: usize,
    pub(crate) gaps: Gaps,
}

impl Connection {
    /// What every packet and every object needs of it.
    pub(super) const HOT_BYTES: usize = std::mem::offset_of!(Self, handle);

    pub(crate) fn new(
        quic: quinn_proto::Connection,
        handle: ConnectionHandle,
        prefix: Prefix,
        newcomer: Newcomer,
    ) -> Self {
        Self {
            is_marked: false,
            news: true,
            urgent: true,
            held_back: false,
            uncounted: false,
            cost: Cost::default(),
            phase: Phase::Handshaking,
            codec: LinkCodec::default(),
            newcomer: Some(Box::new(newcomer)),
            unserved_since: None,
            crumbs: Crumbs::default(),
            has_more: false,
            reach: 0,
            unread: Vec::new(),
            gather: Gather::default(),
            datagrams: DatagramQueue::default(),
            handover_bytes: HANDOVER_BYTES,
            handed_over: 0,
            held_until: None,
            egress: Vec::new(),
            throttled_until: None,
            uncharged: 0,
            control_out_bytes: 0,
            control_out: VecDeque::new(),
            control: None,
            withheld: Withheld::default(),
            handle,
            prefix,
            reader: FrameReader::default(),
            kept: Kept::default(),
            control_gaps: Gaps::default(),
            control_counted: 0,
            receive_window: None,
            send_window: None,
            ingress: HashMap::default(),
            finished: Vec::new(),
            quic,
        }
    }

    /// TLS has agreed on a protocol: what kind of link it is follows from that.
    pub(crate) fn set_codec(&mut self) {
        let Told { page, is_node, .. } = crypto::told(self.quic.crypto_session());
        if let Some(newcomer) = &mut self.newcomer {
            newcomer.is_node = is_node;
        }
        if let (Some(hosts), Some(newcomer)) = (page, &self.newcomer) {
            self.codec = LinkCodec::web_transport(Names { pin: newcomer.pin, hosts });
        }
    }

    /// Its turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.crumbs.turn();
    }

    /// Whether its client sends pieces of TLS without end.
    pub(crate) fn has_too_much_tls(&self) -> bool {
        self.crumbs.has_too_much_tls()
    }

    /// Puts it on the list of those to look at.
    pub(super) fn mark(&mut self, link: u32, marked: &mut Vec<u32>) {
        if !self.is_marked {
            self.is_marked = true;
            marked.push(link);
        }
    }

    /// It is looked at. Returns until when what it is to be sent may wait, if its packets are not to be built now: audio
    /// may gather for a moment, so that several people's objects share a packet.
    pub(crate) fn may_gather(&mut self, budget: Duration, now: Instant) -> Option<Instant> {
        self.is_marked = false;
        let is_urgent = std::mem::take(&mut self.urgent);
        let until = if is_urgent { None } else { self.gather.wait(budget, now) };
        if until.is_none() {
            self.gather.sent(now);
        }
        until
    }

    /// The session, if it is open.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Open(session) => Some(session),
            Phase::Handshaking | Phase::Greeting | Phase::Closed => None,
        }
    }

    /// Queues a control message in its frame; `false` if more wait than `backlog_max` bytes.
    pub(crate) fn send_frame(&mut self, frame: Bytes, backlog_max: usize) -> bool {
        self.control_out_bytes += frame.len();
        self.control_out.push_back(frame);
        self.uncounted = true;
        self.control_out_bytes <= backlog_max
    }

    /// Whether control messages wait to be written.
    pub(crate) fn control_waits(&self) -> bool {
        !self.control_out.is_empty()
    }

    /// Whether a control message leaves no more than `bytes_max` waiting, or is the only one.
    pub(crate) fn has_room_for(&self, frame_bytes: usize, bytes_max: usize) -> bool {
        self.control_out.is_empty() || self.control_out_bytes + frame_bytes <= bytes_max
    }

    /// Whether more control messages wait than QUIC takes of itself.
    pub(crate) fn is_behind(&self) -> bool {
        self.control_out_bytes > SEND_WINDOW
    }

    /// Lets QUIC hold little more than it may send, as far as that is there for all: what waits in our queues can still
    /// expire. Returns how many streams it may hold: as many as it has, and some.
    pub(crate) fn widen(&mut self, windows: &Pool, pool_max: u64) -> usize {
        let window = self.quic.congestion_state().window();
        let wanted = (window + window / 4 + SEND_AHEAD_BYTES) as usize;
        let streams = self.quic.streams().send_streams() * SEND_STREAM_BYTES;
        let share = self.send_window.get_or_insert_with(|| windows.share());
        let granted = share.take(streams + wanted.saturating_sub(SEND_WINDOW), pool_max);
        let streams = streams.min(granted);
        self.quic.set_send_window((SEND_WINDOW + granted - streams) as u64);
        SEND_STREAMS + streams / SEND_STREAM_BYTES
    }

    /// Writes as much of the waiting control messages as the connection takes.
    pub(crate) fn flush_control(&mut self) {
        let Some(id) = self.control else { return };
        let mut stream = self.quic.send_stream(id);
        while let Some(front) = self.control_out.front_mut() {
            match stream.write_chunks(std::slice::from_mut(front)) {
                Ok(written) => {
                    self.control_out_bytes -= written.bytes;
                    self.uncounted = true;
                    if front.is_empty() {
                        self.control_out.pop_front();
                        if self.control_out.is_empty() {
                            // A session may have nothing to be told for hours: it does not keep what a burst took.
                            self.control_out = VecDeque::new();
                        }
                    }
                }
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
    }

    /// The client's control stream.
    pub(crate) fn accept_control(&mut self, id: StreamId) {
        self.control = Some(id);
        // A stream that was just opened by the peer is not closed.
        let _ = self.quic.send_stream(id).set_priority(CONTROL_PRIORITY);
    }

    /// Takes an object in a datagram: hands it to QUIC, or queues it behind what waits already.
    pub(crate) fn offer_datagram(
        &mut self,
        offer: &Offer,
        out: &DatagramOut<'_>,
        queue_bytes_max: usize,
        ledger: &mut Ledger,
    ) {
        let wire = out.on(&self.codec);
        if offer.is_audio() {
            self.gather.add(wire.len(), offer.arrived);
        }
        if self.datagrams.is_clear(offer.is_audio()) && wire.len() <= self.handover_room() {
            self.hand_over(offer, wire.clone(), ledger);
        } else {
            self.datagrams.push(*offer, wire.clone(), queue_bytes_max, ledger);
        }
    }

    /// The next packets that are to be sent, at most so many of one length.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = match self.phase {
            Phase::Closed => self.poll_goodbye(now, buffer),
            Phase::Handshaking | Phase::Greeting | Phase::Open(_) => self.quic.poll_transmit(now, segments_max, buffer),
        }?;
        self.uncharged += transmit.size as u64;
        Some(transmit)
    }

    /// Until when it waits for its client to have read why its session was closed.
    pub(crate) fn lingers_until(&self) -> Option<Instant> {
        self.codec.lingers_until().filter(|_| !self.quic.is_closed())
    }

    #[cold]
    #[inline(never)]
    fn poll_goodbye(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        if self.lingers_until().is_some_and(|until| now < until) {
            return self.quic.poll_transmit(now, 1, buffer);
        }
        self.codec.hang_up(&mut self.quic, now);
        meter::poll_goodbye(&mut self.quic, now, buffer)
    }

    /// Bytes that it was sent and not charged for, packets and all, if they are so many.
    pub(crate) fn take_uncharged(&mut self, bytes_min: u64) -> Option<u64> {
        (self.uncharged >= bytes_min).then(|| std::mem::take(&mut self.uncharged))
    }

    /// Lets objects wait for so long: QUIC is handed none, as if the path took no more.
    pub(crate) fn throttle(&mut self, wait: Duration, now: Instant) {
        if !wait.is_zero() {
            self.throttled_until = Some(now + wait);
            self.handover_bytes = 0;
        }
    }

    /// Whether objects have to wait.
    pub(crate) fn is_throttled(&mut self, now: Instant) -> bool {
        if self.throttled_until.is_some_and(|until| until <= now) {
            self.throttled_until = None;
            self.handover_bytes = HANDOVER_BLOCKED_BYTES;
        }
        self.throttled_until.is_some()
    }

    /// What QUIC has of its streams may have changed, or what has come of its control messages.
    pub(crate) fn count_anew(&mut self) {
        self.uncounted = true;
    }

    /// Whether what its shard counts of it may have changed since it was counted.
    pub(super) fn take_uncounted(&mut self) -> bool {
        debug_assert!(
            self.uncounted
                || (self.control_counted, self.kept.counted) == (self.control_bytes(), self.kept.beyond_window()),
            "something changed that was not said"
        );
        std::mem::take(&mut self.uncounted)
    }

    /// Bytes of control messages that wait for it to read, or have not come whole.
    pub(super) fn control_bytes(&self) -> usize {
        self.control_out_bytes + self.reader.waiting()
    }

    /// Bytes of memory that what waits for it keeps.
    pub(crate) fn held(&self) -> usize {
        self.datagrams.held() + self.egress.iter().map(|(_, egress)| egress.queue.held()).sum::<usize>()
    }

    /// Hands over what waits, as far as there is room; returns whether anything went. What QUIC holds of earlier turns
    /// is taken back once all of it has expired.
    pub(crate) fn refill(&mut self, now: Instant, ledger: &mut Ledger) -> bool {
        if self.held_back && self.held_until.is_some_and(|until| until <= now) {
            self.recall(ledger);
        }
        let mut handed = false;
        while !self.datagrams.is_empty() {
            let room = self.handover_room();
            let Some((offer, wire)) = self.datagrams.take(room, now, ledger) else { break };
            handed |= self.hand_over(&offer, wire, ledger);
        }
        handed
    }

    /// QUIC has built all the packets it may: notes whether it holds datagrams back.
    pub(crate) fn note_held_back(&mut self) {
        let holds = self.handed_over_bytes() > 0;
        if holds {
            self.handover_bytes = self.handover_bytes.min(HANDOVER_BLOCKED_BYTES);
        } else {
            self.held_until = None;
            if !self.held_back {
                self.handover_bytes = (self.handover_bytes * 2).min(HANDOVER_BYTES);
            }
        }
        self.held_back = holds;
    }

    /// Takes back what QUIC was handed and has not sent: whoever was put out of a room gets nothing more of it.
    ///
    /// QUIC has no call for that, but a newer datagram may push the oldest ones out. So many short ones as its buffer
    /// holds push out everything else; they take two to four bytes each of the next packets, and clients ignore them.
    pub(crate) fn recall(&mut self, ledger: &mut Ledger) {
        self.take_back(|finished| finished.track_ended);
        if self.held_until.take().is_none() {
            return;
        }
        let sent = self.quic.stats().frame_tx.datagram;
        ledger.recalled += self.handed_over.saturating_sub(sent);
        self.handed_over = sent;
        for _ in 0..DATAGRAM_SEND_BYTES / size_of::<Bytes>() {
            // It is refused only where no datagram could be sent at all.
            self.handed_over += u64::from(self.quic.datagrams().send(self.codec.ignored_datagram(), true).is_ok());
        }
    }

    /// Whether any object waits.
    pub(crate) fn waits(&self) -> bool {
        !self.datagrams.is_empty() || self.egress.iter().any(|(_, egress)| egress.queue.bytes() > 0)
    }

    /// How long the oldest object has waited that is not of a data track's stream: those may wait.
    pub(crate) fn oldest(&self, now: Instant) -> Duration {
        let media = self.egress.iter().filter(|(_, egress)| !egress.is_reliable());
        let streams = media.map(|(_, egress)| egress.queue.oldest(now)).max();
        self.datagrams.oldest(now).max(streams.unwrap_or_default())
    }

    /// A subscription ended: nothing of the track may go out any more.
    pub(crate) fn purge(&mut self, alias: TrackAlias, code: StreamCode, ledger: &mut Ledger) {
        self.datagrams.purge(alias, ledger);
        for (_, egress) in self.egress.iter_mut().filter(|(_, egress)| egress.alias == alias) {
            egress.abandon(&mut self.quic, code, DropReason::Unsubscribed, ledger);
        }
        if code == StreamCode::TRACK_ENDED {
            // What was said before the end is still heard.
            let of_track = self.finished.iter_mut().filter(|finished| finished.alias == alias);
            of_track.for_each(|finished| finished.track_ended = true);
        } else {
            self.take_back(|finished| finished.alias == alias);
        }
    }

    /// The client has a stream to its end, or wants no more of it.
    pub(crate) fn forget_finished(&mut self, id: StreamId) {
        self.finished.retain(|finished| finished.id != id);
    }

    /// QUIC sends nothing more of these streams, whatever of them is lost on the way.
    fn take_back(&mut self, is_meant: impl Fn(&Finished) -> bool) {
        if crate::planted::planted!(FinishedGoOn) {
            return;
        }
        let Self { finished, quic, codec, .. } = self;
        for Finished { id, .. } in finished.extract_if(.., |finished| is_meant(finished)) {
            // One that the client has stopped meanwhile is closed already.
            let _ = quic.send_stream(id).reset(codec.stream_codes().of(StreamCode::UNSUBSCRIBED));
        }
    }

    /// The ladder takes no more of a stream's layer.
    pub(crate) fn drop_layer(&mut self, key: StreamKey, reason: DropReason, ledger: &mut Ledger) {
        if let Some((_, egress)) = self.egress.iter_mut().find(|(other, _)| *other == key) {
            egress.abandon(&mut self.quic, StreamCode::LAYER_DROPPED, reason, ledger);
        }
    }

    /// What its path shows now.
    pub(crate) fn sample(&self, now: Instant) -> Sample {
        let (acked_bytes, rtt) = (meter::acked_bytes(&self.quic), self.quic.rtt());
        Sample { at: now, acked_bytes, rtt, held_back: self.held_back || self.waits() }
    }

    /// The connection is gone, and with it everything that waited for it.
    pub(crate) fn clear(&mut self, ledger: &mut Ledger) {
        self.datagrams.clear(ledger);
        for (_, egress) in &mut self.egress {
            egress.queue.abandon(DropReason::Gone, ledger);
        }
        self.egress.clear();
        self.finished = Vec::new();
        self.unread = Vec::new();
        self.control_out = VecDeque::new();
        self.control_out_bytes = 0;
        self.reader = FrameReader::default();
        self.uncounted = true;
        (self.receive_window, self.send_window) = (None, None);
    }

    /// Refuses a stream that the client sends.
    pub(crate) fn stop(&mut self, id: StreamId, code: StreamCode) {
        // A stream that has ended by itself needs no stopping.
        let _ = self.quic.recv_stream(id).stop(self.codec.stream_codes().of(code));
    }

    fn hand_over(&mut self, offer: &Offer, wire: Bytes, ledger: &mut Ledger) -> bool {
        let bytes = wire.len();
        match self.quic.datagrams().send(wire, false) {
            Ok(()) => {
                self.handed_over += 1;
                self.held_until = self.held_until.max(Some(offer.expires));
                ledger.write(offer.kind, bytes);
                ledger.deliver(offer.kind, offer.arrived);
                ledger.delivered_datagrams += 1;
                if crate::planted::planted!(DeliveredTwice, once in 100) {
                    ledger.deliver(offer.kind, offer.arrived);
                }
                return true;
            }
            Err(SendDatagramError::TooLarge) => ledger.drop(DropReason::TooLarge, 1),
            Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                ledger.drop(DropReason::NoDatagrams, 1);
            }
            // `handover_room` is far below QUIC's own bound.
            Err(SendDatagramError::Blocked(_)) => ledger.drop(DropReason::QueueFull, 1),
        }
        false
    }

    fn handed_over_bytes(&mut self) -> usize {
        DATAGRAM_SEND_SPACE.saturating_sub(self.quic.datagrams().send_buffer_space())
    }

    fn handover_room(&mut self) -> usize {
        // Nothing is added to what QUIC could not send: so all of it is about as old.
        if self.held_back { 0 } else { self.handover_bytes.saturating_sub(self.handed_over_bytes()) }
    }
}
