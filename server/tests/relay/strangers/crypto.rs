//! Keys that change under way, and clients whose TLS says what it must not, or seals what QUIC did not say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{
    ConnectionError,
    crypto::{ClientConfig, KeyPair, Keys, PacketKey, Session},
};
use rstest::rstest;
use supernode_proto::{
    close::CloseCode,
    control::{TrackKind, Unwatch, client_message::Body as Request},
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Client, PATIENCE, Person, Relay, Room, client_tls, datagram, eventually, stream};
use supernode_tls::{OddClient, OddSeal, OddTls, odd_key};

use crate::media::{receive_stream, send_stream};

/// A message of TLS that QUIC forbids (RFC 9001 section 6).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a client does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Its Finished.
    Finished,
    /// It goes on with TLS when the handshake is over.
    KeyUpdate,
    /// It takes what comes under new keys, and goes on with its first ones.
    FirstKeys,
    /// Each of its long packets holds one byte of a stream instead, with a gap before it.
    Gaps,
    /// They hold bytes of TLS, with gaps.
    Crypto,
    /// One of ten of its long packets is lost: it is sealed so that nobody opens it.
    Losses,
}

/// A client's TLS, and how often QUIC has asked it for next keys: once, and once more whenever keys change, whoever changes them.
fn odd(wrong: Wrong) -> (Arc<dyn ClientConfig>, Arc<AtomicUsize>) {
    let phases = Arc::new(AtomicUsize::new(0));
    let counted = phases.clone();
    let tls = OddClient::new(client_tls(), move || Odd { wrong, phases: counted.clone(), levels: 0, first: None });
    (Arc::new(tls), phases)
}

struct Odd {
    wrong: Wrong,
    phases: Arc<AtomicUsize>,
    /// Of encryption, after the first.
    levels: usize,
    /// What it seals with after the handshake, where it never seals with anything else.
    first: Option<Arc<dyn PacketKey>>,
}

impl Odd {
    fn key(&self, key: Box<dyn PacketKey>) -> Box<dyn PacketKey> {
        match &self.first {
            Some(first) => odd_key(first.clone(), FirstPhase),
            None => odd_key(key, Otherwise { wrong: self.wrong, packets: AtomicU64::new(0) }),
        }
    }
}

impl OddTls for Odd {
    fn write_handshake(&mut self, tls: &mut dyn Session, buf: &mut Vec<u8>) -> Option<Keys> {
        if self.levels == 2 && std::mem::replace(&mut self.levels, 3) == 2 && self.wrong == Wrong::KeyUpdate {
            buf.extend_from_slice(&KEY_UPDATE);
            return None;
        }
        let keys = tls.write_handshake(buf);
        self.levels += usize::from(keys.is_some());
        if self.levels == 2 && self.wrong == Wrong::Finished {
            *buf.last_mut().unwrap() ^= 1;
        }
        let Keys { header, packet: KeyPair { local, remote } } = keys?;
        let local = match self.wrong {
            _ if self.levels != 2 => local,
            Wrong::FirstKeys => odd_key(self.first.insert(local.into()).clone(), FirstPhase),
            _ => self.key(local),
        };
        Some(Keys { header, packet: KeyPair { local, remote } })
    }

    fn next_1rtt_keys(&mut self, tls: &mut dyn Session) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.phases.fetch_add(1, Ordering::Relaxed);
        let KeyPair { local, remote } = tls.next_1rtt_keys()?;
        Some(KeyPair { local: self.key(local), remote })
    }
}

/// The bit of a short header that tells odd key phases from even ones (RFC 9001 section 6).
const KEY_PHASE: u8 = 0x04;

/// Says that it is the first key, whatever phase it is.
struct FirstPhase;

impl OddSeal for FirstPhase {
    fn encrypt(&self, key: &dyn PacketKey, packet: u64, buf: &mut [u8], header_len: usize) {
        buf[0] &= !KEY_PHASE;
        key.encrypt(packet, buf, header_len);
    }
}

/// Seals something else, or not at all.
struct Otherwise {
    wrong: Wrong,
    packets: AtomicU64,
}

/// Packets that are as long hold what a client has to say.
const LONG_BYTES: usize = 600;
/// After so many packets it is let in, and goes wrong.
const FIRST_PACKETS: u64 = 30;

