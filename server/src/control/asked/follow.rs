//! Following one client that the operator names, while somebody looks: what the door said to it, and what its sessions do.
//!
//! Nothing of it is kept: `supernode follow` asks again and again, and a few seconds after the last time the relay forgets
//! whom it was to look for.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use supernode_proto::{
    close::CloseCode,
    identity::{DeviceKey, IdentityKey},
};

use crate::{control::serve::unix_now_ms, core::Network, shard::SessionView};

/// How long whoever looks may take from one question to the next.
const PATIENCE: Duration = Duration::from_secs(10);
/// What has not been asked for by then is forgotten, the oldest first.
const EVENTS_MAX: usize = 256;

/// Who is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A person, on whatever device.
    Identity(IdentityKey),
    /// A device.
    Device(DeviceKey),
    /// Whoever comes from there.
    Network(Network),
}

impl Target {
    /// From the text of an identity, a device, an address or a prefix.
    pub fn from_text(text: &str) -> Option<Self> {
        let identity = || IdentityKey::from_text(text).ok().map(Self::Identity);
        let device = || DeviceKey::from_text(text).ok().map(Self::Device);
        identity().or_else(device).or_else(|| text.parse().ok().map(Self::Network))
    }

    fn is(&self, identity: &IdentityKey, device: &DeviceKey, from: IpAddr) -> bool {
        match self {
            Self::Identity(wanted) => wanted == identity,
            Self::Device(wanted) => wanted == device,
            Self::Network(wanted) => wanted.contains(from),
        }
    }
}

/// Something that a followed client did or was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, Unix time in milliseconds.
    pub unix_ms: u64,
    /// What.
    pub words: String,
}

/// The one that is followed, if any is.
#[derive(Debug, Default)]
pub struct Follow {
    /// Whether to look closer: nearly always not, and the door asks for everybody who comes.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    target: Option<(Target, Instant)>,
    events: VecDeque<Event>,
    /// Sessions at the last look, with what was said of each.
    sessions: BTreeMap<String, String>,
}

impl Follow {
    /// What has happened since the last question about this one; another one that was followed is not any more. `sessions`
    /// are all that there are now.
    pub fn ask(&self, target: Target, sessions: &[(String, SessionView)]) -> Vec<Event> {
        let mut state = self.lock();
        if state.target.is_none_or(|(before, _)| before != target) {
            *state = State::default();
        }
        state.target = Some((target, Instant::now() + PATIENCE));
        self.is_on.store(true, Ordering::Relaxed);
        let theirs = sessions.iter().filter(|(_, view)| target.is(&view.identity, &view.device, view.address.ip()));
        let now = theirs.map(|(name, view)| (name.clone(), words_of(view))).collect();
        let before = std::mem::replace(&mut state.sessions, now);
        let mut news: Vec<String> = Vec::new();
        news.extend(
            before
                .keys()
                .filter(|name| !state.sessions.contains_key(*name))
                .map(|name| format!("session {name} ended")),
        );
        news.extend(
            state
                .sessions
                .iter()
                .filter(|(name, words)| before.get(*name) != Some(words))
                .map(|(name, words)| format!("session {name}: {words}")),
        );
        news.into_iter().for_each(|words| state.push(words));
        state.events.drain(..).collect()
    }

    /// The door has said this to somebody.
    pub(in crate::control) fn note_verdict(
        &self,
        identity: &IdentityKey,
        device: &DeviceKey,
        from: IpAddr,
        said: Result<(), CloseCode>,
    ) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        match state.target {
            Some((_, until)) if until < Instant::now() => {
                *state = State::default();
                self.is_on.store(false, Ordering::Relaxed);
            }
            Some((target, _)) if target.is(identity, device, from) => {
                let device = &device.to_text()[..14];
                state.push(match said {
                    Ok(()) => format!("device {device}... was let in"),
                    Err(code) => format!("device {device}... was not let in: {code}"),
                });
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, words: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { unix_ms: unix_now_ms(), words });
    }
}

fn words_of(view: &SessionView) -> String {
    let SessionView { address, over_tcp, page, rooms, tracks, subscriptions, .. } = view;
    let by = match (over_tcp, page) {
        (true, _) => " over TCP",
        (false, true) => " from a page",
        (false, false) => "",
    };
    format!("from {address}{by}, in {rooms} rooms, {tracks} tracks published, {subscriptions} subscribed to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Address, SessionId, ShardId};

    fn view(identity: u8, rooms: usize) -> (String, SessionView) {
        let view = SessionView {
            id: SessionId { at: Address::local(ShardId(0)), link: 1, generation: 2 },
            identity: IdentityKey::new([identity; 32]),
            device: DeviceKey::new([identity + 100; 32]),
            address: "192.0.2.1:7".parse().expect("an address"),
            over_tcp: false,
            page: false,
            age_s: 0,
            rtt_us: 0,
            rooms,
            tracks: 0,
            subscriptions: 0,
            token: None,
        };
        (format!("0-{identity}-2"), view)
    }

    #[test]
    fn only_the_one_who_was_named_is_followed_and_only_while_somebody_asks() {
        let follow = Follow::default();
        let from = "192.0.2.1".parse().expect("an address");
        let comes = |identity: u8, said| {
            follow.note_verdict(&IdentityKey::new([identity; 32]), &DeviceKey::new([9; 32]), from, said);
        };
        comes(1, Ok(()));
        let one = Target::Identity(IdentityKey::new([1; 32]));
        assert_eq!(follow.ask(one, &[view(2, 0)]), [], "nothing from before");
        comes(2, Err(CloseCode::TOKEN_EXPIRED));
        comes(1, Err(CloseCode::TOKEN_EXPIRED));
        comes(1, Ok(()));
        let words = |events: Vec<Event>| events.into_iter().map(|event| event.words).collect::<Vec<_>>();
        let told = words(follow.ask(one, &[view(1, 0), view(2, 0)]));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("not let in: TOKEN_EXPIRED") && told[1].contains("was let in"), "{told:?}");
        assert!(told[2].starts_with("session 0-1-2: from 192.0.2.1:7, in 0 rooms"), "{told:?}");
        assert_eq!(words(follow.ask(one, &[view(1, 0)])), Vec::<String>::new(), "nothing new");
        assert!(words(follow.ask(one, &[view(1, 1)]))[0].contains("in 1 rooms"));
        assert_eq!(words(follow.ask(one, &[])), ["session 0-1-2 ended"]);
        follow.lock().target = Some((one, Instant::now() - Duration::from_millis(1)));
        comes(1, Ok(()));
        assert!(!follow.is_on.load(Ordering::Relaxed), "nobody asks any more");
    }

    #[test]
    fn an_identity_a_device_and_a_network_can_be_named() {
        let (identity, device) = (IdentityKey::new([1; 32]), DeviceKey::new([2; 32]));
        assert_eq!(Target::from_text(&identity.to_text()), Some(Target::Identity(identity)));
        assert_eq!(Target::from_text(&device.to_text()), Some(Target::Device(device)));
        assert!(matches!(Target::from_text("192.0.2.0/24"), Some(Target::Network(_))));
        assert_eq!(Target::from_text("somebody"), None);
    }
}
