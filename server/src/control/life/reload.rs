//! Changing a running relay: reads the configuration again, checks it, and takes over what can be taken over.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::control::{
    admission::Doorkeeper,
    certificate::Certificate,
    config::{
        Config, Loaded, Sources, TlsChoice,
        key::{Key, Reload},
        reference::{self, Row},
    },
    files, invites,
    log::Format,
    marks::{Event, Marks},
    page::{Page, Served, Way},
    pages_port::Told,
    prepared::{DoorParts, Prepared},
    serve::{ServeError, unix_now_s},
    systemd, tls, words,
};
use crate::{core::directory::Directory, shard::LiveHandle};

/// Below this, the relay warns of a certificate's end: 14 days, in seconds. ACME renews at 30.
pub const CERTIFICATE_WARN_S: i64 = 14 * 24 * 3600;

/// How long after a failure it is tried again to show pages the next certificate. Default an hour, of the week that there is.
const PAGES_AGAIN_S: u64 = 3600;

/// Changes what is logged, by a filter that holds, and how.
pub type ChangeLog = Box<dyn Fn(&str, Format) + Send>;

/// Writes down the link that a configuration and its certificate lead to.
pub type RememberLink = Box<dyn Fn(&Config, &Certificate) -> Result<(), ServeError> + Send>;

/// What a running relay can be changed by.
pub struct Changeable {
    /// TLS and the batching window.
    pub live: LiveHandle,
    /// Limits.
    pub directory: Arc<Directory>,
    /// Admission.
    pub door: Arc<Doorkeeper>,
    /// What that is made of.
    pub door_parts: DoorParts,
    /// The log.
    pub change_log: ChangeLog,
    /// The certificate that is shown.
    pub certificate: Shown,
    /// What of this the page marks.
    pub marks: Marks,
    /// What pages are told.
    pub pages: Told,
    /// The page and the address that it is served at, if it is.
    pub page: Option<(SocketAddr, Served)>,
    /// Notes under which link clients reach the relay with this certificate, for invites.
    pub remember_link: RememberLink,
}

/// When the certificate that is shown runs out, for whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<AtomicU64>);

impl Shown {
    /// Seconds until it does, below zero once it has.
    pub fn left_s(&self) -> i64 {
        self.0.load(Ordering::Relaxed) as i64 - unix_now_s() as i64
    }

    /// This certificate is shown from now on. Warns if it runs out soon.
    pub fn set(&self, certificate: &Certificate) {
        self.0.store(certificate.not_after_unix_s, Ordering::Relaxed);
        self.warn();
    }

    /// Warns if the certificate runs out soon.
    pub fn warn(&self) {
        match self.left_s() {
            ..0 => tracing::warn!("the certificate has run out: clients that check it refuse this relay"),
            left_s @ 0..CERTIFICATE_WARN_S => tracing::warn!(days = left_s / 86_400, "the certificate runs out soon"),
            _ => {}
        }
    }
}

/// What a running relay goes by, for whoever asks.
#[derive(Debug, Clone)]
pub struct InEffect {
    /// As it was at the start.
    started: Arc<Loaded>,
    /// As it was read last.
    read: Arc<ArcSwap<Loaded>>,
}

impl InEffect {
    /// Of a relay that starts with this.
    pub fn new(loaded: Loaded) -> Self {
        let started = Arc::new(loaded);
        Self { read: Arc::new(ArcSwap::new(started.clone())), started }
    }

    /// Every key.
    pub fn rows(&self) -> Vec<Row> {
        reference::rows_in_effect(&self.started, &self.read.load())
    }
}

/// Keeps a running relay as its configuration says.
pub struct Reloader {
    sources: Sources,
    in_effect: InEffect,
    own: Own,
    to: Changeable,
    seen: Seen,
    /// When pages are to be shown another certificate, Unix time.
    pages_until_unix_s: Option<u64>,
}

/// The files of a configuration as they were at some time.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen(Vec<(PathBuf, Option<Stamp>)>);

impl Seen {
    /// As they are now. To be taken before they are read: what changes meanwhile is read again.
    pub fn now(sources: &Sources, config: &Config) -> Self {
        Self::of(&sources.file).and(Prepared::files(config))
    }

    /// The same files, as they are now.
    fn again(&self) -> Self {
        Self::of(self.0.iter().map(|(path, _)| path))
    }

