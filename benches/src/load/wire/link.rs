//! One QUIC connection of a client, with its session.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Dir, SendDatagramError, StreamId, VarInt, WriteError};
use supernode_proto::{
    close::CloseCode,
    control::{Hello, client_message},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
};
use supernode_session::{Channel, Event, Greeting, Session};

use crate::load::{
    client::Pending,
    page::{self, Page},
};

/// The connection and what waits for it.
pub(crate) struct Link {
    pub(crate) quic: Connection,
    pub(crate) handle: ConnectionHandle,
    /// Whose it is, by the place in its worker.
    pub(crate) client: usize,
    /// The UDP socket it uses.
    pub(crate) socket: usize,
    /// On the worker's list of links to serve.
    pub(crate) dirty: bool,
    /// The entry of the worker's heap of deadlines that counts.
    pub(crate) armed: Option<Instant>,
    /// When its last packet was read from the socket.
    pub(crate) read_at: Instant,
    /// When the objects were due that QUIC has taken since it had none to send.
    pub(crate) waiting: Vec<u64>,
    /// Of a page's link, how far its session has come.
    pub(crate) page: Option<Page>,
    /// QUIC's room for datagrams when it has none to send.
    datagram_room: usize,
    control: Option<StreamId>,
    /// Until the relay lets it in.
    greeting: Option<Greeting>,
    /// From then on.
    session: Option<Session<Pending>>,
    /// What of the control stream QUIC has not taken yet.
    to_write: Bytes,
}

impl Link {
    pub(crate) fn new(
        mut quic: Connection,
        handle: ConnectionHandle,
        client: usize,
        socket: usize,
        is_page: bool,
        now: Instant,
    ) -> Self {
        let datagram_room = quic.datagrams().send_buffer_space();
        Self {
            quic,
            handle,
            client,
            socket,
            dirty: false,
            armed: None,
            read_at: now,
            waiting: Vec::new(),
            page: is_page.then(Page::default),
            datagram_room,
            control: None,
            greeting: None,
            session: None,
            to_write: Bytes::new(),
        }
    }

    /// Says Hello on the control stream, once the handshake is done.
    pub(crate) fn greet(&mut self, channel: Channel, hello: Hello) {
        let (greeting, hello) = Greeting::new(channel, hello);
        let hello = match self.page {
            Some(_) => [&page::CONTROL_HEADER, &hello[..]].concat().into(),
            None => hello,
        };
        (self.greeting, self.to_write) = (Some(greeting), hello);
        self.control = self.quic.streams().open(Dir::Bi);
        if let Some(id) = self.control {
            // Before all media, as the relay does.
            let _ = self.quic.send_stream(id).set_priority(i32::MAX);
        }
    }

    /// What binds signatures to this connection.
    pub(crate) fn exporter(&self) -> Option<[u8; EXPORTER_BYTES]> {
        let mut exporter = [0; EXPORTER_BYTES];
        self.quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).ok()?;
        Some(exporter)
    }

    /// The session, once the relay has let the client in.
    pub(crate) fn session(&mut self) -> Option<&mut Session<Pending>> {
        self.session.as_mut()
    }

    /// Asks for something; nothing if the relay has not let the client in.
    pub(crate) fn ask(&mut self, request: client_message::Body, pending: Pending) {
        if let Some(session) = &mut self.session {
            // It has its connection for as long as the link.
            let _ = session.ask(request, pending);
        }
    }

    /// Writes as much of the waiting requests as the connection takes.
    pub(crate) fn flush_control(&mut self) {
        let Some(id) = self.control else { return };
        loop {
            if self.to_write.is_empty() {
                let Some(next) = self.session.as_mut().and_then(Session::poll_bytes) else { return };
                self.to_write = next;
            }
            match self.quic.send_stream(id).write_chunks(std::slice::from_mut(&mut self.to_write)) {
                Ok(_) => {}
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
    }

    /// Whether a stream is the control stream.
    pub(crate) fn is_control(&self, id: StreamId) -> bool {
        self.control == Some(id)
    }

    /// Reads what has come on the control stream: what came of it is [`Self::poll_event`]'s.
    pub(crate) fn read_control(&mut self) {
        let Self { quic, control: Some(id), greeting, session, .. } = self else { return };
        let mut stream = quic.recv_stream(*id);
        let Ok(mut chunks) = stream.read(true) else { return };
        // The end of the stream is the end of the connection, which says why; and so does a relay that says what makes no
        // sense, by what is missing then.
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            if let Some(session) = session {
                let _ = session.handle_bytes(&chunk.bytes);
            } else if let Some(Ok(Some(welcomed))) = greeting.as_mut().map(|it| it.handle_bytes(&chunk.bytes)) {
                let _ = session.insert(Session::new(0, 0)).handle_connected(welcomed);
                *greeting = None;
            }
        }
        let _ = chunks.finalize();
    }

    /// What the relay says, in order.
    pub(crate) fn poll_event(&mut self) -> Option<Event<Pending>> {
        self.session.as_mut()?.poll_event()
    }

    /// Hands QUIC an object for a datagram; `false` if it does not take it.
    pub(crate) fn send_datagram(&mut self, wire: Bytes) -> bool {
        match self.quic.datagrams().send(wire, false) {
            Ok(()) => true,
            Err(
                SendDatagramError::Blocked(_)
                | SendDatagramError::TooLarge
                | SendDatagramError::Disabled
                | SendDatagramError::UnsupportedByPeer,
            ) => false,
        }
    }

    /// Whether QUIC has sent every object that it took: neither its congestion window nor its pacing holds one back.
    pub(crate) fn has_sent_all(&mut self) -> bool {
        self.quic.datagrams().send_buffer_space() >= self.datagram_room
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.page.is_some() {
            // The relay takes the end of the request for the session's, and closes.
            return Page::leave(&mut self.quic);
        }
        self.quic.close(now, VarInt::from_u32(CloseCode::BYE.0 as u32), Bytes::new());
    }
}
