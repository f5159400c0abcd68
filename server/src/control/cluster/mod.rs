//! This relay as a node of a cluster: what it lives by is decided in NATS ([`supernode_cluster`]), by a thread of its own, and
//! whoever asks is told how that goes. A relay without `[cluster]` has none of this.

mod address;
mod bus;
mod homes;
mod member;
mod seal;
mod secret;
mod trouble;
mod view;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{SignatureScheme, crypto::aws_lc_rs};
use supernode_cluster::{NodeNumber, Own, Whereabouts};
use supernode_cluster_nats::{Access, AccessError, Bucket, BucketError, Login, NAME_BYTES_MAX, Place, RecordKey};
use supernode_proto::{identity::RelayPin, troubles};

pub use self::{
    address::{NatsAddress, NoNatsAddress},
    bus::{Bus, BusReading, Hear, Loss},
    homes::{HomeBook, HomeEars, HomesReading, Told},
    member::{Ears, Membership},
    seal::{SAID_BYTES_MAX, SEALED_MORE_BYTES, Seal, Subject},
    secret::{ClusterSecret, Purpose},
    trouble::Trouble,
    view::{ClusterReading, ClusterStatus, NodeStatus, TroubleTold, View},
};
use super::{certificate::Certificate, config, files};
use crate::{
    core::NodeId,
    shard::{NodeKey, NodeSelf, ToBus, ToHomes},
};

/// The highest number that a node can have.
pub const NODES_MAX: u16 = u16::MAX;
/// For an answer of NATS to what decides: it takes a millisecond where all is well.
const ASK_PATIENCE: Duration = Duration::from_secs(1);
/// The credentials of NATS have about 1 KiB.
const CREDENTIALS_BYTES_MAX: u64 = 64 * 1024;

