//! A connection's 1-RTT keys after its first ones (RFC 9001 section 6), made when they are first used.
//!
//! quinn-proto asks for the next keys as soon as it begins to use some, and so every connection would keep those of two
//! more directions ready. It needs new ones once within its first thousand packets, and then as good as never again.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::BytesMut;
use quinn_proto::crypto::{CryptoError, KeyPair, PacketKey};
use rustls::quic::{PacketKeySet, Secrets};

/// Packets that a client may be sent under new keys of the relay's before it has used them itself. Above it the session
/// is closed: QUIC changes keys only once the change before was answered, and would go on with these beyond what their
/// cipher is good for, 2^23 packets (RFC 9001 section 6.6). Default 2^16, more than any path has on its way: whoever has got
/// one of them answers with them (section 6.2, R-140).
pub(crate) const UNANSWERED_PACKETS_MAX: u64 = 1 << 16;

/// The key phases of a connection that are still to come.
pub(crate) struct KeyPhases {
    /// Of the first one, until it is asked for.
    secrets: Option<Box<Secrets>>,
    /// What was given away last, which has the secrets since.
    ahead: Option<Arc<KeyPhase>>,
    /// The present one, if it is not the first.
    present: Option<Arc<KeyPhase>>,
    limits: Limits,
}

/// What QUIC wants to know of keys before it uses them. It follows from the cipher suite, which stays.
#[derive(Clone, Copy)]
struct Limits {
    tag_len: usize,
    confidentiality: u64,
    integrity: u64,
}

impl KeyPhases {
    /// Those after the first one, which has this key.
    pub(crate) fn after(key: &dyn PacketKey, secrets: Secrets) -> Self {
        let limits = Limits {
            tag_len: key.tag_len(),
            confidentiality: key.confidentiality_limit(),
            integrity: key.integrity_limit(),
        };
        Self { secrets: Some(Box::new(secrets)), ahead: None, present: None, limits }
    }

    /// How many packets the client was sent under keys that it has not used itself.
    pub(crate) fn unanswered(&self) -> u64 {
        let sent = |phase: &Arc<KeyPhase>| match phase.is_answered.load(Ordering::Relaxed) {
            true => 0,
            false => phase.sent.load(Ordering::Relaxed),
        };
        self.present.as_ref().map_or(0, sent)
    }

    /// The keys of the next one. quinn-proto asks for them when those that it got before begin to be used.
    pub(crate) fn next(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let secrets = match self.ahead.take() {
            Some(begun) => {
                let secrets = begun.begin();
                self.present = Some(begun);
                secrets
            }
            None => self.secrets.take(),
        };
        let (secrets, keys) = (Mutex::new(Some(secrets?)), OnceLock::new());
        let phase = Arc::new(KeyPhase {
            secrets,
            keys,
            limits: self.limits,
            sent: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
        });
        self.ahead = Some(phase.clone());
        Some(KeyPair {
            local: Box::new(PhaseKey { phase: phase.clone(), is_local: true }),
            remote: Box::new(PhaseKey { phase, is_local: false }),
        })
    }
}

#[cfg(test)]
impl KeyPhases {
    /// Whether the next phase's keys have been made.
    pub(crate) fn is_made(&self) -> bool {
        self.ahead.as_ref().is_some_and(|phase| phase.keys.get().is_some())
    }
}

/// One key phase. Its keys are made when the first packet of it is sent, or one comes that says it is of it.
///
/// RFC 9001 section 6.3 allows that, and says at what price: who measures how long a packet takes may learn that keys were
/// made for it, and so its key phase bit. For a genuine packet quinn-proto shows the same, for it has the keys after the
/// next made then. A forged one shows it once in a key phase, because keys stay once they are made: from then on packets
/// take the same time whatever they say, as section 9.5 wants it. What is learnt is how often a connection has changed its
/// keys, nothing of what they protect; and what a forger can make the relay do is a few hashes, once.
struct KeyPhase {
    /// Of this phase until its keys are made, then of the one after it, then taken there.
    secrets: Mutex<Option<Box<Secrets>>>,
    keys: OnceLock<PacketKeySet>,
    limits: Limits,
    /// Packets that were sent before the client used it too.
    sent: AtomicU64,
    /// A packet of it has come from the client.
    is_answered: AtomicBool,
}

impl KeyPhase {
    fn keys(&self) -> &PacketKeySet {
        self.keys.get_or_init(|| {
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.as_mut().expect("taken only after the keys were made").next_packet_keys()
        })
    }

    /// It has come: gives away the secrets of the one after it.
    fn begin(&self) -> Option<Box<Secrets>> {
        self.keys();
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A phase's key of one direction.
struct PhaseKey {
    phase: Arc<KeyPhase>,
    is_local: bool,
}

impl PhaseKey {
    /// By its type, not as `dyn`: a packet takes one call through a table for quinn-proto's trait and one for rustls's.
    fn key(&self) -> &impl PacketKey {
        let keys = self.phase.keys();
        if self.is_local { &keys.local } else { &keys.remote }
    }
}

impl PacketKey for PhaseKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        if !self.phase.is_answered.load(Ordering::Relaxed) {
            self.phase.sent.fetch_add(1, Ordering::Relaxed);
        }
        PacketKey::encrypt(self.key(), packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        PacketKey::decrypt(self.key(), packet, header, payload)?;
        if !self.phase.is_answered.load(Ordering::Relaxed) {
            self.phase.is_answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.phase.limits.tag_len
    }

    fn confidentiality_limit(&self) -> u64 {
        self.phase.limits.confidentiality
    }

    fn integrity_limit(&self) -> u64 {
        self.phase.limits.integrity
    }
}
