//! Presence: who is online, who watches whom, and how often watchers are told.

use std::borrow::Cow;

use bytes::Bytes;
use supernode_proto::{
    close::CloseCode,
    control::{DevicesRevoked, LimitTickets, Presence, PresenceState, RefusalReason, SetPresence, relay_message::Body},
    identity::{DeviceKey, IdentityKey, Revocation, Ticket},
    limits as wire,
};

use super::directory::{Announced, Directory, Online, Person, View, Watcher};
use crate::core::{
    Now, Outbox, RingId, SessionId,
    abroad::{self, tell_others},
    control::Refusal,
    session::Session,
    timers::{Due, Timers},
};

/// How a session ended, as far as its watchers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It said goodbye: watchers are told at once.
    Clean,
    /// It broke: it may be back before anybody needs to know.
    Broken,
}

/// What a device says in its Hello that its identity has taken back.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) ticket_generation: u32,
    /// By that identity, verified.
    pub(crate) revocation: Option<Revocation>,
}

/// Puts a device online. Another session of the same device gives way: it is returned with the rings that
/// it leaves behind.
pub(crate) fn connect(
    directory: &Directory,
    identity: IdentityKey,
    device: DeviceKey,
    (session, word): (SessionId, Word),
    now: Now,
    outbox: &mut Outbox,
) -> Result<Option<(SessionId, Vec<RingId>)>, CloseCode> {
    let mut person = directory.people.get_or_default(identity);
    take_back_devices(&mut person, word.revocation, outbox);
    if person.revocation.as_ref().is_some_and(|revocation| revocation.names(&device)) {
        tell_others(directory, identity, &mut person, None, now, outbox);
        drop(person);
        forget_if_unused(directory, &identity);
        return Err(CloseCode::DEVICE_REVOKED);
    }
    let generation = word.ticket_generation;
    let online = Online {
        device,
        session,
        since_ms: now.unix_ms,
        // Nobody sees a device before it says how it wants to be seen.
        state: PresenceState::Invisible,
        status: Bytes::new(),
        set_at: 0,
        key_packages: Vec::new(),
        last_resort: None,
        blocked: Box::default(),
        has_named: false,
        kept: directory.tables.share(),
        ringing: Vec::new(),
    };
    if let Some(earlier) = person.devices.iter_mut().find(|earlier| earlier.device == device) {
        outbox.close(earlier.session, CloseCode::REPLACED);
        let left = (earlier.session, earlier.ringing.drain(..).map(|(ring, _)| ring).collect());
        // Watchers keep seeing the device as it was until its new session says otherwise.
        let (status, blocked) = (std::mem::take(&mut earlier.status), std::mem::take(&mut earlier.blocked));
        *earlier = Online { state: earlier.state, status, set_at: earlier.set_at, blocked, ..online };
        raise_generation(identity, &mut person, generation, now, outbox);
        has_come(directory, identity, device, &mut person, now, outbox);
        return Ok(Some(left));
    }
    if person.devices.len() >= directory.limits().devices_per_identity_max {
        outbox.counts.limit("devices_per_identity_max");
        return Err(CloseCode::TOO_MANY_SESSIONS);
    }
    // Most people have one device, and a vector begins with room for four.
    person.devices.reserve_exact(1);
    person.devices.push(online);
    raise_generation(identity, &mut person, generation, now, outbox);
    has_come(directory, identity, device, &mut person, now, outbox);
    Ok(None)
}

/// Other nodes hear of a device that has come: one with an earlier session of it ends that.
fn has_come(
    directory: &Directory,
    identity: IdentityKey,
    device: DeviceKey,
    person: &mut Person,
    now: Now,
    outbox: &mut Outbox,
) {
    if !outbox.homes().is_clustered() {
        return;
    }
    abroad::tell_came(identity, device, now, outbox);
    // A device that is back soon looks as it did, until it says otherwise or has had the time to.
    let word = (person.generation, person.revocation.as_ref().map_or(0, |word| word.number));
    if person.elsewhere.as_ref().is_none_or(|elsewhere| !elsewhere.has_told(word)) {
        tell_others(directory, identity, person, None, now, outbox);
    }
    if person.devices.len() == 1 {
        abroad::tune(identity, outbox);
    }
}

