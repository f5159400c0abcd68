//! What a person is told when something did not work, in three parts: what happened, why as far as is known, and what to do.
//!
//! One table for every error of this crate, so that all programs on it say the same. `docs/MESSAGES.md` is written from it.

pub use supernode_proto::words::Words;
use supernode_proto::{close::CloseCode, control::RefusalReason, words, words::write_section};

use crate::{Error, error::CallEnd};

words! {
    /// Why we could not get to the relay, or something could not be done.
    ERRORS:
    "Authorities", "the relay cannot be checked", "the invite link has no pin=, and no authority is known that could vouch for the relay",
        "install your system's certificates (ca-certificates), or name the relay's own authority (--authority-file), or ask for a link with a pin";
    "TooLarge", "it is too large to be sent", "the protocol has a bound for it", "send less of it";
    "State", "that cannot be done now", "something has to happen first, or is over already", "see what is said: do what is missing, or let it be";
    "Resolve", "the relay's name leads nowhere", "no name server knows it, or none can be asked",
        "look at the host in the invite link for a mistake, and whether this device is on line";
    "Socket", "this device gives no UDP socket", "the system refused one", "see what the system says; a sandbox or a full table of files is likely";
    "Connection", "the connection to the relay broke", "the path or the relay failed", "nothing: it is tried again; if it stays so, look at this device's network";
    "Tcp", "the relay does not answer over TCP either", "a firewall or a proxy does not let it pass, or the relay has no such port", "try another network; ask whoever runs this one whether it needs a proxy (HTTPS_PROXY)";
    "Certificates", "this page cannot know the relay", "the relay tells pages by which certificate to know it at a port of its own, and that does not answer, or the link does not name it (pages=)",
        "try again in a moment; else ask whoever runs the relay for a new link, and whether it takes pages in (web.pages, web.listen)";
    "TimedOut", "an answer did not come in time", "the path loses packets, or the relay has too much to do", "try again in a moment";
    "Unreachable", "no address of the relay answers", "nothing gets through (UDP, nor TCP if the link names such a port), or no relay runs at that address and port",
        "compare address and port with the invite link; try another network (some let no UDP through); ask whoever runs the relay whether it runs";
    "NothingListens", "no relay runs at that address and port", "its machine answers, and says that nothing listens there",
        "compare the port with the invite link; ask whoever runs the relay whether it runs";
    "TooNarrow", "the way to the relay is too narrow", "it takes no packets of 1,200 bytes, which is the least that QUIC works with: a VPN or another tunnel, most likely",
        "set the MTU of the VPN or tunnel to 1,280 or more, or try another network";
    "Disconnected", "there is no connection to the relay just now", "it broke, and is being made anew", "wait a moment";
    "WrongPin", "somebody else answers in the relay's place", "its key is not the one in the invite link: the relay has a new key, or you are being deceived",
        "do not go on; ask whoever gave you the link for a new one, by another way";
    "Untrusted", "the relay's certificate is not one to trust", "nobody you trust has signed it, or it is for another name or time",
        "look at this device's clock; else tell whoever runs the relay (supernode doctor says what is wrong)";
    "Closed", "the relay ended the session", "by a code that this program does not know; those that it knows stand below, each with words of its own", "update this program, or ask whoever runs the relay what the code means";
    "ClockDiffers", "the relay did not let you in", "this device's clock and the relay's differ, and what is signed holds by a clock", "set the one that is wrong; it goes on by itself then";
    "Refused", "the relay refused a request", "it gave one of the reasons below, of which each has words of its own", "do what stands there";
    "Protocol", "the relay said what no relay says", "it is of another version, or broken", "update this program, and tell whoever runs the relay";
    "EndToEnd", "what came could not be opened", "it was sealed for other keys, was changed on its way, or is not from whom it says", "begin the call anew; if it happens again, the relay or somebody in the call is not honest";
    "NotAdmitted", "you were not let in", "somebody in the room declined", "ask them by another way";
    "OtherKeys", "you were not let in", "the room's keys are agreed on by what this device does not offer", "ask for a room that is open to all devices (room create --large), or come with another device";
    "RoomFull", "you were not let in", "the room holds as many devices as its kind of keys bears, which is 40", "ask for a room for more (room create --large)";
    "CallEnded", "the call is over", "calls end in one of the ways below, of which each has words of its own", "do what stands there";
    "ClientClosed", "this program has ended its session", "it was told to", "start it again, if that was a mistake";
}

