//! The command line, as its users run it: the real program.

use crate::{
    support::{Scratch, database::Database, keys, rest::Api},
    world::World,
};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn payoutd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payoutd"));
    command.env_remove("DATABASE_URL").env_remove("PAYOUTD_CONFIG").args(arguments);
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success(), "it should fail: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn migrate_brings_a_database_up_to_date_and_may_be_repeated() {
    let db = Database::bare().await;
    for _ in 0..2 {
        assert!(stdout(&payoutd(&["migrate", "--database-url", db.url()])).contains("up to date"));
    }
    let pool = payoutd::store::pool::connect(db.url(), 1).await.unwrap();
    payoutd::store::pool::check(&pool).await.unwrap();
}

#[tokio::test]
async fn migrating_from_several_sides_at_once_is_fine() {
    let db = Database::bare().await;
    let url = db.url().to_owned();
    let together: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || payoutd(&["migrate", "--database-url", &url]))
        })
        .collect();
    for one in together {
        stdout(&one.await.unwrap());
    }
}

#[test]
fn check_config_names_everything_that_is_wrong() {
    let dir = Scratch::new();
    let file = dir.file("payoutd.toml");
    fs::write(
        &file,
        "[pike]\ntotal_timeout = \"0s\"\nmax_in_flight = -1\ncolour = \"red\"\n[polling]\nfirst = 5\n\
         [projects.shop]\npike_project = \"a b\"\n",
    )
    .unwrap();
    let told = failure(&payoutd(&["check-config", "--config", file.to_str().unwrap()]));
    for key in [
        "pike.total_timeout",
        "pike.max_in_flight",
        "pike.colour",
        "polling.first",
        "projects.shop.pike_project",
        "projects.shop.signing_key_file",
        "database.url",
    ] {
        assert!(told.contains(key), "{key} is not named:\n{told}");
    }
    assert!(told.contains("payoutd.toml"), "the file is not named:\n{told}");
    assert!(told.contains("100ms to 1m"), "what is allowed is not said:\n{told}");
    let missing = failure(&payoutd(&["serve", "--config", dir.file("nothing.toml").to_str().unwrap()]));
    assert!(missing.contains("nothing.toml"), "{missing}");
}

#[tokio::test]
async fn check_config_is_content_with_a_good_one() {
    let world = World::open().await;
    let file = world.dir.file("payoutd.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_payoutd"))
        .env("DATABASE_URL", world.db.url())
        .args(["check-config", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    let told = stdout(&output);
    let password = reqwest::Url::parse(world.db.url()).unwrap().password().unwrap().to_owned();
    assert!(!told.contains(&password), "a password was shown");
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_generated_for_their_owner_alone_and_never_overwritten() {
    let dir = Scratch::new();
    let out = dir.file("keys");
    let out_text = out.to_str().unwrap();
    let told = stdout(&payoutd(&["keys", "generate", "--out", out_text, "--sandbox"]));
    let names: Vec<&String> = keys::files().keys().collect();
    for name in &names {
        let file = out.join(name);
        assert!(told.contains(file.to_str().unwrap()), "{told}");
        let public = name.ends_with(".pub.pem");
        assert_eq!(mode(&file), if public { 0o644 } else { 0o600 }, "{name}");
    }
    let before = fs::read(out.join("payoutd.key.pem")).unwrap();
    let again = failure(&payoutd(&["keys", "generate", "--out", out_text]));
    assert!(again.contains("never overwritten"), "{again}");
    assert_eq!(fs::read(out.join("payoutd.key.pem")).unwrap(), before);
    assert!(!told.contains("PRIVATE"), "the keys themselves are not shown");
}

#[tokio::test]
async fn the_switch_is_thrown_for_projects_that_exist() {
    let world = World::open().await;
    let throw = |project: &str| {
        let url = world.db.url();
        payoutd(&["confirms", "off", "--reason", "test", "--project", project, "--database-url", url])
    };
    let off = "SELECT count(*) FROM switches WHERE NOT confirms";
    assert!(failure(&throw("shpo")).contains("shpo"));
    assert_eq!(world.count(off).await, 0, "a misspelt project is not a success");
    assert!(stdout(&throw("shop")).contains("off for shop"));
    assert_eq!(world.count(off).await, 1);
}

#[tokio::test]
async fn api_keys_are_made_shown_once_and_revoked() {
    let world = World::open().await;
    let url = world.db.url();
    let made = payoutd(&[
        "keys",
        "api",
        "--project",
        "shop",
        "--name",
        "back office",
        "--scopes",
        "read,write",
        "--database-url",
        url,
    ]);
    let key = stdout(&made).trim().to_owned();
    let base = format!("http://{}", world.running().api);
    let api = Api::new(&base, &key);
    assert_eq!(api.get("/v1/payouts").await.status, 200);
    assert_eq!(api.get("/v1/confirms").await.problem(), (403, "missing_scope", ""));
    let (secret, id) = (key.splitn(3, '_').nth(2).unwrap(), key.split('_').nth(1).unwrap());
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT k::text FROM api_keys k").fetch_all(&world.pool).await.unwrap();
    assert!(stored.iter().any(|row| row.contains(id)) && stored.iter().all(|row| !row.contains(secret)));
    stdout(&payoutd(&["keys", "revoke", id, "--database-url", url]));
    assert_eq!(api.get("/v1/payouts").await.status, 401);
    let again = failure(&payoutd(&["keys", "revoke", id, "--database-url", url]));
    assert!(again.contains(id), "{again}");
    let unknown = payoutd(&[
        "keys",
        "api",
        "--project",
        "shop",
        "--name",
        "x",
        "--scopes",
        "everything",
        "--database-url",
        url,
    ]);
    assert!(failure(&unknown).contains("everything"));
}

#[tokio::test]
async fn an_api_key_may_have_an_owner_with_a_name() {
    let world = World::open().await;
    let make = |owner: &str| {
        let url = world.db.url();
        let key = ["keys", "api", "--project", "shop", "--name", "till", "--scopes", "read"];
        payoutd(&[&key[..], &["--owner", owner, "--database-url", url]].concat())
    };
    let before = world.count("SELECT count(*) FROM api_keys").await;
    let key = stdout(&make("  Anna Berg ")).trim().to_owned();
    let mut db = world.pool.acquire().await.unwrap();
    let id = key.split('_').nth(1).unwrap().to_owned();
    let stored = payoutd::store::api_keys::find(&mut db, std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(stored[&id].as_ref().unwrap().owner.as_ref().unwrap().name(), "Anna Berg");
    for owner in ["", "  ", "Anna\nBerg"] {
        assert!(failure(&make(owner)).contains("the name of a person or a team"), "{owner:?}");
    }
    assert_eq!(world.count("SELECT count(*) FROM api_keys").await, before + 1);
}

#[tokio::test]
async fn health_asks_a_running_payoutd() {
    let mut world = World::open().await;
    let url = format!("http://{}/readyz", world.running().admin);
    let ask = |url: String| tokio::task::spawn_blocking(move || payoutd(&["health", "--url", &url]).status);
    assert!(ask(url.clone()).await.unwrap().success());
    world.stop().await;
    assert!(!ask(url).await.unwrap().success());
}
