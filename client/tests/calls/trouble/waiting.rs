//! Clients that wait, and say nothing for long.

use std::time::{Duration, Instant};

use supernode_client::{
    Client, Config, Error, Event, PresenceState,
    proto::{
        close::CloseCode,
        identity::RelayPin,
        invite::{HostPort, Invite},
    },
};
use supernode_client_testkit::{PATIENCE, Person, in_time, quick};
use supernode_testkit::{Relay, Way};

/// How many wait at once.
const WAITING: usize = 40;
/// For how long. The trial's ten minutes: `SUPERNODE_WAIT_S=600 cargo test -p supernode-client --test calls waiting`.
const WAIT_S: u64 = 40;

//
#[tokio::test(flavor = "multi_thread")]
async fn forty_idle_clients_stay_and_log_in_once() {
    let relay = Relay::open(2);
    let invite = relay.invite();
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        clients.push(Person::new().online(&invite).await);
    }
    let wait_s = std::env::var("SUPERNODE_WAIT_S").ok().map_or(WAIT_S, |text| text.parse().unwrap());
    for second in 0..wait_s {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(relay.handshakes(), WAITING as u64, "somebody left a healthy relay after {second} s");
    }
    assert_eq!(relay.sessions(), WAITING as u64);
    for (client, mut events) in clients {
        client.close().await;
        while let Some(event) = events.next().await {
            assert!(matches!(event, Event::Closed(_)), "{event:?}");
        }
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_silent_relay_up_does_not_say_goodbye() {
    let relay = Relay::open(1);
    let way = Way::to(&relay).await;
    let impatient = Config { silence_max: Duration::from_secs(1), ..quick() };
    let (client, mut events) = Person::new().online_with(&way.invite(&relay), impatient).await;
    way.set_open(false);
    let asked = client.set_presence(PresenceState::Busy, Default::default());
    let lost = async { while !matches!(events.next().await.unwrap(), Event::Disconnected(_)) {} };
    let (asked, ()) = in_time(async { tokio::join!(asked, lost) }).await;
    asked.unwrap_err();
    assert_eq!(relay.sessions(), 1, "the relay has heard nothing of it");
    way.set_open(true);
    let back = async { while !matches!(events.next().await.unwrap(), Event::Reconnected) {} };
    in_time(back).await;
    tokio::time::timeout(PATIENCE, async {
        while relay.closed_with("REPLACED") != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the new session took the place of the old one");
    assert_eq!((relay.sessions(), relay.closed_with("BYE")), (1, 0));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_replaced_is_told_so_by_whatever_they_wait_for() {
    let relay = Relay::open(1);
    let (bob, alice) = (Person::new(), Person::new());
    let device = alice.device();
    let first = in_time(Client::connect(&relay.invite(), device.clone(), quick())).await.unwrap();
    let (_bob, _events) = bob.online(&relay.invite()).await;
    let mut watch = in_time(first.0.watch(&bob.ticket())).await.unwrap();
    in_time(watch.online()).await.unwrap();
    let mut ring = in_time(first.0.ring(&bob.ticket())).await.unwrap();
    let _second = in_time(Client::connect(&relay.invite(), device, quick())).await.unwrap();
    let replaced = |error: Error| {
        assert!(matches!(error, Error::Closed(CloseCode::REPLACED)), "{error}");
        assert!(error.to_string().ends_with("the same device connected again, and the newer session stays"));
    };
    replaced(in_time(ring.outcome()).await.unwrap_err());
    replaced(
        in_time(async {
            loop {
                if let Err(error) = watch.next().await {
                    break error;
                }
            }
        })
        .await,
    );
    replaced(in_time(first.0.set_presence(PresenceState::Busy, Default::default())).await.unwrap_err());
    replaced(in_time(first.0.ring(&bob.ticket())).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_first_address_is_silent_leads_to_the_next_one() {
    let relay = Relay::open(1);
    // Of both families on most machines; the relay listens at one of them.
    let invite = Invite { host: "localhost".into(), ..relay.invite() };
    let started = Instant::now();
    let (client, _events) = Person::new().online(&invite).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_is_is_named() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    let pin = Some(RelayPin([1; 32]));
    let invite = Invite { pin, ..Invite::to(HostPort { host: "127.0.0.1".into(), port }) };
    let config = Config { connect_timeout: Duration::from_millis(400), ..quick() };
    let error = in_time(Client::connect(&invite, Person::new().device(), config)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the relay cannot be reached: UDP 127.0.0.1:{port} (no answer in time). Is the address right, and does this \
             network let UDP through?"
        )
    );
}
