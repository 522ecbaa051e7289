//! What is decided upon what this process wrote last, or has read: written as if somebody had locked it and
//! looked, and not at all if it is not as it was.

use crate::support::{
    Database, due, is_done, is_superseded, order, paid, ready, report, rules, until, webhook,
};
use payoutd::{
    domain::{
        event::{Event, Observation, Outcome},
        id::PayoutId,
        session::{SessionReport, SessionStatus},
    },
    engine::{Applied, Cause, Created, Engine, Envelope},
    store::{effects::Claimed, inbox::InboxClaim, payouts::NewPayout, rules::Switch},
};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(600);

/// Keeps the beginning of each statement that writes history.
async fn watch(database: &Database) {
    for sql in [
        "CREATE TABLE texts (id bigint GENERATED ALWAYS AS IDENTITY, text text)",
        "CREATE FUNCTION keep_text() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO texts (text) SELECT current_query() FROM told LIMIT 1; RETURN NULL; END $$",
        "CREATE TRIGGER keep_text AFTER INSERT ON history REFERENCING NEW TABLE AS told
            FOR EACH STATEMENT EXECUTE FUNCTION keep_text()",
    ] {
        sqlx::query(sql).execute(&database.pool).await.unwrap();
    }
}

/// For each of these statements since last asked, whether it was decided without locking.
async fn at_once(database: &Database) -> Vec<bool> {
    let texts = "WITH seen AS (DELETE FROM texts RETURNING id, text)
        SELECT text LIKE '%steps_stale()%' FROM seen ORDER BY id";
    sqlx::query_scalar(texts).fetch_all(&database.pool).await.unwrap()
}

/// An engine whose connections are there: what it writes before is not good for those that come later.
async fn warm(database: &Database) -> Engine {
    let engine = database.engine(rules(None)).await;
    let id = create(&engine).await;
    database.starting(&engine, id).await;
    call(database, id).await;
    engine
}

async fn create(engine: &Engine) -> PayoutId {
    let Created::New(stored) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    stored.payout.id
}

fn answered(effect: &Claimed, report: SessionReport) -> Envelope {
    let event = Observation::Answered { call: effect.kind, outcome: Outcome::Accepted(report) };
    Envelope { payout: effect.payout, event: Event::Observed(event), cause: Cause::Effect(effect.claim) }
}

/// The one call that this payout waits for.
async fn call(database: &Database, id: PayoutId) -> Claimed {
    let claimed = database.claim_effects(LEASE).await;
    claimed.into_iter().find(|effect| effect.payout == id).unwrap()
}

/// All that is known of a payout but for who it is and when it was.
async fn all_of(database: &Database, id: PayoutId) -> String {
    let sql = "SELECT jsonb_build_object(
            'payout', to_jsonb(p) - ARRAY['id', 'idempotency_key', 'created_at', 'since', 'updated_at',
                'next_check_at', 'session_id', 'permit_hash', 'xmin'],
            'planned', round(extract(epoch FROM p.next_check_at - p.updated_at)),
            'changed', p.since = p.updated_at,
            'history', (SELECT jsonb_agg(to_jsonb(h) - ARRAY['payout_id', 'at'] ORDER BY h.seq)
                FROM history h WHERE h.payout_id = p.id),
            'told', (SELECT count(*) FROM history h WHERE h.payout_id = p.id AND h.at = p.updated_at),
            'effects', (SELECT jsonb_agg(e.kind || e.fence ORDER BY e.kind)
                FROM effects e WHERE e.payout_id = p.id),
            'permits', (SELECT jsonb_agg(m.kind || m.rule_set) FROM permits m
                WHERE m.payout_id = p.id AND m.bound_to IS NOT DISTINCT FROM p.permit_hash),
            'decisions', (SELECT jsonb_agg(d.outcome || d.seq) FROM decisions d WHERE d.payout_id = p.id),
            'messages', (SELECT count(*) FROM notifications n WHERE n.payout_id = p.id))
        FROM payouts p WHERE p.id = $1";
    let all: serde_json::Value = sqlx::query_scalar(sql).bind(id.0).fetch_one(&database.pool).await.unwrap();
    all.to_string().replace(&id.0.simple().to_string(), "its")
}

