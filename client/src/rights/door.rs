//! Rooms that people come to and go from: how they are opened, and how somebody is let in. What is given and said at their
//! door, and in which order, is [`supernode_calls`]'.

use std::sync::Arc;

use supernode_calls::{
    rights::{Admission, Door, Greeting, NameTooLong, ROOM_NAME_BYTES_MAX},
    rings::{ADMISSION_TIMEOUT, AdmissionStep, Admitting, ENTRY_TIMEOUT, Guest},
};
use supernode_e2ee::{Group, KeyExchange, LinkSecret, Pass};
use supernode_proto::identity::{IdentityKey, RoomId};

use crate::{
    Call, Client, Error, RingOutcome,
    client::Inner,
    room::{Member, Room, commit::commit},
    runtime::{long, timeout},
    tracks::frame::unix_s,
};

const NO_ROOM: Error = Error::State("a call of two is no room");

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
    pub(crate) door: Door,
    /// One guest after the other: each finds the group as its Welcome says.
    admitting: tokio::sync::Mutex<()>,
}

impl Hosting {
    fn new(door: Result<Door, NameTooLong>) -> Result<Self, Error> {
        let too_large = |NameTooLong(bytes)| {
            let (value, bound) = (bytes as u64, ROOM_NAME_BYTES_MAX as u64);
            Error::TooLarge { field: "the room's name", value, bound }
        };
        Ok(Self { door: door.map_err(too_large)?, admitting: tokio::sync::Mutex::default() })
    }
}

/// A place in a room's group that a member has given us.
pub(crate) struct Place {
    pub(crate) group: Group,
    pub(crate) admission: Admission,
}

impl Client {
    /// Opens a room, with nobody else in it yet.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the name; [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn create_room(&self, options: RoomOptions) -> Result<Call, Error> {
        let room = options.link.as_ref().map_or_else(|| RoomId::passing(rand::random()), LinkSecret::room);
        let group = self.inner.device.create_room(room, options.keys)?;
        let RoomOptions { name, door, link, keys: _ } = options;
        Call::join(self.clone(), group, Some(Hosting::new(Door::open(name, door, link))?)).await
    }

    /// Asks a member of a room, the issuer of `door`, to let us in, and goes in. `options` say how others come back by
    /// us; the name is what the member calls it.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`] if the member does not let us in, [`Error::OtherKeys`] or [`Error::RoomFull`] if that is for
    /// the room's keys; [`Error::State`] if nobody answers; as
    /// [`Client::ring`] for the rest.
    pub async fn join_room(&self, door: &Pass, room: RoomId, options: RoomOptions) -> Result<Call, Error> {
        let place = knock(self, door, room).await?;
        self.enter_room(place, options, Some(door)).await
    }

    pub(crate) async fn enter_room(
        &self,
        place: Place,
        options: RoomOptions,
        knocked_at: Option<&Pass>,
    ) -> Result<Call, Error> {
        let Place { group, admission } = place;
        let door = Door::of_admission(&admission, group.room(), options.door, knocked_at);
        Call::join(self.clone(), group, Some(Hosting::new(door)?)).await
    }
}

impl Call {
    /// What those who are invited into this room see; `None` for a call that is no room.
    pub fn room_name(&self) -> Option<&str> {
        self.room.hosting.as_ref().map(|hosting| hosting.door.name())
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
        let hosting = self.room.hosting.as_ref().ok_or(NO_ROOM)?;
        let greeting = Greeting::Invitation { name: hosting.door.name().to_owned() };
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
        admit(&self.client.inner, &self.room, lobby, Admitting::new(guest, package)).await?;
        Ok(InvitationOutcome::In(guest))
    }
}

/// Lets the guest in who waits in `lobby`, or says there that it did not work, and ends that call.
pub(crate) async fn admit(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    lobby: Call,
    mut admitting: Admitting,
) -> Result<(), Error> {
    let (mut step, mut turn, mut admitted) = (AdmissionStep::AwaitLobby, None, Ok(()));
    while step != AdmissionStep::Leave {
        step = match admit_further(inner, room, &lobby, &mut admitting, step, &mut turn).await {
            Ok(step) => step,
            Err(error) => {
                turn = None;
                let step = admitting.handle_failed(if let Error::EndToEnd(why) = &error { Some(why) } else { None });
                // The first that went wrong is why: whether the guest heard of it matters to nobody.
                admitted = admitted.and(Err(error));
                step
            }
        };
    }
    drop(turn);
    let _ = lobby.leave().await;
    admitted
}

/// Does one step. `turn` is held while the guest comes in.
async fn admit_further<'a>(
    inner: &Arc<Inner>,
    room: &'a Arc<Room>,
    lobby: &Call,
    admitting: &mut Admitting,
    step: AdmissionStep,
    turn: &mut Option<tokio::sync::MutexGuard<'a, ()>>,
) -> Result<AdmissionStep, Error> {
    match step {
        AdmissionStep::AwaitLobby => lobby.room.wait_until(|lobby| Admitting::is_quiet(&lobby.roster())).await,
        AdmissionStep::Commit(place) => {
            let hosting = room.hosting.as_ref().ok_or(NO_ROOM)?;
            *turn = Some(hosting.admitting.lock().await);
            let change = commit(inner, room, move |group| place.propose(group, unix_s())).await?;
            return Ok(admitting.handle_place(change, |welcome| room.admission(welcome))?);
        }
        AdmissionStep::Say(message) => lobby.say(message).await?,
        AdmissionStep::AwaitGuest(guest) => {
            let is_in = room.wait_until(|room| room.member_number(&guest).is_some());
            let _ = timeout(ENTRY_TIMEOUT, is_in).await;
        }
        AdmissionStep::Leave => {}
    }
    Ok(admitting.handle_done()?)
}

/// Rings a member, and gets what it takes to come into the room.
pub(crate) async fn knock(client: &Client, door: &Pass, room: RoomId) -> Result<Place, Error> {
    let package = client.inner.device.key_package()?;
    let mut ring = client.ring_with(door, Greeting::Knock { room, package }).await?;
    let (lobby, host) = ring.lobby().await?;
    receive_admission(&lobby, &host, Some(room)).await
}

/// Waits for the Welcome of the member we are in a call with: to `room`, if we asked for that one.
pub(crate) async fn receive_admission(lobby: &Call, host: &IdentityKey, room: Option<RoomId>) -> Result<Place, Error> {
    let mut said = lobby.room.listen().ok_or(Error::State("somebody else listens"))?;
    let mut guest = room.map_or_else(|| Guest::invited_by(*host), |room| Guest::at_door(*host, room));
    let whole = async {
        while let Some((from, said)) = said.recv().await {
            if let Some(heard) = guest.hear(&from, &said) {
                return Ok(heard?);
            }
        }
        Err(Error::Disconnected)
    };
    let waited = timeout(ADMISSION_TIMEOUT, whole).await;
    let admission = waited.unwrap_or(Err(Error::TimedOut("a knock")))?;
    let device = lobby.client.inner.device.clone();
    long(move || Ok(Place { group: guest.take_place(&device, &admission, unix_s())?, admission })).await
}
