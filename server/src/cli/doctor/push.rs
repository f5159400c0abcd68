//! Push services: whether the relay could wake anybody.

use std::time::Duration;

use supernode_server::control::{
    config::Config,
    push::{Dialler, Failure},
    trust,
};

use super::{Finding, bad, good, poor};

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
const CHECK: &str = "push services";

/// Whether a connection to each service that has one name comes about from here.
pub(super) fn services(config: &Config) -> Option<Finding> {
    config.push.contact.as_ref()?;
    let names: Vec<(String, u16)> =
        config.push.hosts.iter().filter_map(|host| host.one().map(|(name, port)| (name.to_owned(), port))).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(bad(CHECK, format!("were not tried: {error}"), "see what the system says")),
    };
    let dialler = Dialler::new(trust::authorities_of_machine());
    let knock = async |name: &str, port| {
        let knocked = tokio::time::timeout(PATIENCE, dialler.knock(name, port)).await;
        knocked.unwrap_or(Err(Failure::Late)).err()
    };
    let failed: Vec<String> = runtime.block_on(async {
        let mut failed = Vec::new();
        for (name, port) in &names {
            failed.extend(knock(name, *port).await.map(|failure| format!("{name}: {}", words(failure))));
        }
        failed
    });
    // A name that does not resolve may hold this one up.
    runtime.shutdown_background();
    Some(match failed.len() {
        0 => good(CHECK, format!("{} of {} can be tried, and are there", names.len(), config.push.hosts.len())),
        count => {
            let advice = "let TCP 443 out to the hosts in push.hosts, and install the system's certificates \
                          (ca-certificates)";
            let found = failed.join("; ");
            if count == names.len() { bad(CHECK, found, advice) } else { poor(CHECK, found, advice) }
        }
    })
}

fn words(failure: Failure) -> &'static str {
    match failure {
        Failure::Late => "does not answer",
        Failure::Private => "leads into a private network, where nothing is sent",
        Failure::Unreachable => "cannot be reached, or its certificate is of nobody whom this machine trusts",
        Failure::Broken => "breaks the connection off",
    }
}
