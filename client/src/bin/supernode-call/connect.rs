//! The way into the relay, also for a device whose clock is not right yet.

use std::{path::Path, time::Duration};

use supernode_client::{Client, Config, Error, Events, clock_set};
use tokio::time::Instant;

use crate::{
    failure::Failure,
    papers::{identity, links::OwnInvite},
    progress::note,
    trouble::Trouble,
};

/// How long to wait for a clock to be set, as a machine does after it was switched on.
const CLOCK_PATIENCE: Duration = Duration::from_secs(600);
/// How often to ask meanwhile whether it is the relay's that was set.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Connects with the device of this identity file, which is certified by the clock of this moment.
pub(crate) async fn connect(path: &Path, own: &OwnInvite, config: Config) -> Result<(Client, Events), Failure> {
    let give_up_at = Instant::now() + CLOCK_PATIENCE;
    let mut told = false;
    loop {
        let who = identity::load(path)?;
        let (ticket_generation, revocation) = (who.ticket_generation(), who.revocation());
        let config = Config { ticket_generation, revocation, ..config.clone() };
        // It may be set before the relay's answer is here.
        let clock_set = clock_set();
        match Client::connect(&own.invite, who.into_device()?, config).await {
            Err(Error::ClockDiffers(skew)) if Instant::now() < give_up_at => {
                if !std::mem::replace(&mut told, true) {
                    let minutes = CLOCK_PATIENCE.as_secs() / 60;
                    note(&format!("{skew}: waiting until the one that is wrong is set, at most {minutes} min"));
                }
            }
            Ok((client, events)) => {
                own.keep(&client.invite());
                return Ok((client, events));
            }
            Err(error) => return Err(Failure::relay(error).about(&own.invite.host, own.invite.port)),
        }
        tokio::select! {
            () = clock_set => {}
            () = tokio::time::sleep(ASK_AGAIN) => {}
            _ = tokio::signal::ctrl_c() => return Err(Failure::no_call(Trouble::Interrupted)),
        }
    }
}
