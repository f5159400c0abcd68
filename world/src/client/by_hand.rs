//! A client that does what a test says and nothing else, and keeps all that comes.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};
use quinn_proto::{Dir, ReadError, StreamId, VarInt};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::{Rung, client_message::Body as Request},
    object::TrackAlias,
};
use supernode_session::{Demand, Event, Moment, Reply, RoomEvent};

use super::{Asked, Client, Context, link::Stage};

/// What it was told to send, and what has come.
#[derive(Default)]
pub struct ByHand {
    /// What the relay said unasked, and when it came.
    pub news: VecDeque<(Moment, News)>,
    /// Objects in datagrams, and when each came.
    pub datagrams: Vec<(Moment, Bytes)>,
    /// Media streams, in the order in which they came.
    pub streams: Vec<Incoming>,
    /// By what its connection was closed, if it was.
    pub closed: Option<CloseCode>,
    replies: BTreeMap<u64, Reply>,
    asked: u64,
    outgoing: BTreeMap<StreamId, Outgoing>,
    /// Streams are left unread.
    leaves_unread: bool,
}

/// Something that the relay said unasked, as far as tests ask for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum News {
    /// It was put out of its room.
    Kicked,
    /// Who takes a track of its own.
    Demand(TrackAlias, Demand),
    /// Somebody needs a key frame of a track of its own.
    KeyframeRequested(TrackAlias),
    /// The relay sends it so much.
    Rung(Rung),
    /// Anything else.
    Other,
}

/// A media stream that comes.
pub struct Incoming {
    id: StreamId,
    /// What has come of it.
    pub bytes: Vec<u8>,
    /// How it ended, if it did: whole, or by this code.
    pub end: Option<Result<(), StreamCode>>,
    /// When the last of it came.
    pub at: Moment,
}

/// A stream that goes.
#[derive(Default)]
struct Outgoing {
    rest: VecDeque<Bytes>,
    is_whole: bool,
}

impl Client {
    /// From now on it does nothing by itself.
    pub fn go_by_hand(&mut self) {
        self.by_hand = Some(Box::default());
    }

    /// What a client by hand has.
    ///
    /// # Panics
    /// If it goes by itself.
    pub fn hand(&self) -> &ByHand {
        self.by_hand.as_ref().expect("it goes by hand")
    }

    /// The same, to take things out.
    ///
    /// # Panics
    /// If it goes by itself.
    pub fn hand_mut(&mut self) -> &mut ByHand {
        self.by_hand.as_mut().expect("it goes by hand")
    }

    /// Asks for something. The reply is had by the number that is returned.
    pub fn ask_by_hand(&mut self, request: Request) -> u64 {
        let hand = self.hand_mut();
        hand.asked += 1;
        let number = hand.asked;
        self.ask(request, Asked::ByHand(number));
        number
    }

    /// Takes a reply.
    pub fn take_reply(&mut self, number: u64) -> Option<Reply> {
        self.hand_mut().replies.remove(&number)
    }

    /// Enters the room with its secret.
    pub fn join_by_hand(&mut self, room: usize, cx: &mut Context<'_>) -> Option<u64> {
        let request = self.join_request(room, cx.cast)?;
        Some(self.ask_by_hand(request))
    }

    /// Sends an object in a datagram; whether QUIC took it.
    pub fn send_datagram(&mut self, wire: Bytes) -> bool {
        self.link_mut().is_some_and(|link| link.quic.datagrams().send(wire, true).is_ok())
    }

    /// Opens a media stream.
    pub fn open_stream(&mut self) -> Option<StreamId> {
        let id = self.link_mut()?.quic.streams().open(Dir::Uni)?;
        self.hand_mut().outgoing.insert(id, Outgoing::default());
        Some(id)
    }

    /// Writes to it, as fast as QUIC takes it.
    pub fn write_stream(&mut self, id: StreamId, bytes: &[u8]) {
        if let Some(stream) = self.hand_mut().outgoing.get_mut(&id) {
            stream.rest.push_back(Bytes::copy_from_slice(bytes));
        }
    }

