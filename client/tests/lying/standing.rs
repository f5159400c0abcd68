//! The door of a room that stands.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use supernode_client::{
    Client, Config, Error, Event, Events, Liar, RoomOptions,
    e2ee::LinkSecret,
    proto::control::{
        ClientMessage, Done, IncomingRing, RefusalReason, Refused, RelayMessage, RingResult, RoomJoined,
        client_message, relay_message,
    },
};
use supernode_client_testkit::{Person, in_time, next_ring, quick};
use supernode_testkit::Relay;

use crate::scene::{admit_all, agree, by_link};

async fn online(relay: &Relay) -> (Client, Events, Arc<Liar>) {
    let liar = Liar::honest();
    let config = Config { liar: Some(liar.clone()), ..quick() };
    let (client, events) = Person::new().online_with(&relay.invite(), config).await;
    (client, events, liar)
}

//
#[tokio::test(flavor = "multi_thread")]
async fn the_link_helps_neither_whom_we_shut_out_nor_a_device_that_we_know_as_taken_back() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let (host, events, liar) = online(&relay).await;
    // Whom the host shuts out the relay does not hear, so it rings for everybody.
    let teller = Arc::downgrade(&liar);
    liar.ask(move |message: ClientMessage| {
        if !matches!(message.body, Some(client_message::Body::LimitTickets(_))) {
            return vec![message];
        }
        teller.upgrade().unwrap().invent(message.request, relay_message::Body::Done(Done {}));
        vec![]
    });
    let _inside = in_time(host.enter_by_link(&link, RoomOptions::default())).await.unwrap();
    tokio::spawn(admit_all(events));
    let (guest, _guest_events, _) = online(&relay).await;
    in_time(host.limit_tickets(0, &[guest.identity()])).await.unwrap();
    let refused = in_time(guest.enter_by_link(&link, RoomOptions::default())).await;
    assert!(matches!(refused, Err(Error::State(_))), "shut out");
    in_time(host.limit_tickets(0, &[])).await.unwrap();
    let let_in = in_time(guest.enter_by_link(&link, RoomOptions::default())).await.unwrap();
    in_time(let_in.leave()).await.unwrap();

    let owner = Person::new();
    let (lost, kept) = (owner.device(), owner.device());
    assert!(host.learn_revocation(owner.revoke(&[lost.key()], 1)), "and the relay has not heard");
    let (phone, _phone_events) = in_time(Client::connect(&relay.invite(), lost, quick())).await.unwrap();
    let refused = in_time(phone.enter_by_link(&link, RoomOptions::default())).await;
    assert!(matches!(refused, Err(Error::State(_))), "taken back");
    let (tablet, _tablet_events) = in_time(Client::connect(&relay.invite(), kept, quick())).await.unwrap();
    in_time(tablet.enter_by_link(&link, RoomOptions::default())).await.unwrap();
}

