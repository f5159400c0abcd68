//! People at a real relay, and every state of the reference that their answers leave possible.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use supernode_proto::control::{
    AnswerRing, CancelRing, CatchUp, DeclineRing, DepositKeyPackages, JoinRoom, KickMember, LeaveRoom, PublishTrack,
    RefusalReason, RelabelTrack, RequestKeyframe, Ring, RotateJoinKey, SendMls, Subscribe, TakeKeyPackages,
    UnpublishTrack, Unsubscribe, Unwatch, client_message::Body as Asked, relay_message::Body,
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Client, PATIENCE, Person as Somebody, Relay, Room};

use crate::reference::{
    Answer, INCOMING_MAX, MEMBERS_MAX, PEOPLE, PER_PAIR_MAX, Person, ROOMS, ROOMS_MAX, Reference, Request, TRACKS_MAX,
};

/// One thing that somebody asks; the numbers choose among what there is.
#[derive(Debug, Clone)]
pub enum Act {
    Join(u8, u8, u8),
    Leave(u8),
    Kick(u8, u8),
    Rotate(u8, u8),
    Mls(u8, u8, bool),
    CatchUp(u8, u8),
    Publish(u8, u8),
    Unpublish(u8),
    Relabel(u8),
    Subscribe(u8, u8),
    Unsubscribe(u8),
    Keyframe(u8),
    Deposit(u8),
    Take(u8),
    Ring(u8),
    Answer(u8),
    Decline(u8, bool),
    Cancel(u8),
}

/// Limits that the reference knows; others may come between, and then nothing has happened.
const KNOWN_LIMITS: &[&str] =
    &["rooms_max", "room_members_max", "tracks_max", "incoming_rings_max", "rings_per_pair_max", "key_packages_max"];
/// Keys that a room may have.
const KEYS: usize = 2;
/// Nobody's.
const UNKNOWN_ALIAS: u64 = 3;

/// Devices by the number of their member.
type Roster = BTreeMap<u32, Vec<u8>>;

/// The relay, people, and what may be so.
pub struct Play {
    relay: Relay,
    people: Vec<Somebody>,
    clients: Vec<Option<Client>>,
    rooms: Vec<Vec<Room>>,
    possible: Vec<Reference>,
    aliases: Vec<u64>,
    rings: Vec<Bytes>,
    /// Who each of them believes is in each room, from what it was told.
    rosters: Vec<BTreeMap<Vec<u8>, Roster>>,
}

impl Play {
    pub async fn begin(shards: usize) -> Self {
        let limits = Limits {
            rooms_max: ROOMS_MAX,
            room_members_max: MEMBERS_MAX,
            tracks_max: TRACKS_MAX,
            incoming_rings_max: INCOMING_MAX,
            rings_per_pair_max: PER_PAIR_MAX,
            rings_per_minute_max: 1 << 20,
            requests_per_second_max: 1 << 20,
            presence_linger: Duration::from_millis(1),
            ..Limits::default()
        };
        let relay = Relay::with_limits(shards, limits);
        let people: Vec<Somebody> = (0..PEOPLE).map(|_| Somebody::new()).collect();
        let mut clients = Vec::new();
        for person in &people {
            clients.push(Some(relay.connect(person).await));
        }
        // One name under several keys.
        let named = || {
            let first = Room::new();
            (0..KEYS).map(|_| first.with_another_key()).collect()
        };
        Self {
            relay,
            people,
            clients,
            rooms: (0..ROOMS).map(|_| named()).collect(),
            possible: vec![Reference::default()],
            aliases: Vec::new(),
            rings: Vec::new(),
            rosters: vec![BTreeMap::new(); PEOPLE],
        }
    }

