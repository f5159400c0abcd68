//! What two nodes of a cluster tell each other of people, one thing at a time. What happens when everything fails at once:
//! `world/tests/nodes.rs`.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{
        AnswerRing, DepositKeyPackages, LimitTickets, Presence, PresenceState, RefusalReason, Ring, RingResult,
        SetPresence, TakeKeyPackages, Unwatch, Watch, client_message::Body as Request, relay_message::Body,
    },
};
use supernode_server::core::{BusErrand, ControlMail, NodeId, Topic, directory::Population};

use crate::world::{At, Person, World};

/// Nodes 1 and 2, and all that is between them.
struct Pair {
    nodes: [World; 2],
    listens: [BTreeSet<Topic>; 2],
    /// Whether what is told on the bus is lost.
    loses: bool,
}

impl Pair {
    fn new() -> Self {
        let mut pair =
            Self { nodes: [1, 2].map(|node| World::of_node(node, 3)), listens: Default::default(), loses: false };
        for node in 0..2 {
            pair.tell(node, &ControlMail::NodeCame(number(1 - node)));
        }
        pair.settle();
        pair
    }

    /// Something that every shard of a node is told.
    fn tell(&mut self, node: usize, mail: &ControlMail) {
        (0..3).for_each(|shard| self.nodes[node].put(shard, mail.clone()));
    }

    /// Carries everything until there is nothing left.
    fn settle(&mut self) {
        loop {
            self.nodes.iter_mut().for_each(World::settle);
            let bus: [Vec<BusErrand>; 2] = [0, 1].map(|node| std::mem::take(&mut self.nodes[node].bus));
            let posted = [0, 1].map(|node| std::mem::take(&mut self.nodes[node].posted));
            if bus.iter().all(Vec::is_empty) && posted.iter().all(Vec::is_empty) {
                return;
            }
            for (node, errands) in bus.into_iter().enumerate() {
                errands.into_iter().for_each(|errand| self.carry(node, errand));
            }
            for (to, letter) in posted.into_iter().flatten() {
                let node = &mut self.nodes[usize::from(to.node.0) - 1];
                letter.into_iter().for_each(|mail| node.put(to.shard.index(), mail));
            }
        }
    }

