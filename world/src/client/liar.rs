//! A relay that lies to one client: what it says is dropped, doubled, kept back, changed or said again at the wrong time.
//!
//! It stands between the relay, which is the real one, and the client's session, as the SDK's tests have it. It can seal
//! nothing and sign nothing, as no relay can.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use supernode_proto::control::{FrameReader, RelayMessage, encode_frame};

/// Messages that it may say again.
const KEPT_MAX: usize = 64;

/// What lies to a client.
pub(super) struct Liar {
    rng: StdRng,
    frames: FrameReader,
    said: Vec<RelayMessage>,
}

impl Liar {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), frames: FrameReader::default(), said: Vec::new() }
    }

    /// Another connection begins.
    pub(super) fn begin(&mut self) {
        self.frames = FrameReader::default();
    }

    /// What the client hears in place of these bytes of its control stream.
    pub(super) fn control(&mut self, bytes: &[u8]) -> Bytes {
        self.frames.push(bytes);
        let mut heard = BytesMut::new();
        while let Ok(Some(message)) = self.frames.next_message::<RelayMessage>() {
            for told in self.tell(message) {
                encode_frame(&told, &mut heard);
            }
        }
        heard.freeze()
    }

    /// What it gets in place of a datagram.
    pub(super) fn datagram(&mut self, datagram: Bytes) -> Bytes {
        if datagram.is_empty() || !self.rng.random_bool(0.1) { datagram } else { self.change(&datagram) }
    }

    fn tell(&mut self, message: RelayMessage) -> Vec<RelayMessage> {
        if self.said.len() < KEPT_MAX {
            self.said.push(message.clone());
        } else {
            let place = self.rng.random_range(0..KEPT_MAX);
            self.said[place] = message.clone();
        }
        let earlier = self.said[self.rng.random_range(0..self.said.len())].clone();
        match self.rng.random_range(0..20) {
            0 => Vec::new(),
            1 => vec![message.clone(), message],
            2 => vec![earlier, message],
            3 => vec![RelayMessage { reply_to: 0, ..earlier }, message],
            4 => vec![RelayMessage { reply_to: message.reply_to, ..earlier }],
            5 => vec![RelayMessage { reply_to: message.reply_to + 1, ..message }],
            6..=8 => {
                let changed = self.change(&message.encode_to_vec());
                RelayMessage::decode(changed).into_iter().collect()
            }
            _ => vec![message],
        }
    }

    /// The same with one byte changed.
    fn change(&mut self, bytes: &[u8]) -> Bytes {
        let mut changed = bytes.to_vec();
        if !changed.is_empty() {
            let place = self.rng.random_range(0..changed.len());
            changed[place] = self.rng.random();
        }
        changed.into()
    }
}
