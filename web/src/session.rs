//! A session with a relay.

use std::{rc::Rc, time::Duration};

use js_sys::Function;
use supernode_client::{
    Client, Config, Error, Event, Events, PresenceState, RingOutcome, RoomLink, RoomOptions, TicketLink,
    e2ee::{KeyExchange, LinkSecret},
    proto::{control::Rung, invite::Invite},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

use crate::{
    keys::Keys,
    link::Link,
    rings::Rings,
    room::Room,
    told::{Teller, Told},
    trouble::{Trouble, thrown},
};

/// How long a link to ring us by holds.
const TICKET_DAYS: u16 = 30;

/// How long somebody who is not there is rung: a page of theirs that was woken has to be opened.
const RING_PATIENCE: Duration = Duration::from_secs(45);

/// A session with the relay of a link. It comes back by itself.
#[wasm_bindgen]
pub struct Session {
    client: Client,
    link: Link,
    rings: Rc<Rings>,
    teller: Teller,
    ticket_link: String,
}

#[wasm_bindgen]
impl Session {
    /// Connects to the relay of `link` as whoever has `keys`. From then on `told` is called with what happens.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn connect(keys: &Keys, link: &str, told: Function) -> Result<Self, JsValue> {
        let link: Link = link.parse().map_err(|trouble: Trouble| trouble.thrown())?;
        let device = keys.to_device().map_err(|trouble| trouble.thrown())?;
        let relay = link.relay().clone();
        let pass = keys.pass(relay.pin, TICKET_DAYS);
        let (client, events) = Client::connect(&relay, device, Config::default()).await.map_err(thrown)?;
        // Whoever gets it has an own way into the relay.
        let ticket_link = TicketLink { relay: Invite { token: None, ..client.invite() }, pass }.to_string();
        let teller = Teller::new(told);
        let rings = Rc::new(Rings::new(teller.clone()));
        spawn_local(tell_events(events, rings.clone(), teller.clone()));
        Ok(Self { client, link, rings, teller, ticket_link })
    }

    /// Goes where the link leads: into its room, into a new room at its relay, or to the person, whom it rings. A room that
    /// nobody is in is opened, and called `name`.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn enter(&self, name: &str, large: bool) -> Result<Room, JsValue> {
        let keys = if large { KeyExchange::X25519 } else { KeyExchange::default() };
        let options = |link| RoomOptions { name: name.to_owned(), door: None, link, keys };
        let (call, secret) = match &self.link {
            Link::Room(RoomLink { secret, .. }) => {
                (self.client.enter_by_link(secret, options(None)).await.map_err(thrown)?, Some(secret.clone()))
            }
            Link::Relay(_) => {
                let secret = LinkSecret::generate();
                (self.client.create_room(options(Some(secret.clone()))).await.map_err(thrown)?, Some(secret))
            }
            Link::Person(link) => {
                let mut ring = self.client.ring_patiently(&link.pass, RING_PATIENCE).await.map_err(thrown)?;
                match ring.outcome().await.map_err(thrown)? {
                    RingOutcome::Answered(call) => (call, None),
                    other => return Err(unanswered(&other).thrown()),
                }
            }
        };
        Ok(Room::new(call, secret, self.client.clone(), self.teller.clone()))
    }

    /// Answers a ring: into the call, or into the room.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn answer(&self, ring: u32) -> Result<Room, JsValue> {
        let call = self.rings.answer(ring).await.map_err(thrown)?;
        Ok(Room::new(call, None, self.client.clone(), self.teller.clone()))
    }

    /// Lets in who knocks.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn admit(&self, ring: u32) -> Result<(), JsValue> {
        self.rings.admit(ring).await.map_err(thrown)
    }

    /// Declines a ring, or a knock.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn decline(&self, ring: u32) -> Result<(), JsValue> {
        self.rings.decline(ring).await.map_err(thrown)
    }

    /// Whether somebody is asked before whoever has the link comes in.
    pub fn set_lobby(&self, on: bool) {
        self.rings.set_lobby(on);
    }

    /// Shows us online to those who have our link, so that they can ring.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn appear(&self) -> Result<(), JsValue> {
        self.client.set_presence(PresenceState::Online, Default::default()).await.map_err(thrown)
    }

    /// A link by which whoever has it may ring us.
    pub fn ticket_link(&self) -> String {
        self.ticket_link.clone()
    }

    /// The key with which to subscribe to the browser's push service, if the relay wakes pages.
    pub fn push_key(&self) -> Option<Vec<u8>> {
        self.client.push_key().map(|key| key.to_vec())
    }

    /// Lets the relay wake this page there while it is closed; without an endpoint, no more.
    ///
    /// # Errors
    /// The trouble, as JSON.
    pub async fn set_push_endpoint(&self, endpoint: Option<String>) -> Result<(), JsValue> {
        self.client.set_push_endpoint(endpoint.as_deref()).await.map_err(|error| match error {
            Error::Refused(refusal) if refusal.detail == "endpoint" => Trouble::new(
                "PushService",
                "this relay does not know the push service of this browser",
                "its operator lists which ones it may ask",
                "tell the operator which browser it is, or use another one",
            )
            .thrown(),
            other => thrown(other),
        })
    }

    /// Round trip to the relay in milliseconds, while there is a connection.
    pub fn rtt_ms(&self) -> Option<f64> {
        self.client.rtt().map(|rtt| rtt.as_secs_f64() * 1e3)
    }

    /// Ends it, and waits until the relay knows.
    pub async fn close(&self) {
        self.client.clone().close().await;
    }
}

async fn tell_events(mut events: Events, rings: Rc<Rings>, teller: Teller) {
    while let Some(event) = events.next().await {
        let told = match event {
            Event::IncomingRing(ring) => {
                rings.take(ring);
                continue;
            }
            Event::RungChanged(rung) => Told::Rung { rung: rung_name(rung) },
            Event::ClockDiffers(skew) => Told::ClockDiffers { skew: skew.to_string() },
            Event::Disconnected(error) => Told::Disconnected { trouble: Trouble::of(&error) },
            Event::Reconnected => Told::Reconnected,
            Event::Closed(error) => Told::Closed { trouble: Trouble::of(&error) },
            // The SDK does what is to be done about the others, or there is nothing.
            _ => continue,
        };
        teller.tell(&told);
    }
}

fn rung_name(rung: Rung) -> &'static str {
    rung.as_str_name().trim_start_matches("RUNG_")
}

fn unanswered(outcome: &RingOutcome) -> Trouble {
    let again = "try again later, or tell them by another way";
    match outcome {
        RingOutcome::Declined => Trouble::new("Declined", "they declined", "they do not want to talk now", again),
        RingOutcome::Busy => Trouble::new("Busy", "they are busy", "every device of theirs is in a call", again),
        RingOutcome::Gone => Trouble::new("Gone", "they went away", "none of their devices is online any more", again),
        _ => Trouble::new("Unanswered", "nobody answered", "they did not hear it, or are not there", again),
    }
}

/// Of what cannot be done because it is over.
pub(crate) const OVER: Error = Error::State("that ring is over");
