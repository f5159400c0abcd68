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
    Call, CallEvent, Client, Event, Events, Liar, Purpose, RoomOptions, Warning,
    proto::control::{ClientMessage, RelayMessage, client_message, relay_message},
};
use tokio::sync::broadcast;

use crate::{
    people::{Person, in_time, quick},
    relay::Relay,
};

/// Somebody in a room, and what comes between them and the relay.
pub(crate) struct Guest {
    pub(crate) person: Person,
    pub(crate) client: Client,
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
        guests.push(Guest { person, client, call, liar, events });
    }
    agree(&guests.iter().collect::<Vec<_>>()).await;
    guests
}

async fn admit_all(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::IncomingRing(ring) = event
            && matches!(ring.purpose(), Purpose::Knock { .. })
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

    pub(crate) async fn is_warned(&mut self, of: Warning) {
        self.hears(|event| matches!(event, CallEvent::Warning(warning) if *warning == of)).await;
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