/// One process that remembers; processes that have each just begun, and read; and such as have to look, as
/// another event of the same batch has lost its claim.
#[tokio::test]
async fn a_life_is_written_as_if_somebody_had_looked() {
    let database = Database::fresh().await;
    watch(&database).await;
    let mut lives = vec![];
    for how in ["remembers", "reads", "looks"] {
        let mut engine = warm(&database).await;
        let decoy = database.processing(&engine, "user-2", 1).await[0];
        let claim = database.claim_webhooks(1).await[0];
        let lost = || webhook(decoy, ready(decoy), InboxClaim { fence: claim.fence - 1, ..claim });
        let id = create(&engine).await;
        let mut life = vec![all_of(&database, id).await];
        at_once(&database).await;
        for step in 0..5 {
            let envelope = match step {
                0 => answered(&call(&database, id).await, report(id, SessionStatus::Created, None)),
                1 => answered(&call(&database, id).await, report(id, SessionStatus::InProgress, None)),
                2 => webhook(id, ready(id), database.claim_webhooks(1).await[0]),
                3 => answered(&call(&database, id).await, report(id, SessionStatus::InProgress, None)),
                _ => webhook(id, paid(id), database.claim_webhooks(1).await[0]),
            };
            let mut batch = vec![envelope];
            if how != "remembers" {
                engine = database.engine(rules(None)).await;
                // The switches and the time are known to whoever has looked at anything.
                engine.apply(vec![due(decoy, time::OffsetDateTime::UNIX_EPOCH)]).await;
            }
            if how == "looks" {
                batch.push(lost());
            }
            assert!(is_done(&engine.apply(batch).await[0]));
            assert_eq!(at_once(&database).await, [how != "looks"], "step {step}");
            life.push(all_of(&database, id).await);
        }
        assert_eq!(database.state(id).await, "succeeded");
        assert_eq!(database.state(decoy).await, "processing");
        lives.push(life);
    }
    for life in &lives[..2] {
        for (step, (at_once, looked)) in life.iter().zip(&lives[2]).enumerate() {
            assert_eq!(at_once, looked, "after step {step}");
        }
    }
}

