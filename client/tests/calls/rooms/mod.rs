//! Rooms of several, through a real relay.

mod standing;

use std::{collections::HashSet, time::Duration};

use supernode_client::{
    Call, CallEnd, CallEvent, Client, Config, Error, Event, Events, InvitationOutcome, Purpose, RoomOptions, TrackKind,
    e2ee::{KeyExchange, Pass, X_WING_MEMBERS_MAX},
};
use supernode_client_testkit::{Person, in_time, next_ring, quick, track};
use supernode_testkit::{Relay, Way};
use tokio::task::JoinHandle;

use crate::talks::{WHOLE, hear, packets, speak, whole};

/// Somebody who can be in a room.
pub(crate) struct Guest {
    person: Person,
    client: Client,
    events: Option<Events>,
}

impl Guest {
    async fn online(relay: &Relay) -> Self {
        Self::online_with(&relay.invite(), quick()).await
    }

    async fn online_with(invite: &supernode_client::proto::invite::Invite, config: Config) -> Self {
        let person = Person::new();
        let (client, events) = person.online_with(invite, config).await;
        Self { person, client, events: Some(events) }
    }

    fn ticket(&self) -> Pass {
        self.person.ticket()
    }

    fn options(&self) -> RoomOptions {
        RoomOptions { name: "tea".into(), door: Some(self.ticket()), ..RoomOptions::default() }
    }

    /// Opens a room and lets everybody in who knocks.
    async fn host(&mut self) -> (Call, JoinHandle<()>) {
        self.host_with(KeyExchange::default()).await
    }

    async fn host_with(&mut self, keys: KeyExchange) -> (Call, JoinHandle<()>) {
        let options = RoomOptions { keys, ..self.options() };
        let room = in_time(self.client.create_room(options)).await.unwrap();
        (room, admit_all(self.events.take().unwrap()))
    }

    async fn join(&self, host: &Self, room: &Call) -> Call {
        in_time(self.client.join_room(&host.ticket(), room.room_id(), self.options())).await.unwrap()
    }
}

fn admit_all(mut events: Events) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::IncomingRing(ring) = event
                && matches!(ring.purpose(), Purpose::Knock { .. })
            {
                tokio::spawn(async move { drop(ring.admit().await) });
            }
        }
    })
}

/// A room of the first guest, with all others in it.
pub(crate) async fn room_of(relay: &Relay, count: usize) -> (Vec<Guest>, Vec<Call>, JoinHandle<()>) {
    let mut guests = vec![Guest::online(relay).await];
    let keys = if count > X_WING_MEMBERS_MAX { KeyExchange::X25519 } else { KeyExchange::XWing };
    let (room, door) = guests[0].host_with(keys).await;
    let mut calls = vec![room];
    for _ in 1..count {
        let guest = Guest::online(relay).await;
        calls.push(guest.join(&guests[0], &calls[0]).await);
        guests.push(guest);
    }
    agree(&calls).await;
    (guests, calls, door)
}

