//! What an MLS PrivateMessage shows of itself (RFC 9420 sections 6 and 6.3): the group, the epoch and the kind of its
//! content are readable, so that whoever passes it on can hold what is said beside it against it.
//!
//! Nothing here is authentic: only members can tell whether a message is what it shows.

use crate::identity::RoomId;

/// `mls10` and `mls_private_message`.
const VERSION_AND_FORMAT: [u8; 4] = [0, 1, 0, 2];
const APPLICATION: u8 = 1;
const COMMIT: u8 = 3;

/// What a message in a room's mailbox shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The room, whose name is the group's id.
    pub room: RoomId,
    /// The epoch that it was made in.
    pub epoch: u64,
    /// Whether it is a commit. If not, it carries what a member says.
    pub commit: bool,
}

/// Which field is not what the message itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// No PrivateMessage, or one that carries a proposal, or bytes that are cut short or too long.
    #[error("payload is no MLS PrivateMessage with a commit or an application message")]
    Payload,
    /// Of another group.
    #[error("payload is of another room")]
    Room,
    /// Of another epoch.
    #[error("epoch is {given}: the payload's is {actual}")]
    Epoch {
        /// What is said beside the message.
        given: u64,
        /// What it says itself.
        actual: u64,
    },
    /// A commit that is said to be none, or the other way round.
    #[error("commit is {given}: the payload says otherwise")]
    Commit {
        /// What is said beside the message.
        given: bool,
    },
}

impl Envelope {
    /// Reads what a message shows; all of it must be there, and nothing behind it.
    ///
    /// # Errors
    /// [`EnvelopeError::Payload`]; [`EnvelopeError::Room`] for a group id that names no room.
    pub fn read(message: &[u8]) -> Result<Self, EnvelopeError> {
        let rest = message.strip_prefix(&VERSION_AND_FORMAT).ok_or(EnvelopeError::Payload)?;
        let (group, rest) = vector(rest)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Payload)?;
        let (kind, rest) = rest.split_first().ok_or(EnvelopeError::Payload)?;
        let commit = match *kind {
            APPLICATION => false,
            COMMIT => true,
            _ => return Err(EnvelopeError::Payload),
        };
        // Authenticated data, sealed sender, ciphertext.
        let (_, rest) = vector(rest)?;
        let (_, rest) = vector(rest)?;
        let (_, rest) = vector(rest)?;
        if !rest.is_empty() {
            return Err(EnvelopeError::Payload);
        }
        let room = RoomId::from_slice(group).map_err(|_| EnvelopeError::Room)?;
        Ok(Self { room, epoch: u64::from_be_bytes(*epoch), commit })
    }

    /// Holds what is said beside a message against what it shows.
    ///
    /// # Errors
    /// The first field that differs, or as [`Self::read`].
    pub fn check(&self, message: &[u8]) -> Result<(), EnvelopeError> {
        let shown = Self::read(message)?;
        if shown.room != self.room {
            return Err(EnvelopeError::Room);
        }
        if shown.commit != self.commit {
            return Err(EnvelopeError::Commit { given: self.commit });
        }
        if shown.epoch != self.epoch {
            return Err(EnvelopeError::Epoch { given: self.epoch, actual: shown.epoch });
        }
        Ok(())
    }

    /// A message that shows this, around bytes that no member can open: what tests and load give a relay, which
    /// cannot tell.
    pub fn around(&self, sealed: &[u8]) -> Vec<u8> {
        let mut message = VERSION_AND_FORMAT.to_vec();
        write_vector(&self.room.0, &mut message);
        message.extend_from_slice(&self.epoch.to_be_bytes());
        message.push(if self.commit { COMMIT } else { APPLICATION });
        write_vector(b"", &mut message);
        write_vector(b"", &mut message);
        write_vector(sealed, &mut message);
        message
    }
}

impl EnvelopeError {
    /// The field of the request that is at fault.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Room => "room",
            Self::Epoch { .. } => "epoch",
            Self::Commit { .. } => "commit",
        }
    }
}

fn vector(bytes: &[u8]) -> Result<(&[u8], &[u8]), EnvelopeError> {
    read_vector(bytes).ok_or(EnvelopeError::Payload)
}

/// A vector of RFC 9420 section 2.1.2 at the front of `bytes`, and what follows it. Its length takes the fewest bytes
/// that hold it, and never eight.
pub fn read_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, head) = crate::varint::decode(bytes)?;
    if head == 8 || head != crate::varint::len(length) {
        return None;
    }
    bytes[head..].split_at_checked(usize::try_from(length).ok()?)
}

/// Appends `bytes` behind their length, as [`read_vector`] reads them.
pub fn write_vector(bytes: &[u8], out: &mut Vec<u8>) {
    let mut head = [0; 8];
    let length = crate::varint::encode(bytes.len() as u64, &mut head);
    out.extend_from_slice(&head[..length]);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: Envelope = Envelope { room: RoomId([7; 16]), epoch: 300, commit: true };

    //
    #[test]
    fn each_field_that_differs_is_named() {
        let message = SHOWN.around(b"sealed");
        assert_eq!(SHOWN.check(&message), Ok(()));
        let named = |said: Envelope| said.check(&message).expect_err("it differs").field();
        assert_eq!(named(Envelope { room: RoomId([8; 16]), ..SHOWN }), "room");
        assert_eq!(named(Envelope { epoch: 301, ..SHOWN }), "epoch");
        assert_eq!(named(Envelope { commit: false, ..SHOWN }), "commit");
    }

    //
    #[test]
    fn what_is_no_private_message_shows_nothing() {
        let message = SHOWN.around(b"sealed");
        let kind = 4 + 1 + 16 + 8;
        for (at, byte) in [(1, 2), (3, 1), (3, 5), (kind, 2), (kind, 0), (4, 0xc0)] {
            let mut other = message.clone();
            other[at] = byte;
            assert_eq!(Envelope::read(&other), Err(EnvelopeError::Payload), "byte {at} is {byte}");
        }
        for length in 0..message.len() {
            assert_eq!(Envelope::read(&message[..length]), Err(EnvelopeError::Payload), "{length} bytes");
        }
        assert_eq!(Envelope::read(&[&message[..], b"more"].concat()), Err(EnvelopeError::Payload));
    }

    //
    #[test]
    fn a_group_id_that_names_no_room_is_refused() {
        let message = [&VERSION_AND_FORMAT[..], &[2, 7, 7], &[0; 8], &[COMMIT, 0, 0, 0]].concat();
        assert_eq!(Envelope::read(&message), Err(EnvelopeError::Room));
    }

    #[test]
    fn a_length_that_takes_more_bytes_than_it_needs_is_refused() {
        let message = [&VERSION_AND_FORMAT[..], &[0x40, 16], &[7; 16], &[0; 8], &[COMMIT, 0, 0, 0]].concat();
        assert_eq!(Envelope::read(&message), Err(EnvelopeError::Payload), "RFC 9420 section 2.1.2");
    }
}
