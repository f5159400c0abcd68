//! What members of a group may believe, and who may hear what was sealed for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;

type Verdict = Result<(), (Rule, String)>;
/// What an epoch is: the same for all who are in it, and for nobody else.
type Digest = [u8; 32];

/// An epoch of a group.
#[derive(Debug)]
struct Epoch {
    room: usize,
    number: u64,
    members: BTreeSet<usize>,
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups {
    epochs: BTreeMap<Digest, Epoch>,
    /// In which epoch each object was sealed, by its track and place.
    sealed: BTreeMap<(u32, (u64, u64)), Digest>,
    /// Who has opened it.
    opened: BTreeSet<(usize, u32, (u64, u64))>,
    /// How many each has opened of each track since they were counted last.
    heard: BTreeMap<(usize, u32), u64>,
    /// Rooms in which a commit was taken back.
    rejected: BTreeSet<usize>,
}

impl Groups {
    /// A client is in an epoch of a room's group, with these.
    ///
    /// # Errors
    /// What does not hold.
    pub fn enters(
        &mut self,
        client: usize,
        room: usize,
        number: u64,
        digest: Digest,
        members: BTreeSet<usize>,
    ) -> Verdict {
        let epoch = self.epochs.entry(digest).or_insert_with(|| Epoch { room, number, members: members.clone() });
        if (epoch.room, epoch.number, &epoch.members) == (room, number, &members) && members.contains(&client) {
            return Ok(());
        }
        let what = format!("client {client} takes epoch {number} of room {room} for {members:?}, and it is {epoch:?}");
        Err((Rule::Group, what))
    }

    /// An object of a track is sealed in this epoch.
    ///
    /// # Errors
    /// What does not hold.
    pub fn sealed(&mut self, track: u32, place: (u64, u64), epoch: Digest) -> Verdict {
        match self.sealed.insert((track, place), epoch) {
            None => Ok(()),
            Some(_) => Err((Rule::Secrecy, format!("object {place:?} of track {track} is sealed a second time"))),
        }
    }

    /// A client has opened it.
    ///
    /// # Errors
    /// What does not hold.
    pub fn opened(&mut self, client: usize, track: u32, place: (u64, u64)) -> Verdict {
        *self.heard.entry((client, track)).or_default() += 1;
        let what = format!("client {client} opened object {place:?} of track {track}");
        let Some(epoch) = self.sealed.get(&(track, place)).and_then(|digest| self.epochs.get(digest)) else {
            return Err((Rule::Forged, format!("{what}, which nobody sealed")));
        };
        if !epoch.members.contains(&client) {
            return Err((Rule::Secrecy, format!("{what}, sealed in epoch {} for {:?}", epoch.number, epoch.members)));
        }
        if !self.opened.insert((client, track, place)) {
            return Err((Rule::Forged, format!("{what} a second time")));
        }
        Ok(())
    }

    /// A commit of this room was taken back.
    pub fn rejected(&mut self, room: usize) {
        self.rejected.insert(room);
    }

    /// Whether one ever was.
    pub fn has_rejected(&self, room: usize) -> bool {
        self.rejected.contains(&room)
    }

    /// Counts anew what is heard.
    pub fn count_anew(&mut self) {
        self.heard.clear();
    }

    /// Whether a client has heard something of a track since then.
    pub fn has_heard(&self, client: usize, track: u32) -> bool {
        self.heard.contains_key(&(client, track))
    }
}