    /// Several people ask at the same time, each at most one thing.
    pub async fn moment(&mut self, acts: Vec<(u8, Act)>) -> Result<(), String> {
        let mut asked: Vec<(Person, Request)> = Vec::new();
        for (person, act) in acts {
            let person = usize::from(person) % PEOPLE;
            if asked.iter().all(|(other, _)| *other != person) {
                asked.push((person, self.request(person, &act)));
            }
        }
        let mut waiting = tokio::task::JoinSet::new();
        for (place, (person, request)) in asked.iter().enumerate() {
            let mut client = self.clients[*person].take().expect("nobody asks twice in a moment");
            let body = self.body(&client, *person, request);
            waiting.spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, client.ask(body)).await;
                (place, client, answer)
            });
        }
        let mut answers = vec![None; asked.len()];
        while let Some(done) = waiting.join_next().await {
            let (place, mut client, body) = done.map_err(|error| error.to_string())?;
            let (person, request) = &asked[place];
            // What was told before the reply is older than what the reply says.
            std::mem::take(&mut client.events).iter().for_each(|event| self.note(*person, event));
            let body = body.map_err(|_| format!("{person} got no answer to {request:?}"))?;
            answers[place] = Some(self.answer(*person, &body));
            self.clients[*person] = Some(client);
        }
        let answered: Vec<(Person, Request, Answer)> = asked
            .into_iter()
            .zip(answers)
            .filter_map(|((person, request), answer)| Some((person, request, answer?)))
            .collect();
        for (_, _, answer) in &answered {
            match answer {
                Answer::Published(alias) => self.aliases.push(*alias),
                Answer::Rings { ring, .. } => self.rings.push(ring.clone()),
                _ => {}
            }
        }
        let mut next: Vec<Reference> = Vec::new();
        for state in &self.possible {
            orders(state, &answered.iter().collect::<Vec<_>>(), &mut next);
        }
        if next.is_empty() {
            return Err(format!("no order explains {answered:#?}\nfrom any of {:#?}", self.possible));
        }
        self.possible = next;
        Ok(())
    }

    /// When all is quiet, what people were told is what is so; then all leave, and nothing is left.
    pub async fn end(mut self) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(difference) = self.rosters_are_right().await {
            if tokio::time::Instant::now() > deadline {
                return Err(difference);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for client in self.clients.iter().flatten() {
            client.close();
        }
        self.relay.assert_empty().await;
        Ok(())
    }

    async fn rosters_are_right(&mut self) -> Result<(), String> {
        for person in 0..PEOPLE {
            let client = self.clients[person].as_mut().expect("nobody waits for an answer");
            let _ = client.ask(Asked::Unwatch(Unwatch { identity: vec![0; 32].into() })).await;
            for event in std::mem::take(&mut client.events) {
                self.note(person, &event);
            }
        }
        // In all that is possible, the same people are in the same rooms: the answers said so.
        let state = &self.possible[0];
        for person in 0..PEOPLE {
            for room in 0..ROOMS {
                let members = state.members(room);
                if members.values().all(|member| *member != person) {
                    continue;
                }
                let name = self.rooms[room][0].id.0.to_vec();
                let told = self.rosters[person].get(&name).cloned().unwrap_or_default();
                let device = |who: &Person| self.people[*who].device_key().as_bytes().to_vec();
                let is_so = members.iter().map(|(member, who)| (*member, device(who))).collect();
                if told != is_so {
                    let numbers: Vec<_> = told.keys().collect();
                    return Err(format!(
                        "{person} was told that {numbers:?} are in room {room}, where {members:?} are"
                    ));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, person: Person, event: &Body) {
        match event {
            Body::MemberJoined(joined) => {
                let roster = self.rosters[person].entry(joined.room.to_vec()).or_default();
                roster.insert(joined.member, joined.device.to_vec());
            }
            Body::MemberLeft(left) => {
                if let Some(roster) = self.rosters[person].get_mut(&left.room[..]) {
                    roster.remove(&left.member);
                }
            }
            _ => {}
        }
    }

    /// What the numbers mean by now.
    fn request(&self, person: Person, act: &Act) -> Request {
        let state = &self.possible[0];
        let room = |number: &u8| usize::from(*number) % ROOMS;
        let key = |number: &u8| usize::from(*number) % KEYS;
        let alias = |number: &u8| {
            let all = self.aliases.len() + 1;
            // The newest ones are the ones that are there.
            self.aliases.iter().rev().nth(usize::from(*number) % all.min(8)).copied().unwrap_or(UNKNOWN_ALIAS)
        };
        let ring = |number: &u8| {
            let all = self.rings.len() + 1;
            self.rings
                .iter()
                .rev()
                .nth(usize::from(*number) % all.min(6))
                .cloned()
                .unwrap_or(Bytes::from_static(&[7; 16]))
        };
        match act {
            Act::Join(name, by, honest) => {
                // Most mean it.
                Request::Join {
                    room: room(name),
                    key: usize::from(by.is_multiple_of(5)),
                    epoch: u64::from(by % 3),
                    honest: !honest.is_multiple_of(8),
                }
            }
            Act::Leave(name) => Request::Leave { room: room(name) },
            Act::Kick(name, whom) => {
                let whom = usize::from(*whom) % (PEOPLE + 1);
                Request::Kick { room: room(name), member: state.member(room(name), whom).unwrap_or(99) }
            }
            Act::Rotate(name, by) => Request::Rotate { room: room(name), key: key(by) },
            Act::Mls(name, off, commit) => {
                let (epoch, _) = state.mailbox(room(name));
                let epoch = [epoch, epoch, epoch + 1, epoch.saturating_sub(1)][usize::from(*off) % 4];
                Request::Mls { room: room(name), epoch, commit: *commit }
            }
            Act::CatchUp(name, off) => {
                let (_, sequence) = state.mailbox(room(name));
                let after = [0, sequence, sequence.saturating_sub(1), sequence + 1][usize::from(*off) % 4];
                Request::CatchUp { room: room(name), after }
            }
            Act::Publish(name, kind) => Request::Publish { room: room(name), kind: i32::from(kind % 6) },
            Act::Unpublish(number) => Request::Unpublish { alias: alias(number) },
            Act::Relabel(number) => Request::Relabel { alias: alias(number) },
            Act::Subscribe(number, layer) => Request::Subscribe { alias: alias(number), layer: u32::from(layer % 9) },
            Act::Unsubscribe(number) => Request::Unsubscribe { alias: alias(number) },
            Act::Keyframe(number) => Request::Keyframe { alias: alias(number) },
            Act::Deposit(number) => Request::Deposit { packages: u64::from(number % 20) },
            Act::Take(whom) => Request::Take { from: usize::from(*whom) % PEOPLE },
            // Oneself too, which is nobody: there is no other device.
            Act::Ring(whom) => Request::Ring { whom: (person + usize::from(*whom)) % PEOPLE },
            Act::Answer(number) => Request::Answer { ring: ring(number) },
            Act::Decline(number, busy) => Request::Decline { ring: ring(number), busy: *busy },
            Act::Cancel(number) => Request::Cancel { ring: ring(number) },
        }
    }

    /// The message.
    fn body(&self, client: &Client, person: Person, request: &Request) -> Asked {
        let name = |room: &usize| self.rooms[*room][0].name();
        let key = |room: &usize, key: &usize| self.rooms[*room][*key].join_key();
        let payload = Bytes::from_static(b"sealed");
        match request {
            Request::Join { room, key, epoch, honest } => {
                let mut wanted: JoinRoom = client.join_request(&self.rooms[*room][*key]);
                wanted.mls_epoch = *epoch;
                if !honest {
                    // Signed for nobody.
                    wanted.proof = Bytes::copy_from_slice(&self.people[person].device.sign_leaf(b""));
                }
                Asked::JoinRoom(wanted)
            }
            Request::Leave { room } => Asked::LeaveRoom(LeaveRoom { room: name(room) }),
            Request::Kick { room, member } => Asked::KickMember(KickMember { room: name(room), member: *member }),
            Request::Rotate { room, key: by } => {
                Asked::RotateJoinKey(RotateJoinKey { room: name(room), join_key: key(room, by) })
            }
            Request::Mls { room, epoch, commit } => {
                let (room, epoch, commit) = (&self.rooms[*room][0], *epoch, *commit);
                let (room, payload) = (room.name(), room.message(epoch, commit, &payload));
                Asked::SendMls(SendMls { room, epoch, commit, payload, join_key: Bytes::new() })
            }
            Request::CatchUp { room, after } => Asked::CatchUp(CatchUp { room: name(room), after_sequence: *after }),
            Request::Publish { room, kind } => Asked::PublishTrack(PublishTrack {
                room: name(room),
                kind: *kind,
                label: payload,
                activity: false,
                mls_epoch: 0,
            }),
            Request::Unpublish { alias } => Asked::UnpublishTrack(UnpublishTrack { alias: *alias }),
            Request::Relabel { alias } => {
                Asked::RelabelTrack(RelabelTrack { alias: *alias, label: payload, mls_epoch: 0 })
            }
            Request::Subscribe { alias, layer } => {
                let (alias, temporal_layer_max) = (*alias, *layer);
                Asked::Subscribe(Subscribe { alias, temporal_layer_max, ..Subscribe::default() })
            }
            Request::Unsubscribe { alias } => Asked::Unsubscribe(Unsubscribe { alias: *alias }),
            Request::Keyframe { alias } => Asked::RequestKeyframe(RequestKeyframe { alias: *alias }),
            Request::Deposit { packages } => Asked::DepositKeyPackages(DepositKeyPackages {
                packages: vec![payload; *packages as usize],
                ..DepositKeyPackages::default()
            }),
            Request::Take { from } => Asked::TakeKeyPackages(TakeKeyPackages {
                ticket: self.people[*from].open_ticket(),
                ..TakeKeyPackages::default()
            }),
            Request::Ring { whom } => {
                Asked::Ring(Ring { ticket: self.people[*whom].open_ticket(), payload, ..Ring::default() })
            }
            Request::Answer { ring } => Asked::AnswerRing(AnswerRing { ring: ring.clone(), payload }),
            Request::Decline { ring, busy } => Asked::DeclineRing(DeclineRing { ring: ring.clone(), busy: *busy }),
            Request::Cancel { ring } => Asked::CancelRing(CancelRing { ring: ring.clone() }),
        }
    }

    /// What a reply says, in the reference's words.
    fn answer(&mut self, person: Person, body: &Body) -> Answer {
        match body {
            Body::Done(_) => Answer::Done,
            Body::TrackPublished(published) => Answer::Published(published.alias),
            Body::RingStarted(started) => Answer::Rings { ring: started.ring.clone(), devices: started.devices },
            Body::KeyPackages(packages) => Answer::Packages(packages.packages.len()),
            Body::RoomJoined(joined) => {
                let mut members = Vec::new();
                for member in &joined.members {
                    let who =
                        self.people.iter().position(|other| other.device_key().as_bytes()[..] == member.device[..]);
                    members.push((member.member, who.expect("one of us")));
                    // Whoever comes in anew knows of nobody else.
                    if members.len() == 1 {
                        self.rosters[person].remove(&member.room[..]);
                    }
                    self.note(person, &Body::MemberJoined(member.clone()));
                }
                members.sort_unstable();
                let (member, epoch, sequence) = (joined.member, joined.mls_epoch, joined.mls_sequence);
                Answer::Joined { member, epoch, sequence, members }
            }
            Body::Refused(refused) => {
                let reason = RefusalReason::try_from(refused.reason).unwrap_or_default();
                // Conflicts say numbers, which the reference has by other names.
                Answer::Refused(reason, refused.detail.clone())
            }
            other => Answer::Other(format!("{other:?}")),
        }
    }
}

/// Every state that some order of what was answered leads to.
fn orders(state: &Reference, left: &[&(Person, Request, Answer)], into: &mut Vec<Reference>) {
    if left.is_empty() {
        if !into.contains(state) {
            into.push(state.clone());
        }
        return;
    }
    for (place, (person, request, answer)) in left.iter().enumerate() {
        let rest: Vec<_> = left.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, one)| *one).collect();
        let of_another_limit =
            matches!(answer, Answer::Refused(RefusalReason::Limit, name) if !KNOWN_LIMITS.contains(&&**name));
        match of_another_limit {
            true => orders(state, &rest, into),
            false => state.after(*person, request, answer).iter().for_each(|next| orders(next, &rest, into)),
        }
    }
}
