//! How keys and values stand in the stream: subjects and texts that people can read with `nats`.
//!
//! | subject, below the bucket's | text | means |
//! |---|---|---|
//! | `epoch` | `epoch E` | which epoch it is |
//! | `E.nodes.ripe` | `ripe` | it is old enough for homes |
//! | `E.nodes.N` | `alive L`, `ended L` | the node N lives its life L, or that is over |
//! | `E.rooms.R` | `home N L`, `empty` | where the room R has its home; R is the keyed hash of its name, in hexadecimal |
//!
//! E, N and L are decimal numbers of 64, 16 and 64 bits.

use data_encoding::HEXLOWER;
use supernode_cluster::{Key, Life, NodeNumber, RoomKey, Value};

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
        Value::Alive(life) => format!("alive {}", life.0),
        Value::Ended(life) => format!("ended {}", life.0),
        Value::Home { node, life } => format!("home {} {}", node.0, life.0),
        Value::Empty => "empty".to_owned(),
    }
}

/// The value that a text means, if this version knows it and it may stand under the key.
pub fn value(key: Key, text: &[u8]) -> Option<Value> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let kind = words.next()?;
    let mut number = || words.next()?.parse().ok();
    let value = match (key, kind) {
        (Key::Epoch, "epoch") => Value::Epoch(number()?),
        (Key::Ripe { .. }, "ripe") => Value::Ripe,
        (Key::Life { .. }, "alive") => Value::Alive(Life(number()?)),
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

    #[test]
    fn what_is_written_is_read_again() {
        let all = [
            (Key::Epoch, Value::Epoch(7), "epoch", "epoch 7"),
            (Key::Ripe { epoch: 7 }, Value::Ripe, "7.nodes.ripe", "ripe"),
            (NODE, Value::Alive(Life(u64::MAX)), "7.nodes.2", "alive 18446744073709551615"),
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
        for text in ["", "alive", "alive x", "alive 1 2", "ripe", "home 1 2", "alive -1", "Alive 1"] {
            assert_eq!(value(NODE, text.as_bytes()), None, "{text}");
        }
        assert_eq!(value(ROOM, b"home 70000 1"), None);
        assert_eq!(value(ROOM, &[0xff, 0xfe]), None);
    }
}