    /// Ends it behind what was written.
    pub fn finish_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.hand_mut().outgoing.get_mut(&id) {
            stream.is_whole = true;
        }
    }

    /// How many bytes QUIC has not taken of what was written.
    pub fn unsent(&self) -> usize {
        self.hand().outgoing.values().flat_map(|stream| &stream.rest).map(Bytes::len).sum()
    }

    /// Leaves media streams unread from now on, or reads them again.
    pub fn leave_streams_unread(&mut self, is_unread: bool) {
        self.hand_mut().leaves_unread = is_unread;
    }

    /// Datagrams that its connection has received.
    pub fn datagrams_in(&mut self) -> u64 {
        self.link_mut().map_or(0, |link| link.quic.stats().udp_rx.datagrams)
    }

    pub(super) fn keep_news(&mut self, now: Moment) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Reply { to: Asked::ByHand(number), reply } => {
                    self.has.waiting = self.has.waiting.saturating_sub(1);
                    self.hand_mut().replies.insert(number, reply);
                }
                Event::KeyPackagesWanted(_) => self.session.deposit(None, []),
                event => {
                    let news = match event {
                        Event::Room(_, RoomEvent::MemberLeft { kicked: true, .. }) => News::Kicked,
                        Event::Demand(alias, demand) => News::Demand(alias, demand),
                        Event::KeyframeRequested(alias) => News::KeyframeRequested(alias),
                        Event::RungChanged(rung) => News::Rung(rung),
                        _ => News::Other,
                    };
                    self.hand_mut().news.push_back((now, news));
                }
            }
        }
    }

    /// Gives QUIC what it takes of streams.
    pub(super) fn send_by_hand(&mut self) {
        let Self { links, by_hand, current, .. } = self;
        let (Some(hand), Some(link)) = (by_hand, links.iter_mut().find(|link| Some(link.serial) == *current)) else {
            return;
        };
        hand.outgoing.retain(|id, stream| {
            while let Some(front) = stream.rest.front_mut() {
                match link.quic.send_stream(*id).write(front) {
                    Ok(taken) => front.advance(taken),
                    Err(_) => return true,
                }
                if front.is_empty() {
                    stream.rest.pop_front();
                }
            }
            !(stream.is_whole && link.quic.send_stream(*id).finish().is_ok())
        });
    }

    /// Keeps what a connection has of objects.
    pub(super) fn keep_objects(&mut self, place: usize, cx: &mut Context<'_>) {
        let Self { links, by_hand: Some(hand), .. } = self else { return };
        let link = &mut links[place];
        if !matches!(link.stage, Stage::Open) {
            return;
        }
        while let Some(datagram) = link.quic.datagrams().recv() {
            // The relay sends empty ones, to push others out of QUIC's buffer.
            if !datagram.is_empty() {
                hand.datagrams.push((cx.now, datagram));
            }
        }
        while let Some(id) = link.quic.streams().accept(Dir::Uni) {
            hand.streams.push(Incoming { id, bytes: Vec::new(), end: None, at: cx.now });
        }
        if hand.leaves_unread {
            return;
        }
        for stream in hand.streams.iter_mut().filter(|stream| stream.end.is_none()) {
            let mut incoming = link.quic.recv_stream(stream.id);
            let Ok(mut chunks) = incoming.read(true) else { continue };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => {
                        stream.bytes.extend_from_slice(&chunk.bytes);
                        stream.at = cx.now;
                    }
                    Ok(None) => stream.end = Some(Ok(())),
                    Err(ReadError::Reset(code)) => stream.end = Some(Err(StreamCode(VarInt::into_inner(code)))),
                    Err(ReadError::Blocked) => break,
                }
                if stream.end.is_some() {
                    break;
                }
            }
            let _ = chunks.finalize();
        }
    }
}
