//! Opus in Ogg (RFC 7845), one logical stream a file.

use std::io::{Read, Seek, Write};

use ogg::{OggReadError, PacketReader, PacketWriteEndInfo, PacketWriter};

use crate::MediaError;

/// Granule positions count samples at this rate, whatever the input's rate was (RFC 7845 section 4).
const SAMPLES_PER_SECOND: u64 = 48_000;
/// Audio packets on one page: a second of 20 ms packets, so that a file cut off loses no more.
const PACKETS_PER_PAGE: u32 = 50;
/// Serial number of the one logical stream we write.
const SERIAL: u32 = 1;
/// The latest moment a packet may have, in microseconds: about 3,000 years, far from overflowing a granule position.
const TIME_US_MAX: u64 = 100_000_000_000_000_000;

/// The two header packets of a stream (RFC 7845 section 5), as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The identification header, `OpusHead`.
    pub head: Vec<u8>,
    /// The comment header, `OpusTags`.
    pub tags: Vec<u8>,
}

impl Headers {
    fn check(&self) -> Result<(), MediaError> {
        let head = &self.head;
        if !head.starts_with(b"OpusHead") {
            return Err(MediaError::field("first packet", shown(head), "an OpusHead"));
        }
        if head.len() < 19 {
            return Err(MediaError::field("length of OpusHead", head.len(), "at least 19 bytes"));
        }
        if head[8] & 0xf0 != 0 {
            return Err(MediaError::field("version in OpusHead", head[8], "at most 15"));
        }
        if head[9] == 0 {
            return Err(MediaError::field("channel count in OpusHead", 0, "at least 1"));
        }
        if !self.tags.starts_with(b"OpusTags") {
            return Err(MediaError::field("second packet", shown(&self.tags), "an OpusTags"));
        }
        Ok(())
    }
}

/// One audio packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it begins to play, in microseconds since the stream's beginning, the decoder's warm-up included.
    pub time_us: u64,
    /// How long it plays.
    pub duration_us: u64,
    /// The Opus packet.
    pub data: Vec<u8>,
}

/// Reads a file packet by packet.
pub struct Reader<R: Read + Seek> {
    packets: PacketReader<R>,
    serial: u32,
    headers: Headers,
    /// The packets of the current page, last first, so that the next is popped off the end.
    page: Vec<Packet>,
    /// Where the page read last ends, in samples.
    end_samples: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`MediaError`] if this is no Ogg Opus file.
    pub fn new(file: R) -> Result<Self, MediaError> {
        let mut packets = PacketReader::new(file);
        let head = next(&mut packets)?.ok_or(MediaError::CutShort { field: "OpusHead" })?;
        let serial = head.stream_serial();
        let tags = next(&mut packets)?.ok_or(MediaError::CutShort { field: "OpusTags" })?;
        check_serial(serial, &tags)?;
        let headers = Headers { head: head.data, tags: tags.data };
        headers.check()?;
        Ok(Self { packets, serial, headers, page: Vec::new(), end_samples: 0 })
    }

    /// The header packets.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The next audio packet, or `None` after the last.
    ///
    /// # Errors
    /// [`MediaError`] where the file is malformed.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, MediaError> {
        if self.page.is_empty() {
            self.read_page()?;
        }
        Ok(self.page.pop())
    }

    /// Reads all packets that end on the next page, as only the page says when its last one ends.
    fn read_page(&mut self) -> Result<(), MediaError> {
        let mut page = Vec::new();
        let mut samples = 0;
        loop {
            let Some(packet) = next(&mut self.packets)? else {
                return if page.is_empty() { Ok(()) } else { Err(MediaError::CutShort { field: "an Ogg page" }) };
            };
            check_serial(self.serial, &packet)?;
            let duration = packet_samples(&packet.data)?;
            samples += duration;
            let (page_ends, granule_position) = (packet.last_in_page(), packet.absgp_page());
            let stream_ends = packet.last_in_stream();
            page.push((duration, packet.data));
            if page_ends {
                let start = self.page_start(granule_position, samples, stream_ends)?;
                self.end_samples = start + samples;
                self.page = with_times(start, page);
                return Ok(());
            }
        }
    }

    /// Where the page's first packet begins. A page may begin after the end of the one before, when packets were lost
    /// between, and the last page may end early, when the end is to be cut off (RFC 7845 sections 4.1 and 4.4).
    fn page_start(&self, granule_position: u64, samples: u64, stream_ends: bool) -> Result<u64, MediaError> {
        match granule_position.checked_sub(samples) {
            _ if granule_position > i64::MAX as u64 / 2 => {
                Err(MediaError::field("granule position", granule_position, "less than 2^62"))
            }
            Some(start) if start >= self.end_samples => Ok(start),
            _ if stream_ends => Ok(self.end_samples),
            _ => Err(MediaError::field("granule position", granule_position, "the end of the page's last packet")),
        }
    }
}

impl<R: Read + Seek> Iterator for Reader<R> {
    type Item = Result<Packet, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_packet().transpose()
    }
}

/// Writes a file packet by packet. Without [`Self::finish`] the file lacks its last packet and the mark of its end.
pub struct Writer<W: Write> {
    packets: PacketWriter<'static, W>,
    /// The packet before the next, held back because only the next tells whether a page or the stream ends with it.
    held: Held,
    packets_on_page: u32,
}

