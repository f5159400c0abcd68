//! Key packages and rings: how a call begins.

use bytes::Bytes;
use dashmap::mapref::one::RefMut;
use supernode_proto::{
    control::{
        DepositKeyPackages, DeviceKeyPackage, IncomingRing, KeyPackages, KeyPackagesLow, RefusalReason, RingEnded,
        RingOutcome, RingResult, RingStarted, relay_message::Body,
    },
    identity::{DeviceKey, IdentityKey, RoomId, Ticket},
    limits as wire,
};

use super::{
    directory::{Directory, Online, Person, Ring},
    push,
    table::Held,
};
use crate::core::{
    Now, Outbox, RingId, SessionId,
    abroad::settle_elsewhere,
    control::Refusal,
    grants::accounts::Allowance,
    session::{Handed, Session},
    timers::{Due, Timers},
};

/// Keeps one-time packages for a device while it is online.
pub(crate) fn deposit(directory: &Directory, session: &Session, deposit: DepositKeyPackages) -> Result<(), Refusal> {
    let DepositKeyPackages { packages, last_resort } = deposit;
    for package in &packages {
        Refusal::check_len("packages", package.len(), wire::KEY_PACKAGE_BYTES_MAX)?;
    }
    Refusal::check_len("last_resort", last_resort.len(), wire::KEY_PACKAGE_BYTES_MAX)?;
    let Some(mut person) = directory.people.get_mut(&session.identity) else { return Ok(()) };
    let Some(online) = person.devices.iter_mut().find(|online| online.session == session.id) else { return Ok(()) };
    let total = online.key_packages.len() + packages.len();
    if total > wire::KEY_PACKAGES_PER_DEVICE_MAX {
        return Err(Refusal::limit("key_packages_max", total as u64, wire::KEY_PACKAGES_PER_DEVICE_MAX as u64));
    }
    // Room for a few is always there.
    let pool_max = directory.limits().relay_tables_bytes_max;
    let last_resort = Some(last_resort).filter(|package| !package.is_empty());
    let kept = online.kept_with(online.status.len(), &packages, last_resort.as_ref());
    let kept_max = online.kept.bytes_max(pool_max);
    if kept > kept_max {
        return Err(Refusal::limit("relay_tables_bytes_max", kept as u64, kept_max as u64));
    }
    online.key_packages.reserve_exact(packages.len());
    online.key_packages.extend(packages);
    if last_resort.is_some() {
        online.last_resort = last_resort;
    }
    online.recount();
    Ok(())
}

/// Who wants to ring somebody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) session: SessionId,
    pub(crate) identity: IdentityKey,
    pub(crate) device: DeviceKey,
}

impl Caller {
    pub(crate) fn of(session: &Session) -> Self {
        Self { session: session.id, identity: session.identity, device: session.device }
    }
}

/// Whom, and the generation of the ticket.
pub(crate) type Called = (IdentityKey, u32);

/// People of whose devices a session remembers that it was handed their packages. A caller takes, and rings at once.
const HANDED_MAX: usize = 8;

/// Hands out one package of each device that can be rung and has any, and notes whose they were.
pub(crate) fn take(
    directory: &Directory,
    caller: &mut Session,
    ticket: &Ticket,
    now: Now,
    outbox: &mut Outbox,
) -> Result<KeyPackages, Refusal> {
    may_take(directory, caller, now)?;
    let (by, called) = (Caller::of(caller), (ticket.issuer, ticket.generation));
    match give(directory, &by, called, now, outbox) {
        Ok((packages, devices)) => {
            note_handed(caller, Handed { callee: ticket.issuer, devices, elsewhere: Vec::new() });
            Ok(KeyPackages { packages })
        }
        Err(refusal) => {
            if refusal.reason == RefusalReason::Offline {
                push::wake(directory, &by.identity, called, now, outbox);
            }
            Err(refusal)
        }
    }
}

/// Whether a session may take key packages once more.
pub(crate) fn may_take(directory: &Directory, caller: &Session, now: Now) -> Result<(), Refusal> {
    let limits = directory.limits();
    let granted = caller.limits(&limits);
    if caller.account.take(Allowance::Takes, 1, granted, now.instant) {
        return Ok(());
    }
    let bound = u64::from(granted.key_packages_taken_per_minute_max);
    Err(Refusal::limit("key_packages_taken_per_minute_max", bound, bound))
}

