//! Whether what was received is what was sent, packet for packet.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};

use crate::{MediaError, ivf, ogg_opus};

/// What became of a file's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Packets in the source; it may have been played in part, or again and again.
    pub source: usize,
    /// Packets in the copy.
    pub received: usize,
    /// Packets of the copy that are packets of the source, byte for byte and in the source's order.
    pub identical: usize,
    /// Whether what the headers say of the media is the same.
    pub headers_identical: bool,
}

/// Compares a recording with the file it was sent from.
///
/// # Errors
/// [`MediaError`] if either is no Ogg Opus or IVF file or the two are of different kinds.
pub fn files(source: &Path, copy: &Path) -> Result<Comparison, MediaError> {
    readers(BufReader::new(File::open(source)?), BufReader::new(File::open(copy)?))
}

/// As [`files`], on anything that can be read.
///
/// # Errors
/// As [`files`].
pub fn readers(source: impl Read + Seek, copy: impl Read + Seek) -> Result<Comparison, MediaError> {
    let (source, copy) = (Content::read(source)?, Content::read(copy)?);
    if source.kind != copy.kind {
        return Err(MediaError::field("kind of the copy", copy.kind, source.kind));
    }
    Ok(Comparison {
        source: source.packets.len(),
        received: copy.packets.len(),
        identical: in_order(&source.packets, &copy.packets),
        headers_identical: source.headers == copy.headers,
    })
}

struct Content {
    kind: &'static str,
    headers: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

impl Content {
    fn read(mut file: impl Read + Seek) -> Result<Self, MediaError> {
        let mut signature = [0; 4];
        match file.read_exact(&mut signature) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(MediaError::CutShort { field: "the signature" });
            }
            other => other?,
        }
        file.rewind()?;
        match &signature {
            b"OggS" => {
                let reader = ogg_opus::Reader::new(file)?;
                let headers = [&reader.headers().head[..], &reader.headers().tags].concat();
                let packets = reader.map(|packet| Ok(packet?.data)).collect::<Result<_, MediaError>>()?;
                Ok(Self { kind: "Ogg Opus", headers, packets })
            }
            b"DKIF" => {
                let reader = ivf::Reader::new(file)?;
                let headers = reader.header().to_bytes().to_vec();
                let packets = reader.map(|frame| Ok(frame?.data)).collect::<Result<_, MediaError>>()?;
                Ok(Self { kind: "IVF", headers, packets })
            }
            other => Err(MediaError::field("signature", other.escape_ascii(), "OggS or DKIF")),
        }
    }
}

/// How many packets of `copy` are found in `source`, played in a circle, each after the one found before.
fn in_order(source: &[Vec<u8>], copy: &[Vec<u8>]) -> usize {
    let (mut identical, mut at) = (0, 0);
    for packet in copy {
        let (before, after) = source.split_at(at);
        if let Some(skipped) = after.iter().chain(before).position(|candidate| candidate == packet) {
            identical += 1;
            at = (at + skipped + 1) % source.len();
        }
    }
    identical
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sample(name: &str) -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/samples")).join(name)
    }

    fn packets(numbers: &[u8]) -> Vec<Vec<u8>> {
        numbers.iter().map(|number| vec![*number]).collect()
    }

    #[test]
    fn a_file_is_identical_to_itself() {
        for (name, count) in [("speech-a.opus", 601), ("picture-a.ivf", 240), ("picture-b.ivf", 240)] {
            let comparison = files(&sample(name), &sample(name)).expect("the samples are well-formed");
            let all = Comparison { source: count, received: count, identical: count, headers_identical: true };
            assert_eq!(comparison, all, "{name}");
        }
    }

    #[test]
    fn another_recording_is_not_identical() {
        let comparison = files(&sample("speech-a.opus"), &sample("speech-b.opus")).expect("both are Opus");
        assert!(comparison.identical < comparison.received / 10, "{comparison:?}: silence may be alike");
    }

    #[test]
    fn files_of_different_kinds_are_not_compared() {
        let error = files(&sample("speech-a.opus"), &sample("picture-a.ivf")).expect_err("different kinds");
        assert_eq!(error.to_string(), "kind of the copy = IVF: must be Ogg Opus");
    }

    #[test]
    fn lost_changed_and_swapped_packets_are_not_identical() {
        let source = packets(&[1, 2, 3, 4]);
        assert_eq!(in_order(&source, &packets(&[1, 2, 3, 4, 1, 2])), 6, "played again");
        assert_eq!(in_order(&source, &packets(&[1, 4])), 2, "two lost, and the rest is what was sent");
        assert_eq!(in_order(&source, &packets(&[1, 9, 3])), 2, "one changed");
        assert_eq!(in_order(&[], &packets(&[1])), 0);
    }
}