struct Held {
    data: Vec<u8>,
    end_samples: u64,
    ends_page: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a file with these headers.
    ///
    /// # Errors
    /// [`MediaError`] if they are no Opus headers or the file cannot be written.
    pub fn new(file: W, headers: Headers) -> Result<Self, MediaError> {
        headers.check()?;
        let mut packets = PacketWriter::new(file);
        packets.write_packet(headers.head, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        let held = Held { data: headers.tags, end_samples: 0, ends_page: true };
        Ok(Self { packets, held, packets_on_page: 0 })
    }

    /// Writes the next packet, which begins to play at `time_us` since the stream's beginning. Where packets are
    /// missing before it, the file says so.
    ///
    /// # Errors
    /// [`MediaError::Field`] if it is no Opus packet or begins before the end of the one before.
    pub fn write_packet(&mut self, time_us: u64, data: Vec<u8>) -> Result<(), MediaError> {
        if time_us > TIME_US_MAX {
            return Err(MediaError::field("time of an Opus packet in µs", time_us, "at most 10^17"));
        }
        let (start, samples) = (samples(time_us), packet_samples(&data)?);
        if start < self.held.end_samples {
            let bound = "at or after the end of the packet before";
            return Err(MediaError::field("time of an Opus packet in µs", time_us, bound));
        }
        let page_ends = self.held.ends_page || start > self.held.end_samples;
        self.packets_on_page = if page_ends { 1 } else { self.packets_on_page + 1 };
        let ends_page = self.packets_on_page == PACKETS_PER_PAGE;
        let held = std::mem::replace(&mut self.held, Held { data, end_samples: start + samples, ends_page });
        let end = if page_ends { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
        Ok(self.packets.write_packet(held.data, SERIAL, end, held.end_samples)?)
    }

    /// Marks the end of the stream and gives the file back.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn finish(mut self) -> Result<W, MediaError> {
        let Held { data, end_samples, .. } = self.held;
        self.packets.write_packet(data, SERIAL, PacketWriteEndInfo::EndStream, end_samples)?;
        let mut file = self.packets.into_inner();
        file.flush()?;
        Ok(file)
    }
}

fn next<R: Read + Seek>(packets: &mut PacketReader<R>) -> Result<Option<ogg::Packet>, MediaError> {
    packets.read_packet().map_err(|error| match error {
        OggReadError::ReadError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            MediaError::CutShort { field: "an Ogg page" }
        }
        OggReadError::ReadError(error) => MediaError::Io(error),
        error => MediaError::OggPage(error),
    })
}

fn check_serial(serial: u32, packet: &ogg::Packet) -> Result<(), MediaError> {
    if packet.stream_serial() == serial {
        return Ok(());
    }
    Err(MediaError::field(
        "serial number of an Ogg page",
        packet.stream_serial(),
        "the first page's: one stream a file",
    ))
}

/// Gives packets their times and turns their order round.
fn with_times(start: u64, page: Vec<(u64, Vec<u8>)>) -> Vec<Packet> {
    let mut at = start;
    let mut packets: Vec<Packet> = page
        .into_iter()
        .map(|(duration, data)| {
            let time_us = microseconds(at);
            at += duration;
            Packet { time_us, duration_us: microseconds(duration), data }
        })
        .collect();
    packets.reverse();
    packets
}

/// How many samples a packet plays for: its frame size times its frames (RFC 6716 section 3.1 and 3.2).
fn packet_samples(packet: &[u8]) -> Result<u64, MediaError> {
    let Some(table_of_contents) = packet.first() else {
        return Err(MediaError::field("length of an Opus packet", 0, "at least 1 byte"));
    };
    let configuration = table_of_contents >> 3;
    let frame_samples = match configuration {
        0..=11 => [480, 960, 1920, 2880][usize::from(configuration & 3)],
        12..=15 => [480, 960][usize::from(configuration & 1)],
        _ => [120, 240, 480, 960][usize::from(configuration & 3)],
    };
    let frames = match (table_of_contents & 3, packet.get(1)) {
        (0, _) => 1,
        (1 | 2, _) => 2,
        (_, Some(byte)) => u64::from(byte & 0x3f),
        (_, None) => return Err(MediaError::CutShort { field: "the frame count of an Opus packet" }),
    };
    let samples = frames * frame_samples;
    if frames == 0 || samples > SAMPLES_PER_SECOND * 120 / 1000 {
        return Err(MediaError::field(
            "frame count of an Opus packet",
            frames,
            "at least 1, and at most 120 ms in all",
        ));
    }
    Ok(samples)
}

fn microseconds(samples: u64) -> u64 {
    (u128::from(samples) * 1_000_000 / u128::from(SAMPLES_PER_SECOND)) as u64
}

/// The nearest sample, so that [`microseconds`], which rounds down, is undone.
fn samples(microseconds: u64) -> u64 {
    ((u128::from(microseconds) * u128::from(SAMPLES_PER_SECOND) + 500_000) / 1_000_000) as u64
}

/// The first bytes of a packet, for an error message.
fn shown(packet: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&packet[..packet.len().min(8)]))
}

#[cfg(test)]
#[path = "ogg_opus_tests.rs"]
mod tests;
