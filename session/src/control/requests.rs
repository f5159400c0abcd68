//! Requests under way.

use std::collections::BTreeMap;

use supernode_proto::control::{ClientMessage, client_message};

/// The numbers of a session's requests, and for each one under way what its reply is for. The relay answers each exactly
/// once, in whatever order.
#[derive(Debug)]
pub(super) struct Requests<T> {
    last: u64,
    waiting: BTreeMap<u64, T>,
}

// Derived, it would ask for a default of what waits.
impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self { last: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Requests<T> {
    /// The message that asks for something; what waits for its reply comes back by [`Self::settle`]. Number 0 is nobody's:
    /// it stands for the Hello, and for what the relay says without being asked.
    pub(super) fn ask(&mut self, body: client_message::Body, waiting: T) -> ClientMessage {
        self.last += 1;
        self.waiting.insert(self.last, waiting);
        ClientMessage { request: self.last, body: Some(body) }
    }

    /// What waits for the reply to this request; `None` for a number that nothing waits for (any more). Also for a request
    /// that is not sent after all.
    pub(super) fn settle(&mut self, request: u64) -> Option<T> {
        self.waiting.remove(&request)
    }

    /// Takes all that waits, in the order in which it was asked: the connection is gone, and no reply comes. Numbers go on.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_values()
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::control::Unwatch;

    use super::*;

    #[test]
    fn each_reply_finds_what_waits_for_it_once_and_an_event_nothing() {
        let mut requests = Requests::default();
        let mut ask = |waiting| requests.ask(client_message::Body::Unwatch(Unwatch::default()), waiting).request;
        let (first, second) = (ask("first"), ask("second"));
        assert!(first != 0 && second != first);
        assert_eq!(requests.settle(second), Some("second"));
        assert_eq!(requests.settle(second), None, "it was answered");
        assert_eq!(requests.settle(0), None, "an event");
        assert_eq!(requests.drain().collect::<Vec<_>>(), ["first"]);
        assert_eq!(requests.settle(first), None, "its connection is gone");
    }
}
