//! The smallest machine that OPERATING's Sizing names: every row of its memory table is driven to its bound, one after the
//! other, and none is given back.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use quinn_proto::crypto::ClientConfig;
use rustix::process::{Resource, getrlimit, setrlimit};
use supernode_proto::{
    control::{CatchUp, DepositKeyPackages, TrackKind, client_message::Body as Request, relay_message::Body},
    object::{Flags, Layer, STREAM_OBJECT_HEADER_BYTES_MAX, StreamObjectHeader, TrackAlias},
};

use super::{
    Attack, Outcome, Report, Run, Target,
    admitted::stream_header,
    operator::{metric, metrics},
    unadmitted,
};
use crate::{
    client::{Client, Dialled, Person, Room, dial_from, endpoint},
    odd_tls::{Dial, Oddity, odd},
    relay::{Setting, rss_bytes},
    runtime::block_on,
    tls,
};

/// Memory of that machine which the relay may have.
pub(crate) const SMALLEST_MACHINE_BYTES: u64 = 512 * 1024 * 1024;
const HANDBOOK: &str = include_str!("../../../docs/OPERATING.md");
const MIB: f64 = 1024.0 * 1024.0;

/// Sessions that give their place back once there was none left, for those who come meanwhile.
const FOR_NEWCOMERS: usize = 100;
/// Addresses that the attackers come from.
const NETWORKS: usize = 64;
/// Sessions that begin at once.
const AT_ONCE: usize = 16;
/// Sessions that leave the first byte of a stream out, and that publish pictures.
const HOLDERS: usize = 40;
const PUBLISHERS: usize = 80;
/// Sessions that take nothing of what they are sent: objects, and control messages.
const DEAF: usize = 120;
/// What a step must reach of its row's bytes to have shown anything: allocations are rounded, and shares leave a part free.
const REACHED_MIN: f64 = 0.4;
/// What it may come to, by an allocator that rounds sizes up.
const ROUNDED_MAX: f64 = 1.5;
/// The part of a session's bytes that is always there for it in the tables: 16 KiB of 70.
const FLOOR_PART: f64 = 70.0 / 16.0;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        name: "smallest-machine",
        what: "in a control group of the smallest machine's memory: every row of the memory table that clients can fill is \
               driven to its bound, one after the other, and none is given back",
        quick: true,
        setting: Setting { only_small: true, ..Setting::PLAIN },
        run: Run::Rust(fill),
        // It ends when all is full.
        seconds_min: 60.0,
        rate_min: 0.0,
        judge,
    }]
}

/// A row of the table by how it begins, what fills it, and by which name the results have it.
struct Row {
    begins: &'static str,
    filled_by: FilledBy,
}