/// Waits until all of them are in the same epoch with everybody here.
pub(crate) async fn agree(calls: &[Call]) {
    in_time(async {
        loop {
            let numbers: HashSet<_> = calls.iter().map(|call| call.safety_number().ok()).collect();
            let all_here = calls.iter().all(|call| {
                let roster = call.roster();
                roster.len() == calls.len() && roster.iter().all(|entry| entry.is_here)
            });
            if numbers.len() == 1 && !numbers.contains(&None) && all_here {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Everybody says something and everybody else hears all of it.
async fn all_talk(calls: &[Call]) {
    let said = packets(20);
    let speaking: Vec<_> = calls.iter().map(|call| speak_heard_by(call, calls.len() as u32 - 1, &said)).collect();
    let mut hearing = Vec::new();
    for call in calls {
        let tracks = in_time(tracks_of(call, calls.len() - 1)).await;
        for track in tracks {
            let (call, said) = (call.clone(), said.clone());
            hearing.push(tokio::spawn(async move {
                let mut subscription = in_time(call.subscribe(&track, whole(TrackKind::Audio))).await.unwrap();
                let mut heard = Vec::new();
                while let Some(frame) = in_time(subscription.next()).await {
                    heard.push(frame.payload.to_vec());
                }
                assert!(heard == said, "{} of {}", heard.len(), said.len());
            }));
        }
    }
    for task in hearing.into_iter().chain(speaking) {
        in_time(task).await.unwrap();
    }
}

pub(crate) async fn tracks_of(call: &Call, count: usize) -> Vec<std::sync::Arc<supernode_client::RemoteTrack>> {
    loop {
        let tracks: Vec<_> = call.tracks().into_iter().filter(|track| !track.is_finished()).collect();
        if tracks.len() == count {
            return tracks;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Speaks when so many listen.
fn speak_heard_by(call: &Call, listeners: u32, said: &[Vec<u8>]) -> JoinHandle<()> {
    let (call, said) = (call.clone(), said.to_vec());
    tokio::spawn(async move {
        let mut publisher = call.publish(TrackKind::Audio, track("voice"), WHOLE).await.unwrap();
        while publisher.subscribers() < listeners {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (index, packet) in said.iter().enumerate() {
            let frame = supernode_client::OutgoingFrame::independent(packet, index as u64 * 20_000);
            publisher.send(&frame).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        publisher.finish().await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_come_into_a_room_by_its_door_and_hear_each_other() {
    let relay = Relay::open(2);
    let (_guests, calls, _door) = room_of(&relay, 8).await;
    assert_eq!(calls[7].room_name(), Some("tea"));
    all_talk(&calls).await;
}

/// A Welcome for so many is longer than a ring may be: who comes in gets it in parts. More members by
/// `SUPERNODE_ROOM_MEMBERS`, up to the 250 that a room may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_room_lets_people_in_and_out_and_all_the_others_follow() {
    let members = std::env::var("SUPERNODE_ROOM_MEMBERS").map_or(55, |count| count.parse().unwrap());
    let relay = Relay::open(2);
    let (guests, mut calls, _door) = room_of(&relay, members).await;
    let last = calls.last().unwrap();
    let speaking = speak_heard_by(last, 1, &packets(20));
    let track = in_time(tracks_of(&calls[0], 1)).await.remove(0);
    let mut subscription = in_time(calls[0].subscribe(&track, whole(TrackKind::Audio))).await.unwrap();
    let heard = in_time(subscription.next()).await.unwrap();
    assert_eq!(heard.payload, packets(20)[0], "who came in by parts speaks with the keys of all");
    in_time(speaking).await.unwrap();
    let removed = calls.remove(members / 2);
    in_time(calls[0].remove_person(&guests[members / 2].client.identity())).await.unwrap();
    assert_eq!(in_time(removed.ended()).await, CallEnd::Removed);
    agree(&calls).await;
    in_time(calls.pop().unwrap().leave()).await.unwrap();
    agree(&calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_knock_at_once_all_come_in() {
    let relay = Relay::open(2);
    let mut host = Guest::online(&relay).await;
    let (room, _door) = host.host().await;
    let mut knocking = Vec::new();
    for _ in 0..5 {
        let guest = Guest::online(&relay).await;
        let (door, id) = (host.ticket(), room.room_id());
        knocking.push(tokio::spawn(async move {
            let call = guest.client.join_room(&door, id, guest.options()).await.unwrap();
            (guest, call)
        }));
    }
    let mut calls = vec![room];
    let mut guests = vec![host];
    for task in knocking {
        let (guest, call) = in_time(task).await.unwrap();
        guests.push(guest);
        calls.push(call);
    }
    agree(&calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_rings_all_devices_and_brings_in_the_one_that_answers() {
    let relay = Relay::open(2);
    let (mut host, bob) = (Guest::online(&relay).await, Person::new());
    let (room, _door) = host.host().await;
    let (_phone, mut phone_events) = bob.online(&relay.invite()).await;
    let (desk, mut desk_events) = bob.online(&relay.invite()).await;
    let inviting = tokio::spawn({
        let (room, ticket) = (room.clone(), bob.ticket());
        async move { room.invite(&ticket).await }
    });
    let on_phone = next_ring(&mut phone_events).await;
    let on_desk = next_ring(&mut desk_events).await;
    assert_eq!(on_desk.purpose(), Purpose::Invitation { name: "tea".into() });
    let call = in_time(on_desk.answer()).await.unwrap();
    let InvitationOutcome::In(member) = in_time(inviting).await.unwrap().unwrap() else { panic!("not in") };
    assert_eq!(member.identity, desk.identity());
    drop(on_phone);
    let calls = [room.clone(), call];
    agree(&calls).await;

    // Their other device rings as well, for all of them.
    let ringing = tokio::spawn({
        let (room, ticket) = (room.clone(), bob.ticket());
        async move { room.invite(&ticket).await }
    });
    in_time(next_ring(&mut phone_events).await.decline()).await.unwrap();
    assert_eq!(in_time(ringing).await.unwrap().unwrap(), InvitationOutcome::Declined);
    assert_eq!(room.roster().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_one_person_are_in_a_room_and_go_together() {
    let relay = Relay::open(2);
    let (mut host, bob) = (Guest::online(&relay).await, Person::new());
    let (room, _door) = host.host().await;
    let mut devices = Vec::new();
    for _ in 0..2 {
        let (client, events) = bob.online(&relay.invite()).await;
        let call = in_time(client.join_room(&host.ticket(), room.room_id(), RoomOptions::default())).await.unwrap();
        devices.push((client, events, call));
    }
    agree(&[room.clone(), devices[0].2.clone(), devices[1].2.clone()]).await;
    in_time(room.remove_person(&devices[0].0.identity())).await.unwrap();
    for (_, _, call) in &devices {
        assert_eq!(in_time(call.ended()).await, CallEnd::Removed);
    }
    assert_eq!(room.roster().len(), 1);
    // The door stays shut for them.
    let (client, _, _) = &devices[0];
    let again = in_time(client.join_room(&host.ticket(), room.room_id(), RoomOptions::default())).await;
    assert!(matches!(again, Err(Error::NotAdmitted)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_decides_who_comes_in() {
    let relay = Relay::open(1);
    let mut host = Guest::online(&relay).await;
    let room = in_time(host.client.create_room(host.options())).await.unwrap();
    let guest = Guest::online(&relay).await;
    let (door, id) = (host.ticket(), room.room_id());
    let knocking = {
        let client = guest.client.clone();
        tokio::spawn(async move { client.join_room(&door, id, RoomOptions::default()).await })
    };
    let knock = next_ring(host.events.as_mut().unwrap()).await;
    assert_eq!(knock.purpose(), Purpose::Knock { room: id });
    assert_eq!(knock.caller().identity, guest.client.identity());
    in_time(knock.decline()).await.unwrap();
    assert!(matches!(in_time(knocking).await.unwrap(), Err(Error::NotAdmitted)));

    // A device that is in no such room is busy, and the person is not asked.
    let elsewhere = in_time(guest.client.join_room(
        &host.ticket(),
        supernode_client::proto::identity::RoomId([9; 16]),
        RoomOptions::default(),
    ))
    .await;
    assert!(matches!(elsewhere, Err(Error::State(_))), "{elsewhere:?}");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_taken_out_of_the_group_at_once_by_one_of_the_others() {
    let relay = Relay::open(2);
    let (_guests, mut calls, _door) = room_of(&relay, 4).await;
    let before = calls[0].safety_number().unwrap();
    in_time(calls.remove(1).leave()).await.unwrap();
    agree(&calls).await;
    assert_ne!(calls[0].safety_number().unwrap(), before);
    // The one who opened it may leave as well: a room belongs to those who are in it.
    in_time(calls.remove(0).leave()).await.unwrap();
    agree(&calls).await;
    all_talk(&calls).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_vanishes_is_taken_out_of_the_group_after_the_grace() {
    let relay = Relay::open(2);
    let config = Config { rejoin_grace: Duration::from_secs(1), ..quick() };
    let mut host = Guest::online_with(&relay.invite(), config.clone()).await;
    let (room, _door) = host.host().await;
    let way = Way::to(&relay).await;
    let impatient = Config { silence_max: Duration::from_secs(1), ..config.clone() };
    let guest = Guest::online_with(&way.invite(&relay), impatient).await;
    let call = guest.join(&host, &room).await;
    let other = Guest::online_with(&relay.invite(), config).await;
    let third = other.join(&host, &room).await;
    agree(&[room.clone(), call.clone(), third.clone()]).await;

    let mut events = call.events();
    way.set_open(false);
    // Nobody would notice before the relay gives up on the connection: the client notices first, and comes back late.
    assert!(
        in_time(guest.client.set_presence(supernode_client::PresenceState::Busy, Default::default())).await.is_err()
    );
    in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Interrupted) {} }).await;
    tokio::time::timeout(Duration::from_secs(60), async {
        while room.roster().len() > 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the relay gives up on a silent connection after half a minute");
    // It was only taken for gone: when it is back it rings at the door and is let in without anybody being asked.
    way.set_open(true);
    agree(&[room.clone(), third, call.clone()]).await;
    all_talk(&[room, call]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_collide_are_made_one_after_the_other() {
    let relay = Relay::open(4);
    let (_guests, calls, _door) = room_of(&relay, 6).await;
    let before = calls[0].safety_number().unwrap();
    let refreshing: Vec<_> = calls
        .iter()
        .map(|call| {
            let call = call.clone();
            tokio::spawn(async move { call.refresh_keys().await })
        })
        .collect();
    for task in refreshing {
        in_time(task).await.unwrap().unwrap();
    }
    agree(&calls).await;
    assert_ne!(calls[0].safety_number().unwrap(), before);
    all_talk(&calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_away_while_the_keys_changed_catches_up_without_anybody_s_doing() {
    let relay = Relay::open(2);
    let way = Way::to(&relay).await;
    let mut host = Guest::online(&relay).await;
    let (room, door) = host.host().await;
    let impatient = Config { silence_max: Duration::from_secs(1), ..quick() };
    let guest = Guest::online_with(&way.invite(&relay), impatient).await;
    let call = guest.join(&host, &room).await;
    // Nobody is at the door any more.
    door.abort();
    let speaking = speak(call.clone(), packets(5), Duration::from_millis(5));
    assert_eq!(hear(&room, TrackKind::Audio).await, packets(5));
    in_time(speaking).await.unwrap();

    let mut events = call.events();
    way.set_open(false);
    assert!(
        in_time(guest.client.set_presence(supernode_client::PresenceState::Busy, Default::default())).await.is_err()
    );
    in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Interrupted) {} }).await;
    in_time(room.refresh_keys()).await.unwrap();
    in_time(room.refresh_keys()).await.unwrap();
    way.set_open(true);
    agree(&[room.clone(), call.clone()]).await;
    all_talk(&[room, call]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_goes_on_after_the_relay_was_restarted() {
    let relay = Relay::open(2);
    let (_guests, calls, _door) = room_of(&relay, 3).await;
    let mut events: Vec<_> = calls.iter().map(Call::events).collect();
    let _relay = in_time(relay.restart()).await;
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    agree(&calls).await;
    all_talk(&calls).await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_late_learns_what_the_tracks_are() {
    let relay = Relay::open(2);
    let (guests, calls, _door) = room_of(&relay, 3).await;
    let mut publishers = Vec::new();
    for call in &calls {
        publishers.push(in_time(call.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap());
    }
    // More epochs than anybody keeps keys of.
    for _ in 0..4 {
        in_time(calls[1].refresh_keys()).await.unwrap();
    }
    let late = Guest::online(&relay).await;
    let call = late.join(&guests[0], &calls[0]).await;
    let tracks = in_time(tracks_of(&call, 3)).await;
    assert!(tracks.iter().all(|track| track.info().name == "voice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_removed_hears_nothing_more_and_cannot_come_back_in() {
    let relay = Relay::open(4);
    let (guests, calls, _door) = room_of(&relay, 4).await;
    let mut publisher = in_time(calls[0].publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    let mut subscriptions = Vec::new();
    for call in &calls[1..] {
        let voice = in_time(call.track(TrackKind::Audio)).await.unwrap();
        subscriptions.push(in_time(call.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap());
    }
    in_time(publisher.wanted()).await.unwrap();
    let say = |text: &'static [u8]| supernode_client::OutgoingFrame::independent(text, 0);
    publisher.send(&say(b"before")).await.unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(in_time(subscription.next()).await.unwrap().payload, "before");
    }
    in_time(calls[0].remove_person(&guests[3].client.identity())).await.unwrap();
    publisher.send(&say(b"after")).await.unwrap();
    for subscription in &mut subscriptions[..2] {
        assert_eq!(in_time(subscription.next()).await.unwrap().payload, "after");
    }
    assert!(in_time(subscriptions[2].next()).await.is_none(), "it was over before");
    assert_eq!(in_time(calls[3].ended()).await, CallEnd::Removed);
    let received = calls[3].stats().tracks.iter().map(|track| track.objects + track.undecryptable).sum::<u64>();
    assert_eq!(received, 1, "not even what does not open came");
    // Nobody lets them in again: each member has seen the removal.
    for host in &guests[..2] {
        let again =
            in_time(guests[3].client.join_room(&host.ticket(), calls[0].room_id(), RoomOptions::default())).await;
        assert!(matches!(again, Err(Error::NotAdmitted | Error::State(_))), "{again:?}");
    }
    agree(&calls[..3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_a_data_track_arrives_whole_and_in_order_from_when_one_subscribes() {
    let relay = Relay::open(2);
    let (_guests, calls, _door) = room_of(&relay, 3).await;
    let mut chat = in_time(calls[0].publish(TrackKind::Data, track("chat"), WHOLE)).await.unwrap();
    let read_all = |call: &Call| {
        let call = call.clone();
        async move {
            let chat = in_time(call.track(TrackKind::Data)).await.unwrap();
            let options = supernode_client::SubscribeOptions::for_kind(TrackKind::Data);
            let mut lines = in_time(call.subscribe(&chat, options)).await.unwrap();
            let mut read = Vec::new();
            while let Some(frame) = in_time(lines.next()).await {
                read.push(frame.payload.to_vec());
            }
            read
        }
    };
    let early = tokio::spawn(read_all(&calls[1]));
    in_time(chat.wanted()).await.unwrap();
    let lines: Vec<Vec<u8>> = (0..300u32).map(|index| vec![index as u8; 1 + index as usize * 37 % 5_000]).collect();
    for line in &lines[..200] {
        chat.send(&supernode_client::OutgoingFrame::independent(line, 0)).await.unwrap();
    }
    let late = tokio::spawn(read_all(&calls[2]));
    in_time(chat.wanted_by(2)).await.unwrap();
    for line in &lines[200..] {
        chat.send(&supernode_client::OutgoingFrame::independent(line, 0)).await.unwrap();
    }
    in_time(chat.finish()).await.unwrap();
    assert!(in_time(early).await.unwrap() == lines);
    assert!(in_time(late).await.unwrap() == lines[200..], "from when they subscribed");
    assert_eq!(calls[0].stats().tracks.iter().map(|track| track.dropped).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_subscribes_to_data_in_the_place_of_another_gets_what_is_written_next() {
    let relay = Relay::open(2);
    let (_guests, calls, _door) = room_of(&relay, 3).await;
    let mut chat = in_time(calls[0].publish(TrackKind::Data, track("chat"), WHOLE)).await.unwrap();
    for (call, line) in [(&calls[1], b"one"), (&calls[2], b"two"), (&calls[1], b"six")] {
        let heard = in_time(call.track(TrackKind::Data)).await.unwrap();
        let mut lines = in_time(call.subscribe(&heard, supernode_client::SubscribeOptions::for_kind(TrackKind::Data)))
            .await
            .unwrap();
        in_time(chat.wanted()).await.unwrap();
        chat.send(&supernode_client::OutgoingFrame::independent(line, 0)).await.unwrap();
        assert_eq!(in_time(lines.next()).await.unwrap().payload, line[..]);
        drop(lines);
        while chat.subscribers() > 0 {
            in_time(chat.demand_other_than(chat.demand())).await.unwrap();
        }
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn how_lively_a_frame_is_shows_on_tracks_that_show_it_only() {
    let relay = Relay::open(1);
    let (_guests, calls, _door) = room_of(&relay, 2).await;
    for shows in [true, false] {
        let options = supernode_client::PublishOptions { activity: shows, ..WHOLE };
        let mut voice = in_time(calls[0].publish(TrackKind::Audio, track("voice"), options)).await.unwrap();
        let heard = in_time(calls[1].track(TrackKind::Audio)).await.unwrap();
        let mut subscription = in_time(calls[1].subscribe(&heard, whole(TrackKind::Audio))).await.unwrap();
        in_time(voice.wanted()).await.unwrap();
        let loud =
            supernode_client::OutgoingFrame { activity: 3, ..supernode_client::OutgoingFrame::independent(b"hey", 0) };
        voice.send(&loud).await.unwrap();
        let frame = in_time(subscription.next()).await.unwrap();
        assert_eq!(frame.flags.activity(), if shows { 3 } else { 0 });
        drop((subscription, voice));
        in_time(async {
            while !calls[1].tracks().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_nobody_takes_are_not_even_sent() {
    let relay = Relay::open(1);
    let (_guests, calls, _door) = room_of(&relay, 2).await;
    let mut publisher = in_time(calls[0].publish(TrackKind::Video, track("picture"), WHOLE)).await.unwrap();
    let picture = in_time(calls[1].track(TrackKind::Video)).await.unwrap();
    let base = supernode_client::SubscribeOptions { temporal_layer_max: 0, ..whole(TrackKind::Video) };
    let mut subscription = in_time(calls[1].subscribe(&picture, base)).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    assert_eq!(publisher.demand().temporal_layer_max, 0);
    for index in 0..8u64 {
        let bytes = [index as u8; 100];
        let frame = supernode_client::OutgoingFrame {
            temporal_layer: (index % 2) as u8,
            ..supernode_client::OutgoingFrame::video(&bytes, index * 50_000, index == 0)
        };
        publisher.send(&frame).await.unwrap();
    }
    let started = std::time::Instant::now();
    for index in [0u8, 2, 4, 6] {
        assert_eq!(in_time(subscription.next()).await.unwrap().payload[0], index);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waited for what was not sent");
    let sent = calls[0].stats().tracks.iter().map(|track| (track.objects, track.dropped)).next();
    assert_eq!(sent, Some((4, 0)));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_room_fills_although_the_relay_takes_little_at_a_time() {
    let mut relay = Relay::open(2);
    relay.take_little(4_000);
    let (guests, calls, _door) = room_of(&relay, 5).await;
    assert_eq!(calls[4].roster().len(), guests.len());
    // It has refused some for a moment.
    let counted = async {
        while relay.limit_hits("mls_bytes_per_second_max") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(counted).await;
}
