//! Plans that were made while the tables were small, and are used when they have grown: whatever a payout's
//! life asks for is looked up, never found by reading a table or an index from end to end.

use crate::support::{Database, due, is_done, lanes, order, paid, project, ready, report, rules, webhook};
use payoutd::{
    domain::{
        event::{Event, Observation, Outcome},
        id::PayoutId,
        session::SessionStatus,
    },
    engine::{Cause, Created, Engine, Envelope},
    store::{
        checks, effects,
        inbox::Incoming,
        notifications::{self, Delivery, Settled},
        payouts,
        writer::Writer,
    },
};
use sha2::{Digest, Sha256};
use sqlx::Connection;
use std::{sync::Arc, time::Duration};

const LEASE: Duration = Duration::from_secs(600);
/// The payouts that are added to the few, as copies of one of them.
const MANY: i64 = 20_000;
const COPIES: [&str; 7] = [
    "INSERT INTO payouts SELECT c.* FROM (SELECT * FROM payouts WHERE state = 'succeeded' LIMIT 1) AS p,
        generate_series(1, $1) AS k, jsonb_populate_record(NULL::payouts, to_jsonb(p) || jsonb_build_object(
            'id', md5('p' || k)::uuid, 'idempotency_key', 'k' || k, 'session_id', 'ps_k' || k)) AS c",
    "INSERT INTO history SELECT md5('p' || k)::uuid, h.seq, h.at, h.event, h.decision, h.reason, h.from_state,
            h.to_state, h.actor, h.detail
        FROM (SELECT * FROM history ORDER BY payout_id, seq LIMIT 5) AS h, generate_series(1, $1) AS k",
    "INSERT INTO permits SELECT c.* FROM (SELECT * FROM permits LIMIT 1) AS p, generate_series(1, $1) AS k,
        jsonb_populate_record(NULL::permits, to_jsonb(p)
            || jsonb_build_object('payout_id', md5('p' || k)::uuid)) AS c",
    "INSERT INTO decisions SELECT c.* FROM (SELECT * FROM decisions LIMIT 1) AS d,
        generate_series(1, $1) AS k,
        jsonb_populate_record(NULL::decisions, to_jsonb(d)
            || jsonb_build_object('payout_id', md5('p' || k)::uuid)) AS c",
    "INSERT INTO notifications SELECT c.* FROM (SELECT * FROM notifications LIMIT 1) AS n,
        generate_series(1, $1) AS k, jsonb_populate_record(NULL::notifications, to_jsonb(n)
            || jsonb_build_object('id', md5('n' || k)::uuid, 'payout_id', md5('p' || k)::uuid)) AS c",
    "INSERT INTO inbox OVERRIDING SYSTEM VALUE SELECT c.* FROM (SELECT * FROM inbox LIMIT 1) AS i,
        generate_series(1, $1) AS k, jsonb_populate_record(NULL::inbox, to_jsonb(i)
            || jsonb_build_object('id', -k, 'body_hash', sha256(k::text::bytea))) AS c",
    "INSERT INTO effects (payout_id, kind, project_id, run_at)
        SELECT md5('p' || k)::uuid, 'read_status', 'demo', 'infinity' FROM generate_series(1, $1) AS k",
];
/// Calls of them that wait.
const WAITING: &str = "INSERT INTO effects (payout_id, kind, project_id, run_at)
    SELECT md5('p' || k)::uuid, 'create_session', 'demo', now() - interval '1 hour'
    FROM generate_series(1, $1) AS k";
const TOLD: &str = "INSERT INTO told_sessions SELECT c.* FROM (SELECT * FROM told_sessions LIMIT 1) AS t,
    generate_series(1, $1) AS k, jsonb_populate_record(NULL::told_sessions, to_jsonb(t)
        || jsonb_build_object('session_id', 'ps_k' || k, 'payout_id', md5('p' || k)::uuid)) AS c";
/// Rows of our tables that were read, and entries of their indexes.
const READ: &str = "SELECT ((SELECT sum(seq_tup_read) FROM pg_stat_user_tables)
    + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes))::bigint";

struct Stage {
    database: Database,
    /// Two processes: what the one has written the other has to read.
    engines: [Engine; 2],
    /// Whoever looks up whose sessions those are that came, and who takes what is to be called.
    reader: Writer,
}

impl Stage {
    async fn on(database: Database) -> Self {
        let engines = [database.engine(rules(None)).await, database.engine(rules(None)).await];
        let reader = Writer::new(database.pool.clone());
        Self { database, engines, reader }
    }

    async fn answered(&self, engine: &Engine, id: PayoutId, shown: SessionStatus) {
        let call = self.claim(1_000).await.into_iter().find(|call| call.payout == id).unwrap();
        let outcome = Outcome::Accepted(report(id, shown, None));
        let event = Event::Observed(Observation::Answered { call: call.kind, outcome });
        let envelope = Envelope { payout: id, event, cause: Cause::Effect(call.claim) };
        assert!(is_done(&engine.submit(envelope).await));
    }

