//! Media on the links: from the post to whom it is for, and what was counted.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, Dir, VarInt};
use supernode_proto::{
    close::{CloseCode, StreamCode},
    cluster::NodeReceived,
    control::{TrackKind, frame},
    object::{DatagramHeader, Layer, TrackAlias},
};

use super::{
    Nodes,
    link::{Link, Way},
    outgoing::{DATA_STREAMS_MAX, Hold, Sent},
};
use crate::{
    core::{
        Address, NodeId, ShardCore,
        ledger::{DropReason, NodeCounts},
    },
    shard::{
        post::{ForNode, Post, inbox::MediaMail},
        quic::transport::STREAM_WINDOW,
        streams::{self, Streams},
    },
};

/// Streams of media on a link at once. Default 1,024: what a room of a hundred begins in a second, all layers, of which a stream
/// takes as long as the way there and back.
pub(super) const STREAMS_MAX: u32 = 1_024;
/// Bytes that may be on their way on a link, or wait to be read: what data streams may leave unread, and 16 MiB for all else.
const WINDOW: u32 = (DATA_STREAMS_MAX as u32 + 16) * STREAM_WINDOW;
/// How often the other side is told how much of its media has come. Default 1 s.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A connection has been greeted by a node: it may send media.
pub(super) fn allow(quic: &mut Connection) {
    quic.set_receive_window(VarInt::from_u32(WINDOW));
    quic.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(STREAMS_MAX));
}

impl Nodes {
    /// Takes what this turn has for other nodes. Where there is no link it is dropped: it would be late.
    pub(crate) fn take_media(&mut self, core: &ShardCore, post: &mut Post, now: Instant) {
        if !post.has_for_nodes() {
            return;
        }
        let mut media = std::mem::take(post.for_nodes());
        for (to, what) in media.drain(..) {
            self.take_one(to, what, core, now);
        }
        *post.for_nodes() = media;
    }

    fn take_one(&mut self, to: Address, what: ForNode, core: &ShardCore, now: Instant) {
        let Self { others, links, seen, ledger, marked, .. } = self;
        let round = seen.get(&to.node).copied().unwrap_or_default();
        let link = others.get_mut(&to.node).and_then(|other| {
            let handle = other.link?;
            let link = links.get_mut(&handle).filter(|link| link.round == Some(round))?;
            Some((handle, &mut other.out, link.quic()))
        });
        let Some((handle, out, quic)) = link else { return ledger.unlinked(begun(&what)) };
        let (limits, taken) = (core.limits(), |alias| taken(core, alias, to));
        match what {
            ForNode::Media(MediaMail::Datagram { wire, arrived }) => {
                let Ok((header, _)) = DatagramHeader::decode(&wire) else { return };
                match taken(header.hop.alias) {
                    Some((_, temporal_max)) if header.visible.layer.temporal() > temporal_max => {
                        ledger.offered += 1;
                        ledger.drop(DropReason::LayerNotWanted, 1);
                    }
                    Some((kind, _)) => out.offer(wire, (&header, kind), arrived, limits, ledger),
                    None => ledger.unlinked(1),
                }
            }
            ForNode::Media(MediaMail::StreamOpen { key, header, wire }) => {
                let Some((kind, temporal_max)) = taken(header.hop.alias) else { return };
                out.open(key, to, (&header, &wire), kind, (quic.rtt() / 2, limits.queue_age_max));
                if header.temporal_layer > temporal_max {
                    out.leave_out(key, quic, ledger);
                }
            }
            ForNode::Media(MediaMail::StreamPart { key, part, arrived }) => {
                out.push(key, &part, (arrived, limits.data_queue_bytes_max), quic, ledger);
            }
            ForNode::Media(MediaMail::StreamEnd { key }) => out.finish(key),
            ForNode::Join(stream) => {
                let Some((kind, temporal_max)) = taken(stream.header.hop.alias) else { return };
                if stream.header.temporal_layer > temporal_max {
                    return;
                }
                out.join(&stream, kind, (limits.queue_age_max, now), quic, ledger);
            }
            ForNode::Aborted(key, code) => out.abort(key, code, quic, ledger),
            // Between shards of one node only.
            ForNode::Media(MediaMail::StreamSeen { .. } | MediaMail::StreamJoin { .. } | MediaMail::Packet(_)) => {}
        }
        if marked.last() != Some(&handle) {
            marked.push(handle);
        }
    }

