//! What waits at the same time is one transaction, whatever it is; and nothing in it depends on what else is
//! in it.

use crate::support::{AMOUNT, Database, due, is_done, order, paid, ready, rules, until, webhook};
use payoutd::{
    domain::{effect::EffectKind, id::PayoutId},
    engine::{CreateRefusal, Created, Engine},
    store::{
        notifications::{Delivery, NewNotification, Settled},
        payouts::NewPayout,
        rules::Switch,
        steps::{self, Steps},
    },
};
use sqlx::{Postgres, Transaction};
use std::time::Duration;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(300);
const WAITS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Of the two writers the one that works on ids with an even end.
fn even(mut id: Uuid) -> Uuid {
    loop {
        let [.., last] = id.into_bytes();
        if last % 2 == 0 {
            return id;
        }
        id = Uuid::now_v7();
    }
}

fn even_order(recipient: &str) -> NewPayout {
    let mut new = order(recipient);
    new.id = PayoutId(even(new.id.0));
    new.idempotency_key = new.id.to_string();
    new
}

struct Stage {
    database: Database,
    engine: Engine,
    /// Two that Pike is ready to pay.
    payouts: [PayoutId; 2],
    /// A message that is being delivered.
    message: Uuid,
}

async fn stage() -> Stage {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    for writer in 0..2 {
        let nobody = PayoutId(Uuid::from_u128(writer));
        engine.submit(due(nobody, time::OffsetDateTime::UNIX_EPOCH)).await.unwrap();
    }
    let mut payouts = vec![];
    while payouts.len() < 2 {
        let id = database.processing(&engine, "user-1", 1).await[0];
        if even(id.0) == id.0 {
            payouts.push(id);
        }
    }
    let message = NewNotification {
        id: even(Uuid::now_v7()),
        project: crate::support::project(),
        payout: payouts[0],
        seq: 1,
        kind: "payout.succeeded".to_owned(),
        payload: "{}".to_owned(),
        at: time::OffsetDateTime::UNIX_EPOCH,
        lease: Some(LONG),
    };
    let id = message.id;
    let mut tx = database.pool.begin().await.unwrap();
    steps::write(&mut tx, &Steps { notifications: &[message], ..Steps::default() }, None).await.unwrap();
    tx.commit().await.unwrap();
    Stage { database, engine, payouts: [payouts[0], payouts[1]], message: id }
}

