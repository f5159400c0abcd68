//! Two people in one program: one rings, the other answers, and a few packets go across.
//!
//! ```sh
//! SUPERNODE_INVITE="$(cat invite)" cargo run --example call
//! ```

use std::{env, io::Write, sync::Arc, time::SystemTime};

use supernode_client::{
    Client, Config, Error, Events, OutgoingFrame, PresenceState, PublishOptions, RingOutcome, SubscribeOptions,
    TrackId, TrackInfo, TrackKind,
    e2ee::{Device, DeviceSecret, IdentitySecret, Terms},
    proto::{identity::Grants, invite::Invite},
};

const DAY_S: u64 = 24 * 3600;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let invite: Invite = env::var("SUPERNODE_INVITE")?.parse()?;
    let (alice, bob) = (IdentitySecret::generate(), IdentitySecret::generate());
    let (alice_client, _alice_events) = connect(&invite, &alice).await?;
    let (bob_client, bob_events) = connect(&invite, &bob).await?;

    // Bob gives Alice a ticket, by whatever way they know each other.
    let (grants, not_after_unix_s) = (Grants::PRESENCE | Grants::RING, unix_s()? + DAY_S);
    let terms = Terms { grants, relay: invite.pin, generation: 0, not_after_unix_s };
    let ticket = bob.issue_pass_for(alice.public(), &terms);
    bob_client.set_presence(PresenceState::Online, Default::default()).await?;
    let listening = tokio::spawn(listen(bob_events));

    alice_client.watch(&ticket).await?.online().await?;
    let mut ring = alice_client.ring(&ticket).await?;
    let RingOutcome::Answered(call) = ring.outcome().await? else { anyhow::bail!("not answered") };
    let info =
        TrackInfo { id: TrackId(rand::random()), name: "voice".into(), codec: "text".into(), parameters: vec![] };
    let mut voice = call.publish(TrackKind::Audio, info, PublishOptions::default()).await?;
    voice.wanted().await?;
    for (index, word) in ["nobody", "in", "between", "hears", "this"].into_iter().enumerate() {
        voice.send(&OutgoingFrame::independent(word.as_bytes(), index as u64 * 20_000)).await?;
    }
    voice.finish().await?;
    listening.await??;
    call.leave().await?;
    Ok(())
}

async fn listen(mut events: Events) -> Result<(), Error> {
    let ring = events.next_ring().await.ok_or(Error::ClientClosed)?;
    let call = ring.answer().await?;
    let voice = call.track(TrackKind::Audio).await?;
    let mut frames = call.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio)).await?;
    while let Some(frame) = frames.next().await {
        // Without standard output there is nobody to tell.
        let _ = writeln!(std::io::stdout(), "{}", String::from_utf8_lossy(&frame.payload));
    }
    Ok(())
}

async fn connect(invite: &Invite, identity: &IdentitySecret) -> anyhow::Result<(Client, Events)> {
    let device = DeviceSecret::generate();
    let delegation = identity.delegate(&device.public(), unix_s()? + DAY_S);
    let device = Arc::new(Device::new(device, delegation)?);
    Ok(Client::connect(invite, device, Config::default()).await?)
}

fn unix_s() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}
