//! A call from its beginning to its end, on either side.
//!
//! The caller hangs up: it stops sending and marks the end of its tracks. The listener, once it has received those ends,
//! stops and marks its own. When the caller has received these, nothing is under way any more, and it leaves.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use supernode_client::{
    Call, CallEnd, Client, Config, Error, Event, Events, IncomingRing, PresenceState, Publisher, Purpose, RingOutcome,
    Transport,
    e2ee::Pass,
    proto::{control::RefusalReason, identity::IdentityKey},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    TalkArgs, absence,
    connect::connect,
    failure::Failure,
    media::{
        play::Source,
        record::{Outputs, make_fresh, take_both},
    },
    papers::{identity, links::OwnInvite},
    progress::{self, Summary, note},
    say,
    trouble::Trouble,
};

/// How soon somebody who is not there is rung again: in a minute two thirds of the rings that a relay grants.
const RING_AGAIN: Duration = Duration::from_secs(3);
/// Longest to wait for what is under way after hanging up.
const FAREWELL: Duration = Duration::from_secs(15);
/// Longest to wait for what is here already.
const PUTTING_AWAY: Duration = Duration::from_secs(5);

/// Whom to call, and for how long.
pub(crate) struct Whom {
    pub(crate) pass: Pass,
    /// While nobody of theirs is online.
    pub(crate) ring_for: Duration,
    /// Of media.
    pub(crate) seconds: Option<Duration>,
}

/// Calls somebody, or waits to be called.
pub(crate) fn run(args: &TalkArgs, whom: Option<&Whom>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(Trouble::System)?.block_on(talk(args, whom))
}

async fn talk(args: &TalkArgs, whom: Option<&Whom>) -> Result<(), Failure> {
    // Everything of ours that can be wrong, before anybody is rung.
    let invite = OwnInvite::read(args.invite_file.as_ref())?;
    identity::load(&args.identity)?;
    let sources = Sources::open(args)?;
    let outputs = outputs(args, args.record_dir.clone())?;

    let config = Config { network: args.network(), ..Config::default() };
    let (client, mut events) = connect(&args.identity, &invite, config).await?;
    let (call, online_seen) = match whom {
        Some(whom) => {
            let identity = args.identity.clone();
            tokio::spawn(async move { stay_busy(&mut events, &identity).await });
            (ring(&client, whom).await?, true)
        }
        None => {
            let call = answer(&client, &mut events, &args.identity).await?;
            let identity = args.identity.clone();
            tokio::spawn(async move { stay_busy(&mut events, &identity).await });
            (call, false)
        }
    };
    note(&format!("in the call, keys: {}", call.keys()));
    let hang_up = match whom {
        Some(whom) => HangUp::Ourselves { after: whom.seconds },
        None => HangUp::WithTheOther,
    };
    let show = Show { progress: true, json: args.json, peer_online_seen: online_seen };
    let talked = hold(call, sources, outputs, hang_up, show).await;
    client.close().await;
    talked
}

/// What a person sees of a call.
pub(crate) struct Show {
    /// A line a second.
    pub(crate) progress: bool,
    pub(crate) json: bool,
    pub(crate) peer_online_seen: bool,
}

/// A call from its first moment to its figures.
pub(crate) async fn hold(
    call: Call,
    sources: Sources,
    outputs: Outputs,
    hang_up: HangUp,
    show: Show,
) -> Result<(), Failure> {
    note("in the call");
    let mut background = JoinSet::new();
    if show.progress {
        background.spawn(progress::show(call.clone()));
    }
    background.spawn(absence::tell(call.clone()));
    let stats_of = call.clone();
    let talked = converse(call, sources, outputs, hang_up).await;
    background.shutdown().await;
    let safety_number = stats_of.safety_number().map_err(Failure::broken)?;
    let summary = Summary::new(&stats_of.stats(), safety_number, show.peer_online_seen);
    if show.json {
        say(&serde_json::to_string(&summary).expect("figures and names are JSON"))?;
    } else {
        note(&format!(
            "sent {} audio packets and {} video frames, received {} and {}, lost {}",
            summary.audio_sent, summary.video_sent, summary.audio_received, summary.video_received, summary.lost
        ));
    }
    talked
}

/// What we play: files, or what a microphone hears.
pub(crate) struct Sources {
    audio: Source,
    video: Option<Source>,
}

impl Sources {
    pub(crate) fn open(args: &TalkArgs) -> Result<Self, Trouble> {
        let video = args.video.as_deref().map(Source::video).transpose()?;
        let audio = Source::sound(&args.sound, args.audio.as_deref())?;
        Ok(Self { audio: audio.expect("the command line has one of them"), video })
    }
}

/// Where what we receive goes: to files that are not there yet, to a loudspeaker, or both.
pub(crate) fn outputs(args: &TalkArgs, directory: Option<PathBuf>) -> Result<Outputs, Trouble> {
    if let Some(directory) = &directory {
        make_fresh(directory)?;
    }
    Ok(Outputs { directory, loudspeaker: args.sound.loudspeaker()? })
}

