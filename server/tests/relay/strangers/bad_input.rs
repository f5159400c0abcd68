use rstest::rstest;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use prost::Message;
use supernode_proto::{
    VERSION,
    close::{CloseCode, StreamCode},
    control::{ClientMessage, Hello, HelloBody, RefusalReason, Unwatch, Watch, client_message::Body as Request},
    identity::{ChannelBinding, NonceBinding, RelayName, RelayPin},
    object::TrackAlias,
};
use supernode_server::core::{ledger::RefuseReason, limits::Limits};
use supernode_session::Channel;
use supernode_testkit::{Client, Person, Relay, datagram, eventually, stop_code, unix_s};

/// What a client does wrong after its Hello, and the code it must end with.
async fn ends_with(relay: &Relay, expected: CloseCode, act: impl AsyncFnOnce(&mut Client)) {
    let mut client = relay.connect(&Person::new()).await;
    act(&mut client).await;
    assert_eq!(client.close_code().await, expected);
}

//
#[rstest]
#[tokio::test]
async fn bytes_that_are_no_message_end_the_session_and_nobody_elses(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let mut bystander = relay.connect(&Person::new()).await;
    ends_with(&relay, CloseCode::MALFORMED_MESSAGE, async |client| client.send_raw(&[3, 0xff, 0xff, 0xff]).await).await;
    ends_with(&relay, CloseCode::MALFORMED_MESSAGE, async |client| client.send_raw(&[0xff; 8]).await).await;
    ends_with(&relay, CloseCode::MALFORMED_MESSAGE, async |client| client.send_raw(&[0]).await).await;
    ends_with(&relay, CloseCode::MESSAGE_TOO_LARGE, async |client| {
        let mut frame = BytesMut::new();
        prost::encoding::encode_varint(64 * 1024 + 1, &mut frame);
        frame.put_bytes(0, 100);
        client.send_raw(&frame).await;
    })
    .await;
    ends_with(&relay, CloseCode::UNEXPECTED_MESSAGE, async |client| {
        client.send(0, Request::Watch(Watch::default())).await;
    })
    .await;
    ends_with(&relay, CloseCode::BAD_STREAM, async |client| client.send.finish().unwrap()).await;
    ends_with(&relay, CloseCode::BAD_STREAM, async |client| {
        client.send.reset(quinn::VarInt::from_u32(0)).unwrap();
    })
    .await;
    ends_with(&relay, CloseCode::BAD_STREAM, async |client| client.receive.stop(quinn::VarInt::from_u32(0)).unwrap())
        .await;
    bystander.refused(Request::Watch(Watch::default())).await;
    bystander.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_second_hello_ends_the_session(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let person = Person::new();
    let mut client = relay.connect(&person).await;
    let hello = client.hello(&person, relay.pin);
    client.send(0, Request::Hello(hello)).await;
    assert_eq!(client.close_code().await, CloseCode::UNEXPECTED_MESSAGE);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_hello_that_proves_nothing_is_turned_away_with_its_reason(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let person = Person::new();
    let turned_away = async |make: &dyn Fn(&Client) -> Hello| {
        let mut client = relay.dial().await;
        let hello = make(&client);
        client.send(0, Request::Hello(hello)).await;
        client.next().await.expect_err("no Welcome")
    };
    let body = |not_after: u64| HelloBody {
        version_min: VERSION,
        version_max: VERSION,
        delegation: person.delegation(not_after).to_bytes().into(),
        admission_token: String::new(),
        ..HelloBody::default()
    };
    let fresh = unix_s() + 60;

    // A replayed one: valid on another connection.
    let other = relay.dial().await;
    let stolen = other.hello(&person, relay.pin);
    assert_eq!(turned_away(&|_| stolen.clone()).await, CloseCode::BAD_SIGNATURE);
    // Signed for a nonce, be it the very bytes that TLS exports here.
    let by_nonce = |client: &Client| {
        let nonce = NonceBinding::new(&client.exporter(), RelayName::Pin(&relay.pin));
        let binding = ChannelBinding::RelayNonce { relay: relay.pin, nonce };
        Channel { binding, device: person.device_key() }.sign_hello(&person.device, &body(fresh))
    };
    assert_eq!(turned_away(&by_nonce).await, CloseCode::BAD_SIGNATURE);
    // Meant for another relay.
    assert_eq!(turned_away(&|client| client.hello(&person, RelayPin([0; 32]))).await, CloseCode::BAD_SIGNATURE);
    // Signed by a key that the delegation does not name.
    let thief = person.another_device();
    assert_eq!(
        turned_away(&|client| client.sign_hello(&thief, relay.pin, &body(fresh))).await,
        CloseCode::BAD_SIGNATURE
    );
    // Certified by nobody.
    let mut forged = person.delegation(fresh);
    forged.signature[0] ^= 1;
    let forged = HelloBody { delegation: forged.to_bytes().into(), ..body(fresh) };
    assert_eq!(turned_away(&|client| client.sign_hello(&person, relay.pin, &forged)).await, CloseCode::BAD_SIGNATURE);
    let expired = body(unix_s() - 1);
    assert_eq!(
        turned_away(&|client| client.sign_hello(&person, relay.pin, &expired)).await,
        CloseCode::DELEGATION_EXPIRED
    );
    let eternal = body(u64::MAX);
    assert_eq!(
        turned_away(&|client| client.sign_hello(&person, relay.pin, &eternal)).await,
        CloseCode::DELEGATION_EXPIRED
    );
    let future = HelloBody { version_min: 2, version_max: 9, ..body(fresh) };
    assert_eq!(turned_away(&|client| client.sign_hello(&person, relay.pin, &future)).await, CloseCode::VERSION);
    let short = HelloBody { delegation: vec![1; 136].into(), ..body(fresh) };
    assert_eq!(
        turned_away(&|client| client.sign_hello(&person, relay.pin, &short)).await,
        CloseCode::MALFORMED_MESSAGE
    );
    assert_eq!(
        turned_away(&|_| Hello { body: vec![0xff; 9].into(), ..Hello::default() }).await,
        CloseCode::MALFORMED_MESSAGE
    );
    other.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn an_empty_datagram_is_a_question_that_is_acknowledged_and_no_object(#[values(1, 2)] shards: usize) {
    let relay = Relay::start(shards);
    let mut client = relay.connect(&Person::new()).await;
    let acknowledged = |client: &Client| client.connection.stats().frame_rx.acks;
    for _ in 0..3 {
        let before = acknowledged(&client);
        client.connection.send_datagram(bytes::Bytes::new()).unwrap();
        eventually("an acknowledgement", || acknowledged(&client) > before).await;
    }
    client.refused(Request::Watch(Watch::default())).await;
    assert_eq!(relay.ledger().refused[RefuseReason::Malformed as usize], 0);
    client.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn whoever_says_nothing_or_something_else_first_is_turned_away(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { hello_timeout: Duration::from_millis(300), ..Limits::default() });
    let silent = relay.dial().await;
    assert_eq!(silent.close_code().await, CloseCode::HELLO_TIMEOUT);
    let mut eager = relay.dial().await;
    eager.send(1, Request::Watch(Watch::default())).await;
    assert_eq!(eager.close_code().await, CloseCode::UNEXPECTED_MESSAGE);
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn a_client_that_does_not_read_its_control_messages_is_let_go(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(
        shards,
        Limits { control_backlog_bytes_max: 16 * 1024, requests_per_second_max: 1_000_000, ..Limits::default() },
    );
    let client = relay.connect(&Person::new()).await;
    let mut flood = BytesMut::new();
    for request in 1..200_000u64 {
        let message = ClientMessage { request, body: Some(Request::Watch(Watch::default())) };
        message.encode_length_delimited(&mut flood).unwrap();
    }
    let mut send = client.send;
    let writing = tokio::spawn(async move { send.write_all(&flood).await });
    let code = match client.connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => CloseCode(close.error_code.into_inner()),
        other => panic!("closed with a code, not: {other}"),
    };
    assert_eq!(code, CloseCode::CONTROL_BACKLOG);
    writing.abort();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let mut bystander = relay.connect(&Person::new()).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(relay.address).unwrap();
    use rand::{Rng, RngExt};
    let mut rng = rand::rng();
    for _ in 0..5_000 {
        let mut garbage = vec![0; rng.random_range(0..1400)];
        rng.fill_bytes(&mut garbage);
        let _ = socket.send(&garbage);
    }
    bystander.refused(Request::Watch(Watch::default())).await;
    bystander.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn limits_on_sessions_hold(#[values(1, 2, 4)] shards: usize) {
    let relay =
        Relay::with_limits(shards, Limits { sessions_max: 3, devices_per_identity_max: 2, ..Limits::default() });
    let bob = Person::new();
    let first = relay.connect(&bob).await;
    let second = relay.connect(&bob.another_device()).await;
    assert_eq!(relay.try_connect(&bob.another_device()).await.err(), Some(CloseCode::TOO_MANY_SESSIONS));
    let third = relay.connect(&Person::new()).await;
    assert_eq!(relay.try_connect(&Person::new()).await.err(), Some(CloseCode::TOO_MANY_SESSIONS));
    for client in [&first, &second, &third] {
        client.close();
    }
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn under_load_a_new_address_must_prove_itself_before_anything_is_kept_for_it(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { handshakes_before_retry: 0, ..Limits::default() });
    let client = relay.connect(&Person::new()).await;
    client.close();
    relay.assert_empty().await;
    eventually("a Retry was sent", || relay.tallies().iter().any(|tally| tally.retries > 0)).await;
}

//
#[rstest]
#[tokio::test]
async fn media_before_the_hello_go_nowhere(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::start(shards);
    let client = relay.dial().await;
    client.connection.send_datagram(datagram(TrackAlias::new(1).unwrap(), 1, b"early")).unwrap();
    let mut stream = client.connection.open_uni().await.unwrap();
    stream.write_all(&[1]).await.unwrap();
    assert_eq!(stop_code(&mut stream).await, StreamCode::UNKNOWN_TRACK);
    eventually("both are counted", || relay.ledger().refused[RefuseReason::NoSession as usize] == 2).await;
    client.close();
    relay.assert_empty().await;
}

//
#[rstest]
#[tokio::test]
async fn requests_above_the_rate_are_refused_and_the_session_goes_on(#[values(1, 2, 4)] shards: usize) {
    let relay = Relay::with_limits(shards, Limits { requests_per_second_max: 1, ..Limits::default() });
    let mut client = relay.connect(&Person::new()).await;
    let request = || Request::Unwatch(Unwatch { identity: vec![1; 32].into() });
    for _ in 0..4 {
        client.done(request()).await;
    }
    let refused = client.refused(request()).await;
    assert_eq!((refused.reason(), refused.detail.as_str()), (RefusalReason::Limit, "requests_per_second_max"));
    assert_eq!(refused.bound, 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    client.done(request()).await;
    client.close();
    relay.assert_empty().await;
}
