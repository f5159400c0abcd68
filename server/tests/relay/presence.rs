use rstest::rstest;
use std::time::{Duration, Instant};

use prost::Message as _;
use supernode_proto::{
    close::CloseCode,
    control::{
        HelloBody, Presence, PresenceState, RefusalReason, SetPresence, Watch, client_message::Body as Request,
        relay_message::Body,
    },
    identity::{Grants, Revocation},
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Person, Relay, unix_s};

fn presence(event: &Body) -> Option<Presence> {
    match event {
        Body::Presence(presence) => Some(presence.clone()),
        _ => None,
    }
}

fn set(state: PresenceState) -> Request {
    Request::SetPresence(SetPresence { state: state.into(), status: b"sealed".to_vec().into() })
}

//
#[rstest]
#[tokio::test]
async fn a_watcher_sees_a_snapshot_and_then_every_change(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut watcher = relay.connect(&alice).await;
    watcher.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
    let first = watcher.event(presence).await;
    assert_eq!((first.state(), first.devices), (PresenceState::Offline, 0));

    let mut watched = relay.connect(&bob).await;
    watched.done(set(PresenceState::Online)).await;
    let online = watcher.event(presence).await;
    assert_eq!((online.state(), online.devices, &online.status[..]), (PresenceState::Online, 1, &b"sealed"[..]));
    assert!(online.epoch > first.epoch);

    let mut second = relay.connect(&bob.another_device()).await;
    second.done(set(PresenceState::Away)).await;
    let both = watcher.event(presence).await;
    assert_eq!((both.state(), both.devices), (PresenceState::Away, 2), "the newest state speaks for the person");

    second.done(set(PresenceState::Invisible)).await;
    let hidden = watcher.event(presence).await;
    assert_eq!((hidden.state(), hidden.devices), (PresenceState::Online, 1));

    second.close();
    watched.close();
    let gone = watcher.event(presence).await;
    assert_eq!((gone.state(), gone.devices, gone.status.len()), (PresenceState::Offline, 0, 0));
    assert!(gone.epoch > hidden.epoch);
    watcher.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_connection_that_breaks_and_comes_back_is_no_news(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut watcher = relay.connect(&alice).await;
    let mut watched = relay.connect(&bob).await;
    watched.done(set(PresenceState::Online)).await;
    watcher.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
    assert_eq!(watcher.event(presence).await.state(), PresenceState::Online);

    // The same device again, as after a change of network: the old session gives way.
    let mut again = relay.connect(&bob).await;
    assert_eq!(watched.close_code().await, CloseCode::REPLACED);
    again.done(set(PresenceState::Online)).await;
    watcher.no_event(presence).await;

    // Gone without a goodbye: told only after the linger.
    again.connection.close(quinn::VarInt::from_u32(0xff), b"");
    assert_eq!(watcher.event(presence).await.state(), PresenceState::Offline);
    watcher.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_device_that_its_person_has_taken_back_is_put_out_and_stays_out(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let lost = Person::new();
    let phone = lost.another_device();
    let thief = relay.connect(&lost).await;
    let with_word = async |person: &Person, number: u64, by: &Person| {
        let mut client = relay.dial().await;
        let mut body = HelloBody::decode(client.hello(person, relay.pin).body).unwrap();
        let devices = vec![lost.device_key()];
        let signed = by.identity.revoke(devices, number).unwrap();
        let word = Revocation { identity: person.identity_key(), ..signed };
        body.revocation = word.to_bytes().into();
        let hello = client.sign_hello(person, relay.pin, &body);
        client.send(0, Request::Hello(hello)).await;
        let answer = client.next().await;
        (client, answer.err())
    };
    assert_eq!(with_word(&phone, 1, &Person::new()).await.1, Some(CloseCode::BAD_SIGNATURE), "somebody else's word");
    let (client, refused) = with_word(&phone, 2, &phone).await;
    assert_eq!(refused, None);
    assert_eq!(thief.close_code().await, CloseCode::DEVICE_REVOKED);
    assert_eq!(relay.try_connect(&lost).await.err(), Some(CloseCode::DEVICE_REVOKED));
    client.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn an_older_word_takes_no_device_back_and_gives_none_back(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let lost = Person::new();
    let (phone, tablet) = (lost.another_device(), lost.another_device());
    let with_word = async |person: &Person, number: u64, device: &Person| {
        let mut client = relay.dial().await;
        let mut body = HelloBody::decode(client.hello(person, relay.pin).body).unwrap();
        body.revocation = person.identity.revoke(vec![device.device_key()], number).unwrap().to_bytes().into();
        let hello = client.sign_hello(person, relay.pin, &body);
        client.send(0, Request::Hello(hello)).await;
        assert!(client.next().await.is_ok(), "a word of their own lets both in");
        client
    };
    let mut on_tablet = with_word(&tablet, 5, &lost).await;
    let mut on_phone = with_word(&phone, 4, &tablet).await;
    let known = |event: &Body| match event {
        Body::DevicesRevoked(revoked) => Revocation::from_bytes(&revoked.revocation).ok().map(|word| word.number),
        _ => None,
    };
    assert_eq!(on_phone.event(known).await, 5, "what it did not know");
    on_tablet.no_event(known).await;
    on_tablet.done(set(PresenceState::Online)).await;
    assert_eq!(relay.try_connect(&lost).await.err(), Some(CloseCode::DEVICE_REVOKED));
    for client in [&on_tablet, &on_phone] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn without_the_right_ticket_nobody_watches(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob, eve) = (Person::new(), Person::new(), Person::new());
    let mut client = relay.connect(&alice).await;
    let watch = |ticket: supernode_proto::identity::Ticket| {
        Request::Watch(Watch { ticket: ticket.to_bytes().into(), ..Watch::default() })
    };

    let for_eve = bob.ticket(Some(&eve), Grants::PRESENCE, unix_s() + 60);
    assert_eq!(client.refused(watch(for_eve)).await.reason(), RefusalReason::TicketInvalid);
    let only_rings = bob.ticket(None, Grants::RING, unix_s() + 60);
    assert_eq!(client.refused(watch(only_rings)).await.reason(), RefusalReason::TicketInvalid);
    let expired = bob.ticket(None, Grants::PRESENCE, unix_s() - 1);
    assert_eq!(client.refused(watch(expired)).await.reason(), RefusalReason::TicketExpired);
    let mut forged = eve.ticket(None, Grants::PRESENCE, unix_s() + 60);
    forged.issuer = bob.identity_key();
    assert_eq!(client.refused(watch(forged)).await.reason(), RefusalReason::TicketInvalid);
    let eternal = bob.ticket(None, Grants::PRESENCE, u64::MAX);
    assert_eq!(client.refused(watch(eternal)).await.reason(), RefusalReason::TicketInvalid);
    let refused = client.refused(Request::Watch(Watch { ticket: vec![1; 10].into(), ..Watch::default() })).await;
    assert_eq!(
        (refused.reason(), refused.detail.as_str(), refused.value, refused.bound),
        (RefusalReason::Malformed, "ticket", 10, 183)
    );

    client.done(watch(bob.ticket(Some(&alice), Grants::PRESENCE, unix_s() + 60))).await;
    client.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn of_a_flapping_state_watchers_see_the_first_and_then_the_last(#[values(1, 2, 4)] shards: usize) {
    let interval = Duration::from_secs(1);
    let relay = Relay::with_limits(shards, Limits { presence_interval: interval, ..Limits::default() });
    let (alice, bob) = (Person::new(), Person::new());
    let mut watcher = relay.connect(&alice).await;
    let mut watched = relay.connect(&bob).await;
    watcher.done(Request::Watch(Watch { ticket: bob.open_ticket(), ..Watch::default() })).await;
    assert_eq!(watcher.event(presence).await.state(), PresenceState::Offline);
    for state in [PresenceState::Online, PresenceState::Away, PresenceState::Busy] {
        watched.done(set(state)).await;
    }
    assert_eq!(watcher.event(presence).await.state(), PresenceState::Online);
    let seen = Instant::now();
    assert_eq!(watcher.event(presence).await.state(), PresenceState::Busy);
    assert!(seen.elapsed() > interval / 2, "announced at the end of the interval");
    watcher.close();
    watched.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_watch_ends_with_its_ticket(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let (alice, bob) = (Person::new(), Person::new());
    let mut watcher = relay.connect(&alice).await;
    let mut watched = relay.connect(&bob).await;
    let ticket = bob.ticket(Some(&alice), Grants::PRESENCE, unix_s() + 1);
    watcher.done(Request::Watch(Watch { ticket: ticket.to_bytes().into(), ..Watch::default() })).await;
    watcher.event(presence).await;
    let ended = |event: &Body| if let Body::WatchEnded(ended) = event { Some(ended.clone()) } else { None };
    let ended = watcher.event(ended).await;
    assert_eq!(ended.reason(), RefusalReason::TicketExpired);
    assert_eq!(&ended.identity[..], bob.identity_key().as_bytes());
    watched.done(set(PresenceState::Online)).await;
    watcher.no_event(presence).await;
    watcher.close();
    watched.close();
    relay.assert_empty().await;
}
