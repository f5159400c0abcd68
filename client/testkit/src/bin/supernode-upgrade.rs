//! An upgrade under load: calls that talk while one process of the relay takes another's place.
//!
//! ```sh
//! cargo build --release -p supernode-server
//! cargo run --release -p supernode-client-testkit --bin supernode-upgrade -- --relay target/release/supernode --calls 50
//! ```
//!
//! Starts the relay, sets the calls up with the SDK, lets both sides of each speak 50 times a second, starts a second
//! relay with `--takeover`, and waits until every call is with it. Prints one line of JSON: the longest silence that any
//! listener heard, by call, up to the last frame that was sent to it; how many frames were sent and received; what each
//! process says of its drop ledger. Fails if a call ended, somebody missed a second, in one piece or in all, no frame went
//! by one of the processes, or an object is not accounted for.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement: what fails, fails it")]

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, ensure};
use clap::Parser;
use supernode_client::{
    Call, CallEvent, Client, Config, Events, OutgoingFrame, PresenceState, PublishOptions, RingOutcome,
    SubscribeOptions, TrackId, TrackInfo, TrackKind,
    e2ee::{Device, DeviceSecret, IdentitySecret, Terms},
    proto::{identity::Grants, invite::Invite},
};
use tokio::{sync::watch, task::JoinHandle};

/// What the members of a call may miss of each other, beyond the longest silence that the machine made before.
const GAP_MAX: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Arguments {
    /// The program of the relay.
    #[arg(long)]
    relay: PathBuf,
    /// Calls of two.
    #[arg(long, default_value_t = 50)]
    calls: usize,
    /// The relay's shards.
    #[arg(long, default_value_t = 2)]
    shards: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let state = std::env::temp_dir().join(format!("supernode-upgrade-{}", std::process::id()));
    let outcome = upgrade(&arguments, &state).await;
    let _ = std::fs::remove_dir_all(&state);
    outcome
}

