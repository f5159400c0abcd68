//! How a session begins.

use bytes::Bytes;
use supernode_proto::{
    VERSION,
    close::CloseCode,
    control::{self, ClientMessage, FrameReader, Hello, RelayMessage, SessionLimits, client_message, relay_message},
    identity::{DeviceKey, RelayName, RelayPin},
};

use crate::{ChallengeError, Channel};

/// By what a page knows its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its browser has verified that an authority has signed for this host, in lower case.
    Host(String),
    /// Its browser has been shown a certificate of one of these keys, as the page has demanded ([`pages`](crate::pages)).
    Keys(Vec<RelayPin>),
}

/// A page's connection, on which the relay has not said yet what is to be signed for.
#[derive(Debug)]
pub struct Challenged {
    known: Known,
    device: DeviceKey,
    frames: FrameReader,
}

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
    /// By which key push services know the relay; empty if it wakes nobody.
    pub push_key: Bytes,
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
    /// A page's link begins with something else than what is to be signed for, or with that in another size.
    NoChallenge,
    /// What is to be signed for is of another relay than the one that a page knows.
    AnotherRelay,
}

impl Fault {
    /// What is wrong.
    pub fn what(self) -> &'static str {
        match self {
            Self::Malformed => "the control stream carries bytes that are no message",
            Self::NoWelcome => "the first message is no Welcome",
            Self::Version => "the Welcome is for a version that was not offered",
            Self::NoChallenge => "the first stream brings no Challenge",
            Self::AnotherRelay => "the Challenge names another relay than the one that is known",
        }
    }

    /// What the relay is told.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Malformed => CloseCode::MALFORMED_MESSAGE,
            Self::NoWelcome | Self::NoChallenge | Self::AnotherRelay => CloseCode::UNEXPECTED_MESSAGE,
            Self::Version => CloseCode::VERSION,
        }
    }
}

impl Challenged {
    /// By what this device knows the relay at the other end.
    pub fn new(known: Known, device: DeviceKey) -> Self {
        Self { known, device, frames: FrameReader::default() }
    }

    /// Takes the next bytes of the relay's first unidirectional stream; what signatures are for once it has said so. After
    /// that, and after a fault, it is of no more use.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Channel>, Fault> {
        self.frames.push(bytes);
        let Some(first) = self.frames.next_message::<RelayMessage>().map_err(|_| Fault::Malformed)? else {
            return Ok(None);
        };
        let Some(relay_message::Body::Challenge(challenge)) = first.body else { return Err(Fault::NoChallenge) };
        let name = match &self.known {
            Known::Host(host) => RelayName::Host(host),
            // Of keys that it does not name the first is as good as any: that is refused.
            Known::Keys(pins) => {
                let named = pins.iter().find(|pin| pin.0[..] == challenge.relay[..]).or(pins.first());
                RelayName::Pin(named.ok_or(Fault::AnotherRelay)?)
            }
        };
        Channel::by_challenge(&challenge, name, self.device).map(Some).map_err(|error| match error {
            ChallengeError::Malformed => Fault::NoChallenge,
            ChallengeError::AnotherRelay => Fault::AnotherRelay,
        })
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
            push_key: welcome.push_key,
            frames: std::mem::take(&mut self.frames),
        }))
    }
}

#[cfg(test)]
mod tests {
    use supernode_keys::DeviceSecret;
    use supernode_proto::control::{Challenge, Done};

    use super::*;

    const OURS: RelayPin = RelayPin([1; 32]);
    const NEXT: RelayPin = RelayPin([2; 32]);

    fn device() -> DeviceKey {
        DeviceSecret::from_bytes(&[4; 32]).public()
    }

    fn challenge(nonce: &[u8], relay: &[u8]) -> Challenge {
        Challenge { nonce: Bytes::copy_from_slice(nonce), relay: Bytes::copy_from_slice(relay) }
    }

    fn framed(body: relay_message::Body) -> Bytes {
        control::frame(&RelayMessage { reply_to: 0, body: Some(body) })
    }

    fn heard(known: &Known, challenge: Challenge) -> Result<Option<Channel>, Fault> {
        let bytes = framed(relay_message::Body::Challenge(challenge));
        Challenged::new(known.clone(), device()).handle_bytes(&bytes)
    }

    //
    #[test]
    fn what_a_page_signs_for_is_read_however_it_is_cut_and_is_that_of_the_name_that_it_knows() {
        let challenge = challenge(&[3; 32], &NEXT.0);
        let bytes = framed(relay_message::Body::Challenge(challenge.clone()));
        let known = [
            (Known::Host("relay.example".to_owned()), RelayName::Host("relay.example")),
            (Known::Keys(vec![OURS, NEXT]), RelayName::Pin(&NEXT)),
        ];
        for (known, name) in known {
            let mut challenged = Challenged::new(known, device());
            let (last, before) = bytes.split_last().expect("a message");
            for byte in before {
                assert!(challenged.handle_bytes(&[*byte]).expect("not whole yet").is_none());
            }
            let channel = challenged.handle_bytes(&[*last]).expect("a challenge").expect("whole");
            let meant = Channel::by_challenge(&challenge, name, device()).expect("ours");
            assert_eq!((channel.binding, channel.device), (meant.binding, device()));
        }
    }

    //
    #[test]
    fn a_page_signs_for_no_relay_but_those_that_it_has_demanded() {
        let ours = Known::Keys(vec![OURS]);
        assert!(matches!(heard(&ours, challenge(&[3; 32], &OURS.0)), Ok(Some(_))));
        assert_eq!(heard(&ours, challenge(&[3; 32], &NEXT.0)).map(|_| ()), Err(Fault::AnotherRelay));
        assert_eq!(heard(&Known::Keys(vec![]), challenge(&[3; 32], &OURS.0)).map(|_| ()), Err(Fault::AnotherRelay));
        for (nonce, relay) in [(&[3; 31][..], &OURS.0[..]), (&[3; 32], &[1; 33]), (&[], &[])] {
            let host = Known::Host("relay.example".to_owned());
            assert_eq!(heard(&host, challenge(nonce, relay)).map(|_| ()), Err(Fault::NoChallenge));
        }
        let mut challenged = Challenged::new(ours, device());
        let other = framed(relay_message::Body::Done(Done {}));
        assert_eq!(challenged.handle_bytes(&other).map(|_| ()), Err(Fault::NoChallenge));
    }
}
