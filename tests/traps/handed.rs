//! What is handed over to the workers of the process is what was written, and each of it once.

use crate::support::{Database, is_done, paid, ready, rules, webhook};
use payoutd::{
    domain::{
        effect::EffectKind,
        id::{PayoutId, ProjectId},
    },
    engine::{Callers, Hands, Place, Tellers},
    store::{effects, notifications},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicIsize, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(600);

/// Workers that have a place for everything.
#[derive(Default)]
struct Workers {
    taken: Arc<AtomicIsize>,
    calls: Arc<Mutex<Vec<(PayoutId, EffectKind, i64, i32)>>>,
    messages: Arc<Mutex<Vec<(Uuid, i32)>>>,
}

/// Free again when it is dropped.
struct Taken(Arc<AtomicIsize>);

impl Taken {
    fn one_of(taken: &Arc<AtomicIsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(taken))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Callers for Workers {
    fn place(&self, _project: &ProjectId, _kind: EffectKind) -> Option<(Duration, Place<effects::Claimed>)> {
        let (taken, calls) = (Taken::one_of(&self.taken), Arc::clone(&self.calls));
        let begin = move |call: effects::Claimed| {
            drop(taken);
            calls.lock().unwrap().push((call.payout, call.kind, call.claim.id, call.claim.fence));
        };
        Some((LEASE, Box::new(begin)))
    }
}

impl Tellers for Workers {
    fn lease(&self) -> Duration {
        LEASE
    }

    fn place(&self, _project: &ProjectId) -> Option<Place<notifications::Claimed>> {
        let (taken, messages) = (Taken::one_of(&self.taken), Arc::clone(&self.messages));
        let begin = move |message: notifications::Claimed| {
            drop(taken);
            messages.lock().unwrap().push((message.id, message.fence));
        };
        Some(Box::new(begin))
    }
}

/// Of a batch one payout is as it was, two were touched: these are written later, and begin once.
#[tokio::test]
async fn what_is_written_at_the_second_try_begins_once() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ids = database.processing(&engine, "user-1", 3).await;
    let claims = database.claim_webhooks(4).await;
    assert!(is_done(&engine.apply(vec![webhook(ids[1], ready(ids[1]), claims[3])]).await[0]));
    let workers = Arc::new(Workers::default());
    let (callers, tellers): (Arc<dyn Callers>, Arc<dyn Tellers>) = (workers.clone(), workers.clone());
    engine.hand_over_to(Hands { callers: Arc::downgrade(&callers), tellers: Arc::downgrade(&tellers) });
    for touched in &ids[..2] {
        let touch = "UPDATE payouts SET recipient_name = recipient_name WHERE id = $1";
        database.run(touch, *touched).await.unwrap();
    }
    let batch = vec![
        webhook(ids[0], ready(ids[0]), claims[0]),
        webhook(ids[1], paid(ids[1]), claims[1]),
        webhook(ids[2], ready(ids[2]), claims[2]),
    ];
    assert!(engine.apply(batch).await.iter().all(is_done));
    let writers = "SELECT count(DISTINCT xmin::text) FROM payouts";
    assert_eq!(database.number(writers).await, 2, "the first try wrote one, the second the others");
    let stored = "SELECT payout_id, id, fence FROM effects WHERE kind = 'confirm' ORDER BY payout_id";
    let stored: Vec<(Uuid, i64, i32)> = sqlx::query_as(stored).fetch_all(&database.pool).await.unwrap();
    let mut calls = workers.calls.lock().unwrap().clone();
    calls.sort_unstable_by_key(|(payout, ..)| *payout);
    let confirm = |(payout, id, fence): (Uuid, i64, i32)| (PayoutId(payout), EffectKind::Confirm, id, fence);
    assert_eq!(calls, stored.into_iter().map(confirm).collect::<Vec<_>>());
    assert_eq!(calls.len(), 2);
    let stored: Vec<(Uuid, i32)> =
        sqlx::query_as("SELECT id, fence FROM notifications").fetch_all(&database.pool).await.unwrap();
    assert_eq!((workers.messages.lock().unwrap().clone(), stored.len()), (stored, 1));
    assert_eq!(workers.taken.load(Ordering::Relaxed), 0, "places for what was not written are free again");
}