enum FilledBy {
    /// A step of this attack, whose bytes are compared with the row's. Some can only be filled together with others.
    Step(&'static str),
    /// Something else, and what.
    Other(#[allow(dead_code, reason = "for whoever reads the table")] &'static str),
}
use FilledBy::{Other, Step};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { begins: "the program", filled_by: Other("it is there before") },
    Row { begins: "threads, receive buffers", filled_by: Other("all floods; `full-rooms`") },
    Row { begins: "objects and letters", filled_by: Other("there is one shard; `full-rooms` has two") },
    Row { begins: "networks with a handshake", filled_by: Other("`many-networks`") },
    Row { begins: "connections that are not let in", filled_by: Step("newcomers") },
    Row { begins: "connections to the TCP port", filled_by: Other("off unless configured; `server/tests/relay/tcp.rs` fills it") },
    Row { begins: "sessions", filled_by: Step("sessions") },
    Row { begins: "watches, subscriptions", filled_by: Step("tables") },
    Row { begins: "streams and control messages in flight", filled_by: Step("windows") },
    Row { begins: "what QUIC keeps beside these", filled_by: Other("`gaps`") },
    Row { begins: "control messages that wait", filled_by: Step("control") },
    Row { begins: "objects that wait", filled_by: Step("queues") },
    Row { begins: "newest groups", filled_by: Step("cache") },
    Row { begins: "rooms", filled_by: Step("rooms") },
    Row { begins: "mailboxes", filled_by: Step("mailboxes") },
    Row { begins: "what identities without a session", filled_by: Other("`many-identities`") },
    Row { begins: "where people can be woken", filled_by: Other("off unless configured; `places-to-be-woken`") },
    Row { begins: "who is to be woken", filled_by: Other("off unless configured; `places-to-be-woken`") },
    Row { begins: "the page and connections", filled_by: Other("off unless configured; `server/tests/control_serve` fills its places") },
    Row { begins: "admin port", filled_by: Other("`idle-admin-connections`") },
];

/// The handbook's table: what, and MiB.
fn table() -> Vec<(&'static str, f64)> {
    let (_, rest) = HANDBOOK.split_once("<!-- memory:").unwrap_or_default();
    let (table, _) = rest.split_once("<!-- end of memory -->").unwrap_or_default();
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let rows = table.lines().map(cells).filter(|cells| cells.len() == 7);
    rows.filter_map(|cells| Some((cells[1], cells[4].parse().ok()?))).collect()
}

/// What the table promises for a step.
fn promised_mib(step: &str) -> Option<f64> {
    let row = ROWS.iter().find(|row| matches!(row.filled_by, Step(name) if name == step))?;
    in_the_handbook_mib(row.begins)
}

/// What the table has in the row that begins so.
pub(super) fn in_the_handbook_mib(begins: &str) -> Option<f64> {
    table().into_iter().find(|(what, _)| what.starts_with(begins)).map(|(_, mib)| mib)
}

fn judge(outcome: &Outcome) -> Result<(), String> {
    let steps = ROWS.iter().filter_map(|row| if let Step(step) = row.filled_by { Some(step) } else { None });
    let (mut promised_sum, mut held_sum) = (0.0, 0.0);
    for step in steps {
        let promised = promised_mib(step).ok_or_else(|| format!("{step} is not in the handbook"))?;
        let held = outcome.found(&format!("{step}_mb"))?;
        (promised_sum, held_sum) = (promised_sum + promised, held_sum + held);
        outcome.at_least(&format!("{step}_full"), 1.0)?;
        // What everybody may always keep of the tables is in the sessions' row, and so are their windows, which few fill.
        let floors = if step == "tables" { promised_mib("sessions").unwrap_or(0.0) / FLOOR_PART } else { 0.0 };
        if held > (promised + floors) * ROUNDED_MAX {
            return Err(format!("{step} took {held:.1} MiB, and the table has {promised}"));
        }
        // A room is mostly its messages, which are counted by themselves; who is not let in does not its worst here; and
        // queues above their bound are given up before they are looked at.
        if held < promised * REACHED_MIN && !["rooms", "sessions", "newcomers", "queues"].contains(&step) {
            return Err(format!("{step} took {held:.1} MiB, and the table has {promised}: that shows nothing"));
        }
    }
    if held_sum > promised_sum {
        return Err(format!("all rows took {held_sum:.0} MiB, and the table has {promised_sum:.0}"));
    }
    outcome.at_most("sessions_lost", 0.0)
}

/// Who fills the relay.
struct Crowd<'a> {
    target: &'a Target,
    endpoints: Vec<quinn::Endpoint>,
    report: Report,
    people: Vec<Client>,
    rooms: Vec<Room>,
    /// What only keeps something in the relay by being there.
    kept: Vec<Box<dyn std::any::Any>>,
}

fn fill(target: &Target) -> anyhow::Result<Report> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let filled = block_on(fill_all(target));
    if filled.is_err() {
        // Why the relay ended whom it ended.
        let metrics = metrics(target)?;
        let closed = metrics.lines().filter(|line| line.starts_with("supernode_sessions_closed_total"));
        closed.filter(|line| !line.ends_with(" 0")).for_each(|line| eprintln!("    {line}"));
    }
    filled
}

