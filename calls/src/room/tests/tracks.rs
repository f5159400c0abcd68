//! What members know of each other's tracks.

use supernode_proto::control::{Subscribe, TrackAnnounced};

use super::*;

/// Tracks whose handles are their names: ours as we call them, those of others as their publishers do.
type Named = Tracks<&'static str, String>;

fn info(name: &str) -> TrackInfo {
    let mut id = [0; 8];
    id[..name.len()].copy_from_slice(name.as_bytes());
    TrackInfo { id: TrackId(id), name: name.into(), codec: "opus".into(), parameters: Vec::new() }
}

fn alias(value: u64) -> TrackAlias {
    TrackAlias::new(value).expect("an alias")
}

fn route(value: u64) -> Route {
    Route { connection: CONNECTION, alias: alias(value) }
}

/// What the relay says of a track: of whom by their number, and with the label that `sealer` made.
fn announced(sealer: &Person, member: u32, name: &str, alias: u64) -> TrackAnnounced {
    let label = sealer.parts.frame_keys.seal_label(TrackKind::Audio, &info(name)).expect("sealed").bytes;
    let kind = TrackKind::Audio.into();
    TrackAnnounced { member, alias, kind, label: label.into(), ..TrackAnnounced::default() }
}

fn hear(
    tracks: &mut Named,
    by: &Person,
    announced: &TrackAnnounced,
) -> Result<Vec<TrackWish<&'static str, String>>, ()> {
    let Parts { state, frame_keys, .. } = &by.parts;
    tracks.handle_announced(CONNECTION, announced, state, frame_keys, |_, info, _| info.name).map_err(drop)
}

fn open_again(tracks: &mut Named, by: &Person) -> Vec<TrackWish<&'static str, String>> {
    tracks.open_again(&by.parts.state, &by.parts.frame_keys, |_, info, _| info.name)
}

fn id(publisher: &Person, name: &str) -> RemoteId {
    RemoteId { publisher: publisher.member(), track: info(name).id }
}

fn received(name: &str, at: Option<Route>) -> TrackWish<&'static str, String> {
    TrackWish::Received(name.into(), at)
}

fn known(name: &str, at: u64) -> [TrackWish<&'static str, String>; 2] {
    [received(name, Some(route(at))), TrackWish::Announced(name.into())]
}

fn send(request: client_message::Body) -> TrackWish<&'static str, String> {
    TrackWish::Send(Box::new(request))
}

fn unsubscribe(alias: u64) -> TrackWish<&'static str, String> {
    send(client_message::Body::Unsubscribe(supernode_proto::control::Unsubscribe { alias }))
}

//
#[test]
fn a_track_is_of_whoever_sealed_its_label_and_is_told_of_once_for_each_place() {
    let [a, b, c] = three();
    let mut tracks = Named::default();
    let first = announced(&b, 2, "voice", 5);
    assert_eq!(hear(&mut tracks, &a, &first), Ok(known("voice", 5).into()));
    assert_eq!(hear(&mut tracks, &a, &first), Ok(vec![]), "said twice");
    let moved = announced(&b, 2, "voice", 6);
    assert_eq!(hear(&mut tracks, &a, &moved), Ok(known("voice", 6).into()), "published again");
    assert_eq!(tracks.remote_handles().count(), 1);
    assert_eq!(hear(&mut tracks, &a, &announced(&c, 2, "voice", 7)), Err(()), "another's label");
    assert_eq!(hear(&mut tracks, &a, &announced(&a, 1, "voice", 8)), Ok(vec![]), "our own");
    assert_eq!(hear(&mut tracks, &a, &announced(&b, 9, "voice", 9)), Ok(vec![]), "of nobody whom the group knows");
    assert_eq!(tracks.remote_handles().count(), 1);
}

#[test]
fn a_label_that_does_not_open_yet_does_with_the_keys_that_it_was_sealed_with_if_the_track_is_still_there() {
    let [mut a, mut b] = two();
    let change = b.commit(|group| group.propose_update()).0;
    let (mut tracks, mut told_of_the_end) = (Named::default(), Named::default());
    for tracks in [&mut tracks, &mut told_of_the_end] {
        assert_eq!(hear(tracks, &a, &announced(&b, 2, "voice", 5)), Err(()));
        assert_eq!(open_again(tracks, &a), [], "nothing has changed");
    }
    assert_eq!(told_of_the_end.handle_ended(alias(5)), []);
    a.read(&delivery(1, &change), START);
    assert_eq!(open_again(&mut tracks, &a), known("voice", 5));
    assert_eq!(open_again(&mut tracks, &a), []);
    assert_eq!(open_again(&mut told_of_the_end, &a), []);
}

