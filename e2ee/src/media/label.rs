//! What a track is, as its publisher tells the other members and nobody else.

use prost::Message as _;
use supernode_proto::limits;

use crate::error::Error;
use crate::media::frame::SEAL_OVERHEAD_BYTES_MAX;

/// Every label is filled up to this before it is sealed, so that its length tells nothing of what is inside.
const PLAIN_LABEL_BYTES: usize = limits::TRACK_LABEL_BYTES_MAX - SEAL_OVERHEAD_BYTES_MAX;

/// A track's name inside the encryption: random, chosen by the publisher, authenticated with every frame, so that the
/// relay cannot pass one track off as another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TrackId(pub [u8; 8]);

/// What a subscriber needs to know of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackInfo {
    /// Its name inside the encryption.
    pub id: TrackId,
    /// A line for people.
    pub name: String,
    /// `opus`, `vp8`, `vp9` or `av1`; others may come.
    pub codec: String,
    /// What the decoder needs before the first frame: the Ogg header packets, the IVF header.
    pub parameters: Vec<u8>,
}

/// The wire form of [`TrackInfo`].
#[derive(Clone, PartialEq, prost::Message)]
struct LabelBody {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    codec: String,
    #[prost(bytes = "vec", tag = "4")]
    parameters: Vec<u8>,
}

/// The plain label: the message behind its length (a protobuf varint), then zeros up to a fixed size.
pub(crate) fn encode(info: &TrackInfo) -> Result<Vec<u8>, Error> {
    let body = LabelBody {
        id: info.id.0.to_vec(),
        name: info.name.clone(),
        codec: info.codec.clone(),
        parameters: info.parameters.clone(),
    };
    let mut plain = body.encode_length_delimited_to_vec();
    if plain.len() > PLAIN_LABEL_BYTES {
        return Err(Error::TooLarge { what: "a track label", length: plain.len(), bound: PLAIN_LABEL_BYTES });
    }
    plain.resize(PLAIN_LABEL_BYTES, 0);
    Ok(plain)
}

/// Reads the plain label; what follows the message is filling.
pub(crate) fn decode(plain: &[u8]) -> Result<TrackInfo, Error> {
    const MALFORMED: Error = Error::Malformed { what: "a track label" };
    let body = LabelBody::decode_length_delimited(plain).map_err(|_| MALFORMED)?;
    let id = body.id.try_into().map_err(|_| MALFORMED)?;
    Ok(TrackInfo { id: TrackId(id), name: body.name, codec: body.codec, parameters: body.parameters })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(parameters: usize) -> TrackInfo {
        TrackInfo {
            id: TrackId(*b"track-01"),
            name: "camera".to_owned(),
            codec: "vp8".to_owned(),
            parameters: vec![7; parameters],
        }
    }

    //
    #[test]
    fn labels_of_any_content_are_equally_long_and_read_back() {
        for parameters in [0, 32, 400] {
            let plain = encode(&info(parameters)).expect("fits");
            assert_eq!(plain.len(), PLAIN_LABEL_BYTES);
            assert_eq!(decode(&plain).expect("reads"), info(parameters));
        }
    }

    #[test]
    fn a_description_that_does_not_fit_is_refused() {
        assert!(matches!(encode(&info(PLAIN_LABEL_BYTES)), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_label_without_a_whole_track_id_is_refused() {
        let body = LabelBody { id: vec![1; 7], ..LabelBody::default() };
        assert!(matches!(decode(&body.encode_length_delimited_to_vec()), Err(Error::Malformed { .. })));
        assert!(matches!(decode(&[]), Err(Error::Malformed { .. })));
    }
}
