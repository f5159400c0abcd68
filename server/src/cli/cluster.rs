//! `supernode cluster`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use supernode_server::control::cluster::{ClusterSecret, ClusterStatus};

use super::{
    exit::Exit,
    output::{count, duration, print, print_json, say},
    relay::Relay,
    state::State,
};

/// Of a pin, as many characters as tell nodes apart.
const PIN_CHARS: usize = 16;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    state: State,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Make the secret of a new cluster: a file for its owner only, to be copied to each of its nodes.
    Secret(Secret),
}

#[derive(Args)]
struct Secret {
    /// Where to write it; nothing may be there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Cluster {
    /// Prints who is in the cluster, or makes a secret.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let Some(What::Secret(Secret { file })) = &self.what {
            ClusterSecret::new().write_new(file)?;
            say(&format!("{}: the secret of a new cluster; copy it to each of its nodes, unseen", file.display()));
            return Ok(());
        }
        let Some(cluster) = Relay::of(&self.state)?.status()?.cluster else {
            return Err(Exit::no("this relay is alone: its configuration has no cluster.nats"));
        };
        match self.json {
            true => print_json(&cluster)?,
            false => print(&table(&cluster))?,
        }
        match &cluster.trouble {
            Some(trouble) => Err(Exit::no(format!("{}\n  -> {}", trouble.what, trouble.todo))),
            None if !cluster.life_held => Err(Exit::no("this node does not live in its cluster yet")),
            None => Ok(()),
        }
    }
}

fn table(cluster: &ClusterStatus) -> String {
    let nats = match (cluster.nats_connected, cluster.nats_connects) {
        (true, 0 | 1) => "connected".to_owned(),
        (true, 2) => "connected, after it was gone once".to_owned(),
        (true, times) => format!("connected, after it was gone {} times", times - 1),
        (false, _) => "not there".to_owned(),
    };
    let life = if cluster.life_held { "held" } else { "not held: to the others this node is gone" };
    let mut text = format!(
        "cluster   {}, this is node {} at {}\nNATS      {nats}\nlife      {life}\nhomes     {} rooms here, of {} with somebody of this node; {} wait for one, {} got another\nbus       {} said, {} heard, {} lost\n\n",
        cluster.name,
        cluster.node,
        cluster.address,
        count(cluster.homes),
        count(cluster.rooms_wanted),
        count(cluster.rooms_waiting),
        count(cluster.homes_moved),
        count(cluster.bus_said),
        count(cluster.bus_heard),
        count(cluster.bus_lost.values().sum())
    );
    let width = cluster.nodes.iter().map(|node| node.address.to_string().len()).max().unwrap_or(0).max(7);
    text.push_str(&format!("NODE   {:width$}  {:PIN_CHARS$}  SEEN FOR\n", "ADDRESS", "PIN"));
    for node in &cluster.nodes {
        let pin: String = node.pin.chars().take(PIN_CHARS).collect();
        let here = if node.here { ", this one" } else { "" };
        text.push_str(&format!(
            "{:<6} {:width$}  {pin}  {}{here}\n",
            node.node,
            node.address.to_string(),
            duration(node.seen_s)
        ));
    }
    text
}
