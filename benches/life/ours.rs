//! payoutd as it is delivered: a release build with its default settings, JSON log, history, permits,
//! metrics and checker included.

use crate::{
    load::Door,
    service::{Service, Stage, free_port, keys},
};
use payoutd::{
    api::auth::{self, Scope},
    domain::id::ProjectId,
    store::{api_keys, migrate},
};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use std::{
    fs::File,
    process::{Command, Stdio},
};

const PROJECT: &str = "shop";
const RULES: &str = "version = \"bench\"\n[amounts.RUB]\nmin = 1\nmax = 1_000_000\n";

/// How payoutd is set up, beyond what it needs to find everybody.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines of TOML.
    pub more: String,
    /// How Pike's webhooks are signed.
    pub rsa_webhooks: bool,
}

/// The database's tables and one caller's key.
pub async fn prepare(url: &str, more: &[String]) -> String {
    migrate::run(url, &migrate::Patience::default(), |_| ()).await.unwrap();
    let mut db = PgConnection::connect(url).await.unwrap();
    let scopes = [Scope::Read, Scope::Write].into_iter().collect();
    let (key, secret) = auth::generate(&ProjectId(PROJECT.to_owned()), "bench", &scopes);
    api_keys::insert(&mut db, &key).await.unwrap();
    for statement in more {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.as_str())).execute(&mut db).await.unwrap();
    }
    secret.expose_secret().to_owned()
}

/// One process on a prepared database.
pub async fn start(stage: &Stage, url: &str, key: &str, settings: &Settings) -> Service {
    let [api, webhook, admin] = [free_port(), free_port(), free_port()];
    let Stage { dir, pike, told, .. } = stage;
    let scheme = match settings.rsa_webhooks {
        true => format!("pike_public_key_files = [\"{}\"]", keys(dir).join("pike.pub.pem").display()),
        false => "webhook_scheme = \"hmac-sha256\"\nwebhook_secret_file = \"webhook.secret\"".to_owned(),
    };
    let text = format!(
        r#"
api.listen = "127.0.0.1:{api}"
webhook.listen = "127.0.0.1:{webhook}"
admin.listen = "127.0.0.1:{admin}"
rules.file = "rules.toml"
notifications.allow_private_addresses = true
{}
[projects.{PROJECT}]
pike_project = "shop"
signing_key_file = "keys/payoutd.key.pem"
notify_url = "{told}"
notify_secret_file = "keys/notify.secret"
{scheme}
"#,
        settings.more
    );
    let config = dir.join(format!("payoutd-{api}.toml"));
    std::fs::write(&config, text).unwrap();
    std::fs::write(dir.join("rules.toml"), RULES).unwrap();
    let log = File::create(dir.join(format!("payoutd-{api}.log"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_payoutd"));
    command
        .args(["serve", "--config"])
        .arg(&config)
        .env("DATABASE_URL", url)
        .env("PAYOUTD_PIKE_BASE_URL", pike)
        .stdout(log)
        .stderr(Stdio::inherit());
    let door = Door { orders: format!("http://127.0.0.1:{api}/v1/payouts"), key: key.to_owned() };
    let hook = format!("http://127.0.0.1:{webhook}/pike/{PROJECT}");
    Service::spawn(command, door, hook, &format!("http://127.0.0.1:{admin}/readyz")).await
}
