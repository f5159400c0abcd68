//! Being in a room, from the door to the farewell.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use supernode_client::{
    Call, Client, Config, Error, Events, InvitationOutcome, Network, OutgoingFrame, PublishOptions, Publisher, Purpose,
    RoomLink, RoomOptions, TrackId, TrackInfo, TrackKind,
    e2ee::{KeyExchange, LinkSecret, Pass},
    proto::{identity::IdentityKey, invite::Invite},
};
use tokio::{
    sync::{Mutex, oneshot, watch},
    time::Instant,
};

use super::{
    StayArgs,
    control::{Answer, Control, Order},
    figures::{RoomSummary, Watched},
    porch::{Porch, may_be_back, tell_events},
    recording::Recording,
    roster,
};
use crate::{
    connect::connect,
    failure::Failure,
    media::{
        play::{PATIENCE_MS, Source},
        record::{Outputs, make_directory},
    },
    papers::{
        identity,
        links::{OwnInvite, write_secret},
    },
    progress::{Summary, note},
    say, talk,
    trouble::Trouble,
};

/// Longest to wait for what is under way after our own media has ended.
const FAREWELL: Duration = Duration::from_secs(15);
/// How long to go on knocking when nobody is at the door.
const KNOCK_FOR: Duration = Duration::from_secs(60);
/// Longest to wait for what is here already.
const PUTTING_AWAY: Duration = Duration::from_secs(5);
const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// What a room is called that we open by its link: what it was called before, nobody says.
const OPENED_AGAIN: &str = "a room";
/// How long what we let others come back with holds.
const DOOR_DAYS: u16 = 1;

/// How to come in.
pub(super) enum Entry {
    Create { relay: OwnInvite, name: String, link_file: Option<PathBuf>, large: bool },
    Knock { relay: OwnInvite, link: RoomLink },
    Wait { relay: OwnInvite },
}

/// Goes in and stays until told to leave, or as long as the arguments say.
pub(super) fn stay(args: &StayArgs, entry: Entry) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(Trouble::System)?.block_on(run(args, entry))
}

async fn run(args: &StayArgs, entry: Entry) -> Result<(), Failure> {
    // Everything of ours that can be wrong, before anybody is disturbed.
    let who = identity::load(&args.identity)?;
    let audio = Source::sound(&args.sound, args.audio.as_deref())?;
    let video = args.video.as_deref().map(Source::video).transpose()?;
    if let Some(directory) = &args.record_dir {
        make_directory(directory)?;
    }
    let outputs = Outputs { directory: args.record_dir.clone(), loudspeaker: args.sound.loudspeaker()? };
    let control = Control::listen(&args.identity)?;
    let relay = match &entry {
        Entry::Create { relay, .. } | Entry::Knock { relay, .. } | Entry::Wait { relay } => relay.clone(),
    };
    // For those whom we let in, to come back by. A device without the identity's secret comes and goes, and nobody comes back
    // by it.
    let door = who.can_issue().then(|| who.pass(None, relay.invite.pin, DOOR_DAYS)).transpose()?;
    let config = Config { network: Network { proxy: args.proxy.choice(), ..Network::default() }, ..Config::default() };
    let (client, mut events) = connect(&args.identity, &relay, config).await?;
    let call = enter(&client, &mut events, entry, door, &args.identity).await?;
    note(&format!("in the room, keys: {}", call.keys()));

    let porch = Arc::new(Porch::default());
    let (minding, file, only) = (porch.clone(), args.identity.clone(), args.only.clone());
    tokio::spawn(async move { minding.mind(events, &file, &only).await });
    let watched = Arc::new(Watched::default());
    let recording = Recording::new(outputs, args.speakers, watched.clone());
    let mut background = tokio::task::JoinSet::new();
    background.spawn(recording.clone().run(call.clone()));
    background.spawn(roster::show(call.clone(), watched.clone()));
    background.spawn(tell_events(call.clone()));
    let (chat, lines_sent) = (Mutex::default(), AtomicU64::new(0));
    let stay = Arc::new(Stay { call, watched, recording: recording.clone(), porch, chat, lines_sent });
    let stayed = stay.clone().until_the_end(args, [audio, video], control).await;
    // What is being recorded is put away first.
    let _ = tokio::time::timeout(PUTTING_AWAY, recording.ended()).await;
    background.shutdown().await;
    client.close().await;
    let (summary, stayed) = stayed;
    if args.json {
        say(&serde_json::to_string(&summary).expect("figures and names are JSON"))?;
    }
    stayed
}

