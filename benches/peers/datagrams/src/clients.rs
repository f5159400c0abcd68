//! Clients with a UDP socket each, all in one loop.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::Context;
use call_shape::{meter::Meter, report::Report, work::Work};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::stun;

/// Most datagrams that are read between two looks at the schedule.
const EVENTS_MAX: usize = 256;

/// A client that can send and receive.
pub(crate) struct Client {
    /// Connected to the relay.
    pub(crate) socket: UdpSocket,
    /// The TURN channel towards the other one in the call; without it objects travel bare.
    pub(crate) channel: Option<u16>,
}

/// Does the work and says what came of it.
pub(crate) fn run(work: &Work, clients: Vec<Client>) -> anyhow::Result<Report> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, client) in clients.iter().enumerate() {
        client.socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, &client.socket, data, epoll::EventFlags::IN).context("too many open files?")?;
    }
    // The default would let the kernel be 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut buffer = [0; 2048];
    let mut wire = Vec::with_capacity(2048);
    let mut meter = Meter::begin(work);
    let mut roll_called = !work.is_idle();
    loop {
        let now = Instant::now();
        while let Some(due) = meter.pop(now) {
            let client = &clients[due.source as usize];
            let payload = meter.payload(due);
            wire.clear();
            match client.channel {
                Some(channel) => stun::channel_data(channel, payload, &mut wire),
                None => wire.extend_from_slice(payload),
            }
            // What the kernel does not take is lost, and counted where it is missed.
            let _ = client.socket.send(&wire);
            meter.sent(due.at_ns, Instant::now());
        }
        if meter.is_over(now) {
            if std::mem::replace(&mut roll_called, true) {
                return Ok(meter.report());
            }
            meter.call_roll(now);
            continue;
        }
        let wait = meter.next_at(now).saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos() as _ };
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let number = event.data.u64() as u32;
            let client = &clients[number as usize];
            let Ok(read) = client.socket.recv(&mut buffer) else { continue };
            let datagram = &buffer[..read];
            let payload = match client.channel {
                Some(channel) => stun::read_channel_data(channel, datagram),
                None => Some(datagram),
            };
            if let Some(payload) = payload {
                meter.received(number, payload, Instant::now());
            }
        }
    }
}
