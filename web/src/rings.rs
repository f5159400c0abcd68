//! Who rings, and who knocks at the door of our room. Whoever has the room's link comes in by themselves unless there is a
//! lobby; all others wait until a person has looked.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use supernode_client::{Call, Error, IncomingRing, Purpose};
use tokio::sync::oneshot;
use wasm_bindgen_futures::spawn_local;

use crate::{
    session::OVER,
    text::clean_name,
    told::{RingKind, Teller, Told},
};

/// Those who wait at most; who comes after them hears that we are busy.
const WAITING_MAX: usize = 16;
/// Longest name of a room that is shown, in characters.
const ROOM_NAME_CHARACTERS_MAX: usize = 64;

/// What is to be done about a ring, and who waits for it.
enum Decision {
    Answer(oneshot::Sender<Result<Call, Error>>),
    Admit(oneshot::Sender<Result<(), Error>>),
    Decline(oneshot::Sender<Result<(), Error>>),
}

/// Those that wait, by the number that the page knows them by.
pub(crate) struct Rings {
    teller: Teller,
    has_lobby: Cell<bool>,
    next_id: Cell<u32>,
    waiting: RefCell<BTreeMap<u32, oneshot::Sender<Decision>>>,
}

impl Rings {
    pub(crate) fn new(teller: Teller) -> Self {
        Self { teller, has_lobby: Cell::default(), next_id: Cell::new(1), waiting: RefCell::default() }
    }

    pub(crate) fn set_lobby(&self, on: bool) {
        self.has_lobby.set(on);
    }

    /// Somebody rings.
    pub(crate) fn take(self: &Rc<Self>, ring: IncomingRing) {
        let identity = ring.caller().identity.to_text();
        let (kind, room) = match ring.purpose() {
            Purpose::Call => (RingKind::Call, String::new()),
            Purpose::Invitation { name } => (RingKind::Invitation, clean_name(&name, ROOM_NAME_CHARACTERS_MAX)),
            Purpose::Knock { .. } => (RingKind::Knock, String::new()),
            // Dropped, it is answered as busy.
            _ => return,
        };
        let has_link = ring.has_link();
        if matches!(kind, RingKind::Knock) && has_link && !self.has_lobby.get() {
            let teller = self.teller.clone();
            spawn_local(async move {
                // Whoever gave up, or was let in by somebody else, is nobody's trouble.
                if ring.admit().await.is_ok() {
                    teller.tell(&Told::Admitted { identity });
                }
            });
            return;
        }
        if self.waiting.borrow().len() >= WAITING_MAX {
            return;
        }
        let id = self.next_id.replace(self.next_id.get().wrapping_add(1));
        let (sender, decision) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.teller.tell(&Told::Ring { id, identity, kind, room, has_link });
        let rings = self.clone();
        spawn_local(async move {
            wait(ring, decision).await;
            rings.waiting.borrow_mut().remove(&id);
            rings.teller.tell(&Told::RingOver { id });
        });
    }

    pub(crate) async fn answer(&self, ring: u32) -> Result<Call, Error> {
        self.decide(ring, Decision::Answer).await
    }

    pub(crate) async fn admit(&self, ring: u32) -> Result<(), Error> {
        self.decide(ring, Decision::Admit).await
    }

    pub(crate) async fn decline(&self, ring: u32) -> Result<(), Error> {
        self.decide(ring, Decision::Decline).await
    }

    async fn decide<T>(
        &self,
        ring: u32,
        decision: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Decision,
    ) -> Result<T, Error> {
        let waiting = self.waiting.borrow_mut().remove(&ring).ok_or(OVER)?;
        let (sender, done) = oneshot::channel();
        waiting.send(decision(sender)).map_err(|_| OVER)?;
        done.await.map_err(|_| OVER)?
    }
}

/// Until it is decided upon or over. Whoever waited for the decision may have gone.
async fn wait(mut ring: IncomingRing, decision: oneshot::Receiver<Decision>) {
    let decided = tokio::select! {
        _ = ring.ended() => return,
        decided = decision => decided,
    };
    match decided {
        Ok(Decision::Answer(done)) => drop(done.send(ring.answer().await)),
        Ok(Decision::Admit(done)) => drop(done.send(ring.admit().await)),
        Ok(Decision::Decline(done)) => drop(done.send(ring.decline().await)),
        Err(_) => {}
    }
}
