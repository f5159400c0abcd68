//! The bare cost of telling many: one `sendmmsg` of the same bytes to many sockets.

use std::{
    io::{IoSlice, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg},
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use serde_json::json;

/// Datagrams in one `sendmmsg`; the kernel takes at most 1,024.
const MESSAGES_MAX: usize = 512;

#[derive(Args)]
pub(crate) struct Blast {
    /// Sockets that listen.
    #[arg(long, value_name = "N", default_value_t = 500)]
    listeners: u32,
    /// How often the sender sends to all of them in a second.
    #[arg(long, value_name = "RATE", default_value_t = 50.0)]
    objects_per_second: f64,
    /// Bytes of each datagram.
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = clap::value_parser!(u16).range(1..=1400))]
    object_bytes: u16,
    /// Length of the measured part, in s.
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    hold_s: f64,
    /// The core of the sender, whose CPU time is measured.
    #[arg(long, value_name = "N", default_value_t = 0)]
    sender_core: usize,
    /// The core of the listeners.
    #[arg(long, value_name = "N", default_value_t = 1)]
    listener_core: usize,
}

impl Blast {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a socket");
        let listeners = (0..self.listeners).map(|_| socket()).collect::<anyhow::Result<Vec<_>>>()?;
        let addresses =
            listeners.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>().context("no address")?;
        let sender = socket()?;
        let over = AtomicBool::new(false);
        let (sent, heard) = thread::scope(|scope| {
            let listening = scope.spawn(|| listen(&listeners, self.listener_core, &over));
            let sent = scope.spawn(|| self.send(&sender, &addresses)).join();
            over.store(true, Ordering::SeqCst);
            (sent, listening.join())
        });
        let sent = sent.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let heard = heard.map_err(|_| anyhow::anyhow!("the listeners panicked"))??;
        let line = json!({
            "valid": heard == sent.datagrams,
            "doubts": if heard == sent.datagrams { vec![] } else { vec![format!("{heard} of {} datagrams were heard", sent.datagrams)] },
            "sessions": { "planned": self.listeners },
            "objects": {
                "expected": sent.datagrams,
                "delivered": heard,
                "loss": (sent.datagrams - heard.min(sent.datagrams)) as f64 / sent.datagrams.max(1) as f64,
                "delivered_per_s": heard as f64 / self.hold_s,
            },
            "delay_ms": { "p50": 0.0, "p99": 0.0, "p999": 0.0 },
            "generator": { "busy": [], "lag_ms": { "p99": 0.0 } },
            "relay": { "busy": sent.cpu_s / self.hold_s, "cpu_us_per_delivered": sent.cpu_s * 1e6 / heard.max(1) as f64 },
        });
        Ok(writeln!(std::io::stdout(), "{line}")?)
    }

    fn send(&self, socket: &UdpSocket, listeners: &[SocketAddr]) -> anyhow::Result<Sent> {
        pin(self.sender_core)?;
        let payload = vec![7; self.object_bytes.into()];
        let listeners: Vec<SocketAddrAny> = listeners.iter().map(|address| SocketAddrAny::from(*address)).collect();
        let rounds = (self.objects_per_second * self.hold_s) as u32;
        let mut sent = Sent { datagrams: 0, cpu_s: 0.0 };
        let begun = Instant::now();
        let cpu_s = thread_cpu_s();
        for round in 0..rounds {
            let due = begun + Duration::from_secs_f64(f64::from(round) / self.objects_per_second);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            for batch in listeners.chunks(MESSAGES_MAX) {
                let slice = [IoSlice::new(&payload)];
                let mut controls: Vec<_> = batch.iter().map(|_| SendAncillaryBuffer::default()).collect();
                let mut messages: Vec<MMsgHdr<'_>> = batch
                    .iter()
                    .zip(&mut controls)
                    .map(|(address, control)| MMsgHdr::new_with_addr(address, &slice, control))
                    .collect();
                sent.datagrams += sendmmsg(socket, &mut messages, SendFlags::empty())? as u64;
            }
        }
        sent.cpu_s = thread_cpu_s() - cpu_s;
        Ok(sent)
    }
}

struct Sent {
    datagrams: u64,
    cpu_s: f64,
}

/// Reads until `over`, and then what is left; how many datagrams that were.
fn listen(sockets: &[UdpSocket], core: usize, over: &AtomicBool) -> anyhow::Result<u64> {
    pin(core)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, socket) in sockets.iter().enumerate() {
        socket.set_nonblocking(true)?;
        epoll::add(&poll, socket, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(256);
    let mut buffer = [0; 2048];
    let mut heard = 0;
    loop {
        let last = over.load(Ordering::SeqCst);
        events.clear();
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        epoll::wait(&poll, spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            if let Some(socket) = sockets.get(event.data.u64() as usize) {
                heard += u64::from(socket.recv(&mut buffer).is_ok());
            }
        }
        if last && events.is_empty() {
            return Ok(heard);
        }
    }
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot stay on core {core}"))
}

fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
