//! What the links do in a turn: QUIC's time and events, letters in, packets out.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::Endpoint;
use supernode_proto::{
    close::CloseCode,
    cluster::{LETTER_BYTES, NODE_HELLO_BYTES, NODE_VERSION, NodeReceived, NodeWelcome},
    control::{decode_message, frame},
};

use super::{
    Nodes, dial,
    hello::{self, Speaker},
    link::{Link, News, Way},
    media,
    outgoing::Sent,
    table::Life,
    tell,
    words::Reader,
};
use crate::shard::{
    figures::counters::Tally,
    net::socket::SendBatch,
    post::{Post, inbox::Letter},
    streams::{self, Streams},
};

/// Letters of one link that are read in a turn, so that they cannot keep packets waiting. Default 256.
const LETTERS_PER_TURN: usize = 256;
/// How often a link is looked at for which objects wait.
const WAIT_TICK: Duration = Duration::from_millis(20);
/// How soon a link is looked at again that was left unread because another shard has too much mail to take.
const MAIL_TICK: Duration = Duration::from_millis(1);

impl Nodes {
    /// Tells QUIC of the time, and dials whom it is time to dial.
    pub(crate) fn handle_timeouts(&mut self, endpoint: &mut Endpoint, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        for (handle, link) in &mut self.links {
            if link.quic().poll_timeout().is_some_and(|at| at <= now) {
                link.quic().handle_timeout(now);
                link.news = true;
            }
            if link.news || link.report_at.is_some_and(|at| at <= now) {
                self.marked.push(*handle);
            }
        }
        // What waits for a node is looked at again, for it may be too late.
        let waiting = self.others.values().filter(|other| other.out.waits());
        self.marked.extend(waiting.filter_map(|other| other.link));
        let due = self.others.values_mut().filter(|other| other.link.is_none() && other.dial_at <= now);
        for other in due {
            other.dial_at = now + other.wait;
            other.wait = (other.wait * 2).min(dial::WAIT_MAX);
            let Some(config) = other.config.clone() else { continue };
            // What cannot be dialled is tried again: its record may change.
            let address = SocketAddr::new(other.book.address.ip().to_canonical(), other.book.address.port());
            let dialled = endpoint.connect(now, config, address, dial::SERVER_NAME);
            let Ok((handle, quic)) = dialled else { continue };
            self.figures.dialled += 1;
            other.link = Some(handle.0);
            let (node, life) = (other.book.node, Life(other.book.life));
            self.links.insert(handle.0, Link::new(node, life, Way::Out, handle, quic));
            self.marked.push(handle.0);
        }
        self.rearm(now);
    }

    /// Reads what has come, and passes it on.
    pub(crate) fn serve(&mut self, streams: &mut Streams, cx: &mut streams::Context<'_>, now: Instant) {
        self.end_orphans(streams, cx);
        for place in 0..self.marked.len() {
            let handle = self.marked[place];
            let Some(link) = self.links.get_mut(&handle).filter(|link| link.news) else { continue };
            link.news = false;
            let news = link.poll();
            if link.is_over {
                continue;
            }
            let verdict = match news {
                News::Over(code) => Err(code),
                News::Connected => self.greet(handle).map_err(Some),
                News::None => Ok(()),
            };
            let verdict = verdict.and_then(|()| self.read(handle, cx.post).map_err(Some));
            let verdict = verdict.and_then(|()| self.read_media(handle, streams, cx, now).map_err(Some));
            if let Err(code) = verdict {
                self.end(handle, code, cx.post, now);
            }
        }
    }

    /// Says Hello to a node that was reached.
    fn greet(&mut self, handle: usize) -> Result<(), CloseCode> {
        let Self { links, others, own, life, at, .. } = self;
        let Some(link) = links.get_mut(&handle) else { return Ok(()) };
        let other = others.get(&link.node).filter(|_| link.way == Way::Out).ok_or(CloseCode::NODE_OVER)?;
        let life = life.ok_or(CloseCode::NODE_OVER)?;
        let exporter = hello::exporter(link.quic()).ok_or(CloseCode::INTERNAL)?;
        let speaker = Speaker { node: at.node, life, shard: at.shard };
        let hello = hello::say(speaker, &own.key, &other.book, &exporter).ok_or(CloseCode::INTERNAL)?;
        let said = link.open() && link.say(&frame(&hello));
        if said { Ok(()) } else { Err(CloseCode::INTERNAL) }
    }

