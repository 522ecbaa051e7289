//! Delivering one message. The receiver has a few seconds and a few kilobytes; it is sent to once per try,
//! wherever the settings say, never where an answer points.

use super::{
    guard::{PublicOnly, is_public},
    sign::Secret,
};
use crate::domain::id::ProjectId;
use reqwest::{Client, Url, header::CONTENT_TYPE, redirect::Policy};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

/// Where a project is told, and with which secret.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: String,
    pub secret: Secret,
}

/// Sends messages to registered endpoints.
#[derive(Debug)]
pub struct Notifier {
    http: Client,
    endpoints: BTreeMap<ProjectId, (Url, Secret)>,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    #[error("the HTTP client for notifications: {0}")]
    Http(#[from] reqwest::Error),
    #[error("project {0}: notify_url is not an http or https URL without user name and password")]
    BadUrl(ProjectId),
    #[error("project {0}: notify_url points into a private network, which the settings do not allow")]
    PrivateAddress(ProjectId),
}

/// The message was not delivered (or nobody knows whether it was): try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFailed {
    #[error("the receiver answered {0}")]
    Status(u16),
    #[error("the receiver could not be reached or did not answer in time")]
    NoAnswer,
    #[error("the project has no endpoint in the settings")]
    NoEndpoint,
}

impl Notifier {
    /// # Errors
    /// [`NotifierError`].
    pub fn new(
        endpoints: BTreeMap<ProjectId, Endpoint>,
        timeout: Duration,
        private: PrivateAddresses,
    ) -> Result<Self, NotifierError> {
        let builder = Client::builder()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(timeout)
            .timeout(timeout);
        let builder = match private {
            PrivateAddresses::Refused => builder.dns_resolver(Arc::new(PublicOnly)),
            PrivateAddresses::Allowed => builder,
        };
        let endpoints = endpoints
            .into_iter()
            .map(|(project, Endpoint { url, secret })| {
                let url = usable(&project, &url, private)?;
                Ok((project, (url, secret)))
            })
            .collect::<Result<_, NotifierError>>()?;
        Ok(Self { http: builder.build()?, endpoints })
    }

    /// Sends one message. Only a 2xx counts.
    ///
    /// # Errors
    /// [`SendFailed`].
    pub async fn send(&self, project: &ProjectId, id: &str, now: i64, body: &str) -> Result<(), SendFailed> {
        let (url, secret) = self.endpoints.get(project).ok_or(SendFailed::NoEndpoint)?;
        let response = self
            .http
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", secret.sign(id, now, body))
            .body(body.to_owned())
            .send()
            .await
            .map_err(|_| SendFailed::NoAnswer)?;
        // The answer's body is not read: nothing in it could matter.
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(SendFailed::Status(status.as_u16())) }
    }
}

/// Whether endpoints inside private networks may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateAddresses {
    Allowed,
    Refused,
}

/// A URL with a literal address never meets the resolver, so it is judged here.
fn usable(project: &ProjectId, text: &str, private: PrivateAddresses) -> Result<Url, NotifierError> {
    let bad = || NotifierError::BadUrl(project.clone());
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || !matches!(url.scheme(), "http" | "https") {
        return Err(bad());
    }
    let host = url.host_str().ok_or_else(bad)?;
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if private == PrivateAddresses::Refused && literal.is_some_and(|address| !is_public(address)) {
        return Err(NotifierError::PrivateAddress(project.clone()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_into_private_networks_are_refused_in_every_spelling() {
        let project = ProjectId("demo".to_owned());
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:80/",
            "http://10.1.2.3/x",
            "http://[::ffff:169.254.169.254]/",
            "http://0177.0.0.1/",
        ] {
            assert!(usable(&project, url, PrivateAddresses::Refused).is_err(), "{url}");
            assert!(usable(&project, url, PrivateAddresses::Allowed).is_ok(), "{url}");
        }
        for url in [
            "ftp://example.org/",
            "http://user:pw@example.org/",
            "http://user@example.org/",
            "example.org",
            "",
        ] {
            assert!(usable(&project, url, PrivateAddresses::Allowed).is_err(), "{url}");
        }
        assert!(usable(&project, "https://hooks.example.org/payouts", PrivateAddresses::Refused).is_ok());
    }
}
