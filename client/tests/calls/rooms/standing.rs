//! Rooms that stand, through a real relay.

use supernode_client::{
    Call, CallEnd, CallEvent, Client, Error, Event, Events, InvitationOutcome, RoomOptions,
    e2ee::{LinkSecret, Pass},
};
use supernode_client_testkit::{Person, in_time, next_ring, quick};
use supernode_testkit::Relay;

use crate::rooms::agree;

/// Somebody whose client lets in who knocks with the link, and nobody else.
struct Guest {
    client: Client,
}

impl Guest {
    async fn online(relay: &Relay) -> Self {
        let (client, events) = Person::new().online_with(&relay.invite(), quick()).await;
        tokio::spawn(mind(events));
        Self { client }
    }

    async fn enter(&self, link: &LinkSecret) -> Result<Call, Error> {
        in_time(self.client.enter_by_link(link, RoomOptions::default())).await
    }
}

async fn mind(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::IncomingRing(ring) = event
            && ring.has_link()
        {
            tokio::spawn(async move { drop(ring.admit().await) });
        }
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_room_opens_again_for_whoever_comes_first_and_any_of_those_inside_lets_others_in() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let [alice, bob, carol] = [Guest::online(&relay).await, Guest::online(&relay).await, Guest::online(&relay).await];
    let at_alice = alice.enter(&link).await.unwrap();
    assert_eq!(at_alice.hosts(), [alice.client.identity()], "who opened it");
    let at_bob = bob.enter(&link).await.unwrap();
    agree(&[at_alice.clone(), at_bob.clone()]).await;
    // The one who opened it leaves; the door is minded all the same.
    in_time(at_alice.leave()).await.unwrap();
    in_time(alice.client.close()).await;
    let at_carol = carol.enter(&link).await.unwrap();
    agree(&[at_bob.clone(), at_carol.clone()]).await;
    // Next week nobody is there.
    in_time(at_bob.leave()).await.unwrap();
    in_time(at_carol.leave()).await.unwrap();
    let at_carol = carol.enter(&link).await.unwrap();
    assert_eq!(at_carol.room_id(), link.room());
    assert_eq!(at_carol.hosts(), [carol.client.identity()]);
    let at_bob = bob.enter(&link).await.unwrap();
    agree(&[at_bob, at_carol]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_at_once_to_an_empty_room_meet_in_it() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let guests = [Guest::online(&relay).await, Guest::online(&relay).await, Guest::online(&relay).await];
    let [a, b, c] = &guests;
    let (a, b, c) = tokio::join!(a.enter(&link), b.enter(&link), c.enter(&link));
    agree(&[a.unwrap(), b.unwrap(), c.unwrap()]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whom_everybody_inside_has_shut_out_is_told_so_and_does_not_wait_at_the_door() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let [alice, bob, eve] = [Guest::online(&relay).await, Guest::online(&relay).await, Guest::online(&relay).await];
    in_time(alice.client.limit_tickets(0, &[eve.client.identity()])).await.unwrap();
    let at_alice = alice.enter(&link).await.unwrap();
    assert!(matches!(eve.enter(&link).await, Err(Error::NotAdmitted)));
    // Somebody comes who has nothing against her, and she tries again.
    let at_bob = bob.enter(&link).await.unwrap();
    let at_eve = eve.enter(&link).await.unwrap();
    agree(&[at_alice, at_bob, at_eve]).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_let_in_without_the_link_lets_in_who_has_it() {
    let relay = Relay::open(1);
    let link = LinkSecret::generate();
    let (alice, carol) = (Guest::online(&relay).await, Guest::online(&relay).await);
    let dave = Person::new();
    let (at_daves, mut rings) = dave.online(&relay.invite()).await;
    let at_alice = alice.enter(&link).await.unwrap();
    let pass: Pass = dave.ticket();
    let (invited, at_dave) = in_time(async {
        tokio::join!(at_alice.invite(&pass), async { next_ring(&mut rings).await.answer().await.unwrap() })
    })
    .await;
    assert!(matches!(invited.unwrap(), InvitationOutcome::In(_)));
    tokio::spawn(mind(rings));
    agree(&[at_alice.clone(), at_dave.clone()]).await;
    in_time(at_alice.leave()).await.unwrap();
    let at_carol = carol.enter(&link).await.unwrap();
    agree(&[at_dave, at_carol]).await;
    drop(at_daves);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_put_out_stays_out_as_long_as_somebody_is_in_also_of_those_who_came_later() {
    let relay = Relay::open(2);
    let link = LinkSecret::generate();
    let [alice, eve, carol] = [Guest::online(&relay).await, Guest::online(&relay).await, Guest::online(&relay).await];
    let at_alice = alice.enter(&link).await.unwrap();
    let at_eve = eve.enter(&link).await.unwrap();
    agree(&[at_alice.clone(), at_eve.clone()]).await;
    in_time(at_alice.remove_person(&eve.client.identity())).await.unwrap();
    assert_eq!(in_time(at_eve.ended()).await, CallEnd::Removed);
    drop(at_eve);
    assert!(matches!(eve.enter(&link).await, Err(Error::NotAdmitted)));
    let at_carol = carol.enter(&link).await.unwrap();
    agree(&[at_alice.clone(), at_carol.clone()]).await;
    in_time(at_alice.leave()).await.unwrap();
    assert!(matches!(eve.enter(&link).await, Err(Error::NotAdmitted)), "who came later was told");
    // A new link is a new room, which the old one neither names nor opens.
    let changed = LinkSecret::generate();
    assert_ne!(changed.room(), link.room());
    in_time(at_carol.leave()).await.unwrap();
    let at_carol = carol.enter(&changed).await.unwrap();
    let alone = eve.enter(&link).await.unwrap();
    assert_eq!((alone.roster().len(), at_carol.roster().len()), (1, 1), "whoever has the old link is alone with it");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn those_in_a_room_open_it_again_at_a_relay_that_was_restarted() {
    let relay = Relay::open(1);
    let link = LinkSecret::generate();
    let [alice, bob, carol] = [Guest::online(&relay).await, Guest::online(&relay).await, Guest::online(&relay).await];
    let at_alice = alice.enter(&link).await.unwrap();
    let at_bob = bob.enter(&link).await.unwrap();
    agree(&[at_alice.clone(), at_bob.clone()]).await;
    let before = at_alice.safety_number().unwrap();
    let mut events = [at_alice.events(), at_bob.events()];
    let _relay = in_time(relay.restart()).await;
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    agree(&[at_alice.clone(), at_bob.clone()]).await;
    assert_eq!(at_alice.safety_number().unwrap(), before, "nobody had to be let in");
    let at_carol = carol.enter(&link).await.unwrap();
    agree(&[at_alice, at_bob, at_carol]).await;
}
