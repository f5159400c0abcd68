//! How keys and values stand in the stream: subjects and texts that people can read with `nats`.
//!
//! | subject, below the bucket's | text | means |
//! |---|---|---|
//! | `epoch` | `epoch E` | which epoch it is |
//! | `E.nodes.ripe` | `ripe` | it is old enough for homes |
//! | `E.nodes.N` | `alive L A P`, `ended L` | the node N lives its life L and is reached at the address A, where its key has the SHA-256 P, in hexadecimal; or that life is over |
//! | `E.rooms.R` | `home N L`, `empty` | where the room R has its home; R is the keyed hash of its name, in hexadecimal |
//!
//! E, N and L are decimal numbers of 64, 16 and 64 bits. Behind each text stand a space and its *mark*: an HMAC-SHA-256 of the
//! subject and the text under the cluster's key, its first 16 bytes, in hexadecimal. So whoever runs NATS, or has its password,
//! writes no record that the nodes would take, and moves none to another subject. They can put an older one back.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use supernode_cluster::{Key, Life, NodeNumber, RoomKey, Value, Whereabouts};

/// Bytes of a mark.
const MARK_BYTES: usize = 16;

/// What all nodes of a cluster mark their records with.
#[derive(Clone)]
pub struct RecordKey(pub [u8; 32]);

impl RecordKey {
    /// A text with its mark.
    pub fn marked(&self, subject: &str, text: &str) -> String {
        let mark = self.over(subject, text.as_bytes()).finalize().into_bytes();
        format!("{text} {}", HEXLOWER.encode(&mark[..MARK_BYTES]))
    }

