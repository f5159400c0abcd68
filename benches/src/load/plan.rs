//! Who does what: a scenario made into clients.

use super::scenario::{Scenario, Shape};

/// Everybody in a run.
#[derive(Debug, Default)]
pub struct Plan {
    /// By number.
    pub clients: Vec<ClientPlan>,
    /// Rooms that media flows in.
    pub rooms: u32,
}

/// One client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientPlan {
    /// What it is there for.
    pub role: Role,
    /// Rooms it joins.
    pub rooms: Vec<u32>,
    /// Tracks it publishes.
    pub tracks: Vec<TrackPlan>,
    /// Tracks it must have subscribed to before it is ready.
    pub subscriptions: u32,
    /// Clients whose presence it watches.
    pub watches: Vec<u32>,
    /// Clients that watch its own.
    pub watchers: u32,
    /// Clients that it puts out of their room.
    pub kicks: Vec<u32>,
    /// The client it rings.
    pub callee: Option<u32>,
    /// Whether a client rings it.
    pub is_rung: bool,
}

/// A track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackPlan {
    /// The room it is in.
    pub room: u32,
    /// What is on it.
    pub kind: Kind,
    /// Subscribers there must be before the measured part.
    pub subscribers: u32,
    /// Those of them that should get every object.
    pub expected: u32,
}

/// What is on a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Small objects in datagrams.
    Audio,
    /// Frames on streams.
    Video,
}

/// What a client is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Its delays and losses are the result.
    #[default]
    Member,
    /// It reads too slowly.
    Slow,
    /// It comes and goes.
    Churner,
    /// It sends too much.
    Flooder,
    /// It is put out of its room in the middle of the measured part.
    Kicked,
    /// It is in no room.
    Stranger,
}

