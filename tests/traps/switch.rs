//! Once the switch for confirms has been thrown, no confirm is permitted: not even by a transaction that was
//! under way.

use crate::support::{AMOUNT, Database, is_done, lanes, paid, project, ready, rules, until, webhook};
use futures_util::future::join_all;
use payoutd::{
    domain::effect::EffectKind,
    store::{
        effects,
        pool::now,
        rules::{EVERYWHERE, Switch, set_confirms},
        writer::Writer,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

const CONFIRMS: &str = "SELECT count(*) FROM permits WHERE kind = 'confirm'";
const ON_HOLD: &str = "SELECT count(*) FROM payouts WHERE state = 'on_hold'";
const PAYOUTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_confirmed_after_the_switch_was_thrown() {
    let database = Database::fresh().await;
    let engines = [database.engine(rules(None)).await, database.engine(rules(None)).await];
    let ids = database.processing(&engines[0], "user-1", PAYOUTS).await;
    let claims = database.claim_webhooks(PAYOUTS).await;
    let work: Vec<_> = ids.iter().copied().zip(claims).collect();
    let begun = Arc::new(Notify::new());
    // Each replica applies its half one by one, so that the switch falls in between.
    let appliers: Vec<_> = work
        .chunks(PAYOUTS / 2)
        .zip(&engines)
        .map(|(half, engine)| {
            let (half, engine, begun) = (half.to_vec(), engine.clone(), Arc::clone(&begun));
            tokio::spawn(async move {
                for (id, claim) in half {
                    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
                    begun.notify_one();
                }
            })
        })
        .collect();
    begun.notified().await;
    engines[1].set_confirms(EVERYWHERE, Switch::Off, "key-1", "test").await.unwrap();
    let when_off = database.number(CONFIRMS).await;
    for applier in appliers {
        applier.await.unwrap();
    }
    assert_eq!(database.number(CONFIRMS).await, when_off, "confirmed against the switch");
    let held = database.number(ON_HOLD).await;
    assert!(when_off > 0 && held > 0, "the switch did not fall in between: {when_off} and {held}");

    engines[0].set_confirms(EVERYWHERE, Switch::On, "key-1", "test").await.unwrap();
    let claims = database.claim_webhooks(PAYOUTS).await;
    let again = ids.iter().zip(claims).map(|(&id, claim)| webhook(id, ready(id), claim)).collect();
    assert!(engines[0].apply(again).await.iter().all(is_done));
    assert_eq!(database.number(ON_HOLD).await, 0);
    assert_eq!(database.number(CONFIRMS).await, i64::try_from(PAYOUTS).unwrap());
}

/// Also a project's switch that has never been thrown before, so that there is no row of it to lock.
#[tokio::test]
async fn throwing_the_switch_waits_for_whoever_has_read_it() {
    for scope in [EVERYWHERE.to_owned(), project().0] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        let writer = Writer::new(database.pool.clone());
        let reader = writer.begin_holding_switches().await.unwrap();

        let thrower = engine.clone();
        let name = scope.clone();
        let throwing =
            tokio::spawn(async move { thrower.set_confirms(&name, Switch::Off, "key-1", "test").await });
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("the switch waits, or is thrown", async || {
            throwing.is_finished() || database.number(waits).await > 0
        })
        .await;
        assert!(
            !throwing.is_finished(),
            "{scope}: thrown under the eyes of a transaction that read it as on"
        );
        reader.commit().await.unwrap();
        throwing.await.unwrap().unwrap();

        let id = database.processing(&engine, "user-1", 1).await[0];
        let claim = database.claim_webhooks(1).await[0];
        assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
        assert_eq!(database.state(id).await, "on_hold", "{scope}");
    }
}

/// The other side of the same: whoever comes while the switch is being thrown waits and then sees it thrown.
#[tokio::test]
async fn reading_the_switch_waits_for_whoever_throws_it() {
    for scope in [EVERYWHERE.to_owned(), project().0] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        let id = database.processing(&engine, "user-1", 1).await[0];
        let claim = database.claim_webhooks(1).await[0];
        let mut thrower = database.pool.begin().await.unwrap();
        set_confirms(&mut thrower, &scope, Switch::Off, "key-1", "test").await.unwrap();

        let applying = tokio::spawn(async move { engine.apply(vec![webhook(id, ready(id), claim)]).await });
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("the reader waits, or is done", async || {
            applying.is_finished() || database.number(waits).await > 0
        })
        .await;
        thrower.commit().await.unwrap();
        assert!(is_done(&applying.await.unwrap()[0]));
        assert_eq!(database.state(id).await, "on_hold", "{scope}");
    }
}

