//! A Postgres that is there and does not do what it should: it takes no writes, or all connections to it are
//! taken. Callers and Pike are told to come back, and nothing is called that could not be written down.

use crate::{
    outcomes::assert_paid,
    support::{rest::order, unique, until},
    world::World,
};
use sqlx::AssertSqlSafe;

const HOOK: &str = r#"{"type":"ready_to_confirm","session":{"id":"ps_unknown","status":"in_progress"}}"#;
/// Everybody but the test.
const OTHERS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'payoutd'";

/// As when its disk is full, or it has become somebody's replica.
async fn takes_writes(world: &World, yes: bool) {
    let word = if yes { "off" } else { "on" };
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&world.pool).await.unwrap();
    let statement = format!("ALTER DATABASE {name} SET default_transaction_read_only = {word}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&world.pool).await.unwrap();
    let cut = format!("SELECT count(pg_terminate_backend(pid)) {OTHERS}");
    let cut: i64 = sqlx::query_scalar(AssertSqlSafe(cut)).fetch_one(&world.pool).await.unwrap();
    assert!(cut > 0, "nobody was connected");
}

#[tokio::test]
async fn without_writes_nothing_is_acknowledged_and_nothing_is_called() {
    let world = World::open().await;
    let api = world.caller();
    // A call that is due again and again.
    world.pike.lead_to(None);
    let waiting = api.create(&order("tok_success")).await;
    let tried = || async { (!world.pike.seen().is_empty()).then_some(()) };
    until("a call", tried).await;
    takes_writes(&world, false).await;
    let refused = || async {
        let answer = api.create_with_key(&unique(), &order("tok_success")).await;
        (answer.status == 503 && answer.headers.contains_key("retry-after")).then_some(())
    };
    until("the first refusal", refused).await;
    world.pike.lead_to(Some(world.sandbox));
    let before = world.pike.seen().len();
    for _ in 0..20 {
        assert_eq!(api.create_with_key(&unique(), &order("tok_success")).await.status, 503);
        assert_eq!(world.signed_webhook("shop", HOOK).await, 503);
    }
    assert_eq!(api.payout(&waiting).await["status"], "accepted", "what is known can be read");
    assert_eq!(world.pike.seen().len(), before, "called, and could not have been written down");

    takes_writes(&world, true).await;
    let payout = api.wait_status(&waiting, "succeeded").await;
    assert_paid(&world.ledger().await, &payout);
    assert_eq!(world.count("SELECT count(*) FROM payouts").await, 1);
}

/// Whoever forgets a transaction keeps dead rows from being cleaned up.
#[tokio::test]
async fn a_forgotten_transaction_and_dead_rows_show() {
    let world = World::open().await;
    world.caller().run(&order("tok_success"), "succeeded").await;
    let mut forgotten = world.pool.begin().await.unwrap();
    sqlx::query("SELECT 1").execute(&mut *forgotten).await.unwrap();
    let figure = |text: &str, name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let shown = || async {
        let (_, text) = world.admin("/metrics").await;
        let oldest = figure(&text, "payoutd_oldest_transaction_seconds ")?;
        let dead = figure(&text, "payoutd_dead_rows{table=\"effects\"} ")?;
        (oldest > 1.0 && dead > 0.0).then_some(())
    };
    until("the figures", shown).await;
    forgotten.rollback().await.unwrap();
}

/// Two connections, and both are in the middle of something that takes long: webhooks of sessions that nobody
/// knows are put off.
#[tokio::test]
async fn while_every_connection_is_taken_webhooks_are_kept() {
    let world = World::with(|setup| setup.set("database.max_connections", "2")).await;
    let api = world.caller();
    api.run(&order("tok_success"), "succeeded").await;
    for statement in [
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE UPDATE ON inbox FOR EACH ROW EXECUTE FUNCTION slow()",
    ] {
        sqlx::raw_sql(statement).execute(&world.pool).await.unwrap();
    }
    for session in ["unknown", "stranger"] {
        assert_eq!(world.signed_webhook("shop", &HOOK.replace("unknown", session)).await, 200);
    }
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'
        AND datname = current_database() AND query_start > now() - interval '1 second'";
    until("both to be taken", || async { (world.count(asleep).await == 2).then_some(()) }).await;
    let other = HOOK.replace("unknown", "other");
    let (kept, ready) = tokio::join!(world.signed_webhook("shop", &other), world.admin("/readyz"));
    assert_eq!((kept, ready.0), (200, 503));
}
