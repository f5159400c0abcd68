//! A guest in a lobby, who waits for what it takes to come in.

use std::time::Duration;

use supernode_e2ee::{Device, Group};
use supernode_proto::identity::{IdentityKey, RoomId};

use super::RingError;
use crate::{
    Member,
    rights::{Admission, Gathered, Said, Why},
};

/// Longest that a guest waits for its Welcome: others may be let in first.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody who waits for a member's word, in the call with them.
pub struct Guest {
    host: IdentityKey,
    room: Option<RoomId>,
    gathered: Gathered,
}

/// Why a guest does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLetIn {
    /// The member says so.
    Denied(Why),
    /// What the member says makes no sense.
    Unreadable,
}

impl Guest {
    /// Of this member, who invited us.
    pub fn invited_by(host: IdentityKey) -> Self {
        Self { host, room: None, gathered: Gathered::default() }
    }

    /// Of this member, at whose room we knocked.
    pub fn at_door(host: IdentityKey, room: RoomId) -> Self {
        Self { room: Some(room), ..Self::invited_by(host) }
    }

    /// Somebody says something in the lobby; whether the wait is over by that, and how.
    pub fn hear(&mut self, from: &Member, said: &Said) -> Option<Result<Admission, NotLetIn>> {
        if from.identity != self.host {
            return None;
        }
        match said {
            Said::Admission(part) => self.gathered.take(part).map(|whole| whole.ok_or(NotLetIn::Unreadable)),
            Said::Denied(denied) => Some(Err(NotLetIn::Denied(denied.why()))),
            Said::Goodbye(_) => None,
        }
    }

    /// Takes the place in the group that the member gave us.
    ///
    /// # Errors
    /// If it is of another room than the one at whose door we are, or the Welcome does not open.
    pub fn take_place(&self, device: &Device, admission: &Admission, unix_s: u64) -> Result<Group, RingError> {
        let group = device.join_room(&admission.welcome, &self.host, unix_s)?;
        match self.room {
            Some(room) if room != group.room() => Err(RingError::Protocol("an admission to another room")),
            _ => Ok(group),
        }
    }
}

#[cfg(test)]
mod tests {
    use supernode_proto::identity::DeviceKey;

    use super::*;
    use crate::rights::{AdmissionPart, Denied, Goodbye};

    //
    #[test]
    fn a_guest_believes_nobody_but_the_member_who_lets_it_in() {
        let [host, mallory] =
            [[1; 32], [2; 32]].map(|key| Member { identity: IdentityKey::new(key), device: DeviceKey::new([3; 32]) });
        let part = |bytes: Vec<u8>| Said::Admission(AdmissionPart { parts: 1, bytes });
        let denied = Said::Denied(Denied { why: Why::Full.into() });
        let guest = || Guest::invited_by(host.identity);
        let mut waiting = guest();
        assert_eq!(waiting.hear(&mallory, &part(Vec::new())), None);
        assert_eq!(waiting.hear(&mallory, &denied), None);
        assert_eq!(waiting.hear(&host, &Said::Goodbye(Goodbye {})), None);
        assert_eq!(waiting.hear(&host, &part(Vec::new())), Some(Ok(Admission::default())));
        assert_eq!(guest().hear(&host, &denied), Some(Err(NotLetIn::Denied(Why::Full))));
        assert_eq!(guest().hear(&host, &part(vec![0xff])), Some(Err(NotLetIn::Unreadable)));
    }
}