/// Rings the issuer of the ticket, and as long as nobody of theirs is there again and again: a closed page of theirs may be woken
/// by it, and nothing tells whether one was. That is [`Client::ring_patiently`], and at once when they are seen.
async fn ring(client: &Client, Whom { pass, ring_for, .. }: &Whom) -> Result<Call, Failure> {
    let mut watch = client.watch(pass).await.map_err(Failure::no_call)?;
    let give_up_at = Instant::now() + *ring_for;
    let (mut is_told, mut is_seen) = (false, false);
    let mut ring = loop {
        let left = give_up_at.saturating_duration_since(Instant::now());
        match client.ring(pass).await {
            Ok(ring) => break ring,
            Err(error) if left.is_zero() || !may_come(&error) => return Err(Failure::no_call(error)),
            Err(_) => {}
        }
        if !std::mem::replace(&mut is_told, true) {
            let seconds = ring_for.as_secs();
            note(&format!(
                "nobody of theirs is online: ringing on for {seconds} s, which may wake a closed page of theirs"
            ));
        }
        tokio::select! {
            online = watch.online(), if !is_seen => {
                online.map_err(Failure::no_call)?;
                is_seen = true;
                note("they are online: ringing");
            }
            () = tokio::time::sleep(left.min(RING_AGAIN)) => {}
            _ = tokio::signal::ctrl_c() => return Err(Failure::no_call(Trouble::Interrupted)),
        }
    };
    note("it rings");
    let outcome = tokio::select! {
        outcome = ring.outcome() => outcome.map_err(Failure::no_call)?,
        _ = tokio::signal::ctrl_c() => {
            ring.cancel().await.map_err(Failure::no_call)?;
            return Err(Failure::no_call(Trouble::Interrupted));
        }
    };
    Err(Failure::no_call(match outcome {
        RingOutcome::Answered(call) => return Ok(call),
        RingOutcome::Declined => Trouble::Declined,
        RingOutcome::Busy => Trouble::Busy,
        RingOutcome::Cancelled => Trouble::Cancelled,
        RingOutcome::TimedOut => Trouble::Unanswered,
        RingOutcome::Gone => Trouble::WentOffline,
    }))
}

/// Whether somebody may be there soon who is not yet: whoever has just come in has not deposited anything.
fn may_come(error: &Error) -> bool {
    let Error::Refused(refusal) = error else { return false };
    matches!(refusal.reason, RefusalReason::Offline | RefusalReason::NoKeyPackage)
}

/// Shows us online, waits for somebody to ring, and answers.
async fn answer(client: &Client, events: &mut Events, identity: &Path) -> Result<Call, Failure> {
    appear(client).await?;
    tokio::select! {
        answered = next_call(events, identity) => answered.map(|(call, _)| call),
        _ = tokio::signal::ctrl_c() => Err(Failure::no_call(Trouble::Interrupted)),
    }
}

/// Shows us online.
pub(crate) async fn appear(client: &Client) -> Result<(), Failure> {
    client.set_presence(PresenceState::Online, Default::default()).await.map_err(Failure::relay)?;
    note(&format!("online as {}: waiting to be called", client.identity().to_text()));
    Ok(())
}

/// Waits for somebody to ring, and answers: the call, and whose.
pub(crate) async fn next_call(events: &mut Events, identity: &Path) -> Result<(Call, IdentityKey), Failure> {
    loop {
        let ring = next_ring(events, identity).await?;
        if ring.purpose() != Purpose::Call {
            // Rooms are for `supernode-call room`: dropped, it says that we are busy.
            continue;
        }
        let caller = ring.caller().identity;
        note(&format!("{} rings: answering", caller.to_text()));
        match ring.answer().await {
            Ok(call) => return Ok((call, caller)),
            // The caller gave up just now.
            Err(error) => note(&format!("that call did not come about: {error}")),
        }
    }
}

/// Waits for somebody to ring, and says what else happens.
pub(crate) async fn next_ring(events: &mut Events, identity: &Path) -> Result<IncomingRing, Failure> {
    loop {
        match events.next().await {
            Some(Event::IncomingRing(ring)) => return Ok(ring),
            Some(Event::Closed(error)) => return Err(Failure::relay(error)),
            Some(event) => report(&event, identity),
            None => return Err(Failure::relay(Error::ClientClosed)),
        }
    }
}

/// Whoever rings now hears that we are busy; what else happens is reported.
async fn stay_busy(events: &mut Events, identity: &Path) {
    while let Some(event) = events.next().await {
        report(&event, identity);
    }
}

