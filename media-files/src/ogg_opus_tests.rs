//! Opus in Ogg: what is written is read again, and malformed files are named.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const SAMPLES: [(&str, &[u8]); 2] = [
    ("speech-a.opus", include_bytes!("../../client/samples/speech-a.opus")),
    ("speech-b.opus", include_bytes!("../../client/samples/speech-b.opus")),
];
const PACKET_US: u64 = 20_000;
const FLAGS_AT: usize = 5;
const GRANULE_POSITION_AT: usize = 6;
const CHECKSUM_AT: usize = 22;
const LAST_PAGE: u8 = 4;

fn headers() -> Headers {
    Headers {
        head: b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0".to_vec(),
        tags: b"OpusTags\x02\0\0\0us\0\0\0\0".to_vec(),
    }
}

/// A mono SILK packet of 20 ms whose content is a number.
fn packet(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![0x08, high, low]
}

fn read(bytes: &[u8]) -> Result<(Headers, Vec<Packet>), MediaError> {
    let reader = Reader::new(Cursor::new(bytes))?;
    let headers = reader.headers().clone();
    Ok((headers, reader.collect::<Result<_, _>>()?))
}

fn write(headers: Headers, packets: &[Packet]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), headers).expect("valid headers");
    for packet in packets {
        writer.write_packet(packet.time_us, packet.data.clone()).expect("a valid packet");
    }
    writer.finish().expect("a Vec takes everything")
}

/// Where each page begins.
fn pages(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"OggS")).collect()
}

