//! Whoever lost a claim writes nothing; whoever holds it writes once.

use crate::support::{
    Database, due, is_done, is_superseded, lanes, not_paid, order, paid, read, ready, rules, webhook,
};
use payoutd::{
    domain::{effect::EffectKind, id::PayoutId},
    engine::Engine,
    store::{
        effects::{self, Claimed, Lane},
        payouts,
    },
};
use std::time::Duration;

/// A payout whose status is being read under a claim that has run out already.
async fn being_read(database: &Database, engine: &Engine) -> (PayoutId, Claimed) {
    let id = database.processing(engine, "user-1", 1).await[0];
    let seen = next_check(database, id).await;
    assert!(is_done(&engine.apply(vec![due(id, seen)]).await[0]));
    let claimed = database.claim_effects(Duration::ZERO).await;
    let [read] = &claimed[..] else { panic!("one read was wanted") };
    assert_eq!((read.kind, read.interrupted), (EffectKind::ReadStatus, false));
    (id, read.clone())
}

async fn next_check(database: &Database, id: PayoutId) -> time::OffsetDateTime {
    let mut db = database.pool.acquire().await.unwrap();
    payouts::read(&mut db, &[id]).await.unwrap()[0].next_check_at.unwrap()
}

#[tokio::test]
async fn a_lost_effect_claim_writes_nothing() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, old) = being_read(&database, &engine).await;
    let taken = database.claim_effects(Duration::from_secs(600)).await.remove(0);
    assert!(taken.interrupted && taken.claim.id == old.claim.id && taken.claim.fence > old.claim.fence);

    let before = (database.story(id).await, next_check(&database, id).await);
    let late = engine.apply(vec![read(&old, paid(id))]).await;
    assert!(is_superseded(&late[0]), "{late:?}");
    assert_eq!((database.story(id).await, next_check(&database, id).await), before);
    assert_eq!(database.number("SELECT count(*) FROM effects").await, 1, "the claim that holds is untouched");

    let good = engine.apply(vec![read(&taken, ready(id))]).await;
    assert!(is_done(&good[0]), "{good:?}");
    assert_eq!(database.state(id).await, "confirming");
}

#[tokio::test]
async fn a_lost_claim_does_not_hide_behind_the_one_that_holds() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, old) = being_read(&database, &engine).await;
    let taken = database.claim_effects(Duration::from_secs(600)).await.remove(0);
    let both = engine.apply(vec![read(&old, not_paid(id)), read(&taken, ready(id))]).await;
    assert!(is_superseded(&both[0]) && is_done(&both[1]), "{both:?}");
    assert_eq!(database.state(id).await, "confirming");
}

#[tokio::test]
async fn a_webhook_under_one_claim_has_one_effect() {
    let database = Database::fresh().await;
    let engines = [database.engine(rules(None)).await, database.engine(rules(None)).await];
    let id = database.processing(&engines[0], "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    let before = database.story(id).await.len();

    let twins = engines[0].apply(vec![webhook(id, ready(id), claim), webhook(id, ready(id), claim)]).await;
    assert!(is_done(&twins[0]) && is_superseded(&twins[1]), "{twins:?}");
    let again = engines[1].apply(vec![webhook(id, ready(id), claim)]).await;
    assert!(is_superseded(&again[0]), "{again:?}");
    assert_eq!(database.story(id).await.len(), before + 1);
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'confirm'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_looks_at_a_due_payout() {
    let database = Database::fresh().await;
    let engines = [database.engine(rules(None)).await, database.engine(rules(None)).await];
    for id in database.processing(&engines[0], "user-1", 10).await {
        let seen = next_check(&database, id).await;
        let (one, other) = tokio::join!(
            engines[0].apply(vec![due(id, seen)]),
            engines[1].apply(vec![due(id, seen), due(id, seen)])
        );
        let all: Vec<_> = one.iter().chain(&other).collect();
        assert_eq!(all.iter().filter(|applied| is_done(applied)).count(), 1, "{all:?}");
        assert_eq!(all.iter().filter(|applied| is_superseded(applied)).count(), 2, "{all:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'read_status'").await, 10);
}

#[tokio::test]
async fn two_who_claim_at_once_share_the_work() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    for _ in 0..10 {
        engine.create(order("user-1")).await.unwrap();
    }
    // Somebody is just about to claim half of it. Whoever waited for him would get a lock time-out.
    let mut other = database.pool.begin().await.unwrap();
    let taken = "SELECT id FROM effects ORDER BY id LIMIT 5 FOR UPDATE";
    let taken: Vec<i64> = sqlx::query_scalar(taken).fetch_all(&mut *other).await.unwrap();
    let lease = Duration::from_secs(600);
    let first = database.claim_effects(lease).await;
    assert_eq!(first.len(), 5);
    assert!(first.iter().all(|effect| !taken.contains(&effect.claim.id)));
    other.rollback().await.unwrap();
    let (one, two) = tokio::join!(database.claim_effects(lease), database.claim_effects(lease));
    let mut rest: Vec<i64> = one.iter().chain(&two).map(|effect| effect.claim.id).collect();
    rest.sort_unstable();
    assert_eq!(rest, taken, "each once");
}

#[tokio::test]
async fn an_answer_for_a_voided_effect_writes_nothing() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, old) = being_read(&database, &engine).await;
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(id, not_paid(id), claim)]).await[0]));
    let before = database.story(id).await;
    assert!(is_superseded(&engine.apply(vec![read(&old, paid(id))]).await[0]));
    assert_eq!(database.story(id).await, before);
}

