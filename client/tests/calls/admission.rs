//! Who gets in.

use supernode_client::{
    Client, Config, Error, Event, Network,
    proto::{close::CloseCode, identity::RelayPin, invite::Invite},
};
use supernode_client_testkit::{Person, in_time, quick};
use supernode_testkit::Relay;

async fn refused(invite: &Invite) -> Error {
    in_time(Client::connect(invite, Person::new().device(), quick())).await.expect_err("turned away")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_than_the_invite_names_is_not_talked_to() {
    let relay = Relay::open(1);
    let invite = Invite { pin: Some(RelayPin([7; 32])), ..relay.invite() };
    assert!(matches!(refused(&invite).await, Error::WrongPin));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_in_the_invite_a_relay_is_talked_to_if_an_authority_vouches_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority_file = Some(directory.path().join("authority.pem"));
    let (relay, authority) = Relay::vouched_for("127.0.0.1");
    let invite = Invite { pin: None, ..relay.invite() };
    assert!(
        matches!(refused(&invite).await, Error::Untrusted(_) | Error::Authorities),
        "nobody here knows the authority"
    );

    std::fs::write(authority_file.as_ref().unwrap(), authority).unwrap();
    let network = || Network { authority_file: authority_file.clone(), ..Network::default() };
    let config = || Config { network: network(), ..quick() };
    let connect = async |invite: &Invite| in_time(Client::connect(invite, Person::new().device(), config())).await;
    connect(&invite).await.unwrap().0.close().await;
    let (elsewhere, _) = Relay::vouched_for("127.0.0.1");
    let invite = Invite { pin: None, ..elsewhere.invite() };
    assert!(matches!(connect(&invite).await.unwrap_err(), Error::Untrusted(_)), "another authority");

    std::fs::write(authority_file.as_ref().unwrap(), "nothing").unwrap();
    assert!(matches!(connect(&invite).await.unwrap_err(), Error::Authorities));
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_of_no_use() {
    let directory = tempfile::tempdir().unwrap();
    let authority_file = directory.path().join("authority.pem");
    let (relay, authority) = Relay::vouched_for("relay.example");
    std::fs::write(&authority_file, authority).unwrap();
    let network = Network { authority_file: Some(authority_file), ..Network::default() };
    let config = Config { network, ..quick() };
    let invite = Invite { pin: None, ..relay.invite() };
    let error = in_time(Client::connect(&invite, Person::new().device(), config)).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_a_relay_lets_nobody_in() {
    let relay = Relay::closed();
    assert!(matches!(refused(&relay.invite()).await, Error::Closed(CloseCode::NOT_ADMITTED)));
    let forged = Invite { token: Some("a.b.c".into()), ..relay.invite() };
    assert!(matches!(refused(&forged).await, Error::Closed(CloseCode::NOT_ADMITTED)));
    let admitted = in_time(Client::connect(&relay.invite_with_token(), Person::new().device(), quick())).await;
    admitted.unwrap().0.close().await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_that_the_relay_has_another_key_and_keeps_a_link_to_it() {
    let state = tempfile::tempdir().unwrap();
    let relay = Relay::open_in(state.path());
    let old = relay.invite();
    let (client, mut events) = in_time(Client::connect(&old, Person::new().device(), quick())).await.unwrap();
    assert_eq!(client.invite(), old);
    let relay = relay.restart_with_another_key(state.path()).await;
    let pin = relay.invite().pin.unwrap();
    assert_ne!(Some(pin), old.pin);
    let told = in_time(async {
        loop {
            match events.next().await {
                Some(Event::RelayKeyChanged(pin)) => return pin,
                Some(_) => {}
                None => panic!("the client is gone"),
            }
        }
    });
    assert_eq!(told.await, pin);
    assert_eq!(client.invite(), relay.invite());
    client.close().await;
    // Whoever comes with the old link hears of it at once, and with the kept one of nothing.
    let (client, mut events) = in_time(Client::connect(&old, Person::new().device(), quick())).await.unwrap();
    assert!(matches!(in_time(events.next()).await, Some(Event::RelayKeyChanged(now)) if now == pin));
    let kept = client.invite();
    client.close().await;
    let (client, mut events) = in_time(Client::connect(&kept, Person::new().device(), quick())).await.unwrap();
    client.close().await;
    assert!(matches!(in_time(events.next()).await, None | Some(Event::Closed(_))));
}
