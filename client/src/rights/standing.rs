//! Rooms that stand. Their link is a secret that everybody in them has: from it come the room's name and all that is shown
//! at its door. Whoever comes first opens the room; whoever comes later is let in by any of those inside.

use supernode_calls::rings::{Calling, opens_room};
use supernode_e2ee::LinkSecret;

use crate::{
    Call, Client, Error, OutgoingRing, RoomOptions,
    error::CallEnd,
    rights::door::{self, Place},
    sync::lock,
};

impl Client {
    /// Goes into the room of a link. Any member lets us in; if nobody is there, we open it, and let in whoever comes after
    /// us. `options` say how others come back by us; the name counts if we open the room.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`] if the members do not let us in, which may be that to all of them we are shut out and the relay
    /// rings none; [`Error::State`] if none of them answers; as [`Client::ring`] for the rest.
    pub async fn enter_by_link(&self, link: &LinkSecret, options: RoomOptions) -> Result<Call, Error> {
        let options = RoomOptions { link: Some(link.clone()), ..options };
        match knock(self, link).await {
            Ok(place) => self.enter_room(place, options, None).await,
            Err(Error::Refused(refusal)) if opens_room(&refusal) => {
                self.create_room(options).await.map_err(|error| match error {
                    Error::CallEnded(CallEnd::NotLetIn) => Error::NotAdmitted,
                    error => error,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Rings those who are in the room, and gets what it takes to come in from the first of them that answers and has the
/// link.
pub(crate) async fn knock(client: &Client, link: &LinkSecret) -> Result<Place, Error> {
    let inner = &client.inner;
    let on = inner.link().await?;
    let revocation = lock(&inner.revoked).of(&inner.device.identity());
    let (calling, next) = Calling::at_door(&on.channel, link, &inner.device, revocation.as_ref())?;
    let mut ring = OutgoingRing::start(client, &on, calling, next).await?;
    let (lobby, host) = ring.lobby().await?;
    door::receive_admission(&lobby, &host, Some(link.room())).await
}