/// Notes whose packages a session was handed.
pub(crate) fn note_handed(caller: &mut Session, handed: Handed) {
    caller.handed.retain(|known| known.callee != handed.callee);
    if caller.handed.len() >= HANDED_MAX {
        caller.handed.remove(0);
    }
    caller.handed.push(handed);
}

/// Packages of the devices of this node, and whose they are.
pub(crate) fn give(
    directory: &Directory,
    caller: &Caller,
    called: Called,
    now: Now,
    outbox: &mut Outbox,
) -> Result<(Vec<DeviceKeyPackage>, Vec<DeviceKey>), Refusal> {
    // By a ticket that was taken back nothing is used up, and nothing shows that its issuer is there.
    drop(reachable(directory, caller, called)?);
    // Whoever has their ticket can ask, and what one takes another cannot.
    let (limits, account) = (directory.limits(), directory.accounts.of(&called.0));
    if account.is_some_and(|account| !account.take(Allowance::Given, 1, &limits, now.instant)) {
        let bound = u64::from(limits.key_packages_given_per_minute_max);
        return Err(Refusal::limit("key_packages_given_per_minute_max", bound, bound));
    }
    let mut person = reachable(directory, caller, called)?;
    let (mut packages, mut devices) = (Vec::new(), Vec::new());
    for online in person.devices.iter_mut().filter(|online| online.can_be_rung() && online.device != caller.device) {
        let again = online.key_packages.last().filter(|_| crate::planted::planted!(KeyPackageAgain)).cloned();
        let one_time = again.or_else(|| online.key_packages.pop());
        online.recount();
        if one_time.is_some() && online.key_packages.len() < wire::KEY_PACKAGES_PER_DEVICE_MAX / 4 {
            let left = online.key_packages.len() as u32;
            outbox.event(online.session, Body::KeyPackagesLow(KeyPackagesLow { left }));
        }
        let Some(package) = one_time.or_else(|| online.last_resort.clone()) else { continue };
        packages.push(DeviceKeyPackage { device: Bytes::copy_from_slice(online.device.as_bytes()), package });
        devices.push(online.device);
    }
    if packages.is_empty() {
        return Err(Refusal::of(RefusalReason::NoKeyPackage));
    }
    Ok((packages, devices))
}

/// Whoever issued the ticket, if a device of theirs can be rung by it. Who is offline, who is invisible and who took the
/// ticket back are not told apart.
fn reachable<'a>(
    directory: &'a Directory,
    caller: &Caller,
    (identity, generation): Called,
) -> Result<Held<RefMut<'a, IdentityKey, Person>>, Refusal> {
    let person = directory.people.get_mut(&identity);
    let is_reachable = |person: &Held<RefMut<'_, IdentityKey, Person>>| {
        person.lets(&caller.identity, generation)
            && person.devices.iter().any(|online| online.can_be_rung() && online.device != caller.device)
    };
    person.filter(is_reachable).ok_or(Refusal::of(RefusalReason::Offline))
}

/// Whether it is known here that somebody's ticket does not help this caller.
pub(crate) fn is_shut_out(directory: &Directory, caller: &Caller, (identity, generation): Called) -> bool {
    directory.people.get(&identity).is_some_and(|person| !person.lets(&caller.identity, generation))
}

/// Whose devices ring, by what right.
#[derive(Debug)]
pub(crate) enum Whom {
    /// Those of whoever issued the ticket.
    Issuer(Box<Ticket>),
    /// Those who are in the room, whose key the caller has.
    Room(RoomId),
}

/// Devices that ring at most when somebody is at the door of a room: one of them answers.
pub(crate) const DOOR_DEVICES_MAX: usize = 8;

/// A ring that somebody wants to start.
#[derive(Debug)]
pub(crate) struct NewRing {
    /// Its name, fresh and random.
    pub(crate) id: RingId,
    pub(crate) whom: Whom,
    /// Opaque, for each of them.
    pub(crate) payload: Bytes,
}

