//! The bucket itself.

use std::{future::ready, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        consumer::{DeliverPolicy, push::OrderedConfig},
        context::{GetStreamErrorKind, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream},
    },
};
use futures_util::{Stream as Entries, StreamExt as _};
use supernode_cluster::{Act, Answer, Entry, Key, Value};
use thiserror::Error;

use super::record::{self, RecordKey};

/// Where a cluster's bucket is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The cluster's name: letters, digits, `-` and `_`, at most [`NAME_BYTES_MAX`]. It is part of the stream's name and subjects.
    pub cluster: String,
    /// On how many servers the stream is kept. With one, its death is the bucket's; with three, one may die.
    pub replicas: usize,
    /// What its nodes mark their records with.
    pub key: RecordKey,
}

/// How long a cluster's name may be: NATS shows names of streams in full.
pub const NAME_BYTES_MAX: usize = 32;

/// Why there is no bucket.
#[derive(Debug, Error)]
pub enum BucketError {
    /// The name is not one.
    #[error("cluster name {0:?}: 1 to {NAME_BYTES_MAX} letters, digits, - and _")]
    Name(String),
    /// The server does not make the stream.
    #[error(
        "NATS does not keep the stream {stream}: {why}. Is JetStream on (`jetstream {{}}` in its configuration), and may this user use it?"
    )]
    Stream {
        /// The stream's name.
        stream: String,
        /// What it said.
        why: String,
    },
    /// What stands in it was written with another secret.
    #[error("the stream {stream} has records that were not written with this cluster's secret")]
    Secret {
        /// The stream's name.
        stream: String,
    },
    /// The epoch's records cannot be watched.
    #[error("NATS does not show what is written to the stream {stream}: {why}")]
    Watch {
        /// The stream's name.
        stream: String,
        /// What it said.
        why: String,
    },
}

/// A cluster's bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    context: Context,
    /// What all subjects begin with.
    root: String,
    config: Config,
    key: RecordKey,
}

impl Bucket {
    /// The bucket at a place. Whether it is there shows when it is asked: it is made where it is missing.
    ///
    /// # Errors
    /// If the cluster's name is none.
    pub fn new(client: Client, place: &Place, timeout: Duration) -> Result<Self, BucketError> {
        let name = &place.cluster;
        let may = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(may) {
            return Err(BucketError::Name(name.clone()));
        }
        let mut context = jetstream::new(client);
        context.set_timeout(timeout);
        let root = format!("supernode.{name}.homes");
        let config = Config {
            name: format!("SUPERNODE_{name}"),
            description: Some("Supernode: which nodes live, and where rooms have their home".to_owned()),
            subjects: vec![format!("{root}.>")],
            // The newest of each subject, kept for ever: what is old is what still holds.
            max_messages_per_subject: 1,
            discard: DiscardPolicy::Old,
            // Beside a restart of the server, what was written is what was decided.
            storage: StorageType::File,
            num_replicas: place.replicas,
            // Only the leader answers: a replica may be behind.
            allow_direct: false,
            ..Config::default()
        };
        Ok(Self { context, root, config, key: place.key.clone() })
    }

    /// Makes the stream if it is not there.
    ///
    /// # Errors
    /// If the server does not.
    pub async fn ensure(&self) -> Result<(), BucketError> {
        let made = self.context.get_or_create_stream(self.config.clone()).await;
        made.map(|_| ())
            .map_err(|error| BucketError::Stream { stream: self.config.name.clone(), why: error.to_string() })
    }