    fn carry(&mut self, node: usize, errand: BusErrand) {
        match errand {
            BusErrand::Listen(topic) => assert!(self.listens[node].insert(topic), "it listens to {topic:?} twice"),
            BusErrand::Forget(topic) => assert!(self.listens[node].remove(&topic), "it does not listen to {topic:?}"),
            BusErrand::Tell(topic, bytes) => {
                if !self.loses && (topic == Topic::Nodes || self.listens[1 - node].contains(&topic)) {
                    // Any shard may be the one that is told.
                    let shard = bytes.len() % 3;
                    self.nodes[1 - node].put(shard, ControlMail::Heard { topic, from: number(node), bytes });
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.nodes.iter_mut().for_each(|node| node.advance(step));
            self.settle();
        }
    }

    fn ask(&mut self, node: usize, at: At, request: Request) {
        self.nodes[node].ask(at, request);
        self.settle();
    }

    fn show(&mut self, node: usize, at: At, state: PresenceState, status: &'static [u8]) {
        let status = Bytes::from_static(status);
        self.ask(node, at, Request::SetPresence(SetPresence { state: state.into(), status }));
    }

    fn watch(&mut self, node: usize, at: At, whom: &Person) {
        let ticket = whom.ticket(self.nodes[node].now);
        self.ask(node, at, Request::Watch(Watch { ticket, ..Watch::default() }));
    }

    /// What a session sees of whomever it watches.
    fn sees(&self, node: usize, at: At) -> (PresenceState, u32, Bytes) {
        let seen = self.nodes[node].sent.iter().filter_map(|(to, message)| match &message.body {
            Some(Body::Presence(presence)) if *to == at.id => Some(presence),
            _ => None,
        });
        let last: &Presence = seen.max_by_key(|presence| presence.epoch).unwrap();
        (last.state(), last.devices, last.status.clone())
    }
}

fn number(node: usize) -> NodeId {
    NodeId(node as u16 + 1)
}

const OFFLINE: (PresenceState, u32, Bytes) = (PresenceState::Offline, 0, Bytes::new());

fn online(devices: u32, status: &'static [u8]) -> (PresenceState, u32, Bytes) {
    (PresenceState::Online, devices, Bytes::from_static(status))
}

//
#[test]
fn a_watcher_at_another_node_sees_what_is_true_and_what_changes() {
    let (mut pair, alice, bob) = (Pair::new(), Person::new(1), Person::new(2));
    let at = pair.nodes[0].connect(&alice, 0);
    pair.show(0, at, PresenceState::Online, b"here");
    let watcher = pair.nodes[1].connect(&bob, 1);
    pair.watch(1, watcher, &alice);
    assert_eq!(pair.sees(1, watcher), online(1, b"here"));
    pair.pass(Duration::from_secs(1));
    pair.show(0, at, PresenceState::Online, b"still here");
    assert_eq!(pair.sees(1, watcher), online(1, b"still here"));
    pair.pass(Duration::from_secs(1));
    pair.nodes[0].leave(at, true);
    pair.settle();
    assert_eq!(pair.sees(1, watcher), OFFLINE);

    let key = Bytes::copy_from_slice(alice.identity_key().as_bytes());
    pair.ask(1, watcher, Request::Unwatch(Unwatch { identity: key }));
    pair.nodes[1].leave(watcher, true);
    // A look at its ticket is still due.
    pair.pass(Duration::from_secs(20));
    assert_eq!(pair.listens, [BTreeSet::new(), BTreeSet::new()]);
    for node in &pair.nodes {
        assert_eq!(node.directory.population(), Population::default());
        assert!(node.cores.iter().all(|core| core.census() == [0; 9] && core.listens_for() == 0));
    }
}

//
#[test]
fn devices_at_both_nodes_add_up_and_the_newest_state_speaks() {
    let (mut pair, phone, laptop) = (Pair::new(), Person::with_device(1, 11), Person::with_device(1, 12));
    let watcher = pair.nodes[0].connect(&Person::new(2), 0);
    pair.watch(0, watcher, &phone);
    let [at, other] = [(0, &phone), (1, &laptop)].map(|(node, device)| pair.nodes[node].connect(device, 2));
    pair.show(0, at, PresenceState::Online, b"phone");
    pair.pass(Duration::from_secs(1));
    pair.show(1, other, PresenceState::Online, b"laptop");
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.sees(0, watcher), online(2, b"laptop"));
    pair.show(1, other, PresenceState::Invisible, b"");
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.sees(0, watcher), online(1, b"phone"));
}

//
#[test]
fn whatever_the_bus_loses_is_seen_within_a_round() {
    let (mut pair, alice) = (Pair::new(), Person::new(1));
    let watcher = pair.nodes[1].connect(&Person::new(2), 1);
    pair.watch(1, watcher, &alice);
    pair.loses = true;
    let at = pair.nodes[0].connect(&alice, 0);
    pair.show(0, at, PresenceState::Online, b"unheard");
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.sees(1, watcher), OFFLINE);
    pair.loses = false;
    pair.pass(Duration::from_millis(5_300));
    assert_eq!(pair.sees(1, watcher), online(1, b"unheard"));

    pair.loses = true;
    pair.nodes[0].leave(at, true);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.sees(1, watcher), online(1, b"unheard"));
    pair.loses = false;
    pair.pass(Duration::from_millis(5_300));
    assert_eq!(pair.sees(1, watcher), OFFLINE);
}

//
#[test]
fn whoever_is_at_a_node_that_is_gone_is_offline_until_it_is_back() {
    let (mut pair, alice) = (Pair::new(), Person::new(1));
    let at = pair.nodes[0].connect(&alice, 0);
    pair.show(0, at, PresenceState::Online, b"here");
    let watcher = pair.nodes[1].connect(&Person::new(2), 1);
    pair.watch(1, watcher, &alice);
    pair.tell(1, &ControlMail::NodeGone(number(0)));
    pair.pass(Duration::from_millis(1_300));
    assert_eq!(pair.sees(1, watcher), OFFLINE);
    pair.tell(1, &ControlMail::NodeCame(number(0)));
    pair.pass(Duration::from_millis(1_300));
    assert_eq!(pair.sees(1, watcher), online(1, b"here"));
}

