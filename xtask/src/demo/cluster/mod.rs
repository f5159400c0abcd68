//! `cargo xtask demo --cluster`: three relays as one, a call across two of them and a room across all three, and one of the relays
//! killed in the middle.
//!
//! A is at the first node and calls B at the second. C, D and E are in a room, each at another node. The third node dies, and E
//! with it comes back at another one.

mod nodes;
mod report;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use supernode_proto::identity::IdentityKey;

use super::{
    CALL_TIMEOUT, Directory, HANG_UP_TIMEOUT, Interrupted, Options, Outcome, Person, Process, STOP_TIMEOUT, Stage,
    a_call,
    blindness::{Blindness, Place, Text},
    canaries::{self, Word},
    during::Load,
    memory::Memory,
    metrics::Metrics,
    report::Side,
    room::{self, RoomSide},
    settled, sockets, tell,
};
use nodes::{Nats, Node};
use report::ClusterReport;

/// The shortest talk in which somebody whose node was killed is heard again for a while.
pub(super) const SECONDS_MIN: u64 = 10;
/// How long media has flowed when the node is killed.
const BEFORE_THE_KILL: Duration = Duration::from_secs(2);
/// What people may take until media flows between all of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// At which node each of the room begins; the last one's is killed.
const ROOM_AT: [usize; 3] = [0, 1, 2];
/// Audio and video, both ways in the call, and of each to each other in the room.
const SUBSCRIPTIONS: f64 = 4.0 + 2.0 * 6.0;

/// Builds, lets them talk, prints what happened.
///
/// # Errors
/// If anything failed or did not hold.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    println!("Building the relay and the client ({})", options.programs.build().shown());
    let programs = &options.programs.built()?;
    let interrupted = Interrupted::listen()?;
    let directory = Directory::new()?;
    let nats = Nats::start(&directory, &interrupted)?;
    let mut nodes = nodes::start(programs, &directory, &nats, &interrupted)?;
    for Node { number, address, ready, .. } in &nodes {
        println!("node {number} | listens at {address}, metrics at http://{}/metrics", ready.admin);
    }
    let held = hold(programs, &directory, options, &nats, &mut nodes, &interrupted);
    let (mut report, evidence) = held.inspect_err(|_| {
        for node in &nodes {
            println!("The log of node {}:\n{}", node.number, fs::read_to_string(&node.log).unwrap_or_default());
        }
    })?;
    for node in &mut nodes {
        if let Some(process) = node.process.take() {
            process.terminate(STOP_TIMEOUT, &interrupted).context("a node did not drain and stop")?;
        }
    }
    report.shown().blindness = evidence.judge(&nodes)?;
    println!("\nThe call and the room of {} s across {} nodes\n{}", options.seconds, nodes.len(), report.text());
    println!("\nNothing is left running.");
    tell(&report, options.json)
}

/// What relays and NATS held.
struct Evidence {
    canaries: Vec<Word>,
    /// By their names, at which node and from which ports.
    people: Vec<(String, IdentityKey, usize, Vec<u16>)>,
    during: Vec<Memory>,
    after: Vec<Memory>,
    metrics: Vec<String>,
    nats: [Memory; 2],
}

