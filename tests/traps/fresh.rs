//! Webhooks that are kept together with what they show: both or neither, each once, and never at the price of
//! an acknowledgement.

use crate::support::{Database, due, paid, project, ready, rules, until, webhook};
use payoutd::{
    domain::{
        event::{Event, Observation},
        id::PayoutId,
        session::SessionReport,
    },
    engine::Engine,
    store::{
        inbox::{self, Incoming},
        rules::Switch,
    },
};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// With an engine whose writers have their connections: what is written before is not good for those that
/// come later.
async fn stage() -> (Database, Engine) {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    (database, engine)
}

async fn warm(database: &Database) -> Engine {
    let engine = database.engine(rules(None)).await;
    for writer in 0..2 {
        let nobody = PayoutId(Uuid::from_u128(writer));
        engine.submit(due(nobody, time::OffsetDateTime::UNIX_EPOCH)).await.unwrap();
    }
    engine
}

const TRIED_BEFORE: &str = "UPDATE payouts SET attempt = 2 WHERE id = $1";

fn incoming(text: &str, id: PayoutId) -> Arc<Incoming> {
    let body = text.as_bytes().to_vec();
    let body_hash = Sha256::digest(&body).into();
    Arc::new(Incoming { project: project(), body, body_hash, about: Some(id) })
}

async fn keep(engine: &Engine, text: &str, id: PayoutId, report: SessionReport) -> Option<bool> {
    let event = Event::Observed(Observation::Reported(report));
    engine.keep(incoming(text, id), id, event).await
}

/// How many webhooks are kept, and how many of them are worked off.
async fn kept(database: &Database) -> (i64, i64) {
    let done = "SELECT count(*) FROM inbox WHERE done_at IS NOT NULL AND outcome = 'applied'";
    (database.number("SELECT count(*) FROM inbox").await, database.number(done).await)
}

/// As the release before kept them.
const KEPT_BEFORE: &str = "INSERT INTO inbox (project_id, body_hash, body, done_at, outcome)
    SELECT project_id, sha256('ready'), 'ready', now(), 'applied' FROM payouts WHERE id = $1";

#[tokio::test]
async fn what_was_kept_by_its_hash_alone_is_not_kept_again() {
    let (database, engine) = stage().await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    database.run(KEPT_BEFORE, id).await.unwrap();
    let before = database.story(id).await;
    assert_eq!(keep(&engine, "ready", id, ready(id)).await, None);
    assert_eq!(kept(&database).await, (1, 1));
    assert_eq!(database.story(id).await, before);
}

#[tokio::test]
async fn both_are_there_or_neither_and_once() {
    let (database, engine) = stage().await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    assert_eq!(keep(&engine, "ready", id, ready(id)).await, Some(true));
    assert_eq!(database.state(id).await, "confirming");
    assert_eq!(kept(&database).await, (1, 1));
    let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM inbox").fetch_one(&database.pool).await.unwrap();
    assert_eq!(body, b"ready");
    // The same bytes again, while the payout is known: nothing is written, whoever keeps it finds it there.
    let before = database.story(id).await;
    assert_eq!(keep(&engine, "ready", id, ready(id)).await, None);
    assert_eq!(kept(&database).await, (1, 1));
    assert_eq!(database.story(id).await, before);
    // Remembered by nobody any more: read.
    assert_eq!(keep(&engine, "paid", id, paid(id)).await, Some(true));
    assert_eq!(kept(&database).await, (2, 2));
    assert_eq!(database.state(id).await, "succeeded");
    // Written by somebody else since: read again.
    let touched = database.processing(&engine, "user-2", 1).await[0];
    let touch = "UPDATE payouts SET recipient_name = recipient_name WHERE id = $1";
    database.run(touch, touched).await.unwrap();
    assert_eq!(keep(&engine, "touched", touched, ready(touched)).await, Some(true));
    assert_eq!(kept(&database).await, (3, 3));
}

#[tokio::test]
async fn twins_that_come_together_count_once() {
    let (database, engine) = stage().await;
    let ids = database.processing(&engine, "user-1", 20).await;
    for id in ids {
        let text = id.to_string();
        let sending: Vec<_> = (0..3).map(|_| keep(&engine, &text, id, ready(id))).collect();
        let told = futures_util::future::join_all(sending).await;
        assert_eq!(told.iter().filter(|told| **told == Some(true)).count(), 1, "{told:?}");
        assert_eq!(database.state(id).await, "confirming");
        let reasons = database.story(id).await.len();
        assert_eq!(reasons, 4, "created, its session, started, ready: {:?}", database.story(id).await);
    }
    assert_eq!(kept(&database).await, (20, 20));
}