#[test]
fn labels_that_do_not_open_are_kept_up_to_a_bound_and_for_their_connection() {
    let [mut a, mut b] = two();
    let change = b.commit(|group| group.propose_update()).0;
    let mut tracks = Named::default();
    for at in 0..300 {
        assert_eq!(hear(&mut tracks, &a, &announced(&b, 2, &format!("{at}"), at + 1)), Err(()));
    }
    let mut lost = Named::default();
    assert_eq!(hear(&mut lost, &a, &announced(&b, 2, "voice", 5)), Err(()));
    assert_eq!(lost.handle_lost(), []);
    a.read(&delivery(1, &change), START);
    open_again(&mut tracks, &a);
    assert_eq!(tracks.remote_handles().count(), 256);
    assert_eq!(open_again(&mut lost, &a), []);
}

#[test]
fn a_subscription_outlives_the_connection_of_either_side() {
    let [a, b] = two();
    let mut tracks = Named::default();
    assert_eq!(hear(&mut tracks, &a, &announced(&b, 2, "voice", 5)), Ok(known("voice", 5).into()));
    let voice = id(&b, "voice");
    let terms = Subscribe { max_age_ms: 300, ..Subscribe::default() };
    let asked = |alias| client_message::Body::Subscribe(Subscribe { alias, ..terms });
    assert_eq!(tracks.subscribe(&voice, terms), Ok(Some((route(5), asked(5)))));
    assert_eq!(tracks.subscribe(&voice, terms), Err(AlreadySubscribed));
    // Theirs breaks, and it is gone for whoever does not subscribe.
    assert_eq!(tracks.handle_ended(alias(5)), [received("voice", None), TrackWish::Ended("voice".into())]);
    let [again, told] = known("voice", 6);
    let back = hear(&mut tracks, &a, &announced(&b, 2, "voice", 6));
    assert_eq!(back, Ok(vec![again, TrackWish::Hook("voice".into()), send(asked(6)), told]));
    // Ours breaks.
    assert_eq!(tracks.handle_lost(), [received("voice", None)]);
    assert_eq!(tracks.handle_lost(), []);
    assert_eq!(tracks.unsubscribe(&voice), [TrackWish::Forget("voice".into()), TrackWish::Close("voice".into())]);
    assert_eq!(tracks.remote_handles().count(), 0);
}

#[test]
fn whoever_subscribes_while_the_publisher_is_away_is_subscribed_when_they_are_back() {
    let [a, b] = two();
    let mut tracks = Named::default();
    assert_eq!(hear(&mut tracks, &a, &announced(&b, 2, "voice", 5)), Ok(known("voice", 5).into()));
    tracks.handle_lost();
    assert_eq!(tracks.subscribe(&id(&b, "voice"), Subscribe::default()), Ok(None));
    let back = hear(&mut tracks, &a, &announced(&b, 2, "voice", 5)).expect("it opens");
    assert!(back.contains(&TrackWish::Hook("voice".into())), "{back:?}");
    let ended = tracks.unsubscribe(&id(&b, "voice"));
    assert_eq!(ended, [TrackWish::Unhook("voice".into()), unsubscribe(5)]);
    assert_eq!(tracks.remote_handles().count(), 1, "it is there, though nobody wants it");
}

//
#[test]
fn tracks_of_those_who_have_no_place_any_more_are_dropped_also_if_somebody_subscribes() {
    let [mut a, b, c] = three();
    let mut tracks = Named::default();
    for (of, member, name, at) in [(&b, 2, "voice", 5), (&c, 3, "noise", 6)] {
        assert_eq!(hear(&mut tracks, &a, &announced(of, member, name, at)), Ok(known(name, at).into()));
    }
    tracks.subscribe(&id(&c, "noise"), Subscribe::default()).expect("nobody does yet");
    assert_eq!(tracks.retire_departed(&a.parts.state), []);
    a.commit(|group| group.propose_remove(&[2]));
    let noise = || "noise".to_owned();
    let dropped = [received("noise", None), unsubscribe(6), TrackWish::Forget(noise()), TrackWish::Close(noise())];
    assert_eq!(tracks.retire_departed(&a.parts.state), dropped);
    assert_eq!(tracks.remote_handles().collect::<Vec<_>>(), ["voice"]);
}

