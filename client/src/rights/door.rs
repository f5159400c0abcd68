//! Rooms that people come to and go from: how they are opened, and how somebody is let in.
//!
//! Whoever comes in has first been in a call of two with a member: the member rang to invite, or the guest rang to
//! knock. In that call, which nobody else has keys for, the guest hands over a key package and gets a Welcome, in as
//! many messages as a large group takes. So one member alone decides about each guest, and one alone changes the group.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use supernode_calls::rights::{self, Admission, Gathered, Greeting, ROOM_NAME_BYTES_MAX, Said, Why};
use supernode_e2ee::{Group, KeyExchange, LinkSecret, Pass};
use supernode_proto::identity::{IdentityKey, RoomId};

use crate::{
    Call, Client, Error, RingOutcome,
    client::Inner,
    room::{Member, Room, commit::commit},
    sync::{lock, long},
    tracks::frame::unix_s,
    wire::link::Link,
};

/// Tickets to members that a guest is given, so that it can come back.
const DOORS_MAX: usize = 8;
/// Longest that a guest waits for its Welcome: others may be let in first.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that the next guest waits for the one before to come in.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a room is opened.
#[derive(Debug, Clone, Default)]
pub struct RoomOptions {
    /// What those who are invited see, at most 128 bytes. Only they do.
    pub name: String,
    /// A pass to ring us by, which everybody whom we let in is given: with it they can come back when they lost the
    /// room, for as long as it holds. Without one they cannot, unless somebody else in the room gave them theirs.
    pub door: Option<Pass>,
    /// The secret of the room's link, for a room that stands ([`Client::enter_by_link`]). Everybody whom we let in is
    /// given it.
    pub link: Option<LinkSecret>,
    /// By what its members agree on keys, for as long as the room is open. By default X-Wing, with at most 40 devices; X25519
    /// for a larger room, or one that is open to devices without X-Wing.
    pub keys: KeyExchange,
}

/// How an invitation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationOutcome {
    /// They are in the room, on this device.
    In(Member),
    /// They do not want to.
    Declined,
    /// Every device of theirs is busy.
    Busy,
    /// Nobody answered.
    TimedOut,
    /// Every device of theirs went away.
    Gone,
}

/// What a room has beyond a call.
pub(crate) struct Hosting {
    name: String,
    own_door: Option<Pass>,
    doors: Mutex<Vec<Pass>>,
    /// Of the link of a room that stands.
    pub(crate) link: Option<LinkSecret>,
    /// Whom those who were here before us have put out.
    pub(crate) put_out: HashSet<IdentityKey>,
    /// One guest after the other: each finds the group as its Welcome says.
    admitting: tokio::sync::Mutex<()>,
}

impl Hosting {
    fn new(options: RoomOptions, doors: Vec<Pass>, put_out: HashSet<IdentityKey>) -> Result<Self, Error> {
        if options.name.len() > ROOM_NAME_BYTES_MAX {
            let (value, bound) = (options.name.len() as u64, ROOM_NAME_BYTES_MAX as u64);
            return Err(Error::TooLarge { field: "the room's name", value, bound });
        }
        let RoomOptions { name, door, link, keys: _ } = options;
        let (own_door, doors) = (door, Mutex::new(doors));
        Ok(Self { name, own_door, doors, link, put_out, admitting: tokio::sync::Mutex::default() })
    }

    /// Whom to ring to come back, those who let us in first.
    pub(crate) fn doors(&self, ourselves: &IdentityKey) -> Vec<Pass> {
        lock(&self.doors).iter().filter(|door| door.issuer() != *ourselves).cloned().collect()
    }

    /// What a guest is given: our door and those that we know.
    fn doors_for_guest(&self) -> Vec<Vec<u8>> {
        let mut doors: Vec<Pass> = self.own_door.iter().chain(lock(&self.doors).iter()).cloned().collect();
        let mut issuers = HashSet::new();
        doors.retain(|door| door.ticket().not_after_unix_s > unix_s() && issuers.insert(door.issuer()));
        doors.truncate(DOORS_MAX);
        doors.iter().map(|door| door.to_bytes().to_vec()).collect()
    }