/// Says what happened to the session, and keeps what has to be kept.
pub(crate) fn report(event: &Event, identity: &Path) {
    match event {
        Event::IncomingRing(_) => {}
        Event::Closed(error) => note(&format!("the session is over: {error}")),
        Event::ClockDiffers(skew) => {
            note(&format!("{skew}: set the one that is wrong, or what is signed for a time will be refused"));
        }
        Event::RelayKeyChanged(_) => note("the relay has a new key: links to the old one hold for a while only"),
        Event::MissedRing(error) => {
            note(&format!("somebody rang, and their invitation does not hold by this device's clock: {error}"));
        }
        Event::DevicesRevoked(word) => match identity::keep_revocation(identity, word) {
            Ok(()) => note(&format!("we have taken {} of our devices back", word.devices.len())),
            Err(trouble) => Failure::here(trouble).print(),
        },
        Event::RungChanged(rung) => note(&format!("the relay now sends us at most {}", rung.as_str_name())),
        Event::TransportChanged(Transport::Tcp) => {
            note("no UDP gets through here: going over TCP, where a lost packet holds up what is behind it");
        }
        Event::TransportChanged(Transport::Udp) => note("UDP gets through: going by it from now on"),
        Event::GoingAway => note("the relay is going away: moving"),
        Event::Disconnected(error) => note(&format!("the connection broke ({error}): coming back")),
        Event::Reconnected => note("back"),
        // The SDK may tell more one day.
        _ => {}
    }
}

/// Who ends the call.
pub(crate) enum HangUp {
    Ourselves { after: Option<Duration> },
    WithTheOther,
}

async fn converse(call: Call, sources: Sources, outputs: Outputs, hang_up: HangUp) -> Result<(), Failure> {
    let received = tokio::spawn(take_both(call.clone(), outputs));
    let mut exchange = std::pin::pin!(exchange(&call, sources, received, &hang_up));
    let finished = tokio::select! {
        finished = &mut exchange => finished,
        // The other side leaves as soon as it has everything, while we may still be putting things away.
        end = call.ended() => {
            let rest = tokio::time::timeout(PUTTING_AWAY, &mut exchange).await;
            rest.unwrap_or_else(|_| Err(end.into()))
        }
    };
    finished.map_err(Failure::broken)?;
    match hang_up {
        HangUp::Ourselves { .. } => call.clone().leave().await.map_err(Failure::broken),
        HangUp::WithTheOther => {
            // They have everything, or will not get it any more.
            let end = tokio::time::timeout(FAREWELL, call.ended()).await.unwrap_or(CallEnd::OthersLeft);
            match end {
                CallEnd::OthersLeft => Ok(()),
                other => Err(Failure::broken(other)),
            }
        }
    }
}

/// Both directions, until both ends are marked.
async fn exchange(
    call: &Call,
    Sources { audio, video }: Sources,
    mut received: JoinHandle<anyhow::Result<()>>,
    hang_up: &HangUp,
) -> anyhow::Result<()> {
    // The picture first: who hears the end of our sound knows by then whether there is one.
    let video_to = match &video {
        Some(video) => Some(video.publish(call, false).await?),
        None => None,
    };
    let mut outgoing = Outgoing { video_to, audio_to: audio.publish(call, false).await? };
    let (stop, stopped) = watch::channel(false);
    let after = match hang_up {
        HangUp::Ourselves { after } => *after,
        HangUp::WithTheOther => None,
    };
    let mut heard_out = false;
    {
        let mut play = std::pin::pin!(outgoing.play(audio, video, after, stopped));
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            tokio::select! {
                played = &mut play => break played?,
                _ = &mut interrupted, if !*stop.borrow() => { stop.send_replace(true); }
                // The other side has hung up.
                all = &mut received, if !heard_out => {
                    all??;
                    heard_out = true;
                    stop.send_replace(true);
                }
            }
        }
    }
    if matches!(hang_up, HangUp::WithTheOther) && !heard_out {
        (&mut received).await??;
        heard_out = true;
    }
    let Outgoing { audio_to, video_to } = outgoing;
    let video_ends = async {
        match video_to {
            Some(video_to) => video_to.finish().await,
            None => Ok(()),
        }
    };
    tokio::try_join!(audio_to.finish(), video_ends)?;
    if !heard_out {
        let rest = tokio::time::timeout(FAREWELL, received).await;
        rest.map_err(|_| Trouble::Unended)???;
    }
    Ok(())
}

/// Our tracks.
struct Outgoing {
    audio_to: Publisher,
    video_to: Option<Publisher>,
}

impl Outgoing {
    /// Plays our files from the moment when all tracks are subscribed to: until they end, for as long as `after` says, or
    /// until told to stop.
    async fn play(
        &mut self,
        audio: Source,
        video: Option<Source>,
        after: Option<Duration>,
        mut stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let wanted = async {
            for publisher in [&self.audio_to].into_iter().chain(&self.video_to) {
                publisher.wanted().await?;
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            wanted = wanted => wanted?,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let start = Instant::now();
        let until = after.map(|after| start + after);
        let picture = async {
            match (video, &mut self.video_to) {
                (Some(video), Some(video_to)) => video.play(video_to, start, until, stopped.clone()).await,
                _ => Ok(()),
            }
        };
        tokio::try_join!(audio.play(&mut self.audio_to, start, until, stopped.clone()), picture)?;
        Ok(())
    }
}
