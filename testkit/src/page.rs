//! A client that comes as a page in a browser does (PROTOCOL 2.2).

use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use supernode_proto::{H3_ALPN, H3_PATH};
use supernode_session::{Challenged, Channel, Known};
use supernode_tls::AnyCertificate;
use url::Url;
use web_transport_proto::{ConnectRequest, Settings};

use crate::{Client, PATIENCE, Person, Relay, client::client_config_with};

/// What stands before the control stream, and before what the relay opens in the session.
const CONTROL_HEADER: [u8; 3] = [0x40, 0x41, 0];
const MEDIA_HEADER: [u8; 3] = [0x40, 0x54, 0];

/// Of the stream with the Challenge, at once: less than it has.
const READ_BYTES: usize = 16;

/// What a page's session has besides.
pub(crate) struct Page {
    pub(crate) channel: Channel,
    /// Streams that stay open as long as the session: HTTP's own, and that of the request.
    _own: quinn::SendStream,
    _request: (quinn::SendStream, quinn::RecvStream),
}

impl Relay {
    /// As [`Self::connect`], as a page in a browser does that knows the relay by its pin.
    pub async fn connect_page(&self, person: &Person) -> Client {
        let mut tls = supernode_tls::client_config(supernode_tls::provider(), Arc::new(AnyCertificate::default()));
        tls.alpn_protocols = vec![H3_ALPN.to_vec()];
        let config = client_config_with(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(self.address, "relay").unwrap().await.unwrap();

        let mut said = BytesMut::new();
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        settings.encode(&mut said);
        let mut own = connection.open_uni().await.unwrap();
        own.write_all(&said).await.unwrap();
        let mut request = connection.open_bi().await.unwrap();
        said.clear();
        let url = Url::parse(&format!("https://relay.invalid{H3_PATH}")).unwrap();
        ConnectRequest::new(url).encode(&mut said).unwrap();
        request.0.write_all(&said).await.unwrap();
        let challenged = Challenged::new(Known::Keys(vec![self.pin]), person.device_key());
        let channel =
            tokio::time::timeout(PATIENCE, channel(&connection, challenged)).await.expect("a Challenge comes");

        let mut client = Client::on(endpoint, connection, None).await;
        client.send_raw(&CONTROL_HEADER).await;
        client.page = Some(Page { channel, _own: own, _request: request });
        client.greet(person, self.pin).await.expect("the relay lets the page in")
    }
}

/// What the relay wants to have signed for.
async fn channel(connection: &quinn::Connection, mut challenged: Challenged) -> Channel {
    loop {
        let mut stream = connection.accept_uni().await.unwrap();
        let mut header = [0; MEDIA_HEADER.len()];
        stream.read_exact(&mut header).await.unwrap();
        if header != MEDIA_HEADER {
            continue; // HTTP's own
        }
        while let Some(chunk) = stream.read_chunk(READ_BYTES, true).await.unwrap() {
            if let Some(channel) = challenged.handle_bytes(&chunk.bytes).unwrap() {
                return channel;
            }
        }
        panic!("a Challenge was due");
    }
}
