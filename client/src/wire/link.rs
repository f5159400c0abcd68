//! One connection to the relay: from the handshake to its end. A session that reconnects goes through several.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use supernode_e2ee::Device;
use supernode_proto::{
    close::CloseCode,
    control::{SessionLimits, client_message, relay_message},
    identity::Revocation,
    object::TrackAlias,
};
use supernode_session::{self as session, Channel, Fault, Introduction, Reply, Session, Welcomed};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ClockSkew, Error, Refusal, Transport,
    runtime::{long, spawn, timeout},
    sync::lock,
    tracks::track::{LocalTrack, RemoteTrack},
    wire::{
        bearer::{Connection, Place, RecvStream, SendStream},
        clock,
        ended::Cut,
        inbound::Unfinished,
    },
};

/// Control messages that may wait to be written: a client that has more under way than this waits itself.
const OUTGOING_MAX: usize = 256;
/// Of the control stream, at once.
const READ_BYTES: usize = 8192;
/// How long the relay may take from the end of the control stream to the end of the connection.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);
/// Streams of equal priority share; control goes before media.
const CONTROL_PRIORITY: i32 = 100;

/// Runs on the reply before any later message is looked at, so that state and events stay in the relay's order.
pub(crate) type OnReply = Box<dyn FnOnce(Result<&relay_message::Body, &Refusal>) + Send>;

/// The one side that everybody may use.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Where the relay is that it leads to.
    pub(crate) place: Place,
    /// What we sign on it is signed for this.
    pub(crate) channel: Channel,
    pub(crate) limits: SessionLimits,
    /// By which key push services know the relay; empty if it wakes nobody.
    pub(crate) push_key: Bytes,
    /// Of this device's clock, as the Welcome told.
    pub(crate) skew: ClockSkew,
    /// Counts the links of a client.
    pub(crate) generation: u64,
    #[cfg(feature = "lying")]
    pub(crate) liar: Option<Arc<crate::Liar>>,
    /// Where media of a track goes.
    pub(crate) tracks: Mutex<HashMap<TrackAlias, Arc<RemoteTrack>>>,
    /// For objects of streams that are not whole yet.
    pub(crate) unfinished: Unfinished,
    outgoing: mpsc::Sender<Bytes>,
    /// The client's, which goes on with the next connection.
    session: Arc<Mutex<Session<Pending>>>,
}

/// Who waits for a reply.
pub(crate) struct Pending {
    reply: Option<oneshot::Sender<Reply>>,
    in_order: Option<OnReply>,
}

/// What the relay told.
pub(crate) type Told = session::Event<Pending>;

/// What came of the relay's bytes.
pub(crate) struct Heard {
    pub(crate) told: Vec<Told>,
    /// They are of no more use.
    pub(crate) end: Option<Error>,
}

/// A connection on which we were let in.
pub(crate) struct Connected {
    pub(crate) link: Arc<Link>,
    pub(crate) reader: ControlReader,
    /// For [`Link::begin`].
    pub(crate) welcomed: Welcomed,
}

/// The side that only the session's task has: what the relay says.
pub(crate) struct ControlReader {
    stream: RecvStream,
    /// Of a message that is not whole yet: what comes between us and the relay knows whole ones.
    #[cfg(feature = "lying")]
    frames: supernode_proto::control::FrameReader,
}

/// As whom to come in, on a connection that stands.
pub(crate) struct Greeting<'a> {
    pub(crate) device: &'a Device,
    pub(crate) token: &'a str,
    /// Tickets of ours of a lower one are void.
    pub(crate) ticket_generation: u32,
    /// Devices of ours that count no more.
    pub(crate) revocation: Option<Revocation>,
    /// The number of the connection.
    pub(crate) generation: u64,
    pub(crate) session: Arc<Mutex<Session<Pending>>>,
    #[cfg(feature = "lying")]
    pub(crate) liar: Option<Arc<crate::Liar>>,
}

impl Link {
    /// By what its packets travel.
    pub(crate) fn transport(&self) -> Transport {
        self.connection.transport()
    }

