//! A room whose members each have a relay that may lie to them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use supernode_client::{
    Call, CallEvent, Event, Events, Liar, Member, OutgoingFrame, PublishOptions, Purpose, RoomOptions,
    SubscribeOptions, TrackKind, Warning,
    e2ee::LinkSecret,
    proto::control::{ClientMessage, Done, RelayMessage, client_message, relay_message},
};
use supernode_client_testkit::{Person, in_time, quick, track};
use supernode_testkit::Relay;
use tokio::sync::broadcast;

/// Somebody in a room, and what comes between them and the relay.
pub(crate) struct Guest {
    pub(crate) person: Person,
    pub(crate) call: Call,
    pub(crate) liar: Arc<Liar>,
    events: broadcast::Receiver<CallEvent>,
}

/// A room with so many in it, all of whom let in whoever knocks.
pub(crate) async fn room_of(relay: &Relay, count: usize) -> Vec<Guest> {
    let mut guests: Vec<Guest> = Vec::new();
    for _ in 0..count {
        let (person, liar) = (Person::new(), Liar::honest());
        let config =
            supernode_client::Config { liar: Some(liar.clone()), rejoin_grace: Duration::from_secs(2), ..quick() };
        let (client, events) = person.online_with(&relay.invite(), config).await;
        let options = RoomOptions { door: Some(person.ticket()), ..RoomOptions::default() };
        let call = match guests.first() {
            None => in_time(client.create_room(options)).await.unwrap(),
            Some(host) => {
                let room = host.call.room_id();
                in_time(client.join_room(&host.person.ticket(), room, options)).await.unwrap()
            }
        };
        tokio::spawn(admit_all(events));
        let events = call.events();
        guests.push(Guest { person, call, liar, events });
    }
    agree(&guests.iter().collect::<Vec<_>>()).await;
    guests
}

/// Somebody who comes by the link of a room that stands, and lets in whoever comes later.
pub(crate) async fn by_link(relay: &Relay, link: &LinkSecret, liar: Arc<Liar>) -> Guest {
    let (person, config) = (Person::new(), supernode_client::Config { liar: Some(liar.clone()), ..quick() });
    let (client, events) = person.online_with(&relay.invite(), config).await;
    let call = in_time(client.enter_by_link(link, RoomOptions::default())).await.unwrap();
    tokio::spawn(admit_all(events));
    let events = call.events();
    Guest { person, call, liar, events }
}

pub(crate) async fn admit_all(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::IncomingRing(ring) = event
            && (ring.has_link() || matches!(ring.purpose(), Purpose::Knock { .. }))
        {
            tokio::spawn(async move { drop(ring.admit().await) });
        }
    }
}

