//! What a socket buffer is for: how many packets of one burst are lost while their reader is kept from its CPU.
//!
//! `cargo bench -p supernode-benches --bench burst -- [BYTES]...`, as root where `net.core.rmem_max` is less.

use std::{
    env,
    io::{self, Write},
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt;

/// An audio object for one listener, as it is on the wire.
const PACKET_BYTES: usize = 230;
const PACKETS: usize = 5_000;
/// How long the reader sleeps from the beginning of the burst.
const ASLEEP: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let mut sizes: Vec<usize> = env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![212_992, 8 * 1024 * 1024];
    }
    for size in sizes {
        let (sender, receiver) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        if sockopt::set_socket_recv_buffer_size_force(&receiver, size).is_err() {
            sockopt::set_socket_recv_buffer_size(&receiver, size)?;
        }
        let granted = sockopt::socket_recv_buffer_size(&receiver)? / 2;
        sender.connect(receiver.local_addr()?)?;
        receiver.set_nonblocking(true)?;
        let reader = thread::spawn(move || {
            thread::sleep(ASLEEP);
            let (mut received, mut last) = (0, Instant::now());
            while last.elapsed() < Duration::from_millis(200) {
                match receiver.recv(&mut [0; 2048]) {
                    Ok(_) => (received, last) = (received + 1, Instant::now()),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
            received
        });
        let begin = Instant::now();
        for _ in 0..PACKETS {
            sender.send(&[0; PACKET_BYTES])?;
        }
        let sent_ms = begin.elapsed().as_secs_f64() * 1e3;
        let received: usize = reader.join().expect("the reader does not panic");
        writeln!(
            io::stdout(),
            "{granted} bytes: {} of {PACKETS} packets of a burst of {sent_ms:.1} ms lost while the reader slept for {} ms",
            PACKETS - received,
            ASLEEP.as_millis()
        )?;
    }
    Ok(())
}