#[test]
fn a_track_whose_publisher_marked_its_end_is_over_with_it_and_all_of_them_are_a_goodbye() {
    let [a, b] = two();
    let mut tracks = Named::default();
    assert!(!tracks.said_goodbye(), "nobody has said anything");
    for (name, at) in [("voice", 5), ("face", 6)] {
        assert_eq!(hear(&mut tracks, &a, &announced(&b, 2, name, at)), Ok(known(name, at).into()));
    }
    tracks.subscribe(&id(&b, "voice"), Subscribe::default()).expect("nobody does yet");
    tracks.handle_finished(&id(&b, "voice"));
    assert!(!tracks.said_goodbye(), "there is another");
    let voice = || "voice".to_owned();
    let over =
        [received("voice", None), TrackWish::Forget(voice()), TrackWish::Close(voice()), TrackWish::Ended(voice())];
    assert_eq!(tracks.handle_ended(alias(5)), over);
    assert_eq!(tracks.unsubscribe(&id(&b, "voice")), []);
    tracks.handle_finished(&id(&b, "face"));
    assert!(tracks.said_goodbye());
    assert_eq!(tracks.end(), [received("face", None), TrackWish::Close("face".into())]);
    assert_eq!(tracks.unsubscribe(&id(&b, "face")), [], "figures stay where they are");
}

//
#[test]
fn ours_are_sealed_again_for_whoever_has_only_the_new_keys_and_are_nowhere_once_the_connection_is_lost() {
    let [mut a, mut b] = two();
    let mut tracks = Named::default();
    let voice = tracks.add(TrackKind::Audio, info("voice"), true, "voice");
    let Parts { state, frame_keys, .. } = &a.parts;
    let request = tracks.publish_request(voice, state, frame_keys).expect("sealed");
    let Some(client_message::Body::PublishTrack(publish)) = request else { panic!("a request") };
    assert_eq!(publish.mls_epoch, state.epoch());
    assert!(publish.activity && publish.kind() == TrackKind::Audio && publish.room == state.id().0.as_slice());
    assert_eq!(tracks.relabel(frame_keys).expect("nothing"), [], "it has no alias yet");
    let published = tracks.handle_published(voice, Some(route(5)), state, frame_keys);
    assert_eq!(published, [TrackWish::Sent("voice", Some(route(5)))]);
    assert_eq!(tracks.local_at(alias(5)), Some(&"voice"));

    let change = a.commit(|group| group.propose_update()).0;
    b.read(&delivery(1, &change), START);
    let relabelled = tracks.relabel(&a.parts.frame_keys).expect("sealed");
    assert_label(&relabelled, 5, &a, &b);

    assert_eq!(tracks.handle_lost(), [TrackWish::Sent("voice", None)]);
    assert_eq!((tracks.local_at(alias(5)), tracks.local_ids()), (None, vec![voice]), "to be published again");
    let Parts { state, frame_keys, .. } = &a.parts;
    tracks.publish_request(voice, state, frame_keys).expect("sealed");
    // There are other keys before the relay says where it is.
    let change = a.commit(|group| group.propose_update()).0;
    b.read(&delivery(2, &change), START);
    let Parts { state, frame_keys, .. } = &a.parts;
    let published = tracks.handle_published(voice, Some(route(6)), state, frame_keys);
    assert_eq!(published[0], TrackWish::Sent("voice", Some(route(6))));
    assert_label(&published[1..], 6, &a, &b);

    tracks.remove(voice);
    let gone = tracks.handle_published(voice, Some(route(7)), state, frame_keys);
    assert_eq!((gone, tracks.local_ids()), (vec![], vec![]));
}

/// One request that seals the label of a track of `of` with the present keys, which `to` opens.
fn assert_label(wishes: &[TrackWish<&'static str, String>], alias: u64, of: &Person, to: &Person) {
    let [TrackWish::Send(request)] = wishes else { panic!("a request: {wishes:?}") };
    let client_message::Body::RelabelTrack(relabel) = &**request else { panic!("another label") };
    let opened = to.parts.frame_keys.open_label(&of.device.key(), TrackKind::Audio, &relabel.label);
    let epoch = of.parts.state.epoch();
    assert_eq!((relabel.alias, relabel.mls_epoch, opened.ok()), (alias, epoch, Some(info("voice"))));
}