troubles! {
    /// Why a relay is no node of its cluster.
    pub ClusterError as WORDS:
    Secret { path: PathBuf, reason: String }, "{path}: {reason}",
        "the cluster's secret is one line of 43 characters, the same on all of its nodes, in a file that this user may read",
        "copy the file from another node; for a new cluster make one (supernode cluster secret FILE)";
    WriteSecret { path: PathBuf, source: std::io::Error }, "{path}: the secret cannot be written there",
        "it is there already, its directory is not, or this user may not write there",
        "name a file that is not there yet; nothing was changed";
    Credentials { path: PathBuf, reason: String }, "{path}: {reason}",
        "it is no `.creds` file of NATS and no line USER:PASSWORD, or this user may not read it",
        "put what NATS lets this relay in by into the file that cluster.nats_credentials_file names";
    Nats { servers: String, source: AccessError }, "{servers}: no connection to NATS",
        "it does not run, a firewall is between, its certificate is of nobody whom this machine trusts, or it does not know the password",
        "see whether it runs and what its log says; compare cluster.nats, cluster.nats_ca and cluster.nats_credentials_file with it";
    Bucket { servers: String, source: BucketError }, "{servers}: NATS keeps nothing for this cluster",
        "JetStream is off, this user may not use it, or the cluster's name belongs to another cluster with another secret",
        "switch JetStream on and let this user use it, as docs/OPERATING.md says; compare cluster.name and cluster.secret_file on all nodes";
    Key, "a node signs with the key of its certificate, and this one is not of P-256",
        "tls.certificate and tls.key, or the authority, are of another kind",
        "use a certificate with a key of ECDSA P-256 on all nodes, or the relay's own (tls.mode = \"self-signed\")";
    Thread(#[source] std::io::Error), "cannot start the thread that keeps this node in its cluster",
        "the system refused it: too many threads or too little memory", "raise the limit that the system names (TasksMax= of the unit)";
}

/// Whether a cluster may have this name: NATS shows it.
pub fn is_name(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(may)
}

/// What stands in the files that `[cluster]` names.
#[derive(Debug, Clone)]
pub struct ClusterFiles {
    secret: ClusterSecret,
    login: Login,
}

impl ClusterFiles {
    /// Reads them, if there is a cluster.
    ///
    /// # Errors
    /// [`ClusterError::Secret`] and [`ClusterError::Credentials`].
    pub fn read(config: &config::Config) -> Result<Option<Self>, ClusterError> {
        let cluster = &config.cluster;
        let Some(secret) = cluster.secret_file.as_ref().filter(|_| !cluster.nats.is_empty()) else { return Ok(None) };
        let secret = ClusterSecret::read(secret)?;
        let login = match &cluster.nats_credentials_file {
            None => Login::Nothing,
            Some(path) => {
                let failed = |reason: String| ClusterError::Credentials { path: path.clone(), reason };
                let text = files::read_text(path, CREDENTIALS_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
                Login::of_text(&text).ok_or_else(|| failed("is nothing that NATS lets anybody in by".to_owned()))?
            }
        };
        Ok(Some(Self { secret, login }))
    }
}

/// Who does what a node's shards want of the cluster.
#[derive(Debug, Clone)]
pub struct Agents {
    /// The bus at this node.
    pub bus: Arc<Bus>,
    /// What is wanted and known of the homes of rooms.
    pub homes: Arc<HomeBook>,
}

/// What a node lives by.
#[derive(Debug, Clone)]
pub struct Settings {
    own: Own,
    secret: ClusterSecret,
    place: Place,
    access: Access,
}

impl Settings {
    /// Those of the configuration and its files; `None` if it says nothing of a cluster.
    pub fn of(config: &config::Config, files: Option<ClusterFiles>, pin: RelayPin) -> Option<Self> {
        let (cluster, files) = (&config.cluster, files?);
        let (name, address) = (cluster.name.clone()?, cluster.address?);
        let number = NodeNumber(cluster.node);
        Some(Self {
            own: Own { number, at: Whereabouts { address, pin: pin.0 } },
            access: Access {
                servers: cluster.nats.iter().map(ToString::to_string).collect(),
                login: files.login,
                authority: cluster.nats_ca.clone(),
                name: format!("supernode {name} {}", number.0),
            },
            place: Place {
                cluster: name,
                replicas: cluster.nats_replicas,
                key: RecordKey(files.secret.key(Purpose::Records)),
            },
            secret: files.secret,
        })
    }

    /// Who does what its shards want of the cluster.
    pub fn agents(&self) -> Agents {
        let bus = Bus::new(Seal::new(&self.secret, self.own.number.0), self.node());
        Agents { bus: Arc::new(bus), homes: Arc::new(HomeBook::new(&self.secret)) }
    }

    /// Which node it is.
    pub fn node(&self) -> NodeId {
        NodeId(self.own.number.0)
    }

    /// What subjects of the bus begin with in NATS.
    fn root_of_bus(&self) -> String {
        format!("supernode.{}.bus", self.place.cluster)
    }

    /// The servers, for people.
    fn servers(&self) -> String {
        self.access.servers.join(", ")
    }

    /// Tries NATS once: whether it lets this node in, and keeps what a cluster decides. Nothing is written there.
    ///
    /// # Errors
    /// [`ClusterError::Nats`] and [`ClusterError::Bucket`].
    pub async fn check(&self) -> Result<(), ClusterError> {
        let servers = self.servers();
        let nats = |source| ClusterError::Nats { servers: servers.clone(), source };
        let client = self.access.try_once().await.map_err(nats)?;
        let failed = |source| ClusterError::Bucket { servers: servers.clone(), source };
        let bucket = Bucket::new(client, &self.place, ASK_PATIENCE).map_err(failed)?;
        bucket.look().await.map_err(failed)
    }
}

/// What makes the shards those of a node.
///
/// # Errors
/// [`ClusterError::Key`].
pub fn own_node(settings: &Settings, agents: Agents, certificate: &Certificate) -> Result<NodeSelf, ClusterError> {
    const P256: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    let key = aws_lc_rs::sign::any_supported_type(&certificate.key()).map_err(|_| ClusterError::Key)?;
    let spki = key.public_key().filter(|_| key.choose_scheme(P256).is_some()).ok_or(ClusterError::Key)?.to_vec();
    let sign = move |said: &[u8]| key.choose_scheme(P256)?.sign(said).ok();
    let Agents { bus, homes } = agents;
    Ok(NodeSelf {
        node: settings.node(),
        key: NodeKey::new(spki, sign),
        bus: ToBus(Arc::new(move |errand| bus.handle(errand))),
        homes: ToHomes(Arc::new(move |wish| homes.handle(wish))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_s_name_is_what_nats_can_have_in_a_stream_s() {
        for name in ["a", "Town-2_b", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a.b", "a b", "a>", "ä", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