/// Rings every device of the callee whose key package the caller was handed, and that is still online; or those who
/// have been in a room for longest.
pub(crate) fn start(
    directory: &Directory,
    caller: &mut Session,
    wanted: NewRing,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) -> Result<RingStarted, Refusal> {
    let NewRing { id, whom, payload } = wanted;
    may_start(directory, caller, &payload, now)?;
    let by = Caller::of(caller);
    let (devices, room) = match whom {
        Whom::Issuer(ticket) => {
            let called = (ticket.issuer, ticket.generation);
            let handed = caller.handed.iter().find(|handed| handed.callee == ticket.issuer);
            let handed = handed.map_or(&[][..], |handed| &handed.devices[..]);
            let devices = match mark_ringing(directory, &by, called, handed, id) {
                Err(refusal) if refusal.reason == RefusalReason::Offline => {
                    push::wake(directory, &by.identity, called, now, outbox);
                    return Err(refusal);
                }
                marked => marked?,
            };
            // The packages are used up with it.
            caller.handed.retain(|handed| handed.callee != ticket.issuer);
            (devices, Bytes::new())
        }
        Whom::Room(room) => {
            let members = inside(directory, &room, caller.id);
            (mark_door(directory, &by, &members, id)?, Bytes::copy_from_slice(&room.0))
        }
    };
    let started = RingStarted { ring: Bytes::copy_from_slice(&id.0), devices: devices.len() as u32 };
    outbox.counts.rings_started += 1;
    directory.rings.insert(id, Ring { caller: caller.id, devices: devices.clone(), busy: false, abroad: None });
    caller.rings.push(id);
    timers.insert(now.instant + directory.limits().ring_timeout, Due::Ring(id));
    tell_devices(&devices, id, &by, &payload, &room, outbox);
    Ok(started)
}

/// Whether a session may ring once more.
pub(crate) fn may_start(directory: &Directory, caller: &mut Session, payload: &Bytes, now: Now) -> Result<(), Refusal> {
    Refusal::check_len("payload", payload.len(), wire::RING_PAYLOAD_BYTES_MAX)?;
    if directory.is_draining() {
        return Err(Refusal::of(RefusalReason::GoingAway));
    }
    let everybody = directory.limits();
    let limits = caller.limits(&everybody);
    if !caller.account.take(Allowance::Rings, 1, limits, now.instant) {
        let bound = u64::from(limits.rings_per_minute_max);
        return Err(Refusal::limit("rings_per_minute_max", bound, bound));
    }
    caller.rings.retain(|ring| directory.rings.contains_key(ring));
    Ok(())
}

/// Devices of this node ring from now on.
pub(crate) fn tell_devices(
    devices: &[(IdentityKey, SessionId)],
    id: RingId,
    caller: &Caller,
    payload: &Bytes,
    room: &Bytes,
    outbox: &mut Outbox,
) {
    let name = Bytes::copy_from_slice(&id.0);
    for (_, session) in devices {
        outbox.event(
            *session,
            Body::IncomingRing(IncomingRing {
                ring: name.clone(),
                // Who said Hello, whatever the payload says.
                caller: Bytes::copy_from_slice(caller.identity.as_bytes()),
                caller_device: Bytes::copy_from_slice(caller.device.as_bytes()),
                payload: payload.clone(),
                room: room.clone(),
            }),
        );
    }
}

/// Takes places for a ring on those of a person's devices at this node whose packages the caller was handed.
pub(crate) fn mark_ringing(
    directory: &Directory,
    caller: &Caller,
    called: Called,
    handed: &[DeviceKey],
    id: RingId,
) -> Result<Vec<(IdentityKey, SessionId)>, Refusal> {
    let mut places = Places::new(directory);
    let mut person = reachable(directory, caller, called)?;
    if handed.is_empty() {
        return Err(Refusal::of(RefusalReason::NoKeyPackage));
    }
    // A person may ring their own other devices, but not the one they hold.
    let others = person.devices.iter_mut().filter(|online| online.device != caller.device && online.can_be_rung());
    for online in others.filter(|online| handed.contains(&online.device)) {
        places.take(called.0, online, &caller.identity, id);
    }
    places.taken()
}

/// Whom somebody rings who is at the door of a room: those who have been in it for longest.
pub(crate) fn inside(directory: &Directory, room: &RoomId, caller: SessionId) -> Vec<(IdentityKey, SessionId)> {
    if crate::planted::planted!(DoorRingsNobody) {
        return Vec::new();
    }
    directory.rooms.get(room).map_or_else(Vec::new, |room| {
        let others = room.members.values().filter(|member| member.session != caller);
        others.map(|member| (member.identity, member.session)).take(DOOR_DEVICES_MAX).collect()
    })
}

