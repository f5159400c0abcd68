//! A call from its beginning to its end, on either side.
//!
//! The caller hangs up: it stops sending and marks the end of its tracks. The listener, once it has received those ends,
//! stops and marks its own. When the caller has received these, nothing is under way any more, and it leaves.

use std::time::Duration;

use anyhow::anyhow;
use supernode_client::{
    Call, CallEnd, Client, Config, Error, Event, Events, IncomingRing, PresenceState, Publisher, Purpose, RingOutcome,
    TrackKind, proto::identity::Ticket,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{
    OwnInvite, TalkArgs, absence,
    connect::connect,
    failure::Failure,
    identity,
    play::Source,
    progress::{self, Summary, note},
    record::record,
    say,
};

/// Longest to wait for what is under way after hanging up.
const FAREWELL: Duration = Duration::from_secs(15);
/// Longest to wait for what is here already.
const PUTTING_AWAY: Duration = Duration::from_secs(5);

/// Calls the issuer of the ticket, or without one waits to be called.
pub(crate) fn run(args: &TalkArgs, whom: Option<(Ticket, Option<u64>)>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Failure::here(error.into()))?.block_on(talk(args, whom))
}

async fn talk(args: &TalkArgs, whom: Option<(Ticket, Option<u64>)>) -> Result<(), Failure> {
    // Everything of ours that can be wrong, before anybody is rung.
    let invite = OwnInvite::read(args.invite_file.as_ref())?;
    identity::load(&args.identity)?;
    let sources =
        (Source::audio(&args.audio).map_err(Failure::here)?, Source::video(&args.video).map_err(Failure::here)?);
    std::fs::create_dir_all(&args.record_dir).map_err(|error| Failure::here(error.into()))?;

    let config = Config { authority_file: args.authority_file.clone(), ..Config::default() };
    let (client, mut events) = connect(&args.identity, &invite, config).await?;
    let (call, online_seen) = match &whom {
        Some((ticket, _)) => {
            tokio::spawn(stay_busy(events));
            (ring(&client, ticket).await?, true)
        }
        None => {
            let call = answer(&client, &mut events).await?;
            tokio::spawn(stay_busy(events));
            (call, false)
        }
    };
    note("in the call");
    let hang_up = match &whom {
        Some((_, seconds)) => HangUp::Ourselves { after: seconds.map(Duration::from_secs) },
        None => HangUp::WithTheOther,
    };
    let (stats_of, progress) = (call.clone(), tokio::spawn(progress::show(call.clone())));
    let absences = tokio::spawn(absence::tell(call.clone()));
    let talked = converse(args, call, sources, hang_up).await;
    progress.abort();
    absences.abort();
    let safety_number = stats_of.safety_number().map_err(Failure::broken)?;
    let summary = Summary::new(&stats_of.stats(), safety_number, online_seen);
    drop(stats_of);
    client.close().await;
    if args.json {
        say(&serde_json::to_string(&summary).map_err(|error| Failure::here(error.into()))?)?;
    } else {
        note(&format!(
            "sent {} audio packets and {} video frames, received {} and {}, lost {}",
            summary.audio_sent, summary.video_sent, summary.audio_received, summary.video_received, summary.lost
        ));
    }
    talked
}

/// Waits until the issuer of the ticket is online, and rings.
async fn ring(client: &Client, ticket: &Ticket) -> Result<Call, Failure> {
    let mut watch = client.watch(ticket).await.map_err(Failure::no_call)?;
    note("waiting until they are online");
    watch.online().await.map_err(Failure::no_call)?;
    note("they are online: ringing");
    let mut ring = client.ring(ticket).await.map_err(Failure::no_call)?;
    let outcome = tokio::select! {
        outcome = ring.outcome() => outcome.map_err(Failure::no_call)?,
        _ = tokio::signal::ctrl_c() => {
            ring.cancel().await.map_err(Failure::no_call)?;
            return Err(Failure::no_call(anyhow!("interrupted")));
        }
    };
    let reason = match outcome {
        RingOutcome::Answered(call) => return Ok(call),
        RingOutcome::Declined => "they declined",
        RingOutcome::Busy => "they are busy",
        RingOutcome::Cancelled => "cancelled",
        RingOutcome::TimedOut => "nobody answered",
        RingOutcome::Gone => "they went offline",
    };
    Err(Failure::no_call(anyhow!(reason)))
}

