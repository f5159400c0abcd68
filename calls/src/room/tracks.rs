//! The tracks of a room: ours, and what is known of those of others.

use bytes::Bytes;
use supernode_e2ee::{Error, SealedLabel, TrackId, TrackInfo};
use supernode_proto::{
    control::{PublishTrack, RelabelTrack, Subscribe, TrackAnnounced, TrackKind, Unsubscribe, client_message},
    object::TrackAlias,
};

use super::{FrameKeys, RoomState};
use crate::Member;

/// Announcements whose labels may open with the next epoch's keys.
const UNOPENED_MAX: usize = 256;
/// Tracks of others that we keep in mind: a room of the largest size needs fewer.
const REMOTE_MAX: usize = 1024;

/// A room's tracks. `L` is what is kept beside each of ours, and `R` beside each of others': handles, which wishes name.
///
/// All that is on a connection at once is on the same one: before anything is of the next, [`Self::handle_lost`].
pub struct Tracks<L, R> {
    local: Vec<Local<L>>,
    last_local: u64,
    remote: Vec<Remote<R>>,
    unopened: Vec<(u64, TrackAnnounced)>,
    goodbye_heard: bool,
    is_over: bool,
}

/// A track of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalId(u64);

/// A track of somebody else's, on whatever connections it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteId {
    /// Who publishes it.
    pub publisher: Member,
    /// As which of theirs.
    pub track: TrackId,
}

/// Where a track is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// On which connection.
    pub connection: u64,
    /// Under which alias there.
    pub alias: TrackAlias,
}

struct Local<L> {
    id: LocalId,
    kind: TrackKind,
    info: TrackInfo,
    /// Whether frames show their activity.
    activity: bool,
    route: Option<Route>,
    /// The epoch that it was published in last.
    label_epoch: u64,
    handle: L,
}

struct Remote<R> {
    id: RemoteId,
    route: Option<Route>,
    /// How we subscribe, if we do.
    wanted: Option<Subscribe>,
    is_finished: bool,
    handle: R,
}

/// What is to be done for tracks, at once and in this order.
#[derive(Debug, PartialEq)]
pub enum TrackWish<L, R> {
    /// A track of ours is there now, or nowhere.
    Sent(L, Option<Route>),
    /// A track of somebody's is there now, or nowhere: then its objects do not come any more.
    Received(R, Option<Route>),
    /// Its objects go to its subscription from now on: they come as the last [`Self::Received`] said.
    Hook(R),
    /// They go nowhere any more.
    Unhook(R),
    /// To the relay, of which nobody waits for the reply.
    Send(Box<client_message::Body>),
    /// It is forgotten but for its figures.
    Forget(R),
    /// Its subscription hears that there is no more.
    Close(R),
    /// People are to hear that somebody publishes, or publishes again.
    Announced(R),
    /// People are to hear that a track is not there any more.
    Ended(R),
}

/// Why a track cannot be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadySubscribed;

impl<L, R> Default for Tracks<L, R> {
    fn default() -> Self {
        Self {
            local: Vec::new(),
            last_local: 0,
            remote: Vec::new(),
            unopened: Vec::new(),
            goodbye_heard: false,
            is_over: false,
        }
    }
}