words! {
    /// Close codes with which a relay ends a session.
    CLOSE_CODES:
    "BYE", "the session ended", "this program, or another with this device, ended it", "nothing";
    "INTERNAL", "the relay failed", "it is at fault: its log says how", "nothing: it is tried again; tell whoever runs the relay if it stays so";
    "MALFORMED_MESSAGE", "the relay did not understand this program", "it sent a message that is none", "update this program";
    "MESSAGE_TOO_LARGE", "the relay did not take a message", "it was too long: this program is at fault", "update this program";
    "UNEXPECTED_MESSAGE", "the relay did not take a message", "it came where there is no place for it: this program is at fault", "update this program";
    "VERSION", "relay and program speak different versions", "one of them is older", "update whichever is older";
    "HELLO_TIMEOUT", "the relay heard too little of this device", "the path is slow, or the device is busy", "nothing: it is tried again at once";
    "BAD_SIGNATURE", "the relay does not believe that this is you", "the signature does not fit: a damaged identity file, or another relay in between", "put the identity file back from a copy";
    "DELEGATION_EXPIRED", "this device may not speak for you at present", "its certificate does not hold by the relay's clock", "look at the date of this device, then start again";
    "NOT_ADMITTED", "the relay does not let you in", "the invite is for another person or relay, was taken back, or there is none",
        "ask whoever runs the relay for an invite link made out to you";
    "TOKEN_EXPIRED", "your invite has ended", "an invite holds for a time", "ask whoever runs the relay for a new link";
    "TOO_MANY_SESSIONS", "the relay has no place for another session", "it is full, or you are there with as many devices as you may be", "nothing: it is tried again later; end the program on another device";
    "REPLACED", "this session has ended", "the same device came a second time", "run one program with an identity file, or make another identity";
    "CONTROL_BACKLOG", "the relay had to wait for this device for too long", "it is busy, or its path is slow", "nothing: it is tried again at once";
    "RATE_EXCEEDED", "the relay ended the session", "more was sent than it grants", "send less; it is tried again later";
    "GOING_AWAY", "the relay is shutting down", "it is being restarted or replaced", "nothing: it is tried again";
    "OVERLOADED", "the relay has more to do than it can", "many came at once", "nothing: it is tried again later";
    "BAD_STREAM", "the relay did not understand this program", "it opened a stream of no kind that there is", "update this program";
    "JUNK_COMMITS", "the relay ended the session", "others rejected again and again what this device did to a group's keys", "leave the room and come in anew";
    "TOO_SLOW", "your path does not take even what cannot be left out", "the network here is too narrow", "try another network; it is tried again later";
    "REMOVED", "the relay's operator ended the session", "they said no more than that", "nothing: it is tried again later; ask them if it happens again";
    "TRANSPORT_ERROR", "the connection broke QUIC's rules", "packets were damaged, or this program is at fault", "nothing: it is tried again later";
    "STALE_KEYS", "the connection broke QUIC's rules", "it went on with keys that are too old: this program is at fault", "nothing: it is tried again later; update this program if it happens again";
    "DAY_USED_UP", "you have been sent as much as you may be in a day", "the relay has such a limit", "wait some hours";
    "RELAY_DAY_USED_UP", "the relay has sent as much as it may in a day", "its operator has set that limit", "wait some hours";
    "ADMISSION_DOWN", "the relay cannot ask whether you may come in", "the service that knows does not answer", "nothing: it is tried again; tell whoever runs the relay";
    "TOKEN_SPENT", "your invite was used before", "it is for one device, and another one has it", "ask whoever runs the relay for a link for this device";
    "UNKNOWN_CLASS", "your invite is of no use any more", "it names a class of limits that the relay does not have", "ask whoever runs the relay for a new link";
    "NODE_REFUSED", "the relay took this program for another relay", "it said that it was one, and is not known as one", "update this program";
    "NODE_OVER", "the relays begin anew with each other", "relays of a cluster tell each other this, and no client", "nothing";
    "DEVICE_REVOKED", "this device does not act for you any more", "you, or somebody with your identity's key, have taken it back", "sign it again with a device that has your key (supernode-call devices sign), if it was a mistake";
    "HOME_MOVED", "the room lives at another relay now", "the one where it lived is gone, or could not be reached", "nothing: it is tried again at once";
}