impl OddSeal for Otherwise {
    fn encrypt(&self, key: &dyn PacketKey, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - key.tag_len();
        let is_long = packet > FIRST_PACKETS && end - header_len >= LONG_BYTES;
        if self.wrong == Wrong::Gaps && is_long {
            let number = self.packets.fetch_add(1, Ordering::Relaxed);
            let payload = &mut buf[header_len..end];
            payload.fill(0);
            // A STREAM frame with offset and length (RFC 9000 section 19.8) of one of the client's first 64 streams.
            payload[0] = 0x0e;
            payload[1..3].copy_from_slice(&(0x4000 | (4 * (number % 64) + 2) as u16).to_be_bytes());
            payload[3..5].copy_from_slice(&(0x4001 | (number / 64 % 20 * 2) as u16).to_be_bytes());
            (payload[5], payload[6]) = (1, 0x55);
        }
        if self.wrong == Wrong::Crypto && is_long {
            buf[header_len..end].fill(0);
            for (place, frame) in (0x4001u16..).step_by(2).zip(buf[header_len..end].chunks_exact_mut(5)) {
                frame[0] = 0x06;
                frame[1..3].copy_from_slice(&place.to_be_bytes());
                (frame[3], frame[4]) = (1, 0x55);
            }
        }
        key.encrypt(packet, buf, header_len);
        if self.wrong == Wrong::Losses && is_long && packet.is_multiple_of(10) {
            *buf.last_mut().unwrap() ^= 1;
        }
    }
}

fn anything() -> Request {
    Request::Unwatch(Unwatch { identity: vec![0; 32].into() })
}

/// Has a client change its keys, if QUIC does; whether they have changed. The relay must have seen a packet of the present
/// ones (RFC 9001 section 6.1): if it has just changed them itself, it has not.
async fn changes_keys(client: &mut Client, phases: &AtomicUsize) -> bool {
    let before = phases.load(Ordering::Relaxed);
    client.done(anything()).await;
    if phases.load(Ordering::Relaxed) == before {
        client.connection.force_key_update();
    }
    phases.load(Ordering::Relaxed) > before
}

#[rstest]
#[tokio::test]
async fn a_client_changes_keys_again_and_again_and_its_session_goes_on(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { requests_per_second_max: 1 << 20, ..Limits::default() });
    let (tls, phases) = odd(Wrong::Nothing);
    let room = Room::new();
    let mut speaker = relay.connect_with(tls, &Person::new()).await;
    let mut listener = relay.connect(&Person::new()).await;
    speaker.join(&room).await;
    listener.join(&room).await;
    let track = speaker.publish(&room, TrackKind::Audio).await;
    listener.subscribe(track).await;
    speaker.demand(1).await;
    for group in 1..=6 {
        // QUIC does nothing until it has forgotten the keys before, three timeouts after the relay has followed.
        let until = Instant::now() + PATIENCE;
        while !changes_keys(&mut speaker, &phases).await {
            assert!(Instant::now() < until, "the keys never change");
        }
        speaker.connection.send_datagram(datagram(track, group, &[group as u8; 120])).unwrap();
        let (header, sealed) = listener.object().await;
        assert_eq!((header.visible.group, &sealed[..]), (group, &[group as u8; 120][..]));
        speaker.done(anything()).await;
    }
    speaker.close();
    listener.close();
    relay.assert_empty().await;
}

#[rstest]
#[tokio::test]
async fn keys_change_by_themselves_and_the_session_goes_on(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { requests_per_second_max: 1 << 20, ..Limits::default() });
    let (tls, phases) = odd(Wrong::Nothing);
    let mut client = relay.connect_with(tls, &Person::new()).await;
    // Either side does so for the first time within its first thousand packets, so that nobody forgets how.
    for _ in 0..1_100 {
        client.done(anything()).await;
    }
    assert!(phases.load(Ordering::Relaxed) >= 2);
    client.close();
    relay.assert_empty().await;
}

