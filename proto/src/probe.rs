//! Whether anything of QUIC answers at an address, without a connection: a packet of a version that nobody speaks must be
//! answered by the versions that are spoken (RFC 9000 section 6.1).

/// Bytes of the packet: shorter ones are not answered (RFC 9000 section 14.1).
pub const PROBE_BYTES: usize = 1200;

/// Reserved so that nobody ever speaks it (RFC 9000 section 15).
const VERSION_NOBODY_SPEAKS: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// The packet, with a random destination connection ID.
pub fn packet(cid: &[u8; 20]) -> [u8; PROBE_BYTES] {
    let mut packet = [0; PROBE_BYTES];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&VERSION_NOBODY_SPEAKS);
    packet[5] = 20;
    packet[6..26].copy_from_slice(cid);
    packet
}

/// Whether what came back is a list of versions (RFC 9000 section 17.2.1).
pub fn is_answer(answer: &[u8]) -> bool {
    answer.len() >= 7 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_versions_is_an_answer() {
        assert!(is_answer(&[0x80, 0, 0, 0, 0, 0, 0, 1]));
        assert!(!is_answer(&[0x80, 0, 0, 0, 1, 0, 0, 1]) && !is_answer(&[0x40, 0, 0, 0, 0, 0, 0]) && !is_answer(b""));
        assert!(!is_answer(&packet(&[7; 20])), "our own packet, come back");
    }
}
