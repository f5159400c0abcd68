//! Programs that are built without feature `sound` have no such devices: there are no values of these types.

use std::{
    future::Ready,
    io::{self, ErrorKind},
    time::Duration,
};

use supernode_client::{Publisher, RemoteTrack, media::ogg_opus::Headers};
use tokio::{sync::watch, time::Instant};

pub(super) fn not_built() -> io::Error {
    ErrorKind::Unsupported.into()
}

pub(crate) enum Microphone {}

impl Microphone {
    pub(super) fn open(_: &str) -> io::Result<Self> {
        Err(not_built())
    }

    pub(crate) fn headers(&self) -> Headers {
        match *self {}
    }

    pub(crate) fn play(
        self,
        _: &mut Publisher,
        _: Option<Instant>,
        _: watch::Receiver<bool>,
    ) -> Ready<anyhow::Result<()>> {
        match self {}
    }
}

pub(crate) enum Loudspeaker {}

impl Loudspeaker {
    pub(super) fn open(_: &str) -> io::Result<Self> {
        Err(not_built())
    }

    pub(crate) fn ear(&self, _: &RemoteTrack) -> Option<Ear> {
        match *self {}
    }
}

pub(crate) enum Ear {}

impl Ear {
    pub(crate) fn frame(&mut self, _: &[u8]) {
        match *self {}
    }

    pub(crate) fn missing(&mut self, _: u64) {
        match *self {}
    }

    pub(crate) fn nothing(&mut self) {
        match *self {}
    }

    pub(crate) fn patience(&self) -> Duration {
        match *self {}
    }
}