    /// Whether a node could live by it, as far as can be told without writing: JetStream is there, and if the stream is,
    /// nobody with another secret writes to it.
    ///
    /// # Errors
    /// See [`BucketError`].
    pub async fn look(&self) -> Result<(), BucketError> {
        /// "stream not found"
        const NOT_THERE: usize = 404;
        let failed = |why| BucketError::Stream { stream: self.config.name.clone(), why };
        // Where JetStream is off, nobody answers.
        let stream = match self.context.get_stream(&self.config.name).await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    GetStreamErrorKind::JetStream(error) if error.code() == NOT_THERE => Ok(()),
                    _ => Err(failed(error.to_string())),
                };
            }
        };
        let below = record::subject(Key::Epoch);
        match stream.get_last_raw_message_by_subject(&self.subject(&below)).await {
            Ok(message) => match self.key.unmarked(&below, &message.payload) {
                Some(_) => Ok(()),
                None => Err(BucketError::Secret { stream: self.config.name.clone() }),
            },
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(()),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Asks it something.
    pub async fn ask(&self, act: Act) -> Answer {
        match act {
            Act::Read(key) => self.read(key).await,
            Act::Write { key, expected, value } => self.write(key, expected, value).await,
        }
    }

    /// Whatever is written to the records of an epoch's nodes from now on, after the newest of each that is there.
    ///
    /// # Errors
    /// If there is no stream.
    pub async fn watch(&self, epoch: u64) -> Result<impl Entries<Item = Entry> + Unpin + use<>, BucketError> {
        let failed = |why: String| BucketError::Watch { stream: self.config.name.clone(), why };
        let stream = self.stream().await.map_err(failed)?;
        let config = OrderedConfig {
            deliver_subject: self.context.client().new_inbox(),
            filter_subject: self.subject(&record::watched(epoch)),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(error.to_string()))?;
        let messages = consumer.messages().await.map_err(|error| failed(error.to_string()))?;
        let (below, key) = (format!("{}.", self.root), self.key.clone());
        // It ends at the first failure: whoever watches begins anew, with the newest of each record.
        let entries = messages.take_while(|message| ready(message.is_ok())).filter_map(move |message| {
            let entry = message.ok().and_then(|message| {
                let revision = message.info().ok()?.stream_sequence;
                entry(&key, message.subject.strip_prefix(&below)?, revision, &message.payload)
            });
            ready(entry)
        });
        Ok(Box::pin(entries))
    }

    fn subject(&self, below: &str) -> String {
        format!("{}.{below}", self.root)
    }

    async fn stream(&self) -> Result<Stream<()>, String> {
        self.context.get_stream_no_info(&self.config.name).await.map_err(|error| error.to_string())
    }

    async fn read(&self, key: Key) -> Answer {
        let Ok(stream) = self.stream().await else { return Answer::Unknown };
        let below = record::subject(key);
        match stream.get_last_raw_message_by_subject(&self.subject(&below)).await {
            // What this node cannot read is not what it may overwrite.
            Ok(message) => entry(&self.key, &below, message.sequence, &message.payload)
                .map_or(Answer::Unknown, |entry| Answer::Found(Some(entry))),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Answer::Found(None),
                // Whatever else it is, it may be that there is no stream, which servers do not always say.
                _ => self.make().await,
            },
        }
    }

    async fn write(&self, key: Key, expected: u64, value: Value) -> Answer {
        let below = record::subject(key);
        let subject = self.subject(&below);
        let text = self.key.marked(&below, &record::text(value));
        let message = PublishMessage::build().payload(text.into()).expected_last_subject_sequence(expected);
        let written = match self.context.send_publish(subject.clone(), message).await {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        match written {
            Ok(acknowledged) => {
                if value == Value::Empty {
                    self.forget(&subject, acknowledged.sequence).await;
                }
                Answer::Written(acknowledged.sequence)
            }
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => Answer::Conflict,
                PublishErrorKind::StreamNotFound => self.make().await,
                _ => Answer::Unknown,
            },
        }
    }

    /// The record of a room that nobody is in says as much as none. Where that fails, it stays and does no harm.
    async fn forget(&self, subject: &str, revision: u64) {
        if let Ok(stream) = self.stream().await {
            // What was written after it stays.
            let purged = stream.purge().filter(subject).sequence(revision + 1).await;
            tracing::debug!(purged = purged.is_ok(), "a room is empty");
        }
    }

    async fn make(&self) -> Answer {
        if let Err(error) = self.ensure().await {
            tracing::debug!(%error, "there is no bucket");
        }
        Answer::Unknown
    }
}

fn entry(mark: &RecordKey, below: &str, revision: u64, marked: &[u8]) -> Option<Entry> {
    let key = record::key(below)?;
    let text = mark.unmarked(below, marked)?;
    Some(Entry { key, revision, value: record::value(key, text)? })
}
