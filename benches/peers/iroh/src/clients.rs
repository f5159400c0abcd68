//! All clients in one thread. Sending goes past tokio's tasks: each object is put into its client's connection and
//! flushed in the same turn, which is the cheapest that the client crate allows.

use std::{
    cell::RefCell,
    collections::VecDeque,
    path::Path,
    pin::Pin,
    rc::Rc,
    task::{Context as Polling, Poll, Waker},
    time::Instant,
};

use anyhow::Context;
use bytes::Bytes;
use call_shape::{meter::Meter, pace::Pace, report::Report, work::Work};
use futures_util::{Sink, StreamExt};
use iroh_base::{PublicKey, SecretKey};
use iroh_dns::dns::DnsResolver;
use iroh_relay::{
    client::{ClientBuilder, ClientSink, ClientStream},
    protos::relay::{ClientToRelayMsg, Datagrams, RelayToClientMsg},
    tls::{CaTlsConfig, default_provider},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use url::Url;

/// Handshakes that go on at once.
const CONNECTING_MAX: usize = 16;

/// One client's way out.
struct Outbound {
    sink: ClientSink,
    /// Who hears it, in the order of their numbers.
    listeners: Vec<PublicKey>,
    /// What the connection has not taken yet: when it was due, for whom, what.
    queue: VecDeque<(u64, PublicKey, Bytes)>,
    /// When what it has taken and not yet written was due.
    unflushed: Vec<u64>,
}

/// Does the work and says what came of it.
pub(crate) async fn run(work: &Work, certificate: &Path) -> anyhow::Result<Report> {
    let pem = CertificateDer::from_pem_file(certificate).map_err(|error| anyhow::anyhow!("{error}"));
    let pem = pem.with_context(|| format!("cannot read {}", certificate.display()))?;
    let tls = CaTlsConfig::custom_roots([pem]).client_config(default_provider())?;
    let url: Url = format!("https://{}", work.relay).parse()?;
    let resolver = DnsResolver::new();
    let secrets: Vec<SecretKey> = (0..work.clients()).map(|_| SecretKey::generate()).collect();
    let keys: Vec<PublicKey> = secrets.iter().map(SecretKey::public).collect();
    let builders: Vec<ClientBuilder> = secrets
        .into_iter()
        .map(|secret| ClientBuilder::new(url.clone(), secret, resolver.clone()).tls_client_config(tls.clone()))
        .collect();
    let connecting = futures_util::stream::iter(&builders).map(ClientBuilder::connect).buffered(CONNECTING_MAX);
    let connected: Vec<_> = connecting.collect().await;
    let mut streams = Vec::new();
    let mut outbound = Vec::new();
    for (number, client) in connected.into_iter().enumerate() {
        let (stream, sink) = client.with_context(|| format!("client {number}"))?.split();
        streams.push(stream);
        let listeners = work.others(number as u32).map(|other| keys[other as usize]).collect();
        outbound.push(Outbound { sink, listeners, queue: VecDeque::new(), unflushed: Vec::new() });
    }
    let meter = Rc::new(RefCell::new(Meter::begin(work)));
    for (number, stream) in streams.into_iter().enumerate() {
        tokio::task::spawn_local(listen(stream, number as u32, meter.clone()));
    }
    talk(&mut outbound, &meter).await?;
    if work.is_idle() {
        meter.borrow_mut().call_roll(Instant::now());
        talk(&mut outbound, &meter).await?;
    }
    let report = meter.borrow().report();
    Ok(report)
}

async fn listen(mut stream: ClientStream, number: u32, meter: Rc<RefCell<Meter>>) {
    // What ends a connection shows as loss.
    while let Some(Ok(message)) = stream.next().await {
        if let RelayToClientMsg::Datagrams { datagrams, .. } = message {
            meter.borrow_mut().received(number, &datagrams.contents, Instant::now());
        }
    }
}

async fn talk(outbound: &mut [Outbound], meter: &RefCell<Meter>) -> anyhow::Result<()> {
    let pace = Pace::new()?;
    let mut busy: Vec<usize> = Vec::new();
    loop {
        let now = Instant::now();
        let next_at = {
            let mut meter = meter.borrow_mut();
            while let Some(due) = meter.pop(now) {
                let from = &mut outbound[due.source as usize];
                if from.is_idle() {
                    busy.push(due.source as usize);
                }
                let payload = Bytes::copy_from_slice(meter.payload(due));
                from.queue.extend(from.listeners.iter().map(|to| (due.at_ns, *to, payload.clone())));
            }
            if meter.is_over(now) {
                return Ok(());
            }
            meter.next_at(now)
        };
        busy.retain(|client| {
            let from = &mut outbound[*client];
            from.write(meter);
            !from.is_idle()
        });
        pace.until(next_at).await?;
    }
}

impl Outbound {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unflushed.is_empty()
    }

    /// Writes what the connection takes now. Nobody is woken when it takes more: the next turn tries again.
    fn write(&mut self, meter: &RefCell<Meter>) {
        let mut polling = Polling::from_waker(Waker::noop());
        let mut sink = Pin::new(&mut self.sink);
        while let Some((due_ns, to, payload)) = self.queue.pop_front() {
            if !matches!(sink.as_mut().poll_ready(&mut polling), Poll::Ready(Ok(()))) {
                self.queue.push_front((due_ns, to, payload));
                break;
            }
            let datagrams = Datagrams { ecn: None, segment_size: None, contents: payload };
            // What a broken connection refuses is missed where it should have come.
            let _ = sink.as_mut().start_send(ClientToRelayMsg::Datagrams { dst_endpoint_id: to, datagrams });
            self.unflushed.push(due_ns);
        }
        if sink.poll_flush(&mut polling).is_ready() {
            let now = Instant::now();
            self.unflushed.drain(..).for_each(|due_ns| meter.borrow_mut().sent(due_ns, now));
        }
    }
}