/// Takes places for a ring on those of these sessions that are at this node.
pub(crate) fn mark_door(
    directory: &Directory,
    caller: &Caller,
    members: &[(IdentityKey, SessionId)],
    id: RingId,
) -> Result<Vec<(IdentityKey, SessionId)>, Refusal> {
    let mut places = Places::new(directory);
    for (identity, session) in members.iter().copied() {
        let Some(mut person) = directory.people.get_mut(&identity) else { continue };
        // Whom somebody shuts out, they hear nothing of; the others in the room judge for themselves.
        if person.lets(&caller.identity, u32::MAX)
            && let Some(device) = person.devices.iter_mut().find(|device| device.session == session)
        {
            places.take(identity, device, &caller.identity, id);
        }
    }
    places.taken()
}

/// Devices that begin to ring: each has so many places, and one caller does not fill them all.
struct Places {
    places_max: usize,
    of_one_caller_max: usize,
    taken: Vec<(IdentityKey, SessionId)>,
    online: u64,
    caller_has_all: bool,
}

impl Places {
    fn new(directory: &Directory) -> Self {
        let limits = directory.limits();
        let (places_max, of_one_caller_max) = (limits.incoming_rings_max, limits.rings_per_pair_max);
        Self { places_max, of_one_caller_max, taken: Vec::new(), online: 0, caller_has_all: false }
    }

    fn take(&mut self, identity: IdentityKey, device: &mut Online, caller: &IdentityKey, id: RingId) {
        self.online += 1;
        let of_this_caller = device.ringing.iter().filter(|(_, whose)| whose == caller).count();
        if of_this_caller >= self.of_one_caller_max {
            self.caller_has_all = true;
        } else if device.ringing.len() < self.places_max {
            device.ringing.push((id, *caller));
            self.taken.push((identity, device.session));
        }
    }

    fn taken(self) -> Result<Vec<(IdentityKey, SessionId)>, Refusal> {
        let (of_one, all) = (self.of_one_caller_max as u64, self.places_max as u64);
        match (self.online, self.taken.is_empty()) {
            (0, _) => Err(Refusal::of(RefusalReason::Offline)),
            (_, true) if self.caller_has_all => Err(Refusal::limit("rings_per_pair_max", of_one, of_one)),
            (_, true) => Err(Refusal::limit("incoming_rings_max", all, all)),
            _ => Ok(self.taken),
        }
    }
}

/// One device answers: the others stop ringing.
pub(crate) fn answer(
    directory: &Directory,
    session: &Session,
    id: RingId,
    payload: Bytes,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let ring = take_as_callee(directory, session, id)?;
    settle(directory, id, &ring, RingResult::Answered, Some(Winner::of(session, payload)), outbox);
    Ok(())
}

/// One device declines for the person, or says that it is busy and leaves it to the others.
pub(crate) fn decline(
    directory: &Directory,
    session: &Session,
    id: RingId,
    busy: bool,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    if busy {
        return device_out(directory, session.id, &session.identity, id, true, outbox);
    }
    let ring = take_as_callee(directory, session, id)?;
    settle(directory, id, &ring, RingResult::Declined, Some(Winner::of(session, Bytes::new())), outbox);
    Ok(())
}

/// The caller gives up.
pub(crate) fn cancel(directory: &Directory, session: &Session, id: RingId, outbox: &mut Outbox) -> Result<(), Refusal> {
    let taken = directory.rings.remove_if(&id, |ring| ring.caller == session.id);
    let ring = taken.ok_or(Refusal::of(RefusalReason::UnknownRing))?;
    settle(directory, id, &ring, RingResult::Cancelled, None, outbox);
    Ok(())
}

/// Nobody answered in time. A ring that was settled is not there any more.
pub(crate) fn timeout(directory: &Directory, id: RingId, outbox: &mut Outbox) {
    if crate::planted::planted!(RingWithoutEnd) {
        return;
    }
    if let Some(ring) = directory.rings.remove(&id) {
        settle(directory, id, &ring, RingResult::Timeout, None, outbox);
    }
}

/// A session ends: its own rings are cancelled, and it no longer rings for others. `ringing` is what rang there.
pub(crate) fn session_ended(directory: &Directory, session: &Session, outbox: &mut Outbox) {
    for id in &session.rings {
        // Only those that are not settled are still there.
        let _ = cancel(directory, session, *id, outbox);
    }
    let ringing = directory.people.get_mut(&session.identity).map_or_else(Vec::new, |mut person| {
        let online = person.devices.iter_mut().find(|online| online.session == session.id);
        online.map_or_else(Vec::new, |online| online.ringing.drain(..).map(|(ring, _)| ring).collect())
    });
    device_gone(directory, session.id, &session.identity, ringing, outbox);
}

