//! From everybody's samples to the loudspeaker.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use alsa::{Direction, PCM};
use supernode_client::RemoteTrack;

use super::{
    device::{self, PERIOD},
    ear::{Ear, Piece},
    voice::{Voice, VoiceFigures},
};
use crate::progress::note;

/// As many as a room has members; whoever comes beyond that is not heard, which is counted.
const VOICES_MAX: usize = 250;
/// Voices that may come at once.
const JOINING_MAX: usize = 250;
/// Pieces of one voice that wait to be taken, which happens a hundred times a second: a second of sound.
const PIECES_MAX: usize = 50;

/// A loudspeaker, open. Dropped, it is closed, and what went wrong is said.
pub(crate) struct Loudspeaker {
    joining: SyncSender<Speaking>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    name: String,
    stop: AtomicBool,
    /// That were heard.
    voices: AtomicU64,
    /// Pieces that found no place.
    dropped: Arc<AtomicU64>,
    /// How often the device had nothing to play.
    underruns: AtomicU64,
    /// Of voices that are over.
    dry: AtomicU64,
    skipped: AtomicU64,
}

/// One voice, and what it is to say next.
struct Speaking {
    voice: Voice,
    pieces: Receiver<Piece>,
    is_over: bool,
}

impl Loudspeaker {
    /// Opens a device and begins to play silence on it.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let pcm = device::open(name, Direction::Playback)?;
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let (joining, coming) = sync_channel(JOINING_MAX);
        let voices = Vec::with_capacity(VOICES_MAX);
        let playing = Playing { coming, voices, mixed: [0.0; PERIOD], shared: shared.clone() };
        let thread = thread::Builder::new().name("loudspeaker".into()).spawn(move || playing.run(pcm))?;
        Ok(Self { joining, shared, thread: Some(thread) })
    }

    /// What this track is to be heard by; `None` if it is no Opus, or there is no place for more voices.
    pub(crate) fn ear(&self, track: &RemoteTrack) -> Option<Ear> {
        if track.info().codec != "opus" {
            return None;
        }
        let (to, pieces) = sync_channel(PIECES_MAX);
        self.joining.try_send(Speaking { voice: Voice::new(), pieces, is_over: false }).ok()?;
        self.shared.voices.fetch_add(1, Relaxed);
        Ear::new(&track.info().parameters, to, self.shared.dropped.clone()).ok()
    }
}

impl Drop for Loudspeaker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        // At most as long as the thread waits for its device: the next call may want that for itself alone.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let Shared { voices, dropped, underruns, dry, skipped, .. } = &*self.shared;
        if voices.load(Relaxed) > 0 {
            note(&format!(
                "loudspeaker: {} voices, {} pieces dropped, {} ms left out, broke off {} times, not given in time {} times",
                voices.load(Relaxed),
                dropped.load(Relaxed),
                skipped.load(Relaxed) * 10 / PERIOD as u64,
                dry.load(Relaxed),
                underruns.load(Relaxed)
            ));
        }
    }
}

/// What the thread has.
struct Playing {
    coming: Receiver<Speaking>,
    voices: Vec<Speaking>,
    mixed: [f32; PERIOD],
    shared: Arc<Shared>,
}

impl Playing {
    fn run(mut self, mut pcm: PCM) {
        while let Err(error) = self.play(&pcm) {
            drop(pcm);
            match device::reopen(&self.shared.name, Direction::Playback, error, &self.shared.stop) {
                Some(back) => pcm = back,
                None => break,
            }
        }
        self.voices.iter().for_each(|speaking| self.count(speaking.voice.figures()));
    }

