//! The directory that `payoutd dev` keeps between starts: keys, secrets, settings, API keys. Everything in it
//! is for this machine only.

use super::run::Ports;
use crate::{
    api::auth::{self, Scope},
    domain::id::ProjectId,
    keys::{self, ForSandbox},
    store::api_keys,
};
use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The one project of a local payoutd, and its name at the sandbox.
pub(super) const PROJECT: &str = "demo";

/// The rules a local payoutd starts with: the documented example.
const RULES: &str = include_str!("../../config/rules.example.toml");

pub(super) struct Home {
    dir: PathBuf,
}

impl Home {
    /// Opens or makes the directory, with keys in it.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let dir = fs::canonicalize(dir).with_context(|| format!("opening {}", dir.display()))?;
        let home = Self { dir };
        if !home.keys().join("payoutd.key.pem").exists() {
            keys::generate(&home.keys(), ForSandbox::Yes).context("generating keys")?;
        }
        let rules = home.dir.join("rules.toml");
        if !rules.exists() {
            fs::write(&rules, RULES).with_context(|| format!("writing {}", rules.display()))?;
        }
        Ok(home)
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn sandbox_state(&self) -> PathBuf {
        self.dir.join("sandbox.json")
    }

    pub(super) fn read_key(&self, name: &str) -> Result<String> {
        let path = self.keys().join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes the settings for these ports: the same file that `payoutd serve --config` takes.
    pub(super) fn write_config(&self, ports: &Ports) -> Result<PathBuf> {
        let path = self.dir.join("payoutd.toml");
        let text = format!(
            r#"# Written by `payoutd dev` at every start. `payoutd serve --config` takes a file like this one.
[api]
listen = "{api}"
[webhook]
listen = "{webhook}"
[admin]
listen = "{admin}"
[log]
format = "text"
level = "warn"
[pike]
base_url = "http://{sandbox}"
[polling]
first = "1s"
steady = "5s"
longest = "1m"
[rules]
file = "rules.toml"
[notifications]
# The receiver below is on this very machine.
allow_private_addresses = true
[projects.{PROJECT}]
pike_project = "{PROJECT}"
signing_key_file = "keys/payoutd.key.pem"
pike_public_key_files = ["keys/pike.pub.pem"]
notify_url = "http://{receiver}/notifications"
notify_secret_file = "keys/notify.secret"
"#,
            api = ports.api,
            webhook = ports.webhook,
            admin = ports.admin,
            sandbox = ports.sandbox,
            receiver = ports.receiver,
        );
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A local API key: the one kept from an earlier start, if the database still knows it.
    pub(super) async fn api_key(&self, pool: &PgPool, name: &str, scopes: &[Scope]) -> Result<SecretString> {
        let path = self.dir.join(format!("{name}.api-key"));
        let mut db = pool.acquire().await?;
        if let Ok(kept) = fs::read_to_string(&path) {
            let kept = kept.trim().to_owned();
            let id = kept.split('_').nth(1).unwrap_or_default().to_owned();
            if api_keys::find(&mut db, std::slice::from_ref(&id)).await?.contains_key(&id) {
                return Ok(SecretString::from(kept));
            }
            fs::remove_file(&path)?;
        }
        let scopes: BTreeSet<Scope> = scopes.iter().copied().collect();
        let (key, secret) = auth::generate(&ProjectId(PROJECT.to_owned()), name, &scopes);
        api_keys::insert(&mut db, &key).await.context("storing an API key")?;
        keys::write_secret(&path, &SecretString::from(secret.expose_secret().to_owned()))?;
        Ok(secret)
    }
}