    async fn claim(&self, most: i64) -> Vec<effects::Claimed> {
        let mut tx = self.reader.begin().await.unwrap();
        let claimed = effects::claim(&mut tx, most, LEASE, &lanes()).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    /// Adds many like those there are.
    async fn grow(&self, copies: &[&'static str]) {
        let mut observer = self.database.observer().await;
        for copies in copies {
            sqlx::query(*copies).bind(MANY).execute(&mut observer).await.unwrap();
        }
    }

    /// One payout from its order to the message that it is paid.
    async fn life(&self) {
        let [one, other] = &self.engines;
        let Created::New(stored) = one.create(order("user-1")).await.unwrap() else { panic!() };
        let id = stored.payout.id;
        self.answered(other, id, SessionStatus::Created).await;
        self.answered(one, id, SessionStatus::InProgress).await;
        let mut db = self.reader.hold().await.unwrap();
        let session = ready(id).session;
        let whose = payouts::by_sessions(&mut db, &[(&project(), &session)]).await.unwrap();
        db.done();
        assert_eq!(whose.into_values().collect::<Vec<_>>(), [id]);
        // Somebody looks, too, and what the switches are is known to both from then on.
        for engine in &self.engines {
            engine.submit(due(id, time::OffsetDateTime::UNIX_EPOCH)).await.unwrap();
        }
        let body = id.to_string().into_bytes();
        let body_hash = Sha256::digest(&body).into();
        let fresh = Arc::new(Incoming { project: project(), body, body_hash, about: Some(id) });
        let event = Event::Observed(Observation::Reported(ready(id)));
        assert_eq!(other.keep(fresh, id, event).await, Some(true));
        self.answered(one, id, SessionStatus::InProgress).await;
        let claim = self.database.claim_webhooks(1).await[0];
        assert!(is_done(&other.submit(webhook(id, paid(id), claim)).await));
        let mut db = self.database.pool.acquire().await.unwrap();
        let message = notifications::claim(&mut db, 1, LEASE, &[]).await.unwrap().remove(0);
        let settled = Settled { id: message.id, fence: message.fence, delivery: Delivery::Delivered };
        one.settle(settled).await.unwrap();
    }

    /// How much was read, once every other connection has told.
    async fn read(&self) -> i64 {
        let mut observer = self.database.observer().await;
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut observer).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        observer.close().await.unwrap();
        let mut observer = self.database.observer().await;
        sqlx::query_scalar(READ).fetch_one(&mut observer).await.unwrap()
    }
}

#[tokio::test]
async fn nothing_in_a_life_is_found_by_reading_a_table() {
    let stage = Stage::on(Database::fresh().await).await;
    // Often enough for every plan to be made for good.
    for _ in 0..8 {
        stage.life().await;
    }
    stage.grow(&COPIES).await;
    stage.life().await;
    let read = stage.read().await;
    assert!(read < MANY / 4, "{read} rows and entries were read, with plans for small tables");
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut stage.database.observer().await).await.unwrap();
    let stage = Stage::on(stage.database).await;
    for _ in 0..8 {
        stage.life().await;
    }
    let more = stage.read().await - read;
    assert!(more < MANY / 4, "{more} rows and entries were read, with plans for these tables");
}

#[tokio::test]
async fn whoever_takes_calls_reads_those_that_it_takes_however_many_wait() {
    let stage = Stage::on(Database::fresh().await).await;
    for _ in 0..8 {
        stage.life().await;
    }
    stage.grow(&COPIES).await;
    stage.grow(&[WAITING]).await;
    let before = stage.read().await;
    for analysed in [false, true] {
        if analysed {
            sqlx::raw_sql("ANALYZE").execute(&mut stage.database.observer().await).await.unwrap();
        }
        for _ in 0..8 {
            assert_eq!(stage.claim(20).await.len(), 20);
        }
    }
    let read = stage.read().await - before;
    assert!(read < 16 * 20 * 30, "{read} rows and entries were read to take 16 times 20 calls");
}

#[tokio::test]
async fn the_checker_looks_up_what_it_looks_at() {
    const LOOKED_AT: i64 = 500;
    let stage = Stage::on(Database::fresh().await).await;
    stage.life().await;
    payoutd::worker::checker::everything(&stage.database.pool, LEASE).await.unwrap();
    stage.grow(&COPIES).await;
    stage.grow(&[TOLD]).await;
    let ids = checks::next(&mut stage.database.observer().await, None, LOOKED_AT).await.unwrap();
    let before = stage.read().await;
    for analysed in [false, true] {
        if analysed {
            sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut stage.database.observer().await).await.unwrap();
        }
        let mut db = stage.database.pool.acquire().await.unwrap();
        let found = checks::of_payouts(&mut db, &ids, LEASE).await.unwrap();
        assert_eq!(found.looked_at.len(), ids.len());
    }
    let read = stage.read().await - before;
    assert!(
        read < 2 * LOOKED_AT * 20,
        "{read} rows and entries were read to look twice at {LOOKED_AT} payouts"
    );
}
