//! Who gets in while others flood, and what strangers get out of the relay.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rstest::rstest;
use supernode_proto::{close::CloseCode, limits::HELLO_BYTES_MAX};
use supernode_server::{core::limits::Limits, shard::counters::Tally};
use supernode_testkit::{HalfOpen, Person, Relay, client_config, eventually};

fn sum(relay: &Relay, count: impl Fn(&Tally) -> u64) -> u64 {
    relay.tallies().iter().map(count).sum()
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_from_elsewhere_gets_in_while_one_network_floods(#[values(1, 2, 4)] shards: usize) {
    let limits = Limits { handshakes_max: 32, handshakes_before_retry: 0, ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let address = relay.address;
    let flood = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + Duration::from_secs(5);
        let mut flooders: Vec<_> = (0..8).map(|_| HalfOpen::at([127, 0, 0, 9].into(), address)).collect();
        let mut answered = 0;
        while Instant::now() < until {
            for flooder in &mut flooders {
                flooder.begin();
                answered += flooder.answer_retries();
            }
        }
        answered
    });
    eventually("all places are taken", || sum(&relay, |tally| tally.over_handshakes) > 0).await;
    for _ in 0..4 {
        let begin = Instant::now();
        let client = relay.connect(&Person::new()).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
        client.close();
        assert!(sum(&relay, |tally| tally.handshaking) <= 32);
    }
    assert!(flood.await.unwrap() > 100, "it floods");
    eventually("the flood is forgotten", || sum(&relay, |tally| tally.handshaking) == 0).await;
    relay.assert_empty().await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_never_answers_is_sent_three_times_what_it_sent() {
    let relay = Relay::start(1);
    let address = relay.address;
    let (sent, received) = tokio::task::spawn_blocking(move || {
        let mut silent = HalfOpen::at([127, 0, 0, 9].into(), address);
        silent.begin();
        silent.nudge();
        (silent.sent_bytes, silent.received_bytes(Duration::from_secs(11)))
    })
    .await
    .unwrap();
    assert!(received > sent, "the handshake begins: {received} for {sent}");
    assert!(received <= 3 * sent, "{received} for {sent}");
    assert!(sum(&relay, |tally| tally.unproven_withheld) > 0, "QUIC alone would have sent more");
    relay.assert_empty().await;
}

//
#[tokio::test]
async fn packets_dropped_unread_are_counted_apart_from_handshakes_that_do_not_begin() {
    let relay = Relay::with_limits(1, Limits { handshakes_per_second_max: 10, ..Limits::default() });
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(relay.address).unwrap();
    // A first packet that does not open.
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.resize(1200, 7);
    for _ in 0..2_000 {
        let _ = socket.send(&packet);
    }
    eventually("most are dropped unread", || sum(&relay, |tally| tally.first_packets_unread) > 1_000).await;
    assert_eq!(sum(&relay, |tally| tally.over_pace), 0, "none was a handshake");
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn one_version_of_quic_is_spoken_and_few_are_told_so_in_a_second(#[values(1, 4)] shards: usize) {
    let relay = Relay::start(shards);
    for version in [0xff00_001d, 0xff00_0022] {
        let mut config = quinn::EndpointConfig::default();
        config.supported_versions(vec![version]);
        let runtime = quinn::default_runtime().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let endpoint = quinn::Endpoint::new(config, None, socket, runtime).unwrap();
        let mut client = client_config();
        client.version(version);
        let end = endpoint.connect_with(client, relay.address, "relay").unwrap().await;
        assert!(matches!(end, Err(quinn::ConnectionError::VersionMismatch)), "{version:#x}: {end:?}");
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(relay.address).unwrap();
    let mut packet = vec![0xc0, 0, 0, 0, 9, 8];
    packet.resize(1200, 7);
    for _ in 0..5_000 {
        let _ = socket.send(&packet);
    }
    eventually("most are dropped", || sum(&relay, |tally| tally.strangers_dropped) > 1_000).await;
    assert!(sum(&relay, |tally| tally.strangers_answered) < 1_000);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn before_the_hello_little_may_come_and_a_longer_one_is_refused_by_its_length(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let mut client = relay.dial().await;
    let mut frame = BytesMut::new();
    prost::encoding::encode_varint(HELLO_BYTES_MAX as u64 + 1, &mut frame);
    frame.put_bytes(0, 10);
    client.send_raw(&frame).await;
    assert_eq!(client.close_code().await, CloseCode::MESSAGE_TOO_LARGE);

    let mut client = relay.dial().await;
    let taken = client.send.write(&vec![0; 1 << 20]).await.unwrap();
    assert!(taken <= 2 * HELLO_BYTES_MAX, "{taken} bytes of anybody");
    client.close();
    let mut client = relay.connect(&Person::new()).await;
    let taken = client.send.write(&vec![0; 1 << 20]).await.unwrap();
    assert!(taken > 3 * HELLO_BYTES_MAX, "{taken} bytes of one who was let in");
    client.close();
    relay.assert_empty().await;
}