/// Those of others.
impl<L, R: Clone> Tracks<L, R> {
    /// The relay says that somebody publishes, or publishes again. `make` makes the handle of one that is not known yet.
    ///
    /// Whose leaf stands behind the number, and only if that leaf sealed the label: so `state` is not to change
    /// before this is done with.
    ///
    /// # Errors
    /// Why the label does not open yet; it is kept until there are other keys.
    pub fn handle_announced(
        &mut self,
        connection: u64,
        announced: &TrackAnnounced,
        state: &RoomState,
        keys: &FrameKeys,
        make: impl FnOnce(TrackKind, TrackInfo, Member) -> R,
    ) -> Result<Vec<TrackWish<L, R>>, Error> {
        let Some(alias) = TrackAlias::new(announced.alias) else { return Ok(Vec::new()) };
        if state.own_number() == Some(announced.member) {
            return Ok(Vec::new());
        }
        self.unopened.retain(|(_, known)| known.alias != announced.alias);
        let Some(publisher) = state.member_at(announced.member) else {
            self.keep_unopened(connection, announced);
            return Ok(Vec::new());
        };
        let kind = announced.kind();
        let opened = keys.open_label(&publisher.device, kind, &announced.label);
        let info = opened.inspect_err(|_| self.keep_unopened(connection, announced))?;
        let id = RemoteId { publisher, track: info.id };
        let place = match self.remote.iter().position(|known| known.id == id) {
            Some(place) => place,
            None if self.remote.len() >= REMOTE_MAX => return Ok(Vec::new()),
            None => {
                let handle = make(kind, info, publisher);
                self.remote.push(Remote { id, route: None, wanted: None, is_finished: false, handle });
                self.remote.len() - 1
            }
        };
        let (track, route) = (&mut self.remote[place], Route { connection, alias });
        if track.route.replace(route) == Some(route) {
            return Ok(Vec::new());
        }
        let handle = || track.handle.clone();
        let mut wishes = vec![TrackWish::Received(handle(), Some(route))];
        if let Some(wanted) = &track.wanted {
            let request = client_message::Body::Subscribe(Subscribe { alias: alias.value(), ..*wanted });
            wishes.extend([TrackWish::Hook(handle()), TrackWish::Send(Box::new(request))]);
        }
        wishes.push(TrackWish::Announced(handle()));
        Ok(wishes)
    }

    /// Its publisher has no place in the group yet, or seals it again when it sees us, or its keys are still on their way to us.
    fn keep_unopened(&mut self, connection: u64, announced: &TrackAnnounced) {
        if self.unopened.len() < UNOPENED_MAX {
            self.unopened.push((connection, announced.clone()));
        }
    }

    /// There are other keys: labels that did not open are tried again.
    pub fn open_again(
        &mut self,
        state: &RoomState,
        keys: &FrameKeys,
        make: impl Fn(TrackKind, TrackInfo, Member) -> R,
    ) -> Vec<TrackWish<L, R>> {
        let unopened = std::mem::take(&mut self.unopened);
        let again = unopened.into_iter().map(|(connection, announced)| {
            // One that does not open now is kept again.
            self.handle_announced(connection, &announced, state, keys, &make).unwrap_or_default()
        });
        again.flatten().collect()
    }

    /// Tracks of those who have no place in the group any more are dropped.
    pub fn retire_departed(&mut self, state: &RoomState) -> Vec<TrackWish<L, R>> {
        let members = &state.group().members;
        let has_place = |id: &RemoteId| members.iter().any(|member| member.device == id.publisher.device);
        let gone: Vec<RemoteId> = self.remote.iter().map(|track| track.id).filter(|id| !has_place(id)).collect();
        let mut wishes = Vec::new();
        for id in &gone {
            if let Some(route) = self.remote(id).and_then(|track| track.route) {
                let unsubscribe = Unsubscribe { alias: route.alias.value() };
                wishes.extend(self.leave_route(id));
                wishes.push(TrackWish::Send(Box::new(client_message::Body::Unsubscribe(unsubscribe))));
            }
            wishes.extend(self.forget(id));
        }
        wishes
    }

    /// The relay says that a track is no more. Whoever subscribes keeps it, unless its publisher has said so too: they may come
    /// back with it.
    pub fn handle_ended(&mut self, alias: TrackAlias) -> Vec<TrackWish<L, R>> {
        self.unopened.retain(|(_, known)| known.alias != alias.value());
        let ended = |track: &&Remote<R>| track.route.is_some_and(|route| route.alias == alias);
        let Some(track) = self.remote.iter().find(ended) else { return Vec::new() };
        let (id, handle) = (track.id, track.handle.clone());
        let is_kept = track.wanted.is_some() && !track.is_finished;
        let mut wishes: Vec<_> = self.leave_route(&id).into_iter().collect();
        if !is_kept {
            wishes.extend(self.forget(&id));
        }
        wishes.push(TrackWish::Ended(handle));
        wishes
    }