/// Takes note of which tickets of the session's identity still count, and whom no ticket helps.
pub(crate) fn limit_tickets(
    directory: &Directory,
    session: &Session,
    wanted: &LimitTickets,
    now: Now,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    Refusal::check_len("blocked", wanted.blocked.len(), wire::BLOCKED_IDENTITIES_MAX)?;
    let mut blocked = Vec::with_capacity(wanted.blocked.len());
    for identity in &wanted.blocked {
        blocked.push(IdentityKey::from_slice(identity)?);
    }
    blocked.sort_unstable();
    let Some(mut person) = directory.people.get_mut(&session.identity) else { return Ok(()) };
    change_sight(session.identity, &mut person, now, outbox, |person| {
        person.generation = person.generation.max(wanted.generation);
        if let Some(push) = &mut person.push {
            push.shut_out(&session.device, &blocked);
        }
        if let Some(online) = person.devices.iter_mut().find(|online| online.session == session.id) {
            online.blocked = blocked.into();
            online.has_named = true;
        }
    });
    tell_others(directory, session.identity, &mut person, None, now, outbox);
    Ok(())
}

/// Ends the sessions of devices that their identity has taken back, if this word is newer than the one that is known
///
pub(crate) fn take_back_devices(person: &mut Person, word: Option<Revocation>, outbox: &mut Outbox) {
    let known = person.revocation.as_ref().map_or(0, |known| known.number);
    let Some(word) = word.filter(|word| word.number > known) else { return };
    for online in person.devices.iter().filter(|online| word.names(&online.device)) {
        outbox.close(online.session, CloseCode::DEVICE_REVOKED);
    }
    let others = person.devices.iter().filter(|online| !word.names(&online.device)).map(|online| online.session);
    outbox.events(others, revoked(&word));
    if let Some(push) = &mut person.push {
        push.take_back(&word);
    }
    person.revocation = Some(Box::new(word));
}

/// Tells a device that has just come which devices its identity has taken back, if it does not know.
pub(crate) fn tell_revocation(
    directory: &Directory,
    identity: &IdentityKey,
    (session, known): (SessionId, u64),
    outbox: &mut Outbox,
) {
    let Some(person) = directory.people.get(identity) else { return };
    if let Some(word) = person.revocation.as_ref().filter(|word| word.number > known) {
        outbox.event(session, revoked(word));
    }
}

fn revoked(word: &Revocation) -> Body {
    Body::DevicesRevoked(DevicesRevoked { revocation: word.to_bytes().into() })
}

pub(crate) fn raise_generation(
    identity: IdentityKey,
    person: &mut Person,
    generation: u32,
    now: Now,
    outbox: &mut Outbox,
) {
    if generation > person.generation {
        change_sight(identity, person, now, outbox, |person| person.generation = generation);
    }
}

/// Changes who may see a person: whoever may no longer sees them go offline, whoever may again sees what is true.
pub(crate) fn change_sight(
    identity: IdentityKey,
    person: &mut Person,
    now: Now,
    outbox: &mut Outbox,
    change: impl FnOnce(&mut Person),
) {
    let sights = |person: &Person| -> Vec<bool> {
        person.watchers.iter().map(|watcher| person.lets(&watcher.identity, watcher.generation)).collect()
    };
    let before = sights(person);
    change(person);
    let after = sights(person);
    if before == after {
        return;
    }
    // What they were told last must be older than this, and this than what they are told next.
    person.announced.epoch = now.unix_ms.max(person.announced.epoch + 1);
    let gone = Announced { epoch: person.announced.epoch, ..Announced::default() };
    let changed = |sees| {
        let turns = person.watchers.iter().zip(before.iter().zip(&after));
        turns.filter(move |(_, (before, after))| before != after && **after == sees).map(|(watcher, _)| watcher.session)
    };
    outbox.events(changed(false), event(&identity, &gone));
    let truth = Announced { view: view(person), ..person.announced };
    let gains = before.iter().zip(&after).any(|(before, after)| !before && *after);
    let is_partial = gains && truth.view != person.announced.view;
    outbox.events(changed(true), event(&identity, &truth));
    person.announced.is_partial |= is_partial;
}

