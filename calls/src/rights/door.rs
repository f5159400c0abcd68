//! The door of a room: what whoever comes in is given, and how a guest comes in.
//!
//! Whoever comes in has first been in a call of two with a member, the *lobby*: the member rang to invite, or the guest rang
//! to knock. In that call, which nobody else has keys for, the guest hands over a key package and gets a Welcome, in as many
//! messages as a large group takes. So one member alone decides about each guest, and one alone changes the group.

use std::collections::HashSet;

use supernode_e2ee::{Change, Device, Error, Group, LinkSecret, Pass};
use supernode_proto::identity::{IdentityKey, RoomId};

use super::{Admission, ForLobby, ROOM_NAME_BYTES_MAX, Why, answer_knock};
use crate::Member;

/// Tickets to members that a guest is given, so that it can come back.
const DOORS_MAX: usize = 8;

/// What a room has beyond a call.
#[derive(Debug)]
pub struct Door {
    name: String,
    own: Option<Pass>,
    passes: Vec<Pass>,
    link: Option<LinkSecret>,
    put_out: HashSet<IdentityKey>,
}

/// A room's name is longer than [`ROOM_NAME_BYTES_MAX`]: so long, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room's name has {0} bytes: at most {ROOM_NAME_BYTES_MAX}")]
pub struct NameTooLong(pub usize);

impl Door {
    /// Of a room that we open. `own` is a pass to ring us by, and `link` what it stands by, if it does.
    ///
    /// # Errors
    /// [`NameTooLong`].
    pub fn open(name: String, own: Option<Pass>, link: Option<LinkSecret>) -> Result<Self, NameTooLong> {
        Self { name, own, link, passes: Vec::new(), put_out: HashSet::new() }.checked()
    }

    /// Of a room that we were let into, at the door of whoever issued `knocked_at` if we knocked at one.
    ///
    /// # Errors
    /// [`NameTooLong`].
    pub fn of_admission(
        admission: &Admission,
        room: RoomId,
        own: Option<Pass>,
        knocked_at: Option<&Pass>,
    ) -> Result<Self, NameTooLong> {
        let mut passes = admission.passes();
        if let Some(door) = knocked_at.filter(|door| passes.iter().all(|known| known.issuer() != door.issuer())) {
            passes.insert(0, door.clone());
        }
        let (name, link, put_out) = (admission.name.clone(), admission.link(room), admission.put_out());
        Self { name, own, passes, link, put_out }.checked()
    }

    fn checked(self) -> Result<Self, NameTooLong> {
        if self.name.len() > ROOM_NAME_BYTES_MAX { Err(NameTooLong(self.name.len())) } else { Ok(self) }
    }

    /// What those who are invited see.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret of the link of a room that stands.
    pub fn link(&self) -> Option<&LinkSecret> {
        self.link.as_ref()
    }

    /// Whom to ring to come back, as it was when we came in.
    pub(crate) fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// Whom those who were here before us have put out.
    pub(crate) fn put_out(&self) -> &HashSet<IdentityKey> {
        &self.put_out
    }

    /// What a guest is given: our pass and those that we know, one of each person, while they hold.
    pub(crate) fn admission(
        &self,
        welcome: Vec<u8>,
        known: &[Pass],
        put_out: &HashSet<IdentityKey>,
        unix_s: u64,
    ) -> Admission {
        let mut issuers = HashSet::new();
        let holds = |pass: &&Pass| pass.ticket().not_after_unix_s > unix_s && issuers.insert(pass.issuer());
        let doors = self.own.iter().chain(known).filter(holds).take(DOORS_MAX);
        Admission {
            welcome,
            name: self.name.clone(),
            doors: doors.map(|pass| pass.to_bytes().to_vec()).collect(),
            link: self.link.as_ref().map(|link| link.as_bytes().to_vec()).unwrap_or_default(),
            put_out: put_out.iter().map(|identity| identity.as_bytes().to_vec()).collect(),
        }
    }
}

/// Makes the commit that gives a guest a place by its key package. A device that lost the room takes its own place again.
///
/// # Errors
/// As [`Group::propose_add`] and [`Group::propose_replace`].
pub fn propose_guest(group: &mut Group, guest: &Member, package: &[u8], unix_s: u64) -> Result<Option<Change>, Error> {
    let packages = [(guest.identity, package.to_vec())];
    let old = group.members().into_iter().find(|member| member.device == guest.device).map(|member| member.leaf);
    match old {
        Some(leaf) => group.propose_replace(&[leaf], &packages, unix_s).map(Some),
        None => group.propose_add(&packages, unix_s).map(Some),
    }
}