    fn of<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self(files.into_iter().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    fn and(mut self, files: Vec<PathBuf>) -> Self {
        self.0.extend(Self::of(&files).0);
        self
    }
}

/// The certificates that do not come from the operator's files.
pub struct Own {
    /// The relay's own.
    pub self_signed: Certificate,
    /// The one that an authority signed, if there is one yet.
    pub ordered: Option<Certificate>,
}

impl Own {
    /// The one to show; `files` is the operator's, where it is theirs that count.
    pub fn choose(&self, config: &Config, files: Option<&Certificate>) -> Certificate {
        let chosen = match config.tls.mode {
            TlsChoice::SelfSigned => None,
            TlsChoice::Files => files,
            TlsChoice::Acme => self.ordered.as_ref(),
        };
        chosen.unwrap_or(&self.self_signed).clone()
    }
}

/// Tells one content of a file from the next. Symbolic links are followed, so that a mounted volume whose link is turned
/// to another directory shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl Reloader {
    /// For a relay that runs as `in_effect` says, whose files were read after they were `seen`.
    pub fn new(
        mut sources: Sources,
        in_effect: InEffect,
        seen: Seen,
        own: Own,
        to: Changeable,
        pages_until_unix_s: Option<u64>,
    ) -> Self {
        let seen = seen.and(to.door_parts.files());
        sources.expect_file();
        Self { sources, in_effect, own, to, seen, pages_until_unix_s }
    }

    /// Reloads if a file has changed since the last look.
    pub fn look(&mut self) {
        if self.seen.again() != self.seen {
            tracing::info!("a file of the configuration has changed: reading it again");
            self.reload();
        }
        if self.pages_until_unix_s.is_some_and(|until| until <= unix_now_s()) {
            self.show_pages_the_next();
        }
    }

    fn show_pages_the_next(&mut self) {
        let read = self.in_effect.read.load_full();
        let shown = Prepared::read(&read.config).map_err(|error| words::line(&error)).and_then(|prepared| {
            let certificate = self.own.choose(&read.config, prepared.certificate.as_ref());
            self.show(&certificate, &read.config, prepared.page.as_ref())
        });
        match shown {
            Ok(()) => tracing::info!("pages are shown the next certificate"),
            Err(reason) => {
                // It is good for a week more: time to mend what is wrong.
                self.pages_until_unix_s = Some(unix_now_s() + PAGES_AGAIN_S);
                tracing::error!(reason, "pages cannot be shown the next certificate");
            }
        }
    }

    /// Reads everything again and takes it over; if anything is wrong, says so and changes nothing.
    pub fn reload(&mut self) {
        systemd::reloading();
        self.seen = self.seen.again();
        match self.try_reload() {
            Ok(()) => {
                self.to.marks.note(Event::Read);
                systemd::reloaded("the configuration was read again");
            }
            Err(reason) => {
                self.to.marks.note(Event::Refused);
                tracing::error!("the configuration is not taken over, and nothing has changed: {reason}");
                systemd::reloaded("the configuration on disk is not taken over: see the log");
            }
        }
    }

    /// The same for a process that only drains, as another has taken its place: who may stay follows the configuration there
    /// too, and nothing else does.
    pub fn look_at_the_door(&mut self) {
        if self.seen.again() == self.seen {
            return;
        }
        self.seen = self.seen.again();
        match self.reload_door() {
            Ok(()) => tracing::info!("who may stay was read again"),
            Err(reason) => tracing::error!("who may stay is not changed: {reason}"),
        }
    }

    fn reload_door(&mut self) -> Result<(), String> {
        let (next, prepared) = self.read()?;
        let admission = prepared.admission(&next.config, &self.to.door_parts).map_err(|error| words::line(&error))?;
        self.to.door.set(admission);
        self.in_effect.read.store(Arc::new(next));
        Ok(())
    }

    /// A certificate that an authority has just signed: shown from now on.
    pub fn show_ordered(&mut self, certificate: Certificate) {
        self.own.ordered = Some(certificate);
        let read = self.in_effect.read.load_full();
        let shown = self.own.choose(&read.config, None);
        match self.show(&shown, &read.config, None) {
            Ok(()) => {
                self.to.marks.note(Event::Certificate);
                tracing::info!("a new certificate is shown");
            }
            Err(reason) => tracing::error!(reason, "the new certificate is of no use"),
        }
    }