/// A batch of many takes parts of the statement that have no rows.
#[tokio::test]
async fn many_lives_together_are_written_as_one_alone() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    watch(&database).await;
    let mut alone = vec![];
    for many in [1, 40] {
        let mut ids = vec![];
        for _ in 0..many {
            ids.push(create(&engine).await);
        }
        for step in 0..5 {
            let (calls, webhooks) = match step {
                2 | 4 => (vec![], database.claim_webhooks(many).await),
                _ => (database.claim_effects(LEASE).await, vec![]),
            };
            let event = |(at, &id): (usize, &PayoutId)| {
                let call = calls.iter().find(|call| call.payout == id);
                match step {
                    0 => answered(call.unwrap(), report(id, SessionStatus::Created, None)),
                    2 => webhook(id, ready(id), webhooks[at]),
                    4 => webhook(id, paid(id), webhooks[at]),
                    _ => answered(call.unwrap(), report(id, SessionStatus::InProgress, None)),
                }
            };
            at_once(&database).await;
            let batch = ids.iter().enumerate().map(event).collect();
            assert!(engine.apply(batch).await.iter().all(is_done), "step {step}");
            let usual = "SELECT count(*) FROM texts WHERE text LIKE '%ordered AS%steps_stale()%'";
            assert_eq!(database.number(usual).await > 0, many > 1, "step {step}");
            assert!(at_once(&database).await.iter().all(|at_once| *at_once), "step {step}");
            for id in &ids {
                let life = all_of(&database, *id).await;
                match many {
                    1 => alone.push(life),
                    _ => assert_eq!(life, alone[step], "step {step}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn of_many_one_that_was_touched_or_is_lost_takes_no_other_with_it() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    let ids = database.processing(&engine, "user-2", 80).await;
    let touched = "UPDATE payouts SET updated_at = updated_at WHERE id = $1";
    sqlx::query(touched).bind(ids[0].0).execute(&database.pool).await.unwrap();
    watch(&database).await;
    let mut claims = database.claim_webhooks(ids.len()).await;
    claims[79].fence -= 1;
    let ready: Vec<_> = ids.iter().zip(&claims).map(|(&id, &claim)| webhook(id, ready(id), claim)).collect();
    let applied = engine.apply(ready[..40].to_vec()).await;
    assert!(applied.iter().all(is_done), "{applied:?}");
    let usual = "SELECT count(*) FROM texts WHERE text LIKE '%ordered AS%steps_stale()%'";
    assert!(database.number(usual).await > 0);
    assert!(at_once(&database).await.iter().all(|at_once| *at_once));
    let applied = engine.apply(ready[40..].to_vec()).await;
    assert!(applied[..39].iter().all(is_done) && is_superseded(&applied[39]), "{applied:?}");
    assert!(at_once(&database).await.contains(&false), "the statement with the lost claim was undone");
    assert_eq!(database.state(ids[79]).await, "processing");
    assert_eq!(database.number("SELECT count(*) FROM payouts WHERE state = 'confirming'").await, 79);
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'confirm'").await, 79);
    assert_eq!(database.number("SELECT count(*) FROM permits").await, 79);
}

#[tokio::test]
async fn what_somebody_else_has_touched_is_read_again() {
    let database = Database::fresh().await;
    let (engine, other) = (warm(&database).await, database.engine(rules(None)).await);
    watch(&database).await;
    // Moved on by another process.
    let id = create(&engine).await;
    let start = |effect: &Claimed, status| answered(effect, report(id, status, None));
    assert!(is_done(&other.apply(vec![start(&call(&database, id).await, SessionStatus::Created)]).await[0]));
    at_once(&database).await;
    let next = start(&call(&database, id).await, SessionStatus::InProgress);
    assert!(is_done(&engine.apply(vec![next.clone()]).await[0]));
    assert_eq!(at_once(&database).await, [true]);
    // Written by hand, with nothing changed, in a batch with one that nobody has touched.
    let touch = "UPDATE payouts SET recipient_name = recipient_name WHERE id = $1";
    database.run(touch, id).await.unwrap();
    let untouched = create(&engine).await;
    at_once(&database).await;
    let claims = database.claim_webhooks(2).await;
    // The switches are known to whoever has looked at anything.
    engine.apply(vec![due(id, time::OffsetDateTime::UNIX_EPOCH)]).await;
    let created = report(untouched, SessionStatus::Created, None);
    let other = answered(&call(&database, untouched).await, created);
    let both = engine.apply(vec![webhook(id, ready(id), claims[0]), other]).await;
    assert!(both.iter().all(is_done), "{both:?}");
    assert_eq!(at_once(&database).await, [true, true], "the one at first, the other as it is by then");
    assert_eq!(database.state(untouched).await, "starting");
    // And known again.
    assert!(is_done(&engine.apply(vec![webhook(id, paid(id), claims[1])]).await[0]));
    assert_eq!(at_once(&database).await, [true]);
    assert!(is_superseded(&engine.apply(vec![next]).await[0]), "its claim is closed");
    let seqs: Vec<i64> = database.story(id).await.into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!(seqs, (1..=5).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_claim_that_is_lost_takes_no_other_event_with_it() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    watch(&database).await;
    let (lost, good) = (create(&engine).await, create(&engine).await);
    at_once(&database).await;
    let claimed = database.claim_effects(LEASE).await;
    let answer = |id: PayoutId| {
        let effect = claimed.iter().find(|effect| effect.payout == id).unwrap();
        answered(effect, report(id, SessionStatus::Created, None))
    };
    let mut late = answer(lost);
    let Cause::Effect(claim) = &mut late.cause else { panic!() };
    claim.fence -= 1;
    let applied = engine.apply(vec![late, answer(good)]).await;
    assert!(is_superseded(&applied[0]) && is_done(&applied[1]), "{applied:?}");
    assert_eq!(database.state(lost).await, "accepted");
    assert_eq!(database.state(good).await, "starting");
    assert!(is_done(&engine.apply(vec![answer(lost)]).await[0]), "whoever holds the claim goes on");
    // One claim, twice in a batch.
    let id = lost;
    assert_eq!(at_once(&database).await, [false, true], "one claim was lost; the other is good");
    let start = answered(&call(&database, id).await, report(id, SessionStatus::InProgress, None));
    let applied = engine.apply(vec![start.clone(), start]).await;
    assert!(is_done(&applied[0]) && is_superseded(&applied[1]), "{applied:?}");
    assert_eq!(at_once(&database).await, [true]);
    // A webhook that somebody else has claimed since.
    let claim = database.claim_webhooks(1).await[0];
    let taken = InboxClaim { fence: claim.fence - 1, ..claim };
    assert!(is_superseded(&engine.apply(vec![webhook(id, ready(id), taken)]).await[0]));
    assert_eq!(database.state(id).await, "processing");
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
}

/// Another transaction has the row: what it makes of it counts, not what was there when the wait began.
#[tokio::test]
async fn a_row_that_changes_while_it_is_waited_for_is_read_again() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    watch(&database).await;
    for changes in [true, false] {
        let id = create(&engine).await;
        let effect = call(&database, id).await;
        at_once(&database).await;
        let mut other = database.pool.begin().await.unwrap();
        let touch = "UPDATE payouts SET recipient_name = 'Other' WHERE id = $1";
        sqlx::query(touch).bind(id.0).execute(&mut *other).await.unwrap();
        let answer = answered(&effect, report(id, SessionStatus::Created, None));
        let applying = tokio::spawn({
            let engine = engine.clone();
            async move { engine.apply(vec![answer]).await }
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'WITH %'";
        until("it waits for the row", async || database.number(waits).await == 1).await;
        if changes {
            other.commit().await.unwrap()
        } else {
            other.rollback().await.unwrap()
        }
        let Ok(Applied::Done(stored)) = applying.await.unwrap().remove(0) else { panic!() };
        let is_other = stored.payout.order.recipient_name == "Other";
        assert_eq!(is_other, changes, "decided upon what is there by then");
        assert_eq!(at_once(&database).await, [true]);
        let name = "SELECT count(*) FROM payouts WHERE recipient_name = 'Other'";
        assert_eq!(database.number(name).await, 1, "nothing was written over");
        assert_eq!(database.state(id).await, "starting");
    }
}

/// What is judged, too: what it was waited for is what counts.
#[tokio::test]
async fn a_row_that_changes_while_its_verdict_is_written_is_looked_at() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    watch(&database).await;
    let mut other = database.pool.begin().await.unwrap();
    let touch = "UPDATE payouts SET amount_minor = amount_minor + 1 WHERE id = $1";
    sqlx::query(touch).bind(id.0).execute(&mut *other).await.unwrap();
    let applying = tokio::spawn({
        let engine = engine.clone();
        async move { engine.apply(vec![webhook(id, ready(id), claim)]).await }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'WITH switched%'";
    until("it waits for the row", async || database.number(waits).await == 1).await;
    other.commit().await.unwrap();
    assert!(is_done(&applying.await.unwrap()[0]));
    assert_eq!(at_once(&database).await, [false]);
    let confirms = "SELECT count(*) FROM permits WHERE kind = 'confirm'";
    assert_eq!(database.number(confirms).await, 0, "Pike shows another amount than the payout has now");
}

/// A webhook has overtaken the answer to the confirm, which nobody needs any more.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_looked_for() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claims = database.claim_webhooks(2).await;
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claims[0])]).await[0]));
    let confirm = call(&database, id).await;
    watch(&database).await;
    assert!(is_done(&engine.apply(vec![webhook(id, paid(id), claims[1])]).await[0]));
    let voided = "SELECT count(*) FROM effects WHERE kind = 'confirm'";
    assert_eq!(database.number(voided).await, 0);
    at_once(&database).await;
    let before = database.number("SELECT sum(version)::bigint FROM payouts").await;
    let late = answered(&confirm, report(id, SessionStatus::InProgress, None));
    assert!(is_superseded(&engine.apply(vec![late.clone()]).await[0]));
    // Whoever has another connection since looks, with the same result.
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(database.number(others).await > 0);
    assert!(is_superseded(&engine.apply(vec![late]).await[0]));
    assert_eq!(at_once(&database).await, Vec::<bool>::new());
    assert_eq!(database.number("SELECT sum(version)::bigint FROM payouts").await, before);
}

/// The answer to the confirm and the webhook that makes it unwanted, which both end the same call.
#[tokio::test]
async fn an_answer_that_is_overtaken_in_its_batch_keeps_nobody_from_writing() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    let claims = database.claim_webhooks(2).await;
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claims[0])]).await[0]));
    let confirm = answered(&call(&database, id).await, report(id, SessionStatus::InProgress, None));
    watch(&database).await;
    let applied = engine.apply(vec![confirm, webhook(id, paid(id), claims[1])]).await;
    assert!(applied.iter().all(is_done), "{applied:?}");
    assert_eq!(at_once(&database).await, [true]);
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'confirm'").await, 0);
}

