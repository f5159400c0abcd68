//! Attacks that a relay has stood from the first: they are here so that it goes on standing them.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::control::TrackKind;

use super::{Attack, Outcome, Report, Run, Target, nothing_else};
use crate::{
    client::{Client, Door, Person, Room, datagram, dial},
    odd_tls::{Oddity, odd},
    relay::Setting,
    runtime::block_on,
    tls,
};

pub(super) fn attacks() -> Vec<Attack> {
    let plain = |name, what, quick, run, rate_min| Attack {
        name,
        what,
        quick,
        setting: Setting::PLAIN,
        seconds_min: 0.0,
        run,
        rate_min,
        judge: nothing_else,
    };
    let honest = |outcome: &Outcome| {
        outcome.at_least("admitted", 1.0)?;
        outcome.at_least("admitted_after", 1.0)
    };
    vec![
        plain("churn", "connections that come and go at once, some with a Hello", false, Run::Rust(churn), 20.0),
        plain("slow-hello", "connections that never say Hello", false, Run::Rust(slow_hello), 1.0),
        plain("migration", "a session that changes its address with every packet", false, Run::Rust(migration), 20.0),
        plain("key-update-storm", "a session that changes keys whenever it may", false, Run::Rust(key_updates), 20.0),
        plain(
            "challenge-storm",
            "a session whose packets ask a hundred times each whether its path works",
            false,
            Run::Rust(challenges),
            20.0,
        ),
        Attack {
            judge: honest,
            ..plain(
                "another-stack",
                "a QUIC that shares no line with ours gets in, and plays frames, TLS messages and transport parameters \
                 that are wrong",
                true,
                Run::Python("variants"),
                0.0,
            )
        },
    ]
}

fn end(target: &Target) -> Instant {
    Instant::now() + target.duration()
}

/// Connections from 64 networks.
async fn connect(door: &Door, number: u64) -> anyhow::Result<crate::client::Dialled> {
    let from = Ipv4Addr::new(127, 3, 0, 1 + (number % 64) as u8);
    dial(door, from, Arc::new(tls::client()?)).await
}

fn churn(target: &Target) -> anyhow::Result<Report> {
    let (door, end) = (target.door()?, end(target));
    block_on(async {
        let mut report = Report::of("connections");
        while Instant::now() < end {
            report.count += 1;
            let Ok(dialled) = connect(&door, report.count).await else { continue };
            let connection = dialled.connection.clone();
            if report.count.is_multiple_of(2) {
                let _ = Client::greet(&door, dialled, Person::new()).await;
            }
            connection.close(0u8.into(), b"");
        }
        Ok(report)
    })
}

fn slow_hello(target: &Target) -> anyhow::Result<Report> {
    let (door, end) = (target.door()?, end(target));
    block_on(async {
        let mut report = Report::of("connections");
        let mut kept = Vec::new();
        while Instant::now() < end {
            report.count += 1;
            match connect(&door, report.count).await {
                Ok(dialled) => {
                    let (mut send, receive) = dialled.connection.open_bi().await?;
                    // The length of a message that never comes.
                    send.write_all(&[0xff, 0x7f]).await?;
                    kept.push((dialled, send, receive));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(report)
    })
}

fn challenges(target: &Target) -> anyhow::Result<Report> {
    let (door, end) = (target.door()?, end(target));
    block_on(async {
        let (tls, oddity) = odd()?;
        let dialled = dial(&door, Ipv4Addr::new(127, 3, 0, 1), tls).await?;
        let online = Client::greet(&door, dialled, Person::new()).await?.listen(|_| ());
        oddity.set(Oddity::Challenges);
        let mut report = Report::of("packets");
        while Instant::now() < end {
            // What it says is replaced.
            for _ in 0..8 {
                report.count += u64::from(online.connection.send_datagram(vec![0; 1_100].into()).is_ok());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        online.connection.close(0u8.into(), b"");
        Ok(report)
    })
}

/// Somebody in a room, and the track that they publish.
async fn talker(door: &Door) -> anyhow::Result<(Client, supernode_proto::object::TrackAlias)> {
    let mut client = Client::connect(door, Ipv4Addr::new(127, 3, 0, 1), Person::new()).await?;
    let room = Room::new();
    client.join(&room).await?;
    let track = client.publish(&room, TrackKind::Audio).await?;
    Ok((client, track))
}

fn migration(target: &Target) -> anyhow::Result<Report> {
    let (door, end) = (target.door()?, end(target));
    block_on(async {
        let (client, track) = talker(&door).await?;
        let endpoint = client.endpoint.clone();
        let online = client.listen(|_| ());
        let mut report = Report::of("addresses");
        while Instant::now() < end {
            endpoint.rebind(UdpSocket::bind((Ipv4Addr::new(127, 3, 1, 1 + (report.count % 250) as u8), 0))?)?;
            let _ = online.connection.send_datagram(datagram(track, report.count, &[0; 50]));
            report.count += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(report)
    })
}

fn key_updates(target: &Target) -> anyhow::Result<Report> {
    let (door, end) = (target.door()?, end(target));
    block_on(async {
        let (client, track) = talker(&door).await?;
        let online = client.listen(|_| ());
        let mut report = Report::of("updates");
        while Instant::now() < end {
            online.connection.force_key_update();
            let _ = online.connection.send_datagram(datagram(track, report.count, &[0; 50]));
            report.count += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(report)
    })
}