/// Waits until all of them, and nobody else, are in one epoch and here.
pub(crate) async fn agree(guests: &[&Guest]) {
    in_time(async {
        loop {
            let numbers: HashSet<_> = guests.iter().map(|guest| guest.call.safety_number().ok()).collect();
            let all_here = guests.iter().all(|guest| {
                let roster = guest.call.roster();
                roster.len() == guests.len() && roster.iter().all(|entry| entry.is_here)
            });
            if numbers.len() == 1 && !numbers.contains(&None) && all_here {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

impl Guest {
    /// Waits for an event of the call.
    pub(crate) async fn hears(&mut self, is_it: impl Fn(&CallEvent) -> bool) -> CallEvent {
        in_time(async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is_it(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// What else has happened in the call.
    pub(crate) fn heard_so_far(&mut self) -> Vec<CallEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    pub(crate) async fn is_warned(&mut self, of: Warning) {
        self.hears(|event| matches!(event, CallEvent::Warning(warning) if *warning == of)).await;
    }

    pub(crate) fn member(&self) -> Member {
        self.call.roster().into_iter().find(|entry| entry.is_us).unwrap().member
    }

    /// Waits until it is so.
    pub(crate) async fn sees(&self, is_it: impl Fn(&Call) -> bool) {
        in_time(async {
            while !is_it(&self.call) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Says something that `listener` hears, as ours.
    pub(crate) async fn is_heard_by(&self, listener: &Self) {
        let info = track("voice");
        let (id, ours) = (info.id, self.member());
        let mut voice = in_time(self.call.publish(TrackKind::Audio, info, PublishOptions::default())).await.unwrap();
        let is_ours = |call: &Call| {
            let mut tracks = call.tracks().into_iter();
            tracks.find(|track| track.publisher() == ours && track.info().id == id)
        };
        listener.sees(|call| is_ours(call).is_some()).await;
        let options = SubscribeOptions::for_kind(TrackKind::Audio);
        let mut heard = in_time(listener.call.subscribe(&is_ours(&listener.call).unwrap(), options)).await.unwrap();
        let said = async {
            loop {
                voice.send(&OutgoingFrame::independent(b"hello", 0)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let frame = in_time(async {
            tokio::select! {
                frame = heard.next() => frame,
                () = said => None,
            }
        });
        assert_eq!(frame.await.unwrap().payload, "hello");
    }

    /// Has the relay never hear a commit of ours, and tells us that it was accepted.
    pub(crate) fn commits_alone(&self) -> Arc<AtomicBool> {
        let (lies, lying) = switch();
        let liar = Arc::downgrade(&self.liar);
        self.liar.ask(move |message: ClientMessage| {
            let is_commit = matches!(&message.body, Some(client_message::Body::SendMls(sent)) if sent.commit);
            if lying.load(Ordering::Relaxed) && is_commit {
                liar.upgrade().unwrap().invent(message.request, relay_message::Body::Done(Done {}));
                return vec![];
            }
            vec![message]
        });
        lies
    }

    /// Has the relay hear something that we never said, beside the next thing that we say.
    pub(crate) fn is_made_to_say(&self, what: client_message::Body) {
        let mut what = Some(what);
        self.liar.ask(move |message: ClientMessage| {
            // No request of ours has such a number.
            let invented = what.take().map(|body| ClientMessage { request: u64::MAX, body: Some(body) });
            std::iter::once(message).chain(invented).collect()
        });
    }

    /// Never hears a message that is of this kind, until the switch says no.
    pub(crate) fn never_hears(&self, of: impl Fn(&relay_message::Body) -> bool + Send + 'static) -> Arc<AtomicBool> {
        let (lies, lying) = switch();
        self.liar.tell(move |message: RelayMessage| {
            let is_kept = lying.load(Ordering::Relaxed) && message.body.as_ref().is_some_and(&of);
            if is_kept { vec![] } else { vec![message] }
        });
        lies
    }

    pub(crate) fn number(&self) -> String {
        self.call.safety_number().unwrap()
    }

    /// Changes what the relay tells this guest, until the switch that is returned says no.
    pub(crate) fn is_told(&self, change: impl Fn(&mut relay_message::Body) + Send + 'static) -> Arc<AtomicBool> {
        let (lies, lying) = switch();
        self.liar.tell(move |mut message: RelayMessage| {
            if lying.load(Ordering::Relaxed)
                && let Some(body) = &mut message.body
            {
                change(body);
            }
            vec![message]
        });
        lies
    }

    /// Changes what this guest tells the relay, until the switch that is returned says no.
    pub(crate) fn tells(&self, change: impl Fn(&mut client_message::Body) + Send + 'static) -> Arc<AtomicBool> {
        let (lies, lying) = switch();
        self.liar.ask(move |mut message: ClientMessage| {
            if lying.load(Ordering::Relaxed)
                && let Some(body) = &mut message.body
            {
                change(body);
            }
            vec![message]
        });
        lies
    }
}

fn switch() -> (Arc<AtomicBool>, Arc<AtomicBool>) {
    let on = Arc::new(AtomicBool::new(true));
    (on.clone(), on)
}
