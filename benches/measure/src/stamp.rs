//! What the generator writes at the front of everything it has delivered.

/// When something was due and which of its source it is. Travels inside the sealed part, which no relay can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the schedule wanted it sent, in ns since the run's origin.
    pub due_ns: u64,
    /// Counts what its source sends.
    pub sequence: u64,
}

impl Stamp {
    /// Bytes on the wire.
    pub const BYTES: usize = 16;

    /// As it travels.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.due_ns.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The stamp at the front of `bytes`, if they are long enough.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (due, rest) = bytes.split_first_chunk()?;
        let sequence = rest.first_chunk()?;
        Some(Self { due_ns: u64::from_be_bytes(*due), sequence: u64::from_be_bytes(*sequence) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_and_a_short_one_does_not() {
        let stamp = Stamp { due_ns: 123_456_789, sequence: 42 };
        let mut wire = stamp.to_bytes().to_vec();
        wire.push(9);
        assert_eq!(Stamp::read(&wire), Some(stamp));
        assert_eq!(Stamp::read(&wire[..15]), None);
    }
}
