//! Waiting for calls for weeks: through restarts of the relay, changes of network, and the ends of what holds for a time.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use supernode_client::{
    Client, Config, Error, Event, Events,
    proto::{close::CloseCode, identity::IdentityKey},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    TalkArgs,
    connect::connect,
    failure::Failure,
    papers::{
        identity::{self, unix_s},
        links::OwnInvite,
    },
    progress::note,
    talk::{HangUp, Show, Sources, appear, hold, next_call, outputs, report},
    trouble::Trouble,
};

/// The device's certificate holds for 30 days and the invite may be replaced meanwhile: both are taken anew this often, when
/// nobody is talking.
const SESSION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A session that lasted this long was a good one: what ended it may be over once the invite is read again.
const GOOD_SESSION: Duration = Duration::from_secs(60);
/// The longest wait before the relay is tried again.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longer than anybody listens: the session never gives up by itself.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Answers one call after the other until told to end.
pub(crate) fn run(args: &TalkArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(Trouble::System)?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Trouble::System)?;
        tokio::select! {
            ended = listen(args) => ended,
            _ = terminate.recv() => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn listen(args: &TalkArgs) -> Result<(), Failure> {
    // Everything of ours that can be wrong, before anybody rings.
    identity::load(&args.identity)?;
    drop((Sources::open(args)?, outputs(args, None)?));
    let config =
        Config { network: args.network(), reconnect_for: FOR_EVER, backoff_max: WAIT_MAX, ..Config::default() };
    let mut waits = Waits::default();
    loop {
        let begin = Instant::now();
        let failure = match connect(&args.identity, &OwnInvite::read(args.invite_file.as_ref())?, config.clone()).await
        {
            Ok((client, mut events)) => {
                let ended = answer_calls(args, &client, &mut events).await;
                client.close().await;
                match ended {
                    Ok(()) => continue,
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        let lasted = begin.elapsed() >= GOOD_SESSION && failure.close_code() != Some(CloseCode::REPLACED);
        if !lasted && !failure.may_pass() {
            return Err(failure);
        }
        let pause = waits.next(lasted, rand::random());
        note(&format!("{}\ntrying again in {} s", failure.told(), pause.as_secs().max(1)));
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before the relay is tried again once a session is over for good: longer each time, and never long.
#[derive(Debug, Default)]
struct Waits {
    last: Duration,
}

impl Waits {
    /// After a session that `lasted`, or one that did not. `chance` is between 0 and 1: not everybody comes back at once.
    fn next(&mut self, lasted: bool, chance: f64) -> Duration {
        self.last = if lasted { WAIT_MIN } else { (self.last * 2).clamp(2 * WAIT_MIN, WAIT_MAX) };
        self.last.mul_f64(0.5 + chance / 2.0)
    }
}

/// Until the session is old, or over for good.
async fn answer_calls(args: &TalkArgs, client: &Client, events: &mut Events) -> Result<(), Failure> {
    appear(client).await?;
    let old = tokio::time::sleep(SESSION_MAX);
    let mut old = std::pin::pin!(old);
    loop {
        let (call, caller) = tokio::select! {
            call = next_call(events, &args.identity) => call?,
            () = &mut old => {
                note("taking a new certificate and the invite of now");
                return Ok(());
            }
        };
        let directory = args.record_dir.as_ref().map(|directory| directory_for(directory, &caller, unix_s()));
        let (sources, outputs) = (Sources::open(args)?, outputs(args, directory)?);
        let show = Show { progress: std::io::stderr().is_terminal(), json: args.json, peer_online_seen: false };
        let mut talk = std::pin::pin!(hold(call, sources, outputs, HangUp::WithTheOther, show));
        let mut over = None;
        // Whoever rings meanwhile hears that we are busy.
        let talked = loop {
            let event = tokio::select! {
                talked = &mut talk => break talked,
                event = events.next(), if over.is_none() => event.unwrap_or(Event::Closed(Error::ClientClosed)),
            };
            report(&event, &args.identity);
            if let Event::Closed(error) = event {
                over = Some(Failure::relay(error));
            }
        };
        if let Err(failure) = talked {
            note(&failure.told());
        }
        if let Some(failure) = over {
            return Err(failure);
        }
        note("waiting for the next call");
    }
}

/// By the second in which it began and by whose call it is.
fn directory_for(record_dir: &Path, caller: &IdentityKey, unix_s: u64) -> PathBuf {
    record_dir.join(format!("{unix_s}-{}", &caller.to_text()[..14]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_sessions_grow_to_a_minute_and_begin_anew_after_a_good_one() {
        let mut waits = Waits::default();
        let longest: Vec<u64> = (0..9).map(|_| waits.next(false, 1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(waits.next(false, 0.0), WAIT_MAX / 2);
        assert_eq!(waits.next(true, 1.0), WAIT_MIN);
        assert_eq!(waits.next(false, 1.0), 2 * WAIT_MIN);
    }

    #[test]
    fn each_call_has_a_directory_of_its_own() {
        let caller = IdentityKey::new([7; 32]);
        let first = directory_for(Path::new("calls"), &caller, 1_900_000_000);
        assert!(first.starts_with("calls") && first.to_string_lossy().contains("1900000000-sn-id-"), "{first:?}");
        assert_ne!(first, directory_for(Path::new("calls"), &caller, 1_900_000_001));
    }
}
