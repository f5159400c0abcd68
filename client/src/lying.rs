//! For tests only: a filter between this client and its relay, which may change, drop, double, delay, reorder or invent
//! whatever either tells the other. The client behind it is the one that people use, and the relay is the real one.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use supernode_proto::control::{ClientMessage, FrameReader, RelayMessage, encode_frame, frame, relay_message};
use tokio::sync::mpsc;

use crate::{
    Error,
    sync::lock,
    wire::{bearer::Connection, link::ControlReader},
};

type Filter<T> = Mutex<Box<dyn FnMut(T) -> Vec<T> + Send>>;

/// A relay's lies to one client.
pub struct Liar {
    told: Filter<RelayMessage>,
    asked: Filter<ClientMessage>,
    objects: Filter<Bytes>,
    invented: mpsc::UnboundedSender<RelayMessage>,
    to_tell: tokio::sync::Mutex<mpsc::UnboundedReceiver<RelayMessage>>,
    waiting: Mutex<VecDeque<RelayMessage>>,
}

impl Liar {
    /// Says the truth, until told otherwise.
    pub fn honest() -> Arc<Self> {
        let (invented, to_tell) = mpsc::unbounded_channel();
        Arc::new(Self {
            told: Mutex::new(Box::new(|message| vec![message])),
            asked: Mutex::new(Box::new(|message| vec![message])),
            objects: Mutex::new(Box::new(|object| vec![object])),
            invented,
            to_tell: tokio::sync::Mutex::new(to_tell),
            waiting: Mutex::default(),
        })
    }

    /// From now on the client hears this in place of each message of the relay.
    pub fn tell(&self, filter: impl FnMut(RelayMessage) -> Vec<RelayMessage> + Send + 'static) {
        *lock(&self.told) = Box::new(filter);
    }

    /// From now on the relay hears this in place of each message of the client after its Hello.
    pub fn ask(&self, filter: impl FnMut(ClientMessage) -> Vec<ClientMessage> + Send + 'static) {
        *lock(&self.asked) = Box::new(filter);
    }

    /// From now on the client gets these in place of each object that comes as a datagram.
    pub fn forward(&self, filter: impl FnMut(Bytes) -> Vec<Bytes> + Send + 'static) {
        *lock(&self.objects) = Box::new(filter);
    }

    /// Tells the client something that the relay never said: in reply to a request of its, or to none.
    pub fn invent(&self, reply_to: u64, body: relay_message::Body) {
        // A client that is gone hears nothing.
        let _ = self.invented.send(RelayMessage { reply_to, body: Some(body) });
    }

    /// What the relay hears in place of these requests.
    pub(crate) fn frames(&self, requests: &[u8]) -> Bytes {
        let (mut reader, mut frames) = (FrameReader::default(), BytesMut::new());
        reader.push(requests);
        while let Ok(Some(message)) = reader.next_message::<ClientMessage>() {
            (lock(&self.asked))(message).iter().for_each(|message| encode_frame(message, &mut frames));
        }
        frames.freeze()
    }

    pub(crate) fn objects(&self, object: Bytes) -> Vec<Bytes> {
        (lock(&self.objects))(object)
    }

    /// The next message that the client hears, as it travels. Cancel safe.
    pub(crate) async fn next(&self, reader: &mut ControlReader, connection: &Connection) -> Result<Bytes, Error> {
        let mut to_tell = self.to_tell.lock().await;
        loop {
            let waiting = lock(&self.waiting).pop_front();
            if let Some(message) = waiting {
                return Ok(frame(&message));
            }
            tokio::select! {
                Some(invented) = to_tell.recv() => return Ok(frame(&invented)),
                message = reader.next_message(connection) => {
                    let told = (lock(&self.told))(message?);
                    lock(&self.waiting).extend(told);
                }
            }
        }
    }
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar(..)")
    }
}
