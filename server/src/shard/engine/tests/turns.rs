//! How long a turn may be made by those whose objects reach many.

use supernode_proto::control::{
    PublishTrack, Subscribe, TrackKind, client_message::Body as Request, relay_message::Body,
};

use super::{
    links::{ROOM, Stage, datagram},
    *,
};

/// Who speaks to all others of them, and how much each has to say at once.
const CROWD: usize = 13;
const AT_ONCE: usize = 8;

impl Stage {
    fn say(&mut self, client: usize, alias: TrackAlias) {
        self.clients[client].quic.datagrams().send(datagram(alias).into(), false).expect("there is room");
    }
}

#[test]
fn what_a_crowd_says_at_once_to_all_is_delivered_in_several_turns_and_a_call_beside_it_in_one() {
    // Two more, of whom one speaks to the other.
    let (speaks, listens) = (CROWD, CROWD + 1);
    let mut stage = Stage::with_clients(&[false; CROWD + 2]);
    (0..CROWD + 2).for_each(|client| stage.enter(client));
    let tracks: Vec<TrackAlias> = (0..CROWD + 1)
        .map(|client| {
            let room = Bytes::copy_from_slice(&ROOM.0);
            let wanted = PublishTrack { room, kind: TrackKind::Audio.into(), ..PublishTrack::default() };
            let Body::TrackPublished(published) = stage.ask(client, Request::PublishTrack(wanted)) else {
                panic!("refused")
            };
            let listeners = if client == speaks { listens..listens + 1 } else { 0..CROWD };
            for other in listeners.filter(|other| *other != client) {
                let wanted = Subscribe { alias: published.alias, max_age_ms: 10_000, ..Subscribe::default() };
                assert!(matches!(stage.ask(other, Request::Subscribe(wanted)), Body::Done(_)));
            }
            TrackAlias::new(published.alias).expect("a number of the wire's")
        })
        .collect();
    // By its first object it shows whom somebody reaches.
    let reached = (CROWD * (CROWD - 1)) as u64;
    (0..CROWD).for_each(|client| stage.say(client, tracks[client]));
    stage.turn();
    assert_eq!(stage.engine.ledger().offered, reached, "the first of each");
    for _ in 0..AT_ONCE {
        (0..CROWD).for_each(|client| stage.say(client, tracks[client]));
    }
    stage.say(speaks, tracks[speaks]);
    stage.turn();
    let offered = stage.engine.ledger().offered - reached;
    assert!((1024..1024 + CROWD as u64 + 1).contains(&offered), "{offered} in one turn");
    assert!(stage.engine.is_busy(), "the loop does not sleep over what is left");
    stage.until("the call is not kept waiting", |stage| stage.clients[listens].datagrams.len() == 1);
    let all = reached * (1 + AT_ONCE as u64) + 1;
    stage.until("all has been delivered", |stage| stage.engine.ledger().delivered == all);
    assert_eq!((stage.engine.ledger().offered, stage.engine.is_busy()), (all, false));
}