    /// Says Hello, and returns once the relay has said Welcome.
    pub(crate) async fn greet(
        place: Place,
        connection: Connection,
        greeting: Greeting<'_>,
    ) -> Result<Connected, Error> {
        let channel = connection.channel(greeting.device.key()).await?;
        let (mut send, stream) = connection.open_bi(CONTROL_PRIORITY).await?;
        let introduction = Introduction {
            delegation: &greeting.device.delegation(),
            token: greeting.token,
            ticket_generation: greeting.ticket_generation,
            revocation: greeting.revocation.as_ref(),
        };
        let hello = channel.hello(greeting.device.secret(), &introduction);
        let (mut opening, hello) = session::Greeting::new(channel, hello);
        send.write(hello).await.map_err(|Cut| end(&connection))?;

        let mut reader = ControlReader {
            stream,
            #[cfg(feature = "lying")]
            frames: Default::default(),
        };
        let welcomed = loop {
            #[cfg(feature = "lying")]
            let bytes = match &greeting.liar {
                Some(_) => {
                    reader.next_message(&connection).await.map(|message| supernode_proto::control::frame(&message))
                }
                None => reader.next(&connection).await,
            };
            #[cfg(not(feature = "lying"))]
            let bytes = reader.next(&connection).await;
            let refused =
                |error| clock::explain(error, connection.close_reason().as_ref(), &greeting.device.delegation());
            let opened = opening.handle_bytes(&bytes.map_err(refused)?);
            if let Some(welcomed) = opened.map_err(|fault| blame(&connection, fault))? {
                break welcomed;
            }
        };
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        spawn(write_control(send, queue));
        let link = Self {
            connection,
            place,
            channel,
            limits: welcomed.limits,
            push_key: welcomed.push_key.clone(),
            skew: clock::compare(welcomed.unix_ms),
            generation: greeting.generation,
            #[cfg(feature = "lying")]
            liar: greeting.liar,
            tracks: Mutex::default(),
            unfinished: Unfinished::default(),
            outgoing,
            session: greeting.session,
        };
        Ok(Connected { link: Arc::new(link), reader, welcomed })
    }

    /// The session goes on on this connection.
    pub(crate) fn begin(&self, welcomed: Welcomed) -> Heard {
        let mut session = lock(&self.session);
        let fault = session.handle_connected(welcomed).err();
        self.heard(&mut session, fault)
    }

    /// Takes what came on the control stream.
    pub(crate) fn handle_bytes(&self, bytes: &[u8]) -> Heard {
        let mut session = lock(&self.session);
        let fault = session.handle_bytes(bytes).err();
        self.heard(&mut session, fault)
    }

    fn heard(&self, session: &mut Session<Pending>, fault: Option<Fault>) -> Heard {
        if let Ok(room) = self.outgoing.try_reserve() {
            self.write(session, room);
        }
        let told = std::iter::from_fn(|| session.poll_event()).collect();
        Heard { told, end: fault.map(|fault| blame(&self.connection, fault)) }
    }