async fn upgrade(arguments: &Arguments, state: &Path) -> anyhow::Result<()> {
    let shards = arguments.shards.to_string();
    let old = Relay::start(&arguments.relay, state, &["--open", "--listen", "127.0.0.1:0", "--shards", &shards])?;
    let (stop, stopped) = watch::channel(false);
    let (upgrading, calm) = watch::channel(true);
    let mut talks = Vec::new();
    for _ in 0..arguments.calls {
        talks.push(Talk::begin(&old.invite, &stopped, &calm).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let mut events: Vec<_> = talks.iter().flat_map(|talk| talk.calls.each_ref().map(Call::events)).collect();

    upgrading.send_replace(false);
    let begin = Instant::now();
    let new = Relay::start(&arguments.relay, state, &["--open", "--takeover"])?;
    let taken_over = begin.elapsed();
    for events in &mut events {
        let resumed = async {
            loop {
                match events.recv().await.context("the call's events ended")? {
                    CallEvent::Resumed => return Ok(()),
                    CallEvent::Ended(end) => anyhow::bail!("a call ended: {end:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, resumed).await.context("a call did not come back in time")??;
    }
    let moved = begin.elapsed();
    let old = old.last_words().context("the old process")?;
    tokio::time::sleep(SETTLE).await;

    stop.send_replace(true);
    let (mut gaps_ms, mut missed_ms_max, mut calm_gap) = (Vec::new(), 0, Duration::ZERO);
    let (mut sent, mut received) = (0, 0);
    for talk in talks {
        for way in talk.end().await? {
            ensure!(way.received <= way.sent, "{} frames came of {}", way.received, way.sent);
            gaps_ms.push(way.silence.as_millis() as u64);
            missed_ms_max = missed_ms_max.max((way.sent - way.received) * FRAME.as_millis() as u64);
            calm_gap = calm_gap.max(way.calm);
            sent += way.sent;
            received += way.received;
        }
    }
    new.terminate()?;
    let new = new.last_words().context("the new process")?;
    gaps_ms.sort_unstable();
    let longest_ms = *gaps_ms.last().context("no calls")?;
    let figures = serde_json::json!({
        "calls": arguments.calls,
        "taken_over_ms": taken_over.as_millis() as u64,
        "all_moved_ms": moved.as_millis() as u64,
        "gap_ms_max_before": calm_gap.as_millis() as u64,
        "gap_ms_median": gaps_ms[gaps_ms.len() / 2],
        "gap_ms_max": longest_ms,
        "frames_sent": sent,
        "frames_received": received,
        "missed_ms_max": missed_ms_max,
        "old": old,
        "new": new,
    });
    println!("{figures}");
    let bound_ms = (GAP_MAX + calm_gap).as_millis();
    ensure!(u128::from(longest_ms) < bound_ms, "somebody heard nothing for {longest_ms} ms");
    ensure!(u128::from(missed_ms_max) < bound_ms, "somebody missed {missed_ms_max} ms in all");
    for (name, ledger) in [("old", &old), ("new", &new)] {
        let settled = ledger.delivered + ledger.dropped;
        ensure!(ledger.offered == settled, "the {name} process offered {} and settled {settled}", ledger.offered);
        ensure!(ledger.delivered > 0, "no call went by the {name} process");
    }
    Ok(())
}

/// A process.
struct Relay {
    child: Child,
    invite: Invite,
}

/// Its drop ledger, as its last line of log has it.
#[derive(serde::Serialize)]
struct Ledger {
    offered: u64,
    delivered: u64,
    dropped: u64,
}

impl Relay {
    fn start(program: &Path, state: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--admin", "127.0.0.1:0", "--state-dir"])
            .arg(state)
            .args(arguments)
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the relay does not start")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line).context("the relay is not ready")?;
        let invite = ready["invite"].as_str().context("no invite")?.parse()?;
        Ok(Self { child, invite })
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let done = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(done.success(), "the relay cannot be told to end");
        Ok(())
    }

    fn last_words(mut self) -> anyhow::Result<Ledger> {
        let mut log = String::new();
        self.child.stderr.take().context("piped")?.read_to_string(&mut log)?;
        ensure!(self.child.wait()?.success(), "it failed: {log}");
        let figure = |name: &str| {
            let (_, rest) = log.rsplit_once(&format!("{name}=")).with_context(|| format!("no {name} in: {log}"))?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Ok::<u64, anyhow::Error>(digits.parse()?)
        };
        Ok(Ledger { offered: figure("offered")?, delivered: figure("delivered")?, dropped: figure("dropped")? })
    }
}

/// Two people who talk.
struct Talk {
    calls: [Call; 2],
    speaking: Vec<JoinHandle<anyhow::Result<Passed>>>,
    listening: Vec<JoinHandle<anyhow::Result<Passed>>>,
    _clients: [(Client, Events); 2],
}

/// Frames that one side has sent or received.
struct Passed {
    frames: u64,
    last: Instant,
    /// The longest time between two before the upgrade,
    calm: Duration,
    /// and after it began.
    longest: Duration,
}

/// From one side to the other.
struct Way {
    sent: u64,
    received: u64,
    /// The longest time without a frame before the upgrade,
    calm: Duration,
    /// and from then on to the last that was sent.
    silence: Duration,
}

impl Talk {
    async fn begin(
        invite: &Invite,
        stopped: &watch::Receiver<bool>,
        calm: &watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let (alice, bob) = (IdentitySecret::generate(), IdentitySecret::generate());
        let caller = online(&alice, invite).await?;
        let mut callee = online(&bob, invite).await?;
        let not_after_unix_s = unix_s() + 3600;
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s };
        let mut ring = caller.0.ring(&bob.issue_pass(&terms)).await?;
        let answer = async { anyhow::Ok(callee.1.next_ring().await.context("no ring came")?.answer().await?) };
        let (outcome, answered) = tokio::join!(ring.outcome(), answer);
        let RingOutcome::Answered(called) = outcome? else { anyhow::bail!("not answered") };
        let calls = [called, answered?];
        let speaking = calls.iter().map(|call| tokio::spawn(speak(call.clone(), stopped.clone()))).collect();
        let listening = calls.iter().map(|call| tokio::spawn(listen(call.clone(), calm.clone()))).collect();
        Ok(Self { calls, speaking, listening, _clients: [caller, callee] })
    }

    /// Both sides finish.
    async fn end(self) -> anyhow::Result<Vec<Way>> {
        let Self { calls, speaking, listening, .. } = self;
        let mut ways = Vec::new();
        // Whom the first hears is the second.
        for (speaking, listening) in speaking.into_iter().zip(listening.into_iter().rev()) {
            let (sent, received) = (speaking.await??, listening.await??);
            let silence = received.longest.max(sent.last.saturating_duration_since(received.last));
            ways.push(Way { sent: sent.frames, received: received.frames, calm: received.calm, silence });
        }
        ensure!(calls[0].safety_number()? == calls[1].safety_number()?, "the keys are not the same");
        Ok(ways)
    }
}

async fn online(identity: &IdentitySecret, invite: &Invite) -> anyhow::Result<(Client, Events)> {
    let secret = DeviceSecret::generate();
    let delegation = identity.delegate(&secret.public(), unix_s() + 3600);
    let device = Arc::new(Device::new(secret, delegation)?);
    let (client, events) = Client::connect(invite, device, Config::default()).await?;
    client.set_presence(PresenceState::Online, Default::default()).await?;
    Ok((client, events))
}

async fn speak(call: Call, mut stop: watch::Receiver<bool>) -> anyhow::Result<Passed> {
    let info =
        TrackInfo { id: TrackId(rand::random()), name: "voice".into(), codec: "opus".into(), parameters: vec![] };
    let mut publisher = call.publish(TrackKind::Audio, info, PublishOptions::default()).await?;
    publisher.wanted().await?;
    let mut ticks = tokio::time::interval(FRAME);
    let mut sent = Passed::now(0);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        publisher.send(&OutgoingFrame::independent(&[7; 160], sent.frames * 20_000)).await?;
        sent.and_one(true);
    }
    publisher.finish().await?;
    Ok(sent)
}

async fn listen(call: Call, calm: watch::Receiver<bool>) -> anyhow::Result<Passed> {
    let voice = call.track(TrackKind::Audio).await?;
    let mut subscription = call.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio)).await?;
    subscription.next().await.context("nothing came")?;
    let mut received = Passed::now(1);
    while subscription.next().await.is_some() {
        received.and_one(*calm.borrow());
    }
    Ok(received)
}

impl Passed {
    fn now(frames: u64) -> Self {
        Self { frames, last: Instant::now(), calm: Duration::ZERO, longest: Duration::ZERO }
    }

    fn and_one(&mut self, calm: bool) {
        let since = self.last.elapsed();
        let longest = if calm { &mut self.calm } else { &mut self.longest };
        *longest = (*longest).max(since);
        self.frames += 1;
        self.last = Instant::now();
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
