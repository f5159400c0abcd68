//! From the microphone to packets: Opus of 20 ms, as pages send it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use alsa::{Direction, PCM};
use opusic_c::{Application, Bitrate, Channels, Encoder, ErrorCode, InbandFec, SampleRate, Signal};
use supernode_client::{OutgoingFrame, Publisher, media::ogg_opus::Headers};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::{
    device,
    voice::{PACKET, RATE},
};
use crate::{media::play::activity, progress::note};

/// Speech is clear at it: what pages use.
const BITS_PER_SECOND: u32 = 32_000;
/// So many in a hundred packets the encoder expects to be lost: each then tells a little of the one before it.
const LOSS_PERCENT: u8 = 5;
/// No packet of ours is larger: five times the average.
const PACKET_BYTES_MAX: usize = 400;
const PACKET_TIME: Duration = Duration::from_millis(20);
/// Packets that wait for a stuck connection; more are dropped. Two tenths of a second: older ones are worth nothing in a talk.
const WAITING_MAX: usize = 10;
/// What a decoder leaves out at the beginning (RFC 7845 section 4.2): libopus's look-ahead at this rate.
const PRE_SKIP: u16 = 312;

/// A microphone, open. Dropped, it is closed, and what was dropped is said.
pub(crate) struct Microphone {
    packets: mpsc::Receiver<Packet>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Packet {
    /// By the microphone's time, so that what is missing is a gap.
    number: u64,
    length: usize,
    bytes: [u8; PACKET_BYTES_MAX],
}

struct Shared {
    name: String,
    stop: AtomicBool,
    /// Somebody listens.
    is_wanted: AtomicBool,
    packets: AtomicU64,
    dropped: AtomicU64,
    overruns: AtomicU64,
}

impl Microphone {
    /// Opens a device and begins to hear it; nothing is kept until [`Self::play`].
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let pcm = device::open(name, Direction::Capture)?;
        let encoder = encoder().map_err(|code| io::Error::other(code.message()))?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stop: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            packets: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
        });
        let (to, packets) = mpsc::channel(WAITING_MAX);
        let listening = Listening {
            encoder,
            to,
            shared: shared.clone(),
            begun: Instant::now(),
            number: 0,
            samples: [0; PACKET],
            filled: 0,
            floats: [0.0; PACKET],
        };
        let thread = thread::Builder::new().name("microphone".into()).spawn(move || listening.run(pcm))?;
        Ok(Self { packets, shared, thread: Some(thread) })
    }

    /// What a track of it says of itself, as a file of the same would.
    pub(crate) fn headers(&self) -> Headers {
        headers()
    }

    /// Sends what it hears until then or until told to stop.
    pub(crate) async fn play(
        mut self,
        publisher: &mut Publisher,
        until: Option<time::Instant>,
        mut stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        self.shared.is_wanted.store(true, Relaxed);
        let over = async {
            match until {
                Some(until) => time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let mut over = std::pin::pin!(over);
        let mut first = None;
        loop {
            let packet = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                () = &mut over => return Ok(()),
                packet = self.packets.recv() => packet,
            };
            // The thread ends after us.
            let Some(Packet { number, length, bytes }) = packet else { return Ok(()) };
            let packet = &bytes[..length];
            let at = PACKET_TIME.as_micros() as u64 * (number - *first.get_or_insert(number));
            let frame = OutgoingFrame { activity: activity(packet), ..OutgoingFrame::independent(packet, at) };
            publisher.send(&frame).await?;
        }
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        // At most as long as the thread waits for its device: the next call may want that for itself alone.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let Shared { packets, dropped, overruns, .. } = &*self.shared;
        if packets.load(Relaxed) > 0 {
            note(&format!(
                "microphone: {} packets, {} dropped, not read in time {} times",
                packets.load(Relaxed),
                dropped.load(Relaxed),
                overruns.load(Relaxed)
            ));
        }
    }
}

fn headers() -> Headers {
    let [skip_low, skip_high] = PRE_SKIP.to_le_bytes();
    let rate = (RATE as u32).to_le_bytes();
    let head = [&b"OpusHead"[..], &[1, 1, skip_low, skip_high], &rate, &[0, 0, 0]].concat();
    let vendor = b"supernode";
    let tags = [&b"OpusTags"[..], &(vendor.len() as u32).to_le_bytes(), vendor, &[0; 4]].concat();
    Headers { head, tags }
}

/// For speech, on lines that lose some. Silence is sent as anything else: without it the relay would see who speaks when.
fn encoder() -> Result<Encoder, ErrorCode> {
    let mut encoder = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip)?;
    encoder.set_bitrate(Bitrate::Value(BITS_PER_SECOND))?;
    encoder.set_signal(Signal::Voice)?;
    encoder.set_inband_fec(InbandFec::Mode1)?;
    encoder.set_packet_loss(LOSS_PERCENT)?;
    encoder.set_dtx(false)?;
    Ok(encoder)
}