/// Takes a device offline, unless a newer session of it has come.
pub(crate) fn disconnect(
    directory: &Directory,
    session: &Session,
    departure: Departure,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) {
    if let Some(mut person) = directory.people.get_mut(&session.identity) {
        let leaves = |online: &Online| online.session == session.id;
        let blocks = person.devices.iter().any(|online| leaves(online) && !online.blocked.is_empty());
        let remove = |person: &mut Person| person.devices.retain(|online| !leaves(online));
        // Whoever it alone shut out sees the others from now on.
        match blocks {
            true => change_sight(session.identity, &mut person, now, outbox, remove),
            false => remove(&mut person),
        }
        match departure {
            Departure::Clean => touch(directory, session.identity, &mut person, now, timers, outbox),
            // Not `scheduled`: what else changes meanwhile need not wait for it.
            Departure::Broken if crate::planted::planted!(BrokenNotTold) => {}
            Departure::Broken if person.announced.view != view(&person) || outbox.homes().is_clustered() => {
                timers.insert(now.instant + directory.limits().presence_linger, Due::Presence(session.identity));
            }
            Departure::Broken => {}
        }
        if person.devices.is_empty() {
            abroad::tune(session.identity, outbox);
        }
    }
    forget_if_unused(directory, &session.identity);
}

/// Sets how a device wants to be seen.
pub(crate) fn set(
    directory: &Directory,
    session: &Session,
    wanted: SetPresence,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let state = match PresenceState::try_from(wanted.state) {
        Ok(PresenceState::Offline) | Err(_) => return Err(Refusal::field("state", wanted.state as u64, 4)),
        Ok(state) => state,
    };
    Refusal::check_len("status", wanted.status.len(), wire::PRESENCE_STATUS_BYTES_MAX)?;
    let mut person = directory.people.get_or_default(session.identity);
    let newest = person.devices.iter().map(|online| online.set_at).max().unwrap_or(0);
    let newest = person.elsewhere.as_ref().map_or(newest, |elsewhere| elsewhere.set_at().max(newest));
    if let Some(online) = person.devices.iter_mut().find(|online| online.session == session.id) {
        online.state = state;
        online.status = wanted.status;
        online.set_at = now.unix_ms.max(newest + 1);
        online.recount();
    }
    touch(directory, session.identity, &mut person, now, timers, outbox);
    Ok(())
}

/// Begins to tell a session about an identity, starting with what is true now.
pub(crate) fn watch(
    directory: &Directory,
    session: &Session,
    ticket: &Ticket,
    outbox: &mut Outbox,
) -> Result<(), Refusal> {
    let (bound, identity) = (directory.limits().watchers_per_identity_max, ticket.issuer);
    let mut person = directory.people.get_or_default(identity);
    if person.watchers.iter().any(|watcher| watcher.session == session.id) {
        return Err(Refusal::of(RefusalReason::Already));
    }
    if person.watchers.len() >= bound {
        return Err(Refusal::limit("watchers_per_identity_max", person.watchers.len() as u64, bound as u64));
    }
    let generation = ticket.generation;
    if person.watchers.is_empty() {
        abroad::tune(identity, outbox);
    }
    person.watchers.push(Watcher { session: session.id, identity: session.identity, generation });
    let is_let_in = person.lets(&session.identity, generation);
    let shown = if is_let_in { shown_first(&person) } else { Cow::Owned(Announced::default()) };
    outbox.event(session.id, event(&identity, &shown));
    let is_partial = is_let_in && shown.view != person.announced.view;
    person.announced.is_partial |= is_partial;
    Ok(())
}

/// Stops it. Returns whether there was anything to stop.
pub(crate) fn unwatch(directory: &Directory, session: SessionId, identity: &IdentityKey, outbox: &mut Outbox) -> bool {
    let stopped = directory.people.get_mut(identity).is_some_and(|mut person| {
        let before = person.watchers.len();
        person.watchers.retain(|watcher| watcher.session != session);
        if person.watchers.is_empty() {
            abroad::tune(*identity, outbox);
        }
        person.watchers.len() < before
    });
    forget_if_unused(directory, identity);
    stopped
}

