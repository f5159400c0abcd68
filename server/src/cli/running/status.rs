//! `supernode status`

use clap::Args;
use supernode_server::control::status::{Phase, Status as Reading};

use crate::cli::{
    exit::Exit,
    output::{bytes, count, duration, print, print_json},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    state: State,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// A relay that drains is no failure: for whoever asks whether it lives, not whether it is ready.
    #[arg(long)]
    alive: bool,
}

impl Status {
    /// Prints what the running relay is doing.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let reading = Relay::of(&self.state)?.status()?;
        if self.json {
            print_json(&reading)?
        } else {
            print(&table(&reading))?
        }
        match reading.phase {
            Phase::Ready => Ok(()),
            Phase::Draining if self.alive => Ok(()),
            Phase::Draining => Err(Exit::no("the relay is draining: it takes nobody new")),
            Phase::HandingOver if self.alive => Ok(()),
            Phase::HandingOver => Err(Exit::no("the relay hands over to another process")),
        }
    }
}

fn table(reading: &Reading) -> String {
    let objects = &reading.objects;
    let dropped: u64 = objects.dropped.values().sum();
    let mut rows = vec![
        ("relay", format!("{}, supernode {}, process {}", reading.phase.word(), reading.version, reading.pid)),
        ("address", format!("{} (UDP), {} shards", reading.listen, reading.shards)),
        ("up", duration(reading.uptime_s)),
        ("sessions", format!("{} of {} at most", reading.sessions, reading.sessions_max)),
        ("people", format!("{} online or watched, {} rings", reading.people, reading.rings)),
        (
            "calls",
            format!("{} rooms, {} tracks, {} subscriptions", reading.rooms, reading.tracks, reading.subscriptions),
        ),
        (
            "traffic",
            format!(
                "in {} in {} datagrams, out {} in {}",
                bytes(reading.bytes_in),
                count(reading.datagrams_in),
                bytes(reading.bytes_out),
                count(reading.datagrams_out)
            ),
        ),
        (
            "objects",
            format!(
                "{} owed, {} delivered, {} dropped, {} waiting",
                count(objects.offered),
                count(objects.delivered),
                count(dropped),
                count(objects.queued)
            ),
        ),
    ];
    if let Some(tcp) = reading.tcp {
        rows.push(("over TCP", format!("{tcp}, {} connections", count(reading.over_tcp))));
    }
    if reading.of_pages > 0 {
        rows.push(("pages", format!("{} of the sessions", count(reading.of_pages))));
    }
    if let Some(page) = &reading.page {
        rows.push(("page", format!("{} (SHA-256 {})", page.url, page.sha256)));
    }
    if let Some(cluster) = &reading.cluster {
        let nats = if cluster.nats_connected { "connected" } else { "not there" };
        let life = if cluster.life_held { "lives" } else { "does not live" };
        let (name, node, nodes) = (&cluster.name, cluster.node, cluster.nodes.len());
        rows.push(("cluster", format!("{name}, node {node}, {life}; {nodes} nodes seen; NATS {nats}")));
        rows.extend(cluster.trouble.iter().map(|trouble| ("", trouble.what.clone())));
    }
    if let (Some(out), Some(in_), Some(steering)) =
        (reading.segments_out_max, reading.segments_in_max, reading.steering)
    {
        let of_kernel =
            |most: u64, name| if most > 1 { format!("{name} (up to {most})") } else { format!("no {name}") };
        let steering = if steering { "steering" } else { "no steering" };
        rows.push(("kernel", format!("{}, {}, {steering}", of_kernel(out, "GSO"), of_kernel(in_, "GRO"))));
    }
    for (reason, number) in &objects.dropped {
        rows.push(("", format!("dropped as {reason}: {}", count(*number))));
    }
    for (reason, number) in &reading.refused {
        rows.push(("", format!("refused as {reason}: {}", count(*number))));
    }
    rows.iter().map(|(name, value)| format!("{name:<10}{value}\n")).collect()
}
