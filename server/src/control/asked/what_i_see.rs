//! The ledger of metadata: everything about its users that the relay can see, why it has to, and how long it knows.
//!
//! One table, for `supernode what-i-see` and for `docs/THREAT-MODEL.md`. Tests hold it against the protocol's schema
//! field by field, and the document against it. It tells what whoever runs the relay could see, not only what the
//! program looks at.

/// One row of [`LEDGER`].
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Row {
    /// Name of the datum.
    pub field: &'static str,
    /// Fields of the schema, as `Message.field`, that this row accounts for; empty for what lies outside the schema.
    pub wire: &'static [&'static str],
    /// What can be seen.
    pub sees: &'static str,
    /// What the relay needs it for.
    pub why: &'static str,
    /// How long it is kept. All of it is in memory only, unless the row says otherwise.
    pub kept: &'static str,
}

/// The ledger.
#[rustfmt::skip]
pub const LEDGER: &[Row] = &[
    // ---- the connection
    Row { field: "network address", wire: &[],
        sees: "IP address and port of each client, or of the proxy through which it comes, whether it goes over TCP, and when these change",
        why: "packets must find their way back",
        kept: "as long as the connection; a network that the operator revokes, on disk, because the operator wrote it" },
    Row { field: "connection times", wire: &[],
        sees: "when a connection begins and ends, its round-trip time and its losses",
        why: "QUIC works by them",
        kept: "as long as the connection; afterwards only in totals that name nobody" },
    Row { field: "traffic shape", wire: &[],
        sees: "time and size of every packet, message and object, in both directions",
        why: "whoever forwards something sees when it came and how long it is",
        kept: "not kept; counted in totals that name nobody" },
    // ---- who
    Row { field: "identity key", wire: &["HelloBody.delegation", "MemberJoined.identity"],
        sees: "public key of the person who connects",
        why: "rings and presence are addressed to it, and it must be proven",
        kept: "as long as one of its devices or somebody who watches it is connected, or one of its devices can be woken, and with how much of its rates is used up \
               until they are full again: a minute, or a day where bytes are granted by the day; on disk if the operator \
               revokes it" },
    Row { field: "device key", wire: &["DeviceKeyPackage.device", "IncomingRing.caller_device", "RingOutcome.device", "MemberJoined.device"],
        sees: "public key of the installation, and the delegation by which the identity certifies it and until when",
        why: "a person has several devices, and each one proves itself",
        kept: "the key and the delegation's end as long as the session, the delegation only while it is checked; the key on disk \
               if the operator revokes it" },
    Row { field: "devices taken back", wire: &["HelloBody.revocation", "DevicesRevoked.revocation"],
        sees: "which devices a person has taken back, and when they last said so",
        why: "such a device must not act for them any more",
        kept: "as long as the person has a device, a watcher or a push endpoint" },
    Row { field: "signatures", wire: &["Hello.body", "Hello.signature", "Challenge.nonce", "Challenge.relay"],
        sees: "proof that the device holds its key, good for this one connection",
        why: "nobody else may speak for the device",
        kept: "only while it is checked; the 32 bytes that tie it to the connection as long as the session" },
    Row { field: "admission token", wire: &["HelloBody.admission_token"],
        sees: "which of the relay's own tokens a client shows; a token may name the identity it is for",
        why: "a relay that is not open lets in only whom its operator invited, and no longer than that",
        kept: "only while it is checked; 16 bytes of its SHA-256 and its end as long as the session, and the former on disk if \
               the operator revokes it; of a token for one use, what follows from its number, and from that and the device, on \
               disk until it ends; where the operator's own service decides, it is told, the token is kept as long as the \
               session to ask again, and its answer for the identity for a minute by default and an hour at most" },
    Row { field: "browser", wire: &[],
        sees: "of a page, which site it was opened from and which browser it is in, where the browser says so",
        why: "it stands in the request by which a browser opens a session; nothing is done with it",
        kept: "not at all" },
    Row { field: "protocol version", wire: &["HelloBody.version_min", "HelloBody.version_max"],
        sees: "which versions a client speaks",
        why: "both sides must agree on one",
        kept: "only while it is checked" },
    // ---- presence
    Row { field: "presence state", wire: &["SetPresence.state", "Presence.state", "Presence.devices", "Presence.epoch"],
        sees: "online, away, busy or invisible, of each device, and when it changes",
        why: "watchers are told",
        kept: "as long as the device is online, and a few seconds for a device that may be back" },
    Row { field: "presence status", wire: &["SetPresence.status", "Presence.status"],
        sees: "bytes whose meaning the relay is not told, at most 1 KiB; readable if a client does not seal them",
        why: "watchers are sent them",
        kept: "as long as the device is online" },
    Row { field: "watches", wire: &["Watch.ticket", "Unwatch.identity", "Presence.identity", "WatchEnded.identity", "WatchEnded.reason"],
        sees: "who asks for whose presence, with the ticket that allows it: issuer, holder, relay, grants, generation, end, number",
        why: "presence is shown only to those whom its owner allowed",
        kept: "who watches whom, and by a ticket of which generation, as long as the watcher's session; the ticket only until its \
               end is noted" },
    Row { field: "tickets' proofs", wire: &["Watch.proof", "TakeKeyPackages.proof", "Ring.proof"],
        sees: "that a client has the key of a ticket that is made out to nobody, good for this one connection",
        why: "whoever only saw the ticket must not use it",
        kept: "only while it is checked" },
    Row { field: "tickets taken back", wire: &["HelloBody.ticket_generation", "LimitTickets.generation", "LimitTickets.blocked"],
        sees: "how often a person has taken all their tickets back, and whom they shut out now",
        why: "to those, the person is offline",
        kept: "the number as long as the person has a device, a watcher or a push endpoint, whom they shut out as long as the session that said so, \
               and the first four bytes of each as long as the device's push endpoint" },
    // ---- rings
    Row { field: "key packages", wire: &["DepositKeyPackages.packages", "DepositKeyPackages.last_resort", "DeviceKeyPackage.package", "KeyPackagesLow.left"],
        sees: "one-time public keys of a device, and some for when they are gone, with its identity and device key, their \
               lifetime and which key exchanges the device can use; no secret",
        why: "somebody must hold them for a caller",
        kept: "until handed out or the session ends" },
    Row { field: "key package requests", wire: &["TakeKeyPackages.ticket"],
        sees: "who prepares to call whom, with the ticket that allows it",
        why: "one-time keys are handed only to those who may ring, and only devices whose key was handed out ring",
        kept: "whose keys a session was handed last, of eight people at most: until it rings them or ends" },
    Row { field: "rings", wire: &["Ring.ticket", "RingStarted.ring", "RingStarted.devices", "IncomingRing.ring", "IncomingRing.caller",
            "AnswerRing.ring", "DeclineRing.ring", "DeclineRing.busy", "CancelRing.ring", "RingOutcome.ring", "RingOutcome.result",
            "RingEnded.ring", "RingEnded.result"],
        sees: "who rings whom, when, on how many devices, and how and by which device it ends",
        why: "the relay carries the call to the other side and its answer back",
        kept: "until the ring is settled, at most 45 s by default" },
    Row { field: "ring payloads", wire: &["Ring.payload", "IncomingRing.payload", "AnswerRing.payload", "RingOutcome.payload"],
        sees: "sealed bytes: their length, and of an MLS Welcome the cipher suite and which key packages it is for; at the door of a room that stands, two key packages of the guest and what shows a member that they have the link",
        why: "they are handed to the other side",
        kept: "until sent" },
    Row { field: "push endpoints", wire: &["SetPushEndpoint.endpoint"],
        sees: "of a device whose owner wants to be woken, the address at the push service of its browser's maker: which browser \
               it is, and a name by which that maker knows the installation; and whom the device shuts out, shortened. The push \
               service learns, when somebody with a ticket rings and nobody of that person is online: that somebody rings then, \
               by this relay, its address and its operator's mail address; not who, nor whom but by that name",
        why: "somebody whose page is closed can hear a ring only through their browser's push service",
        kept: "until the owner or the push service ends it, 30 days or the delegation's end at most, also while the person is \
               offline; not on disk, so a relay that starts anew knows none" },
    // ---- rooms
    Row { field: "room membership", wire: &["JoinRoom.room", "RoomJoined.member", "LeaveRoom.room", "KickMember.room",
            "KickMember.member", "RotateJoinKey.room", "MemberJoined.room", "MemberJoined.member", "MemberLeft.room", "MemberLeft.member",
            "MemberLeft.kicked"],
        sees: "which identities and devices are in a room together, from when to when, who removes whom",
        why: "objects go to the room's members and to nobody else",
        kept: "as long as the membership; the room until its last member has left" },
    Row { field: "room key", wire: &["JoinRoom.room_key", "JoinRoom.room_proof", "Ring.room_key", "IncomingRing.room"],
        sees: "public key that comes from the link of a room that stands, a signature by it for each who opens the room or rings at its door, and who rings there; never the link",
        why: "only those who have the link may",
        kept: "only while it is checked; the room's name, which is made of it, as long as the room" },
    Row { field: "join key", wire: &["JoinRoom.join_key", "JoinRoom.proof", "RotateJoinKey.join_key", "SendMls.join_key", "MlsDelivery.join_key"],
        sees: "public key of the room's join secret, and a signature by it for each joiner; never the secret",
        why: "only those who know the secret may join",
        kept: "the key as long as the room, the signature only while it is checked" },
    Row { field: "group messages", wire: &["SendMls.room", "SendMls.epoch", "SendMls.commit", "SendMls.payload", "MlsDelivery.room",
            "MlsDelivery.sequence", "MlsDelivery.epoch", "MlsDelivery.commit", "MlsDelivery.from_member", "MlsDelivery.payload",
            "RoomJoined.mls_sequence", "RoomJoined.mls_epoch", "JoinRoom.mls_epoch", "CatchUp.room", "CatchUp.after_sequence", "RejectCommit.room", "RejectCommit.epoch",
            "RejectCommit.sequence", "CommitRejected.room", "CommitRejected.epoch", "CommitRejected.sequence",
            "CommitRejected.from_member"],
        sees: "who changes the group's keys, when, in which epoch, who was away meanwhile, whose change the others reject; the length of the sealed message and of it the group id, epoch and \
               content type that MLS leaves readable (RFC 9420 section 6.3)",
        why: "all members must see the changes in one order",
        kept: "the newest 512 KiB of a room at most, for members that were away, as long as the room; which device was \
               a member for 10 minutes after its session ended" },
    Row { field: "beacons", wire: &["PostBeacon.room", "PostBeacon.epoch", "PostBeacon.digest", "PostBeacon.signature", "BeaconPosted.room",
            "BeaconPosted.member", "BeaconPosted.epoch", "BeaconPosted.digest", "BeaconPosted.signature"],
        sees: "which epoch each member's group is in, and whether members are in the same one; a digest that opens nothing",
        why: "members tell each other, so that they see when the relay keeps them apart",
        kept: "not kept" },
    // ---- media
    Row { field: "tracks", wire: &["PublishTrack.room", "PublishTrack.kind", "TrackPublished.alias", "UnpublishTrack.alias",
            "TrackAnnounced.room", "TrackAnnounced.member", "TrackAnnounced.alias", "TrackAnnounced.kind", "TrackEnded.room",
            "TrackEnded.alias", "PublishTrack.activity", "TrackAnnounced.activity"],
        sees: "who publishes audio, video, screen or data in a room, from when to when",
        why: "subscribers are told what there is, and audio goes first",
        kept: "as long as the track" },
    Row { field: "track labels", wire: &["PublishTrack.label", "PublishTrack.mls_epoch", "RelabelTrack.alias",
            "RelabelTrack.label", "RelabelTrack.mls_epoch", "TrackAnnounced.label"],
        sees: "sealed and padded bytes: their length, and when and for which epoch they are sealed anew",
        why: "they are handed to the other members",
        kept: "as long as the track" },
    Row { field: "subscriptions", wire: &["Subscribe.alias", "Subscribe.temporal_layer_max", "Subscribe.spatial_layer_max",
            "Subscribe.max_age_ms", "Subscribe.focus", "Subscribe.speakers_max", "Unsubscribe.alias", "TrackDemand.alias",
            "TrackDemand.subscribers", "TrackDemand.temporal_layer_max", "TrackDemand.spatial_layer_max"],
        sees: "who receives which track, up to which layer and age, whether only of those who speak, and which one they look at",
        why: "nobody is sent what they did not ask for",
        kept: "as long as the subscription" },
    Row { field: "key frame requests", wire: &["RequestKeyframe.alias", "KeyframeRequested.alias"],
        sees: "who needs a fresh picture of which track",
        why: "the publisher is asked once for many",
        kept: "the time of the last one as long as the track" },
    Row { field: "rate ladder", wire: &["Allocation.rung", "Allocation.path_bits_per_second", "Allocation.sent_bits_per_second",
            "TrackDemand.bits_per_second"],
        sees: "how much a member's network path takes",
        why: "what does not fit is left out in a sensible order",
        kept: "as long as the session" },
    Row { field: "object header", wire: &[],
        sees: "track alias, priority, time to live, group, object, flags, layer and length of every media object",
        why: "objects are sent in order, in time, and dropped where it hurts least",
        kept: "until the object is sent or dropped; by default it waits 250 ms at most" },
    Row { field: "activity", wire: &[],
        sees: "of each object of a track whose publisher asks for it, and of no other: silent, quiet, speaking or loud",
        why: "those who want only the most active speakers of a large room are sent only them",
        kept: "the last few seconds of it, as long as the track" },
    Row { field: "sealed media", wire: &[],
        sees: "ciphertext, which begins with the SFrame key id (sender's place in the group, epoch) and counter (RFC 9605 section 4.3)",
        why: "it is forwarded",
        kept: "until sent or dropped; by default it waits 250 ms at most" },
    // ---- the dialogue itself
    Row { field: "request numbers", wire: &["ClientMessage.request", "RelayMessage.reply_to"],
        sees: "how many requests a client has made",
        why: "a reply names its request",
        kept: "not kept" },
    Row { field: "relay's own words", wire: &["Welcome.version", "Welcome.unix_ms", "Welcome.push_key", "Refused.reason", "Refused.detail", "Refused.value",
            "Refused.bound", "GoAway.reconnect_after_ms", "GoAway.reconnect_before_ms", "GoAway.alternative", "GoAway.successor",
            "SessionLimits.control_message_bytes_max", "SessionLimits.ring_payload_bytes_max", "SessionLimits.rings_per_minute_max",
            "SessionLimits.watches_max", "SessionLimits.rooms_max", "SessionLimits.room_members_max", "SessionLimits.tracks_max",
            "SessionLimits.subscriptions_max", "SessionLimits.key_packages_max", "SessionLimits.object_bytes_max",
            "SessionLimits.ingest_bytes_per_second_max", "SessionLimits.ingest_objects_per_second_max",
            "SessionLimits.mls_bytes_per_second_max"],
        sees: "its clock, its limits, its refusals: nothing it did not know",
        why: "a client must know what it may do",
        kept: "how much of each limit a session has used, as long as the session" },
];

