//! Whatever people do, in whatever order the shards hear of it: in the end every table is empty, and watchers have
//! seen the truth.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use supernode_proto::{
    control::{
        AnswerRing, DeclineRing, DepositKeyPackages, KickMember, LeaveRoom, LimitTickets, PresenceState, PublishTrack,
        Ring, SendMls, SetPresence, Subscribe, TakeKeyPackages, TrackKind, UnpublishTrack, Unsubscribe, Unwatch, Watch,
        client_message::Body as Request, relay_message::Body,
    },
    identity::RoomId,
    mls::Envelope,
};
use supernode_server::core::directory::Population;

use crate::world::{At, Person, World, datagram};

/// One thing that somebody does; the numbers choose among what there is.
#[derive(Debug, Clone)]
enum Act {
    Connect(u8, u8),
    Leave(u8, bool),
    Present(u8, u8),
    Block(u8, u8),
    Watch(u8, u8),
    Unwatch(u8, u8),
    Ring(u8, u8),
    Answer(u8, bool),
    Join(u8, u8),
    LeaveRoom(u8, u8),
    Kick(u8, u8, u8),
    Publish(u8, u8),
    Unpublish(u8),
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    Mls(u8, u8),
    Talk(u8),
    Deliver,
    Wait(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let n = || any::<u8>();
    prop_oneof![
        4 => (n(), n()).prop_map(|(a, b)| Act::Connect(a, b)),
        2 => (n(), any::<bool>()).prop_map(|(a, b)| Act::Leave(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Act::Present(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::Block(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Act::Watch(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::Unwatch(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Act::Ring(a, b)),
        2 => (n(), any::<bool>()).prop_map(|(a, b)| Act::Answer(a, b)),
        4 => (n(), n()).prop_map(|(a, b)| Act::Join(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::LeaveRoom(a, b)),
        1 => (n(), n(), n()).prop_map(|(a, b, c)| Act::Kick(a, b, c)),
        3 => (n(), n()).prop_map(|(a, b)| Act::Publish(a, b)),
        1 => n().prop_map(Act::Unpublish),
        4 => (n(), n()).prop_map(|(a, b)| Act::Subscribe(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::Unsubscribe(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::Mls(a, b)),
        4 => n().prop_map(Act::Talk),
        6 => Just(Act::Deliver),
        1 => any::<u16>().prop_map(Act::Wait),
    ]
}

struct Play {
    world: World,
    people: Vec<Person>,
    here: Vec<(At, usize)>,
}

impl Play {
    fn room(number: u8) -> RoomId {
        RoomId([number % 3 + 1; 16])
    }

    fn tracks(&self) -> Vec<u64> {
        self.world
            .sent
            .iter()
            .filter_map(|(_, message)| match &message.body {
                Some(Body::TrackPublished(published)) => Some(published.alias),
                _ => None,
            })
            .collect()
    }

    fn ask(&mut self, who: u8, make: impl FnOnce(&mut Self, At, &Person) -> Option<Request>) {
        self.here.retain(|(at, _)| self.world.cores[at.shard].is_live(at.id));
        if self.here.is_empty() {
            return;
        }
        let (at, person) = self.here[usize::from(who) % self.here.len()];
        let person = self.people[person].clone();
        if let Some(body) = make(self, at, &person) {
            self.world.ask(at, body);
        }
    }

    fn act(&mut self, act: Act) {
        let ticket_of =
            |play: &Self, number: u8| play.people[usize::from(number) % play.people.len()].ticket(play.world.now);
        match act {
            Act::Connect(person, shard) => {
                let person = usize::from(person) % self.people.len();
                let shard = usize::from(shard) % self.world.cores.len();
                let at = self.world.connect(&self.people[person], shard);
                self.here.push((at, person));
                let last_resort = Bytes::from_static(b"a package");
                let deposit = DepositKeyPackages { last_resort, ..DepositKeyPackages::default() };
                self.world.ask(at, Request::DepositKeyPackages(deposit));
            }
            Act::Leave(who, clean) => self.ask(who, |play, at, _| {
                play.world.leave(at, clean);
                None
            }),
            Act::Present(who, state) => self.ask(who, |_, _, _| {
                let state =
                    [PresenceState::Online, PresenceState::Away, PresenceState::Invisible][usize::from(state) % 3];
                Some(Request::SetPresence(SetPresence { state: state.into(), status: Bytes::new() }))
            }),
            Act::Block(who, whom) => self.ask(who, |play, _, _| {
                let identity = play.people[usize::from(whom) % play.people.len()].identity_key();
                let blocked = vec![Bytes::copy_from_slice(identity.as_bytes())];
                Some(Request::LimitTickets(LimitTickets { generation: 0, blocked }))
            }),
            Act::Watch(who, whom) => {
                self.ask(who, |play, _, _| {
                    Some(Request::Watch(Watch { ticket: ticket_of(play, whom), ..Watch::default() }))
                });
            }
            Act::Unwatch(who, whom) => self.ask(who, |play, _, _| {
                let identity = play.people[usize::from(whom) % play.people.len()].identity_key();
                Some(Request::Unwatch(Unwatch { identity: Bytes::copy_from_slice(identity.as_bytes()) }))
            }),
            Act::Ring(who, whom) => self.ask(who, |play, at, _| {
                let take = TakeKeyPackages { ticket: ticket_of(play, whom), ..TakeKeyPackages::default() };
                play.world.ask(at, Request::TakeKeyPackages(take));
                Some(Request::Ring(Ring { ticket: ticket_of(play, whom), payload: Bytes::new(), ..Ring::default() }))
            }),
            Act::Answer(who, yes) => self.ask(who, |play, at, _| {
                let ring = play.world.sent.iter().rev().find_map(|(to, message)| match &message.body {
                    Some(Body::IncomingRing(ring)) if *to == at.id => Some(ring.ring.clone()),
                    _ => None,
                })?;
                Some(match yes {
                    true => Request::AnswerRing(AnswerRing { ring, payload: Bytes::new() }),
                    false => Request::DeclineRing(DeclineRing { ring, busy: true }),
                })
            }),
            Act::Join(who, room) => self.ask(who, |play, at, person| {
                play.world.join(at, person, Self::room(room));
                None
            }),
            Act::LeaveRoom(who, room) => {
                self.ask(who, |_, _, _| {
                    Some(Request::LeaveRoom(LeaveRoom { room: Self::room(room).0.to_vec().into() }))
                });
            }
            Act::Kick(who, room, member) => self.ask(who, |_, _, _| {
                let room = Self::room(room).0.to_vec().into();
                Some(Request::KickMember(KickMember { room, member: u32::from(member % 8) }))
            }),
            Act::Publish(who, room) => self.ask(who, |_, _, _| {
                let room = Self::room(room).0.to_vec().into();
                Some(Request::PublishTrack(PublishTrack {
                    room,
                    kind: TrackKind::Video.into(),
                    label: Bytes::new(),
                    activity: false,
                    mls_epoch: 0,
                }))
            }),
            Act::Unpublish(which) => self.ask(which, |play, _, _| {
                let tracks = play.tracks();
                let alias = *tracks.get(usize::from(which) % tracks.len().max(1))?;
                Some(Request::UnpublishTrack(UnpublishTrack { alias }))
            }),
            Act::Subscribe(who, which) => self.ask(who, |play, _, _| {
                let tracks = play.tracks();
                let alias = *tracks.get(usize::from(which) % tracks.len().max(1))?;
                Some(Request::Subscribe(Subscribe { alias, ..Subscribe::default() }))
            }),
            Act::Unsubscribe(who, which) => self.ask(who, |play, _, _| {
                let tracks = play.tracks();
                let alias = *tracks.get(usize::from(which) % tracks.len().max(1))?;
                Some(Request::Unsubscribe(Unsubscribe { alias }))
            }),
            Act::Mls(who, room) => self.ask(who, |_, _, _| {
                let room = Self::room(room);
                let payload = Envelope { room, epoch: 3, commit: true }.around(b"").into();
                Some(Request::SendMls(SendMls {
                    room: room.0.to_vec().into(),
                    epoch: 3,
                    commit: true,
                    payload,
                    join_key: Bytes::new(),
                }))
            }),
            Act::Talk(which) => self.talk(which),
            Act::Deliver => {
                self.world.deliver_one();
            }
            Act::Wait(ms) => self.world.advance(Duration::from_millis(u64::from(ms % 2000))),
        }
    }

    /// Everybody present sends an object of some track, their own or not.
    fn talk(&mut self, which: u8) {
        let tracks = self.tracks();
        let Some(alias) = tracks.get(usize::from(which) % tracks.len().max(1)) else { return };
        let wire = datagram(supernode_proto::object::TrackAlias::new(*alias).unwrap());
        let now = self.world.now.instant;
        for (at, _) in &self.here {
            let mut others = Vec::new();
            let core = &mut self.world.cores[at.shard];
            let _ = core.forward_datagram(
                at.link,
                &wire,
                now,
                |_, ledger| ledger.delivered += 1,
                |to| {
                    others.push(to);
                    true
                },
            );
            for to in others {
                self.world.cores[to.shard.index()].deliver_datagram(
                    &wire,
                    now,
                    |_, ledger| ledger.delivered += 1,
                    |_| true,
                );
            }
        }
    }
}

proptest! {

    #[test]
    fn after_everybody_has_left_every_table_is_empty(
        shards in 1u16..=4,
        seed in any::<u64>(),
        acts in prop::collection::vec(act(), 1..250),
    ) {
        let people = (1..=6).map(Person::new).collect();
        let mut play = Play { world: World::new(shards, seed), people, here: Vec::new() };
        for act in acts {
            play.act(act);
        }
        for (at, _) in play.here.clone() {
            play.world.leave(at, false);
        }
        play.world.settle();
        // Ring timeouts, the linger of presence: the last deadline passes.
        play.world.advance(Duration::from_secs(60));
        play.world.settle();
        play.world.advance(Duration::from_secs(60));
        play.world.settle();
        prop_assert_eq!(play.world.directory.population(), Population::default());
        for core in &play.world.cores {
            prop_assert_eq!(core.census(), [0; 9]);
            prop_assert_eq!(core.ledger.offered, core.ledger.settled());
        }
    }

    #[test]
    fn watchers_see_the_truth_once_everything_has_settled(
        shards in 1u16..=4,
        seed in any::<u64>(),
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let people: Vec<Person> = (1..=4).map(Person::new).collect();
        let mut play = Play { world: World::new(shards, seed), people, here: Vec::new() };
        let watcher = Person::new(77);
        let at = play.world.connect(&watcher, 0);
        for person in play.people.clone() {
            let ticket = person.ticket(play.world.now);
            play.world.ask(at, Request::Watch(Watch { ticket, ..Watch::default() }));
        }
        for act in acts {
            play.act(act);
        }
        play.world.settle();
        play.world.advance(Duration::from_secs(10));
        play.world.settle();
        play.here.retain(|(at, _)| play.world.cores[at.shard].is_live(at.id));
        for (index, person) in play.people.iter().enumerate() {
            let seen: Vec<_> = play.world.sent.iter().filter_map(|(to, message)| match &message.body {
                Some(Body::Presence(presence))
                    if *to == at.id && presence.identity[..] == person.identity_key().as_bytes()[..] => Some(presence),
                _ => None,
            }).collect();
            let states = |at: &At| play.world.sent.iter().any(|(to, message)| *to == at.id && message.body.is_some());
            let online = play.here.iter().filter(|(at, who)| *who == index && states(at)).count();
            // Shards may tell it out of order: the highest epoch is the newest, and a client drops what is older.
            let last = seen.iter().max_by_key(|presence| presence.epoch).expect("a snapshot at least");
            prop_assert!(usize::try_from(last.devices).unwrap() <= online.max(usize::from(online > 0)));
            if online == 0 {
                prop_assert_eq!(last.state(), PresenceState::Offline);
            }
        }
    }
}