    /// Until told to stop.
    fn play(&mut self, pcm: &PCM) -> alsa::Result<()> {
        let io = pcm.io_i16()?;
        let mut out = [0; PERIOD];
        let mut written = PERIOD;
        let mut last = Instant::now();
        while !self.shared.stop.load(Relaxed) {
            let ready = device::is_ready(pcm, &mut last).and_then(|ready| {
                if !ready {
                    return Ok(0);
                }
                if written == PERIOD {
                    self.mix(&mut out);
                    written = 0;
                }
                io.writei(&out[written..])
            });
            match ready {
                Ok(frames) => written += frames,
                Err(error) => {
                    if device::recover(pcm, error, Direction::Playback)? {
                        self.shared.underruns.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        Ok(())
    }

    /// The next 10 ms of everybody together.
    fn mix(&mut self, out: &mut [i16; PERIOD]) {
        while let Ok(speaking) = self.coming.try_recv() {
            if self.voices.len() < VOICES_MAX {
                self.voices.push(speaking);
            }
        }
        self.mixed.fill(0.0);
        for speaking in &mut self.voices {
            speaking.take();
            speaking.voice.add_to(&mut self.mixed);
        }
        for (out, mixed) in out.iter_mut().zip(&self.mixed) {
            *out = (mixed * 32_767.0).clamp(-32_768.0, 32_767.0) as i16;
        }
        let shared = &self.shared;
        self.voices.retain(|speaking| {
            let goes_on = !speaking.is_over || speaking.voice.is_playing();
            if !goes_on {
                shared.count(speaking.voice.figures());
            }
            goes_on
        });
    }

    fn count(&self, figures: VoiceFigures) {
        self.shared.count(figures);
    }
}

impl Shared {
    fn count(&self, VoiceFigures { dry, skipped }: VoiceFigures) {
        self.dry.fetch_add(dry, Relaxed);
        self.skipped.fetch_add(skipped, Relaxed);
    }
}

impl Speaking {
    fn take(&mut self) {
        loop {
            match self.pieces.try_recv() {
                Ok(piece) => self.voice.push(&piece.samples[..piece.length]),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playing() -> (SyncSender<Speaking>, Playing) {
        let (joining, coming) = sync_channel(JOINING_MAX);
        let voices = Vec::with_capacity(VOICES_MAX);
        (joining, Playing { coming, voices, mixed: [0.0; PERIOD], shared: Arc::default() })
    }

    #[test]
    fn everybody_is_heard_at_once_too_loud_is_cut_and_whoever_is_over_is_forgotten() {
        let (joining, mut playing) = playing();
        let says = |level: f32| {
            let (to, pieces) = sync_channel(PIECES_MAX);
            for _ in 0..10 {
                to.try_send(Piece { length: 960, samples: [level; 960] }).expect("there is room");
            }
            joining.try_send(Speaking { voice: Voice::new(), pieces, is_over: false }).expect("there is room");
            to
        };
        let (a, b) = (says(0.25), says(0.5));
        let mut out = [0; PERIOD];
        (0..3).for_each(|_| playing.mix(&mut out));
        assert!(out.iter().all(|sample| (24_000..25_000).contains(sample)), "{out:?}");
        let c = says(-1.9);
        (0..3).for_each(|_| playing.mix(&mut out));
        assert!(out.iter().all(|sample| *sample < -32_000), "{out:?}");
        drop((a, b, c));
        (0..40).for_each(|_| playing.mix(&mut out));
        assert!(playing.voices.is_empty() && out == [0; PERIOD]);
    }

    #[test]
    fn more_voices_than_a_room_has_are_not_taken() {
        let (joining, mut playing) = playing();
        let mut held = Vec::new();
        for _ in 0..2 * VOICES_MAX {
            let (to, pieces) = sync_channel(PIECES_MAX);
            let full = joining.try_send(Speaking { voice: Voice::new(), pieces, is_over: false }).is_err();
            held.push(to);
            if full {
                playing.mix(&mut [0; PERIOD]);
            }
        }
        playing.mix(&mut [0; PERIOD]);
        assert!(playing.voices.len() == VOICES_MAX && playing.voices.capacity() == VOICES_MAX);
    }
}
