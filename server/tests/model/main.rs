//! The control protocol against a small reference: whatever several clients ask at the same time, there is an order in
//! which the reference would have answered the same.
//!
//! 200 sequences; `SUPERNODE_MODEL_SEQUENCES=5000` for a night. A failing one is made as short as it can be, printed, and
//! its seed kept in `tests/proptest-regressions`.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test binary: nothing is reachable from outside, a failed unwrap is a failed test, and of the relay's \
              tests' client only some is used"
)]

mod play;
mod reference;

use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};

use play::{Act, Play};

/// Sequences in the gate.
const SEQUENCES: u32 = 200;
/// Moments in one of them; in each up to three people ask something.
const MOMENTS_MAX: usize = 24;
/// The environment variable with another number.
const VARIABLE: &str = "SUPERNODE_MODEL_SEQUENCES";
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/model.txt");

fn act() -> impl Strategy<Value = Act> {
    let n = || any::<u8>();
    prop_oneof![
        6 => (n(), n(), n()).prop_map(|(room, key, honest)| Act::Join(room, key, honest)),
        2 => n().prop_map(Act::Leave),
        2 => (n(), n()).prop_map(|(room, whom)| Act::Kick(room, whom)),
        1 => (n(), n()).prop_map(|(room, key)| Act::Rotate(room, key)),
        3 => (n(), n(), any::<bool>()).prop_map(|(room, epoch, commit)| Act::Mls(room, epoch, commit)),
        2 => (n(), n()).prop_map(|(room, after)| Act::CatchUp(room, after)),
        4 => (n(), n()).prop_map(|(room, kind)| Act::Publish(room, kind)),
        2 => n().prop_map(Act::Unpublish),
        1 => n().prop_map(Act::Relabel),
        4 => (n(), n()).prop_map(|(track, layer)| Act::Subscribe(track, layer)),
        2 => n().prop_map(Act::Unsubscribe),
        1 => n().prop_map(Act::Keyframe),
        2 => n().prop_map(Act::Deposit),
        4 => n().prop_map(Act::Take),
        3 => n().prop_map(Act::Ring),
        2 => n().prop_map(Act::Answer),
        1 => (n(), any::<bool>()).prop_map(|(ring, busy)| Act::Decline(ring, busy)),
        1 => n().prop_map(Act::Cancel),
    ]
}

/// What up to three people ask at the same time; each person asks one thing.
fn moment() -> impl Strategy<Value = Vec<(u8, Act)>> {
    proptest::collection::vec((any::<u8>(), act()), 1..=3)
}

#[test]
fn whatever_several_clients_ask_at_once_there_is_an_order_in_which_the_reference_answers_the_same() {
    let cases = std::env::var(VARIABLE).map_or(SEQUENCES, |text| text.parse().expect("a number of sequences"));
    let config = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let strategy = (1usize..=3, proptest::collection::vec(moment(), 1..MOMENTS_MAX));
    let result = TestRunner::new(config).run(&strategy, |(shards, moments)| {
        runtime.block_on(async {
            let mut play = Play::begin(shards).await;
            for moment in moments {
                play.moment(moment).await.map_err(TestCaseError::fail)?;
            }
            play.end().await.map_err(TestCaseError::fail)
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
