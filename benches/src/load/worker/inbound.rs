//! What reaches a worker's clients.

use std::time::Instant;

use bytes::Buf;
use quinn_proto::{ConnectionError, Dir, Event, ReadError, StreamEvent, StreamId};
use supernode_measure::stamp::Stamp;
use supernode_proto::{close::CloseCode, object::DatagramHeader};

use super::{
    super::{
        client::Arrival,
        link::Link,
        page::{self, Page},
        plan::Role,
        streams::StreamIn,
    },
    FLOODER_AWAY, Worker,
};

impl Worker {
    pub(super) fn handle_events(&mut self, link: &mut Link, now: Instant) {
        let mut finished = Vec::new();
        while let Some(event) = link.quic.poll() {
            let current = self.clients[link.client].link == Some(link.handle.0);
            match event {
                _ if !current => {}
                Event::Connected => self.clients[link.client].handle_connected(link, &self.shared.stage),
                Event::ConnectionLost { reason } => self.lost(link, &reason),
                Event::DatagramReceived => {
                    while let Some(mut wire) = link.quic.datagrams().recv() {
                        if link.page.is_some() && (wire.is_empty() || wire.get_u8() != page::SESSION) {
                            continue;
                        }
                        let Ok((header, len)) = DatagramHeader::decode(&wire) else { continue };
                        let Some(stamp) = Stamp::read(&wire[len..]) else { continue };
                        let flow = header.hop.alias.value();
                        let arrival = self.deliver(link.client, flow, stamp, wire.len(), link.read_at);
                        self.tally.reordered += u64::from(arrival == Some(Arrival::Reordered));
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = link.quic.streams().accept(Dir::Uni) {
                        if link.page.is_some() && !Page::is_media(id) {
                            self.clients[link.client].handle_own(link, id, &self.shared.stage);
                            continue;
                        }
                        let begin = || if link.page.is_some() { StreamIn::of_page() } else { StreamIn::default() };
                        self.clients[link.client].streams_in.entry(id).or_insert_with(begin);
                        finished.push(id);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) if link.is_control(id) => self.read_control(link),
                Event::Stream(StreamEvent::Readable { id }) if link.page.is_some() && !Page::is_media(id) => {
                    self.clients[link.client].handle_own(link, id, &self.shared.stage);
                }
                Event::Stream(StreamEvent::Readable { id }) => finished.push(id),
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
        if self.clients[link.client].plan.role == Role::Slow {
            finished = self.clients[link.client].streams_in.keys().copied().collect();
        }
        for id in finished {
            self.read_stream(link, id, now);
        }
    }

    fn read_control(&mut self, link: &mut Link) {
        link.read_control();
        let at = link.read_at;
        while let Some(event) = link.poll_event() {
            let client = &mut self.clients[link.client];
            let delivery = client.handle_event(link, event, &self.shared.stage, &mut self.tally);
            if let Some((flow, payload)) = delivery
                && let Some(stamp) = Stamp::read(&payload)
            {
                self.deliver(link.client, flow, stamp, payload.len(), at);
            }
        }
        let now_ns = self.ns(at);
        let client = &mut self.clients[link.client];
        if !client.settled && client.is_settled() {
            client.settled = true;
            self.tally.setup.record_us(now_ns.saturating_sub(client.due_ns) / 1000);
            self.tally.opened += u64::from(self.window.is_some_and(|window| window.contains(client.due_ns)));
        }
        if !client.ready && client.missing().is_none() {
            client.ready = true;
            if client.plan.role != Role::Churner {
                self.shared.note_ready();
            }
        }
    }

    fn read_stream(&mut self, link: &mut Link, id: StreamId, now: Instant) {
        let (place, at) = (link.client, link.read_at);
        let client = &mut self.clients[place];
        let Some(mut reader) = client.streams_in.remove(&id) else { return };
        let mut allowed = match &self.shared.stage.scenario.slow {
            Some(slow) if client.plan.role == Role::Slow => {
                let since_due =
                    now.saturating_duration_since(self.shared.origin).as_secs_f64() - client.due_ns as f64 / 1e9;
                ((slow.read_kbit_per_s * 125.0 * since_due) as u64).saturating_sub(client.read_bytes) as usize
            }
            _ => usize::MAX,
        };
        let mut stream = link.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        let (mut objects, mut read) = (Vec::new(), 0);
        let over = loop {
            if allowed == 0 {
                break false;
            }
            match chunks.next(allowed) {
                Ok(Some(chunk)) => {
                    allowed = allowed.saturating_sub(chunk.bytes.len());
                    read += chunk.bytes.len() as u64;
                    let pass = |alias, stamp, bytes, in_order| objects.push((alias, stamp, bytes, in_order));
                    if reader.push(&chunk.bytes, pass).is_err() {
                        break true;
                    }
                }
                Err(ReadError::Blocked) => break false,
                Ok(None) | Err(ReadError::Reset(_)) => break true,
            }
        };
        // The link is being served: new credit goes out anyway.
        let _ = chunks.finalize();
        client.read_bytes += read;
        if !over {
            client.streams_in.insert(id, reader);
        }
        for (alias, stamp, bytes, in_order) in objects {
            // Groups and layers are streams of their own: order holds within each.
            let counts = self.deliver(place, alias.value(), stamp, bytes, at).is_some();
            self.tally.reordered += u64::from(counts && !in_order);
        }
    }

    /// Something stamped has reached a client: what it is to its flow, if the result counts it.
    fn deliver(&mut self, place: usize, flow: u64, stamp: Stamp, bytes: usize, at: Instant) -> Option<Arrival> {
        let at_ns = self.ns(at);
        if self.is_trespass(place, stamp) {
            self.tally.trespasses += 1;
            return None;
        }
        let client = &mut self.clients[place];
        // A ring's answer comes back under the ring's own number.
        let arrival = client.flows.entry(flow).or_default().take(stamp);
        if !self.window.is_some_and(|window| window.contains(stamp.due_ns)) {
            return None;
        }
        match (client.plan.role, arrival) {
            (_, Arrival::Duplicate) => {
                self.tally.duplicates += 1;
                None
            }
            (Role::Member, arrival) => {
                let us = at_ns.saturating_sub(stamp.due_ns) / 1000;
                self.tally.delivered += 1;
                self.tally.bytes += bytes as u64;
                self.tally.late += u64::from(us > u64::from(self.shared.stage.scenario.late_ms) * 1000);
                self.tally.delay.record_us(us);
                self.recent.record_us(us);
                self.note(stamp.due_ns, |piece| {
                    piece.delivered += 1;
                    piece.delay.record_us(us);
                });
                Some(arrival)
            }
            (Role::Slow | Role::Churner | Role::Flooder | Role::Kicked | Role::Stranger, _) => {
                self.tally.delivered_aside += 1;
                None
            }
        }
    }

    /// Whether what came was for others: to a stranger anything, to one who was put out what was due, so sent, afterwards.
    fn is_trespass(&self, place: usize, stamp: Stamp) -> bool {
        let client = &self.clients[place];
        match client.plan.role {
            Role::Stranger => true,
            Role::Kicked => {
                let out = self.shared.stage.outsiders.out_since(client.number);
                out.is_some_and(|out| stamp.due_ns > self.ns(out))
            }
            Role::Member | Role::Slow | Role::Churner | Role::Flooder => false,
        }
    }

    fn lost(&mut self, link: &Link, reason: &ConnectionError) {
        let client = &mut self.clients[link.client];
        client.link = None;
        let said = link.page.as_ref().and_then(|page| page.end);
        let why = match reason {
            ConnectionError::ApplicationClosed(close) => {
                let code = said.unwrap_or(CloseCode(close.error_code.into_inner()));
                code.row().map_or_else(|| code.to_string(), |row| row.name.to_owned())
            }
            other => other.to_string(),
        };
        *self.tally.closed.entry(why).or_default() += 1;
        client.ready = false;
        match client.plan.role {
            Role::Member | Role::Slow | Role::Kicked | Role::Stranger => {
                self.tally.sessions_lost += 1;
                self.shared.note_lost();
            }
            Role::Churner => self.tally.churn_lost += 1,
            // Otherwise the flood would be over, and all that follows undisturbed.
            Role::Flooder => {
                let back_ns = self.ns(Instant::now() + FLOODER_AWAY);
                self.arrivals.push_back((back_ns, link.client));
            }
        }
    }
}