/// What the thread has.
struct Listening {
    encoder: Encoder,
    to: mpsc::Sender<Packet>,
    shared: Arc<Shared>,
    begun: Instant,
    /// Of the packet that is being filled.
    number: u64,
    samples: [i16; PACKET],
    filled: usize,
    floats: [f32; PACKET],
}

impl Listening {
    fn run(mut self, mut pcm: PCM) {
        while let Err(error) = self.listen(&pcm) {
            drop(pcm);
            match device::reopen(&self.shared.name, Direction::Capture, error, &self.shared.stop) {
                Some(back) => pcm = back,
                None => return,
            }
            self.begin_anew();
        }
    }

    /// Until told to stop.
    fn listen(&mut self, pcm: &PCM) -> alsa::Result<()> {
        let io = pcm.io_i16()?;
        pcm.start()?;
        let mut last = Instant::now();
        while !self.shared.stop.load(Relaxed) {
            let samples = &mut self.samples[self.filled..];
            match device::is_ready(pcm, &mut last).and_then(|ready| if ready { io.readi(samples) } else { Ok(0) }) {
                Ok(frames) => self.filled += frames,
                Err(error) => {
                    if device::recover(pcm, error, Direction::Capture)? {
                        self.shared.overruns.fetch_add(1, Relaxed);
                        self.begin_anew();
                    }
                }
            }
            if self.filled == PACKET {
                self.filled = 0;
                self.pass_on();
            }
        }
        Ok(())
    }

    /// Some of the microphone's time was not heard.
    fn begin_anew(&mut self) {
        self.filled = 0;
        self.number = self.number.max((self.begun.elapsed().as_micros() / PACKET_TIME.as_micros()) as u64);
    }

    fn pass_on(&mut self) {
        let number = self.number;
        self.number += 1;
        if !self.shared.is_wanted.load(Relaxed) {
            return;
        }
        for (float, sample) in self.floats.iter_mut().zip(&self.samples) {
            *float = f32::from(*sample) / 32_768.0;
        }
        let mut packet = Packet { number, length: 0, bytes: [0; PACKET_BYTES_MAX] };
        let encoded = self.encoder.encode_float_to_slice(&self.floats, &mut packet.bytes);
        packet.length = encoded.unwrap_or(0);
        let is_sent = encoded.is_ok() && self.to.try_send(packet).is_ok();
        let counter = if is_sent { &self.shared.packets } else { &self.shared.dropped };
        counter.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use supernode_client::media::opus_voice;

    use super::*;
    use crate::media::play::opus_parameters;

    pub(crate) fn parameters() -> Vec<u8> {
        opus_parameters(&headers())
    }

    /// Packets of a tone, as the microphone would send them.
    pub(crate) fn packets_of_a_tone(packets: usize) -> Vec<Vec<u8>> {
        let mut encoder = encoder().expect("there is memory");
        let packet = |number: usize| {
            let at = |place: usize| (number * PACKET + place) as f32 / RATE as f32;
            let samples: Vec<f32> =
                (0..PACKET).map(|place| (at(place) * 440.0 * std::f32::consts::TAU).sin() * 0.5).collect();
            let mut bytes = vec![0; PACKET_BYTES_MAX];
            let length = encoder.encode_float_to_slice(&samples, &mut bytes).expect("it is sound");
            bytes.truncate(length);
            bytes
        };
        (0..packets).map(packet).collect()
    }

    #[test]
    fn packets_are_as_large_as_pages_send_them_and_silence_is_sent_too() {
        let packets = packets_of_a_tone(250);
        let bytes: usize = packets.iter().map(Vec::len).sum();
        assert!((24_000..40_000).contains(&(bytes * 8 / 5)), "{} bit/s", bytes * 8 / 5);
        assert!(packets.iter().all(|packet| packet.len() < PACKET_BYTES_MAX));
        assert!(packets.iter().all(|packet| opus_voice::has_voice(packet).is_some()), "in a mode that says who speaks");
        let mut encoder = encoder().expect("there is memory");
        let mut bytes = [0; PACKET_BYTES_MAX];
        let lengths: Vec<usize> = (0..100)
            .map(|_| encoder.encode_float_to_slice(&[0.0; PACKET], &mut bytes).expect("it is silence"))
            .collect();
        assert!(lengths.iter().all(|length| *length > 2), "libopus says with two bytes that nothing is to be sent");
    }

    #[test]
    fn a_track_of_a_microphone_has_the_headers_that_pages_and_files_have() {
        let Headers { head, tags } = headers();
        assert_eq!(head, b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00");
        assert_eq!(tags, b"OpusTags\x09\x00\x00\x00supernode\x00\x00\x00\x00");
    }
}
