//! What goes wrong here and not at the relay: files, links, keys, and calls that do not come about. Each says what happened
//! and to which file; the table says why, as far as is known, and what to do.

use std::{io, path::Path};

use supernode_client::{
    e2ee,
    media::MediaError,
    proto::{
        identity::IdentityError,
        words::{Told, Words},
        words_of,
    },
};

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{path}: cannot be read")]
    Read { path: String, source: io::Error },
    #[error("{path}: cannot be written")]
    Write { path: String, source: io::Error },
    #[error("{path}: is there already")]
    Exists { path: String },
    #[error("{path}: is no identity file ({source})")]
    NoIdentity { path: String, source: serde_json::Error },
    #[error("{path}: {field} {problem}")]
    Broken { path: String, field: &'static str, problem: &'static str },
    #[error("{path}: has the identity's secret, and needs no delegation")]
    HasSecret { path: String },
    #[error("{path}: does not have the identity's secret")]
    NoSecret { path: String },
    #[error("{path}: is a device that is nobody's yet")]
    Nobodys { path: String },
    #[error("{path}: the delegation is for another device")]
    OtherDevice { path: String },
    #[error("{path}: the delegation does not hold: {source}")]
    Delegation { path: String, source: IdentityError },
    #[error("{path}: no more devices can be taken back: {source}")]
    TooManyDevices { path: String, source: e2ee::TooManyDevices },
    #[error("{path}: no device can be made of it")]
    Device { path: String, source: e2ee::Error },

    #[error("no {what}: give {option} FILE, or set {variable}")]
    Missing { what: &'static str, option: &'static str, variable: &'static str },
    #[error("{from}: is empty: no {what} is there")]
    Empty { from: String, what: &'static str },
    #[error("{from}: is {is}, and {wanted} is wanted")]
    Mistaken { from: String, is: &'static str, wanted: &'static str },
    #[error("{from}: is no {what} ({form}): {why}")]
    Unreadable { from: String, what: &'static str, form: &'static str, why: String },
    #[error("{from}: this ticket of {issuer} ended {days} days ago")]
    TicketEnded { from: String, issuer: String, days: u64 },

    #[error("{path}: is no {format} file{rather}")]
    NoMedia { path: String, format: &'static str, rather: &'static str, source: MediaError },
    #[error("a media file broke off")]
    Media(#[from] MediaError),
    #[error("the other side's {0}: it cannot be recorded")]
    OddTrack(&'static str),

    #[error("{path}: this identity is in a room already")]
    InRoom { path: String },
    #[error("{path}: no process is in a room with this identity")]
    NotInRoom { path: String, source: io::Error },
    #[error("{path}: the process in the room gave no answer")]
    Silent { path: String, source: io::Error },
    #[error("{words}")]
    Order { words: String },

    #[error("interrupted")]
    Interrupted,
    #[error("they declined")]
    Declined,
    #[error("they are busy")]
    Busy,
    #[error("the ring was cancelled")]
    Cancelled,
    #[error("nobody answered")]
    Unanswered,
    #[error("they went offline")]
    WentOffline,
    #[error("the other side did not end its tracks in time")]
    Unended,

    #[error("the relay cannot be reached from here")]
    NoWay,
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    #[error("the system refuses what this program needs")]
    System(#[source] io::Error),
}

words_of! {
    /// Of `supernode-call` itself.
    Trouble as ROWS:
    Read, "a file cannot be read", "it is not there, or this user may not read it", "compare the path with what was meant, or let this user read the file";
    Write, "a file cannot be written", "its directory is not there, this user may not write there, or the disk is full",
        "see what the system says, and name another path or make room";
    Exists, "a file would be written over", "what is there may be all that there is of a call or an identity", "move it away, or name another path (--out, --record-dir)";
    NoIdentity, "the identity file is none", "it holds something else, or was cut short",
        "name the right file (--identity), put it back from a copy, or make one: supernode-call identity --out FILE";
    Broken, "the identity file is damaged", "it was changed by hand, or cut short", "put it back from a copy: what is lost of a key, nobody can make again";
    HasSecret, "the delegation was not taken", "this is the device that delegates to the others", "give it to the device that asked for it (devices request)";
    NoSecret, "that cannot be done on this device", "it acts for an identity whose secret is on another device", "do it on the device that certified this one";
    Nobodys, "this device cannot be used yet", "no identity has certified it",
        "have its public name signed by `supernode-call devices sign` on the device with the identity's secret, and accept what that prints: devices accept";
    OtherDevice, "the delegation was not taken", "another device has asked for it", "name the file that `devices request` made on this device (--identity), or have this device's name signed";
    Delegation, "the delegation was not taken", "it has ended, was cut off when it was copied, or this device's clock is wrong",
        "look at this device's date, copy all of it, or have it signed anew: devices sign";
    TooManyDevices, "the device was not taken back", "the list of devices that are has a bound, and is full of some that hold still", "take it back once one of those has ended by itself: devices list";
    Device, "this device cannot be used", "its delegation does not fit its key", "put the identity file back from a copy, or have the device signed anew: devices sign";
    Missing, "a link or a ticket is missing", "it is in no file that was named and not in the environment", "give it in one of the two ways that are said, never on the command line, which everybody sees";
    Empty, "a link or a ticket is missing", "the file, or the variable, has nothing in it", "put it there, on one line or several";
    Mistaken, "one thing was given in another's place", "links and tickets look alike",
        "the invite to the relay belongs to --invite-file, a room's link to --link-file (room join), a person's ticket to --ticket-file; tickets are made by `supernode-call ticket`, room links by `room create`";
    Unreadable, "a link or a ticket cannot be read", "it is something else, or was cut off when it was copied", "copy all of it, in the form that is said";
    TicketEnded, "the ticket has ended", "a ticket holds for a time", "ask the person who made it for a new one (supernode-call ticket)";
    NoMedia, "the file cannot be played", "it is of another kind, or damaged",
        "give --audio an Ogg Opus file and --video an IVF file of VP8, VP9 or AV1; ffmpeg makes them: ffmpeg -i OLD -c:a libopus NEW.opus, ffmpeg -i OLD -an -c:v vp8 NEW.ivf";
    Media, "a media file broke off", "it is damaged, or the disk is full", "play it elsewhere to see whether it is whole, and look at the room on the disk";
    OddTrack, "a track was not recorded", "the other side's program names its media in a way that files of ours have no place for", "nothing here: tell those who use the other program";
    InRoom, "the room was not entered", "another process is in one with this identity", "leave that one first (room leave), or use another identity";
    NotInRoom, "nobody was told", "no `room create`, `join` or `wait` runs with this identity, or it has just ended", "start one, or name the identity that it runs with (--identity)";
    Silent, "it is not known whether it was done", "the process in the room has ended or stands still", "look at that process, and see with `room roster`";
    Order, "the process in the room did not do it", "it says why", "do as it says; `room roster` shows who is there";
    Interrupted, "nothing came about", "you ended it", "nothing";
    Declined, "no call came about", "they said no", "ask them by another way";
    Busy, "no call came about", "they talk to somebody else", "call again later";
    Cancelled, "no call came about", "the ring was taken back, here or by the relay", "call again";
    Unanswered, "no call came about", "nobody picked up in time", "call again later";
    WentOffline, "no call came about", "their device left the relay while it rang", "call again: it waits until they are back";
    Unended, "the recording may lack its end", "the other side's path or program stopped before it said that it was done", "nothing: what came is recorded; call again for the rest";
    NoWay, "no call can be made from here", "no packet gets to the relay and back: the lines above say how far they got", "do what the lines above say";
    Output, "the answer could not be written", "standard output is closed, or its disk is full", "see what the system says, and make room";
    Input, "what you typed could not be read", "standard input is closed, or is no text", "see what the system says; type text, or pipe some in";
    System, "the system refuses threads or signals", "a limit of this user's is reached, most likely", "see what the system says, and compare with ulimit -a";
}

impl Trouble {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        |source| Self::Read { path, source }
    }

    /// That something is there already has words of its own.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Write { path, source },
        }
    }

    pub(crate) fn words(&self) -> &'static Words {
        Told::words(self)
    }
}