words! {
    /// Reasons for which a relay refuses a request.
    REFUSALS:
    "UNSPECIFIED", "the relay refused", "it did not say why", "update this program, or tell whoever runs the relay";
    "MALFORMED", "the relay did not understand the request", "a part of it has the wrong size or value: this program is at fault", "update this program";
    "TICKET_INVALID", "the ticket does not hold", "it is made out to somebody else, allows something else, or is damaged", "ask the person who made it for one made out to you (supernode-call ticket --for YOUR-NAME)";
    "TICKET_EXPIRED", "the ticket has ended", "a ticket holds for a time", "ask the person who made it for a new one (supernode-call ticket)";
    "OFFLINE", "they cannot be reached", "no device of theirs is online", "wait until they are, or tell them by another way";
    "NO_KEY_PACKAGE", "they cannot be called just now", "all keys that their device had left with the relay are used up", "try again in a moment";
    "LIMIT", "the relay does not allow so many or so much", "a limit of its operator's: its name and value are said", "wait a moment, or ask whoever runs the relay";
    "UNKNOWN_RING", "that ring is over", "it was answered, given up or timed out", "ring again";
    "UNKNOWN_ROOM", "there is no such room for you", "nobody is in it, or you are not in it", "come in by its link";
    "JOIN_PROOF", "the room does not let this device in", "its keys have changed meanwhile", "knock again with the room's link";
    "UNKNOWN_MEMBER", "that one is not in the room", "they have left, or never were in", "look who is there (room roster)";
    "UNKNOWN_TRACK", "there is no such track any more", "whoever sent it has stopped, or left", "nothing";
    "EPOCH_CONFLICT", "somebody else changed the room at the same moment", "one change at a time counts", "nothing: it is tried again";
    "ALREADY", "it is so already", "somebody was faster, or it was asked twice", "nothing";
    "GOING_AWAY", "the relay starts nothing new", "it is shutting down", "try again in a minute";
    "HISTORY_GONE", "what was missed is not to be had any more", "the relay keeps a room's messages for a time only", "come in anew by the room's link";
    "HOME_UNKNOWN", "the relay does not know yet where the room lives", "relays of a cluster decide that anew, after one of them has gone", "nothing: it is tried again; try again in a minute if it stays so";
}

words! {
    /// How calls end.
    ENDS:
    "Left", "you left the call", "as is said", "nothing";
    "OthersLeft", "all others left the call", "they hung up, or their connections broke for good", "call again";
    "Removed", "you were put out of the call", "a member removed you", "ask them by another way";
    "MissedKeys", "you fell out of the call", "its keys changed while you were away, and the relay no longer has what changed them", "call again, or come in by the room's link";
    "NotLetIn", "you could not come back into the call", "the relay did not let you in", "call again, or come in by the room's link";
    "SessionGone", "the call is over", "the relay could not be reached for too long, or this program ended its session", "call again once the relay can be reached (supernode-call doctor says whether)";
}

fn find(table: &'static [Words], name: &str) -> &'static Words {
    table.iter().find(|words| words.name == name).unwrap_or(&table[0])
}

impl Error {
    /// What to tell people.
    pub fn words(&self) -> &'static Words {
        match self {
            Self::Closed(code) => of_close(*code),
            Self::Refused(refusal) => of_refusal(refusal.reason),
            Self::CallEnded(end) => of_end(*end),
            Self::Unreachable(unreachable) if unreachable.nothing_listens() => find(ERRORS, "NothingListens"),
            other => find(ERRORS, other.name()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Authorities => "Authorities",
            Self::TooLarge { .. } => "TooLarge",
            Self::State(_) => "State",
            Self::Resolve(_) => "Resolve",
            Self::Socket(_) => "Socket",
            Self::Connection(_) => "Connection",
            Self::Tcp(_) => "Tcp",
            Self::Certificates(_) => "Certificates",
            Self::TimedOut(_) => "TimedOut",
            Self::Unreachable(_) => "Unreachable",
            Self::NothingListens => "NothingListens",
            Self::TooNarrow(_) => "TooNarrow",
            Self::Disconnected => "Disconnected",
            Self::WrongPin => "WrongPin",
            Self::Untrusted(_) => "Untrusted",
            Self::Closed(_) => "Closed",
            Self::ClockDiffers(_) => "ClockDiffers",
            Self::Refused(_) => "Refused",
            Self::Protocol(_) => "Protocol",
            Self::EndToEnd(_) => "EndToEnd",
            Self::NotAdmitted => "NotAdmitted",
            Self::OtherKeys => "OtherKeys",
            Self::RoomFull => "RoomFull",
            Self::CallEnded(_) => "CallEnded",
            Self::ClientClosed => "ClientClosed",
        }
    }
}

/// What to tell people of a close code; of one that is not known, that the session was closed.
pub fn of_close(code: CloseCode) -> &'static Words {
    code.row().map_or_else(|| find(ERRORS, "Closed"), |row| find(CLOSE_CODES, row.name))
}