#[rstest]
#[case(Wrong::KeyUpdate, 0x10a)] // unexpected_message
#[case(Wrong::Finished, 0x133)] // decrypt_error
#[tokio::test]
async fn tls_that_may_not_be_ends_the_connection_and_nobody_elses(
    #[case] wrong: Wrong,
    #[case] alert: u64,
    #[values(1, 2, 4)] shards: usize,
) {
    let relay = Relay::start(shards);
    let mut bystander = relay.connect(&Person::new()).await;
    for _ in 0..3 {
        match relay.end_with(odd(wrong).0).await {
            ConnectionError::ConnectionClosed(close) => assert_eq!(u64::from(close.error_code), alert),
            other => panic!("the relay ends it with an alert, not: {other}"),
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closed = |code: CloseCode| relay.tallies().iter().map(|tally| tally.closed[code.0 as usize]).sum::<u64>();
    let failed = relay.tallies().iter().map(|tally| tally.handshakes_failed).sum::<u64>();
    assert_eq!(closed(CloseCode::TRANSPORT_ERROR) + failed, 3, "the clients' doing");
    assert_eq!(closed(CloseCode::INTERNAL), 0, "and not the relay's");
    bystander.done(anything()).await;
    bystander.close();
    relay.assert_empty().await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_never_takes_up_the_relay_s_new_keys_is_closed_and_nobody_else() {
    let many = 1 << 30;
    let limits = Limits {
        ingest_objects_per_second_max: many,
        ingest_bytes_per_second_max: many,
        egress_bytes_per_second_max: many,
        ..Limits::default()
    };
    let relay = Relay::with_limits(1, limits);
    let (tls, phases) = odd(Wrong::FirstKeys);
    let room = Room::new();
    let mut stale = relay.connect_with(tls, &Person::new()).await;
    let mut speaker = relay.connect(&Person::new()).await;
    stale.join(&room).await;
    speaker.join(&room).await;
    let track = speaker.publish(&room, TrackKind::Audio).await;
    stale.subscribe(track).await;
    speaker.demand(1).await;
    // Objects that fill a packet each, until the relay has sent more than the bound under keys that are not answered: it
    // changes them within its first thousand packets.
    let (from, to) = (speaker.connection.clone(), stale.connection.clone());
    let talk = tokio::spawn(async move {
        for group in 0u64.. {
            if from.send_datagram_wait(datagram(track, group, &[7; 1_000])).await.is_err() {
                return;
            }
        }
    });
    let end = tokio::time::timeout(6 * PATIENCE, to.closed()).await.expect("it is ended");
    talk.abort();
    match end {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(CloseCode(close.error_code.into_inner()), CloseCode::STALE_KEYS);
        }
        other => panic!("the relay closes with a code of its own, not: {other}"),
    }
    assert_eq!(phases.load(Ordering::Relaxed), 2, "the relay has changed its keys once");
    let received = to.stats().udp_rx.datagrams;
    assert!(received > 40_000, "after {received} packets");
    speaker.done(anything()).await;
    speaker.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_has_packets_kept_behind_gaps_is_closed_and_who_loses_packets_is_not(#[values(1, 2)] shards: usize) {
    let bound = (1 << 20) * shards as u64;
    let limits = Limits { relay_gaps_bytes_max: bound, relay_windows_bytes_max: 1 << 20, ..Limits::default() };
    let relay = Relay::with_limits(shards, limits);
    let room = Room::new();
    let mut speaker = relay.connect_with(odd(Wrong::Losses).0, &Person::new()).await;
    let mut listener = relay.connect(&Person::new()).await;
    speaker.join(&room).await;
    listener.join(&room).await;
    let track = speaker.publish(&room, TrackKind::Data).await;
    listener.subscribe(track).await;
    speaker.demand(1).await;
    let mut hoarders = Vec::new();
    for _ in 0..4 * shards {
        let mut hoarder = relay.connect_with(odd(Wrong::Gaps).0, &Person::new()).await;
        hoarder.join(&room).await;
        let own = hoarder.publish(&room, TrackKind::Video).await;
        let connection = hoarder.connection.clone();
        tokio::spawn(
            async move { while connection.send_datagram_wait(datagram(own, 1, &[7; 1_000])).await.is_ok() {} },
        );
        hoarders.push(hoarder);
    }
    // Larger than a packet by far, so that much waits whenever one is lost.
    for group in 1..=20 {
        let wire = stream(track, group, 0, &[(0, 60_000)]);
        let (received, ()) = tokio::join!(receive_stream(&listener), send_stream(&speaker, &wire));
        assert!(received == wire, "{} of {} bytes", received.len(), wire.len());
    }
    let closed =
        || relay.tallies().iter().map(|tally| tally.closed[CloseCode::TRANSPORT_ERROR.0 as usize]).sum::<u64>();
    eventually("some have gone", || closed() >= 1).await;
    assert!(closed() <= hoarders.len() as u64);
    speaker.done(anything()).await;
    speaker.close();
    listener.close();
    hoarders.iter().for_each(Client::close);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn who_goes_on_with_tls_in_pieces_is_closed_and_nobody_else(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let mut bystander = relay.connect(&Person::new()).await;
    let mut client = relay.connect_with(odd(Wrong::Crypto).0, &Person::new()).await;
    let room = Room::new();
    bystander.join(&room).await;
    client.join(&room).await;
    let track = client.publish(&room, TrackKind::Video).await;
    for _ in 0..40 {
        client.done(anything()).await;
    }
    while client.connection.send_datagram_wait(datagram(track, 1, &[7; 1_000])).await.is_ok() {}
    assert_eq!(client.close_code().await, CloseCode::TRANSPORT_ERROR);
    bystander.done(anything()).await;
    bystander.close();
    relay.assert_empty().await;
}