#[tokio::test]
async fn what_somebody_has_to_look_at_is_kept_first() {
    let (database, engine) = stage().await;
    let ids = database.processing(&engine, "user-1", 3).await;
    // Tried before, which has to be read as well.
    database.run(TRIED_BEFORE, ids[0]).await.unwrap();
    assert_eq!(keep(&engine, "tried before", ids[0], ready(ids[0])).await, None);
    // The switch has been thrown since.
    let other = warm(&database).await;
    other.set_confirms("demo", Switch::Off, "tester", "a test").await.unwrap();
    assert_eq!(keep(&engine, "switched", ids[1], ready(ids[1])).await, None);
    other.set_confirms("demo", Switch::On, "tester", "a test").await.unwrap();
    // Rules that count.
    let capped = database.engine(rules(Some(1_000_000))).await;
    let counted = database.processing(&capped, "user-2", 1).await[0];
    assert_eq!(keep(&capped, "a cap", counted, ready(counted)).await, None);
    // A status that stops the line: too much for one statement.
    let mut strange = ready(ids[2]);
    strange.payouts[0].amount_minor = Some(1);
    assert_eq!(keep(&engine, "strange", ids[2], strange).await, None);
    assert_eq!(kept(&database).await, (0, 0));
    for id in ids.into_iter().chain([counted]) {
        assert_eq!(database.state(id).await, "processing");
    }
}

/// Good ones and such that cannot be, in one batch; some of the good ones are of another process.
#[tokio::test]
async fn one_that_has_to_be_looked_at_takes_no_other_with_it() {
    let (database, engine) = stage().await;
    let other = warm(&database).await;
    let tried = database.processing(&engine, "user-1", 8).await;
    for id in &tried {
        database.run(TRIED_BEFORE, *id).await.unwrap();
    }
    let others = database.processing(&other, "user-1", 8).await;
    let known = database.processing(&engine, "user-1", 8).await;
    let all: Vec<PayoutId> =
        tried.iter().zip(&others).zip(&known).flat_map(|((one, two), three)| [*one, *two, *three]).collect();
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let sending = all.iter().zip(&texts).map(|(id, text)| keep(&engine, text, *id, ready(*id)));
    let told = futures_util::future::join_all(sending).await;
    for (id, told) in all.iter().zip(told) {
        let (state, new) = if tried.contains(id) { ("processing", None) } else { ("confirming", Some(true)) };
        assert_eq!((database.state(*id).await.as_str(), told), (state, new));
    }
    assert_eq!(kept(&database).await, (16, 16));
}

/// Somebody holds the payout's row: Pike is not kept waiting, and nothing is written behind its back.
#[tokio::test]
async fn a_row_that_is_held_keeps_no_webhook_from_its_answer() {
    let (database, engine) = stage().await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let mut other = database.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM payouts WHERE id = $1 FOR UPDATE")
        .bind(id.0)
        .execute(&mut *other)
        .await
        .unwrap();
    assert_eq!(keep(&engine, "ready", id, ready(id)).await, None);
    // It is kept by itself meanwhile.
    let mut tx = database.pool.begin().await.unwrap();
    let one = [Incoming::clone(&incoming("ready", id))];
    let claims = inbox::insert(&mut tx, &one, Some(Duration::from_secs(600))).await.unwrap();
    tx.commit().await.unwrap();
    let claim = claims[0].expect("nobody else has kept it");
    other.rollback().await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND query LIKE 'WITH %'
            AND pid <> pg_backend_pid()";
    until("the other has given up", async || database.number(waits).await == 0).await;
    assert_eq!(kept(&database).await, (1, 0));
    assert_eq!(database.state(id).await, "processing");
    let applied = engine.submit(webhook(id, ready(id), claim)).await;
    assert!(crate::support::is_done(&applied));
    assert_eq!(kept(&database).await, (1, 1));
    assert_eq!(database.story(id).await.len(), 4);
}

/// Another process keeps the same webhook at the same moment.
#[tokio::test]
async fn one_that_is_kept_elsewhere_meanwhile_is_not_applied_twice() {
    let (database, engine) = stage().await;
    for commits in [true, false] {
        let id = database.processing(&engine, "user-1", 1).await[0];
        let text = id.to_string();
        let mut other = database.pool.begin().await.unwrap();
        let one = [Incoming::clone(&incoming(&text, id))];
        assert!(inbox::insert(&mut other, &one, None).await.unwrap()[0].is_some());
        let keeping = tokio::spawn({
            let (engine, text) = (engine.clone(), text.clone());
            async move { keep(&engine, &text, id, ready(id)).await }
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'WITH %'";
        until("it waits for the other", async || database.number(waits).await == 1).await;
        if commits {
            other.commit().await.unwrap();
            assert_eq!(keeping.await.unwrap(), None);
            assert_eq!(database.state(id).await, "processing");
        } else {
            other.rollback().await.unwrap();
            assert_eq!(keeping.await.unwrap(), Some(true));
            assert_eq!(database.state(id).await, "confirming");
        }
    }
    assert_eq!(kept(&database).await, (2, 1));
}