impl Plan {
    /// The clients of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let mut plan = Self::default();
        match scenario.shape {
            Shape::Calls => (0..scenario.pairs).for_each(|_| plan.room(2, scenario)),
            Shape::Rooms => (0..scenario.rooms).for_each(|_| plan.room(scenario.members, scenario)),
            Shape::Webinar => (0..scenario.rooms).for_each(|_| plan.webinar(scenario)),
            Shape::Silent => {}
        }
        let media_rooms = plan.rooms;
        if let Some(outsiders) = &scenario.outsiders {
            for room in (0..media_rooms).flat_map(|room| (0..outsiders.kicked).map(move |_| room)) {
                plan.kicked(room);
            }
            let stranger = ClientPlan { role: Role::Stranger, ..ClientPlan::default() };
            plan.clients.extend((0..outsiders.strangers).map(|_| stranger.clone()));
        }
        if let Some(churn) = &scenario.churn {
            let first = plan.clients.len() as u32;
            for index in 0..churn.sessions {
                let room = (media_rooms > 0).then(|| index % media_rooms);
                let watches = (1..=churn.watches).map(|step| first + (index + step) % churn.sessions);
                plan.churner(room, watches.collect());
            }
        }
        if let Some(flood) = &scenario.flood {
            (0..flood.pairs).for_each(|_| plan.flooders());
        }
        if let Some(presence) = &scenario.presence {
            plan.presence(presence.people, presence.watchers);
        }
        if let Some(rings) = &scenario.rings {
            (0..rings.pairs).for_each(|_| plan.ringers());
        }
        plan
    }

    /// How many clients stay from beginning to end.
    pub fn steady(&self) -> u32 {
        self.clients.iter().filter(|client| client.role != Role::Churner).count() as u32
    }

    /// How many clients are there for this.
    pub fn count(&self, role: Role) -> u64 {
        self.clients.iter().filter(|client| client.role == role).count() as u64
    }

    /// Subscriptions that must be alive before and after the measured part.
    pub fn subscriptions(&self) -> u64 {
        let measured = self.clients.iter().filter(|client| client.role == Role::Member);
        measured.map(|client| u64::from(client.subscriptions)).sum()
    }

    fn next_room(&mut self) -> u32 {
        self.rooms += 1;
        self.rooms - 1
    }

    /// Everybody talks to everybody; slow ones listen.
    fn room(&mut self, members: u32, scenario: &Scenario) {
        let room = self.next_room();
        let slow = scenario.slow.as_ref().map_or(0, |slow| slow.members);
        let kinds = kinds(scenario);
        let tracks = kinds.iter().map(|kind| TrackPlan {
            room,
            kind: *kind,
            subscribers: members - 1 + slow,
            expected: members - 1,
        });
        let tracks: Vec<_> = tracks.collect();
        let each = kinds.len() as u32;
        for _ in 0..members {
            let subscriptions = (members - 1) * each;
            let tracks = tracks.clone();
            self.clients.push(ClientPlan { rooms: vec![room], tracks, subscriptions, ..ClientPlan::default() });
        }
        for _ in 0..slow {
            let role = Role::Slow;
            self.clients.push(ClientPlan {
                role,
                rooms: vec![room],
                subscriptions: members * each,
                ..ClientPlan::default()
            });
        }
    }

    /// One speaker, who sends to as many rooms as it takes to hold the listeners.
    fn webinar(&mut self, scenario: &Scenario) {
        // The speaker has a place in each, and so has everybody who will be put out.
        let others = 1 + scenario.outsiders.as_ref().map_or(0, |outsiders| outsiders.kicked);
        let rooms = scenario.listeners.div_ceil(scenario.room_members_max.saturating_sub(others).max(1));
        let kinds = kinds(scenario);
        let mut speaker = ClientPlan::default();
        let mut listeners = Vec::new();
        for index in 0..rooms {
            let room = self.next_room();
            // The first ones take one more where it does not divide evenly.
            let here = scenario.listeners / rooms + u32::from(index < scenario.listeners % rooms);
            speaker.rooms.push(room);
            speaker.tracks.extend(kinds.iter().map(|kind| TrackPlan {
                room,
                kind: *kind,
                subscribers: here,
                expected: here,
            }));
            for _ in 0..here {
                let subscriptions = kinds.len() as u32;
                listeners.push(ClientPlan { rooms: vec![room], subscriptions, ..ClientPlan::default() });
            }
        }
        self.clients.push(speaker);
        self.clients.append(&mut listeners);
    }

    fn churner(&mut self, room: Option<u32>, watches: Vec<u32>) {
        let members = self.clients.iter().filter(|client| client.role == Role::Member);
        let tracks = members.flat_map(|client| &client.tracks).filter(|track| Some(track.room) == room);
        self.clients.push(ClientPlan {
            role: Role::Churner,
            rooms: room.into_iter().collect(),
            subscriptions: tracks.count() as u32,
            watches,
            ..ClientPlan::default()
        });
    }

    /// Listens until the first who talks in the room puts it out.
    fn kicked(&mut self, room: u32) {
        let number = self.clients.len() as u32;
        let is_here = |track: &&mut TrackPlan| track.room == room;
        let mut subscriptions = 0;
        for client in &mut self.clients {
            let mut here = 0;
            for track in client.tracks.iter_mut().filter(is_here) {
                track.subscribers += 1;
                here += 1;
            }
            if subscriptions == 0 && here > 0 {
                client.kicks.push(number);
            }
            subscriptions += here;
        }
        self.clients.push(ClientPlan { role: Role::Kicked, rooms: vec![room], subscriptions, ..ClientPlan::default() });
    }

    fn flooders(&mut self) {
        let room = self.next_room();
        for _ in 0..2 {
            self.clients.push(ClientPlan {
                role: Role::Flooder,
                rooms: vec![room],
                tracks: vec![TrackPlan { room, kind: Kind::Audio, subscribers: 1, expected: 0 }],
                subscriptions: 1,
                ..ClientPlan::default()
            });
        }
    }

    /// Everybody is watched by those who come after, around the circle.
    fn presence(&mut self, people: u32, watchers: u32) {
        let first = self.clients.len() as u32;
        for index in 0..people {
            let watches = (1..=watchers).map(|step| first + (index + people - step) % people).collect();
            self.clients.push(ClientPlan { watches, watchers, ..ClientPlan::default() });
        }
    }

    fn ringers(&mut self) {
        let callee = self.clients.len() as u32 + 1;
        self.clients.push(ClientPlan { callee: Some(callee), ..ClientPlan::default() });
        self.clients.push(ClientPlan { is_rung: true, ..ClientPlan::default() });
    }
}