/// What a guest is told who could not be let in for this.
pub(crate) fn why_not(error: &Error) -> Why {
    match error {
        Error::NotOffered(_) => Why::OtherKeys,
        Error::Full { .. } => Why::Full,
        _ => Why::Unsaid,
    }
}

/// The lobby that a member opens for whoever is at the door with the room's link.
pub struct Lobby {
    /// Its group, of two.
    pub group: Group,
    /// What the ring is answered by.
    pub answer: Vec<u8>,
}

/// Why there is no lobby.
#[derive(Debug, thiserror::Error)]
pub enum LobbyError {
    /// The key package does not do.
    #[error(transparent)]
    EndToEnd(#[from] Error),
    /// It is of another device.
    #[error("a key package of another device than the one that knocks")]
    OtherDevice,
    /// The group says that nobody was added.
    #[error("nobody was added")]
    NobodyAdded,
}

impl Lobby {
    /// Opens it, under a name that nobody else has.
    ///
    /// # Errors
    /// [`LobbyError`].
    pub fn open(
        device: &Device,
        link: &LinkSecret,
        guest: &Member,
        ForLobby { package, knock }: ForLobby,
        room: RoomId,
        unix_s: u64,
    ) -> Result<Self, LobbyError> {
        let offers = [(guest.identity, package)];
        let exchange = device.agree(&offers)?;
        let mut group = device.create_group(room, exchange)?;
        let change = group.propose_add(&offers, unix_s)?;
        // Nobody else is in the group yet who could have made another commit.
        group.merge_own()?;
        if group.members().into_iter().all(|member| Member::from(member) != *guest) {
            return Err(LobbyError::OtherDevice);
        }
        let welcome = change.welcome.ok_or(LobbyError::NobodyAdded)?;
        let answer = answer_knock(link, &knock, &device.identity(), welcome);
        Ok(Self { group, answer })
    }
}

#[cfg(test)]
mod tests {
    use supernode_e2ee::{IdentitySecret, Terms};
    use supernode_proto::identity::Grants;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn pass(not_after_unix_s: u64) -> Pass {
        let terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s };
        IdentitySecret::generate().issue_pass(&terms)
    }

    #[test]
    fn a_guest_is_given_one_pass_a_person_of_those_that_hold_and_eight_at_most() {
        let (ours, over) = (pass(NOW + 1), pass(NOW));
        let others: Vec<Pass> = (0..DOORS_MAX).map(|_| pass(NOW + 60)).collect();
        let known: Vec<Pass> = [&over, &ours].into_iter().chain(&others).cloned().collect();
        let door = Door::open("tea".into(), Some(ours.clone()), None).expect("a short name");
        let admission = door.admission(vec![5; 10], &known, &HashSet::new(), NOW);
        let given: Vec<_> = admission.passes().iter().map(Pass::issuer).collect();
        let expected = std::iter::once(&ours).chain(&others).take(DOORS_MAX).map(Pass::issuer);
        assert_eq!(given, expected.collect::<Vec<_>>());
    }

    #[test]
    fn whoever_knocked_at_a_door_knows_it_first_unless_it_was_among_those_given() {
        let (theirs, other) = (pass(NOW + 60), pass(NOW + 60));
        let passes = |doors: &[&Pass]| {
            let doors = doors.iter().map(|door| door.to_bytes().to_vec()).collect();
            let admission = Admission { doors, ..Admission::default() };
            let door = Door::of_admission(&admission, RoomId([1; 16]), None, Some(&theirs)).expect("a short name");
            door.passes().iter().map(Pass::issuer).collect::<Vec<_>>()
        };
        assert_eq!(passes(&[&other]), [theirs.issuer(), other.issuer()]);
        assert_eq!(passes(&[&other, &theirs]), [other.issuer(), theirs.issuer()]);
        let name = "x".repeat(ROOM_NAME_BYTES_MAX + 1);
        assert_eq!(Door::open(name, None, None).map(drop), Err(NameTooLong(ROOM_NAME_BYTES_MAX + 1)));
    }
}