    /// Warns of what ends soon: the certificate, and invites with a label, which are not named here.
    pub fn warn(&self) {
        self.to.certificate.warn();
        match invites::read(&self.to.door_parts.state) {
            Ok(all) => {
                let count = invites::ending(&all, unix_now_s()).count();
                if count > 0 {
                    tracing::warn!(count, "invites end within a week: `supernode invites list` says which");
                }
            }
            Err(error) => tracing::warn!(%error, "the list of invites cannot be read"),
        }
    }

    /// What the configuration says now, and the files that it names.
    fn read(&mut self) -> Result<(Loaded, Prepared), String> {
        let seen = Seen::of(&self.sources.file);
        let next = self.sources.load().map_err(|error| words::line(&error))?;
        // The files that it names are watched from now on, also if they are of no use yet: whoever mends them need not
        // say so.
        self.seen = seen.and(Prepared::files(&next.config)).and(self.to.door_parts.files());
        let prepared = Prepared::read(&next.config).map_err(|error| words::line(&error))?;
        Ok((next, prepared))
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let (next, prepared) = self.read()?;
        let started = &self.in_effect.started;
        if next.config.tls.mode == TlsChoice::Acme && started.config.tls.mode != TlsChoice::Acme {
            return Err("tls.mode = \"acme\": only a start can begin to order certificates".to_owned());
        }
        prepared.warn_of_objections(&next.config);
        self.own.self_signed = self.to.door_parts.own_certificate().map_err(|error| words::line(&error))?;
        let certificate = self.own.choose(&next.config, prepared.certificate.as_ref());
        let page = prepared.page.clone();
        let admission = prepared.admission(&next.config, &self.to.door_parts).map_err(|error| words::line(&error))?;
        // Whatever can fail has not: from here on everything is taken over.
        self.show(&certificate, &next.config, page.as_ref())?;
        self.to.directory.set_limits(next.config.limits.clone());
        self.to.door.set(admission);
        (self.to.change_log)(&next.config.log.filter, next.config.log.format);
        let live = paths(self.in_effect.read.load().changed(&next), Reload::Live);
        let restart = paths(self.in_effect.started.changed(&next), Reload::Restart);
        if !restart.is_empty() {
            tracing::warn!(keys = restart, "these keys change at the next start only");
        }
        tracing::info!(keys = live, "the configuration was read again");
        self.in_effect.read.store(Arc::new(next));
        self.sources.expect_file();
        Ok(())
    }

    /// Shows this certificate from now on, and this page, if there is another.
    fn show(&mut self, certificate: &Certificate, config: &Config, page: Option<&Arc<Page>>) -> Result<(), String> {
        let pages = self.to.door_parts.for_pages(config, certificate).map_err(|error| words::line(&error))?;
        let to_pages = pages.as_ref().map(|pages| &pages.certificate);
        let tls = tls::quic_server_config(certificate, to_pages)
            .and_then(|tls| tls::for_nodes_too(tls, &self.in_effect.started.config))
            .map_err(|error| words::line(&error))?;
        let over_tcp = tls::tcp_server_config(certificate).map_err(|error| words::line(&error))?;
        if let Some((at, served)) = &self.to.page {
            let way = Way::at(*at, certificate).map_err(|error| words::line(&error))?;
            served.set(page.cloned().unwrap_or_else(|| served.page()), way);
        }
        self.pages_until_unix_s = pages.as_ref().and_then(|pages| pages.until_unix_s);
        self.to.pages.set(pages.map(|pages| pages.told).unwrap_or_default());
        self.to.live.set(tls, certificate.pin, config.relay.batch_window);
        self.to.live.set_tcp(over_tcp);
        self.to.certificate.set(certificate);
        if let Err(error) = (self.to.remember_link)(config, certificate) {
            tracing::warn!(reason = words::line(&error), "invites are made for the link of before");
        }
        Ok(())
    }
}

/// The paths of those keys that take effect at this time.
fn paths(keys: Vec<&'static Key>, reload: Reload) -> String {
    keys.iter().filter(|key| key.reload == reload).map(|key| key.path).collect::<Vec<_>>().join(", ")
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = files::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
        })
    }
}