/// The checksum of an Ogg page (RFC 3533 section 6): CRC-32 with polynomial 0x04c11db7, no reflection, no inversion.
fn checksum(page: &[u8]) -> u32 {
    page.iter().enumerate().fold(0, |sum, (at, byte)| {
        let byte = if (CHECKSUM_AT..CHECKSUM_AT + 4).contains(&at) { 0 } else { *byte };
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum: u32, _| sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}

/// Makes the checksum of every page right again, so that what lies behind it is reached.
fn mend_checksums(bytes: &mut [u8]) {
    let mut starts = pages(bytes);
    starts.push(bytes.len());
    for range in starts.windows(2).map(|pair| pair[0]..pair[1]) {
        let page = &mut bytes[range];
        if page.len() >= CHECKSUM_AT + 4 {
            let sum = checksum(page);
            page[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

#[test]
fn the_samples_are_speech_in_packets_of_20_ms() {
    for (name, bytes) in SAMPLES {
        let (_, packets) = read(bytes).expect(name);
        assert_eq!(packets.len(), 601, "{name}: 12 s and the decoder's warm-up");
        for (index, packet) in packets.iter().enumerate() {
            assert_eq!((packet.time_us, packet.duration_us), (index as u64 * PACKET_US, PACKET_US), "{name}");
        }
    }
}

#[test]
fn a_file_written_back_is_the_same_packet_for_packet() {
    for (name, bytes) in SAMPLES {
        let (headers, packets) = read(bytes).expect(name);
        let copy = write(headers.clone(), &packets);
        assert_eq!(read(&copy).expect("our own file"), (headers, packets), "{name}");
    }
}

#[test]
fn the_granule_position_of_a_page_is_the_end_of_its_last_packet() {
    let packets: Vec<Packet> = (0..60)
        .map(|number| Packet { time_us: u64::from(number) * PACKET_US, duration_us: PACKET_US, data: packet(number) })
        .collect();
    let bytes = write(headers(), &packets);
    let granule_position = |at: &usize| {
        let field = &bytes[at + GRANULE_POSITION_AT..at + GRANULE_POSITION_AT + 8];
        u64::from_le_bytes(field.try_into().expect("8 bytes"))
    };
    let pages = pages(&bytes);
    assert_eq!(pages.iter().map(granule_position).collect::<Vec<_>>(), [0, 0, 50 * 960, 60 * 960]);
    let last: Vec<bool> = pages.iter().map(|at| bytes[at + FLAGS_AT] & LAST_PAGE != 0).collect();
    assert_eq!(last, [false, false, false, true]);
}

#[test]
fn lost_packets_leave_a_gap_in_time() {
    let kept: Vec<Packet> = [0u16, 1, 5, 6, 60]
        .map(|number| Packet { time_us: u64::from(number) * PACKET_US, duration_us: PACKET_US, data: packet(number) })
        .to_vec();
    let (_, read) = read(&write(headers(), &kept)).expect("our own file");
    assert_eq!(read, kept);
}

#[test]
fn an_empty_stream_still_has_its_end() {
    let bytes = write(headers(), &[]);
    assert_eq!(read(&bytes).expect("our own file"), (headers(), Vec::new()));
    let last = *pages(&bytes).last().expect("it has pages");
    assert_ne!(bytes[last + FLAGS_AT] & LAST_PAGE, 0);
}

#[test]
fn a_packet_before_the_end_of_the_one_before_is_refused() {
    let mut writer = Writer::new(Vec::new(), headers()).expect("valid headers");
    writer.write_packet(0, packet(0)).expect("the first");
    let error = writer.write_packet(PACKET_US - 1000, packet(1)).expect_err("too early");
    let expected = "time of an Opus packet in µs = 19000: must be at or after the end of the packet before";
    assert_eq!(error.to_string(), expected);
    assert!(writer.write_packet(u64::MAX, packet(1)).is_err());
    writer.write_packet(PACKET_US, packet(1)).expect("a refused packet changes nothing");
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let error = |bytes: &[u8]| read(bytes).expect_err("malformed").to_string();
    let with_head = |head: &[u8]| {
        let mut packets = PacketWriter::new(Vec::new());
        packets.write_packet(head.to_vec(), SERIAL, PacketWriteEndInfo::EndPage, 0).expect("a Vec takes everything");
        packets.write_packet(headers().tags, SERIAL, PacketWriteEndInfo::EndStream, 0).expect("a Vec takes everything");
        packets.into_inner()
    };
    assert_eq!(error(b"RIFF, and more than an Ogg page header"), "an Ogg page is malformed");
    assert_eq!(error(&with_head(b"\x01vorbis")), "first packet = \"\\u{1}vorbis\": must be an OpusHead");
    assert_eq!(error(&with_head(b"OpusHead\x01")), "length of OpusHead = 9: must be at least 19 bytes");
    assert_eq!(error(&with_head(b"OpusHead\x10\x01..........")), "version in OpusHead = 16: must be at most 15");
    assert_eq!(error(&with_head(b"OpusHead\x01\0..........")), "channel count in OpusHead = 0: must be at least 1");
    let whole = write(headers(), &[Packet { time_us: 0, duration_us: PACKET_US, data: packet(0) }]);
    assert_eq!(error(&whole[..whole.len() - 1]), "the file ends inside an Ogg page");
    assert_eq!(error(&whole[..pages(&whole)[1]]), "the file ends inside OpusTags");
    let mut changed = whole.clone();
    changed[whole.len() - 1] ^= 1;
    assert_eq!(error(&changed), "an Ogg page is malformed", "the checksum does not fit");
}

#[test]
fn what_is_wrong_with_a_packet_is_named() {
    let error = |packet: &[u8]| packet_samples(packet).expect_err("malformed").to_string();
    assert_eq!(error(&[]), "length of an Opus packet = 0: must be at least 1 byte");
    assert_eq!(error(&[0x0b]), "the file ends inside the frame count of an Opus packet");
    let bound = "must be at least 1, and at most 120 ms in all";
    assert_eq!(error(&[0x0b, 0]), format!("frame count of an Opus packet = 0: {bound}"));
    assert_eq!(error(&[0x0b, 7]), format!("frame count of an Opus packet = 7: {bound}"));
}

/// RFC 6716 section 3.1, table 2.
#[test]
fn a_packet_plays_as_long_as_its_first_byte_says() {
    for (configuration, expected) in [(0, 480), (3, 2880), (12, 480), (13, 960), (16, 120), (19, 960), (31, 960)] {
        assert_eq!(packet_samples(&[configuration << 3]).expect("one frame"), expected);
        let two = packet_samples(&[configuration << 3 | 1]).expect("two frames");
        assert_eq!(two, 2 * expected);
    }
    assert_eq!(packet_samples(&[16 << 3 | 3, 48]).expect("48 frames of 2.5 ms"), 5760);
}

proptest! {
    #[test]
    fn any_packets_come_back(
        shapes in proptest::collection::vec((0u8..32, 0u64..4, 0usize..3000, any::<u8>()), 0..150),
    ) {
        let mut time_us = 0;
        let mut packets = Vec::new();
        for (configuration, lost, length, content) in shapes {
            let mut data = vec![configuration << 3];
            data.resize(1 + length, content);
            let duration_us = microseconds(packet_samples(&data).expect("one frame"));
            time_us += lost.saturating_sub(2) * duration_us;
            packets.push(Packet { time_us, duration_us, data });
            time_us += duration_us;
        }
        prop_assert_eq!(read(&write(headers(), &packets)).expect("our own file"), (headers(), packets));
    }

    #[test]
    fn junk_never_makes_it_panic(mut junk in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&junk);
        junk.splice(0..0, *b"OggS\0");
        mend_checksums(&mut junk);
        let _ = read(&junk);
    }

    #[test]
    fn damage_never_makes_it_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        length in 0usize..2000,
        mend: bool,
    ) {
        let mut bytes = SAMPLES[0].1[..length].to_vec();
        for (index, value) in changes.iter().filter(|_| length > 0) {
            bytes[index.index(length)] = *value;
        }
        if mend {
            mend_checksums(&mut bytes);
        }
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_page_headers_never_make_it_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 4usize..27, any::<u8>()), 1..6),
    ) {
        let packets: Vec<Packet> = (0..70)
            .map(|number| Packet { time_us: u64::from(number) * PACKET_US, duration_us: PACKET_US, data: packet(number) })
            .collect();
        let mut bytes = write(headers(), &packets);
        let pages = pages(&bytes);
        for (page, field, value) in changes {
            bytes[page.get(&pages) + field] = value;
        }
        mend_checksums(&mut bytes);
        let _ = read(&bytes);
    }
}