//
#[test]
fn a_device_that_comes_to_another_node_is_over_at_the_first_and_looks_as_it_did() {
    let (mut pair, alice, bob) = (Pair::new(), Person::new(1), Person::new(2));
    let at = pair.nodes[0].connect(&alice, 0);
    let blocked = vec![Bytes::copy_from_slice(bob.identity_key().as_bytes())];
    pair.ask(0, at, Request::LimitTickets(LimitTickets { generation: 0, blocked }));
    pair.show(0, at, PresenceState::Online, b"as before");
    let [shut_out, let_in] = [&bob, &Person::new(3)].map(|person| pair.nodes[1].connect(person, 1));
    pair.watch(1, shut_out, &alice);
    pair.watch(1, let_in, &alice);
    pair.pass(Duration::from_secs(1));
    pair.nodes[1].connect(&alice, 2);
    pair.settle();
    assert_eq!(pair.nodes[0].closed, [(at.id, CloseCode::REPLACED)]);
    pair.pass(Duration::from_secs(5));
    assert_eq!((pair.sees(1, let_in), pair.sees(1, shut_out)), (online(1, b"as before"), OFFLINE));
}

//
#[test]
fn whom_a_device_shuts_out_does_not_see_it_from_another_node() {
    let (mut pair, alice, bob) = (Pair::new(), Person::new(1), Person::new(2));
    let at = pair.nodes[0].connect(&alice, 0);
    pair.show(0, at, PresenceState::Online, b"here");
    let watcher = pair.nodes[1].connect(&bob, 1);
    pair.watch(1, watcher, &alice);
    let name = |people: &[&Person]| {
        let blocked = people.iter().map(|person| Bytes::copy_from_slice(person.identity_key().as_bytes())).collect();
        Request::LimitTickets(LimitTickets { generation: 0, blocked })
    };
    pair.ask(0, at, name(&[&bob]));
    assert_eq!(pair.sees(1, watcher), OFFLINE);
    pair.ask(0, at, name(&[]));
    assert_eq!(pair.sees(1, watcher), online(1, b"here"));
    // All tickets of before.
    pair.ask(0, at, Request::LimitTickets(LimitTickets { generation: 1, blocked: Vec::new() }));
    assert_eq!(pair.sees(1, watcher), OFFLINE);
}

//
#[test]
fn whoever_is_let_in_because_a_device_went_sees_the_others() {
    let (mut pair, phone, laptop) = (Pair::new(), Person::with_device(1, 11), Person::with_device(1, 12));
    let bob = Person::new(2);
    let [at, other, watcher] = [&phone, &laptop, &bob].map(|person| pair.nodes[0].connect(person, 1));
    pair.show(0, at, PresenceState::Online, b"phone");
    let blocked = vec![Bytes::copy_from_slice(bob.identity_key().as_bytes())];
    pair.ask(0, other, Request::LimitTickets(LimitTickets { generation: 0, blocked }));
    pair.watch(0, watcher, &phone);
    assert_eq!(pair.sees(0, watcher), OFFLINE);
    pair.nodes[0].leave(other, true);
    pair.settle();
    assert_eq!(pair.sees(0, watcher), online(1, b"phone"));
}

//
#[test]
fn a_device_that_is_taken_back_is_over_at_whichever_node_it_is_and_however_much_is_lost() {
    for loses in [false, true] {
        let (mut pair, phone, laptop) = (Pair::new(), Person::with_device(1, 11), Person::with_device(1, 12));
        let lost = pair.nodes[1].connect(&phone, 2);
        pair.settle();
        pair.loses = loses;
        pair.nodes[0].connect(&laptop.revoking(&phone, 1), 0);
        pair.settle();
        assert_eq!(pair.nodes[1].closed.is_empty(), loses);
        pair.loses = false;
        pair.pass(Duration::from_millis(5_300));
        assert_eq!(pair.nodes[1].closed, [(lost.id, CloseCode::DEVICE_REVOKED)]);
        // Where nobody of that identity is left nothing is known of it: it is let in, and put out once that was asked.
        let again = pair.nodes[1].connect(&phone, 0);
        pair.settle();
        assert_eq!(pair.nodes[1].closed.last(), Some(&(again.id, CloseCode::DEVICE_REVOKED)));
    }
}