async fn enter(
    client: &Client,
    events: &mut Events,
    entry: Entry,
    door: Option<Pass>,
    identity: &Path,
) -> Result<Call, Failure> {
    match entry {
        Entry::Create { name, link_file, large, .. } => {
            let secret = LinkSecret::generate();
            let keys = if large { KeyExchange::X25519 } else { KeyExchange::default() };
            let options = RoomOptions { name, door, link: Some(secret.clone()), keys };
            let call = client.create_room(options).await.map_err(Failure::no_call)?;
            // Whoever gets the link has an own way to be admitted to the relay.
            let relay = Invite { token: None, ..client.invite() };
            let link = RoomLink { relay, secret }.to_string();
            match link_file {
                Some(path) => write_secret(&path, &link)?,
                None => say(&link)?,
            }
            Ok(call)
        }
        Entry::Wait { .. } => loop {
            note(&format!("waiting to be invited as {}", client.identity().to_text()));
            let ring = tokio::select! {
                ring = talk::next_ring(events, identity) => ring?,
                _ = tokio::signal::ctrl_c() => return Err(Failure::no_call(Trouble::Interrupted)),
            };
            // Other rings, dropped, hear that we are busy.
            let Purpose::Invitation { name } = ring.purpose() else { continue };
            note(&format!("{} invites into {name:?}", roster::name(&ring.caller().identity.to_text())));
            match ring.accept(RoomOptions { door: door.clone(), ..RoomOptions::default() }).await {
                Ok(call) => return Ok(call),
                Err(error) => note(&format!("that came to nothing: {error}")),
            }
        },
        Entry::Knock { link, .. } => {
            let give_up_at = Instant::now() + KNOCK_FOR;
            let options = || RoomOptions { name: OPENED_AGAIN.into(), door: door.clone(), ..RoomOptions::default() };
            note("knocking");
            loop {
                match client.enter_by_link(&link.secret, options()).await {
                    Ok(call) => return Ok(call),
                    Err(error) if Instant::now() < give_up_at && may_be_back(&error) => {
                        note(&format!("nobody is at the door yet ({error})"));
                    }
                    Err(error) => return Err(Failure::no_call(error)),
                }
                tokio::time::sleep(KNOCK_AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
            }
        }
    }
}

struct Stay {
    call: Call,
    porch: Arc<Porch>,
    watched: Arc<Watched>,
    recording: Arc<Recording>,
    /// Made when the first line is said.
    chat: Mutex<Option<Publisher>>,
    lines_sent: AtomicU64,
}

impl Stay {
    /// Plays, listens and does as told. The summary is of the moment before we leave.
    async fn until_the_end(
        self: Arc<Self>,
        args: &StayArgs,
        sources: [Option<Source>; 2],
        mut control: Control,
    ) -> (RoomSummary, Result<(), Failure>) {
        let (stop, stopped) = watch::channel(false);
        let (agreed_sender, agreed) = oneshot::channel();
        let wait_for = args.wait_for.get();
        let limits = Limits { wait_for, at_most: args.seconds.map(Duration::from_secs), activity: args.show_activity };
        let play = play(self.call.clone(), sources, limits, stopped, agreed_sender);
        let farewell = async {
            play.await?;
            if args.seconds.is_none() {
                // We stay, and listen on.
                return std::future::pending().await;
            }
            if tokio::time::timeout(FAREWELL, self.recording.ended()).await.is_err() {
                note("the others go on: leaving");
            }
            Ok(())
        };
        let mut farewell = std::pin::pin!(farewell);
        let ended = loop {
            tokio::select! {
                played = &mut farewell => break played.map_err(|error: anyhow::Error| Failure::broken(error)),
                end = self.call.ended() => break Err(Failure::broken(end)),
                _ = tokio::signal::ctrl_c() => break Ok(()),
                Some((order, answer)) = control.orders.recv() => match order {
                    Order::Leave => {
                        // Whoever told us may have gone.
                        let _ = answer.send(Answer::default());
                        break Ok(());
                    }
                    other => {
                        tokio::spawn(self.clone().carry_out(other, answer));
                    }
                },
            }
        };
        stop.send_replace(true);
        let mut agreed = agreed;
        let safety_number = agreed.try_recv().ok().or_else(|| self.call.safety_number().ok()).unwrap_or_default();
        let summary = RoomSummary {
            call: Summary::new(&self.call.stats(), safety_number, false),
            members: self.watched.members(&self.call, std::time::Instant::now()),
            lines_sent: self.lines_sent.load(Relaxed),
            lines_received: self.recording.lines.load(Relaxed),
        };
        let left = self.call.clone().leave().await;
        (summary, ended.and(left.map_err(Failure::broken)))
    }

    async fn carry_out(self: Arc<Self>, order: Order, answer: oneshot::Sender<Answer>) {
        let done = match order {
            Order::Leave => Answer::default(),
            Order::Roster => {
                Answer { members: self.watched.members(&self.call, std::time::Instant::now()), ..Answer::default() }
            }
            Order::Kick { who } => match IdentityKey::from_text(&who) {
                Ok(identity) => answer_of(self.call.remove_person(&identity).await.map(|()| "removed")),
                Err(error) => Answer::failed(no_order(&error)),
            },
            Order::Admit { who: None } => Answer { knocking: self.porch.names(), ..Answer::default() },
            Order::Admit { who: Some(who) } => match IdentityKey::from_text(&who) {
                Ok(identity) => answer_of(self.porch.admit(&identity).await.map(|()| "in")),
                Err(error) => Answer::failed(no_order(&error)),
            },
            Order::Invite { ticket } => match Pass::from_text(&ticket) {
                Ok(pass) => answer_of(self.call.invite(&pass).await.map(outcome_name)),
                Err(error) => Answer::failed(no_order(&error)),
            },
            Order::Say { line } => answer_of(self.say(&line).await.map(|()| "said")),
        };
        // Whoever told us may have gone.
        let _ = answer.send(done);
    }

    async fn say(&self, line: &str) -> Result<(), Error> {
        let mut chat = self.chat.lock().await;
        let publisher = match &mut *chat {
            Some(publisher) => publisher,
            none => {
                let id = TrackId(rand::random());
                let info = TrackInfo { id, name: "chat".into(), codec: "text".into(), parameters: Vec::new() };
                let options = PublishOptions { ttl_ms: PATIENCE_MS, activity: false };
                let publisher = self.call.publish(TrackKind::Data, info, options).await?;
                let others = self.call.members().len() as u32;
                // Whoever does not listen by then misses the line.
                let _ = tokio::time::timeout(Duration::from_secs(3), publisher.wanted_by(others)).await;
                none.insert(publisher)
            }
        };
        publisher.send(&OutgoingFrame::independent(line.as_bytes(), 0)).await?;
        self.lines_sent.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Of names and tickets that whoever sent the order has read, and this process cannot.
fn no_order(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::NoOrder(serde::de::Error::custom(error))
}

fn answer_of(done: Result<&str, Error>) -> Answer {
    match done {
        Ok(outcome) => Answer { outcome: Some(outcome.to_owned()), ..Answer::default() },
        Err(error) => Answer::failed(error),
    }
}

fn outcome_name(outcome: InvitationOutcome) -> &'static str {
    match outcome {
        InvitationOutcome::In(_) => "in",
        InvitationOutcome::Declined => "declined",
        InvitationOutcome::Busy => "busy",
        InvitationOutcome::TimedOut => "nobody answered",
        InvitationOutcome::Gone => "gone",
    }
}

/// When to play, and what to show of it.
struct Limits {
    wait_for: usize,
    at_most: Option<Duration>,
    activity: bool,
}

/// Plays our files once `wait_for` are here and all of them listen, and marks their end. `agreed` gets the safety number
/// of that moment, which is the same for all.
async fn play(
    call: Call,
    [audio, video]: [Option<Source>; 2],
    limits: Limits,
    stopped: watch::Receiver<bool>,
    agreed: oneshot::Sender<String>,
) -> anyhow::Result<()> {
    let Limits { wait_for, at_most, activity } = limits;
    let mut audio_to = publish(&call, audio.as_ref(), activity).await?;
    let mut video_to = publish(&call, video.as_ref(), false).await?;
    let mut told_to_stop = stopped.clone();
    let everybody = async {
        call.wait_for_members(wait_for).await?;
        for publisher in audio_to.iter().chain(&video_to) {
            publisher.wanted_by(wait_for as u32 - 1).await?;
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        here = everybody => here?,
        _ = told_to_stop.wait_for(|stop| *stop) => return Ok(()),
    }
    // Nobody is there to take it if the room is being left.
    let _ = agreed.send(call.safety_number()?);
    if audio.is_some() || video.is_some() {
        note("all of them listen: playing");
    }
    let start = Instant::now();
    let until = at_most.map(|at_most| start + at_most);
    tokio::try_join!(
        play_one(audio, &mut audio_to, start, until, stopped.clone()),
        play_one(video, &mut video_to, start, until, stopped)
    )?;
    if let (Some(until), None, None) = (until, &audio_to, &video_to) {
        tokio::time::sleep_until(until).await;
    }
    tokio::try_join!(finish(audio_to), finish(video_to))?;
    Ok(())
}

async fn publish(call: &Call, source: Option<&Source>, activity: bool) -> Result<Option<Publisher>, Error> {
    match source {
        Some(source) => source.publish(call, activity).await.map(Some),
        None => Ok(None),
    }
}

async fn play_one(
    source: Option<Source>,
    publisher: &mut Option<Publisher>,
    start: Instant,
    until: Option<Instant>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    match (source, publisher) {
        (Some(source), Some(publisher)) => source.play(publisher, start, until, stopped).await,
        _ => Ok(()),
    }
}

async fn finish(publisher: Option<Publisher>) -> Result<(), Error> {
    match publisher {
        Some(publisher) => publisher.finish_heard(FAREWELL).await,
        None => Ok(()),
    }
}
