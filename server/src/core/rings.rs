//! Key packages and rings: how a call begins.

use bytes::Bytes;
use supernode_proto::{
    control::{
        DeviceKeyPackage, IncomingRing, KeyPackages, KeyPackagesLow, RefusalReason, RingEnded, RingOutcome, RingResult,
        RingStarted, relay_message::Body,
    },
    identity::{DeviceKey, IdentityKey},
    limits as wire,
};

use super::{
    Now, Outbox, RingId, SessionId,
    accounts::Allowance,
    control::Refusal,
    directory::{Directory, Ring},
    session::Session,
    timers::{Due, Timers},
};

/// Keeps one-time packages for a device while it is online.
pub(crate) fn deposit(directory: &Directory, session: &Session, packages: Vec<Bytes>) -> Result<(), Refusal> {
    for package in &packages {
        Refusal::check_len("packages", package.len(), wire::KEY_PACKAGE_BYTES_MAX)?;
    }
    let Some(mut person) = directory.people.get_mut(&session.identity) else { return Ok(()) };
    let Some(online) = person.devices.iter_mut().find(|online| online.session == session.id) else { return Ok(()) };
    let total = online.key_packages.len() + packages.len();
    if total > wire::KEY_PACKAGES_PER_DEVICE_MAX {
        return Err(Refusal::limit("key_packages_max", total as u64, wire::KEY_PACKAGES_PER_DEVICE_MAX as u64));
    }
    // Room for a few is always there.
    let pool_max = directory.limits().relay_tables_bytes_max;
    let (kept, kept_max) = (online.kept_with(online.status.len(), &packages), online.kept.bytes_max(pool_max));
    if kept > kept_max {
        return Err(Refusal::limit("relay_tables_bytes_max", kept as u64, kept_max as u64));
    }
    online.key_packages.reserve_exact(packages.len());
    online.key_packages.extend(packages);
    online.recount();
    Ok(())
}

/// Hands out one package of each device that has any.
pub(crate) fn take(
    directory: &Directory,
    caller: &Session,
    callee: &IdentityKey,
    now: Now,
    outbox: &mut Outbox,
) -> Result<KeyPackages, Refusal> {
    let limits = directory.limits();
    let granted = caller.limits(&limits);
    if !caller.account.take(Allowance::Takes, 1, granted, now.instant) {
        let bound = u64::from(granted.key_packages_taken_per_minute_max);
        return Err(Refusal::limit("key_packages_taken_per_minute_max", bound, bound));
    }
    // Whoever has their ticket can ask, and what one takes another cannot.
    if directory.accounts.of(callee).is_some_and(|account| !account.take(Allowance::Given, 1, &limits, now.instant)) {
        let bound = u64::from(limits.key_packages_given_per_minute_max);
        return Err(Refusal::limit("key_packages_given_per_minute_max", bound, bound));
    }
    let mut person = directory.people.get_mut(callee).ok_or(Refusal::of(RefusalReason::Offline))?;
    if person.devices.is_empty() {
        return Err(Refusal::of(RefusalReason::Offline));
    }
    let mut packages = Vec::new();
    for online in &mut person.devices {
        let Some(package) = online.key_packages.pop() else { continue };
        online.recount();
        packages.push(DeviceKeyPackage { device: Bytes::copy_from_slice(online.device.as_bytes()), package });
        if online.key_packages.len() < wire::KEY_PACKAGES_PER_DEVICE_MAX / 4 {
            let left = online.key_packages.len() as u32;
            outbox.event(online.session, Body::KeyPackagesLow(KeyPackagesLow { left }));
        }
    }
    if packages.is_empty() {
        return Err(Refusal::of(RefusalReason::NoKeyPackage));
    }
    Ok(KeyPackages { packages })
}

/// A ring that somebody wants to start.
#[derive(Debug)]
pub(crate) struct NewRing {
    /// Its name, fresh and random.
    pub(crate) id: RingId,
    /// Whose devices ring.
    pub(crate) callee: IdentityKey,
    /// Opaque, for each of them.
    pub(crate) payload: Bytes,
}

/// Rings every device of the callee that is online.
pub(crate) fn start(
    directory: &Directory,
    caller: &mut Session,
    wanted: NewRing,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) -> Result<RingStarted, Refusal> {
    let NewRing { id, callee, payload } = wanted;
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
    let devices = mark_ringing(directory, caller, callee, id)?;
    let started = RingStarted { ring: Bytes::copy_from_slice(&id.0), devices: devices.len() as u32 };
    outbox.counts.rings_started += 1;
    directory.rings.insert(id, Ring { caller: caller.id, callee, devices: devices.clone(), busy: false });
    caller.rings.push(id);
    timers.insert(now.instant + directory.limits().ring_timeout, Due::Ring(id));
    for (_, session) in devices {
        outbox.event(
            session,
            Body::IncomingRing(IncomingRing {
                ring: started.ring.clone(),
                // Who said Hello, whatever the payload says.
                caller: Bytes::copy_from_slice(caller.identity.as_bytes()),
                caller_device: Bytes::copy_from_slice(caller.device.as_bytes()),
                payload: payload.clone(),
            }),
        );
    }
    Ok(started)
}