async fn fill_all(target: &Target) -> anyhow::Result<Report> {
    let endpoints = (0..NETWORKS)
        .map(|network| endpoint(Ipv4Addr::new(127, 3, 0, 1 + network as u8)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let report = Report::of("rows");
    let mut crowd = Crowd { target, endpoints, report, people: Vec::new(), rooms: Vec::new(), kept: Vec::new() };
    let odd = crowd.holders().await.context("those who hold windows")?;
    let deaf = crowd.deaf().await.context("those who take nothing")?;
    let before = rss_bytes(target.pid);
    crowd.sessions().await.context("sessions")?;
    crowd.step_done("sessions", before)?;
    let before = rss_bytes(target.pid);
    crowd.rooms().await.context("rooms")?;
    crowd.step_done("rooms", before)?;
    let before = rss_bytes(target.pid);
    crowd.tables().await.context("tables")?;
    crowd.step_done("tables", before)?;
    let before = rss_bytes(target.pid);
    crowd.mailboxes().await.context("mailboxes")?;
    crowd.step_done("mailboxes", before)?;
    let before = rss_bytes(target.pid);
    crowd.windows(odd).await.context("windows")?;
    crowd.step_done("windows", before)?;
    let before = rss_bytes(target.pid);
    crowd.cache().await.context("newest groups")?;
    crowd.step_done("cache", before)?;
    let before = rss_bytes(target.pid);
    let (listeners, readers) = deaf;
    crowd.control(readers).await.context("control messages")?;
    crowd.step_done("control", before)?;
    let before = rss_bytes(target.pid);
    crowd.queues(listeners).await.context("queues")?;
    crowd.step_done("queues", before)?;
    let before = rss_bytes(target.pid);
    let part = Target { seconds: 3.0, ..target.clone() };
    let newcomers = std::thread::spawn(move || unadmitted::first_byte_left_out_by(&part, 2_000));
    tokio::time::sleep(Duration::from_secs_f64(2.5)).await;
    crowd.step_done("newcomers", before)?;
    drop(newcomers.join());
    let lost = crowd.people.iter().filter(|person| person.connection.close_reason().is_some()).count();
    crowd.report.found("sessions_lost", lost as f64);
    crowd.report.found("sessions", crowd.people.len() as f64);
    for endpoint in &crowd.endpoints {
        endpoint.close(0u8.into(), b"");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(crowd.report)
}

impl Crowd<'_> {
    /// Notes what a step took, and whether its bound has bitten.
    fn step_done(&mut self, step: &str, before: u64) -> anyhow::Result<()> {
        let took = (rss_bytes(self.target.pid) as f64 - before as f64) / MIB;
        // What limits turned away is published once a second.
        std::thread::sleep(Duration::from_millis(1_200));
        let metrics = metrics(self.target)?;
        let hits = |limit: &str| metric(&metrics, &format!("supernode_limit_hits_total{{limit=\"{limit}\"}}"));
        let share = |gauge: &str| anyhow::Ok(metric(&metrics, gauge)? / MIB / promised_mib(step).context("a row")?);
        let is_full = match step {
            "sessions" => hits("sessions_max")? > 0.0,
            "rooms" => hits("relay_rooms_max")? > 0.0,
            "tables" => hits("relay_tables_bytes_max")? > 0.0,
            "mailboxes" => hits("mailboxes_bytes_max")? > 0.0,
            "cache" => share("supernode_group_cache_bytes")? > 0.8,
            // Above their bound they are given up again.
            "queues" => hits("relay_queue_bytes_max")? > 0.0 || share("supernode_queues_bytes")? > 0.3,
            // These have no count but the bytes themselves.
            "windows" | "control" | "newcomers" => true,
            _ => anyhow::bail!("{step}: how is seen that it is full?"),
        };
        eprintln!("    {step}: {took:.1} MiB of {:.1}", promised_mib(step).unwrap_or(0.0));
        self.report.count += 1;
        self.report.found(&format!("{step}_mb"), took);
        self.report.found(&format!("{step}_full"), f64::from(u8::from(is_full)));
        Ok(())
    }

    async fn connect(
        &mut self,
        number: usize,
        tls: Arc<dyn ClientConfig>,
        window: Option<u32>,
    ) -> anyhow::Result<Client> {
        let door = self.target.door()?;
        let endpoint = endpoint(Ipv4Addr::new(127, 3, 1, 1 + (number % NETWORKS) as u8))?;
        self.endpoints.push(endpoint.clone());
        let connection = dial_from(&endpoint, &door, tls, window).await?;
        Client::greet(&door, Dialled { endpoint, connection }, Person::new()).await
    }

    async fn holders(&mut self) -> anyhow::Result<Vec<(Client, Dial)>> {
        let mut holders = Vec::new();
        for number in 0..HOLDERS {
            let (tls, dial) = odd()?;
            holders.push((self.connect(number, tls, None).await?, dial));
        }
        Ok(holders)
    }

    /// Those who will take no objects, and those who will take no control messages.
    async fn deaf(&mut self) -> anyhow::Result<(Vec<Client>, Vec<Client>)> {
        let mut deaf = Vec::new();
        for number in 0..2 * DEAF {
            deaf.push(self.connect(number, Arc::new(tls::client()?), Some(32 * 1024)).await?);
        }
        let readers = deaf.split_off(DEAF);
        Ok((deaf, readers))
    }

    /// Until nobody more is let in.
    async fn sessions(&mut self) -> anyhow::Result<()> {
        let mut refused = 0;
        while refused < AT_ONCE {
            let door = self.target.door()?;
            let mut coming = tokio::task::JoinSet::new();
            for number in 0..AT_ONCE {
                let endpoint = self.endpoints[(self.people.len() + number) % NETWORKS].clone();
                let (door, tls) = (door.clone(), Arc::new(tls::client()?));
                coming.spawn(async move {
                    let connection = dial_from(&endpoint, &door, tls, None).await?;
                    Client::greet(&door, Dialled { endpoint, connection }, Person::new()).await
                });
            }
            while let Some(client) = coming.join_next().await {
                match client? {
                    Ok(client) => self.people.push(client),
                    Err(_) => refused += 1,
                }
            }
        }
        let stay = self.people.len().saturating_sub(FOR_NEWCOMERS);
        for person in self.people.drain(stay..) {
            person.connection.close(0u8.into(), b"");
        }
        Ok(())
    }

    async fn rooms(&mut self) -> anyhow::Result<()> {
        for person in &mut self.people {
            let room = Room::new();
            if person.join(&room).await.is_err() {
                return Ok(());
            }
            self.rooms.push(room);
        }
        anyhow::bail!("{} rooms, and no bound", self.rooms.len())
    }

    /// Key packages, of which each takes 4 KiB: some keep all they may, and then everybody what is always there.
    async fn tables(&mut self) -> anyhow::Result<()> {
        let package = || Bytes::from(vec![7; 4_000]);
        for (number, person) in self.people.iter_mut().enumerate() {
            let counts: &[usize] = if number < 350 { &[2, 12, 12, 6] } else { &[2] };
            for count in counts {
                let packages = (0..*count).map(|_| package()).collect();
                person.ask(Request::DepositKeyPackages(DepositKeyPackages { packages, ..Default::default() })).await?;
            }
        }
        Ok(())
    }

    /// Each room's as far as it may be, in messages small enough to fill what is left.
    async fn mailboxes(&mut self) -> anyhow::Result<()> {
        for (person, room) in self.people.iter_mut().zip(&self.rooms) {
            for _ in 0..4 {
                person.ask(Request::SendMls(room.message(&[0x55; 24 * 1024]))).await?;
            }
        }
        Ok(())
    }

    /// Streams without their first byte, as long as the relay lets them be.
    async fn windows(&mut self, holders: Vec<(Client, Dial)>) -> anyhow::Result<()> {
        let content = vec![0; 4 * 1024 * 1024];
        for (number, (mut client, dial)) in holders.into_iter().enumerate() {
            client.join(&self.rooms[number]).await?;
            client.publish(&self.rooms[number], TrackKind::Video).await?;
            let mut streams = Vec::new();
            for part in content.chunks(1024 * 1024) {
                // What takes longer is held by the relay: it has as much as it lets be.
                let within = Duration::from_millis(60);
                let Ok(stream) = tokio::time::timeout(within, client.connection.open_uni()).await else { break };
                let mut stream = stream?;
                dial.set(Oddity::Blank);
                let first = tokio::time::timeout(within, stream.write_all(&part[..1])).await;
                tokio::time::sleep(Duration::from_millis(3)).await;
                dial.set(Oddity::None);
                let rest = tokio::time::timeout(within, stream.write_all(&part[1..])).await;
                streams.push(stream);
                if first.is_err() || rest.is_err() {
                    break;
                }
            }
            self.kept.push(Box::new((client, streams)));
        }
        Ok(())
    }

    /// Pictures that nobody looks at.
    async fn cache(&mut self) -> anyhow::Result<()> {
        for place in 0..PUBLISHERS {
            let person = &mut self.people[place];
            let alias = person.publish(&self.rooms[place], TrackKind::Video).await?;
            let mut stream = person.connection.open_uni().await?;
            stream.write_all(&stream_header(alias, 1)).await?;
            stream.write_all(&object(500_000)).await?;
            stream.finish()?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Histories that are asked for and not read.
    async fn control(&mut self, readers: Vec<Client>) -> anyhow::Result<()> {
        let mut readers = readers.into_iter().enumerate().collect::<Vec<_>>();
        for (place, reader) in &mut readers {
            let room = &self.rooms[*place % 60];
            reader.join(room).await?;
            for _ in 0..6 {
                let wanted = CatchUp { room: room.name(), after_sequence: 0 };
                if reader.send(1, Request::CatchUp(wanted)).await.is_err() {
                    break; // the relay has had enough of it
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.kept.push(Box::new(readers));
        Ok(())
    }

    /// Data for those who take none, each from somebody else.
    async fn queues(&mut self, listeners: Vec<Client>) -> anyhow::Result<()> {
        let mut sending = tokio::task::JoinSet::new();
        let content = Bytes::from(object(900_000));
        for (place, mut listener) in listeners.into_iter().enumerate() {
            let (place, end) = (PUBLISHERS + place, Instant::now() + Duration::from_secs(6));
            let room = &self.rooms[place];
            listener.join(room).await?;
            let alias: TrackAlias = self.people[place].publish(room, TrackKind::Data).await?;
            if !matches!(listener.ask(Request::Subscribe(all_of(alias))).await?, Body::Done(_)) {
                continue; // its tables are full
            }
            let (connection, content) = (self.people[place].connection.clone(), content.clone());
            sending.spawn(async move {
                let mut stream = connection.open_uni().await?;
                stream.write_all(&stream_header(alias, 1)).await?;
                let _ = tokio::time::timeout_at(end.into(), stream.write_all(&content)).await;
                anyhow::Ok(stream)
            });
            self.kept.push(Box::new(listener));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.kept.push(Box::new(sending));
        Ok(())
    }
}

fn all_of(alias: TrackAlias) -> supernode_proto::control::Subscribe {
    supernode_proto::control::Subscribe {
        alias: alias.value(),
        temporal_layer_max: 7,
        spatial_layer_max: 7,
        ..Default::default()
    }
}

/// An object of so many bytes, as on a stream.
fn object(length: u32) -> Vec<u8> {
    let header = StreamObjectHeader { object: 0, flags: Flags::INDEPENDENT, layer: Layer::default(), length };
    let mut bytes = [0; STREAM_OBJECT_HEADER_BYTES_MAX];
    let len = header.encode(&mut bytes);
    [&bytes[..len], &vec![0x55; length as usize]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_handbook_s_table_is_filled_by_something() {
        let table = table();
        let rows: Vec<_> = table.iter().filter(|(what, _)| *what != "all of it").collect();
        assert_eq!(rows.len(), ROWS.len(), "{rows:?}");
        for ((what, mib), row) in rows.iter().zip(ROWS) {
            assert!(what.starts_with(row.begins) && *mib > 0.0, "{what} is not filled by what fills {}", row.begins);
        }
    }
}
