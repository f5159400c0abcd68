//! From packets of one track to samples: decoded, and what is missing made up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::SyncSender,
    },
    time::Duration,
};

use opusic_c::{Channels, Decoder, ErrorCode, SampleRate};

use super::voice::PACKET;
use crate::media::play::opus_headers;

/// The longest packet of Opus: 120 ms.
const SAMPLES_MAX: usize = 6 * PACKET;
/// Packets that are made up in a row at most: by then libopus has faded to nothing.
const MADE_UP_MAX: u64 = 5;
/// So long nothing is missing: a packet that was lost is told of when the next one is due, and the stock lasts until then.
const FIRST_PATIENCE: Duration = Duration::from_millis(45);
/// What is made up lasts for so long.
const NEXT_PATIENCE: Duration = Duration::from_millis(20);
/// Longer than any silence.
const NOTHING_TO_WAIT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Samples on their way to the loudspeaker.
pub(super) struct Piece {
    pub(super) length: usize,
    pub(super) samples: [f32; PACKET],
}

/// Decodes one track for the loudspeaker. Dropped, its voice is heard to its end.
pub(crate) struct Ear {
    decoder: Decoder,
    to: SyncSender<Piece>,
    dropped: Arc<AtomicU64>,
    samples: Box<[f32]>,
    /// Of the last packet.
    length: usize,
    /// Packets of which the track says that they did not come in time, and those that were made up before that was said.
    missing: u64,
    made_up: u64,
    has_begun: bool,
}

impl Ear {
    /// `dropped` counts pieces that found no place.
    pub(super) fn new(parameters: &[u8], to: SyncSender<Piece>, dropped: Arc<AtomicU64>) -> Result<Self, ErrorCode> {
        let mut decoder = Decoder::new(Channels::Mono, SampleRate::Hz48000)?;
        // How loud whoever made the file meant it (RFC 7845 section 5.1), in the same unit as libopus has it.
        let head = opus_headers(parameters).map(|headers| headers.head).unwrap_or_default();
        if let Some(gain) = head.get(16..18).and_then(|gain| gain.try_into().ok()) {
            decoder.set_gain(i16::from_le_bytes(gain).into())?;
        }
        Ok(Self {
            decoder,
            to,
            dropped,
            samples: vec![0.0; SAMPLES_MAX].into_boxed_slice(),
            length: PACKET,
            missing: 0,
            made_up: 0,
            has_begun: false,
        })
    }

    /// A packet whose time has come.
    pub(crate) fn frame(&mut self, packet: &[u8]) {
        let missing = self.missing.saturating_sub(self.made_up).min(MADE_UP_MAX - self.made_up.min(MADE_UP_MAX));
        for left in (0..missing).rev() {
            // This packet tells a little of the one before it, and of no other.
            self.decode(if left == 0 { packet } else { &[] }, self.length, left == 0);
        }
        (self.missing, self.made_up) = (0, 0);
        self.has_begun = true;
        match self.decode(packet, SAMPLES_MAX, false) {
            Some(length) => self.length = length,
            // Bytes that are no Opus are a packet that did not come.
            None => _ = self.decode(&[], self.length, false),
        }
    }

    /// So many packets did not come in time.
    pub(crate) fn missing(&mut self, packets: u64) {
        self.missing += packets;
    }

    /// Nothing has come for [`Self::patience`].
    pub(crate) fn nothing(&mut self) {
        self.made_up += 1;
        self.decode(&[], self.length, false);
    }

    /// How long to wait for the next packet before something is made up in its place.
    pub(crate) fn patience(&self) -> Duration {
        match self.made_up {
            _ if !self.has_begun => NOTHING_TO_WAIT_FOR,
            0 => FIRST_PATIENCE,
            1..MADE_UP_MAX => NEXT_PATIENCE,
            _ => NOTHING_TO_WAIT_FOR,
        }
    }

