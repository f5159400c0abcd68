//! What time it is: this device's clock, and how far the relay's is from it.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use supernode_proto::{close::CloseCode, identity::Delegation};
use supernode_session::{ClockSkew, Clocks};

pub(crate) use crate::runtime::moment;
use crate::{
    Error,
    runtime::{sleep, unix},
    wire::ended::Ended,
};

/// How often a clock that is to be set is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A clock that moves by more than this from one look to the next was set.
const SET_MIN: Duration = Duration::from_secs(30);

/// How far the clock of the relay that we saw last is ahead of this machine's, which has but one.
static RELAY_AHEAD_S: AtomicI64 = AtomicI64::new(0);

/// Now, on both clocks.
pub(crate) fn both() -> Clocks {
    Clocks { moment: moment(), unix: unix() }
}

/// The time by which others' certificates are judged, in seconds since 1970.
pub(crate) fn judging_unix_s() -> u64 {
    ClockSkew::judging_unix_s(unix_s(), RELAY_AHEAD_S.load(Relaxed))
}

fn unix_s() -> u64 {
    unix().as_secs()
}

/// Takes note of the relay's clock in a Welcome, in milliseconds since 1970.
pub(crate) fn compare(relay_unix_ms: u64) -> ClockSkew {
    let skew = ClockSkew::of(unix_s(), relay_unix_ms / 1000);
    if let Some(ahead_s) = skew.relay_ahead_s(relay_unix_ms / 1000) {
        RELAY_AHEAD_S.store(ahead_s, Relaxed);
    }
    skew
}

/// Why the relay did not take our delegation: because of the clocks, if by this one the delegation holds.
pub(crate) fn explain(error: Error, end: Option<&Ended>, delegation: &Delegation) -> Error {
    let (Error::Closed(CloseCode::DELEGATION_EXPIRED), Some(Ended::Closed { reason, .. })) = (&error, end) else {
        return error;
    };
    ClockSkew::explains(unix_s(), reason, delegation.not_after_unix_s).map_or(error, Error::ClockDiffers)
}

/// Waits until somebody has set this machine's clock since this was called, or it has woken from sleep.
pub fn clock_set() -> impl Future<Output = ()> {
    let mut before = both();
    async move {
        loop {
            let now = both();
            let passed = now.moment.since(before.moment);
            let shown = now.unix.saturating_sub(before.unix);
            if shown.abs_diff(passed) > SET_MIN || now.unix + LOOK_EVERY < before.unix {
                return;
            }
            before = now;
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{DeviceSecret, IdentitySecret};

    use super::*;

    //
    #[test]
    fn only_a_delegation_that_the_relay_takes_for_expired_is_explained_by_the_clocks() {
        let (device, in_a_month) = (DeviceSecret::from_bytes(&[1; 32]), unix_s() + 30 * 86_400);
        let delegation = IdentitySecret::from_bytes(&[2; 32]).delegate(&device.public(), in_a_month);
        let refused = |code: CloseCode| {
            let reason = bytes::Bytes::from((unix_s() + 7_200).to_string());
            let end = Ended::Closed { code, reason };
            explain(end.clone().into(), Some(&end), &delegation)
        };
        assert!(matches!(refused(CloseCode::DELEGATION_EXPIRED), Error::ClockDiffers(skew) if skew.ahead_s < -7_000));
        assert!(matches!(refused(CloseCode::NOT_ADMITTED), Error::Closed(CloseCode::NOT_ADMITTED)));
    }
}
