//! What goes wrong here and not at the relay: files, links, keys, and calls that do not come about. Of each, what happened and
//! to which file, why as far as is known, and what to do.

use std::{io, path::Path};

use supernode_client::{
    e2ee,
    media::MediaError,
    proto::{
        identity::IdentityError,
        troubles,
        words::{Told, Words},
    },
};

troubles! {
    /// Why a command did not do what it should.
    pub(crate) Trouble as ROWS:

    Read { path: String, source: io::Error }, "{path}: cannot be read",
        "it is not there, or this user may not read it", "compare the path with what was meant, or let this user read the file";
    Write { path: String, source: io::Error }, "{path}: cannot be written",
        "its directory is not there, this user may not write there, or the disk is full", "see what the system says, and name another path or make room";
    Exists { path: String }, "{path}: is there already",
        "nothing is written over: it may be all that there is of a call or an identity", "move it away, or name another path (--out, --record-dir)";
    NoIdentity { path: String, source: serde_json::Error }, "{path}: is no identity file",
        "it holds something else, or was cut short", "name the right file (--identity), put it back from a copy, or make one: supernode-call identity --out FILE";
    Broken { path: String, field: &'static str, problem: &'static str }, "{path}: is damaged: {field} {problem}",
        "it was changed by hand, or cut short", "put it back from a copy: what is lost of a key, nobody can make again";
    HasSecret { path: String }, "{path}: has the identity's secret, and needs no delegation",
        "this is the device that delegates to the others", "give it to the device that asked for it (devices request)";
    NoSecret { path: String }, "{path}: does not have the identity's secret",
        "this device acts for an identity whose secret is on another one", "do it on the device that certified this one";
    Nobodys { path: String }, "{path}: is a device that is nobody's yet",
        "no identity has certified it",
        "have its public name signed by `supernode-call devices sign` on the device with the identity's secret, and accept what that prints: devices accept";
    OtherDevice { path: String }, "{path}: the delegation is for another device",
        "it was made out to the device that asked for it, by its name", "name the file that `devices request` made on this device (--identity), or have this device's name signed";
    Delegation { path: String, source: IdentityError }, "{path}: the delegation does not hold",
        "it has ended, was cut off when it was copied, or this device's clock is wrong", "look at this device's date, copy all of it, or have it signed anew: devices sign";
    TooManyDevices { path: String, source: e2ee::TooManyDevices }, "{path}: no more devices can be taken back",
        "the list of those that were has a bound, and is full of some that hold still", "take it back once one of those has ended by itself: devices list";
    Device { path: String, source: e2ee::Error }, "{path}: no device can be made of it",
        "its delegation does not fit its key", "put the identity file back from a copy, or have the device signed anew: devices sign";

    Missing { what: &'static str, option: &'static str, variable: &'static str }, "no {what}: give {option} FILE, or set {variable}",
        "it is in no file that was named and not in the environment", "give it in one of these two ways, never on the command line, which everybody sees";
    Empty { from: String, what: &'static str }, "{from}: is empty: no {what} is there",
        "nothing was written to the file, or the variable was set to nothing", "put it there, on one line or several";
    Mistaken { from: String, is: &'static str, wanted: &'static str }, "{from}: is {is}, and {wanted} is wanted",
        "links and tickets look alike",
        "the invite to the relay belongs to --invite-file, a room's link to --link-file (room join), a person's ticket to --ticket-file; tickets are made by `supernode-call ticket`, room links by `room create`";
    Unreadable { from: String, what: &'static str, form: &'static str, why: String }, "{from}: is no {what} ({form}): {why}",
        "it is something else, or was cut off when it was copied", "copy all of it, from its first character to its last";
    TicketEnded { from: String, issuer: String, days: u64 }, "{from}: this ticket of {issuer} ended {days} days ago",
        "a ticket holds for a time", "ask the person who made it for a new one (supernode-call ticket)";

    NoMedia { path: String, format: &'static str, seen: &'static str, source: MediaError }, "{path}: is no {format} file; {seen}",
        "it is of another kind, or damaged",
        "give --audio an Ogg Opus file and --video an IVF file of VP8, VP9 or AV1; ffmpeg makes them: ffmpeg -i OLD -c:a libopus NEW.opus, ffmpeg -i OLD -an -c:v vp8 NEW.ivf";
    Media { path: String, source: MediaError }, "{path}: broke off",
        "it is damaged, or the disk is full", "play it elsewhere to see whether it is whole, and look at the room on the disk";
    OddTrack { odd: &'static str }, "the other side's {odd}: it cannot be recorded",
        "their program names its media in a way that files of ours have no place for", "tell those who use the other program; the call itself is not harmed";

    NoSound, "this program was built without microphones and loudspeakers",
        "they need ALSA and libopus, which not every machine has",
        "use files (--audio, --record-dir), or build it anew, on Debian: apt-get install libasound2-dev libopus-dev pkg-config; cargo build --release -p supernode-client --features sound";
    SoundDevice { what: &'static str, name: String, source: io::Error }, "{what} {name}: cannot be used",
        "there is none of that name, another program has it for itself alone, the sound server does not run or is another user's, or it was unplugged",
        "see which there are (supernode-call sound) and name one (--mic NAME, --speaker NAME); one that is called hw: takes nothing but what its hardware does, by plughw: in its place ALSA converts";

    InRoom { path: String }, "{path}: this identity is in a room already",
        "another process is in one with it", "leave that one first (room leave), or use another identity";
    NotInRoom { path: String, source: io::Error }, "{path}: no process is in a room with this identity",
        "no `room create`, `join` or `wait` runs with it, or it has just ended", "start one, or name the identity that it runs with (--identity)";
    Silent { path: String, source: io::Error }, "{path}: the process in the room gave no answer",
        "it has ended or stands still, and it is not known whether it did what it was told", "look at that process, and see with `room roster`";
    NoOrder(#[source] serde_json::Error), "the process in the room does not understand this order",
        "it is of another version than this program", "have it leave, and start it with this version; calls of others go on";
    LeavesRoom, "the room is being left", "somebody said `room leave`, or the call is over", "come in again (room join)";

    Interrupted, "interrupted", "as is said", "nothing";
    Declined, "they declined", "as is said", "ask them by another way";
    Busy, "they are busy", "they talk to somebody else", "call again later";
    Cancelled, "the ring was cancelled", "it was taken back, here or by the relay", "call again";
    Unanswered, "nobody answered", "nobody was there, or heard it", "call again later";
    WentOffline, "they went offline", "their device left the relay while it rang", "call again: it rings on while they are away";
    Unended, "the other side did not end its tracks in time",
        "their path or program stopped before it said that it was done: the recording may lack its end", "keep what was recorded, and call again for the rest";

    NoWay, "the relay cannot be reached from here", "no packet gets there and back: the lines above say how far they got", "do what the lines above say";
    Output(#[source] io::Error), "standard output cannot be written", "it is closed, or its disk is full", "see what the system says, and make room";
    Input(#[source] io::Error), "standard input cannot be read", "it is closed, or is no text", "see what the system says; type text, or pipe some in";
    System(#[source] io::Error), "the system refuses what this program needs",
        "it has no more threads or signals for this user, most likely", "see what the system says, and compare with ulimit -a";
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

    /// Of a file of ours that is played or recorded.
    pub(crate) fn media(path: &str) -> impl FnOnce(MediaError) -> Self {
        |source| Self::Media { path: path.to_owned(), source }
    }

    pub(crate) fn words(&self) -> &'static Words {
        Told::words(self)
    }
}
