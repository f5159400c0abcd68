//! Words that a relay must never hold, and words that it must: what is planted in a call, so that it can be searched for.

use std::{collections::HashSet, fs, path::Path};

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use supernode_proto::{
    identity::{IdentityKey, RelayPin},
    invite::Invite,
};

use supernode_media_files::{ivf, ogg_opus};

/// Long enough not to be anywhere by chance, short enough to survive when a packet is cut up.
const WINDOW_BYTES: usize = 24;
/// Different byte values that a window must have, so that silence and filling are no canaries.
const DISTINCT_MIN: usize = 12;
/// From window to window in a long frame: several in each QUIC packet that carries a part of it.
const STEP_BYTES: usize = 256;

/// Something to search for, and what to call it without showing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Word {
    pub(super) fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self { name: name.into(), bytes: bytes.as_ref().to_vec() }
    }
}

impl AsRef<[u8]> for Word {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Windows of every Opus packet that plays in the first `seconds` of a file, and of its headers and track description.
///
/// # Errors
/// If the file cannot be read or has nothing distinctive.
pub(super) fn of_audio(path: &Path, seconds: u64) -> anyhow::Result<Vec<Word>> {
    let name = name_of(path);
    let reader = ogg_opus::Reader::new(fs::File::open(path).with_context(|| name.clone())?)?;
    let headers = reader.headers().clone();
    let mut words = vec![
        Word::new(format!("OpusHead of {name}"), &headers.head),
        Word::new(format!("OpusTags of {name}"), &headers.tags),
        label("audio", "opus"),
    ];
    let before = words.len();
    for (index, packet) in reader.enumerate() {
        let packet = packet?;
        if packet.time_us < seconds * 1_000_000 {
            words.extend(windows(&format!("packet {index} of {name}"), &packet.data));
        }
    }
    if words.len() == before { bail!("{name}: nothing in it is distinctive enough to search for") } else { Ok(words) }
}

/// The same for the frames of an IVF file.
///
/// # Errors
/// As [`of_audio`].
pub(super) fn of_video(path: &Path, seconds: u64) -> anyhow::Result<Vec<Word>> {
    let name = name_of(path);
    let mut reader = ivf::Reader::new(std::io::BufReader::new(fs::File::open(path).with_context(|| name.clone())?))?;
    let header = *reader.header();
    let codec = match header.codec {
        ivf::Codec::Vp8 => "vp8",
        ivf::Codec::Vp9 => "vp9",
        ivf::Codec::Av1 => "av1",
    };
    let mut words = vec![Word::new(format!("IVF header of {name}"), header.to_bytes()), label("video", codec)];
    let before = words.len();
    let mut index = 0;
    while let Some(frame) = reader.next_frame()? {
        if frame.time_us < seconds * 1_000_000 {
            words.extend(windows(&format!("frame {index} of {name}"), &frame.data));
        }
        index += 1;
    }
    if words.len() == before { bail!("{name}: nothing in it is distinctive enough to search for") } else { Ok(words) }
}

/// The secret keys of an identity file, as bytes and as the file has them.
///
/// # Errors
/// If it is no identity file.
pub(super) fn of_identity(person: &str, file: &str) -> anyhow::Result<Vec<Word>> {
    #[derive(Deserialize)]
    struct Secrets {
        identity_secret: String,
        device_secret: String,
    }
    let text = fs::read_to_string(file).context("an identity file")?;
    let secrets: Secrets = serde_json::from_str(&text).context("an identity file")?;
    let mut words = Vec::new();
    for (name, hexadecimal) in [("identity", secrets.identity_secret), ("device", secrets.device_secret)] {
        let bytes = HEXLOWER.decode(hexadecimal.as_bytes()).context("an identity file")?;
        words.push(Word::new(format!("{person}'s {name} secret in hexadecimal"), hexadecimal));
        words.push(Word::new(format!("{person}'s {name} secret"), bytes));
    }
    Ok(words)
}

/// A safety number, with and without its spaces.
pub(super) fn of_safety_number(number: &str) -> Vec<Word> {
    vec![Word::new("the safety number", number), Word::new("the safety number's digits", number.replace(' ', ""))]
}

/// What a relay must hold while these people are connected: its own name, which every Hello is signed for, and theirs.
///
/// # Errors
/// If the invite names no key.
pub(super) fn controls(invite: &str, people: &[(&str, IdentityKey)]) -> anyhow::Result<Vec<Word>> {
    let RelayPin(pin) = invite.parse::<Invite>()?.pin.context("the invite has no pin")?;
    let mut words = vec![Word::new("the relay's own pin", pin)];
    words.extend(people.iter().map(|(name, key)| Word::new(format!("{name}'s identity key"), key.as_bytes())));
    Ok(words)
}

/// What of people and their addresses must be in no log and no metric.
pub(super) fn names(person: &str, key: &IdentityKey, ports: &[u16]) -> Vec<Word> {
    let mut words = vec![
        Word::new(format!("{person}'s identity"), key.to_text()),
        Word::new(format!("{person}'s identity in bytes"), key.as_bytes()),
        Word::new(format!("{person}'s identity in hexadecimal"), HEXLOWER.encode(key.as_bytes())),
    ];
    for port in ports {
        let forms = [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}"), format!("[::1]:{port}")];
        words.extend(forms.map(|address| Word::new(format!("{person}'s address"), address)));
    }
    words
}

/// Words without those whose bytes have been there before: two frames may show the same.
pub(super) fn without_repeats(mut words: Vec<Word>) -> Vec<Word> {
    let mut seen = HashSet::new();
    words.retain(|word| seen.insert(word.bytes.clone()));
    words
}

/// A track's name and codec as they stand, one behind the other, in the label before it is sealed: a protobuf message
/// whose second and third fields they are.
fn label(name: &str, codec: &str) -> Word {
    let field = |number: u8, text: &str| [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    Word::new(format!("the description of the {codec} track"), [field(2, name), field(3, codec)].concat())
}

/// The distinctive ones of a window in the middle and, to both sides, one every [`STEP_BYTES`].
fn windows(name: &str, packet: &[u8]) -> Vec<Word> {
    let Some(last) = packet.len().checked_sub(WINDOW_BYTES) else { return Vec::new() };
    let places = (last / 2 % STEP_BYTES..=last).step_by(STEP_BYTES);
    let all = places.map(|at| Word::new(format!("{name} at byte {at}"), &packet[at..at + WINDOW_BYTES]));
    all.filter(|word| word.bytes.iter().collect::<HashSet<_>>().len() >= DISTINCT_MIN).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::memory::{Finder, Memory},
        workspace,
    };

    fn sample(name: &str) -> std::path::PathBuf {
        workspace::root().join("client/samples").join(name)
    }

    #[test]
    fn every_second_of_the_samples_has_canaries_and_each_stands_in_its_file() {
        for (name, of) in [
            ("speech-a.opus", of_audio as fn(&Path, u64) -> _),
            ("speech-b.opus", of_audio),
            ("picture-a.ivf", of_video),
            ("picture-b.ivf", of_video),
        ] {
            let mut words = Vec::new();
            for seconds in 1..=11 {
                let before = words.len();
                let of_so_long: anyhow::Result<Vec<Word>> = of(&sample(name), seconds);
                words = of_so_long.expect("distinctive");
                assert!(words.len() >= before + 10, "{name}: few canaries in second {seconds}");
            }
            words.retain(|word| word.name.contains(" at byte "));
            assert!(words.iter().all(|word| word.bytes.len() == WINDOW_BYTES));
            // Not sought through our own reader, which made them.
            let file = Memory::of_bytes(fs::read(sample(name)).expect("a sample"));
            let counts = Finder::new(&words).expect("few enough").counts(&file);
            // The borders of Ogg pages cut a few.
            let cut = counts.iter().filter(|count| **count == 0).count();
            assert!(cut <= words.len() / 100, "{name}: {cut} of {} canaries are not in the file", words.len());
        }
    }

    #[test]
    fn silence_and_short_packets_are_no_canaries() {
        assert_eq!(windows("silence", &[0xf8; 400]), []);
        assert_eq!(windows("short", &[1, 2, 3]), []);
        let packet: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let places: Vec<String> = windows("x", &packet).into_iter().map(|word| word.name).collect();
        assert_eq!(places, ["x at byte 232", "x at byte 488", "x at byte 744"]);
    }

    #[test]
    fn a_label_is_two_fields_of_a_message() {
        assert_eq!(label("audio", "opus").bytes, b"\x12\x05audio\x1a\x04opus");
    }

    #[test]
    fn secrets_and_numbers_are_searched_for_in_all_their_forms() {
        let path = std::env::temp_dir().join(format!("supernode-canary-{}", std::process::id()));
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        fs::write(&path, format!(r#"{{"identity_secret":"{one}","device_secret":"{two}"}}"#)).expect("written");
        let words = of_identity("A", &path.to_string_lossy()).expect("an identity file");
        fs::remove_file(&path).expect("cleaned up");
        let bytes: Vec<Vec<u8>> = words.into_iter().map(|word| word.bytes).collect();
        assert_eq!(bytes, [one.into_bytes(), vec![1; 32], two.into_bytes(), vec![2; 32]]);
        assert_eq!(of_safety_number("12345 67890")[1].bytes, b"1234567890");

        let key = IdentityKey::new([7; 32]);
        let words = names("A", &key, &[4711]);
        for form in [key.to_text(), "07".repeat(32), "127.0.0.1:4711".into()] {
            assert!(words.iter().any(|word| word.bytes == form.as_bytes()), "{form}");
        }
    }

    #[test]
    fn repeated_words_count_once() {
        let words = vec![Word::new("a", "x"), Word::new("b", "y"), Word::new("c", "x")];
        assert_eq!(without_repeats(words), [Word::new("a", "x"), Word::new("b", "y")]);
    }
}