    /// A node takes no more of a track.
    pub(crate) fn end_track(&mut self, node: NodeId, alias: TrackAlias) {
        let Self { others, links, ledger, .. } = self;
        if let Some(other) = others.get_mut(&node)
            && let Some(link) = other.link.and_then(|link| links.get_mut(&link))
        {
            other.out.end_track(alias, link.quic(), ledger);
        }
    }

    /// Reads the media of a link.
    pub(super) fn read_media(
        &mut self,
        handle: usize,
        streams: &mut Streams,
        cx: &mut streams::Context<'_>,
        now: Instant,
    ) -> Result<(), CloseCode> {
        let Some(link) = self.links.get_mut(&handle).filter(|link| link.way == Way::In && link.round.is_some()) else {
            return Ok(());
        };
        link.read_datagrams(cx, now)?;
        link.read_streams(streams, cx, now);
        Ok(())
    }

    /// Goes on with a stream that was held.
    pub(crate) fn go_on(&mut self, link: u32, id: quinn_proto::StreamId) {
        if let Some(link) = self.links.get_mut(&(link as usize)) {
            link.readable.push(id);
            link.news = true;
            self.marked.push(link.number() as usize);
        }
    }

    /// Ends what came on links that are over.
    pub(super) fn end_orphans(&mut self, streams: &mut Streams, cx: &mut streams::Context<'_>) {
        for incoming in self.orphans.drain(..) {
            incoming.abort(StreamCode::CANCELLED, streams, cx);
        }
    }

    /// A link is over: what came on it is counted, and its streams are to be ended.
    pub(super) fn end_media(&mut self, handle: usize) {
        let Some(link) = self.links.get_mut(&handle) else { return };
        self.orphans.extend(std::mem::take(&mut link.incoming).into_values());
        link.readable.clear();
        link.report_at = None;
        if link.way == Way::In {
            self.count(handle);
        }
    }

    /// A node lives no more, or another life of it does.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(mut other) = self.others.remove(&node) {
            other.out.clear(&mut self.ledger, &mut self.holds);
            self.lost_before += other.out.lost();
        }
    }

    /// Counts what has come on a link among all that came from that shard of that node.
    fn count(&mut self, handle: usize) -> Option<Sent> {
        let link = self.links.get_mut(&handle)?;
        let more = std::mem::take(&mut link.received);
        self.received += more.datagrams + more.objects;
        self.table.count(link.node, link.life, link.from, more)
    }

    /// Tells the other side how much has come, if it is time.
    pub(super) fn report(&mut self, handle: usize, now: Instant) {
        let is_due = |link: &Link| !link.is_over && link.report_at.is_some_and(|at| at <= now);
        if !self.links.get(&handle).is_some_and(is_due) {
            return;
        }
        let total = self.count(handle);
        if let Some(link) = self.links.get_mut(&handle) {
            link.report_at = Some(now + REPORT_INTERVAL);
            if let Some(Sent { datagrams, objects }) = total {
                // Where there is no room the next one says as much.
                link.say(&frame(&NodeReceived { datagrams, objects }));
            }
        }
    }

    /// Data streams that are to be held or may go on.
    pub(crate) fn take_holds(&mut self) -> Vec<Hold> {
        std::mem::take(&mut self.holds)
    }

    /// The turn has ended.
    pub(crate) fn turn_ended(&mut self, now: Instant) {
        self.ledger.turn_ended(now);
    }

    /// What became of objects to other nodes, and how many came.
    pub(crate) fn counts(&self) -> NodeCounts {
        NodeCounts {
            offered: self.ledger.offered,
            sent: self.ledger.delivered,
            dropped: self.ledger.dropped,
            lost: self.lost_before + self.others.values().map(|other| other.out.lost()).sum::<u64>(),
            received: self.received,
        }
    }
}

/// What a track carries, and up to which layer a node takes it. The base layer always: so a picture is there as soon as somebody's
/// path takes it.
fn taken(core: &ShardCore, alias: TrackAlias, at: Address) -> Option<(TrackKind, u8)> {
    let track = core.tracks.track(alias)?;
    let remote = track.remote.iter().find(|other| other.at == at)?;
    let all = !track.is_visual();
    Some((track.carries.kind, if all { Layer::MAX } else { remote.demand.temporal_layer_max }))
}

/// Objects that begin with this.
fn begun(what: &ForNode) -> u64 {
    match what {
        ForNode::Media(MediaMail::Datagram { .. }) => 1,
        ForNode::Media(MediaMail::StreamPart { part, .. }) => u64::from(part.begins.is_some()),
        ForNode::Join(stream) => stream.parts.iter().filter(|part| part.begins.is_some()).count() as u64,
        _ => 0,
    }
}
