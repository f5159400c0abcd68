//! Why a session or a media stream ended: the application error codes of QUIC CONNECTION_CLOSE and RESET_STREAM
//! (RFC 9000 sections 19.19 and 19.4).

use std::fmt;

/// Whose doing the end of a session was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's: the normal end.
    Nobody,
    /// The peer broke the protocol.
    Peer,
    /// The operator's rules say no.
    Policy,
    /// The relay has too much to do or is going away.
    Relay,
}

/// When it makes sense to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not without changing something.
    Never,
    /// At once.
    Now,
    /// After a growing, random wait.
    Later,
}

/// One row of a code table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Number on the wire.
    pub code: u64,
    /// Name.
    pub name: &'static str,
    /// Sentence for people.
    pub sentence: &'static str,
    /// Whose doing.
    pub blame: Blame,
    /// When to retry.
    pub retry: Retry,
}

macro_rules! codes {
    ($(#[$doc:meta])* $type:ident { $($code:literal $name:ident $blame:ident $retry:ident $sentence:literal;)* }) => {
        $(#[$doc])*
        ///
        /// A number from a newer peer is kept as it is and still prints.
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $type(pub u64);

        impl $type {
            $(
                #[doc = $sentence]
                pub const $name: Self = Self($code);
            )*
            /// The table.
            pub const ALL: &'static [Row] = &[
                $(Row { code: $code, name: stringify!($name), sentence: $sentence, blame: Blame::$blame, retry: Retry::$retry },)*
            ];

            /// The row of this code, if it is one of ours.
            pub fn row(self) -> Option<&'static Row> {
                Self::ALL.iter().find(|row| row.code == self.0)
            }

            /// The place of this code in [`Self::ALL`]; behind its end if it is none of ours.
            pub fn place(self) -> usize {
                Self::ALL.iter().position(|row| row.code == self.0).unwrap_or(Self::ALL.len())
            }

            /// When to connect again; an unknown code is retried later.
            pub fn retry(self) -> Retry {
                self.row().map_or(Retry::Later, |row| row.retry)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.row() {
                    Some(row) => write!(f, "{} ({:#04x}): {}", row.name, self.0, row.sentence),
                    None => write!(f, "unknown code {:#04x}", self.0),
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

codes! {
    /// Why a session ended.
    CloseCode {
        0x00 BYE                 Nobody Never "the session ended as its owner wished";
        0x01 INTERNAL            Relay  Later "the relay failed; its log says how";
        0x02 MALFORMED_MESSAGE   Peer   Never "the control stream carried bytes that are no message";
        0x03 MESSAGE_TOO_LARGE   Peer   Never "a control message was longer than CONTROL_MESSAGE_BYTES_MAX";
        0x04 UNEXPECTED_MESSAGE  Peer   Never "a message came where the protocol has no place for it, such as a second Hello";
        0x05 VERSION             Peer   Never "no protocol version is spoken by both sides";
        0x06 HELLO_TIMEOUT       Peer   Now   "no Hello came in time";
        0x07 BAD_SIGNATURE       Peer   Never "the Hello or its delegation is not signed by the keys it names for this connection";
        0x08 DELEGATION_EXPIRED  Peer   Never "the identity's certificate for this device has expired or runs too long";
        0x09 NOT_ADMITTED        Policy Never "this relay does not admit this identity, or the token is not one of its own";
        0x0a TOKEN_EXPIRED       Policy Never "the admission token has expired";
        0x0b TOO_MANY_SESSIONS   Policy Later "the relay or this identity has as many sessions as it may";
        0x0c REPLACED            Nobody Never "the same device connected again, and the newer session stays";
        0x0d CONTROL_BACKLOG     Peer   Now   "the client did not read its control messages";
        0x0e RATE_EXCEEDED       Policy Later "the session sent more than it was granted, again and again";
        0x0f GOING_AWAY          Relay  Later "the relay is shutting down";
        0x10 OVERLOADED          Relay  Later "the relay has more to do than it can";
        0x11 BAD_STREAM          Peer   Never "a stream was opened that the protocol has no use for, or the control stream was closed";
        0x12 JUNK_COMMITS        Peer   Later "the members of its rooms rejected its commits again and again";
        0x13 TOO_SLOW            Nobody Later "the client's path did not take even what cannot be left out";
        0x14 REMOVED             Policy Later "the relay's operator ended the session";
        0x15 TRANSPORT_ERROR     Peer   Later "what the client sent broke the rules of QUIC or TLS, or ran into their defences";
        0x16 STALE_KEYS          Peer   Later "the client did not take up the keys that the relay has changed to";
        0x17 DAY_USED_UP         Policy Later "the identity has been sent as much as it may be in a day";
        0x18 RELAY_DAY_USED_UP   Policy Later "the relay has sent as much as it may in a day";
        0x19 ADMISSION_DOWN      Relay  Later "the service that this relay asks who may use it gives no answer at present";
        0x1a TOKEN_SPENT         Policy Never "the admission token is for one use, and another device has used it";
        0x1b UNKNOWN_CLASS       Policy Never "the admission token names a class of limits that this relay does not have (any more)";
        0x1c NODE_REFUSED        Policy Later "whoever greeted as a node of the relay's cluster is none that it knows";
        0x1d NODE_OVER           Nobody Now   "letters between two nodes were lost, or one of them lives no more: all links between them begin anew";
        0x1e DEVICE_REVOKED      Policy Never "the identity has taken this device back";
        0x1f HOME_MOVED          Relay  Now   "a room of the session lives at another node now, which knows nothing of its members";
    }
}

codes! {
    /// Why a media stream ended before its last byte.
    StreamCode {
        0x00 CANCELLED        Nobody Never "the publisher gave the group up";
        0x01 EXPIRED          Nobody Never "the objects outlived their time to live or the subscriber's maximum age";
        0x02 LAGGED           Nobody Never "the subscriber's queue was full and a newer group has come";
        0x03 LAYER_DROPPED    Nobody Never "the subscriber's path does not take this layer now";
        0x04 UNSUBSCRIBED     Nobody Never "the subscription ended";
        0x05 TRACK_ENDED      Nobody Never "the track ended or its publisher is gone";
        0x06 UNKNOWN_TRACK    Peer   Never "the stream names a track that is not the sender's own";
        0x07 MALFORMED        Peer   Never "the stream's header or one of its objects is malformed";
        0x08 OVERLOADED       Relay  Later "the relay had no room to forward it";
        0x09 RATE_EXCEEDED    Policy Later "the session sent more than it was granted";
    }
}

impl CloseCode {
    /// Whether it says something of the relay that said it only: another one of the same key may well let the client in.
    pub fn is_of_one_relay(self) -> bool {
        matches!(
            self,
            Self::INTERNAL
                | Self::TOO_MANY_SESSIONS
                | Self::GOING_AWAY
                | Self::OVERLOADED
                | Self::RELAY_DAY_USED_UP
                | Self::ADMISSION_DOWN
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn only_what_may_pass_by_itself_is_a_reason_to_look_for_another_relay() {
        let of_one = CloseCode::ALL.iter().filter(|row| CloseCode(row.code).is_of_one_relay());
        assert!(of_one.clone().count() == 6 && of_one.clone().all(|row| row.retry == Retry::Later));
        for code in [CloseCode::NOT_ADMITTED, CloseCode::REPLACED, CloseCode::REMOVED, CloseCode(0x1234)] {
            assert!(!code.is_of_one_relay(), "{code}");
        }
    }

    #[test]
    fn numbers_and_names_are_unique() {
        for table in [CloseCode::ALL, StreamCode::ALL] {
            for (index, row) in table.iter().enumerate() {
                assert!(
                    table[..index].iter().all(|earlier| earlier.code < row.code && earlier.name != row.name),
                    "{} is out of order or there twice",
                    row.name
                );
            }
        }
    }

    #[test]
    fn a_code_knows_its_place_in_the_table_though_numbers_are_left_out() {
        for (place, row) in CloseCode::ALL.iter().enumerate() {
            assert_eq!(CloseCode(row.code).place(), place);
        }
        assert_eq!(CloseCode(0x1234).place(), CloseCode::ALL.len());
    }

    //
    #[test]
    fn an_unknown_code_still_prints_and_is_retried_later() {
        let code = CloseCode(0x1234);
        assert_eq!(code.to_string(), "unknown code 0x1234");
        assert_eq!(code.retry(), Retry::Later);
        assert_eq!(
            CloseCode::REPLACED.to_string(),
            "REPLACED (0x0c): the same device connected again, and the newer session stays"
        );
    }
}