#[tokio::test]
async fn events_of_one_payout_follow_each_other_at_once() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = create(&engine).await;
    database.starting(&engine, id).await;
    watch(&database).await;
    let start = answered(&call(&database, id).await, report(id, SessionStatus::InProgress, None));
    let claims = database.claim_webhooks(2).await;
    let batch = vec![start, webhook(id, ready(id), claims[0]), webhook(id, ready(id), claims[1])];
    assert!(engine.apply(batch).await.iter().all(is_done));
    assert_eq!(at_once(&database).await, [true]);
    assert_eq!(database.state(id).await, "confirming");
    let confirms = "SELECT count(*) FROM effects WHERE kind = 'confirm' AND bound_to IS NOT NULL";
    assert_eq!(database.number(confirms).await, 1);
}

#[tokio::test]
async fn a_switch_that_was_thrown_holds_for_what_is_known_too() {
    let database = Database::fresh().await;
    let (engine, other) = (database.engine(rules(None)).await, database.engine(rules(None)).await);
    let id = database.processing(&engine, "user-1", 1).await[0];
    other.set_confirms("demo", Switch::Off, "tester", "a test").await.unwrap();
    watch(&database).await;
    let claims = database.claim_webhooks(2).await;
    let both = claims.into_iter().map(|claim| webhook(id, ready(id), claim)).collect();
    assert!(engine.apply(both).await.iter().all(is_done));
    assert_eq!(at_once(&database).await, [false], "the switch is not as it was");
    assert_eq!(database.state(id).await, "on_hold");
    let next = database.processing(&engine, "user-2", 1).await[0];
    at_once(&database).await;
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(next, ready(next), claim)]).await[0]));
    assert_eq!(at_once(&database).await, [true], "and is known now");
    assert_eq!(database.state(next).await, "on_hold");
    assert_eq!(database.number("SELECT count(*) FROM permits").await, 0);
}

#[tokio::test]
async fn a_connection_that_was_taken_away_costs_nothing() {
    let database = Database::fresh().await;
    let engine = warm(&database).await;
    let id = database.processing(&engine, "user-1", 1).await[0];
    watch(&database).await;
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(database.number(others).await > 0);
    let claims = database.claim_webhooks(2).await;
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claims[0])]).await[0]));
    assert!(database.number(others).await > 0);
    assert!(is_done(&engine.apply(vec![webhook(id, paid(id), claims[1])]).await[0]));
    assert_eq!(
        at_once(&database).await,
        [false, false],
        "who has lost its server forgets what it wrote there"
    );
    assert_eq!(database.state(id).await, "succeeded");
    let new = order("user-2");
    assert!(database.number(others).await > 0);
    assert!(matches!(engine.create(new.clone()).await, Ok(Created::New(_))));
    let again = NewPayout { id: order("user-2").id, ..new };
    assert!(matches!(engine.create(again).await, Ok(Created::Existing(_))));
}
