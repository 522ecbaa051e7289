//! Webhooks about sessions that nobody knows: they may have overtaken us, so they wait; not for ever.

use crate::support::{Database, order, project, rules, until};
use payoutd::{
    domain::id::{PayoutId, ProjectId},
    engine::{Created, Engine},
    store::inbox::{self, Incoming},
    worker::inbox::{Inbox, InboxSettings},
};
use std::time::Duration;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WAITING: &str = "SELECT count(*) FROM inbox WHERE done_at IS NULL AND fence > 0";

fn worker(database: &Database, engine: &Engine, orphan_for: Duration) -> Inbox {
    let settings = InboxSettings { lease: Duration::from_secs(60), orphan_for, park_after: 5 };
    Inbox::new(database.pool.clone(), engine.clone(), settings, std::sync::Arc::default())
}

/// Pike's webhook about the session that the payout has or will have.
async fn tell(database: &Database, project: &ProjectId, id: PayoutId) {
    let body = format!(
        r#"{{"type":"ready_to_confirm","session":{{"id":"ps_{}","status":"in_progress"}}}}"#,
        id.0.simple()
    );
    let body_hash = [7; 32];
    let incoming = Incoming { project: project.clone(), body: body.into_bytes(), body_hash, about: None };
    let mut tx = database.pool.begin().await.unwrap();
    inbox::insert(&mut tx, &[incoming], None).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_overtakes_its_session_finds_it_later() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let Created::New(stored) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    let id = stored.payout.id;
    tell(&database, &project(), id).await;
    let worker = worker(&database, &engine, DAY);
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((database.number(WAITING).await, database.state(id).await.as_str()), (1, "accepted"));

    database.starting(&engine, id).await;
    until("the webhook found its session", async || {
        worker.run_once().await.unwrap();
        database.number("SELECT count(*) FROM inbox WHERE outcome = 'applied'").await == 1
    })
    .await;
    assert_eq!(database.state(id).await, "processing", "it says that the start was taken");
}

/// Another project's session is nobody's, and so is one that never was.
#[tokio::test]
async fn an_orphan_is_set_aside_in_the_end() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let ours = database.processing(&engine, "user-1", 1).await[0];
    let other = ProjectId("other".to_owned());
    tell(&database, &other, ours).await;
    tell(&database, &project(), PayoutId(Uuid::now_v7())).await;
    let before = database.story(ours).await;
    assert_eq!(worker(&database, &engine, Duration::ZERO).run_once().await.unwrap(), 2);
    assert_eq!(database.number("SELECT count(*) FROM inbox WHERE outcome = 'orphan'").await, 2);
    assert_eq!(database.story(ours).await, before);
}
