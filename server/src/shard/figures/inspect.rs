//! What the operator's commands see and end of one shard's sessions.

use std::net::SocketAddr;

use supernode_proto::identity::{DeviceKey, IdentityKey};

use crate::{
    core::{Network, Now, SessionId, ShardCore, TokenDigest},
    shard::{
        connections::{Connections, connection::Connection},
        tcp,
    },
};

/// A session as its operator can see it. It names people: it goes to the operator's own socket, never into a log.
#[derive(Clone)]
pub struct SessionView {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
    /// Where its packets come from now.
    pub address: SocketAddr,
    /// Whether it is a page's in a browser.
    pub page: bool,
    /// Whether they come over TCP.
    pub over_tcp: bool,
    /// Seconds since it was let in.
    pub age_s: u64,
    /// Round trip as QUIC estimates it, in microseconds.
    pub rtt_us: u64,
    /// Rooms it is in.
    pub rooms: usize,
    /// Tracks it publishes.
    pub tracks: usize,
    /// Tracks it subscribes to.
    pub subscriptions: usize,
    /// The token it was let in with.
    pub token: Option<TokenDigest>,
}

/// Sessions to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// This one.
    Session(SessionId),
    /// All of a person's.
    Identity(IdentityKey),
    /// All of one of their devices.
    Device(DeviceKey),
    /// All that were let in with this token.
    Token(TokenDigest),
    /// All whose packets come from there.
    Network(Network),
}

/// The first `limit` sessions.
pub(crate) fn sessions(connections: &Connections, core: &ShardCore, limit: usize, now: Now) -> Vec<SessionView> {
    let open = connections.iter().filter_map(|(_, connection)| Some((connection, connection.session()?)));
    open.filter_map(|(connection, id)| {
        let session = core.session(id.link)?;
        let (rooms, tracks, subscriptions) = session.counts();
        Some(SessionView {
            id,
            identity: session.identity(),
            device: session.device(),
            address: tcp::plain(connection.quic.remote_address()),
            page: connection.codec.is_page(),
            over_tcp: tcp::is_over_tcp(connection.quic.remote_address()),
            age_s: now.instant.saturating_duration_since(session.since()).as_secs(),
            rtt_us: connection.quic.rtt().as_micros() as u64,
            rooms,
            tracks,
            subscriptions,
            token: session.token(),
        })
    })
    .take(limit)
    .collect()
}

/// The links of those who are meant.
pub(crate) fn meant(whom: Whom, connections: &Connections, core: &ShardCore) -> Vec<u32> {
    let open = connections.iter().filter_map(|(_, connection)| Some((connection, connection.session()?)));
    let is_meant = |connection: &Connection, id: SessionId| {
        core.session(id.link).is_some_and(|known| match whom {
            // Its name says no node: it is a session of this relay's.
            Whom::Session(session) => id == SessionId { at: id.at.beside(session.at.shard), ..session },
            Whom::Identity(identity) => known.identity() == identity,
            Whom::Device(device) => known.device() == device,
            Whom::Token(token) => known.token() == Some(token),
            Whom::Network(network) => network.contains(tcp::plain(connection.quic.remote_address()).ip()),
        })
    };
    open.filter(|(connection, id)| is_meant(connection, *id)).map(|(_, id)| id.link).collect()
}
