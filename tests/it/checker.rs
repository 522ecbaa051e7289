//! The checker finds a lie by name wherever one is planted, past all code of ours, and nothing where there is
//! none. Lies that the schema forbids are planted with the constraint gone: the check is for the day on which
//! somebody drops it.

use crate::{
    lies::{ABOUT_MONEY, ABOUT_THE_REST, ALARMED_OF_SOMETHING_ELSE, NOT_AT_ALL, TAG, webhook},
    parked::payoutd,
    support::{
        rest::{order, order_of},
        until,
    },
    world::World,
};
use payoutd::{store::checks, worker::checker};
use sqlx::{AssertSqlSafe, PgConnection};
use std::{collections::BTreeSet, time::Duration};

const PATIENCE: Duration = Duration::from_secs(900);

/// Payouts that ended in every way, and some that have not, with payoutd stopped behind them.
async fn world_of_all_kinds() -> World {
    let mut world = World::with(|setup| setup.set("stop_line.anomalies", "1000")).await;
    let api = world.caller();
    let returned = api.create(&order("tok_returned")).await;
    for (token, status) in [
        ("tok_success", "succeeded"),
        ("tok_no_webhooks", "succeeded"),
        ("tok_duplicate", "succeeded"),
        ("tok_confirm_lost", "succeeded"),
        ("tok_start_lost", "succeeded"),
        ("tok_session_error", "succeeded"),
        ("tok_decline", "failed"),
        ("tok_decline_early", "failed"),
        ("tok_start_refused", "failed"),
        ("tok_country_PRK", "cancelled"),
        ("tok_wrong_amount", "cancelled"),
    ] {
        api.run(&order(token), status).await;
    }
    let approved = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&approved, "on_hold").await;
    assert_eq!(world.api("approver").act(&approved, "approve").await.status, 200);
    api.wait_status(&approved, "succeeded").await;
    let rejected = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&rejected, "on_hold").await;
    assert_eq!(world.api("approver").act(&rejected, "reject").await.status, 200);
    api.wait_status(&rejected, "cancelled").await;
    let held = api.create(&order_of("tok_success", 600_000)).await;
    api.wait_status(&held, "on_hold").await;
    let unasked = api.run(&order_of("tok_paid_unasked", 600_000), "succeeded").await;
    assert!(unasked["provider"]["session_id"].is_string());
    let open = api.create(&order("tok_session_error_open")).await;
    api.wait(&open, "in error or held", |payout| {
        payout["status"] == "unknown" || payout["status"] == "on_hold"
    })
    .await;
    api.wait_status(&returned, "returned").await;
    let quiet = "SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL)
        + (SELECT count(*) FROM notifications WHERE due_at IS NOT NULL)
        + (SELECT count(*) FROM effects WHERE kind <> 'read_status')";
    until("quiet", || async { (world.count(quiet).await == 0).then_some(()) }).await;
    world.pike.lead_to(None);
    api.create(&order("tok_success")).await;
    world.stop().await;
    world
}