    /// Decodes a packet, or what is told in it of the one before it; nothing is a packet that was lost. Returns its length.
    fn decode(&mut self, packet: &[u8], room: usize, one_before: bool) -> Option<usize> {
        let decoded = self.decoder.decode_float_to_slice(packet, &mut self.samples[..room], one_before);
        let length = decoded.ok()?.min(room);
        for samples in self.samples[..length].chunks(PACKET) {
            let mut piece = Piece { length: samples.len(), samples: [0.0; PACKET] };
            piece.samples[..samples.len()].copy_from_slice(samples);
            if self.to.try_send(piece).is_err() {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::sound::microphone::tests::{packets_of_a_tone, parameters};

    fn ear(room: usize) -> (Ear, Receiver<Piece>, Arc<AtomicU64>) {
        let (to, pieces) = sync_channel(room);
        let dropped = Arc::new(AtomicU64::new(0));
        let ear = Ear::new(&parameters(), to, dropped.clone()).expect("there is memory");
        (ear, pieces, dropped)
    }

    fn heard(pieces: &Receiver<Piece>) -> Vec<f32> {
        pieces.try_iter().flat_map(|piece| piece.samples[..piece.length].to_vec()).collect()
    }

    /// How loud the quietest 10 ms are.
    fn quietest(heard: &[f32]) -> f32 {
        let loud =
            |window: &[f32]| (window.iter().map(|sample| sample * sample).sum::<f32>() / window.len() as f32).sqrt();
        heard.chunks_exact(PACKET / 2).map(loud).fold(f32::MAX, f32::min)
    }

    #[test]
    fn a_tone_is_heard_as_loud_as_it_was() {
        let (mut ear, pieces, dropped) = ear(1000);
        packets_of_a_tone(100).iter().for_each(|packet| ear.frame(packet));
        let heard = heard(&pieces);
        assert_eq!(heard.len(), 100 * PACKET);
        assert!(quietest(&heard[10 * PACKET..]) > 0.25, "{}", quietest(&heard[10 * PACKET..]));
        assert_eq!(dropped.load(Relaxed), 0);
    }

    #[test]
    fn every_tenth_packet_may_be_lost_without_a_gap_and_costs_no_time() {
        let (mut ear, pieces, _) = ear(1000);
        for (number, packet) in packets_of_a_tone(200).iter().enumerate() {
            match number % 10 {
                // Told of when the next one is due.
                5 => ear.missing(1),
                _ => ear.frame(packet),
            }
        }
        let heard = heard(&pieces);
        assert_eq!(heard.len(), 200 * PACKET);
        assert!(quietest(&heard[10 * PACKET..]) > 0.15, "{}", quietest(&heard[10 * PACKET..]));
    }

    #[test]
    fn what_was_made_up_before_it_was_known_to_be_missing_is_not_made_up_twice_and_nothing_is_for_long() {
        let (mut ear, pieces, _) = ear(1000);
        let packets = packets_of_a_tone(40);
        assert_eq!(ear.patience(), NOTHING_TO_WAIT_FOR, "nobody has spoken");
        packets[..20].iter().for_each(|packet| ear.frame(packet));
        assert_eq!(ear.patience(), FIRST_PATIENCE);
        (0..2).for_each(|_| ear.nothing());
        ear.missing(3);
        ear.frame(&packets[23]);
        assert_eq!(heard(&pieces).len(), 24 * PACKET);
        for _ in 0..MADE_UP_MAX {
            assert_ne!(ear.patience(), NOTHING_TO_WAIT_FOR);
            ear.nothing();
        }
        assert_eq!(ear.patience(), NOTHING_TO_WAIT_FOR, "a long break is silence");
        ear.missing(100);
        ear.frame(&packets[30]);
        assert_eq!(heard(&pieces).len(), (MADE_UP_MAX as usize + 1) * PACKET);
    }

    #[test]
    fn bytes_that_are_no_opus_are_a_packet_that_was_lost_and_a_full_queue_loses_the_newest() {
        let (mut ear, pieces, dropped) = ear(12);
        packets_of_a_tone(10).iter().for_each(|packet| ear.frame(packet));
        ear.frame(&[0xff; 3]);
        assert_eq!(heard(&pieces).len(), 11 * PACKET);
        packets_of_a_tone(15).iter().for_each(|packet| ear.frame(packet));
        assert_eq!((heard(&pieces).len(), dropped.load(Relaxed)), (12 * PACKET, 3));
    }
}
