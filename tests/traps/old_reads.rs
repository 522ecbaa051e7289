//! A status read that began before our word was said is no answer to what became of the word.

use crate::support::{Database, due, is_done, is_superseded, read, ready, rules, webhook};
use payoutd::{
    domain::{
        effect::EffectKind,
        event::{Event, Observation, Outcome},
        id::PayoutId,
        permit::Unfit,
        provider::ProviderError,
        rules::RuleSet,
    },
    engine::{Cause, Envelope},
    store::{effects::Claimed, payouts},
};
use std::time::Duration;

/// A call whose answer was lost.
fn lost(claimed: &Claimed) -> Envelope {
    let error = ProviderError { code: "connection_lost".to_owned(), description: String::new() };
    let event =
        Event::Observed(Observation::Answered { call: claimed.kind, outcome: Outcome::Unknown(error) });
    Envelope { payout: claimed.payout, event, cause: Cause::Effect(claimed.claim) }
}

/// A payout that is being read and confirmed at the same time: both claims.
async fn read_and_confirmed(
    database: &Database,
    engine: &payoutd::engine::Engine,
) -> (PayoutId, [Claimed; 2]) {
    let id = database.processing(engine, "user-1", 1).await[0];
    let mut db = database.pool.acquire().await.unwrap();
    let seen = payouts::read(&mut db, &[id]).await.unwrap()[0].next_check_at.unwrap();
    assert!(is_done(&engine.apply(vec![due(id, seen)]).await[0]));
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
    let mut claimed = database.claim_effects(Duration::from_secs(600)).await;
    claimed.sort_by_key(|effect| effect.kind == EffectKind::ReadStatus);
    let [confirm, read] = <[Claimed; 2]>::try_from(claimed).unwrap_or_else(|_| panic!("two calls"));
    assert_eq!((confirm.kind, read.kind), (EffectKind::Confirm, EffectKind::ReadStatus));
    (id, [confirm, read])
}

async fn confirms(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM effects WHERE kind = 'confirm'").await
}

#[tokio::test]
async fn an_old_read_does_not_send_the_confirm_again() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, [confirm, old]) = read_and_confirmed(&database, &engine).await;
    assert!(is_done(&engine.apply(vec![lost(&confirm)]).await[0]));
    assert!(is_superseded(&engine.apply(vec![read(&old, ready(id))]).await[0]));
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirm_unknown", 0));
}

#[tokio::test]
async fn nor_does_it_in_the_same_batch() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, [confirm, old]) = read_and_confirmed(&database, &engine).await;
    let both = engine.apply(vec![lost(&confirm), read(&old, ready(id))]).await;
    assert!(is_done(&both[0]) && is_superseded(&both[1]), "{both:?}");
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirm_unknown", 0));
}

/// The rules in force are others than those that permitted it; that is no reason to call it altered.
#[tokio::test]
async fn nor_does_a_read_from_before_a_confirm_was_withheld() {
    let database = Database::fresh().await;
    let (id, [confirm, old]) = read_and_confirmed(&database, &database.engine(rules(None)).await).await;
    let engine = database.engine(RuleSet { version: "newer".to_owned(), ..rules(None) }).await;
    let event = Event::Observed(Observation::Withheld(Unfit::Stale));
    let withheld = Envelope { payout: confirm.payout, event, cause: Cause::Effect(confirm.claim) };
    let both = engine.apply(vec![withheld, read(&old, ready(id))]).await;
    assert!(is_done(&both[0]) && is_superseded(&both[1]), "{both:?}");
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirm_unknown", 0));
    let new = database.claim_effects(Duration::from_secs(600)).await;
    assert_eq!(new.iter().map(|effect| effect.kind).collect::<Vec<_>>(), [EffectKind::ReadStatus]);
    assert!(is_done(&engine.apply(vec![read(&new[0], ready(id))]).await[0]));
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirming", 1));
    assert_eq!(database.number("SELECT count(*) FROM anomalies").await, 0);
}

#[tokio::test]
async fn a_late_webhook_makes_us_ask_and_a_new_read_sends_it_again() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (id, [confirm, _]) = read_and_confirmed(&database, &engine).await;
    assert!(is_done(&engine.apply(vec![lost(&confirm)]).await[0]));
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirm_unknown", 0));
    let new = database.claim_effects(Duration::from_secs(600)).await;
    assert_eq!(new.iter().map(|effect| effect.kind).collect::<Vec<_>>(), [EffectKind::ReadStatus]);
    assert!(is_done(&engine.apply(vec![read(&new[0], ready(id))]).await[0]));
    assert_eq!((database.state(id).await.as_str(), confirms(&database).await), ("confirming", 1));
}

/// Whoever starts after a restore is told how much there is to ask about.
#[tokio::test]
async fn asking_about_everything_says_how_many_reads_are_new() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    database.processing(&engine, "user-1", 3).await;
    let asked = async || engine.ask_about_everything(std::time::Duration::ZERO).await.unwrap();
    assert_eq!((asked().await, asked().await), (3, 0));
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE kind = 'read_status'").await, 3);
}
