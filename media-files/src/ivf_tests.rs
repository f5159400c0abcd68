//! IVF: what is written is read again, and malformed files are named.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const SAMPLES: [(&str, Codec, &[u8]); 2] = [
    ("picture-a.ivf", Codec::Vp8, include_bytes!("../../client/samples/picture-a.ivf")),
    ("picture-b.ivf", Codec::Vp9, include_bytes!("../../client/samples/picture-b.ivf")),
];

fn read(bytes: &[u8]) -> Result<(Header, Vec<Frame>), MediaError> {
    let reader = Reader::new(bytes)?;
    let header = *reader.header();
    Ok((header, reader.collect::<Result<_, _>>()?))
}

fn write(header: Header, frames: &[Frame]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), header).expect("a possible header");
    for frame in frames {
        writer.write_frame(frame.time_us, &frame.data).expect("a possible frame");
    }
    writer.finish().expect("a Vec takes everything").into_inner()
}

#[test]
fn the_samples_are_pictures_with_a_key_frame_every_1_5_s() {
    for (name, codec, bytes) in SAMPLES {
        let (header, frames) = read(bytes).expect(name);
        assert_eq!(header, Header { codec, width: 320, height: 180, rate: 20, scale: 1 }, "{name}");
        assert_eq!(frames.len(), 240, "{name}");
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!((frame.time_us, frame.is_key), (index as u64 * 50_000, index % 30 == 0), "{name}, {index}");
        }
    }
}

#[test]
fn a_file_written_back_is_the_same_byte_for_byte() {
    for (name, _, bytes) in SAMPLES {
        let (header, frames) = read(bytes).expect(name);
        assert!(write(header, &frames) == bytes, "{name}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let sample = SAMPLES[0].2;
    let error = |at: usize, change: &[u8]| {
        let mut bytes = sample.to_vec();
        bytes[at..at + change.len()].copy_from_slice(change);
        read(&bytes).expect_err("malformed").to_string()
    };
    assert_eq!(error(0, b"RIFF"), "signature = RIFF: must be DKIF");
    assert_eq!(error(4, &[1]), "version = 1: must be 0");
    assert_eq!(error(6, &[31]), "header length = 31: must be 32");
    assert_eq!(error(8, b"H264"), "fourcc = H264: must be VP80, VP90 or AV01");
    assert_eq!(error(16, &[0]), "rate/scale = 0/1: must be two numbers above zero");
    assert_eq!(error(19, &[1]), "rate/scale = 16777236/1: must be at most 1,000,000 steps a second");
    let bound = "must be at most OBJECT_BYTES_MAX, 2,097,152 bytes";
    assert_eq!(error(32, &[1, 0, 32, 0]), format!("frame length = 2097153: {bound}"));
    assert_eq!(error(36, &[0xff; 8]), "frame timestamp = 18446744073709551615: must be less than 2^64 µs");
    let cut_to = |length: usize| read(&sample[..length]).expect_err("cut short").to_string();
    assert_eq!(cut_to(31), "the file ends inside the file header");
    assert_eq!(cut_to(33), "the file ends inside a frame header");
    assert_eq!(cut_to(50), "the file ends inside a frame");
    assert!(read(&sample[..32]).expect("no frame is no error").1.is_empty());
}

#[test]
fn timestamps_come_back_when_a_step_is_hardly_more_than_a_microsecond() {
    for (rate, scale) in [(675_722, 1), (999_999, 1), (1_000_000, 1), (30_000, 1001)] {
        let header = Header { codec: Codec::Vp8, width: 1, height: 1, rate, scale };
        for timestamp in (1_167_293_390..1_167_293_400).chain(0..1000) {
            let time_us = header.time_us(timestamp).expect("small enough");
            assert_eq!(header.timestamp(time_us), Some(timestamp), "{rate}/{scale}");
        }
    }
}

#[test]
fn a_frame_larger_than_an_object_is_refused() {
    let header = read(SAMPLES[0].2).expect("the sample").0;
    let mut writer = Writer::new(Cursor::new(Vec::new()), header).expect("a possible header");
    writer.write_frame(0, &vec![0; OBJECT_BYTES_MAX as usize]).expect("the largest");
    writer.write_frame(0, &vec![0; OBJECT_BYTES_MAX as usize + 1]).expect_err("one byte more");
}

#[test]
fn key_frames_are_told_from_their_first_bytes() {
    assert!(Codec::Vp8.is_key_frame(&[0x10]) && !Codec::Vp8.is_key_frame(&[0x11]));
    assert!(Codec::Vp9.is_key_frame(&[0b1000_0000]), "profile 0");
    assert!(Codec::Vp9.is_key_frame(&[0b1011_0000]), "profile 3 has a reserved bit");
    assert!(!Codec::Vp9.is_key_frame(&[0b1000_0100]), "frame_type is set");
    assert!(!Codec::Vp9.is_key_frame(&[0b1000_1000]), "show_existing_frame is set");
    assert!(!Codec::Vp9.is_key_frame(&[0b0000_0000]), "not the frame marker");
    let (delimiter, sequence, frame) = ([0x12, 0x00], [0x0a, 0x01, 0xff], [0x32, 0x01, 0xff]);
    assert!(Codec::Av1.is_key_frame(&[&delimiter[..], &sequence, &frame].concat()));
    assert!(!Codec::Av1.is_key_frame(&[&delimiter[..], &frame].concat()));
    assert!(Codec::Av1.is_key_frame(&[&[0x16, 0x00, 0x00][..], &sequence].concat()), "an extension byte is skipped");
    for codec in Codec::ALL {
        assert!(!codec.is_key_frame(&[]), "{codec:?}: an empty frame starts nothing");
    }
}

proptest! {
    #[test]
    fn any_frames_come_back(
        codec in proptest::sample::select(Codec::ALL.to_vec()),
        width: u16,
        height: u16,
        (rate, scale) in (1u32..=1_000_000, 1u32..=2000),
        frames in proptest::collection::vec((0u64..1 << 32, proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
    ) {
        let header = Header { codec, width, height, rate, scale };
        let frames: Vec<Frame> = frames
            .into_iter()
            .map(|(timestamp, data)| {
                let time_us = header.time_us(timestamp).expect("small enough");
                Frame { time_us, is_key: codec.is_key_frame(&data), data }
            })
            .collect();
        prop_assert_eq!(read(&write(header, &frames)).expect("our own file"), (header, frames));
    }

    #[test]
    fn junk_never_makes_it_panic(junk in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&junk);
        let _ = read(&[&SAMPLES[0].2[..HEADER_BYTES], &junk].concat());
        for codec in Codec::ALL {
            let _ = codec.is_key_frame(&junk);
        }
    }

    #[test]
    fn damage_never_makes_it_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        length in 1usize..20_000,
    ) {
        let mut bytes = SAMPLES[1].2[..length].to_vec();
        for (index, value) in changes {
            bytes[index.index(length)] = value;
        }
        let _ = read(&bytes);
    }
}
