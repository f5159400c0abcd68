//! A microphone and a loudspeaker of this machine in place of files, in programs that are built with feature `sound`: it needs
//! ALSA and libopus, which whoever only wants to look at a relay need not have.
//!
//! Each device has a thread of its own that waits for it. The ring buffer between that thread and the hardware is ALSA's, so
//! nothing of ours runs in a driver's time. From there on everything is passed through bounded queues by whoever never waits:
//! what finds no place is dropped and counted. Nothing takes the loudspeaker's sound out of the microphone's.

#[cfg(not(feature = "sound"))]
mod absent;
#[cfg(feature = "sound")]
mod device;
#[cfg(feature = "sound")]
mod ear;
#[cfg(feature = "sound")]
mod loudspeaker;
#[cfg(feature = "sound")]
mod microphone;
#[cfg(any(feature = "sound", test))]
mod voice;

use std::{io, sync::Arc};

use clap::Args;

use crate::trouble::Trouble;

#[cfg(not(feature = "sound"))]
pub(crate) use absent::{Ear, Loudspeaker, Microphone};
#[cfg(feature = "sound")]
pub(crate) use ear::Ear;
#[cfg(feature = "sound")]
pub(crate) use loudspeaker::Loudspeaker;
#[cfg(feature = "sound")]
pub(crate) use microphone::Microphone;

const MICROPHONE: &str = "microphone";
const LOUDSPEAKER: &str = "loudspeaker";

/// Which devices to use.
#[derive(Args)]
pub(crate) struct SoundArgs {
    /// Speak into a microphone instead of playing a file: the system's own, or the one of this name (`supernode-call sound`
    /// lists them). Needs a program that was built with --features sound.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "default", conflicts_with = "audio")]
    mic: Option<String>,
    /// Hear the others through a loudspeaker, the system's own or the one of this name. Nothing takes what it plays out of the
    /// microphone: with both, use a headset. Needs a program that was built with --features sound.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "default")]
    speaker: Option<String>,
}

impl SoundArgs {
    /// Opens the microphone, if one is wanted.
    pub(crate) fn microphone(&self) -> Result<Option<Microphone>, Trouble> {
        self.mic.as_deref().map(|name| Microphone::open(name).map_err(trouble(MICROPHONE, name))).transpose()
    }

    /// Opens the loudspeaker, if one is wanted.
    pub(crate) fn loudspeaker(&self) -> Result<Option<Arc<Loudspeaker>>, Trouble> {
        let open = |name: &str| Loudspeaker::open(name).map(Arc::new).map_err(trouble(LOUDSPEAKER, name));
        self.speaker.as_deref().map(open).transpose()
    }
}

/// What there is to choose from, line by line.
pub(crate) fn list() -> Result<Vec<String>, Trouble> {
    #[cfg(feature = "sound")]
    let listed = device::list();
    #[cfg(not(feature = "sound"))]
    let listed = Err(absent::not_built());
    listed.map_err(trouble("list of devices", "ALSA"))
}

/// Which device it was about.
fn trouble(what: &'static str, name: &str) -> impl FnOnce(io::Error) -> Trouble {
    let name = name.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::Unsupported => Trouble::NoSound,
        _ => Trouble::SoundDevice { what, name, source },
    }
}
