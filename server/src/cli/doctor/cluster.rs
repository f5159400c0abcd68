//! The cluster: whether NATS is of use from here, and whether the running relay lives in it.

use supernode_proto::identity::RelayPin;
use supernode_server::control::{
    cluster::{ClusterStatus, Settings},
    config::Config,
    prepared::Prepared,
};

use super::{Finding, bad, failed, good, poor};

/// Whether NATS lets this relay in and keeps what a cluster decides.
pub(super) fn nats(config: &Config, prepared: &Prepared) -> Option<Finding> {
    const CHECK: &str = "NATS";
    // By what others know this relay does not matter for that.
    let node = Settings::of(config, prepared.cluster.clone(), RelayPin([0; 32]))?;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(bad(CHECK, format!("was not tried: {error}"), "see what the system says")),
    };
    let checked = runtime.block_on(node.check());
    // A name that does not resolve may hold this one up.
    runtime.shutdown_background();
    Some(match checked {
        Ok(()) => good(CHECK, "lets this relay in, and JetStream is on"),
        Err(error) => failed(CHECK, &error.into()),
    })
}

/// Whether the running relay lives in its cluster.
pub(super) fn node(cluster: &ClusterStatus) -> Finding {
    const CHECK: &str = "cluster";
    match &cluster.trouble {
        Some(trouble) => bad(CHECK, &trouble.what, &trouble.todo),
        None if !cluster.life_held => poor(CHECK, "this node does not live in it yet", "ask again in a few seconds"),
        None => good(CHECK, format!("this is node {} of {} that live", cluster.node, cluster.nodes.len())),
    }
}
