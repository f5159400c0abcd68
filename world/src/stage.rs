//! A world in which nothing happens but what a test says: a relay, clients by hand, and paths that the test draws.

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::StreamId;
use supernode_proto::{
    close::CloseCode,
    control::{
        KickMember, PublishTrack, RoomJoined, Subscribe, TrackKind, client_message::Body as Request, relay_message,
    },
    object::TrackAlias,
};
use supernode_server::{
    core::{directory::Population, ledger::Ledger, limits::Limits},
    shard::Census,
};
use supernode_session::{Moment, Reply};

use crate::{
    client::{ByHand, News},
    network::Conditions,
    world::World,
};

/// How long a test waits for what must come: virtual time, of which there is enough.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Who may come, each with one client.
pub const PEOPLE: usize = 32;
/// The room of which everybody has the secret.
pub const ROOM: usize = 0;

/// A relay and clients by hand. Whatever is asked passes time until it is answered.
pub struct Stage {
    world: World,
}

impl Stage {
    /// A relay of so many shards with these limits, and [`PEOPLE`] who have not come yet. All paths are perfect.
    pub fn new(seed: u64, shards: usize, limits: Limits) -> Self {
        Self { world: World::staged(seed, shards, limits, PEOPLE) }
    }

    /// What time it is.
    pub fn now(&self) -> Moment {
        self.world.now
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.world.pass_until(self.world.now + time);
        self.assert_sound();
    }

    /// Lets time pass until it is so.
    ///
    /// # Panics
    /// If it does not come about within a minute.
    pub fn wait<T>(&mut self, what: &str, mut is_it: impl FnMut(&mut Self) -> Option<T>) -> T {
        self.wait_for(PATIENCE, what, &mut is_it)
    }

    /// As [`Self::wait`], for so long.
    ///
    /// # Panics
    /// If it does not come about within this time.
    pub fn wait_for<T>(&mut self, patience: Duration, what: &str, mut is_it: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = self.world.now + patience;
        loop {
            if let Some(it) = is_it(self) {
                return it;
            }
            assert!(self.world.now < until, "it did not come about within {patience:?}: {what}");
            self.pass(LOOK_EVERY);
        }
    }

    /// The path of a client is like this from now on.
    pub fn path(&mut self, client: usize, conditions: Conditions) {
        self.world.paths[client].change(conditions);
    }

    /// A client comes, and is let in.
    pub fn come(&mut self, client: usize) {
        self.world.tell(client, |client, cx| {
            client.go_by_hand();
            client.come(cx);
        });
        self.wait("it is let in", |stage| stage.world.clients[client].is_in().then_some(()));
    }

    /// It goes.
    pub fn leave(&mut self, client: usize) {
        self.world.tell(client, |client, cx| client.leave_relay(cx));
    }

    /// Asks for something, and waits for the reply.
    pub fn ask(&mut self, client: usize, request: Request) -> Reply {
        let mut number = 0;
        self.world.tell(client, |client, _| number = client.ask_by_hand(request));
        self.wait("a reply", |stage| stage.world.clients[client].take_reply(number))
    }

    /// Asks for something that is granted.
    ///
    /// # Panics
    /// If it is not.
    pub fn done(&mut self, client: usize, request: Request) -> relay_message::Body {
        self.ask(client, request).expect("it is granted")
    }

    /// Enters [`ROOM`].
    ///
    /// # Panics
    /// If it is not let in.
    pub fn join(&mut self, client: usize) -> RoomJoined {
        let mut number = None;
        self.world.tell(client, |client, cx| number = client.join_by_hand(ROOM, cx));
        let number = number.expect("it has a connection");
        let reply = self.wait("a reply", |stage| stage.world.clients[client].take_reply(number));
        match reply {
            Ok(relay_message::Body::RoomJoined(joined)) => joined,
            other => panic!("it is let in: {other:?}"),
        }
    }

    /// Publishes a track in [`ROOM`].
    ///
    /// # Panics
    /// If it may not.
    pub fn publish(&mut self, client: usize, kind: TrackKind, activity: bool) -> TrackAlias {
        let room = self.world.cast.rooms[ROOM].name();
        let request =
            PublishTrack { room, kind: kind.into(), label: Bytes::from_static(b"label"), activity, mls_epoch: 0 };
        match self.done(client, Request::PublishTrack(request)) {
            relay_message::Body::TrackPublished(published) => TrackAlias::new(published.alias).expect("an alias"),
            other => panic!("it is published: {other:?}"),
        }
    }

    /// Asks to subscribe, and does not wait.
    pub fn subscribe_soon(&mut self, client: usize, wanted: Subscribe) {
        self.world.tell(client, |client, _| {
            client.ask_by_hand(Request::Subscribe(wanted));
        });
    }

