//! Variable-length integers of RFC 9000 section 16.

/// The largest value a varint holds.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes on the wire: 1, 2, 4 or 8.
pub(crate) const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Writes `value` to the front of `out` and returns how many bytes it took.
///
/// `out` must hold [`len`] bytes and `value` be at most [`MAX`]: callers own both.
pub(crate) fn encode(value: u64, out: &mut [u8]) -> usize {
    debug_assert!(value <= MAX);
    let len = len(value);
    let tagged = value | (u64::from(len.trailing_zeros()) << (len * 8 - 2));
    out[..len].copy_from_slice(&tagged.to_be_bytes()[8 - len..]);
    len
}

/// Reads a varint from the front of `bytes`: the value and how many bytes it took, or `None` if it is cut short.
#[inline] // Four in the header of every object; left to the compiler, some were calls.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    let head = u64::from(first & 0x3f);
    Some((rest.iter().fold(head, |value, byte| value << 8 | u64::from(*byte)), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 appendix A.1.
    #[test]
    fn rfc_examples_decode_and_encode() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            let mut out = [0; 8];
            let len = encode(value, &mut out);
            assert_eq!(&out[..len], bytes);
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_longer_than_needed_encoding_is_read() {
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)), "RFC 9000 appendix A.1");
    }

    proptest::proptest! {
        #[test]
        fn every_value_comes_back(value in 0..=MAX) {
            let mut out = [0; 8];
            let written = encode(value, &mut out);
            proptest::prop_assert_eq!(written, len(value));
            proptest::prop_assert_eq!(decode(&out), Some((value, written)));
        }
    }
}
