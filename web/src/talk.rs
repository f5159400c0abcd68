//! What pages tell each other beside sound and picture: PROTOCOL section 12.7. Here is what of it is taken for what, and how
//! much of it.

use serde::{Deserialize, Serialize};
use supernode_client::e2ee::TrackId;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::text::{clean, clean_lines, clean_name};

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a person, in characters.
const NAME_CHARACTERS_MAX: usize = 64;
/// Longest line of a chat, in characters.
const TEXT_CHARACTERS_MAX: usize = 4000;
/// Longest reaction, in characters: one emoji with all that may be joined to it.
const EMOJI_CHARACTERS_MAX: usize = 12;
/// Longest name of a file, in characters.
const FILE_NAME_CHARACTERS_MAX: usize = 128;
/// Largest file, in bytes: a page keeps it in memory until it is saved.
const FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;

/// One message (R-242, R-243, R-244).
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Talk {
    /// How the sender is, whole: told to each newcomer, and after each change.
    State {
        #[serde(default)]
        name: String,
        #[serde(default)]
        microphone: bool,
        #[serde(default)]
        camera: bool,
        #[serde(default)]
        screen: bool,
        /// Whether guests with the link are looked at first; counts from hosts.
        #[serde(default)]
        lobby: bool,
        /// Whether pictures in AV1 can be shown.
        #[serde(default)]
        av1: bool,
    },
    /// A reaction.
    Reaction { emoji: String },
    /// A file, whose bytes come on the track of this name.
    File {
        /// The track's, in hexadecimal.
        id: String,
        name: String,
        bytes: u64,
        /// In hexadecimal.
        sha256: String,
    },
}

/// What a message says, as JSON, cut to its bounds; nothing if it says nothing that is known here.
#[wasm_bindgen]
pub fn read_talk(message: &[u8]) -> Option<String> {
    serde_json::to_string(&read(message)?).ok()
}

/// A message, of what [`read_talk`] would give out for it; nothing if that would be nothing.
#[wasm_bindgen]
pub fn write_talk(says: &str) -> Option<Vec<u8>> {
    serde_json::to_vec(&read(says.as_bytes())?).ok()
}

/// A line of the chat, as it may be shown; nothing if there is nothing to be seen.
#[wasm_bindgen]
pub fn read_line(line: &[u8]) -> Option<String> {
    let line = line.get(..MESSAGE_BYTES_MAX).unwrap_or(line);
    Some(clean_lines(&String::from_utf8_lossy(line), TEXT_CHARACTERS_MAX)).filter(|line| !line.is_empty())
}

fn read(message: &[u8]) -> Option<Talk> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let talk = match serde_json::from_slice(message).ok()? {
        Talk::State { name, microphone, camera, screen, lobby, av1 } => {
            Talk::State { name: clean_name(&name, NAME_CHARACTERS_MAX), microphone, camera, screen, lobby, av1 }
        }
        Talk::Reaction { emoji } => Talk::Reaction { emoji: clean(&emoji, EMOJI_CHARACTERS_MAX) },
        Talk::File { id, name, bytes, sha256 } => {
            let is_whole = is_hex(&id, size_of::<TrackId>()) && is_hex(&sha256, 32) && bytes <= FILE_BYTES_MAX;
            let name = clean_name(&name.replace(['/', '\\'], "_"), FILE_NAME_CHARACTERS_MAX);
            is_whole.then_some(Talk::File { id, name, bytes, sha256 })?
        }
    };
    let is_empty = matches!(&talk, Talk::Reaction { emoji } if emoji.is_empty());
    (!is_empty).then_some(talk)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Option<String> {
        read_talk(message.as_bytes())
    }

    // R-242, R-243
    #[test]
    fn what_is_known_comes_through_and_what_is_not_is_left_out() {
        let state = r#"{"is":"state","name":"Ada","microphone":true,"mood":"fine"}"#;
        let read =
            r#"{"is":"state","name":"Ada","microphone":true,"camera":false,"screen":false,"lobby":false,"av1":false}"#;
        assert_eq!(said(state).as_deref(), Some(read));
        assert_eq!(said(r#"{"is":"dance"}"#), None);
        for junk in [
            "",
            "[]",
            "null",
            "{",
            r#"{"is":"reaction"}"#,
            r#"{"is":"reaction","emoji":5}"#,
            r#"{"is":"reaction","emoji":"\u0000"}"#,
        ] {
            assert_eq!(said(junk), None, "{junk}");
        }
        let deep = "[".repeat(9000);
        assert_eq!(said(&deep), None);
        assert_eq!(read_talk(&[0xff; 100]), None);
    }

    // R-243
    #[test]
    fn everything_is_cut_to_its_bound() {
        let long = "x".repeat(9000);
        assert_eq!(read_line(long.as_bytes()).expect("a line").chars().count(), TEXT_CHARACTERS_MAX);
        assert_eq!(read_line(b" \n\0 "), None);
        assert_eq!(read_line(b"a\xff\x1b[2J").as_deref(), Some("a\u{fffd}[2J"));
        let state = said(&format!(r#"{{"is":"state","name":"a\u202e{long}"}}"#)).expect("a state");
        assert!(state.contains(r#""name":"axx"#) && state.len() < 200, "{state}");
        assert_eq!(
            said(&format!(r#"{{"is":"reaction","emoji":"{}"}}"#, "x".repeat(20_000))),
            None,
            "a message has a bound"
        );
    }

    // R-243, R-244
    #[test]
    fn a_file_has_no_path_and_no_more_than_its_bound() {
        let file = |name: &str, bytes: u64| {
            let (id, hash) = ("0".repeat(16), "a".repeat(64));
            said(&format!(r#"{{"is":"file","id":"{id}","name":"{name}","bytes":{bytes},"sha256":"{hash}"}}"#))
        };
        assert!(file("../../etc/passwd", 5).expect("a file").contains(r#""name":".._.._etc_passwd""#));
        assert_eq!(file("a", FILE_BYTES_MAX + 1), None);
        assert_eq!(said(r#"{"is":"file","id":"zz","name":"a","bytes":1,"sha256":""}"#), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let says = r#"{"is":"reaction","emoji":"👍🏽"}"#;
        let message = write_talk(says).expect("a message");
        assert_eq!(read_talk(&message).as_deref(), Some(says));
        assert_eq!(write_talk(r#"{"is":"reaction","emoji":""}"#), None);
    }
}