impl Stage {
    /// Lets the writer wait for the row of the first payout while all of these are submitted.
    async fn held(&self) -> Transaction<'_, Postgres> {
        let mut other = self.database.pool.begin().await.unwrap();
        let lock = sqlx::query("SELECT FROM payouts WHERE id = $1 FOR UPDATE").bind(self.payouts[0].0);
        lock.execute(&mut *other).await.unwrap();
        let claim = self.database.claim_webhooks(1).await[0];
        let (engine, id) = (self.engine.clone(), self.payouts[0]);
        tokio::spawn(async move { engine.submit(webhook(id, ready(id), claim)).await });
        until("the writer waits", async || self.database.number(WAITS).await > 0).await;
        other
    }

    fn settled(&self) -> Settled {
        Settled { id: self.message, fence: 1, delivery: Delivery::Delivered }
    }

    async fn delivered(&self) -> i64 {
        self.database.number("SELECT count(*) FROM notifications WHERE delivered_at IS NOT NULL").await
    }

    /// The transactions that wrote these.
    async fn writers(&self, new: PayoutId) -> Vec<i64> {
        let sql = "SELECT xmin::text::bigint FROM payouts WHERE id = ANY($1)
            UNION SELECT xmin::text::bigint FROM history WHERE payout_id = $2 AND seq = 4
            UNION SELECT xmin::text::bigint FROM history WHERE payout_id = $3
            UNION SELECT xmin::text::bigint FROM effects WHERE payout_id = ANY($1)
            UNION SELECT xmin::text::bigint FROM notifications WHERE id = $4";
        let moved = self.payouts[1];
        sqlx::query_scalar(sql)
            .bind([moved.0, new.0])
            .bind(moved.0)
            .bind(new.0)
            .bind(self.message)
            .fetch_all(&self.database.pool)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_waits_at_the_same_time_is_one_transaction() {
    let stage = stage().await;
    let (engine, id) = (&stage.engine, stage.payouts[1]);
    let claim = stage.database.claim_webhooks(1).await[0];
    let (new, refused) = (even_order("user-2"), even_order("user-3"));
    assert!(matches!(engine.create(refused.clone()).await, Ok(Created::New(_))));
    let fresh = || PayoutId(even(Uuid::now_v7()));
    let again = NewPayout { id: fresh(), ..refused.clone() };
    let other = NewPayout { id: fresh(), request_fingerprint: [8; 32], ..refused.clone() };
    let held = stage.held().await;
    let all = async {
        tokio::join!(
            engine.submit(webhook(id, ready(id), claim)),
            engine.create(new.clone()),
            engine.create(again),
            engine.create(other),
            engine.settle(stage.settled()),
        )
    };
    let let_go = async {
        // All of them are polled before this once.
        tokio::task::yield_now().await;
        held.rollback().await.unwrap();
    };
    let ((applied, created, existing, taken, settled), ()) = tokio::join!(all, let_go);
    assert!(is_done(&applied));
    assert!(matches!(created, Ok(Created::New(stored)) if stored.payout.id == new.id));
    assert!(matches!(existing, Ok(Created::Existing(stored)) if stored.payout.id == refused.id));
    let reused = CreateRefusal::KeyReused(refused.id);
    assert!(matches!(taken, Ok(Created::Refused(refusal)) if refusal == reused));
    settled.unwrap();
    assert_eq!(stage.writers(new.id).await.len(), 1, "one transaction wrote it all");
    assert_eq!(stage.delivered().await, 1);
    assert_eq!(stage.database.state(id).await, "confirming");
    let calls: Vec<_> = stage.database.claim_effects(LONG).await;
    let create = calls.iter().find(|call| call.payout == new.id).unwrap();
    assert_eq!((create.kind, create.amount.minor()), (EffectKind::CreateSession, AMOUNT));
    // Known to the process as what it has just written.
    assert_eq!(stage.database.story(new.id).await.len(), 1);
}

/// Somebody has thrown the switch, so that nothing that was decided stands: what came along does.
#[tokio::test]
async fn a_switch_that_was_thrown_keeps_nothing_else_from_being_written() {
    let stage = stage().await;
    let (engine, id) = (&stage.engine, stage.payouts[1]);
    let claim = stage.database.claim_webhooks(1).await[0];
    let new = even_order("user-2");
    let held = stage.held().await;
    let other = stage.database.engine(rules(None)).await;
    let all = async {
        tokio::join!(
            engine.submit(webhook(id, ready(id), claim)),
            engine.create(new.clone()),
            engine.settle(stage.settled()),
        )
    };
    let let_go = async {
        // Whoever waits for the row holds the switches meanwhile, and whoever comes next waits for this one.
        let throwing = tokio::spawn(async move {
            other.set_confirms("demo", Switch::Off, "tester", "a test").await.unwrap();
        });
        until("the switch waits", async || stage.database.number(WAITS).await == 2).await;
        held.rollback().await.unwrap();
        throwing.await.unwrap();
    };
    let ((applied, created, settled), ()) = tokio::join!(all, let_go);
    assert!(is_done(&applied) && matches!(created, Ok(Created::New(_))));
    settled.unwrap();
    assert_eq!((stage.delivered().await, stage.database.story(new.id).await.len()), (1, 1));
    assert_eq!(stage.database.state(stage.payouts[0]).await, "confirming");
    assert_eq!(stage.database.state(id).await, "on_hold");
    assert_eq!(stage.database.number("SELECT count(*) FROM permits").await, 1, "of the one before the throw");
}

/// Somebody else has moved the payout on: it is read again, and what came along is written all the same.
#[tokio::test]
async fn what_has_to_be_looked_at_keeps_nothing_from_being_written() {
    let stage = stage().await;
    let (engine, id) = (&stage.engine, stage.payouts[1]);
    let claim = stage.database.claim_webhooks(1).await[0];
    let touch = "UPDATE payouts SET recipient_name = recipient_name WHERE id = $1";
    stage.database.run(touch, id).await.unwrap();
    let new = even_order("user-2");
    let held = stage.held().await;
    let all = async {
        tokio::join!(
            engine.submit(webhook(id, paid(id), claim)),
            engine.create(new.clone()),
            engine.settle(stage.settled()),
        )
    };
    let let_go = async {
        tokio::task::yield_now().await;
        held.rollback().await.unwrap();
    };
    let ((applied, created, settled), ()) = tokio::join!(all, let_go);
    assert!(is_done(&applied) && matches!(created, Ok(Created::New(_))));
    settled.unwrap();
    assert_eq!((stage.delivered().await, stage.database.story(new.id).await.len()), (1, 1));
    assert!(stage.writers(new.id).await.len() > 1, "written by itself");
}

/// An order that no row can be made of.
#[tokio::test]
async fn an_order_that_cannot_be_stored_takes_nothing_with_it() {
    let stage = stage().await;
    let (engine, id) = (&stage.engine, stage.payouts[1]);
    let claim = stage.database.claim_webhooks(1).await[0];
    let (good, mut bad) = (even_order("user-2"), even_order("user-3"));
    bad.metadata = "a\0b".to_owned();
    let held = stage.held().await;
    let all = async {
        tokio::join!(
            engine.submit(webhook(id, ready(id), claim)),
            engine.create(good.clone()),
            engine.create(bad),
            engine.settle(stage.settled()),
        )
    };
    let let_go = async {
        tokio::task::yield_now().await;
        held.rollback().await.unwrap();
    };
    let ((applied, created, refused, settled), ()) = tokio::join!(all, let_go);
    assert!(is_done(&applied) && matches!(created, Ok(Created::New(_))) && refused.is_err());
    settled.unwrap();
    assert_eq!((stage.delivered().await, stage.database.story(good.id).await.len()), (1, 1));
    assert_eq!(stage.database.state(id).await, "confirming");
    assert_eq!(stage.database.number("SELECT count(*) FROM permits").await, 2);
}