    fn learn_doors(&self, doors: Vec<Pass>) {
        if !doors.is_empty() {
            *lock(&self.doors) = doors;
        }
    }
}

impl Client {
    /// Opens a room, with nobody else in it yet.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the name; [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn create_room(&self, options: RoomOptions) -> Result<Call, Error> {
        let room = options.link.as_ref().map_or_else(|| RoomId::passing(rand::random()), LinkSecret::room);
        let group = self.inner.device.create_room(room, options.keys)?;
        Call::join(self.clone(), group, Some(Hosting::new(options, Vec::new(), HashSet::new())?)).await
    }

    /// Asks a member of a room, the issuer of `door`, to let us in, and goes in. `options` say how others come back by
    /// us; the name is what the member calls it.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`] if the member does not let us in, [`Error::OtherKeys`] or [`Error::RoomFull`] if that is for
    /// the room's keys; [`Error::State`] if nobody answers; as
    /// [`Client::ring`] for the rest.
    pub async fn join_room(&self, door: &Pass, room: RoomId, options: RoomOptions) -> Result<Call, Error> {
        let (group, admission) = knock(self, door, room).await?;
        self.enter_room(group, admission, options, Some(door)).await
    }

    pub(crate) async fn enter_room(
        &self,
        group: Group,
        admission: Admission,
        options: RoomOptions,
        knocked_at: Option<&Pass>,
    ) -> Result<Call, Error> {
        let mut doors = admission.passes();
        if let Some(door) = knocked_at.filter(|door| doors.iter().all(|known| known.issuer() != door.issuer())) {
            doors.insert(0, door.clone());
        }
        let (link, put_out) = (admission.link(group.room()), admission.put_out());
        let options = RoomOptions { name: admission.name, link, ..options };
        Call::join(self.clone(), group, Some(Hosting::new(options, doors, put_out)?)).await
    }
}

impl Call {
    /// What those who are invited into this room see; `None` for a call that is no room.
    pub fn room_name(&self) -> Option<&str> {
        self.room.hosting.as_ref().map(|hosting| hosting.name.as_str())
    }

    /// The room's name on the wire: whoever wants to knock needs it.
    pub fn room_id(&self) -> RoomId {
        self.room.id
    }

    /// Rings the issuer of `pass` and brings them into this room when they answer.
    ///
    /// # Errors
    /// [`Error::State`] for a call that is no room; as [`Client::ring`] for the rest.
    pub async fn invite(&self, pass: &Pass) -> Result<InvitationOutcome, Error> {
        let hosting = self.room.hosting.as_ref().ok_or(Error::State("a call of two is no room"))?;
        let greeting = Greeting::Invitation { name: hosting.name.clone() };
        let mut ring = self.client.ring_with(pass, greeting).await?;
        let lobby = match ring.outcome().await? {
            RingOutcome::Answered(lobby) => lobby,
            RingOutcome::Declined => return Ok(InvitationOutcome::Declined),
            RingOutcome::Busy => return Ok(InvitationOutcome::Busy),
            RingOutcome::TimedOut => return Ok(InvitationOutcome::TimedOut),
            RingOutcome::Gone | RingOutcome::Cancelled => return Ok(InvitationOutcome::Gone),
        };
        let (guest, package) = ring.take_reply().ok_or(Error::Protocol("an invitation was accepted without a key"))?;
        self.room.forgive(&guest.identity);
        admit(&self.client.inner, &self.room, lobby, guest, package).await?;
        Ok(InvitationOutcome::In(guest))
    }
}

/// Lets the guest in who waits in `lobby`, or says there that it did not work, and ends that call.
pub(crate) async fn admit(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    lobby: Call,
    guest: Member,
    package: Vec<u8>,
) -> Result<(), Error> {
    // While the caller removes its other devices, what is sealed would not open.
    lobby.room.wait_until(|lobby| lobby.roster().len() <= 2).await;
    let admitted = let_in(inner, room, &lobby, guest, package).await;
    if let Err(error) = &admitted {
        let why = match error {
            Error::EndToEnd(supernode_e2ee::Error::NotOffered(_)) => Why::OtherKeys,
            Error::EndToEnd(supernode_e2ee::Error::Full { .. }) => Why::Full,
            _ => Why::Unsaid,
        };
        // Whoever does not hear it gives up by itself.
        let _ = lobby.say(rights::denied(why)).await;
    }
    let _ = lobby.leave().await;
    admitted
}

