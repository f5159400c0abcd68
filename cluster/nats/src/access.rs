//! The way to NATS: where it is, what it lets a node in by, and how it goes.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use thiserror::Error;
use tokio::task::JoinHandle;

/// For a connection, from the first packet to the server's word that it is in order. Default 5 s: a server far away takes one.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach a server that is gone, which grows by as much with each, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
/// The longest of them: so long a node stays outside at most once its server is back.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Messages to one subject that may wait to be heard. Default 1,024: this node hears them as fast as they come; NATS drops the
/// newest.
const WAITING_MAX: usize = 1024;
/// How often a connection that says nothing is asked whether it still is one. NATS counts it as gone after two without an answer.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Where NATS is, and what it lets a node in by.
#[derive(Debug, Clone)]
pub struct Access {
    /// Addresses of servers, `tls://HOST:PORT` or `nats://HOST:PORT`.
    pub servers: Vec<String>,
    /// What they let in by.
    pub login: Login,
    /// PEM file with the root of their certificates; without it, whom this machine trusts.
    pub authority: Option<PathBuf>,
    /// What NATS shows of whoever is connected.
    pub name: String,
}

/// What NATS lets somebody in by.
#[derive(Clone)]
pub enum Login {
    /// Nothing.
    Nothing,
    /// The text of a `.creds` file: a JWT and the key that it is of.
    Credentials(String),
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Login {
    /// What the text of a file says: that of a `.creds` file, or one line `USER:PASSWORD`. `None` if it is neither.
    pub fn of_text(text: &str) -> Option<Self> {
        if text.contains("-----BEGIN ") {
            ConnectOptions::with_credentials(text).ok()?;
            return Some(Self::Credentials(text.to_owned()));
        }
        let line = text.trim_end_matches(['\n', '\r']);
        let (user, password) = line.split_once(':')?;
        let fits = !user.is_empty() && !password.is_empty() && line.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        fits.then(|| Self::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The credentials are none.
    #[error("the credentials are none that NATS knows")]
    Login,
    /// Nobody answers.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The server's certificate, or ours, is not taken.
    #[error("no TLS: {0}")]
    Tls(String),
    /// The server does not let us in.
    #[error("does not let this relay in: {0}")]
    Refused(String),
}

/// How the connection goes.
#[derive(Debug, Default)]
pub struct Figures {
    made: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Figures {
    /// How often a connection came about.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// What went wrong last, since the connection was there last.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, event: &Event) {
        let trouble = match event {
            Event::Connected => {
                self.made.fetch_add(1, Ordering::Relaxed);
                None
            }
            Event::Disconnected => Some("the connection broke".to_owned()),
            Event::ClientError(error) => Some(error.to_string()),
            Event::ServerError(error) => Some(error.to_string()),
            _ => return,
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// A connection that comes back by itself.
#[derive(Debug, Clone)]
pub struct Link {
    client: Client,
    figures: Arc<Figures>,
}

impl Link {
    /// The client, for whatever goes over it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is there now.
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Says something to whoever listens to a subject. `false` if the connection is over for good.
    pub async fn say(&self, subject: String, message: Bytes) -> bool {
        self.client.publish(subject, message).await.is_ok()
    }

    /// Listens to a subject until what is returned is dropped, also over later connections; `None` if the connection is over
    /// for good.
    pub async fn listen(&self, subject: String, mut heard: impl FnMut(Bytes) + Send + 'static) -> Option<Listening> {
        let mut messages = self.client.subscribe(subject).await.ok()?;
        let hears = async move {
            while let Some(message) = messages.next().await {
                heard(message.payload);
            }
        };
        Some(Listening(tokio::spawn(hears)))
    }

    /// How it goes.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }
}

/// Hears what is said to a subject, until it is dropped.
#[derive(Debug)]
pub struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Access {
    /// Connects, now or whenever a server can be reached.
    ///
    /// # Errors
    /// If the credentials are none.
    pub async fn keep(&self) -> Result<Link, AccessError> {
        let figures = Arc::new(Figures::default());
        let noted = figures.clone();
        let options = self.options()?.retry_on_initial_connect().event_callback(move |event| {
            noted.note(&event);
            std::future::ready(())
        });
        let client = options.connect(self.servers.as_slice()).await.map_err(|error| why(&error))?;
        Ok(Link { client, figures })
    }

    /// Connects now, or says why not.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn try_once(&self) -> Result<Client, AccessError> {
        self.options()?.connect(self.servers.as_slice()).await.map_err(|error| why(&error))
    }

    fn options(&self) -> Result<ConnectOptions, AccessError> {
        let options = match &self.login {
            Login::Nothing => ConnectOptions::new(),
            Login::Credentials(text) => ConnectOptions::with_credentials(text).map_err(|_| AccessError::Login)?,
            Login::Password { user, password } => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
        };
        let options = options
            .name(&self.name)
            .connection_timeout(CONNECT_PATIENCE)
            .ping_interval(PING_EVERY)
            .subscription_capacity(WAITING_MAX)
            .reconnect_delay_callback(|attempts| PAUSE_MAX.min(PAUSE * attempts.min(100) as u32));
        let options = match &self.authority {
            Some(path) => options.add_root_certificates(path.clone()),
            None => options,
        };
        // What a server tells of others is believed only where all are spoken to in TLS: nobody tells us to go elsewhere without.
        Ok(match self.servers.iter().all(|server| server.starts_with("tls://")) {
            true => options.require_tls(true),
            false => options.ignore_discovered_servers(),
        })
    }
}

fn why(error: &async_nats::ConnectError) -> AccessError {
    let words = error.to_string();
    match error.kind() {
        ConnectErrorKind::Tls => AccessError::Tls(words),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => AccessError::Refused(words),
        _ => AccessError::Unreachable(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_and_a_password_and_nothing_else() {
        for text in ["me:hunter2", "me:hunter2\n", "me:hunt:er2\r\n"] {
            assert!(matches!(Login::of_text(text), Some(Login::Password { .. })), "{text}");
        }
        let broken = "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n";
        for text in ["", "me", ":hunter2", "me:", "me:hunter2\nyou:hunter3", "me:hun ter2", broken] {
            assert!(Login::of_text(text).is_none(), "{text}");
        }
    }
}