    /// The session is without a connection; returns what that told. Everything that hangs on this one is forgotten.
    pub(crate) fn finish(&self) -> Vec<Told> {
        lock(&self.tracks).clear();
        let mut session = lock(&self.session);
        session.handle_disconnected();
        std::iter::from_fn(|| session.poll_event()).collect()
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn request(
        &self,
        body: client_message::Body,
        wait_max: Duration,
    ) -> Result<relay_message::Body, Error> {
        self.request_in_order(body, wait_max, None).await
    }

    /// Sends a request; `in_order` sees the reply before any later message of the relay is handled.
    pub(crate) async fn request_in_order(
        &self,
        body: client_message::Body,
        wait_max: Duration,
        in_order: Option<OnReply>,
    ) -> Result<relay_message::Body, Error> {
        let (reply, answered) = oneshot::channel();
        let answer = async {
            let room = self.outgoing.reserve().await.map_err(|_| self.end())?;
            if !self.ask(body, Pending { reply: Some(reply), in_order }, room) {
                return Err(self.end());
            }
            answered.await.map_err(|_| self.end())?.map_err(Error::Refused)
        };
        // Whoever waits may give up: a reply that comes later still has its effect.
        timeout(wait_max, answer).await.unwrap_or(Err(Error::TimedOut("a request")))
    }

    /// Sends a request whose reply nobody waits for, unless too much is under way already: whether it was sent.
    pub(crate) fn send(&self, body: client_message::Body, in_order: Option<OnReply>) -> bool {
        let room = self.outgoing.try_reserve();
        room.is_ok_and(|room| self.ask(body, Pending { reply: None, in_order }, room))
    }

    /// Deposits key packages, unless too much is under way already.
    pub(crate) fn deposit(&self, last_resort: Option<Bytes>, packages: Vec<Bytes>) {
        let Ok(room) = self.outgoing.try_reserve() else { return };
        let mut session = lock(&self.session);
        if session.connection() == Some(self.generation) {
            session.deposit(last_resort, packages);
            self.write(&mut session, room);
        }
    }

    /// Whether the session is on this connection still.
    fn ask(&self, body: client_message::Body, pending: Pending, room: mpsc::Permit<'_, Bytes>) -> bool {
        let mut session = lock(&self.session);
        let asked = session.connection() == Some(self.generation) && session.ask(body, pending).is_ok();
        if asked {
            self.write(&mut session, room);
        }
        asked
    }

    /// In the order in which the session says it: with its lock held.
    fn write(&self, session: &mut Session<Pending>, room: mpsc::Permit<'_, Bytes>) {
        let Some(bytes) = session.poll_bytes() else { return };
        #[cfg(feature = "lying")]
        let bytes = self.liar.as_ref().map_or(bytes.clone(), |liar| liar.frames(&bytes));
        room.send(bytes);
    }

    /// Sends an object of this track's as a datagram, unless it would wait for longer than `wait_max`; its length if it is on
    /// its way.
    pub(crate) fn send_datagram(&self, datagram: &[u8], wait_max: Duration, whose: &Arc<LocalTrack>) -> Option<usize> {
        self.connection.send_datagram(datagram, wait_max, whose).then_some(datagram.len())
    }

    /// Ends the connection with a reason.
    pub(crate) fn close(&self, reason: CloseCode) {
        self.connection.close(reason);
    }

    /// Why the connection ended.
    pub(crate) fn end(&self) -> Error {
        end(&self.connection)
    }
}

impl Pending {
    /// Hands the reply to whoever waits for it.
    pub(crate) async fn settle(self, mut reply: Reply) {
        if let Some(in_order) = self.in_order {
            // It may be that a commit of ours counts now.
            reply = long(move || {
                in_order(reply.as_ref());
                reply
            })
            .await;
        }
        if let Some(waiting) = self.reply {
            // Whoever waited may have given up.
            let _ = waiting.send(reply);
        }
    }
}

impl ControlReader {
    /// What the relay says next. Cancel safe.
    pub(crate) async fn next(&mut self, connection: &Connection) -> Result<Bytes, Error> {
        match self.stream.read(READ_BYTES).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                // The relay may close the stream just before the connection, whose code says more.
                let end = timeout(LAST_WORD_MAX, connection.closed()).await;
                connection.close(CloseCode::BAD_STREAM);
                Err(end.map_or(Error::Protocol("the control stream ended"), Error::from))
            }
            Err(Cut) => Err(connection.close_reason().map_or_else(
                || {
                    connection.close(CloseCode::BAD_STREAM);
                    Error::Protocol("the control stream was reset")
                },
                Error::from,
            )),
        }
    }

    /// The next message of the relay, whole.
    #[cfg(feature = "lying")]
    pub(crate) async fn next_message(
        &mut self,
        connection: &Connection,
    ) -> Result<supernode_proto::control::RelayMessage, Error> {
        loop {
            if let Some(message) = self.frames.next_message().map_err(|_| blame(connection, Fault::Malformed))? {
                return Ok(message);
            }
            let bytes = self.next(connection).await?;
            self.frames.push(&bytes);
        }
    }
}

/// Ends a connection on which somebody says what no relay says.
fn blame(connection: &Connection, fault: Fault) -> Error {
    connection.close(fault.close_code());
    Error::Protocol(fault.what())
}

async fn write_control(mut stream: SendStream, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(message) = queue.recv().await {
        if stream.write(message).await.is_err() {
            return;
        }
    }
}

/// Why a connection ended.
fn end(connection: &Connection) -> Error {
    connection.close_reason().map_or(Error::Disconnected, Error::from)
}