/// The ledger as a table of text, `width` characters wide at most, but at least 60.
pub fn table(width: usize) -> String {
    let widths = column_widths(width.max(60));
    let mut text = String::new();
    push_row(&mut text, ["DATUM", "WHAT CAN BE SEEN", "WHAT FOR", "KEPT"], &widths);
    for row in LEDGER {
        push_row(&mut text, [row.field, row.sees, row.why, row.kept], &widths);
    }
    text
}

const GAP: &str = "  ";

/// The names as wide as they are, the rest shared 4 : 3 : 3.
fn column_widths(width: usize) -> [usize; 4] {
    let names = LEDGER.iter().map(|row| row.field.len()).max().unwrap_or(0);
    let rest = width - names - 3 * GAP.len();
    [names, rest * 4 / 10, rest * 3 / 10, rest * 3 / 10]
}

fn push_row(text: &mut String, cells: [&str; 4], widths: &[usize; 4]) {
    let wrapped: [Vec<String>; 4] = std::array::from_fn(|column| wrap(cells[column], widths[column]));
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let cells = wrapped.iter().zip(widths).map(|(cell, width)| {
            let part = cell.get(line).map_or("", String::as_str);
            format!("{part:width$}")
        });
        let joined = cells.collect::<Vec<_>>().join(GAP);
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text.push('\n');
}

/// Breaks at spaces; a longer word keeps its line to itself.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
