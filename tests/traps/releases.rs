//! Two releases on one database. The release before is here in the
//! statements that it was made of, from before effects had lanes and hashes and webhooks could be parked.

use crate::{
    interrupted::{confirming, taker},
    support::{Database, is_done, rules},
};
use payoutd::{
    domain::{
        effect::EffectKind,
        event::{Event, Observation, Outcome},
        provider::ProviderError,
    },
    engine::{Cause, Envelope},
    store::{inbox, pool::MIGRATIONS},
};
use std::time::Duration;

/// The schema of that release.
const BEFORE: i64 = 2;

const PAYOUT: &str =
    "INSERT INTO payouts (id, project_id, idempotency_key, request_fingerprint, amount_minor,
        currency, destination_kind, destination_secret, destination_fingerprint, recipient_name,
        customer_reference, metadata, created_by, created_at, version, attempt, state, status, since,
        updated_at, next_check_at, session_id, permit_kind, permit_hash)
    VALUES ($1, 'demo', 'key', '\\x07', 1000, 'RUB', 'tokenized_card', 'token', sha256('card'), 'Anna',
        'user-1', '{}', 'key-1', now(), 4, 1, 'confirming', 'processing', now(), now(), now(), 'ps_1',
        'confirm', sha256('order'))";
const HISTORY: &str = "INSERT INTO history (payout_id, seq, at, event, decision, reason, to_state)
    SELECT $1, seq, now(), 'created', 'move', 'created', 'accepted' FROM generate_series(1, 4) seq";
const PERMIT: &str = "INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
        customer_reference, currency, amount_minor)
    VALUES ($1, 'confirm', sha256('order'), 'old', now(), 'demo', 'user-1', 'RUB', 1000)";
const EFFECT: &str = "INSERT INTO effects (payout_id, kind, permit_kind)
    SELECT * FROM unnest(ARRAY[$1], ARRAY['confirm'], ARRAY['confirm'])
    ON CONFLICT (payout_id, kind) DO NOTHING";
const CLAIM: &str = "WITH picked AS (
        SELECT id, lease_until IS NOT NULL AS interrupted FROM effects e
        WHERE run_at <= now() AND (lease_until IS NULL OR lease_until < now())
          AND NOT (kind = 'confirm' AND EXISTS (
            SELECT FROM switches s JOIN payouts p ON p.id = e.payout_id
            WHERE NOT s.confirms AND s.scope IN ('*', p.project_id)))
        ORDER BY kind = 'read_status', run_at LIMIT 10 FOR UPDATE OF e SKIP LOCKED)
    UPDATE effects e SET fence = e.fence + 1, lease_until = now() + make_interval(secs => 60)
    FROM picked, payouts p WHERE e.id = picked.id AND p.id = e.payout_id RETURNING e.kind";
const CLAIM_WEBHOOK: &str = "WITH picked AS (
        SELECT id FROM inbox
        WHERE done_at IS NULL AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
        ORDER BY due_at LIMIT 10 FOR UPDATE SKIP LOCKED)
    UPDATE inbox i SET fence = i.fence + 1, lease_until = now() + make_interval(secs => 60)
    FROM picked WHERE i.id = picked.id RETURNING i.outcome";

#[tokio::test]
async fn what_the_release_before_left_behind_is_taken_up() {
    let database = Database::at(BEFORE).await;
    let id = payoutd::domain::id::PayoutId(uuid::Uuid::now_v7());
    for statement in [PAYOUT, HISTORY, PERMIT, EFFECT] {
        database.run(statement, id).await.unwrap();
    }
    MIGRATIONS.run(&database.pool).await.unwrap();
    let known = "SELECT count(*) FROM effects e JOIN permits m USING (payout_id)
        WHERE e.project_id = 'demo' AND e.bound_to = m.bound_to";
    assert_eq!(database.number(known).await, 1);
    let claimed = database.claim_effects(Duration::from_secs(60)).await.remove(0);
    assert_eq!((claimed.kind, claimed.interrupted), (EffectKind::Confirm, false));
    let engine = database.engine(rules(None)).await;
    let outcome = Outcome::Unknown(ProviderError::default());
    let event = Event::Observed(Observation::Answered { call: claimed.kind, outcome });
    let envelope = Envelope { payout: id, event, cause: Cause::Effect(claimed.claim) };
    assert!(is_done(&engine.apply(vec![envelope]).await[0]));
    assert_eq!(database.state(id).await, "confirm_unknown");
}

/// While processes are replaced, or when one goes back to the release before: neither loses what the other
/// wrote, and what the other may have sent is not sent again.
#[tokio::test]
async fn the_release_before_goes_on_beside_this_one() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (worker, peer) = taker(&database, &engine).await;
    // Ours, claimed by the old one, which dies.
    let id = confirming(&database, &engine).await;
    let theirs: Vec<String> = sqlx::query_scalar(CLAIM).fetch_all(&database.pool).await.unwrap();
    assert_eq!(theirs, ["confirm"]);
    assert_eq!(worker.run_once().await.unwrap(), 0, "it is theirs");
    database.run("UPDATE effects SET lease_until = now() WHERE payout_id = $1", id).await.unwrap();
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "confirm_unknown"));
    // Theirs, without lane and hash: found, and not acted on before a look at Pike.
    let id = payoutd::domain::id::PayoutId(uuid::Uuid::now_v7());
    for statement in [PAYOUT, HISTORY, PERMIT, EFFECT] {
        database.run(statement, id).await.unwrap();
    }
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "confirm_unknown"));
    // Parked by us: theirs only when a person has replayed it.
    let claim = database.claim_webhooks(1).await[0];
    let mut tx = database.pool.begin().await.unwrap();
    assert!(inbox::failed(&mut tx, claim, "odd", Duration::ZERO, 1).await.unwrap(), "parked");
    tx.commit().await.unwrap();
    for expected in [0, 1] {
        let theirs = sqlx::query(CLAIM_WEBHOOK).fetch_all(&database.pool).await.unwrap();
        assert_eq!(theirs.len(), expected);
        let mut tx = database.pool.begin().await.unwrap();
        inbox::replay(&mut tx, None).await.unwrap();
        tx.commit().await.unwrap();
    }
}
