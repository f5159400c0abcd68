//! Waking somebody of whom no device is online: where their closed pages can be reached, and when they are.
//!
//! An endpoint stays with its person when their devices go, and what they have said of their tickets with it. Who rings is
//! told the same whether somebody is woken or not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::{
    control::SetPushEndpoint,
    identity::{DeviceKey, IdentityKey, Revocation},
    limits as wire,
};

use super::{
    directory::{Directory, Person, Place},
    presence,
};
use crate::core::{
    Errand, Now, Outbox, ShardCore,
    control::Refusal,
    session::Session,
    timers::{Due, Timers},
};

/// A message without content that is to be sent (RFC 8030 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Where to.
    pub endpoint: Arc<str>,
    /// Whose that is, for [`Directory::forget_push_endpoint`] when the push service says that it is gone.
    pub identity: IdentityKey,
    /// Of which device.
    pub device: DeviceKey,
}

/// What a person's endpoint takes at most in all tables, with the longest address and as many shut out as may be. Measured:
/// `tests/core/kept.rs`.
pub const PUSH_ENDPOINT_KEPT_BYTES: usize = 4096;

/// Where a person's devices can be woken.
#[derive(Debug, Default)]
pub(crate) struct Wakeable {
    /// The one that was said last at the end.
    endpoints: Vec<PushEndpoint>,
    /// When they may be woken again.
    quiet_until: Option<Instant>,
    /// Whether a look at their ends is scheduled.
    is_looked_at: bool,
}

/// Where one device can be woken.
#[derive(Debug)]
struct PushEndpoint {
    device: DeviceKey,
    endpoint: Arc<str>,
    until_unix_s: u64,
    /// Whom its owner shuts out, by the first four bytes of their identities, in order: so they may be many. Of 8 million
    /// others one is taken for one of them, and does not wake this device.
    shut_out: Box<[u32]>,
    /// Given back when the endpoint goes.
    place: Place,
}

/// How long an endpoint is kept: 30 days, in seconds. A page that nobody has opened for so long is not waited for.
const LIFETIME_S: u64 = 30 * 24 * 3600;
/// How often a person's endpoints are looked at for those that have ended.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps, replaces or forgets where a session's device can be woken.
pub(crate) fn set(
    directory: &Directory,
    session: &Session,
    wanted: &SetPushEndpoint,
    now: Now,
    timers: &mut Timers,
) -> Result<(), Refusal> {
    let (identity, device) = (session.identity, session.device);
    if wanted.endpoint.is_empty() {
        directory.forget_push_endpoints(&identity, |known| known.device == device);
        return Ok(());
    }
    let services = directory.push_services().ok_or(Refusal::limit("push_endpoints_max", 0, 0))?;
    Refusal::check_len("endpoint", wanted.endpoint.len(), wire::PUSH_ENDPOINT_BYTES_MAX)?;
    services.find(&wanted.endpoint).ok_or(Refusal::field("endpoint", 0, 0))?;
    let Some(mut person) = directory.people.get_mut(&identity) else { return Ok(()) };
    let online = person.devices.iter().find(|online| online.device == device);
    let shut_out = online.map_or_else(Box::default, |online| shortened(&online.blocked));
    let push = person.push.get_or_insert_default();
    let place = match push.endpoints.iter().position(|known| known.device == device) {
        // It gives its own to the new one.
        Some(at) => push.endpoints.remove(at).place,
        None => directory.open_push_endpoint()?,
    };
    // The one that was said first is of the device that has been away for longest.
    if push.endpoints.len() >= directory.limits().devices_per_identity_max {
        push.endpoints.remove(0);
    }
    let until_unix_s = session.delegated_until_unix_s().min(now.unix_s() + LIFETIME_S);
    let endpoint = wanted.endpoint.as_str().into();
    push.endpoints.reserve_exact(1);
    push.endpoints.push(PushEndpoint { device, endpoint, until_unix_s, shut_out, place });
    if !std::mem::replace(&mut push.is_looked_at, true) {
        timers.insert(now.instant + LOOK, Due::PushEndpoints(identity));
    }
    Ok(())
}

