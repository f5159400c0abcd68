//! Rings that come again.

use std::sync::{Arc, Mutex};

use supernode_client::{
    Config, Liar, RingOutcome,
    proto::control::{IncomingRing, RelayMessage, relay_message},
};
use supernode_client_testkit::{Person, in_time, next_ring, quick};
use supernode_testkit::Relay;

/// The relay brings each ring again under another name, as often as it likes: by a one-time key package, and by a last
/// resort, whose private part is still there.
//
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_the_relay_brings_again_is_shown_once() {
    let relay = Relay::open(1);
    let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let (other, _other_events) = carol.online(&relay.invite()).await;
    for key_packages in [0, 4] {
        let liar = Liar::honest();
        let config = Config { liar: Some(liar.clone()), key_packages, ..quick() };
        let (callee, mut events) = bob.online_with(&relay.invite(), config).await;
        let brought: Arc<Mutex<Vec<IncomingRing>>> = Arc::default();
        let noted = brought.clone();
        liar.tell(move |message: RelayMessage| {
            if let Some(relay_message::Body::IncomingRing(ring)) = &message.body {
                noted.lock().unwrap().push(ring.clone());
            }
            vec![message]
        });
        let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
        in_time(next_ring(&mut events).await.decline()).await.unwrap();
        assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Declined)));

        let first = brought.lock().unwrap().remove(0);
        for name in [first.ring.clone(), vec![7; 16].into()] {
            liar.invent(0, relay_message::Body::IncomingRing(IncomingRing { ring: name, ..first.clone() }));
        }
        let ring = in_time(other.ring(&bob.ticket())).await.unwrap();
        let next = next_ring(&mut events).await;
        assert_eq!(next.caller().identity, carol.public(), "the next one that is shown");
        drop((ring, next));
        in_time(callee.close()).await;
    }
}