fn mark_ringing(
    directory: &Directory,
    caller: &Session,
    callee: IdentityKey,
    id: RingId,
) -> Result<Vec<(DeviceKey, SessionId)>, Refusal> {
    let bound = directory.limits().incoming_rings_max;
    let mut person = directory.people.get_mut(&callee).ok_or(Refusal::of(RefusalReason::Offline))?;
    let mut devices = Vec::new();
    let mut online = 0u64;
    // A person may ring their own other devices, but not the one they hold.
    for device in person.devices.iter_mut().filter(|device| device.session != caller.id) {
        online += 1;
        if device.ringing.len() < bound {
            device.ringing.push(id);
            devices.push((device.device, device.session));
        }
    }
    match (online, devices.is_empty()) {
        (0, _) => Err(Refusal::of(RefusalReason::Offline)),
        (_, true) => Err(Refusal::limit("incoming_rings_max", bound as u64, bound as u64)),
        _ => Ok(devices),
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
    Refusal::check_len("payload", payload.len(), wire::RING_PAYLOAD_BYTES_MAX)?;
    let ring = take_as_callee(directory, session, id)?;
    settle(directory, id, &ring, RingResult::Answered, Some((session, payload)), outbox);
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
    settle(directory, id, &ring, RingResult::Declined, Some((session, Bytes::new())), outbox);
    Ok(())
}

/// The caller gives up.
pub(crate) fn cancel(directory: &Directory, session: &Session, id: RingId, outbox: &mut Outbox) -> Result<(), Refusal> {
    let taken = directory.rings.remove_if(&id, |_, ring| ring.caller == session.id);
    let (_, ring) = taken.ok_or(Refusal::of(RefusalReason::UnknownRing))?;
    settle(directory, id, &ring, RingResult::Cancelled, None, outbox);
    Ok(())
}

/// Nobody answered in time. A ring that was settled is not there any more.
pub(crate) fn timeout(directory: &Directory, id: RingId, outbox: &mut Outbox) {
    if let Some((_, ring)) = directory.rings.remove(&id) {
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
        online.map_or_else(Vec::new, |online| std::mem::take(&mut online.ringing))
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
    let last = {
        let mut ring = directory.rings.get_mut(&id).ok_or(Refusal::of(RefusalReason::UnknownRing))?;
        let before = ring.devices.len();
        ring.devices.retain(|(_, ringing)| *ringing != session);
        if ring.devices.len() == before {
            return Err(Refusal::of(RefusalReason::UnknownRing));
        }
        ring.busy |= busy;
        ring.devices.is_empty()
    };
    unmark(directory, identity, id);
    if last && let Some((_, ring)) = directory.rings.remove_if(&id, |_, ring| ring.devices.is_empty()) {
        let result = if ring.busy { RingResult::Busy } else { RingResult::Gone };
        settle(directory, id, &ring, result, None, outbox);
    }
    Ok(())
}

fn take_as_callee(directory: &Directory, session: &Session, id: RingId) -> Result<Ring, Refusal> {
    let rings_here = |ring: &Ring| ring.devices.iter().any(|(_, ringing)| *ringing == session.id);
    let taken = directory.rings.remove_if(&id, |_, ring| rings_here(ring));
    taken.map(|(_, ring)| ring).ok_or(Refusal::of(RefusalReason::UnknownRing))
}

/// Tells the caller the outcome and the devices that still ring to stop.
fn settle(
    directory: &Directory,
    id: RingId,
    ring: &Ring,
    result: RingResult,
    by: Option<(&Session, Bytes)>,
    outbox: &mut Outbox,
) {
    outbox.counts.ring(result);
    unmark(directory, &ring.callee, id);
    let name = Bytes::copy_from_slice(&id.0);
    let ended = if result == RingResult::Answered { RingResult::AnsweredElsewhere } else { result };
    let by_session = by.as_ref().map(|(session, _)| session.id);
    for (_, session) in ring.devices.iter().filter(|(_, session)| Some(*session) != by_session) {
        outbox.event(*session, Body::RingEnded(RingEnded { ring: name.clone(), result: ended.into() }));
    }
    let (device, payload) = by.map_or_else(Default::default, |(session, payload)| {
        (Bytes::copy_from_slice(session.device.as_bytes()), payload)
    });
    outbox.event(ring.caller, Body::RingOutcome(RingOutcome { ring: name, result: result.into(), device, payload }));
}

fn unmark(directory: &Directory, callee: &IdentityKey, id: RingId) {
    if let Some(mut person) = directory.people.get_mut(callee) {
        for online in &mut person.devices {
            online.ringing.retain(|ringing| *ringing != id);
        }
    }
}
