//! How a session begins.

use bytes::Bytes;
use supernode_proto::{
    VERSION,
    close::CloseCode,
    control::{self, ClientMessage, FrameReader, Hello, RelayMessage, SessionLimits, client_message, relay_message},
};

use crate::Channel;

/// A connection on which we have said who we are, and the relay has not let us in yet: with TLS 1.3 a client that the relay
/// turns away sees its own handshake succeed first.
#[derive(Debug)]
pub struct Greeting {
    channel: Channel,
    frames: FrameReader,
}

/// A connection on which the relay has let us in.
#[derive(Debug)]
pub struct Welcomed {
    /// What we sign on it is signed for this.
    pub channel: Channel,
    /// What the relay grants.
    pub limits: SessionLimits,
    /// The relay's clock, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What came behind the Welcome.
    pub(crate) frames: FrameReader,
}

/// What no relay says. The connection is to be closed with [`Self::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.what())]
pub enum Fault {
    /// The control stream is of no more use.
    Malformed,
    /// Something else came first.
    NoWelcome,
    /// We speak one version, and said so.
    Version,
}

impl Fault {
    /// What is wrong.
    pub fn what(self) -> &'static str {
        match self {
            Self::Malformed => "the control stream carries bytes that are no message",
            Self::NoWelcome => "the first message is no Welcome",
            Self::Version => "the Welcome is for a version that was not offered",
        }
    }

    /// What the relay is told.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Malformed => CloseCode::MALFORMED_MESSAGE,
            Self::NoWelcome => CloseCode::UNEXPECTED_MESSAGE,
            Self::Version => CloseCode::VERSION,
        }
    }
}

impl Greeting {
    /// Says Hello: these bytes are the first of the control stream.
    pub fn new(channel: Channel, hello: Hello) -> (Self, Bytes) {
        let hello = ClientMessage { request: 0, body: Some(client_message::Body::Hello(hello)) };
        (Self { channel, frames: FrameReader::default() }, control::frame(&hello))
    }

    /// Takes the next bytes of the relay's control stream; the session once the relay has said Welcome. After that, and
    /// after a fault, it is of no more use.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Welcomed>, Fault> {
        self.frames.push(bytes);
        let Some(first) = self.frames.next_message::<RelayMessage>().map_err(|_| Fault::Malformed)? else {
            return Ok(None);
        };
        let Some(relay_message::Body::Welcome(welcome)) = first.body else { return Err(Fault::NoWelcome) };
        if welcome.version != VERSION {
            return Err(Fault::Version);
        }
        Ok(Some(Welcomed {
            channel: self.channel,
            limits: welcome.limits.unwrap_or_default(),
            unix_ms: welcome.unix_ms,
            frames: std::mem::take(&mut self.frames),
        }))
    }
}
