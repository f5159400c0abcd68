//! What a turn may still make the relay keep: letters for other shards, and control messages for clients. Once one of these
//! is used up, clients' streams are left unread, and what they asked for waits with them.

use super::inbox::{self, Postbox};

/// Letters that are taken in a turn by a shard that has filled another's inbox: not none, for that one may wait for this in
/// the same way. Default 16: a letter can bring about one as large as a room's history.
const LETTERS_WHEN_FULL: usize = 16;

/// How much there still is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headroom {
    letters: usize,
    letter_bytes: usize,
    /// Bytes of control messages that may still be queued for clients before the fullest are closed.
    control_bytes: usize,
}

impl Headroom {
    /// All that one of so many shards may have.
    pub(crate) fn of(shards: usize) -> Self {
        let (letters, letter_bytes) = (inbox::held_from(shards), inbox::bytes_held_from(shards));
        Self { letters, letter_bytes, control_bytes: usize::MAX }
    }

    /// What the fullest of these inboxes leave.
    pub(crate) fn look(&mut self, peers: &[Postbox]) {
        let most = |count: fn(&Postbox) -> usize| peers.iter().map(count).max().unwrap_or(0);
        self.letters = inbox::held_from(peers.len()).saturating_sub(most(Postbox::control_waits));
        self.letter_bytes = inbox::bytes_held_from(peers.len()).saturating_sub(most(Postbox::control_bytes));
    }

    /// A letter of so many bytes is put.
    pub(crate) fn put(&mut self, bytes: usize) {
        self.letters = self.letters.saturating_sub(1);
        self.letter_bytes = self.letter_bytes.saturating_sub(bytes);
    }

    /// So many bytes are queued for a client.
    pub(crate) fn queue(&mut self, bytes: usize) {
        self.control_bytes = self.control_bytes.saturating_sub(bytes);
    }

    /// So many bytes of control messages may still be queued.
    pub(crate) fn leave_for_clients(&mut self, bytes: usize) {
        self.control_bytes = bytes;
    }

    /// Whether nothing more may be asked for in this turn.
    pub(crate) fn is_used_up(&self) -> bool {
        self.letters == 0 || self.letter_bytes == 0 || self.control_bytes == 0
    }

    /// Whether a shard that has taken so many letters in this turn may take one more.
    pub(crate) fn allows_another_letter(&self, taken: usize) -> bool {
        let filled_another = self.letters == 0 || self.letter_bytes == 0;
        self.control_bytes > 0 && (taken < LETTERS_WHEN_FULL || !filled_another)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn who_has_filled_another_s_inbox_takes_a_few_letters_and_who_has_filled_its_own_queues_none() {
        let mut headroom = Headroom::of(2);
        assert!(!headroom.is_used_up() && headroom.allows_another_letter(4_000));
        headroom.put(inbox::bytes_held_from(2));
        assert!(headroom.is_used_up(), "one letter of all bytes");
        assert!(
            headroom.allows_another_letter(LETTERS_WHEN_FULL - 1) && !headroom.allows_another_letter(LETTERS_WHEN_FULL)
        );
        let mut headroom = Headroom { control_bytes: 1_000, ..Headroom::of(2) };
        headroom.queue(999);
        assert!(!headroom.is_used_up());
        headroom.queue(2);
        assert!(headroom.is_used_up() && !headroom.allows_another_letter(0));
    }
}