impl Pair {
    /// What a session was answered last.
    fn answered(&self, node: usize, at: At) -> Option<&Body> {
        let mut replies =
            self.nodes[node].sent.iter().rev().filter(|(to, message)| *to == at.id && message.reply_to == 1);
        replies.next()?.1.body.as_ref()
    }

    fn refused(&self, node: usize, at: At) -> Option<RefusalReason> {
        match self.answered(node, at) {
            Some(Body::Refused(refused)) => Some(refused.reason()),
            _ => None,
        }
    }

    fn events<T>(&self, node: usize, at: At, is_it: impl Fn(&Body) -> Option<T>) -> Vec<T> {
        let of_session = self.nodes[node].sent.iter().filter(|(to, _)| *to == at.id);
        of_session.filter_map(|(_, message)| is_it(message.body.as_ref()?)).collect()
    }

    /// How a session's rings ended: as caller, and as callee.
    fn ended(&self, node: usize, at: At) -> (Vec<RingResult>, Vec<RingResult>) {
        let outcomes = self.events(node, at, |body| match body {
            Body::RingOutcome(outcome) => Some(outcome.result()),
            _ => None,
        });
        let ends = self.events(node, at, |body| match body {
            Body::RingEnded(ended) => Some(ended.result()),
            _ => None,
        });
        (outcomes, ends)
    }

    fn deposit(&mut self, node: usize, at: At, package: &'static [u8]) {
        let packages = vec![Bytes::from_static(package)];
        self.ask(node, at, Request::DepositKeyPackages(DepositKeyPackages { packages, last_resort: Bytes::new() }));
    }

    fn take(&mut self, node: usize, at: At, whom: &Person) {
        let ticket = whom.ticket(self.nodes[node].now);
        self.ask(node, at, Request::TakeKeyPackages(TakeKeyPackages { ticket, ..TakeKeyPackages::default() }));
    }

    fn ring(&mut self, node: usize, at: At, whom: &Person) {
        let ticket = whom.ticket(self.nodes[node].now);
        self.ask(node, at, Request::Ring(Ring { ticket, payload: Bytes::from_static(b"hello"), ..Ring::default() }));
    }

    /// The ring that rings at a session, answered.
    fn answer(&mut self, node: usize, at: At) {
        let ring = self.incoming(node, at).pop().unwrap();
        let answer = AnswerRing { ring, payload: Bytes::from_static(b"yes") };
        self.nodes[node].ask(at, Request::AnswerRing(answer));
    }

    fn incoming(&self, node: usize, at: At) -> Vec<Bytes> {
        self.events(node, at, |body| match body {
            Body::IncomingRing(incoming) => Some(incoming.ring.clone()),
            _ => None,
        })
    }

    /// Somebody with a device at each node, and whoever rings them, at the first: their sessions, and how many packages the
    /// caller was handed.
    fn ringing(&mut self) -> ([At; 2], At, usize) {
        let [phone, laptop] = [11, 12].map(|device| Person::with_device(1, device));
        let at = [(0, &phone), (1, &laptop)].map(|(node, device)| self.nodes[node].connect(device, 2));
        self.deposit(0, at[0], b"of the phone");
        self.deposit(1, at[1], b"of the laptop");
        let caller = self.nodes[0].connect(&Person::new(2), 1);
        self.take(0, caller, &phone);
        let packages = match self.answered(0, caller) {
            Some(Body::KeyPackages(packages)) => packages.packages.len(),
            other => panic!("{other:?}"),
        };
        self.ring(0, caller, &phone);
        (at, caller, packages)
    }
}

//
#[test]
fn a_ring_reaches_devices_at_both_nodes_and_of_two_answers_one_counts() {
    let mut pair = Pair::new();
    let (at, caller, packages) = pair.ringing();
    assert_eq!(packages, 2);
    assert!(matches!(pair.answered(0, caller), Some(Body::RingStarted(started)) if started.devices == 2));
    assert_eq!([0, 1].map(|node| pair.incoming(node, at[node]).len()), [1, 1]);
    // Both before anything has passed between the nodes: the home's own comes first.
    pair.answer(1, at[1]);
    pair.answer(0, at[0]);
    pair.settle();
    assert!(matches!(pair.answered(0, at[0]), Some(Body::Done(_))));
    assert_eq!(pair.refused(1, at[1]), Some(RefusalReason::UnknownRing));
    assert_eq!(pair.ended(0, caller).0, [RingResult::Answered]);
    assert_eq!(pair.ended(1, at[1]).1, [RingResult::AnsweredElsewhere]);
}

