//! The receiver of webhooks: what is not genuine leaves no trace but a counter, what is genuine is kept
//! whatever it says, and a replay does nothing.

use crate::{
    outcomes::assert_paid,
    relay::{Exchange, Trouble},
    support::{
        database::{Database, cluster_options},
        http_client, keys,
        rest::{order, order_of},
        until,
    },
    world::World,
};
use futures_util::future::join_all;
use payoutd::dev::postgres::{ClusterOptions, Lifetime};
use serde_json::json;

const GOOD: &str = r#"{"type":"payment_finished","session":{"id":"ps_unknown","status":"accepted"}}"#;

async fn inbox(world: &World) -> i64 {
    world.count("SELECT count(*) FROM inbox").await
}

#[tokio::test]
async fn what_is_not_genuine_is_refused_and_not_stored() {
    let world = World::open().await;
    let sign = |body: &str| keys::rsa("pike.key.pem", body.as_bytes());
    let good = sign(GOOD);
    let flipped = {
        let at = good.len() / 2;
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let altered = GOOD.replace("accepted", "cancelled");
    let twice = [("X-PARTNER-SIGN", good.as_str()), ("X-PARTNER-SIGN", good.as_str())];
    let joined = format!("{good},{good}");
    let unpadded = good.trim_end_matches('=').to_owned();
    let url_safe = good.replace('+', "-").replace('/', "_");
    let by_us = keys::rsa("payoutd.key.pem", GOOD.as_bytes());
    let long = "A".repeat(4_000);
    let one = |value: &'static str| vec![("X-PARTNER-SIGN", value)];
    let cases: Vec<(&str, Vec<(&str, &str)>, &str)> = vec![
        ("no signature", vec![], GOOD),
        ("an empty one", one(""), GOOD),
        ("spaces", one("   "), GOOD),
        ("not base64", one("%%%"), GOOD),
        ("one bit off", vec![("X-PARTNER-SIGN", &flipped)], GOOD),
        ("another body", vec![("X-PARTNER-SIGN", &good)], &altered),
        ("two headers", twice.to_vec(), GOOD),
        ("two in one", vec![("X-PARTNER-SIGN", &joined)], GOOD),
        ("no padding", vec![("X-PARTNER-SIGN", &unpadded)], GOOD),
        ("url-safe base64", vec![("X-PARTNER-SIGN", &url_safe)], GOOD),
        ("our own key", vec![("X-PARTNER-SIGN", &by_us)], GOOD),
        ("too long", vec![("X-PARTNER-SIGN", &long)], GOOD),
        ("the wrong header", vec![("X-SIGNATURE", &good)], GOOD),
        ("an algorithm of its choice", vec![("X-PARTNER-SIGN", "none"), ("alg", "none")], GOOD),
    ];
    for (what, headers, body) in cases {
        let expected = if url_safe == good && what == "url-safe base64" { 200 } else { 401 };
        assert_eq!(world.webhook("/pike/shop", &headers, body.into()).await, expected, "{what}");
    }
    let large = format!(r#"{{"type":"x","pad":"{}"}}"#, "a".repeat(64 * 1024));
    let signature = sign(&large);
    let answer = world.webhook("/pike/shop", &[("X-PARTNER-SIGN", &signature)], large.into()).await;
    assert_eq!(answer, 413);
    assert_eq!(world.webhook("/pike/nobody", &[("X-PARTNER-SIGN", &good)], GOOD.into()).await, 404);
    assert_eq!(inbox(&world).await, 0, "nothing of it was stored");
    let (_, metrics) = world.admin("/metrics").await;
    for counted in ["forged", "too_large", "unknown_project"] {
        assert!(metrics.contains(&format!("verdict=\"{counted}\"")), "{counted} was not counted");
    }
}

#[tokio::test]
async fn genuine_nonsense_is_told_apart() {
    let world = World::open().await;
    for malformed in [
        "",
        "{",
        "[]",
        "null",
        r#"{"type":7}"#,
        r#"{"session":{}}"#,
        r#"{"type":"a","type":"b"}"#,
        r#"{"type":"a","t\u0079pe":"b"}"#,
        r#"{"type":"a"}x"#,
        r#"{"type":"\ud800"}"#,
        "\u{feff}{\"type\":\"a\"}",
        // What is known, told twice, or in order and without names.
        r#"{"type":"payment_finished","type":"payment_finished","session":{"id":"a","status":"b"}}"#,
        r#"{"type":"payment_finished","session":{"id":"a","status":"b"},"session":{"id":"a","status":"b"}}"#,
        r#"["payment_finished",{"id":"a","status":"b"}]"#,
        r#"[{"id":"a","status":"b"}]"#,
        r#"["payment_finished"]"#,
    ] {
        assert_eq!(world.signed_webhook("shop", malformed).await, 400, "{malformed}");
    }
    assert_eq!(inbox(&world).await, 0);
}

#[tokio::test]
async fn what_is_not_known_is_kept_and_answered_200() {
    let world = World::open().await;
    let bodies = [
        GOOD,
        r#"{"type":"colour_changed","colour":"red"}"#,
        r#"{"type":"payment_finished","session":{"id":"ps_v1","status":"accepted","payments":[]}}"#,
        r#"{"type":"ready_to_confirm","session":{"id":"ps_2","status":"in_progress","moon":"full"},"x":1}"#,
        r#"{"type":"payment_finished","session":"not an object"}"#,
    ];
    for body in bodies {
        assert_eq!(world.signed_webhook("shop", body).await, 200, "{body}");
    }
    assert_eq!(inbox(&world).await, 5);
    let set_aside = "SELECT count(*) FROM inbox WHERE outcome IN ('other_type', 'unreadable')";
    until("the unknown type set aside", || async { (world.count(set_aside).await == 2).then_some(()) }).await;
    let waiting = "SELECT count(*) FROM inbox WHERE done_at IS NULL AND fence > 0";
    until("unknown sessions waiting", || async { (world.count(waiting).await == 3).then_some(()) }).await;
    // None of it is in anybody's way.
    world.caller().run(&order("tok_success"), "succeeded").await;
}

/// Neither how the JSON is written nor what the request says of its body is anybody's business.
#[tokio::test]
async fn bytes_are_verified_and_kept_as_they_came() {
    let world = World::open().await;
    let odd =
        " {\t\"session\" : null , \"type\":\"\\u0061\",\r\n\"n\":1.00e0, \"n\":100000000000000000000 } ";
    let deep = format!(r#"{{"type":"a","deep":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    for body in [odd, &deep] {
        let signature = keys::rsa("pike.key.pem", body.as_bytes());
        let signed = ("X-PARTNER-SIGN", signature.as_str());
        assert_eq!(world.webhook("/pike/shop", &[signed], body.into()).await, 200, "no content type");
        for odd in ["text/html; charset=utf-16", "multipart/form-data", "?", ""] {
            let headers = [signed, ("content-type", odd)];
            assert_eq!(world.webhook("/pike/shop", &headers, body.into()).await, 200, "{odd}");
        }
    }
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT body FROM inbox ORDER BY id").fetch_all(&world.pool).await.unwrap();
    assert!(kept == [odd.as_bytes(), deep.as_bytes()], "not the bytes that were signed");
}

fn resend(world: &World, hook: &Exchange, path: &str) -> reqwest::RequestBuilder {
    let url = format!("http://{}{path}", world.running().webhook);
    http_client().post(url).header("X-PARTNER-SIGN", &hook.headers["x-partner-sign"]).body(hook.body.clone())
}

#[tokio::test]
async fn replays_of_genuine_webhooks_have_no_effect() {
    let world = World::with(|setup| setup.set("checker.every", "1s")).await;
    let api = world.caller();
    let id = api.create(&order_of("tok_returned", 125_050)).await;
    let before = api.wait(&id, "returned", |payout| payout["status"] == "returned").await;
    let hooks = || async { (world.hooks.seen().len() == 3).then(|| world.hooks.seen()) };
    let hooks = until("three webhooks", hooks).await;
    assert_eq!(inbox(&world).await, 3);
    let replays = hooks.iter().flat_map(|hook| (0..30).map(move |_| hook));
    let answers = join_all(replays.map(|hook| resend(&world, hook, "/pike/shop").send())).await;
    assert_eq!(answers.len(), 90);
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    assert_eq!(inbox(&world).await, 3);
    assert_eq!(api.payout(&id).await, before);
    // The path is not signed: whoever holds the right key gets in there, and finds no such session.
    for hook in &hooks {
        let elsewhere = resend(&world, hook, "/pike/other").send().await.unwrap();
        assert_eq!(elsewhere.status(), 200, "both projects trust the same key here");
    }
    let judged = "SELECT count(*) FROM inbox WHERE project_id = 'other' AND fence > 0 AND done_at IS NULL";
    until("the stray webhooks looked at", || async { (world.count(judged).await == 3).then_some(()) }).await;
    assert_eq!(api.payout(&id).await, before);
    // Nor is it the checker's business, which reads them all.
    let heard = "SELECT count(*) FROM told_sessions WHERE project_id = 'other' AND newest = 'returned'";
    until("the checker to read them", || async { (world.count(heard).await == 1).then_some(()) }).await;
    let fence = world.count("SELECT fence FROM checker").await;
    let over = || async { (world.count("SELECT fence FROM checker").await > fence + 1).then_some(()) };
    until("another turn to be over", over).await;
    assert_eq!(world.count("SELECT count(*) FROM switch_changes").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM findings").await, 0);
}

/// A gateway stands between: it has verified Pike's signature and signs anew, over the same bytes.
#[tokio::test]
async fn a_gateway_that_signs_with_hmac_is_believed() {
    let secret = "0123456789abcdef0123456789abcdef";
    let world = World::with(|setup| {
        setup.project = "webhook_scheme = \"hmac-sha256\"\nwebhook_secret_file = \"keys/webhook.secret\"\n\
                         webhook_signature_header = \"X-Gateway-Signature\"\n"
            .to_owned();
        setup.secrets.push(("webhook.secret", secret.to_owned()));
        // Without webhooks of ours nothing may be found out by asking before the gateway has spoken.
        setup.set("polling.first", "20s");
        setup.set("polling.steady", "20s");
        setup.set("polling.longest", "20s");
    })
    .await;
    let api = world.caller();
    let id = api.create(&order("tok_success")).await;
    for kind in ["ready_to_confirm", "payment_finished"] {
        let arrived = || async {
            let has = |hook: &&Exchange| String::from_utf8_lossy(&hook.body).contains(kind);
            world.hooks.seen().iter().find(has).cloned()
        };
        let hook = until(kind, arrived).await;
        assert!(keys::rsa_verifies(
            "pike.pub.pem",
            &hook.body,
            hook.headers["x-partner-sign"].to_str().unwrap()
        ));
        assert_eq!(hook.status, 401, "Pike's own signature is not the configured scheme");
        let signature = keys::hmac_sha256(secret.as_bytes(), &hook.body);
        let wrong = keys::hmac_sha256(b"another secret of thirty-two byte", &hook.body);
        let body = hook.body.to_vec();
        assert_eq!(world.webhook("/pike/shop", &[("X-Gateway-Signature", &wrong)], body.clone()).await, 401);
        assert_eq!(world.webhook("/pike/shop", &[("X-PARTNER-SIGN", &signature)], body.clone()).await, 401);
        assert_eq!(world.webhook("/pike/shop", &[("X-Gateway-Signature", &signature)], body).await, 200);
    }
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    assert_eq!(world.pike.seen_on("session/status").len(), 0);
}

/// Each project has keys of its own: another's do not open its path.
#[tokio::test]
async fn a_key_opens_its_own_path_only() {
    let world = World::with(|setup| {
        let foreign = payoutd::keys::new_pair().unwrap().public;
        setup.files.push(("foreign.pub.pem", foreign));
        setup.other_pike_key = "foreign.pub.pem";
    })
    .await;
    assert_eq!(world.signed_webhook("shop", GOOD).await, 200);
    assert_eq!(world.signed_webhook("other", GOOD).await, 401);
    assert_eq!(inbox(&world).await, 1);
}

#[tokio::test]
async fn without_postgres_pike_is_told_to_come_back() {
    let options = ClusterOptions { lifetime: Lifetime::Kept, ..cluster_options() };
    let db = Database::on_own_cluster(&options).await;
    let mut world = World::on_database(db).await;
    let held = world.hooks.plan("/pike/shop", Trouble::Hold, 1);
    let api = world.caller();
    let id = api.create(&order("tok_success")).await;
    held.struck().await;
    world.db.stop_cluster().await;
    assert_eq!(world.signed_webhook("shop", GOOD).await, 503);
    assert_eq!(api.create_with_key("k", &order("tok_success")).await.status, 503);
    assert_eq!(world.admin("/readyz").await.0, 503);
    assert_eq!(world.admin("/healthz").await.0, 200, "the process itself is well");
    held.release();
    world.db.start_cluster().await;
    until("readiness", || async { (world.admin("/readyz").await.0 == 200).then_some(()) }).await;
    assert_eq!(world.signed_webhook("shop", GOOD).await, 200);
    let payout = api.wait_status(&id, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    assert_eq!(payout["version"], json!(api.history(&id).await.len()));
    world.stop().await;
    world.db.stop_cluster().await;
    std::fs::remove_dir_all(&options.data_dir).unwrap();
}