/// A permit bears a time at which the switch was on, however long its transaction had waited to read it.
/// Found by the crash harness: a replica that was frozen on its way to the switch had dated it before.
#[tokio::test]
async fn a_permit_is_not_dated_while_the_switch_was_off() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    engine.set_confirms(EVERYWHERE, Switch::Off, "key-1", "test").await.unwrap();
    let mut thrower = database.pool.begin().await.unwrap();
    set_confirms(&mut thrower, EVERYWHERE, Switch::On, "key-1", "test").await.unwrap();
    let applying = tokio::spawn(async move { engine.apply(vec![webhook(id, ready(id), claim)]).await });
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the reader waits", async || database.number(waits).await > 0).await;
    let still_off = now(&mut thrower).await.unwrap();
    thrower.commit().await.unwrap();
    assert!(is_done(&applying.await.unwrap()[0]));
    let decided: time::OffsetDateTime =
        sqlx::query_scalar("SELECT decided_at FROM permits").fetch_one(&database.pool).await.unwrap();
    assert!(decided > still_off, "decided at {decided}, and still off at {still_off}");
}

/// A confirm that was permitted before and has not been sent yet stays where it is.
#[tokio::test]
async fn a_permitted_confirm_is_not_sent_while_the_switch_is_off() {
    for scope in [EVERYWHERE.to_owned(), project().0] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        let ids = database.processing(&engine, "user-1", 1).await;
        let claims = database.claim_webhooks(1).await;
        assert!(is_done(&engine.apply(vec![webhook(ids[0], ready(ids[0]), claims[0])]).await[0]));
        engine.set_confirms(&scope, Switch::Off, "key-1", "test").await.unwrap();
        assert_eq!(claimed(&database).await, 0, "sent although {scope} is off");
        engine.set_confirms(&scope, Switch::On, "key-1", "test").await.unwrap();
        assert_eq!(claimed(&database).await, 1);
    }
}

async fn claimed(database: &Database) -> usize {
    let mut tx = database.pool.begin().await.unwrap();
    let claimed = effects::claim(&mut tx, 10, Duration::from_secs(60), &lanes()).await.unwrap();
    tx.commit().await.unwrap();
    claimed.iter().filter(|effect| effect.kind == EffectKind::Confirm).count()
}

/// Money that nobody permitted stops the project's confirms within the very batch that records it: what is
/// decided after it waits, what was decided before it is not picked up.
#[tokio::test]
async fn an_anomaly_stops_confirms_in_its_own_transaction() {
    for unasked_first in [true, false] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        let ids = database.processing(&engine, "user-1", 2).await;
        let claims = database.claim_webhooks(2).await;
        let unasked = webhook(ids[0], paid(ids[0]), claims[0]);
        let other = webhook(ids[1], ready(ids[1]), claims[1]);
        let batch = if unasked_first { vec![unasked, other] } else { vec![other, unasked] };
        assert!(engine.apply(batch).await.iter().all(is_done));
        let expected = if unasked_first { "on_hold" } else { "confirming" };
        assert_eq!(database.state(ids[1]).await, expected);
        assert!(database.claim_effects(Duration::from_secs(60)).await.is_empty(), "nothing is sent");
        let thrown = "SELECT count(*) FROM switch_changes WHERE changed_by = 'payoutd' AND NOT confirms";
        assert_eq!(database.number(thrown).await, 1);
    }
}

/// Each of them counts what the others add: together they are enough, whoever commits first.
#[tokio::test]
async fn anomalies_that_come_at_the_same_time_are_counted_together() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 3).await;
    let claims = database.claim_webhooks(3).await;
    // Nobody can commit before all have come as far as they can.
    let mut blocker = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE history IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let mut applying = vec![];
    for (id, claim) in ids.into_iter().zip(claims) {
        let mut report = ready(id);
        report.payouts[0].amount_minor = Some(AMOUNT + 1);
        let (engine, event) = (database.engine(rules(None)).await, webhook(id, report, claim));
        applying.push(tokio::spawn(async move { engine.apply(vec![event]).await }));
    }
    let wait = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("all to wait", async || database.number(wait).await == 3).await;
    blocker.rollback().await.unwrap();
    for applied in join_all(applying).await {
        assert!(is_done(&applied.unwrap()[0]));
    }
    let off = "SELECT count(*) FROM switches WHERE scope = 'demo' AND NOT confirms";
    assert_eq!(database.number(off).await, 1, "three are enough");
}
