//! Who gets in.

use supernode_client::{
    Client, Error,
    proto::{close::CloseCode, identity::RelayPin, invite::Invite},
};

use crate::{
    people::{Person, in_time, quick},
    relay::Relay,
};

async fn refused(invite: &Invite) -> Error {
    in_time(Client::connect(invite, Person::new().device(), quick())).await.expect_err("turned away")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_than_the_invite_names_is_not_talked_to() {
    let relay = Relay::open(1);
    let invite = Invite { pin: Some(RelayPin([7; 32])), ..relay.invite() };
    assert!(matches!(refused(&invite).await, Error::WrongPin));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_without_a_key_is_not_followed() {
    let relay = Relay::open(1);
    assert!(matches!(refused(&Invite { pin: None, ..relay.invite() }).await, Error::NoPin));
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
