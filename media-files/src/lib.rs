//! Media files, packet for packet: Ogg Opus for audio, IVF for video.
//!
//! A reader gives the packets of a file with their presentation times; a writer makes a file of the same kind out of
//! packets and times. What goes through both comes out byte for byte: nothing is decoded or encoded here.

pub mod compare;
pub mod ivf;
pub mod ogg_opus;
pub mod opus_voice;

use std::io;

/// Why a media file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The file system's doing.
    #[error("the media file cannot be read or written")]
    Io(#[from] io::Error),
    /// A field of the file has a value that it must not have.
    #[error("{field} = {value}: must be {bound}")]
    Field {
        /// The field, by the name its format gives it.
        field: &'static str,
        /// What the file says.
        value: String,
        /// What it may say.
        bound: &'static str,
    },
    /// The file ends too early.
    #[error("the file ends inside {field}")]
    CutShort {
        /// What it ends in.
        field: &'static str,
    },
    /// An Ogg page is malformed.
    #[error("an Ogg page is malformed")]
    OggPage(#[source] ogg::OggReadError),
}

impl MediaError {
    fn field(field: &'static str, value: impl ToString, bound: &'static str) -> Self {
        Self::Field { field, value: value.to_string(), bound }
    }
}