    /// Subscribes to a track.
    pub fn subscribe(&mut self, client: usize, wanted: Subscribe) {
        self.done(client, Request::Subscribe(wanted));
    }

    /// Puts this member out of [`ROOM`].
    pub fn kick(&mut self, client: usize, member: u32) {
        let room = self.world.cast.rooms[ROOM].name();
        self.done(client, Request::KickMember(KickMember { room, member }));
    }

    /// Waits until so many subscribe to a track.
    pub fn demand(&mut self, client: usize, alias: TrackAlias, subscribers: u32) {
        self.news(client, |news| {
            matches!(news, News::Demand(of, demand) if *of == alias && demand.subscribers == subscribers).then_some(())
        });
    }

    /// Waits for news, and drops those before it.
    pub fn news<T>(&mut self, client: usize, is_it: impl Fn(&News) -> Option<T>) -> T {
        self.wait("news", |stage| {
            let news = &mut stage.hand_mut(client).news;
            let (place, it) = news.iter().enumerate().find_map(|(place, (_, news))| Some((place, is_it(news)?)))?;
            news.drain(..=place);
            Some(it)
        })
    }

    /// Sends an object in a datagram; whether QUIC took it.
    pub fn send(&mut self, client: usize, wire: Bytes) -> bool {
        let mut is_taken = false;
        self.world.tell(client, |client, _| is_taken = client.send_datagram(wire));
        is_taken
    }

    /// Opens a media stream with these bytes.
    ///
    /// # Panics
    /// If QUIC has no stream left.
    pub fn open(&mut self, client: usize, bytes: &[u8]) -> StreamId {
        let mut id = None;
        self.world.tell(client, |client, _| {
            id = client.open_stream();
            id.into_iter().for_each(|id| client.write_stream(id, bytes));
        });
        id.expect("a stream")
    }

    /// Goes on with it.
    pub fn write(&mut self, client: usize, id: StreamId, bytes: &[u8]) {
        self.world.tell(client, |client, _| client.write_stream(id, bytes));
    }

    /// Ends it.
    pub fn finish(&mut self, client: usize, id: StreamId) {
        self.world.tell(client, |client, _| client.finish_stream(id));
    }

    /// How many bytes of its streams a client could not send yet.
    pub fn unsent(&self, client: usize) -> usize {
        self.world.clients[client].unsent()
    }

    /// Leaves media streams unread from now on, or reads them again.
    pub fn leave_streams_unread(&mut self, client: usize, is_unread: bool) {
        self.world.tell(client, |client, _| client.leave_streams_unread(is_unread));
    }

    /// What a client has.
    pub fn hand(&self, client: usize) -> &ByHand {
        self.world.clients[client].hand()
    }

    /// The same, to take things out.
    pub fn hand_mut(&mut self, client: usize) -> &mut ByHand {
        self.world.clients[client].hand_mut()
    }

    /// The books of all shards.
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        for ledger in self.world.processes[0].ledgers() {
            sum.objects_in += ledger.objects_in;
            sum.offered += ledger.offered;
            sum.delivered += ledger.delivered;
            sum.recalled += ledger.recalled;
            sum.nodes.add(&ledger.nodes);
            sum.late_joiners += ledger.late_joiners;
            sum.ladder_down.iter_mut().zip(ledger.ladder_down).for_each(|(sum, steps)| *sum += steps);
            sum.dropped.iter_mut().zip(ledger.dropped).for_each(|(sum, dropped)| *sum += dropped);
        }
        sum
    }

    /// What each shard's tables hold.
    pub fn census(&self) -> Vec<Census> {
        self.world.processes[0].census()
    }

    /// Who is there.
    pub fn population(&self) -> Population {
        self.world.processes[0].directory().population()
    }

    /// Sessions that ended with this code.
    pub fn closed(&mut self, code: CloseCode) -> u64 {
        let shards = self.world.processes[0].shards.iter_mut();
        shards.map(|shard| shard.offline.tally().closed[code.place()]).sum()
    }

    /// Datagrams that a client's connection has received.
    pub fn datagrams_in(&mut self, client: usize) -> u64 {
        self.world.clients[client].datagrams_in()
    }

    /// Everybody goes, and nothing is left.
    pub fn end(mut self) {
        for client in 0..self.world.clients.len() {
            if self.world.clients[client].is_on() {
                self.leave(client);
            }
        }
        self.pass(PATIENCE);
        self.world.look_at_what_is_left();
        self.assert_sound();
    }

    fn assert_sound(&self) {
        assert_eq!(self.world.judge.violation().map(ToString::to_string), None);
    }
}