//
#[test]
fn an_answer_from_another_node_settles_a_ring_for_all() {
    let mut pair = Pair::new();
    let (at, caller, _) = pair.ringing();
    pair.answer(1, at[1]);
    pair.settle();
    assert!(matches!(pair.answered(1, at[1]), Some(Body::Done(_))));
    assert_eq!((pair.ended(0, caller).0, pair.ended(1, at[1]).1), (vec![RingResult::Answered], vec![]));
    assert_eq!(pair.ended(0, at[0]).1, [RingResult::AnsweredElsewhere]);
    let answers = pair.events(0, caller, |body| match body {
        Body::RingOutcome(outcome) => Some((outcome.device.clone(), outcome.payload.clone())),
        _ => None,
    });
    let laptop = Bytes::copy_from_slice(Person::with_device(1, 12).device_key().as_bytes());
    assert_eq!(answers, [(laptop, Bytes::from_static(b"yes"))]);
}

//
#[test]
fn a_ring_over_a_link_that_breaks_is_over_at_both_ends() {
    let mut pair = Pair::new();
    let (at, caller, _) = pair.ringing();
    pair.nodes[0].leave(at[0], true);
    pair.settle();
    assert_eq!(pair.ended(0, caller).0, [], "the other device rings on");
    // Its answer is lost with the link.
    pair.answer(1, at[1]);
    pair.nodes[1].settle();
    pair.nodes[1].posted.clear();
    pair.tell(0, &ControlMail::NodeGone(number(1)));
    pair.tell(1, &ControlMail::NodeGone(number(0)));
    pair.settle();
    assert_eq!((pair.ended(0, caller).0, pair.ended(1, at[1]).1), (vec![RingResult::Gone], vec![RingResult::Gone]));
    assert_eq!(pair.refused(1, at[1]), Some(RefusalReason::UnknownRing));
    assert_eq!([0, 1].map(|node: usize| pair.nodes[node].directory.population().rings), [0, 0]);
}

//
#[test]
fn a_node_that_does_not_answer_is_waited_for_a_second_and_what_it_gives_later_is_given_to_nobody() {
    let (mut pair, phone) = (Pair::new(), Person::with_device(1, 11));
    let at = pair.nodes[1].connect(&phone, 2);
    pair.deposit(1, at, b"only one");
    let caller = pair.nodes[0].connect(&Person::new(2), 1);
    let ticket = phone.ticket(pair.nodes[0].now);
    let take = Request::TakeKeyPackages(TakeKeyPackages { ticket, ..TakeKeyPackages::default() });
    pair.nodes[0].ask(caller, take);
    pair.nodes[0].settle();
    let late = std::mem::take(&mut pair.nodes[0].posted);
    pair.pass(Duration::from_millis(900));
    assert_eq!(pair.answered(0, caller), None);
    pair.pass(Duration::from_millis(200));
    assert_eq!(pair.refused(0, caller), Some(RefusalReason::Offline));
    for (to, letter) in late {
        letter.into_iter().for_each(|mail| pair.nodes[1].put(to.shard.index(), mail));
    }
    pair.settle();
    pair.take(0, caller, &phone);
    assert_eq!(pair.refused(0, caller), Some(RefusalReason::NoKeyPackage));
}

//
#[test]
fn whom_a_device_shuts_out_is_given_nothing_of_the_others() {
    let mut pair = Pair::new();
    let [phone, laptop] = [11, 12].map(|device| Person::with_device(1, device));
    let bob = Person::new(2);
    let [at, other] = [(0, &phone), (1, &laptop)].map(|(node, device)| pair.nodes[node].connect(device, 2));
    pair.deposit(0, at, b"of the phone");
    let blocked = vec![Bytes::copy_from_slice(bob.identity_key().as_bytes())];
    pair.ask(1, other, Request::LimitTickets(LimitTickets { generation: 0, blocked }));
    let caller = pair.nodes[0].connect(&bob, 1);
    pair.take(0, caller, &phone);
    assert_eq!(pair.refused(0, caller), Some(RefusalReason::Offline));
}