    /// The text in front of a mark, if it is that of the text and the subject.
    pub fn unmarked<'a>(&self, subject: &str, marked: &'a [u8]) -> Option<&'a [u8]> {
        let (text, mark) = marked.split_at_checked(marked.len().checked_sub(2 * MARK_BYTES + 1)?)?;
        let mark = HEXLOWER.decode(mark.strip_prefix(b" ")?).ok()?;
        self.over(subject, text).verify_truncated_left(&mark).ok()?;
        Some(text)
    }

    fn over(&self, subject: &str, text: &[u8]) -> Hmac<Sha256> {
        let mut over = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        over.update(subject.as_bytes());
        // No subject has one in it.
        over.update(&[0]);
        over.update(text);
        over
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

/// Where a key stands, below the bucket's own subject.
pub fn subject(key: Key) -> String {
    match key {
        Key::Epoch => "epoch".to_owned(),
        Key::Ripe { epoch } => format!("{epoch}.nodes.ripe"),
        Key::Life { epoch, node } => format!("{epoch}.nodes.{}", node.0),
        Key::Room { epoch, room } => format!("{epoch}.rooms.{}", HEXLOWER.encode(&room.0)),
    }
}

/// Where everything stands that the nodes of an epoch watch.
pub fn watched(epoch: u64) -> String {
    format!("{epoch}.nodes.*")
}

/// The key that stands there, if this version knows one.
pub fn key(subject: &str) -> Option<Key> {
    let mut parts = subject.split('.');
    let first = parts.next()?;
    if first == "epoch" {
        return parts.next().is_none().then_some(Key::Epoch);
    }
    let (epoch, kind, name) = (first.parse().ok()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    match (kind, name) {
        ("nodes", "ripe") => Some(Key::Ripe { epoch }),
        ("nodes", node) => Some(Key::Life { epoch, node: NodeNumber(node.parse().ok()?) }),
        ("rooms", room) => {
            let room = HEXLOWER.decode(room.as_bytes()).ok()?.try_into().ok()?;
            Some(Key::Room { epoch, room: RoomKey(room) })
        }
        _ => None,
    }
}

/// A value as text.
pub fn text(value: Value) -> String {
    match value {
        Value::Epoch(epoch) => format!("epoch {epoch}"),
        Value::Ripe => "ripe".to_owned(),
        Value::Alive(life, at) => format!("alive {} {} {}", life.0, at.address, HEXLOWER.encode(&at.pin)),
        Value::Ended(life) => format!("ended {}", life.0),
        Value::Home { node, life } => format!("home {} {}", node.0, life.0),
        Value::Empty => "empty".to_owned(),
    }
}

/// The value that a text means, if this version knows it and it may stand under the key.
pub fn value(key: Key, text: &[u8]) -> Option<Value> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let kind = words.next()?;
    if let (Key::Life { .. }, "alive") = (key, kind) {
        let life = Life(words.next()?.parse().ok()?);
        let address = words.next()?.parse().ok()?;
        let pin = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
        return words.next().is_none().then_some(Value::Alive(life, Whereabouts { address, pin }));
    }
    let mut number = || words.next()?.parse().ok();
    let value = match (key, kind) {
        (Key::Epoch, "epoch") => Value::Epoch(number()?),
        (Key::Ripe { .. }, "ripe") => Value::Ripe,
        (Key::Life { .. }, "ended") => Value::Ended(Life(number()?)),
        (Key::Room { .. }, "home") => {
            Value::Home { node: NodeNumber(number()?.try_into().ok()?), life: Life(number()?) }
        }
        (Key::Room { .. }, "empty") => Value::Empty,
        _ => return None,
    };
    words.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Key = Key::Room { epoch: 7, room: RoomKey([0xab; 16]) };
    const NODE: Key = Key::Life { epoch: 7, node: NodeNumber(2) };

    /// A node's record.
    fn alive() -> (Value, String) {
        let at = Whereabouts { address: "[2001:db8::1]:4433".parse().expect("an address"), pin: [0xcd; 32] };
        let text = format!("alive 18446744073709551615 [2001:db8::1]:4433 {}", "cd".repeat(32));
        (Value::Alive(Life(u64::MAX), at), text)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (here, here_text) = alive();
        let all = [
            (Key::Epoch, Value::Epoch(7), "epoch", "epoch 7"),
            (Key::Ripe { epoch: 7 }, Value::Ripe, "7.nodes.ripe", "ripe"),
            (NODE, here, "7.nodes.2", here_text.as_str()),
            (NODE, Value::Ended(Life(9)), "7.nodes.2", "ended 9"),
            (
                ROOM,
                Value::Home { node: NodeNumber(2), life: Life(9) },
                "7.rooms.abababababababababababababababab",
                "home 2 9",
            ),
            (ROOM, Value::Empty, "7.rooms.abababababababababababababababab", "empty"),
        ];
        for (a_key, a_value, a_subject, a_text) in all {
            assert_eq!((subject(a_key).as_str(), text(a_value).as_str()), (a_subject, a_text));
            assert_eq!((key(a_subject), value(a_key, a_text.as_bytes())), (Some(a_key), Some(a_value)));
        }
    }

    #[test]
    fn whatever_else_stands_there_is_not_taken_for_something() {
        for subject in
            ["", "epoch.1", "x.nodes.1", "7.nodes", "7.nodes.70000", "7.nodes.1.2", "7.rooms.ab", "7.people.1"]
        {
            assert_eq!(key(subject), None, "{subject}");
        }
        let (_, whole) = alive();
        let short = whole.strip_suffix("cd").expect("a pin's end");
        let more = format!("{whole} x");
        let texts =
            ["", "alive", "alive x", "alive 1", "alive 1 192.0.2.1:1", "ripe", "home 1 2", "Alive 1", short, &more];
        for text in texts {
            assert_eq!(value(NODE, text.as_bytes()), None, "{text}");
        }
        assert_eq!(value(ROOM, b"home 70000 1"), None);
        assert_eq!(value(ROOM, &[0xff, 0xfe]), None);
    }

    //
    #[test]
    fn a_record_is_read_only_with_the_secret_and_under_the_subject_that_it_was_written_for() {
        let key = RecordKey([7; 32]);
        let marked = key.marked("epoch", "epoch 7");
        assert_eq!(marked, "epoch 7 0887e5353ebccea7a565d1b0c917916c");
        assert_eq!(key.unmarked("epoch", marked.as_bytes()), Some(&b"epoch 7"[..]));
        assert_eq!(RecordKey([8; 32]).unmarked("epoch", marked.as_bytes()), None, "another secret");
        assert_eq!(key.unmarked("7.nodes.1", marked.as_bytes()), None, "another subject");
        for at in 0..marked.len() {
            let mut changed = marked.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(key.unmarked("epoch", &changed), None, "byte {at}");
        }
        for cut in 0..marked.len() {
            assert_eq!(key.unmarked("epoch", &marked.as_bytes()[..cut]), None, "cut to {cut}");
        }
    }
}