/// What to tell people of a refusal.
pub fn of_refusal(reason: RefusalReason) -> &'static Words {
    let name = reason.as_str_name();
    find(REFUSALS, name.strip_prefix("REFUSAL_REASON_").unwrap_or(name))
}

/// What to tell people of a call's end.
pub fn of_end(end: CallEnd) -> &'static Words {
    find(
        ENDS,
        match end {
            CallEnd::Left => "Left",
            CallEnd::OthersLeft => "OthersLeft",
            CallEnd::Removed => "Removed",
            CallEnd::MissedKeys => "MissedKeys",
            CallEnd::NotLetIn => "NotLetIn",
            CallEnd::SessionGone => "SessionGone",
        },
    )
}

/// `docs/MESSAGES.md`, with the exit codes and the table of the program `supernode-call`.
pub fn markdown(exit_codes: &str, of_program: &[Words]) -> String {
    let mut text = String::from(
        "# Messages\n\nWhat people are told when something did not work: what happened, why as far as is known, and what to \
         do. Written from the\nSDK's table, `client/src/words.rs`, which `supernode-call` and every other program on the SDK \
         has, and from the program's\nown, `client/src/bin/supernode-call/trouble.rs`: an error without a row does not compile, \
         and a test fails when a message\nlacks one of its parts, or when this page differs. What the relay's own program says \
         is in [RELAY-MESSAGES](RELAY-MESSAGES.md).\n",
    );
    for (heading, about, table) in [
        ("Errors", "Of the SDK, by the name that programs know.", ERRORS),
        ("Close codes", "With which a relay ends a session ([PROTOCOL](PROTOCOL.md)).", CLOSE_CODES),
        ("Refusals", "Of single requests; the session goes on.", REFUSALS),
        ("How calls end", "Told once, as the last thing of a call.", ENDS),
        (
            "supernode-call",
            "Of the program: files, links, keys, and calls that do not come about. Words in capitals stand for what is said there.",
            of_program,
        ),
    ] {
        write_section(&mut text, heading, about, table);
    }
    text += "\n### Exit codes\n\nOf `supernode-call`, as its `--help` says as well:\n\n| code | meaning |\n|---|---|\n";
    for (code, meaning) in exit_codes.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  ")) {
        text += &format!("| {code} | {meaning} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use supernode_proto::words::lacking;

    use super::*;

    #[test]
    fn no_message_lacks_one_of_its_parts() {
        for table in [ERRORS, CLOSE_CODES, REFUSALS, ENDS] {
            assert!(lacking(table).is_empty(), "{:?}", lacking(table));
        }
    }

    #[test]
    fn every_close_code_refusal_and_end_has_words_of_its_own_and_nothing_else_has() {
        let codes: Vec<&str> = CloseCode::ALL.iter().map(|row| row.name).collect();
        assert_eq!(CLOSE_CODES.iter().map(|words| words.name).collect::<Vec<_>>(), codes);
        let reasons: Vec<String> = (0..)
            .map_while(|number| RefusalReason::try_from(number).ok())
            .map(|reason| reason.as_str_name().replace("REFUSAL_REASON_", ""))
            .collect();
        assert_eq!(REFUSALS.iter().map(|words| words.name.to_owned()).collect::<Vec<_>>(), reasons);
        assert_eq!(Error::Closed(CloseCode::TOKEN_SPENT).words().name, "TOKEN_SPENT");
        assert_eq!(Error::Closed(CloseCode(0x1234)).words().name, "Closed");
        assert_eq!(Error::WrongPin.words().name, "WrongPin");
        assert_eq!(Error::CallEnded(CallEnd::MissedKeys).words().name, "MissedKeys");
        // `name` is exhaustive, and the table has as many.
        let source = include_str!("error.rs");
        let declared = source.split("pub enum Error {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("it");
        assert_eq!(declared.matches("#[error(").count(), ERRORS.len());
    }
}