fn kinds(scenario: &Scenario) -> Vec<Kind> {
    let audio = (scenario.objects_per_second > 0.0).then_some(Kind::Audio);
    audio.into_iter().chain(scenario.video.is_some().then_some(Kind::Video)).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::scenario::{Churn, Outsiders, PresenceLoad, Slow, Video},
        *,
    };

    fn offered(plan: &Plan) -> u32 {
        plan.clients.iter().flat_map(|client| &client.tracks).map(|track| track.expected).sum()
    }

    #[test]
    fn in_a_room_everybody_hears_everybody_else() {
        let scenario = Scenario { shape: Shape::Rooms, rooms: 3, members: 5, ..Scenario::default() };
        let plan = Plan::new(&scenario);
        assert_eq!((plan.clients.len(), plan.rooms, plan.subscriptions()), (15, 3, 60));
        assert_eq!(offered(&plan), 60);
    }

    #[test]
    fn slow_and_passing_listeners_are_expected_to_miss_something() {
        let scenario = Scenario {
            pairs: 2,
            slow: Some(Slow::default()),
            churn: Some(Churn { sessions: 3, stay_s: 1.0, watches: 0 }),
            video: Some(Video::default()),
            ..Scenario::default()
        };
        let plan = Plan::new(&scenario);
        assert_eq!((plan.clients.len(), plan.steady(), plan.subscriptions()), (9, 6, 8));
        assert_eq!(offered(&plan), 8);
        let subscribers: Vec<u32> = plan.clients[0].tracks.iter().map(|track| track.subscribers).collect();
        assert_eq!(subscribers, [2, 2]);
        assert_eq!((plan.clients[2].role, plan.clients[2].subscriptions), (Role::Slow, 4));
        assert_eq!((plan.clients[8].role, plan.clients[8].subscriptions), (Role::Churner, 4));
    }

    #[test]
    fn outsiders_are_expected_to_get_nothing_and_one_who_talks_puts_each_of_them_out() {
        let outsiders = Some(Outsiders { strangers: 2, kicked: 1 });
        let scenario = Scenario { shape: Shape::Webinar, listeners: 500, outsiders, ..Scenario::default() };
        let plan = Plan::new(&scenario);
        assert_eq!((plan.clients.len(), plan.subscriptions(), offered(&plan)), (506, 500, 500));
        assert_eq!(plan.clients[0].kicks, [501, 502, 503]);
        let subscribers: Vec<u32> = plan.clients[0].tracks.iter().map(|track| track.subscribers).collect();
        assert_eq!(subscribers, [168, 168, 167]);
        let kicked = &plan.clients[503];
        assert_eq!((kicked.role, kicked.rooms.as_slice(), kicked.subscriptions), (Role::Kicked, [2].as_slice(), 1));
        assert_eq!((plan.clients[505].role, plan.clients[505].rooms.len()), (Role::Stranger, 0));
        let rooms = |outsiders| {
            Plan::new(&Scenario { shape: Shape::Webinar, listeners: 249, outsiders, ..Scenario::default() }).rooms
        };
        assert_eq!((rooms(None), rooms(scenario.outsiders)), (1, 2), "a room of 250 has no place for one more");
    }

    #[test]
    fn those_who_only_open_a_session_join_no_room_and_watch_others() {
        let churn = Some(Churn { sessions: 3, stay_s: 1.0, watches: 2 });
        let plan = Plan::new(&Scenario { shape: Shape::Silent, churn, ..Scenario::default() });
        assert_eq!((plan.clients.len(), plan.steady(), plan.rooms), (3, 0, 0));
        assert_eq!(plan.clients[1].watches, [2, 0]);
        assert!(plan.clients.iter().all(|client| client.role == Role::Churner && client.rooms.is_empty()));
    }

    #[test]
    fn a_webinar_beyond_a_rooms_size_goes_on_in_further_rooms() {
        let scenario = Scenario { shape: Shape::Webinar, listeners: 500, ..Scenario::default() };
        let plan = Plan::new(&scenario);
        assert_eq!((plan.clients.len(), plan.rooms, plan.subscriptions()), (501, 3, 500));
        let here: Vec<u32> = plan.clients[0].tracks.iter().map(|track| track.expected).collect();
        assert_eq!(here, [167, 167, 166]);
    }

    #[test]
    fn everybody_has_the_planned_number_of_watchers() {
        let presence = PresenceLoad { people: 5, watchers: 2, ..PresenceLoad::default() };
        let scenario = Scenario { shape: Shape::Silent, presence: Some(presence), ..Scenario::default() };
        let plan = Plan::new(&scenario);
        for number in 0..5 {
            let watchers = plan.clients.iter().filter(|client| client.watches.contains(&number)).count();
            assert_eq!(watchers, 2);
            assert!(!plan.clients[number as usize].watches.contains(&number));
        }
    }
}
