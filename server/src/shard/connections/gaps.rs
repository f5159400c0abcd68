//! What QUIC keeps of clients' streams because something before it is missing.
//!
//! QUIC keeps a piece in the packet that brought it, as an entry of a list that never gets shorter, and copies pieces
//! together when their packets hold much else; then one piece keeps all that was copied with it. Whoever chooses its pieces
//! for that makes quinn-proto 0.11.19 keep half a megabyte in a window of 16 KiB, and two hundred in one of a megabyte.
//!
//! It does not say what it keeps, so what it can keep at most is reckoned from what is seen of each stream: the pieces that
//! came, and those that were read. What comes to more than a client's window is counted for all clients of a shard, and above
//! a bound those with most of it end. An honest client's pieces fill their packets, and stay below its window.

use crate::shard::quic::transport::{HELLO_WINDOW, STREAM_WINDOW};

/// Pieces of one stream that may wait. Default 2,048: a stream's window of packets is 900, and QUIC looks at all that wait each
/// time some thirty kilobytes of packets have brought more, which with a hundred thousand takes milliseconds.
const PIECES_MAX: i32 = 2_048;
/// Bytes that one piece can keep: its whole packet, which is no longer than QUIC's default allows (1,472).
const PACKET_BYTES: u32 = 1_472;
/// An entry of QUIC's list of a stream's pieces.
const ENTRY_BYTES: u32 = 56;
/// Entries that the list has from the first piece on: they count with the stream.
const ENTRIES_MIN: u32 = 4;
/// QUIC copies pieces together when the packets that they came in are half as long again as they, so of each packet it
/// has copied two thirds at most.
const COPIED: (u32, u32) = (2, 3);
/// Pieces shorter than a 1,024th of what waits, or than this, are copied again every time; longer ones keep what they were
/// copied with.
const RETAINED_BYTES_MIN: u32 = 128;
const RETAINED_PART: u32 = 1_024;
/// A piece that comes twice is thrown away and not read, so it would seem to wait for ever. For so many bytes read one piece
/// is taken for such. Whoever lets pieces wait gains little: none is left once a window has been read.
const FORGIVEN_BYTES: u32 = 2_048;

/// One stream of a client.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Pieces that came, less those that were read. Below zero while what is read has not been told yet.
    waiting: i32,
    /// Most pieces that its list ever had.
    longest: u32,
    /// Bytes read for which no piece was forgiven yet.
    unforgiven: u32,
    /// What its client's [`Kept`] has for it.
    counted: u32,
    span: Span,
    before: Span,
    /// Up to where it must be read before nothing is left that came before this span.
    ends_at: u64,
}

/// What happened while a window's worth was read.
#[derive(Debug, Default, Clone, Copy)]
struct Span {
    /// Pieces that waited at once.
    most: u32,
    forgiven: u32,
    /// Bytes of packets that brought pieces, less those that were read.
    surplus: u32,
}

impl Gaps {
    /// A piece came.
    pub(crate) fn come(&mut self) {
        self.waiting = self.waiting.saturating_add(1);
        self.span.surplus = self.span.surplus.saturating_add(PACKET_BYTES);
    }

    /// A piece was read, up to this offset.
    pub(crate) fn read(&mut self, bytes: usize, end: u64, window: u32) {
        self.waiting = self.waiting.saturating_sub(1);
        self.span.surplus = self.span.surplus.saturating_sub(bytes as u32);
        self.unforgiven = self.unforgiven.saturating_add(bytes as u32);
        if end >= self.ends_at {
            self.before = std::mem::take(&mut self.span);
            self.ends_at = end + u64::from(window.min(STREAM_WINDOW));
        }
    }

    /// Whether more wait than of anybody who sends to be read: such a stream is over.
    pub(crate) fn are_too_many(&self) -> bool {
        self.waiting > PIECES_MAX
    }

    /// All was read that there is, `read` pieces of it just now.
    fn settle(&mut self, read: u32) {
        let waiting = self.waiting.max(0) as u32;
        let forgiven = (self.unforgiven / FORGIVEN_BYTES).min(waiting);
        self.unforgiven = if waiting == 0 { 0 } else { self.unforgiven % FORGIVEN_BYTES };
        self.waiting -= forgiven as i32;
        self.span.forgiven += forgiven;
        self.span.most = self.span.most.max(waiting - forgiven);
        self.longest = self.longest.max(waiting).max(read);
    }

    /// The most that QUIC can keep of it.
    fn bytes(&self, window: u32) -> u32 {
        if self.waiting <= 0 {
            return list_bytes(self.longest);
        }
        let pieces = (self.waiting as u32).saturating_mul(PACKET_BYTES);
        // Of those that are gone.
        let surplus = self.span.surplus.saturating_add(self.before.surplus).saturating_sub(pieces);
        // What was copied and is kept by a piece that was long enough: so many such pieces, and so many short ones with each.
        let most = self.span.most.max(self.before.most) + self.span.forgiven + self.before.forgiven;
        let retained = (window.min(STREAM_WINDOW) / RETAINED_PART).max(RETAINED_BYTES_MIN);
        let copied = (surplus / COPIED.1 * COPIED.0).min((most / 2).saturating_mul(most / 2).saturating_mul(retained));
        pieces.saturating_add(list_bytes(self.longest)).saturating_add(copied)
    }
}

