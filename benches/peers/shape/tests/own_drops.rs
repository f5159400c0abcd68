//! In a process of its own, because a socket that drops is seen by every run in its process.

use std::net::{Ipv4Addr, UdpSocket};

use call_shape::{meter::Meter, work::Work};

#[test]
fn clients_whose_own_socket_overflows_do_not_blame_the_relay() -> std::io::Result<()> {
    let [full, sender] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    let to = full.local_addr()?;
    let meter = Meter::begin(&Work {
        relay: to,
        relay_pid: None,
        rooms: 1,
        members: 2,
        objects_per_second: 1.0,
        object_bytes: 100,
        warm_up_s: 1.0,
        hold_s: 1.0,
        linger_s: 0.5,
        seed: 1,
    });
    assert!(meter.report().valid);
    // More than any default buffer holds; nobody reads.
    for _ in 0..20_000 {
        sender.send_to(&[0; 1_000], to)?;
    }
    let report = meter.report();
    assert!(!report.valid && report.doubts[0].contains("their kernel dropped"), "{:?}", report.doubts);
    Ok(())
}