    /// A track's publisher has marked its end.
    pub fn handle_finished(&mut self, id: &RemoteId) {
        if let Some(track) = self.remote_mut(id) {
            track.is_finished = true;
        }
    }

    /// Somebody wants a track's objects, as `terms` say, whose alias does not count: where it is, and what to ask the relay, if
    /// it is anywhere. Otherwise its publisher is away, and it is asked for when it is announced again.
    ///
    /// # Errors
    /// Somebody does already.
    pub fn subscribe(
        &mut self,
        id: &RemoteId,
        terms: Subscribe,
    ) -> Result<Option<(Route, client_message::Body)>, AlreadySubscribed> {
        let Some(track) = self.remote_mut(id) else { return Ok(None) };
        if track.wanted.is_some() {
            return Err(AlreadySubscribed);
        }
        track.wanted = Some(terms);
        let Some(route) = track.route else { return Ok(None) };
        Ok(Some((route, client_message::Body::Subscribe(Subscribe { alias: route.alias.value(), ..terms }))))
    }

    /// Nobody wants a track's objects any more. If the track itself is gone as well, its figures are all that is kept.
    pub fn unsubscribe(&mut self, id: &RemoteId) -> Vec<TrackWish<L, R>> {
        let is_over = self.is_over;
        let Some(track) = self.remote_mut(id) else { return Vec::new() };
        track.wanted = None;
        match track.route {
            Some(Route { alias, .. }) => {
                let unsubscribe = client_message::Body::Unsubscribe(Unsubscribe { alias: alias.value() });
                vec![TrackWish::Unhook(track.handle.clone()), TrackWish::Send(Box::new(unsubscribe))]
            }
            // At the end all stay as they were.
            None if is_over => Vec::new(),
            None => self.forget(id),
        }
    }

    /// Whether all others have marked the end of what they sent, of which there was something.
    pub fn said_goodbye(&self) -> bool {
        (self.goodbye_heard || !self.remote.is_empty()) && self.remote.iter().all(|track| track.is_finished)
    }

    /// Those of others.
    pub fn remote_handles(&self) -> impl Iterator<Item = &R> {
        self.remote.iter().map(|track| &track.handle)
    }

    fn remote(&self, id: &RemoteId) -> Option<&Remote<R>> {
        self.remote.iter().find(|track| track.id == *id)
    }

    fn remote_mut(&mut self, id: &RemoteId) -> Option<&mut Remote<R>> {
        self.remote.iter_mut().find(|track| track.id == *id)
    }

    fn leave_route(&mut self, id: &RemoteId) -> Option<TrackWish<L, R>> {
        let track = self.remote_mut(id)?;
        track.route.take().map(|_| TrackWish::Received(track.handle.clone(), None))
    }

    fn forget(&mut self, id: &RemoteId) -> Vec<TrackWish<L, R>> {
        let Some(place) = self.remote.iter().position(|track| track.id == *id) else { return Vec::new() };
        let track = self.remote.remove(place);
        self.goodbye_heard |= track.is_finished;
        vec![TrackWish::Forget(track.handle.clone()), TrackWish::Close(track.handle)]
    }
}

/// Ours.
impl<L: Clone, R> Tracks<L, R> {
    /// We have a track, which is on no connection yet.
    pub fn add(&mut self, kind: TrackKind, info: TrackInfo, activity: bool, handle: L) -> LocalId {
        self.last_local += 1;
        let id = LocalId(self.last_local);
        self.local.push(Local { id, kind, info, activity, route: None, label_epoch: 0, handle });
        id
    }

    /// We have it no more.
    pub fn remove(&mut self, id: LocalId) {
        self.local.retain(|track| track.id != id);
    }

    /// All of ours, to be published again on a connection on which they are not.
    pub fn local_ids(&self) -> Vec<LocalId> {
        self.local.iter().map(|track| track.id).collect()
    }