fn hold(
    programs: &Path,
    directory: &Directory,
    options: &Options,
    nats: &Nats,
    nodes: &mut [Node],
    interrupted: &Interrupted,
) -> anyhow::Result<(ClusterReport, Evidence)> {
    let first = nodes.first().context("there are nodes")?;
    let relay = first.process.as_ref().context("it runs")?;
    let stage = Stage { programs, directory, options, relay, ready: &first.ready, interrupted };
    for node in nodes.iter() {
        fs::write(invite_of(directory, node.number), &node.ready.invite)?;
    }
    // The call.
    let (a_file, b_file) = (directory.text("a.identity"), directory.text("b.identity"));
    let a_key = stage.quick(&["identity", "--out", &a_file, "--name", "A"])?;
    let b_key = stage.quick(&["identity", "--out", &b_file, "--name", "B"])?;
    let ticket = stage.quick(&["ticket", "--identity", &b_file, "--for", a_key.trim()])?;
    fs::write(directory.path("ticket"), ticket)?;
    let (a, b) = (Person::new(directory, "a", a_file)?, Person::new(directory, "b", b_file)?);
    let seconds = options.seconds.to_string();
    let listen = &mut a_call(&stage.program(), "listen", &invite_of(directory, 2), &b);
    let call = &mut a_call(&stage.program(), "call", &invite_of(directory, 1), &a);
    call.args(["--ticket-file", &directory.text("ticket"), "--seconds", &seconds]);
    // The room.
    let members: Vec<room::Person> =
        (2..5).map(|index| room::Person::new(&stage, index, true)).collect::<Result<_, _>>()?;
    let link = directory.path("room");
    let enter = |at: usize, verb| {
        room::start(&stage, &members[at], verb, &invite_of(directory, ROOM_AT[at] + 1), &link, members.len())
    };
    let mut processes = vec![enter(0, "create")?];
    room::wait_for_link(&mut processes[0], &link, interrupted)?;
    for at in 1..members.len() {
        processes.push(enter(at, "join")?);
    }
    processes.push(Process::start("B", "B     | ", listen)?);
    processes.push(Process::start("A", "A     | ", call)?);

    wait_for_media(nodes, &mut processes, interrupted)?;
    let started = Instant::now();
    interrupted.wait_until(started + BEFORE_THE_KILL)?;
    let ports: Vec<Vec<u16>> =
        processes.iter().map(|person| sockets::udp_ports(person.id())).collect::<Result<_, _>>()?;
    let during: Vec<Memory> = nodes.iter().map(|node| Memory::of_process(node.id()?)).collect::<Result<_, _>>()?;
    let metrics: Vec<Metrics> = nodes.iter().map(|node| Metrics::fetch(node.ready.admin)).collect::<Result<_, _>>()?;
    let measured_from = Instant::now();
    let (dead, living) = nodes.split_last_mut().context("there are nodes")?;
    println!("node {} | is killed", dead.number);
    dead.kill();
    interrupted.wait_until(started + Duration::from_secs(options.seconds) - Duration::from_millis(500))?;
    let measured = measured_from.elapsed();
    let load = living.iter().zip(&metrics).try_fold(Load::default(), |sum, (node, before)| {
        anyhow::Ok(sum.and(Load::between(before, &Metrics::fetch(node.ready.admin)?, measured)?))
    })?;
    let nats_holds = nats.holds()?;

    let mut said: Vec<String> = Vec::new();
    // The caller hangs up, and then the others of the call do.
    let timeout = CALL_TIMEOUT + Duration::from_secs(options.seconds);
    let caller = processes.pop().context("A")?.finish(timeout, interrupted)?;
    let listener = processes.pop().context("B")?.finish(HANG_UP_TIMEOUT, interrupted)?;
    for process in processes {
        said.push(process.finish(timeout, interrupted)?);
    }
    let call = [Side::parse("A", &caller)?, Side::parse("B", &listener)?];
    let of_room: Vec<RoomSide> = members
        .iter()
        .zip(&said)
        .map(|(member, said)| RoomSide::parse(member.name(), said))
        .collect::<Result<_, _>>()?;
    let after: Vec<Metrics> =
        living.iter().map(|node| settled(node.ready.admin, interrupted)).collect::<Result<_, _>>()?;
    let memory_after = living.iter().map(|node| Memory::of_process(node.id()?)).collect::<Result<_, _>>()?;

    let mut canaries = canaries::of_safety_number(&call[0].safety_number);
    canaries.extend(canaries::of_safety_number(&of_room[0].side.safety_number));
    for (name, person) in [("A", &a), ("B", &b)] {
        canaries.extend(canaries::of_identity(name, &person.identity)?);
        canaries.extend(canaries::of_audio(&person.audio, options.seconds)?);
        canaries.extend(canaries::of_video(&person.video, options.seconds)?);
    }
    for member in &members {
        canaries.extend(member.canaries(options.seconds)?);
    }
    let mut people: Vec<_> =
        members.iter().zip(ROOM_AT).map(|(member, at)| (member.name().to_owned(), member.key(), at)).collect();
    people.push(("B".to_owned(), IdentityKey::from_text(b_key.trim())?, 1));
    people.push(("A".to_owned(), IdentityKey::from_text(a_key.trim())?, 0));
    let people = people.into_iter().zip(ports).map(|((name, key, at), ports)| (name, key, at, ports)).collect();
    let evidence = Evidence {
        canaries: canaries::without_repeats(canaries),
        people,
        during,
        after: memory_after,
        metrics: metrics.iter().map(|metrics| metrics.text().to_owned()).collect(),
        nats: nats_holds,
    };
    let report = ClusterReport::new(options.seconds, nodes.len(), (call, &a, &b), (&members, of_room), &after, load)?;
    Ok((report, evidence))
}

