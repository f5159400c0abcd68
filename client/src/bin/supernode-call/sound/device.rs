//! Sound devices as ALSA has them: a sound server's, the hardware's, or what a person has named in `~/.asoundrc`.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

use alsa::{
    Direction, Output, PCM, ValueOr,
    device_name::HintIter,
    pcm::{Access, Format, Frames, HwParams, State},
};

use super::{
    LOUDSPEAKER, MICROPHONE, trouble,
    voice::{PACKET, RATE},
};
use crate::{failure::Failure, progress::note};

/// Samples that a device takes or gives at once: 10 ms.
pub(super) const PERIOD: usize = PACKET / 2;
/// What waits for a loudspeaker: delay that everybody hears, so as little as a busy machine bears.
const OUT_BUFFER: Frames = 4 * PERIOD as Frames;
/// What a microphone keeps until it is read: no delay, so plenty.
const IN_BUFFER: Frames = 20 * PERIOD as Frames;
/// How long to wait for a device before it is asked whether to go on.
const WAIT_MS: u32 = 200;
/// A device that does nothing for so long is gone, whatever it says.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How often one that is gone is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Opens a device for one channel of 16 bits at our rate; ALSA converts where the device has others.
pub(super) fn open(name: &str, direction: Direction) -> io::Result<PCM> {
    // Of this thread: what ALSA would print of each of its attempts comes again as one error, in our words.
    let _quiet = Output::local_error_handler();
    try_open(name, direction).map_err(of_alsa)
}

fn try_open(name: &str, direction: Direction) -> alsa::Result<PCM> {
    let pcm = PCM::new(name, direction, true)?;
    {
        let wanted = HwParams::any(&pcm)?;
        wanted.set_rate_resample(true)?;
        wanted.set_access(Access::RWInterleaved)?;
        wanted.set_format(Format::s16())?;
        wanted.set_channels(1)?;
        wanted.set_rate(RATE as u32, ValueOr::Nearest)?;
        let buffer = if direction == Direction::Capture { IN_BUFFER } else { OUT_BUFFER };
        let period = wanted.set_period_size_near(PERIOD as Frames, ValueOr::Nearest)?;
        let buffer = wanted.set_buffer_size_near(buffer.max(2 * period))?;
        pcm.hw_params(&wanted)?;
        let how = pcm.sw_params_current()?;
        how.set_avail_min(period)?;
        how.set_start_threshold(if direction == Direction::Capture { 1 } else { buffer - period })?;
        pcm.sw_params(&how)?;
    }
    Ok(pcm)
}

/// Waits until a device has or takes something; not for long, and whether it has.
pub(super) fn is_ready(pcm: &PCM, last: &mut Instant) -> alsa::Result<bool> {
    if pcm.wait(Some(WAIT_MS))? {
        *last = Instant::now();
        return Ok(true);
    }
    if last.elapsed() > DEAD_AFTER {
        return Err(alsa::Error::new("snd_pcm_wait", libc::ETIMEDOUT));
    }
    Ok(false)
}

/// Gets a device going again that was too slow or asleep. `false` if there was nothing to be done.
///
/// # Errors
/// If it is gone.
pub(super) fn recover(pcm: &PCM, error: alsa::Error, direction: Direction) -> alsa::Result<bool> {
    if error.errno() == libc::EAGAIN {
        return Ok(false);
    }
    pcm.try_recover(error, true)?;
    if direction == Direction::Capture && pcm.state() != State::Running {
        pcm.start()?;
    }
    Ok(true)
}

/// Says that a device is gone, and opens it as soon as it is back; `None` when told to stop.
pub(super) fn reopen(name: &str, direction: Direction, error: alsa::Error, stop: &AtomicBool) -> Option<PCM> {
    let what = if direction == Direction::Capture { MICROPHONE } else { LOUDSPEAKER };
    note(&format!("{}\nit is tried again every second", Failure::here(trouble(what, name)(of_alsa(error))).told()));
    let mut tried = Instant::now();
    while !stop.load(Relaxed) {
        sleep(ASK_AGAIN);
        if tried.elapsed() >= TRY_AGAIN {
            tried = Instant::now();
            if let Ok(pcm) = open(name, direction) {
                note(&format!("the {what} {name} is back"));
                return Some(pcm);
            }
        }
    }
    None
}

/// Microphones and loudspeakers by their names, each with what ALSA says of it.
pub(super) fn list() -> io::Result<Vec<String>> {
    let _quiet = Output::local_error_handler();
    let hints: Vec<_> = HintIter::new_str(None, "pcm").map_err(of_alsa)?.collect();
    let mut lines = Vec::new();
    for (heading, option, direction) in
        [("microphones", "--mic", Direction::Capture), ("loudspeakers", "--speaker", Direction::Playback)]
    {
        lines.push(format!("{heading} ({option} NAME):"));
        for hint in hints.iter().filter(|hint| hint.direction.is_none_or(|its| its == direction)) {
            let Some(name) = hint.name.as_deref().filter(|name| *name != "null") else { continue };
            let about = hint.desc.as_deref().unwrap_or_default().lines().collect::<Vec<_>>().join(", ");
            lines.push(format!("  {name}  {about}").trim_end().to_owned());
        }
    }
    Ok(lines)
}

/// What the system says, without the name of a function.
fn of_alsa(error: alsa::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
