//! The HTTP service that is asked.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{Method, Request, StatusCode, Uri, header, uri::Scheme},
};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};
use supernode_proto::identity::IdentityKey;

use super::figures::Outcome;
use crate::control::config::values::Hook as Settings;

pub(super) struct Service {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    authorization: Option<String>,
    timeout: Duration,
}

impl Service {
    pub(super) fn new(url: Uri, settings: &Settings) -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new();
        // A service of this machine's own is asked in the clear: one without any authorities can ask it, too.
        let connector = match url.scheme() == Some(&Scheme::HTTP) {
            true => connector.with_tls_config(
                ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
            ),
            false => connector.try_with_platform_verifier().map_err(std::io::Error::other)?,
        };
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build()),
            url,
            authorization: settings.secret.as_ref().map(|secret| format!("Bearer {secret}")),
            timeout: settings.timeout,
        })
    }

    /// What the service says, within the time that it has.
    pub(super) async fn ask(&self, identity: &IdentityKey, token: &str) -> Outcome {
        tokio::time::timeout(self.timeout, self.exchange(identity, token)).await.unwrap_or(Outcome::Late)
    }

    async fn exchange(&self, identity: &IdentityKey, token: &str) -> Outcome {
        let body = serde_json::json!({ "identity": identity.to_text(), "token": token });
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let Ok(request) = request.body(Full::from(body.to_string())) else { return Outcome::Broken };
        let status = match self.client.request(request).await {
            Ok(response) => response.status(),
            Err(error) if error.is_connect() => return Outcome::Unreachable,
            Err(_) => return Outcome::Broken,
        };
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Outcome::Yes,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::No,
            _ => Outcome::Unclear,
        }
    }
}
