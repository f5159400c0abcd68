//! What a client can be told.

use std::time::Duration;

use supernode_proto::identity::Revocation;
use supernode_session::Patience;

use crate::wire::bearer::Network;

/// Settings of a [`Client`](crate::Client). The defaults suit a person's device.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to get to the relay.
    pub network: Network,
    /// Longest that reaching the relay and being let in may take. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest to wait for a reply. Default 10 s.
    pub request_timeout: Duration,
    /// A relay that does not answer what we send for this long is taken for gone. Default 4 s, in which it is asked several
    /// times more: with the time that another address takes, whoever was in a call at a machine that died hears again within 6 s.
    pub silence_max: Duration,
    /// How long to go on trying when the relay cannot be reached any more. Default 5 min.
    pub reconnect_for: Duration,
    /// Ceiling of the first wait before connecting again; it doubles with every failure. Default 250 ms.
    pub backoff_base: Duration,
    /// Highest ceiling of a wait. Default 15 s.
    pub backoff_max: Duration,
    /// A member that vanished without ending its tracks has this long to come back before
    /// [`Call::ended`](crate::Call::ended) gives up on it. Default 15 s.
    pub rejoin_grace: Duration,
    /// A call's group gets fresh keys at least so often, from whichever member is first; each removal brings some too, and
    /// each member's own keys are replaced at least once in 32 times this. Default 15 min: whoever copied a device's keys
    /// hears so much at most, and a commit of a few kilobytes in that time costs nothing. At least 1 s.
    pub renew_keys_within: Duration,
    /// Offers of key packages to keep at the relay: how many calls can reach this device before it deposits again, which it
    /// does after each. Default 4, of 3.3 kB each: so many within one round trip. At most what the relay grants.
    pub key_packages: usize,
    /// Tickets of ours of a lower generation were taken back: the relay and this client refuse them. Default 0.
    pub ticket_generation: u32,
    /// Our identity's word on which of our devices count no more, if there is one: told to the relay, to our other devices,
    /// and in every ring. Default none.
    pub revocation: Option<Revocation>,
    /// Events that may wait to be read; further ones are dropped and counted. Default 256.
    pub events_max: usize,
    /// For tests: what comes between us and the relay.
    #[cfg(feature = "lying")]
    pub liar: Option<std::sync::Arc<crate::Liar>>,
}

impl Config {
    /// How patiently the session is got back, for so long.
    pub(crate) fn patience(&self, give_up_after: Duration) -> Patience {
        Patience { backoff_base: self.backoff_base, backoff_max: self.backoff_max, give_up_after }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(4),
            reconnect_for: Duration::from_secs(300),
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(15),
            rejoin_grace: Duration::from_secs(15),
            renew_keys_within: Duration::from_secs(900),
            key_packages: 4,
            ticket_generation: 0,
            revocation: None,
            events_max: 256,
            #[cfg(feature = "lying")]
            liar: None,
        }
    }
}