/// Somebody with a ticket found nobody online: the person's pages are woken if there are any, at most once in
/// `push_interval`.
pub(crate) fn wake(
    directory: &Directory,
    caller: &IdentityKey,
    (identity, generation): (IdentityKey, u32),
    now: Now,
    outbox: &mut Outbox,
) {
    if directory.push_services().is_none() || directory.is_draining() {
        return;
    }
    let Some(mut person) = directory.people.get_mut(&identity) else { return };
    // A device that is online and does not ring does so by its owner's wish.
    if !person.devices.is_empty() || generation < person.generation {
        return;
    }
    let Some(push) = &mut person.push else { return };
    push.endpoints.retain(|endpoint| endpoint.until_unix_s >= now.unix_s());
    let is_shut_out = push.endpoints.iter().any(|endpoint| endpoint.shuts_out(caller));
    if push.endpoints.is_empty() || is_shut_out {
        return;
    }
    if push.quiet_until.is_some_and(|until| now.instant < until) {
        outbox.counts.pushes_too_soon += 1;
        return;
    }
    push.quiet_until = Some(now.instant + directory.limits().push_interval);
    for PushEndpoint { device, endpoint, .. } in &push.endpoints {
        let (endpoint, identity, device) = (endpoint.clone(), identity, *device);
        outbox.errand(Errand::Push(Push { endpoint, identity, device }));
    }
}

/// A look at a person's endpoints is due: those that have ended go.
pub(crate) fn look(directory: &Directory, identity: IdentityKey, now: Now, timers: &mut Timers) {
    if let Some(mut person) = directory.people.get_mut(&identity)
        && let Some(push) = &mut person.push
    {
        push.endpoints.retain(|endpoint| endpoint.until_unix_s >= now.unix_s());
        push.is_looked_at = !push.endpoints.is_empty();
        if push.is_looked_at {
            timers.insert(now.instant + LOOK, Due::PushEndpoints(identity));
        }
    }
    presence::forget_if_unused(directory, &identity);
}

impl ShardCore {
    /// The device behind a link is not let in any more, so it is not woken either.
    pub fn forget_push_endpoint(&self, link: u32) {
        if let Some(session) = self.session(link) {
            let (identity, device) = (session.identity, session.device);
            self.directory.forget_push_endpoints(&identity, |known| known.device == device);
        }
    }
}

impl Directory {
    /// A push service says that an endpoint is gone (RFC 8030 section 7.3), and nobody is woken there any more.
    pub fn forget_push_endpoint(&self, gone: &Push) {
        self.forget_push_endpoints(&gone.identity, |known| {
            known.device == gone.device && known.endpoint == gone.endpoint
        });
    }

    /// Somebody is not woken any more, on whichever device.
    pub fn forget_push_endpoints_of(&self, identity: &IdentityKey) {
        self.forget_push_endpoints(identity, |_| true);
    }

    fn forget_push_endpoints(&self, identity: &IdentityKey, is_gone: impl Fn(&PushEndpoint) -> bool) {
        if let Some(mut person) = self.people.get_mut(identity)
            && let Some(push) = &mut person.push
        {
            push.endpoints.retain(|known| !is_gone(known));
        }
        presence::forget_if_unused(self, identity);
    }
}

impl Person {
    /// Whether there is a place where they can be.
    pub(super) fn can_be_woken(&self) -> bool {
        self.push.as_ref().is_some_and(|push| !push.endpoints.is_empty())
    }
}

impl Wakeable {
    /// A device has said whom it shuts out.
    pub(super) fn shut_out(&mut self, device: &DeviceKey, blocked: &[IdentityKey]) {
        if let Some(endpoint) = self.endpoints.iter_mut().find(|endpoint| endpoint.device == *device) {
            endpoint.shut_out = shortened(blocked);
        }
    }

    /// Devices that count no more are not woken.
    pub(super) fn take_back(&mut self, word: &Revocation) {
        self.endpoints.retain(|endpoint| !word.names(&endpoint.device));
    }
}

impl PushEndpoint {
    fn shuts_out(&self, identity: &IdentityKey) -> bool {
        self.shut_out.binary_search(&short(identity)).is_ok()
    }
}

/// In the order of those that are in order.
fn shortened(blocked: &[IdentityKey]) -> Box<[u32]> {
    blocked.iter().map(short).collect()
}

fn short(identity: &IdentityKey) -> u32 {
    let [a, b, c, d, ..] = *identity.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