#[tokio::test]
async fn reads_wait_for_calls_that_move_something_on() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let seen = next_check(&database, id).await;
    assert!(is_done(&engine.apply(vec![due(id, seen)]).await[0]));
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
    let mut tx = database.pool.begin().await.unwrap();
    let first = effects::claim(&mut tx, 1, Duration::from_secs(60), &lanes()).await.unwrap();
    let second = effects::claim(&mut tx, 1, Duration::from_secs(60), &lanes()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((first[0].kind, second[0].kind), (EffectKind::Confirm, EffectKind::ReadStatus));
}

/// Behind a backlog some of what is claimed is the newest, and most of it where calls that take a payout
/// further wait as well; before there is one, the oldest goes first.
#[tokio::test]
async fn a_backlog_keeps_nobody_waiting_who_comes_behind_it() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    for _ in 0..20 {
        engine.create(order("user-1")).await.unwrap();
    }
    let mut all: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM effects ORDER BY run_at").fetch_all(&database.pool).await.unwrap();
    let claim = async |seconds: f64, most: usize, narrow: bool, round: u32| {
        let waiting = "UPDATE effects SET fence = 0, lease_until = NULL, run_at = now()
            - make_interval(secs => $1) + make_interval(secs => (id - (SELECT max(id) FROM effects)) / 1e3)";
        sqlx::query(waiting).bind(seconds).execute(&database.pool).await.unwrap();
        let mut tx = database.pool.begin().await.unwrap();
        let lanes = lanes().map(|lane| Lane { most, narrow, round, ..lane });
        let claimed = effects::claim(&mut tx, 1_000, Duration::from_secs(60), &lanes).await.unwrap();
        tx.commit().await.unwrap();
        let mut ids: Vec<i64> = claimed.iter().map(|effect| effect.claim.id).collect();
        ids.sort_unstable();
        ids
    };
    all.sort_unstable();
    for (narrow, of_four) in [(true, 3), (false, 1)] {
        assert_eq!(claim(1.0, 6, narrow, 3).await, all[..6], "nobody has waited for long");
        let expected = [&all[..8 - 2 * of_four], &all[20 - 2 * of_four..]].concat();
        assert_eq!(claim(6.0, 8, narrow, 0).await, expected, "narrow: {narrow}");
        let mut newest = 0;
        for round in 0..4 {
            let one = claim(6.0, 1, narrow, round).await;
            assert!(one == all[..1] || one == all[19..], "the oldest or the newest");
            newest += usize::from(one == all[19..]);
        }
        assert_eq!(newest, of_four, "also where there is one call at a time");
        assert_eq!(claim(6.0, 50, narrow, 0).await, all, "each once");
    }
}