/// A list of so many pieces: it doubles.
fn list_bytes(pieces: u32) -> u32 {
    if pieces <= ENTRIES_MIN { 0 } else { pieces.next_power_of_two().saturating_mul(ENTRY_BYTES) }
}

/// All streams of a client.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Bytes that it may have in flight.
    window: u32,
    /// Streams that it may have open.
    streams_max: u32,
    streams: u32,
    /// Lists of streams that are over: QUIC keeps them for new ones.
    lists: u32,
    longest: u32,
    /// What its shard has counted for it.
    pub(crate) counted: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { window: HELLO_WINDOW, streams_max: 2, streams: 0, lists: 0, longest: 0, counted: 0 }
    }
}

impl Kept {
    /// It may have so many bytes in flight, of so many streams.
    pub(crate) fn open(&mut self, window: u32, streams_max: u32) {
        (self.window, self.streams_max) = (window, streams_max);
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// All of one stream was read that there is, `read` pieces of it just now.
    pub(crate) fn settle(&mut self, gaps: &mut Gaps, read: u32) {
        gaps.settle(read);
        let bytes = gaps.bytes(self.window);
        let counted = std::mem::replace(&mut gaps.counted, bytes);
        self.streams = self.streams.saturating_add(bytes).saturating_sub(counted);
    }

    /// A stream is over.
    pub(crate) fn end(&mut self, gaps: &Gaps) {
        self.streams = self.streams.saturating_sub(gaps.counted);
        self.longest = self.longest.max(gaps.longest);
        let all_max = list_bytes(self.longest).saturating_mul(self.streams_max);
        self.lists = self.lists.saturating_add(list_bytes(gaps.longest)).min(all_max);
    }

    /// What QUIC can keep beyond its window.
    pub(crate) fn beyond_window(&self) -> usize {
        self.streams.saturating_add(self.lists).saturating_sub(self.window) as usize
    }

    /// It has no streams any more.
    pub(crate) fn clear(&mut self) {
        (self.streams, self.lists) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 1024 * 1024;

    struct Client {
        kept: Kept,
        gaps: Gaps,
        offset: u64,
    }

    impl Client {
        fn new(window: u32) -> Self {
            let mut kept = Kept::default();
            kept.open(window, 65);
            Self { kept, gaps: Gaps::default(), offset: 0 }
        }

        /// So many pieces come, and so many of this length are read.
        fn turn(&mut self, come: u32, read: u32, bytes: u32) {
            (0..come).for_each(|_| self.gaps.come());
            for _ in 0..read {
                self.offset += u64::from(bytes);
                self.gaps.read(bytes as usize, self.offset, self.kept.window());
            }
            self.kept.settle(&mut self.gaps, read);
        }

        fn beyond_window(&self) -> usize {
            self.kept.beyond_window()
        }
    }

    //
    #[test]
    fn a_client_whose_pieces_fill_their_packets_stays_within_its_window() {
        for window in [16 * 1024, 64 * 1024, WINDOW] {
            let mut client = Client::new(window);
            let flight = (window / 1_200).min(100);
            for _ in 0..2_000 {
                // One is lost, those after it wait until it comes again; then a while nothing is.
                client.turn(flight - 1, 0, 1_200);
                client.turn(1, flight, 1_200);
                (0..20).for_each(|_| client.turn(8, 8, 1_200));
            }
            assert!(client.beyond_window() <= 40 * 1024, "{} with {window}", client.beyond_window());
        }
    }

    //
    #[test]
    fn what_comes_twice_now_and_then_does_not_add_up() {
        let mut client = Client::new(16 * 1024);
        for _ in 0..10_000 {
            client.turn(21, 20, 200);
        }
        assert_eq!(client.beyond_window(), 0);
        assert!(client.gaps.waiting <= 1, "{}", client.gaps.waiting);
    }

    //
    #[test]
    fn pieces_that_wait_count_with_all_that_quic_may_have_copied_for_them() {
        let mut client = Client::new(WINDOW);
        // 500 pieces too short to be kept, and 500 that keep all copied with them, each after 540 that came twice.
        client.turn(500, 0, 0);
        (0..500).for_each(|_| client.turn(542, 0, 0));
        let kept = 500 * 500 * 1_024;
        assert!(client.beyond_window() > kept, "{} of {kept}", client.beyond_window());
        // Whatever is read, it keeps that until a window has been.
        client.turn(0, 270_999, 1);
        assert!(client.beyond_window() > 100 * 1024 * 1024, "{}", client.beyond_window());
    }

    //
    #[test]
    fn a_stream_has_no_more_pieces_waiting_than_its_window_has_packets_twice_over() {
        let mut client = Client::new(WINDOW);
        client.turn(WINDOW / 1_200, 0, 0);
        assert!(!client.gaps.are_too_many(), "the first of them was lost");
        client.turn(PIECES_MAX as u32 - WINDOW / 1_200, 0, 0);
        assert!(!client.gaps.are_too_many());
        client.turn(1, 0, 0);
        assert!(client.gaps.are_too_many());
    }

    //
    #[test]
    fn streams_that_are_over_leave_their_lists() {
        let mut client = Client::new(16 * 1024);
        for _ in 0..1_000 {
            client.turn(1_000, 1_000, 1);
            client.kept.end(&std::mem::take(&mut client.gaps));
        }
        assert_eq!(client.beyond_window(), 65 * 1_024 * 56 - 16 * 1024);
        client.kept.clear();
        assert_eq!(client.beyond_window(), 0);
    }
}