async fn run(tx: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(tx)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The payout to lie about.
async fn pick(tx: &mut PgConnection, of: &str) {
    let one = "CREATE TEMP TABLE one ON COMMIT DROP AS SELECT p.id FROM payouts p WHERE";
    run(tx, &format!("{one} {of} ORDER BY p.id LIMIT 1")).await;
}

async fn found(tx: &mut PgConnection) -> BTreeSet<String> {
    let found = checker::everything_within(tx, PATIENCE).await.unwrap();
    found.iter().map(|finding| payoutd::store::encoding::Code::code(&finding.check).to_owned()).collect()
}

/// Payouts at rest, however much may still be on its way; and that none of them is found once nothing is any
/// more: the next turns do not look at them again.
async fn at_rest(tx: &mut PgConnection, about: &str) -> usize {
    let ids = checks::next(tx, None, 1000).await.unwrap();
    let early = checks::of_payouts(tx, &ids, 10 * 365 * 24 * 4 * PATIENCE).await.unwrap();
    let late = checks::of_payouts(tx, &ids, Duration::ZERO).await.unwrap();
    let at_rest: BTreeSet<_> = early
        .looked_at
        .iter()
        .filter(|looked_at| looked_at.at_rest)
        .map(|looked_at| looked_at.payout)
        .collect();
    let missed: Vec<_> =
        late.findings.iter().filter(|it| it.payout.is_some_and(|id| at_rest.contains(&id))).collect();
    assert!(missed.is_empty(), "found at rest: {missed:#?}\n{about}");
    at_rest.len()
}

#[tokio::test]
async fn every_lie_is_found_by_its_name_and_nothing_where_there_is_none() {
    let world = world_of_all_kinds().await;
    // What the webhooks told stays, for choosing payouts by.
    let mut tx = world.pool.begin().await.unwrap();
    let calm = checker::everything_within(&mut tx, PATIENCE).await.unwrap();
    assert!(calm.is_empty(), "{calm:#?}");
    assert!(at_rest(&mut tx, "no lie").await >= 12, "most have ended");
    // Whoever is named twice has not been paid twice.
    let ids = checks::next(&mut tx, None, 1000).await.unwrap();
    let twice = checks::of_payouts(&mut tx, &[&ids[..], &ids].concat(), PATIENCE).await.unwrap();
    assert!(twice.findings.is_empty(), "{:#?}", twice.findings);
    assert_eq!(twice.looked_at.len(), ids.len());
    tx.commit().await.unwrap();
    let states: Vec<String> = sqlx::query_scalar("SELECT DISTINCT state FROM payouts ORDER BY 1")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert!(states.len() >= 6, "too few kinds of payouts to show anything: {states:?}");
    assert!(world.count("SELECT count(*) FROM told_sessions").await >= 12);
    assert!(world.count("SELECT count(DISTINCT newest) FROM told_sessions").await >= 4);

    let (mut named, mut wrong) = (BTreeSet::new(), vec![]);
    let lies = [ABOUT_MONEY, ABOUT_THE_REST, ALARMED_OF_SOMETHING_ELSE, NOT_AT_ALL];
    for lie in lies.into_iter().flatten() {
        let mut tx = world.pool.begin().await.unwrap();
        pick(&mut tx, lie.of).await;
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM one").fetch_one(&mut *tx).await.unwrap();
        assert_eq!(there, 1, "no payout to lie about: {}", lie.of);
        let sql = lie.sql();
        run(&mut tx, &sql).await;
        let names: BTreeSet<String> = lie.names.iter().map(|name| (*name).to_owned()).collect();
        let found = found(&mut tx).await;
        if found != names {
            wrong.push(format!("{found:?} instead of {names:?}: {}\n{sql}", lie.of));
        }
        named.extend(names);
        at_rest(&mut tx, &sql).await;
        tx.rollback().await.unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    use payoutd::domain::checking::Check;
    let all = Check::ALL.len() - Check::OF_REPORTS.len();
    assert_eq!(named.len(), all, "a check without a lie shows nothing: {named:?}");
}

async fn plant(world: &World, of: &str, sql: &str) {
    let mut tx = world.pool.begin().await.unwrap();
    pick(&mut tx, of).await;
    run(&mut tx, sql).await;
    tx.commit().await.unwrap();
}

/// The hole after a restore: Pike has paid a session of a payout that we believe has none.
#[tokio::test]
async fn it_stops_the_line_counts_and_forgets() {
    let world = World::with(|setup| {
        setup.set("checker.every", "1s");
        setup.set("stop_line.anomalies", "1000");
    })
    .await;
    let api = world.caller();
    api.run(&order("tok_success"), "succeeded").await;
    let ran = "SELECT count(*) FROM checker WHERE fence > 1 AND finished_at IS NOT NULL";
    until("two turns", || async { (world.count(ran).await == 1).then_some(()) }).await;
    assert_eq!(world.count("SELECT count(*) FROM findings").await, 0, "a healthy one");

    plant(&world, PAID_NOW, &webhook("'ps_second'", "accepted", "succeeded", "p.amount_minor", TAG)).await;
    let off = "SELECT count(*) FROM switch_changes WHERE NOT confirms AND scope = 'shop'
        AND changed_by = 'payoutd' AND reason LIKE 'payout_%: found paid_twice'";
    until("the line to stop", || async { (world.count(off).await == 1).then_some(()) }).await;
    let shown = |text: &'static str| {
        let world = &world;
        async move { world.admin("/metrics").await.1.contains(text).then_some(()) }
    };
    until("the figure", || shown("payoutd_checker_findings{check=\"paid_twice\"} 1\n")).await;
    until("the time", || shown("payoutd_checker_last_run_timestamp_seconds ")).await;
    until("the stop", || shown("payoutd_line_stopped_total{project=\"shop\",anomaly=\"paid_twice\"} 1\n"))
        .await;

    // Whoever switches on again has seen it: it is no new finding.
    let on = serde_json::json!({ "confirms": "on", "reason": "seen" });
    assert_eq!(world.api("operator").put("/v1/confirms", &on).await.status, 200);
    let (before, fence) = (world.count("SELECT fence FROM checker").await, "SELECT fence FROM checker");
    until("more turns", || async { (world.count(fence).await > before + 2).then_some(()) }).await;
    assert_eq!(world.count(off).await, 1);
    api.run(&order("tok_success"), "succeeded").await;

    // What is right again is forgotten, without anybody touching the payout.
    sqlx::query(
        "DELETE FROM inbox WHERE done_at IS NOT NULL AND body_hash = sha256(body) AND outcome = 'applied'
        AND convert_from(body, 'UTF8') LIKE '%ps_second%'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    sqlx::query("DELETE FROM told_sessions WHERE session_id = 'ps_second'")
        .execute(&world.pool)
        .await
        .unwrap();
    let open = "SELECT count(*) FROM findings WHERE gone_at IS NULL";
    until("the end of it", || async { (world.count(open).await == 0).then_some(()) }).await;
}

const PAID_NOW: &str = "p.state = 'succeeded'";

/// A lie about a payout that, by its own word, has not changed for long.
const OLD_LIE: &str = "ALTER TABLE history DISABLE TRIGGER USER;
    UPDATE history SET at = at - interval '1 hour' WHERE payout_id = (SELECT id FROM one);
    ALTER TABLE history ENABLE TRIGGER USER;
    UPDATE permits SET amount_minor = 1 WHERE payout_id = (SELECT id FROM one)";

const TOUCHED: &str =
    "INSERT INTO history (payout_id, seq, at, event, decision, reason, from_state, to_state)
     SELECT id, version + 1, now(), 'due', 'absorb', 'nothing_new', state, state FROM payouts
     WHERE id = (SELECT id FROM one);
     UPDATE payouts SET version = version + 1 WHERE id = (SELECT id FROM one)";

#[tokio::test]
async fn what_has_changed_is_looked_at_and_the_rest_in_turn() {
    for (sweep, touched) in [("0", true), ("2000", false)] {
        let world = World::with(|setup| {
            setup.set("checker.every", "1s");
            setup.set("checker.sweep", sweep);
        })
        .await;
        world.caller().run(&order("tok_success"), "succeeded").await;
        let aged = "UPDATE inbox SET received_at = received_at - interval '1 hour'";
        sqlx::query(aged).execute(&world.pool).await.unwrap();
        let heard = "SELECT count(*) FROM checker WHERE inbox_after = (SELECT max(id) FROM inbox)
            AND lease_until IS NULL";
        until("the webhooks to be read", || async { (world.count(heard).await == 1).then_some(()) }).await;
        plant(&world, PAID_NOW, OLD_LIE).await;
        let kept = "SELECT count(*) FROM findings WHERE check_name = 'recipient_total'";
        if touched {
            let fence = "SELECT fence FROM checker";
            let before = world.count(fence).await;
            until("more turns", || async { (world.count(fence).await > before + 2).then_some(()) }).await;
            assert_eq!(world.count(kept).await, 0, "nobody looks back");
            plant(&world, PAID_NOW, TOUCHED).await;
        }
        until("the finding", || async { (world.count(kept).await == 1).then_some(()) }).await;
    }
}

#[tokio::test]
async fn the_command_prints_what_it_finds_until_it_is_accepted() {
    let mut world = World::with(|setup| setup.set("checker.every", "1s")).await;
    world.caller().run(&order("tok_success"), "succeeded").await;
    let calm = payoutd(&world, &["check"]).await;
    assert!(calm.status.success() && calm.stdout.is_empty(), "{calm:?}");
    plant(
        &world,
        PAID_NOW,
        "UPDATE permits SET amount_minor = 1 WHERE payout_id = (SELECT id FROM one);
         DELETE FROM decisions WHERE payout_id = (SELECT id FROM one)",
    )
    .await;
    let kept = "SELECT count(*) FROM findings WHERE gone_at IS NULL";
    until("both to be kept", || async { (world.count(kept).await == 2).then_some(()) }).await;
    world.stop().await;
    let found = payoutd(&world, &["check"]).await;
    let lines = String::from_utf8(found.stdout).unwrap();
    assert_eq!((found.status.code(), lines.lines().count()), (Some(3), 2), "{lines}");
    let subject = lines.split('\t').nth(1).unwrap().to_owned();
    for name in ["permit_undecided", "recipient_total"] {
        assert!(lines.contains(&format!("{name}\t{subject}\tshop\t{subject}\t")), "{lines}");
    }
    let accept = ["findings", "accept", "recipient_total", &subject, "--reason", "as it was"];
    assert!(payoutd(&world, &accept).await.status.success());
    let rest = String::from_utf8(payoutd(&world, &["check"]).await.stdout).unwrap();
    assert!(rest.starts_with("permit_undecided") && rest.lines().count() == 1, "{rest}");
    let unknown = ["findings", "accept", "recipient_total", "payout_x", "--reason", "as it was"];
    assert!(!payoutd(&world, &unknown).await.status.success());
}
