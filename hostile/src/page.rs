//! A page's end of a connection, made by hand, so that it can be wrong in every place (PROTOCOL 2.2).

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use supernode_keys::{DeviceSecret, IdentitySecret};
use supernode_proto::{
    H3_ALPN, H3_PATH,
    control::{
        Challenge, ClientMessage, FrameReader, RelayMessage, client_message::Body as Request, frame,
        relay_message::Body,
    },
    identity::RelayName,
};
use supernode_session::{Channel, Introduction};
use url::Url;
use web_transport_proto::{ConnectRequest, Settings};

use crate::{
    client::{Dialled, Door, PATIENCE, dial, unix_s},
    tls,
};

/// What stands before a control stream and a media stream of the session.
const CONTROL_HEADER: [u8; 3] = [0x40, 0x41, 0];
const MEDIA_HEADER: [u8; 3] = [0x40, 0x54, 0];
/// A HEADERS frame of HTTP/3.
const HEADERS: u8 = 1;

/// A page whose session is open, and that has been let in or not.
pub(crate) struct Page {
    pub(crate) dialled: Dialled,
    /// The stream of the request, on which capsules travel.
    pub(crate) request: SendStream,
    /// Streams that must stay open as long as the session.
    kept: Kept,
}

struct Kept {
    _settings: SendStream,
    _answer: RecvStream,
    control: Option<(SendStream, RecvStream)>,
}

/// A connection on which nothing of HTTP has been said.
pub(crate) async fn knock(door: &Door, from: Ipv4Addr) -> anyhow::Result<Dialled> {
    dial(door, from, Arc::new(tls::client_for(H3_ALPN)?)).await
}

/// SETTINGS as a browser sends them, with the stream's type in front.
pub(crate) fn settings() -> Bytes {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut said = BytesMut::new();
    settings.encode(&mut said);
    said.freeze()
}

/// The request for a session.
pub(crate) fn request() -> anyhow::Result<Bytes> {
    let mut request = BytesMut::new();
    ConnectRequest::new(Url::parse(&format!("https://relay.invalid{H3_PATH}"))?).encode(&mut request)?;
    Ok(request.freeze())
}

/// A HEADERS frame around these bytes, whatever they are.
pub(crate) fn headers(fields: &[u8]) -> Bytes {
    let length = 0x8000_0000 | fields.len() as u32;
    [&[HEADERS], &length.to_be_bytes()[..], fields].concat().into()
}

impl Page {
    /// Opens a session and reads what the relay wants signed; says no Hello.
    pub(crate) async fn open(door: &Door, from: Ipv4Addr) -> anyhow::Result<(Self, Challenge)> {
        let dialled = knock(door, from).await?;
        let mut own = dialled.connection.open_uni().await?;
        own.write_all(&settings()).await?;
        let (mut send, answer) = dialled.connection.open_bi().await?;
        send.write_all(&request()?).await?;
        let challenge = tokio::time::timeout(PATIENCE, challenge(&dialled)).await.context("no Challenge came")??;
        // A browser ends none of them before the connection either.
        let kept = Kept { _settings: own, _answer: answer, control: None };
        Ok((Self { dialled, request: send, kept }, challenge))
    }

    /// Gets in.
    pub(crate) async fn come_in(door: &Door, from: Ipv4Addr) -> anyhow::Result<Self> {
        let (mut page, challenge) = Self::open(door, from).await?;
        let identity = IdentitySecret::from_bytes(&rand::random());
        let device = DeviceSecret::from_bytes(&rand::random());
        let delegation = identity.delegate(&device.public(), unix_s() + 3600);
        let channel = Channel::by_challenge(&challenge, RelayName::Pin(&door.pin), device.public())?;
        let hello = channel.hello(&device, &Introduction::new(&delegation, &door.token));
        let (mut send, mut receive) = page.dialled.connection.open_bi().await?;
        send.write_all(&CONTROL_HEADER).await?;
        send.write_all(&frame(&ClientMessage { request: 0, body: Some(Request::Hello(hello)) })).await?;
        let first = tokio::time::timeout(PATIENCE, message(&mut receive, FrameReader::default())).await;
        match first.context("no Welcome came")??.body {
            Some(Body::Welcome(_)) => page.kept.control = Some((send, receive)),
            other => bail!("a Welcome was due: {other:?}"),
        }
        Ok(page)
    }

    /// Whether the relay keeps it.
    pub(crate) fn is_there(&self) -> bool {
        self.dialled.connection.close_reason().is_none()
    }
}

/// What the relay wants signed: on its second stream, or on its first if the packet of the other one was lost.
async fn challenge(dialled: &Dialled) -> anyhow::Result<Challenge> {
    loop {
        let mut stream = dialled.connection.accept_uni().await?;
        let mut header = [0; MEDIA_HEADER.len()];
        // HTTP's own is longer than that, too.
        stream.read_exact(&mut header).await?;
        if header != MEDIA_HEADER {
            continue;
        }
        match message(&mut stream, FrameReader::default()).await?.body {
            Some(Body::Challenge(challenge)) => return Ok(challenge),
            other => bail!("a Challenge was due: {other:?}"),
        }
    }
}

async fn message(stream: &mut RecvStream, mut reader: FrameReader) -> anyhow::Result<RelayMessage> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = reader.next_message()? {
            return Ok(message);
        }
        let len = stream.read(&mut buffer).await?.context("the relay ended a stream too early")?;
        reader.push(&buffer[..len]);
    }
}