/// A scheduled announcement is due.
pub(crate) fn announce_due(
    directory: &Directory,
    identity: IdentityKey,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) {
    if let Some(mut person) = directory.people.get_mut(&identity) {
        person.scheduled = false;
        if crate::planted::planted!(SecondStateForgotten) {
            return;
        }
        touch(directory, identity, &mut person, now, timers, outbox);
    }
    forget_if_unused(directory, &identity);
}

/// Telling other nodes is due.
pub(crate) fn report_due(
    directory: &Directory,
    identity: IdentityKey,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) {
    if let Some(mut person) = directory.people.get_mut(&identity) {
        person.elsewhere.iter_mut().for_each(|elsewhere| elsewhere.is_scheduled = false);
        tell_others(directory, identity, &mut person, Some(timers), now, outbox);
    }
    forget_if_unused(directory, &identity);
}

/// Tells watchers what is true now, here and at other nodes: at once, or as soon as the interval allows.
pub(crate) fn touch(
    directory: &Directory,
    identity: IdentityKey,
    person: &mut Person,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) {
    tell_others(directory, identity, person, Some(timers), now, outbox);
    announce(directory, identity, person, now, timers, outbox);
}

fn announce(
    directory: &Directory,
    identity: IdentityKey,
    person: &mut Person,
    now: Now,
    timers: &mut Timers,
    outbox: &mut Outbox,
) {
    let view = view(person);
    if (view == person.announced.view && !person.announced.is_partial) || person.scheduled {
        return;
    }
    if let Some(at) = person.quiet_until.filter(|at| *at > now.instant) {
        person.scheduled = true;
        timers.insert(at, Due::Presence(identity));
        return;
    }
    // Epochs follow the clock, so that they keep growing when the entry was forgotten in between.
    person.announced = Announced { epoch: now.unix_ms.max(person.announced.epoch + 1), view, is_partial: false };
    person.quiet_until = Some(now.instant + directory.limits().presence_interval);
    let shown = event(&identity, &person.announced);
    if person.lets_everybody() {
        return outbox.events(person.watchers.iter().map(|watcher| watcher.session), shown);
    }
    let let_in = person.watchers.iter().filter(|watcher| person.lets(&watcher.identity, watcher.generation));
    outbox.events(let_in.map(|watcher| watcher.session), shown);
}

/// The newest state of a visible device speaks for the person.
fn view(person: &Person) -> View {
    let visible = || person.devices.iter().filter(|online| online.state != PresenceState::Invisible);
    if let Some(elsewhere) = &person.elsewhere {
        return elsewhere.view(visible());
    }
    visible().max_by_key(|online| online.set_at).map_or_else(View::default, |newest| View {
        state: newest.state,
        devices: visible().count() as u32,
        status: newest.status.clone(),
    })
}

/// What somebody is shown who could not see a person until now: what others were told last. In a cluster that may be of a node that
/// is gone, and of a device that shuts them out: there it is what is true.
fn shown_first(person: &Person) -> Cow<'_, Announced> {
    match &person.elsewhere {
        None => Cow::Borrowed(&person.announced),
        Some(_) => Cow::Owned(Announced { view: view(person), ..person.announced }),
    }
}

fn event(identity: &IdentityKey, announced: &Announced) -> Body {
    Body::Presence(Presence {
        identity: Bytes::copy_from_slice(identity.as_bytes()),
        epoch: announced.epoch,
        state: announced.view.state.into(),
        devices: announced.view.devices,
        status: announced.view.status.clone(),
    })
}

/// Forgets a person with whom nothing is left.
pub(crate) fn forget_if_unused(directory: &Directory, identity: &IdentityKey) {
    let is_believed_in = |person: &Person| person.elsewhere.as_ref().is_some_and(|it| it.is_believed_in());
    let is_unused = |person: &Person| {
        person.devices.is_empty() && person.watchers.is_empty() && !person.can_be_woken() && !is_believed_in(person)
    };
    directory.people.remove_if(identity, is_unused);
}
