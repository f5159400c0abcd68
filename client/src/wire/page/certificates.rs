//! Which certificates the relay may show a page, as it tells by plain HTTP. Whoever tells it need not be believed.

use std::time::Duration;

use supernode_proto::{identity::RelayPin, invite::Invite};
use supernode_session::pages::Demanded;
use tokio::sync::oneshot;
use wasm_bindgen_futures::spawn_local;

use super::{
    js::{self, Said},
    network::Network,
    reach::bracketed,
};
use crate::{
    Error,
    runtime::timeout,
    wire::{certificates::demanded, clock, ended::ConnectionFailure},
};

/// What a relay tells is some 2 KiB. Unit: bytes.
const TOLD_BYTES_MAX: usize = 64 * 1024;
/// How long one place may take to answer. Default 4 s: two of them are asked within the time that reaching a relay may take.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Where they may be told, the likeliest first: where this program says; at the page's own origin, if the relay's host serves
/// it; at the port that the invite names.
pub(super) fn places(invite: &Invite, network: &Network, host: &str) -> Vec<String> {
    let own = js::own_origin().filter(|origin| host_of(origin) == Some(bracketed(host).to_ascii_lowercase().as_str()));
    let own = own.map(|origin| format!("{origin}/certificates"));
    let by_invite = invite.pages.map(|port| format!("http://{}:{port}/certificates", bracketed(host)));
    network.certificates.clone().into_iter().chain(own).chain(by_invite).collect()
}

/// The host in an origin, in lower case as a browser writes it.
fn host_of(origin: &str) -> Option<&str> {
    let authority = origin.split_once("://")?.1;
    let port = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
    Some(&authority[..port.unwrap_or(authority.len())])
}

/// Those that are told at the first of these places that answers, and are of the relay with this pin.
///
/// # Errors
/// [`Error::Certificates`] if nobody tells any, [`Error::WrongPin`] if all that are told are of another relay.
pub(super) async fn told(places: Vec<String>, pin: &RelayPin) -> Result<Vec<Demanded>, Error> {
    let mut failure =
        Said::new("the link does not say where the relay tells them (pages=), and it has not served this page");
    let mut others = false;
    for place in places {
        let (tell, answer) = oneshot::channel();
        // Nobody may wait any more.
        spawn_local(async move { drop(tell.send(js::get_file(&place, TOLD_BYTES_MAX).await)) });
        match timeout(ANSWER_MAX, answer).await {
            Ok(Ok(Ok(file))) => match demanded(&file, pin, clock::judging_unix_s()) {
                Some(demanded) if !demanded.is_empty() => return Ok(demanded),
                Some(_) => others = true,
                None => failure = Said::new("what is told there is no list of certificates"),
            },
            Ok(Ok(Err(said))) => failure = said,
            Ok(Err(_)) | Err(_) => failure = Said::new("no answer in time"),
        }
    }
    if others { Err(Error::WrongPin) } else { Err(Error::Certificates(ConnectionFailure::passing(failure))) }
}
