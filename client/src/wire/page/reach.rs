//! How a page gets to relays: by the host, if an authority vouches for it, else by certificates of the pinned key.

use std::{
    collections::HashMap,
    sync::{Mutex, Weak},
    time::Duration,
};

use supernode_proto::{
    H3_PATH,
    close::CloseCode,
    identity::RelayPin,
    invite::{HostPort, Invite},
};
use supernode_session::{Known, pages::Demanded};

use super::{
    Candidate, Place,
    certificates::{self, places},
    connection::{Connection, Order, Shared},
    network::Network,
    tasks::{Opening, open},
};
use crate::{
    Error,
    runtime::sleep,
    sync::lock,
    wire::{
        ended::ConnectionFailure,
        places::Places,
        race::race,
        unreachable::{Silent, Unreachable},
    },
};

/// How long a goodbye may take to get out. A browser does not tell.
const GOODBYE: Duration = Duration::from_millis(200);

/// A page's ways to relays, and what is known of them from one connection to the next.
pub(crate) struct Reach {
    invite: Invite,
    network: Network,
    /// Where it may be.
    pub(crate) places: Places,
    /// The certificates that each host's relay told last: they may be shown for days.
    told: Mutex<HashMap<Place, Vec<Demanded>>>,
    /// All that there were and that may still stand.
    connections: Mutex<Vec<Weak<Shared>>>,
}

impl Reach {
    /// To the relay of this invite.
    pub(crate) fn new(invite: &Invite, network: &Network) -> Result<Self, Error> {
        let (invite, network, places) = (invite.clone(), network.clone(), Places::new(invite));
        Ok(Self { invite, network, places, told: Mutex::default(), connections: Mutex::default() })
    }

    /// Connects to the first of these hosts that answers: each is tried a moment after the one before. `None` if none
    /// does, and `tried` says what came of them.
    pub(crate) async fn dial(
        &self,
        hosts: &[HostPort],
        except: &[Place],
        tried: &mut Tried,
    ) -> Result<Option<(Place, Connection)>, Error> {
        tried.by_pin = self.invite.pin.is_some();
        let before = tried.outcomes.len();
        let hosts: Vec<Vec<Place>> = hosts.iter().map(|host| vec![host.clone()]).collect();
        // Of which family an address is, only the browser knows.
        let steps = self.places.order(&hosts, |_| false, except).into_iter().map(|place| vec![place]).collect();
        let Some((place, connection)) = race(steps, tried, |place| self.dial_one(place)).await else { return Ok(None) };
        let slower = tried.outcomes[before..].iter().map(|(other, _)| other).take_while(|other| **other != place);
        slower.for_each(|slower| self.places.avoid(slower));
        Ok(Some((place, connection)))
    }

    async fn dial_one(&self, place: Place) -> Result<Connection, Error> {
        let url = format!("https://{place}{H3_PATH}");
        let Some(pin) = &self.invite.pin else {
            return self.open(url, None, Known::Host(place.host.to_ascii_lowercase())).await;
        };
        let known = lock(&self.told).get(&place).cloned();
        let Some(known) = known else {
            let told = self.certificates(&place, pin).await?;
            return self.open_demanding(&url, &told).await;
        };
        match self.open_demanding(&url, &known).await {
            Ok(connection) => Ok(connection),
            // It may show another one by now.
            Err(error) => {
                let told = self.certificates(&place, pin).await?;
                if told == known { Err(error) } else { self.open_demanding(&url, &told).await }
            }
        }
    }

    async fn certificates(&self, place: &Place, pin: &RelayPin) -> Result<Vec<Demanded>, Error> {
        let told = certificates::told(places(&self.invite, &self.network, &place.host), pin).await?;
        let mut known = lock(&self.told);
        // Of others that are not in the invite, the last is enough.
        known.retain(|known, _| self.places.names(known));
        known.insert(place.clone(), told.clone());
        Ok(told)
    }

    async fn open_demanding(&self, url: &str, demanded: &[Demanded]) -> Result<Connection, Error> {
        let hashes = demanded.iter().map(|demanded| demanded.sha256).collect();
        let mut pins: Vec<_> = demanded.iter().map(|demanded| demanded.pin).collect();
        pins.dedup();
        self.open(url.to_owned(), Some(hashes), Known::Keys(pins)).await
    }

    async fn open(&self, url: String, hashes: Option<Vec<[u8; 32]>>, known: Known) -> Result<Connection, Error> {
        let opened = open(Opening { url, hashes, known }).await.map_err(|_| Error::Disconnected)?;
        let connection = opened.map_err(|said| Error::Connection(ConnectionFailure::passing(said)))?;
        let mut known = lock(&self.connections);
        known.retain(|shared| shared.strong_count() > 0);
        known.push(connection.downgrade());
        Ok(connection)
    }

    /// Ends every connection: also one that was given up and that the relay may still keep.
    pub(crate) fn close(&self, code: CloseCode) {
        for shared in lock(&self.connections).iter().filter_map(Weak::upgrade) {
            // Once its tasks are gone it is over.
            let _ = shared.orders.send(Order::Close(code));
        }
    }

    /// Waits until the relay may know that all connections are over.
    pub(crate) async fn wait_idle(&self) {
        sleep(GOODBYE).await;
    }
}

/// What was tried, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    outcomes: Vec<(Candidate, Option<Error>)>,
    by_pin: bool,
}

impl Tried {
    pub(crate) fn begin(&mut self, candidate: Candidate) {
        self.outcomes.push((candidate, None));
    }

    pub(crate) fn note(&mut self, candidate: &Candidate, error: Error) {
        if let Some((_, outcome)) = self.outcomes.iter_mut().rev().find(|(tried, _)| tried == candidate) {
            *outcome = Some(error);
        }
    }

    /// Why nobody answered. A browser does not tell a page whether it was the path, the port or the certificate.
    pub(crate) fn into_error(mut self, _reach: &Reach) -> Error {
        let is = |kind: fn(&Error) -> bool| {
            move |(_, outcome): &(Candidate, Option<Error>)| outcome.as_ref().is_some_and(kind)
        };
        // Whoever is not whom we look for is worse than silence; of certificates that nobody tells, all have to be silent.
        let stranger = self.outcomes.iter().position(is(|error| matches!(error, Error::WrongPin)));
        let is_untold = is(|error| matches!(error, Error::Certificates(_)));
        let untold = self.outcomes.iter().all(&is_untold).then_some(0).filter(|_| !self.outcomes.is_empty());
        if let Some(error) = stranger.or(untold).and_then(|place| self.outcomes.swap_remove(place).1) {
            return error;
        }
        let advice = match self.by_pin {
            true => "Is the address right, and does this network let UDP through?",
            false => {
                "Is the address right, does this network let UDP through, and does this browser trust the relay's certificate?"
            }
        };
        let silent = |(place, outcome): (Candidate, Option<Error>)| Silent {
            place: format!("WebTransport {place}"),
            address: None,
            outcome: match outcome {
                Some(Error::Connection(failure)) => failure.to_string(),
                Some(error) => error.to_string(),
                None => "no answer in time".to_owned(),
            },
        };
        let tried = self.outcomes.into_iter().map(silent).collect();
        Error::Unreachable(Unreachable { tried, nothing_listens: false, advice: advice.to_owned() })
    }
}

/// A host as a URL has it.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
