//! What the locks of a room are for.

use std::{sync::Arc, time::Duration};

use supernode_calls::room::Opened;
use supernode_e2ee::{Device, DeviceSecret, IdentitySecret, KeyExchange, TrackId, TrackInfo};
use supernode_proto::{control::TrackKind, identity::RoomId, object::Visible};

use super::{Member, Room};
use crate::{
    sync::lock,
    tracks::{
        frame::{FrameTimes, unix_s},
        track::RemoteTrack,
    },
};

const WITHIN: Duration = Duration::from_secs(900);

fn device() -> Device {
    let secret = DeviceSecret::generate();
    let delegation = IdentitySecret::generate().delegate(&secret.public(), unix_s() + 3600);
    Device::new(secret, delegation).expect("its own delegation")
}

/// Both locks are held: by whoever merges a commit, and by whoever asks who is here.
#[test]
fn a_frame_is_sealed_and_opened_while_the_group_and_the_state_are_busy() {
    let (us, other) = (device(), device());
    let mut group = us.create_group(RoomId([7; 16]), KeyExchange::default()).expect("a group");
    let package = (other.identity(), other.key_package().expect("a package"));
    let welcome = group.propose_add(&[package], unix_s()).expect("adds").welcome.expect("for the other");
    group.merge_own().expect("accepted");
    let at_other = other.join(&welcome, &us.identity(), &[], unix_s()).expect("joins");
    let room = Room::new(group, None, WITHIN).expect("a room");
    let at_them = Room::new(at_other, None, WITHIN).expect("a room");

    let info = TrackInfo { id: TrackId([1; 8]), name: String::new(), codec: String::new(), parameters: vec![] };
    let from = Member { identity: other.identity(), device: other.key() };
    let track = Arc::new(RemoteTrack::new(Arc::downgrade(&room), TrackKind::Audio, info, from));
    let visible = Visible { group: 0, object: 0, flags: Default::default(), layer: Default::default() };
    let busy = [&room, &at_them].map(|room| (lock(&room.membership), lock(&room.state), lock(&room.tracks)));
    let (done, is_done) = std::sync::mpsc::channel();
    let (here, there) = (room.clone(), at_them.clone());
    std::thread::spawn(move || {
        let times = FrameTimes { captured_at_us: 0, presentation_us: 0 };
        let mut sealed = Vec::new();
        assert!(there.end().is_none() && !there.is_silent(), "a publisher asks before each frame");
        there.seal(&track.info.id, &visible, times, b"sound", &mut Vec::new(), &mut sealed).expect("sealed");
        let opened = here.open(&track, visible, &sealed.into(), 0);
        done.send(matches!(opened, Opened::Payload(payload) if payload.ends_with(b"sound")))
    });
    assert!(is_done.recv_timeout(Duration::from_secs(20)).expect("nothing of it waits"), "it opens");
    drop(busy);
}