/// Shows us online, waits for somebody to ring, and answers.
async fn answer(client: &Client, events: &mut Events) -> Result<Call, Failure> {
    client.set_presence(PresenceState::Online, Default::default()).await.map_err(Failure::relay)?;
    note(&format!("online as {}: waiting to be called", client.identity().to_text()));
    loop {
        let ring = tokio::select! {
            ring = next_ring(events) => ring?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::no_call(anyhow!("interrupted"))),
        };
        if ring.purpose() != Purpose::Call {
            // Rooms are for `supernode-call room`: dropped, it says that we are busy.
            continue;
        }
        note(&format!("{} rings: answering", ring.caller().identity.to_text()));
        match ring.answer().await {
            Ok(call) => return Ok(call),
            // The caller gave up just now.
            Err(error) => note(&format!("that call did not come about: {error}")),
        }
    }
}

/// Waits for somebody to ring, and says what else happens.
pub(crate) async fn next_ring(events: &mut Events) -> Result<IncomingRing, Failure> {
    loop {
        match events.next().await {
            Some(Event::IncomingRing(ring)) => return Ok(ring),
            Some(Event::Closed(error)) => return Err(Failure::relay(error)),
            Some(event) => report(&event),
            None => return Err(Failure::relay(Error::ClientClosed)),
        }
    }
}

/// Whoever rings now hears that we are busy; what else happens is reported.
async fn stay_busy(mut events: Events) {
    while let Some(event) = events.next().await {
        report(&event);
    }
}

/// Says what happened to the session.
pub(crate) fn report(event: &Event) {
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
        Event::RungChanged(rung) => note(&format!("the relay now sends us at most {}", rung.as_str_name())),
        Event::GoingAway => note("the relay is going away: moving"),
        Event::Disconnected(error) => note(&format!("the connection broke ({error}): coming back")),
        Event::Reconnected => note("back"),
    }
}

/// Who ends the call.
enum HangUp {
    Ourselves { after: Option<Duration> },
    WithTheOther,
}

async fn converse(args: &TalkArgs, call: Call, sources: (Source, Source), hang_up: HangUp) -> Result<(), Failure> {
    let recorders = [TrackKind::Audio, TrackKind::Video]
        .map(|kind| tokio::spawn(record(call.clone(), kind, args.record_dir.clone())));
    let mut exchange = std::pin::pin!(exchange(&call, sources, recorders, &hang_up));
    let finished = tokio::select! {
        finished = &mut exchange => finished,
        // The other side leaves as soon as it has everything, while we may still be putting things away.
        end = call.ended() => {
            let rest = tokio::time::timeout(PUTTING_AWAY, &mut exchange).await;
            rest.unwrap_or_else(|_| Err(anyhow!("{end}")))
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
                other => Err(Failure::broken(anyhow!("{other}"))),
            }
        }
    }
}

/// Both directions, until both ends are marked.
async fn exchange(
    call: &Call,
    (audio, video): (Source, Source),
    recorders: [JoinHandle<anyhow::Result<()>>; 2],
    hang_up: &HangUp,
) -> anyhow::Result<()> {
    let mut outgoing =
        Outgoing { audio_to: audio.publish(call, false).await?, video_to: video.publish(call, false).await? };
    let [audio_in, video_in] = recorders;
    let mut received = tokio::spawn(async move {
        let (audio, video) = tokio::try_join!(audio_in, video_in)?;
        audio.and(video).map(drop)
    });
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
    tokio::try_join!(outgoing.audio_to.finish(), outgoing.video_to.finish())?;
    if !heard_out {
        let rest = tokio::time::timeout(FAREWELL, received).await;
        rest.map_err(|_| anyhow!("the other side did not end its tracks in time"))???;
    }
    Ok(())
}

/// Our two tracks.
struct Outgoing {
    audio_to: Publisher,
    video_to: Publisher,
}

impl Outgoing {
    /// Plays both files from the moment when both tracks are subscribed to: until they end, for as long as `after`
    /// says, or until told to stop.
    async fn play(
        &mut self,
        audio: Source,
        video: Source,
        after: Option<Duration>,
        mut stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let wanted = async { tokio::try_join!(self.audio_to.wanted(), self.video_to.wanted()) };
        tokio::select! {
            wanted = wanted => wanted?,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let start = Instant::now();
        let until = after.map(|after| start + after);
        tokio::try_join!(
            audio.play(&mut self.audio_to, start, until, stopped.clone()),
            video.play(&mut self.video_to, start, until, stopped)
        )?;
        Ok(())
    }
}
