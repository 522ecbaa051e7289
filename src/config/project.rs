//! One `[projects.<name>]`: which of Pike's projects it is, the keys it signs and verifies with, and where
//! its notifications go. Reads the files it names, so that everything wrong with them is known at the start.

use super::{files, problem::Problems, schema};
use secrecy::SecretString;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A project that is complete and whose files are good.
#[derive(Clone, Debug)]
pub struct Project {
    /// Pike's identifier of the project, sent as `X-PARTNER-PROJECT`.
    pub pike_project: String,
    /// Sent as `X-PARTNER-SUBMERCHANT` when there is one.
    pub submerchant: Option<String>,
    pub signing_key_file: PathBuf,
    /// The PEM text of `signing_key_file`, which `keys::signing_key` has read once already.
    pub signing_key: SecretString,
    pub webhook: WebhookScheme,
    /// The header of a webhook that carries its signature.
    pub webhook_signature_header: String,
    pub notify: Option<NotifyTarget>,
}

/// How webhooks of a project are verified. Never taken from the message.
#[derive(Clone, Debug)]
pub enum WebhookScheme {
    /// Pike's own signature; any of these keys (PEM texts, at least one) may have made it.
    PikeRsaSha256 { public_keys: Vec<String> },
    /// A gateway verified Pike's signature and signed anew; the secret's characters are the key.
    HmacSha256 { secret: SecretString },
}

impl WebhookScheme {
    /// As written in the settings.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PikeRsaSha256 { .. } => PIKE_RSA_SHA256,
            Self::HmacSha256 { .. } => HMAC_SHA256,
        }
    }
}

/// Where a project's notifications go.
#[derive(Clone, Debug)]
pub struct NotifyTarget {
    pub url: String,
    /// `whsec_` and base64, as Standard Webhooks writes it.
    pub secret: SecretString,
}

const PIKE_RSA_SHA256: &str = "pike-rsa-sha256";
const HMAC_SHA256: &str = "hmac-sha256";

/// A project as written, with the defaults that `default.toml` documents.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    pub pike_project: String,
    pub submerchant: String,
    pub signing_key_file: String,
    pub pike_public_key_files: Vec<String>,
    #[serde(default = "pike_rsa_sha256")]
    pub webhook_scheme: String,
    pub webhook_secret_file: String,
    #[serde(default = "x_partner_sign")]
    pub webhook_signature_header: String,
    pub notify_url: String,
    pub notify_secret_file: String,
}

fn pike_rsa_sha256() -> String {
    PIKE_RSA_SHA256.to_owned()
}

fn x_partner_sign() -> String {
    "X-PARTNER-SIGN".to_owned()
}

/// Whether notifications may go to addresses within the own network, unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrivateAddresses {
    Allowed,
    Refused,
}

/// Completes one project from its good values; `base` is where relative paths begin.
pub(super) fn complete(
    name: &str,
    values: Table,
    base: &Path,
    private: PrivateAddresses,
    problems: &mut Problems,
) -> Option<Project> {
    let path = format!("projects.{name}");
    for required in schema::PROJECT_REQUIRED {
        let key = format!("{path}.{required}");
        if !values.contains_key(*required) && !problems.mention(&key) {
            let kind =
                schema::PROJECT.iter().find(|key| key.name == *required).map(|key| key.kind.to_string());
            problems.push(&key, "is missing", kind.unwrap_or_default());
        }
    }
    let written: Written = Value::Table(values).try_into().expect("the walk left only good values");
    let open = Open { path, base, problems };
    open.project(written, private)
}

/// A project being completed.
struct Open<'a> {
    path: String,
    base: &'a Path,
    problems: &'a mut Problems,
}

impl Open<'_> {
    fn project(mut self, written: Written, private: PrivateAddresses) -> Option<Project> {
        let signing_key_file = self.base.join(&written.signing_key_file);
        let signing_key = self.read("signing_key_file", &written.signing_key_file, files::signing_key);
        let webhook = self.webhook(&written);
        let notify = self.notify(&written, private);
        Some(Project {
            signing_key: signing_key?,
            webhook: webhook?,
            notify: notify?,
            signing_key_file,
            pike_project: Some(written.pike_project).filter(|text| !text.is_empty())?,
            submerchant: Some(written.submerchant).filter(|text| !text.is_empty()),
            webhook_signature_header: written.webhook_signature_header,
        })
    }

    /// Reads the file that a key names; nothing when it names none.
    fn read<T>(
        &mut self,
        name: &str,
        file: &str,
        reader: fn(&str, &Path, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let key = format!("{}.{name}", self.path);
        if file.is_empty() { None } else { reader(&key, &self.base.join(file), self.problems) }
    }

    /// Says that a key is missing, unless something else was already said about it.
    fn missing(&mut self, name: &str, allowed: &str) {
        let key = format!("{}.{name}", self.path);
        if !self.problems.mention(&key) {
            self.problems.push(&key, "is missing", allowed);
        }
    }

    fn webhook(&mut self, written: &Written) -> Option<WebhookScheme> {
        let files = &written.pike_public_key_files;
        let public_keys: Vec<String> = files
            .iter()
            .filter_map(|file| self.read("pike_public_key_files", file, files::public_key))
            .collect();
        let secret = self.read("webhook_secret_file", &written.webhook_secret_file, files::webhook_secret);
        if self.problems.mention(&format!("{}.webhook_scheme", self.path)) {
            return None;
        }
        if written.webhook_scheme == HMAC_SHA256 {
            if written.webhook_secret_file.is_empty() {
                self.missing(
                    "webhook_secret_file",
                    "a file with the gateway's secret: the scheme is hmac-sha256",
                );
            }
            return secret.map(|secret| WebhookScheme::HmacSha256 { secret });
        }
        if files.is_empty() {
            self.missing(
                "pike_public_key_files",
                "1 to 4 files with public keys: the scheme is pike-rsa-sha256",
            );
        }
        (!public_keys.is_empty()).then_some(WebhookScheme::PikeRsaSha256 { public_keys })
    }

    /// The outer nothing is a problem, the inner one no notifications.
    #[expect(clippy::option_option, reason = "private, one caller, and the comment says which is which")]
    fn notify(&mut self, written: &Written, private: PrivateAddresses) -> Option<Option<NotifyTarget>> {
        let secret = self.read("notify_secret_file", &written.notify_secret_file, files::notify_secret);
        if written.notify_url.is_empty() {
            return Some(None);
        }
        if written.notify_url.starts_with("http:") && private == PrivateAddresses::Refused {
            let allowed =
                "https://…, or notifications.allow_private_addresses = true on a developer's machine";
            self.problems.push(&format!("{}.notify_url", self.path), "is not encrypted", allowed);
        }
        if written.notify_secret_file.is_empty() {
            self.missing("notify_secret_file", "a file with the secret to sign with: notify_url is set");
        }
        secret.map(|secret| Some(NotifyTarget { url: written.notify_url.clone(), secret }))
    }
}
