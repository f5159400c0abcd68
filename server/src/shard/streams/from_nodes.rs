//! Objects that come from another node, on the shard that has the link: passed to the one that gathers their track.

use std::time::Instant;

use bytes::Bytes;
use supernode_proto::{
    close::StreamCode,
    control::TrackKind,
    object::{StreamHeader, TrackAlias},
};

use super::{Context, PARTS_AT_ONCE, Streams};
use crate::{
    core::{Address, NodeId, StreamKey, node_of, stream::StreamPart},
    shard::{
        connections::connection::Ingress,
        post::inbox::{Letter, MediaMail},
        quic::link_codec::DatagramOut,
    },
};

/// Delivers an object in a datagram that another shard or node has passed on.
pub(crate) fn deliver_datagram(wire: &Bytes, arrived: Instant, cx: &mut Context<'_>) {
    let Context { core, connections, post } = cx;
    let queue_bytes_max = core.limits().queue_bytes_max;
    let out = DatagramOut::new(wire);
    core.deliver_datagram(
        wire,
        arrived,
        |offer, ledger| connections.deliver(&offer, &out, queue_bytes_max, ledger),
        |shard| post.put_media(shard, MediaMail::Datagram { wire: wire.clone(), arrived }),
    );
}

/// A stream on its way to the shard that gathers its track.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) to: Address,
    /// That one's inbox was full: a stream cannot skip.
    is_lost: bool,
}

impl Passing {
    fn pass_on(&mut self, key: StreamKey, part: StreamPart, arrived: Instant, cx: &mut Context<'_>) {
        let begins = part.begins.is_some();
        if !self.is_lost && !cx.post.put_media(self.to, MediaMail::StreamPart { key, part, arrived }) {
            self.is_lost = true;
            cx.post.put_letter(self.to, Letter::StreamAborted(key, StreamCode::OVERLOADED));
        }
        if self.is_lost && begins {
            cx.core.ledger.overflow_of_node();
        }
    }
}

impl Streams {
    /// Forwards bytes of a stream that another node sends; how many whole objects they complete.
    ///
    /// # Errors
    /// The code to stop the stream with.
    pub(crate) fn forward_from_node(
        &mut self,
        node: NodeId,
        ingress: &mut Ingress,
        chunk: Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<u64, StreamCode> {
        let bytes = chunk.len();
        let mut parts = Vec::with_capacity(PARTS_AT_ONCE);
        let opened = ingress.parser.parse(chunk, &mut parts).map_err(|_| StreamCode::MALFORMED)?;
        let mut parts = parts.into_iter();
        if let Some(header) = opened {
            let wire = parts.next().map(|part| part.wire).unwrap_or_default();
            self.open_from_node(node, ingress, header, wire, cx)?;
        }
        let whole = parts.as_slice().iter().filter(|part| part.ends).count() as u64;
        let key = ingress.key;
        for part in parts {
            match self.passing.get_mut(&key) {
                Some(passing) => passing.pass_on(key, part, now, cx),
                None => self.pass_here(key, &part, now, cx),
            }
        }
        if ingress.kind == TrackKind::Data {
            self.hold_until_seen(ingress, bytes, cx);
        }
        Ok(whole)
    }

    /// To the shard that gathers its track: a node speaks for its own tracks, and only of those that are known here.
    fn open_from_node(
        &mut self,
        node: NodeId,
        ingress: &mut Ingress,
        header: StreamHeader,
        wire: Bytes,
        cx: &mut Context<'_>,
    ) -> Result<(), StreamCode> {
        let (alias, key) = (header.hop.alias, ingress.key);
        if node_of(alias) != Some(node) {
            return Err(StreamCode::UNKNOWN_TRACK);
        }
        let to = cx.post.homes().of_track(alias);
        if to == self.at {
            let route = cx.core.route_remote_stream(&header).ok_or(StreamCode::UNSUBSCRIBED)?;
            ingress.kind = route.carries.kind;
            self.open(key, route, &header, &wire, cx);
            return Ok(());
        }
        let known = cx.core.directory().tracks.get(&alias).map(|entry| entry.kind);
        ingress.kind = known.ok_or(StreamCode::UNSUBSCRIBED)?;
        let is_lost = !cx.post.put_media(to, MediaMail::StreamOpen { key, header, wire });
        self.passing.insert(key, Passing { to, is_lost });
        Ok(())
    }

    /// A stream of another node has come to its end.
    pub(crate) fn finish_from_node(&mut self, key: StreamKey, cx: &mut Context<'_>) {
        self.holds.forget(key);
        let Some(Passing { to, is_lost }) = self.passing.remove(&key) else { return self.finish(key, cx) };
        if !is_lost && !cx.post.put_media(to, MediaMail::StreamEnd { key }) {
            cx.post.put_letter(to, Letter::StreamAborted(key, StreamCode::OVERLOADED));
        }
    }

    /// It ends before its last byte.
    pub(crate) fn abort_from_node(&mut self, key: StreamKey, code: StreamCode, cx: &mut Context<'_>) {
        self.holds.forget(key);
        match self.passing.remove(&key) {
            Some(passing) => cx.post.put_letter(passing.to, Letter::StreamAborted(key, code)),
            None => self.abort(key, code, cx),
        }
    }

    /// A node takes no more of a track.
    pub(crate) fn forget_remote(&mut self, alias: TrackAlias, at: Address) {
        for route in self.routes.values_mut().filter(|route| route.alias == alias) {
            route.remote.retain(|other| other.at != at);
        }
    }
}