/// A device that rang is gone.
pub(crate) fn device_gone(
    directory: &Directory,
    session: SessionId,
    identity: &IdentityKey,
    rings: Vec<RingId>,
    outbox: &mut Outbox,
) {
    for id in rings {
        // Only those that are not settled are still there.
        let _ = device_out(directory, session, identity, id, false, outbox);
    }
}

/// One device stops ringing without settling the ring, unless it was the last.
fn device_out(
    directory: &Directory,
    session: SessionId,
    identity: &IdentityKey,
    id: RingId,
    busy: bool,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    {
        let mut ring = directory.rings.get_mut(&id).ok_or(Refusal::of(RefusalReason::UnknownRing))?;
        let before = ring.devices.len();
        ring.devices.retain(|(_, ringing)| *ringing != session);
        if ring.devices.len() == before {
            return Err(Refusal::of(RefusalReason::UnknownRing));
        }
        ring.busy |= busy;
    }
    unmark(directory, identity, id);
    end_if_over(directory, id, outbox);
    Ok(())
}

/// Settles a ring that no device rings for any more.
pub(crate) fn end_if_over(directory: &Directory, id: RingId, outbox: &mut Outbox) {
    if let Some(ring) = directory.rings.remove_if(&id, Ring::is_over) {
        let result = if ring.busy { RingResult::Busy } else { RingResult::Gone };
        settle(directory, id, &ring, result, None, outbox);
    }
}

fn take_as_callee(directory: &Directory, session: &Session, id: RingId) -> Result<Ring, Refusal> {
    let rings_here = |ring: &Ring| ring.devices.iter().any(|(_, ringing)| *ringing == session.id);
    if crate::planted::planted!(RingAnsweredTwice)
        && let Some(ring) = directory.rings.get_mut(&id).filter(|ring| rings_here(ring))
    {
        return Ok(Ring { caller: ring.caller, devices: ring.devices.clone(), busy: ring.busy, abroad: None });
    }
    let taken = directory.rings.remove_if(&id, |ring| rings_here(ring));
    taken.ok_or(Refusal::of(RefusalReason::UnknownRing))
}

/// Whose answer, or whose no, settles a ring.
#[derive(Debug)]
pub(crate) struct Winner {
    pub(crate) session: SessionId,
    pub(crate) device: Bytes,
    pub(crate) payload: Bytes,
}

impl Winner {
    fn of(session: &Session, payload: Bytes) -> Self {
        Self { session: session.id, device: Bytes::copy_from_slice(session.device.as_bytes()), payload }
    }
}

/// Tells the caller the outcome and the devices that still ring to stop.
pub(crate) fn settle(
    directory: &Directory,
    id: RingId,
    ring: &Ring,
    result: RingResult,
    by: Option<Winner>,
    outbox: &mut Outbox,
) {
    let by_session = by.as_ref().map(|winner| winner.session);
    if ring.abroad.is_some() && !settle_elsewhere(directory, id, ring, result, by_session, outbox) {
        return;
    }
    outbox.counts.ring(result);
    ring.devices.iter().for_each(|(identity, _)| unmark(directory, identity, id));
    // A copy each: sharing one takes as many allocations for a ring's few devices, and counting beside.
    let name = || Bytes::copy_from_slice(&id.0);
    let ended = if result == RingResult::Answered { RingResult::AnsweredElsewhere } else { result };
    for (_, session) in ring.devices.iter().filter(|(_, session)| Some(*session) != by_session) {
        outbox.event(*session, Body::RingEnded(RingEnded { ring: name(), result: ended.into() }));
    }
    let (device, payload) = by.map_or_else(Default::default, |winner| (winner.device, winner.payload));
    let payload = if crate::planted::planted!(AnswerWithoutPayload) { Bytes::new() } else { payload };
    outbox.event(ring.caller, Body::RingOutcome(RingOutcome { ring: name(), result: result.into(), device, payload }));
}

pub(crate) fn unmark(directory: &Directory, callee: &IdentityKey, id: RingId) {
    if let Some(mut person) = directory.people.get_mut(callee) {
        for online in &mut person.devices {
            if let Some(at) = online.ringing.iter().position(|(ringing, _)| *ringing == id) {
                online.ringing.swap_remove(at);
            }
        }
    }
}