    /// The request that publishes one of ours. Its reply: [`Self::handle_published`].
    ///
    /// # Errors
    /// If its label cannot be sealed.
    pub fn publish_request(
        &mut self,
        id: LocalId,
        state: &RoomState,
        keys: &FrameKeys,
    ) -> Result<Option<client_message::Body>, Error> {
        let Some(track) = self.local.iter_mut().find(|track| track.id == id) else { return Ok(None) };
        let label = keys.seal_label(track.kind, &track.info)?;
        track.label_epoch = label.epoch;
        Ok(Some(client_message::Body::PublishTrack(PublishTrack {
            room: Bytes::copy_from_slice(&state.id().0),
            kind: track.kind.into(),
            label: label.bytes.into(),
            activity: track.activity,
            mls_epoch: label.epoch,
        })))
    }

    /// The relay has given it an alias there. If there are other keys than when that was asked for, those who came in between
    /// have none for its label, and it had no alias yet by which to seal it again.
    pub fn handle_published(
        &mut self,
        id: LocalId,
        route: Option<Route>,
        state: &RoomState,
        keys: &FrameKeys,
    ) -> Vec<TrackWish<L, R>> {
        let Some(track) = self.local.iter_mut().find(|track| track.id == id) else { return Vec::new() };
        track.route = route;
        let sent = TrackWish::Sent(track.handle.clone(), route);
        // One that cannot be sealed again is not to be heard by anybody: neither can its frames.
        let relabel = || track.relabel_request(keys)?.ok();
        let relabel = if track.label_epoch == state.epoch() { None } else { relabel() };
        std::iter::once(sent).chain(relabel.map(|request| TrackWish::Send(Box::new(request)))).collect()
    }

    /// There are other keys: the labels of ours are sealed again for whoever has only these.
    ///
    /// # Errors
    /// If one cannot be sealed.
    pub fn relabel(&self, keys: &FrameKeys) -> Result<Vec<TrackWish<L, R>>, Error> {
        let requests = self.local.iter().filter_map(|track| track.relabel_request(keys));
        requests.map(|request| Ok(TrackWish::Send(Box::new(request?)))).collect()
    }

    /// The one of ours that has this alias now.
    pub fn local_at(&self, alias: TrackAlias) -> Option<&L> {
        let has_alias = |track: &&Local<L>| track.route.is_some_and(|route| route.alias == alias);
        self.local.iter().find(has_alias).map(|track| &track.handle)
    }

    /// Ours.
    pub fn local_handles(&self) -> impl Iterator<Item = &L> {
        self.local.iter().map(|track| &track.handle)
    }
}

impl<L> Local<L> {
    /// `None` while it has no alias.
    fn relabel_request(&self, keys: &FrameKeys) -> Option<Result<client_message::Body, Error>> {
        let alias = self.route?.alias.value();
        let request = |SealedLabel { bytes, epoch }: SealedLabel| {
            client_message::Body::RelabelTrack(RelabelTrack { alias, label: bytes.into(), mls_epoch: epoch })
        };
        Some(keys.seal_label(self.kind, &self.info).map(request))
    }
}

/// All of them.
impl<L: Clone, R: Clone> Tracks<L, R> {
    /// The connection is gone, or our place on it, and what hung on it.
    pub fn handle_lost(&mut self) -> Vec<TrackWish<L, R>> {
        self.unopened.clear();
        let local = self.local.iter_mut().map(|track| {
            track.route = None;
            TrackWish::Sent(track.handle.clone(), None)
        });
        let remote = self
            .remote
            .iter_mut()
            .filter_map(|track| track.route.take().map(|_| TrackWish::Received(track.handle.clone(), None)));
        local.chain(remote).collect()
    }

    /// It is over for us: subscriptions hear of it.
    pub fn end(&mut self) -> Vec<TrackWish<L, R>> {
        self.is_over = true;
        let mut wishes = self.handle_lost();
        wishes.extend(self.remote.iter().map(|track| TrackWish::Close(track.handle.clone())));
        wishes
    }
}