    fn read(&mut self, handle: usize, post: &mut Post) -> Result<(), CloseCode> {
        let Self { links, table, figures, others, at, shards, .. } = self;
        let Some(link) = links.get_mut(&handle) else { return Ok(()) };
        let node = link.node;
        for _ in 0..LETTERS_PER_TURN {
            if post.is_used_up() {
                link.news = true;
                return Ok(());
            }
            match (link.way, link.round) {
                (Way::In, Some(round)) => {
                    let Some(frame) = link.next_frame(LETTER_BYTES)? else { return Ok(()) };
                    let reader = Reader { from: node, here: at.node, shards: *shards };
                    let (to, mail) = reader.read(&frame).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
                    figures.letters_in += 1;
                    let pass = || post.put_letter(at.beside(to), Letter::Core(mail));
                    if !table.pass_on(node, round, pass) {
                        return Err(CloseCode::NODE_OVER);
                    }
                }
                (Way::Out, None) => {
                    let Some(frame) = link.next_frame(NODE_HELLO_BYTES)? else { return Ok(()) };
                    let welcome: NodeWelcome = decode_message(&frame).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
                    if welcome.version != NODE_VERSION {
                        return Err(CloseCode::VERSION);
                    }
                    link.round = Some(table.welcomed(node, link.life, tell(post, *at, *shards)));
                    if let Some(other) = others.get_mut(&node) {
                        other.wait = dial::WAIT_MIN;
                    }
                }
                (Way::Out, Some(_)) => {
                    let Some(frame) = link.next_frame(NODE_HELLO_BYTES)? else { return Ok(()) };
                    let told: NodeReceived = decode_message(&frame).map_err(|_| CloseCode::MALFORMED_MESSAGE)?;
                    if let Some(other) = others.get_mut(&node) {
                        other.out.hear(Sent { datagrams: told.datagrams, objects: told.objects });
                    }
                }
                // Who has not been greeted reads nothing here.
                (Way::In, None) => {
                    let more = link.next_frame(NODE_HELLO_BYTES)?;
                    return if more.is_some() { Err(CloseCode::UNEXPECTED_MESSAGE) } else { Ok(()) };
                }
            }
        }
        link.news = true;
        Ok(())
    }

    /// Builds the packets of every link that was looked at.
    pub(crate) fn build(
        &mut self,
        endpoint: &mut Endpoint,
        (segments_max, data_bytes_max, now): (usize, usize, Instant),
        out: &mut SendBatch,
        tally: &mut Tally,
        flush: &mut impl FnMut(&mut SendBatch, &mut Tally),
        post: &mut Post,
    ) {
        if self.marked.is_empty() {
            return;
        }
        self.marked.sort_unstable();
        self.marked.dedup();
        for handle in std::mem::take(&mut self.marked) {
            self.report(handle, now);
            let Some(link) = self.links.get_mut(&handle) else { continue };
            if let Some(other) = self.others.get_mut(&link.node)
                && other.link == Some(handle)
                && link.round == Some(self.seen.get(&link.node).copied().unwrap_or_default())
            {
                other.queue_bytes -= link.write(&mut other.queue);
                let quic = link.quic();
                // QUIC holds little more than it may send: what waits here can still expire.
                let window = quic.congestion_state().window();
                quic.set_send_window(dial::SEND_WINDOW + window + window / 4);
                other.out.hand_over(quic, media::STREAMS_MAX as usize, now, &mut self.ledger);
                other.out.look_at_holds(data_bytes_max, quic, now, &mut self.ledger, &mut self.holds);
            }
            link.exchange(endpoint);
            loop {
                while let Some(transmit) = link.poll_transmit(now, segments_max, out.buffer()) {
                    if out.commit(transmit) {
                        flush(out, tally);
                    }
                }
                // What went out made room for what waits.
                let other = self.others.get_mut(&link.node).filter(|other| other.link == Some(handle));
                let Some(other) = other else { break };
                if !other.out.note_built(link.quic()) {
                    break;
                }
                other.out.hand_over(link.quic(), media::STREAMS_MAX as usize, now, &mut self.ledger);
            }
            if link.exchange(endpoint) {
                // One that is no more without a word has ended all the same.
                self.end(handle, None, post, now);
                self.links.remove(&handle);
            }
        }
        // What ended just now is no more already.
        self.marked.clear();
        self.rearm(now);
        flush(out, tally);
    }

    /// When it is to be looked at next.
    fn rearm(&mut self, now: Instant) {
        let links = self.links.values_mut().flat_map(|link| {
            let unread = link.news.then_some(now + MAIL_TICK);
            [link.quic().poll_timeout(), unread, link.report_at].into_iter().flatten()
        });
        let waiting = self.others.values().any(|other| other.link.is_some() && other.out.waits());
        let waiting = waiting.then_some(now + WAIT_TICK);
        let dials = self.others.values().filter(|other| other.link.is_none()).map(|other| other.dial_at);
        self.due = links.chain(dials).chain(waiting).min();
    }
}