fn invite_of(directory: &Directory, node: usize) -> std::path::PathBuf {
    directory.path(&format!("invite-{node}"))
}

/// Until everybody has all that there is for them.
fn wait_for_media(nodes: &[Node], people: &mut [Process], interrupted: &Interrupted) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let (mut subscriptions, mut forwarding) = (0.0, true);
        for node in nodes {
            let metrics = Metrics::fetch(node.ready.admin)?;
            subscriptions += metrics.sum("supernode_subscriptions")?;
            forwarding &= metrics.sum("supernode_datagrams_forwarded_total")? > 0.0;
        }
        if subscriptions >= SUBSCRIPTIONS && forwarding {
            return Ok(());
        }
        for person in &mut *people {
            if let Some(status) = person.ended()? {
                bail!("{} ended with {status} before media flowed between all", person.name());
            }
        }
        if started.elapsed() > CONNECT_TIMEOUT {
            bail!(
                "{subscriptions} of {SUBSCRIPTIONS} subscriptions after {} s, media at every node: {forwarding}",
                CONNECT_TIMEOUT.as_secs()
            );
        }
        interrupted.pause()?;
    }
}

impl Evidence {
    /// Searches all of it, and what the nodes wrote. NATS must not have anybody's identity either.
    fn judge(self, nodes: &[Node]) -> anyhow::Result<Blindness> {
        let invite = nodes.first().map(|node| node.ready.invite.clone()).unwrap_or_default();
        let named: Vec<Word> =
            self.people.iter().flat_map(|(name, key, _, ports)| canaries::names(name, key, ports)).collect();
        let at_node = |at: usize| -> anyhow::Result<Vec<Word>> {
            let here: Vec<(&str, IdentityKey)> = self
                .people
                .iter()
                .filter(|(.., node, _)| *node == at)
                .map(|(name, key, ..)| (name.as_str(), *key))
                .collect();
            canaries::controls(&invite, &here)
        };
        let mut places = Vec::new();
        for (at, memory) in self.during.into_iter().enumerate() {
            places.push(Place { name: DURING[at.min(2)], memory, controls: at_node(at)? });
        }
        let pin = at_node(usize::MAX)?;
        for (at, memory) in self.after.into_iter().enumerate() {
            places.push(Place { name: AFTER[at.min(1)], memory, controls: pin.clone() });
        }
        let mut texts = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let control = node.address.to_string();
            let stdout = fs::read_to_string(&node.stdout)?.replace(&node.ready.invite, "");
            texts.push(Text { name: "a node's standard output", text: stdout, control: control.clone() });
            texts.push(Text { name: "a node's log", text: fs::read_to_string(&node.log)?, control });
            let metrics = self.metrics.get(at).cloned().unwrap_or_default();
            texts.push(Text {
                name: "a node's metrics",
                text: metrics,
                control: "supernode_cluster_nodes 3".to_owned(),
            });
        }
        let relays = Blindness::new(&self.canaries, &places, &texts, &named, &[])?;
        let identities =
            self.people.iter().map(|(name, key, ..)| Word::new(format!("{name}'s identity key"), key.as_bytes()));
        let hidden: Vec<Word> = self.canaries.iter().cloned().chain(identities).collect();
        let [memory, files] = self.nats;
        let control = || vec![Word::new("the cluster's name", nodes::NAME)];
        let held = [
            Place { name: "NATS's memory", memory, controls: control() },
            Place { name: "NATS's files", memory: files, controls: control() },
        ];
        Ok(relays.and(Blindness::new(&hidden, &held, &[], &[], &[])?))
    }
}

const DURING: [&str; 3] = ["node 1's memory", "node 2's memory", "node 3's memory"];
const AFTER: [&str; 2] = ["node 1's memory after the call", "node 2's memory after the call"];
