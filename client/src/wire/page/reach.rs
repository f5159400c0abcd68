//! How a page gets to relays: by the host, if an authority vouches for it, else by certificates of the pinned key.

use std::{
    sync::{Mutex, Weak},
    time::Duration,
};

use supernode_proto::{H3_PATH, close::CloseCode, identity::RelayPin, invite::Invite};
use supernode_session::{Known, pages::Demanded};

use super::{
    certificates::{self, places},
    connection::{Connection, Order, Shared},
    network::Network,
    tasks::{Opening, open},
};
use crate::{
    Error,
    runtime::sleep,
    sync::lock,
    wire::unreachable::{Silent, Unreachable},
};

/// How long a goodbye may take to get out. A browser does not tell.
const GOODBYE: Duration = Duration::from_millis(200);

/// A page's ways to relays, and what is known of them from one connection to the next.
pub(crate) struct Reach {
    invite: Invite,
    network: Network,
    /// The certificates that were told last: they may be shown for days.
    told: Mutex<Vec<Demanded>>,
    /// All that there were and that may still stand.
    connections: Mutex<Vec<Weak<Shared>>>,
}

impl Reach {
    /// To the relay of this invite.
    pub(crate) fn new(invite: &Invite, network: &Network) -> Result<Self, Error> {
        let (invite, network) = (invite.clone(), network.clone());
        Ok(Self { invite, network, told: Mutex::default(), connections: Mutex::default() })
    }

    /// Connects to a host; `None` if it does not answer, and `tried` says what came of it.
    pub(crate) async fn dial(&self, host: &str, port: u16, tried: &mut Tried) -> Result<Option<Connection>, Error> {
        let url = format!("https://{}:{port}{H3_PATH}", bracketed(host));
        tried.begin(format!("WebTransport {host}:{port}"), self.invite.pin.is_some());
        let connection = match &self.invite.pin {
            None => self.open(url, None, Known::Host(host.to_ascii_lowercase()), tried).await,
            Some(pin) => {
                let mut known = lock(&self.told).clone();
                let is_new = known.is_empty();
                if is_new {
                    known = self.certificates(host, pin).await?;
                }
                match self.open_demanding(&url, &known, tried).await {
                    Some(connection) => Some(connection),
                    // It may show another one by now.
                    None if !is_new => {
                        let told = self.certificates(host, pin).await?;
                        if told == known { None } else { self.open_demanding(&url, &told, tried).await }
                    }
                    None => None,
                }
            }
        };
        Ok(connection)
    }

    async fn certificates(&self, host: &str, pin: &RelayPin) -> Result<Vec<Demanded>, Error> {
        let places = places(&self.invite, &self.network, host);
        let told = certificates::told(places, pin).await?;
        *lock(&self.told) = told.clone();
        Ok(told)
    }

    async fn open_demanding(&self, url: &str, demanded: &[Demanded], tried: &mut Tried) -> Option<Connection> {
        let hashes = demanded.iter().map(|demanded| demanded.sha256).collect();
        let mut pins: Vec<_> = demanded.iter().map(|demanded| demanded.pin).collect();
        pins.dedup();
        self.open(url.to_owned(), Some(hashes), Known::Keys(pins), tried).await
    }

    async fn open(
        &self,
        url: String,
        hashes: Option<Vec<[u8; 32]>>,
        known: Known,
        tried: &mut Tried,
    ) -> Option<Connection> {
        match open(Opening { url, hashes, known }).await.ok()? {
            Ok(connection) => {
                let mut known = lock(&self.connections);
                known.retain(|shared| shared.strong_count() > 0);
                known.push(connection.downgrade());
                Some(connection)
            }
            Err(said) => {
                tried.note(said.to_string());
                None
            }
        }
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
    place: String,
    outcome: Option<String>,
    by_pin: bool,
}

impl Tried {
    fn begin(&mut self, place: String, by_pin: bool) {
        *self = Self { place, outcome: None, by_pin };
    }

    fn note(&mut self, outcome: String) {
        self.outcome = Some(outcome);
    }

    /// Why nobody answered. A browser does not tell a page whether it was the path, the port or the certificate.
    pub(crate) fn into_error(self, _reach: &Reach) -> Error {
        let advice = match self.by_pin {
            true => "Is the address right, and does this network let UDP through?",
            false => {
                "Is the address right, does this network let UDP through, and does this browser trust the relay's certificate?"
            }
        };
        let outcome = self.outcome.unwrap_or_else(|| "no answer in time".to_owned());
        let tried = vec![Silent { place: self.place, address: None, outcome }];
        Error::Unreachable(Unreachable { tried, nothing_listens: false, advice: advice.to_owned() })
    }
}

/// A host as a URL has it.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