async fn let_in(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    lobby: &Call,
    guest: Member,
    package: Vec<u8>,
) -> Result<(), Error> {
    let hosting = room.hosting.as_ref().ok_or(Error::State("a call of two is no room"))?;
    let _one_at_a_time = hosting.admitting.lock().await;
    let packages = [(guest.identity, package)];
    let change = commit(inner, room, move |group| {
        // A device that lost the room takes its own place again.
        let old = group.members().into_iter().find(|member| member.device == guest.device).map(|member| member.leaf);
        match old {
            Some(leaf) => group.propose_replace(&[leaf], &packages, unix_s()).map(Some),
            None => group.propose_add(&packages, unix_s()).map(Some),
        }
    });
    let welcome = change.await?.and_then(|change| change.welcome).ok_or(Error::Protocol("nobody was added"))?;
    let link = hosting.link.as_ref().map(|link| link.as_bytes().to_vec()).unwrap_or_default();
    let put_out = room.put_out().iter().map(|identity| identity.as_bytes().to_vec()).collect();
    let (name, doors) = (hosting.name.clone(), hosting.doors_for_guest());
    let admission = Admission { welcome, name, doors, link, put_out };
    for message in admission.messages() {
        lobby.say(message).await?;
    }
    let is_in = room.wait_until(|room| room.member_number(&guest).is_some());
    // Who does not come after all loses the place again like anybody who is gone.
    let _ = tokio::time::timeout(ENTRY_TIMEOUT, is_in).await;
    Ok(())
}

/// Rings a member, and gets what it takes to come into the room.
pub(crate) async fn knock(client: &Client, door: &Pass, room: RoomId) -> Result<(Group, Admission), Error> {
    let (package, host) = (client.inner.device.key_package()?, door.issuer());
    let mut ring = client.ring_with(door, Greeting::Knock { room, package }).await?;
    let lobby = match ring.outcome().await? {
        RingOutcome::Answered(lobby) => lobby,
        RingOutcome::Declined => return Err(Error::NotAdmitted),
        _ => return Err(Error::State("nobody is at the door")),
    };
    let (group, admission) = receive_admission(&lobby, &host).await?;
    if group.room() != room {
        return Err(Error::Protocol("an admission to another room"));
    }
    Ok((group, admission))
}

/// Waits for the Welcome of the member we are in a call with.
pub(crate) async fn receive_admission(lobby: &Call, host: &IdentityKey) -> Result<(Group, Admission), Error> {
    let mut said = lobby.room.listen().ok_or(Error::State("somebody else listens"))?;
    let whole = async {
        let mut gathered = Gathered::default();
        loop {
            match said.recv().await {
                Some((from, Said::Admission(part))) if from.identity == *host => {
                    if let Some(admission) = gathered.take(&part) {
                        return admission.ok_or(Error::Protocol("an admission that cannot be read"));
                    }
                }
                Some((from, Said::Denied(denied))) if from.identity == *host => {
                    return Err(match denied.why() {
                        Why::Unsaid => Error::NotAdmitted,
                        Why::OtherKeys => Error::OtherKeys,
                        Why::Full => Error::RoomFull,
                    });
                }
                Some(_) => {}
                None => return Err(Error::Disconnected),
            }
        }
    };
    let waited = tokio::time::timeout(ADMISSION_TIMEOUT, whole).await;
    let admission = waited.unwrap_or(Err(Error::TimedOut("a knock")))?;
    let (device, host) = (lobby.client.inner.device.clone(), *host);
    long(move || Ok((device.join_room(&admission.welcome, &host, unix_s())?, admission))).await
}

/// Takes the place in the group that a member gave us again.
pub(crate) fn take_place(room: &Arc<Room>, link: &Link, group: Group, admission: &Admission) -> Result<(), Error> {
    room.replace_group(link, group)?;
    if let Some(hosting) = &room.hosting {
        hosting.learn_doors(admission.passes());
    }
    Ok(())
}
