//! Who may ring, who may come in, and who may no more: what is shown, what is checked, and what is believed.

mod claimed;
mod door;
mod greeting;
mod invitation;
mod knock;
mod revoked;
mod right;
mod room_link;
mod ticket_link;

pub use claimed::Claimed;
pub(crate) use door::why_not;
pub use door::{Door, Lobby, LobbyError, NameTooLong, propose_guest};
pub use greeting::{
    Admission, AdmissionPart, Denied, Gathered, Goodbye, Greeting, Purpose, ROOM_NAME_BYTES_MAX, RingPayload, Said,
    Why, decode_reply, denied, encode_reply, goodbye, read,
};
pub use invitation::{Invitation, Outgoing, OutgoingError, Ringing};
pub use knock::{AtDoor, ForLobby, answer_knock, knock, open_knock, read_answer};
pub use revoked::Revoked;
pub use right::{Fault, Opened, Right, Rules};
pub use room_link::{RoomLink, RoomLinkError};
pub use ticket_link::{TicketLink, TicketLinkError};