/// The relay knows the room's name, its key and every knock so far, and has people of its own.
//
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_answers_at_the_door_itself_lets_nobody_into_a_room_of_its_own() {
    let relay = Relay::open(1);
    let link = LinkSecret::generate();
    let (host, mut events, _) = online(&relay).await;
    let room = in_time(host.enter_by_link(&link, RoomOptions::default())).await.unwrap();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::IncomingRing(ring) = event {
                tokio::spawn(async move { drop(ring.admit().await) });
            }
        }
    });
    let (guest, _events, liar) = online(&relay).await;
    // What a member has answered to somebody else, and nothing at all.
    let answered: Arc<Mutex<Option<Bytes>>> = Arc::default();
    let noted = answered.clone();
    liar.tell(move |message: RelayMessage| {
        if let Some(relay_message::Body::RingOutcome(outcome)) = &message.body {
            *noted.lock().unwrap() = Some(outcome.payload.clone());
        }
        vec![message]
    });
    let in_it = in_time(guest.enter_by_link(&link, RoomOptions::default())).await.unwrap();
    in_time(in_it.leave()).await.unwrap();
    let earlier = answered.lock().unwrap().take().unwrap();
    for forged in [earlier, Bytes::new()] {
        liar.tell(move |mut message: RelayMessage| {
            if let Some(relay_message::Body::RingOutcome(outcome)) = &mut message.body {
                outcome.set_result(RingResult::Answered);
                outcome.payload = forged.clone();
            }
            vec![message]
        });
        let entered = in_time(guest.enter_by_link(&link, RoomOptions::default())).await;
        assert!(matches!(entered, Err(Error::Protocol(_))), "{entered:?}");
    }
    assert_eq!(room.room_id(), link.room());
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_knock_that_the_relay_changes_makes_up_or_brings_again_lets_nobody_in() {
    let relay = Relay::open(1);
    let link = LinkSecret::generate();
    let (host, mut events, liar) = online(&relay).await;
    let room = in_time(host.enter_by_link(&link, RoomOptions::default())).await.unwrap();
    let brought: Arc<Mutex<Vec<IncomingRing>>> = Arc::default();
    let noted = brought.clone();
    liar.tell(move |message: RelayMessage| {
        if let Some(relay_message::Body::IncomingRing(ring)) = &message.body {
            noted.lock().unwrap().push(ring.clone());
        }
        vec![message]
    });
    let (guest, guest_events, _) = online(&relay).await;
    let knocking = tokio::spawn({
        let (guest, link) = (guest.clone(), link.clone());
        async move { guest.enter_by_link(&link, RoomOptions::default()).await }
    });
    let knock = next_ring(&mut events).await;
    assert!(knock.has_link() && knock.caller().identity == guest.identity());
    in_time(knock.decline()).await.unwrap();
    assert!(matches!(in_time(knocking).await.unwrap(), Err(Error::NotAdmitted)));
    // As somebody else, with another package in place of the guest's, and with nothing to show.
    let first = brought.lock().unwrap().remove(0);
    let eve = Bytes::copy_from_slice(Person::new().public().as_bytes());
    let mut changed = first.payload.to_vec();
    changed[40] ^= 1;
    for forged in [
        IncomingRing { caller: eve.clone(), ..first.clone() },
        IncomingRing { caller_device: eve, ..first.clone() },
        IncomingRing { payload: changed.into(), ..first.clone() },
        IncomingRing { payload: Bytes::new(), ..first.clone() },
    ] {
        liar.invent(0, relay_message::Body::IncomingRing(forged));
    }
    // Brought again it is shown, since it is genuine; and whoever opens the door to it finds nobody there.
    liar.invent(0, relay_message::Body::IncomingRing(first));
    let again = next_ring(&mut events).await;
    assert_eq!(again.caller().identity, guest.identity(), "the next one that is shown");
    in_time(guest.close()).await;
    drop(guest_events);
    assert!(in_time(again.admit()).await.is_err());
    assert_eq!(room.roster().len(), 1);
}

/// The relay knows the room by its name and could as well have a room of its own by that name.
//
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_relay_tells_that_nobody_is_in_a_room_opens_another_one_and_sees_that_nobody_is_there() {
    let relay = Relay::open(1);
    let link = LinkSecret::generate();
    let host = by_link(&relay, &link, Liar::honest()).await;
    let liar = Liar::honest();
    let lies = Arc::downgrade(&liar);
    liar.ask(move |message: ClientMessage| {
        let lie = match &message.body {
            Some(client_message::Body::Ring(ring)) if !ring.room_key.is_empty() => {
                relay_message::Body::Refused(Refused { reason: RefusalReason::Offline.into(), ..Refused::default() })
            }
            Some(client_message::Body::JoinRoom(join)) => relay_message::Body::RoomJoined(RoomJoined {
                member: 1,
                mls_epoch: join.mls_epoch,
                ..RoomJoined::default()
            }),
            _ => return vec![message],
        };
        lies.upgrade().unwrap().invent(message.request, lie);
        vec![]
    });
    let fooled = by_link(&relay, &link, liar).await;
    assert_eq!(fooled.call.room_id(), host.call.room_id());
    for alone in [&fooled, &host] {
        let roster = alone.call.roster();
        assert!(roster.len() == 1 && roster[0].is_us && alone.call.members().is_empty(), "{roster:?}");
    }
    assert_ne!(fooled.number(), host.number(), "two groups");
    // Told the truth they would have met.
    let guest = by_link(&relay, &link, Liar::honest()).await;
    agree(&[&host, &guest]).await;
}
