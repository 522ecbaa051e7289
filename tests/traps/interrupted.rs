//! A worker claims a call and dies. Whoever takes over cannot know whether the request left, so a start, a
//! confirm or a cancel is not sent again: its outcome is unknown. Creating and reading are simply repeated.

use crate::{
    egress::pike,
    peer::{Conduct, Peer, answer},
    support::{Database, is_done, order, project, ready, rules, until, webhook},
};
use futures_util::FutureExt;
use payoutd::{
    domain::{
        effect::EffectKind,
        event::{Command, Event},
        id::{PayoutId, ProjectId},
        policy::Mode,
    },
    engine::{Callers, Cause, Created, Engine, Envelope, Hands, Place, Tellers},
    store::notifications,
    worker::{
        confirm::{ConfirmSettings, LOOK_WITHIN},
        effects::{EffectSettings, Effects},
        pace::PaceSettings,
    },
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

const REFUSED: &str = r#"{"status":"error","error":{"code":"internal_error","description":"d"}}"#;
const DECLINED: &str = r#"{"status":"error","error":{"code":"bank_card_expired","description":"d"}}"#;

/// Who takes over, and the Pike it would call.
pub async fn taker(database: &Database, engine: &Engine) -> (Effects, Peer) {
    let refuses = Conduct::Say(answer("500 Internal Server Error", REFUSED));
    worker(database, engine, refuses, 8).await
}

/// As in a service.
const A_SECOND: Duration = Duration::from_secs(1);
/// However slow the machine is.
const A_MINUTE: Duration = Duration::from_secs(60);

async fn worker(
    database: &Database,
    engine: &Engine,
    conduct: Conduct,
    max_in_flight: usize,
) -> (Effects, Peer) {
    paced_worker(database, engine, conduct, max_in_flight, 0).await
}

pub async fn paced_worker(
    database: &Database,
    engine: &Engine,
    conduct: Conduct,
    max_in_flight: usize,
    calls_per_second: u32,
) -> (Effects, Peer) {
    waiting_worker(database, engine, conduct, (max_in_flight, A_SECOND), calls_per_second).await
}

/// What is put back after so long a wait for a slot is not called here.
async fn waiting_worker(
    database: &Database,
    engine: &Engine,
    conduct: Conduct,
    (max_in_flight, slot_within): (usize, Duration),
    calls_per_second: u32,
) -> (Effects, Peer) {
    let peer = Peer::start(|_| conduct).await;
    let settings = EffectSettings {
        lease: Duration::from_secs(60),
        slot_within,
        retry_first: Duration::from_secs(60),
        retry_longest: Duration::from_secs(60),
        max_in_flight,
        pace: PaceSettings {
            calls_per_second,
            reads_per_second: 0,
            width: 8,
            breaker_failures: 1_000,
            breaker_pause: Duration::from_secs(1),
            breaker_longest: Duration::from_secs(1),
        },
        confirm: ConfirmSettings { rule_set: "test".to_owned(), max_age: Duration::from_secs(60) },
        mode: Mode::Everything,
        projects: vec![project()],
    };
    let pike = Arc::new(pike(&peer.url, Duration::from_secs(10)));
    (Effects::new(database.pool.clone(), engine.clone(), pike, settings), peer)
}

/// Lets a worker claim everything and die at once.
async fn claim_and_die(database: &Database, kind: EffectKind) {
    let claimed = database.claim_effects(Duration::ZERO).await;
    assert_eq!(claimed.iter().map(|effect| effect.kind).collect::<Vec<_>>(), [kind]);
}

pub async fn confirming(database: &Database, engine: &Engine) -> PayoutId {
    let id = database.processing(engine, "user-1", 1).await[0];
    let claim = database.claim_webhooks(1).await[0];
    assert!(is_done(&engine.apply(vec![webhook(id, ready(id), claim)]).await[0]));
    id
}

#[tokio::test]
async fn an_interrupted_start_is_not_sent_again() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let Created::New(stored) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    let id = stored.payout.id;
    database.starting(&engine, id).await;
    claim_and_die(&database, EffectKind::StartPayout).await;
    let (worker, peer) = taker(&database, &engine).await;
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "start_unknown"));
}

#[tokio::test]
async fn an_interrupted_confirm_or_cancel_is_not_sent_again() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (worker, peer) = taker(&database, &engine).await;
    let id = confirming(&database, &engine).await;
    claim_and_die(&database, EffectKind::Confirm).await;
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "confirm_unknown"));

    let id = database.processing(&engine, "user-2", 1).await[0];
    let event = Event::Command(Command::Cancel { by: "key-1".to_owned() });
    let cause = Cause::Command(crate::support::project());
    assert!(is_done(&engine.apply(vec![Envelope { payout: id, event, cause }]).await[0]));
    claim_and_die(&database, EffectKind::Cancel).await;
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "cancel_unknown"));
}

/// A look that waits on the database would end after the lease has. Then somebody else may hold the effect.
#[tokio::test]
async fn a_confirm_whose_permit_cannot_be_read_in_time_is_not_sent() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let id = confirming(&database, &engine).await;
    let (worker, peer) = taker(&database, &engine).await;
    let mut blocker = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE permits IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    // The lock is gone soon after the look has been given up: one with more patience would send the confirm.
    let let_go = async {
        until("the look waits", async || database.number(WAITING).await == 1).await;
        tokio::time::sleep(LOOK_WITHIN + Duration::from_millis(400)).await;
        blocker.rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(worker.run_once(), let_go);
    assert_eq!(done.unwrap(), 1);
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "confirming"));
    let given_back: bool = sqlx::query_scalar(
        "SELECT lease_until IS NULL AND not_sent = 1 AND run_at > clock_timestamp() FROM effects
         WHERE kind = 'confirm'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert!(given_back, "it is made again later");
    sqlx::query("UPDATE effects SET run_at = clock_timestamp()").execute(&database.pool).await.unwrap();
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!(peer.heard(), 1);
}

/// What may have been sent must not go back to those that were not.
#[tokio::test]
async fn an_interrupted_start_is_not_sent_again_after_a_stop_either() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let Created::New(stored) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    let id = stored.payout.id;
    database.starting(&engine, id).await;
    claim_and_die(&database, EffectKind::StartPayout).await;
    let (worker, peer) = taker(&database, &engine).await;
    assert_eq!(worker.start_some().await.unwrap(), 1);
    // Claimed, and not yet begun.
    worker.stop_claiming();
    worker.finish().await;
    assert_eq!((peer.heard(), database.state(id).await.as_str()), (0, "start_unknown"));
}

#[tokio::test]
async fn an_interrupted_create_is_repeated() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let (worker, peer) = taker(&database, &engine).await;
    engine.create(order("user-1")).await.unwrap();
    claim_and_die(&database, EffectKind::CreateSession).await;
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!(peer.heard(), 1, "it moves no money");
}

/// However much is due when everybody comes back, no more is claimed than can be under way.
#[tokio::test]
async fn no_more_is_claimed_than_there_are_slots() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    for _ in 0..5 {
        engine.create(order("user-1")).await.unwrap();
    }
    let never_ends = Conduct::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec());
    let (worker, peer) = worker(&database, &engine, never_ends, 2).await;
    assert_eq!(worker.start_some().await.unwrap(), 2);
    until("both calls are under way", async || peer.heard() == 2).await;
    let more = worker.start_some();
    assert!(std::pin::pin!(more).now_or_never().is_none(), "it waits for a slot");
    assert_eq!(database.number("SELECT count(*) FROM effects WHERE lease_until IS NOT NULL").await, 2);
}

/// A call that is handed over waits a moment for those under way; Pike being slow, it goes back unsent.
#[tokio::test]
async fn what_waits_too_long_for_a_slot_goes_back() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    let never_ends = Conduct::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec());
    let (worker, peer) = worker(&database, &engine, never_ends, 1).await;
    let callers: Arc<dyn Callers> = Arc::new(worker);
    let nobody: Weak<Nobody> = Weak::new();
    engine.hand_over_to(Hands { callers: Arc::downgrade(&callers), tellers: nobody });
    for _ in 0..3 {
        engine.create(order("user-1")).await.unwrap();
    }
    let claimed = "SELECT count(*) FROM effects WHERE lease_until IS NOT NULL";
    assert_eq!(database.number(claimed).await, 3, "one is called, two wait");
    until("the two to go back", async || database.number(claimed).await == 1).await;
    assert_eq!(peer.heard(), 1);
    let again = database.claim_effects(Duration::from_secs(60)).await;
    assert_eq!(again.iter().filter(|effect| !effect.interrupted).count(), 2, "known not to have been sent");
}

/// Whoever waits for a slot has it as soon as the call before has ended: nobody goes back meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slot_follows_at_once() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    // Nothing that would slow the pace, with which there are fewer places, and nothing to be called again.
    let declines = Conduct::Say(answer("400 Bad Request", DECLINED));
    let (worker, peer) = waiting_worker(&database, &engine, declines, (1, A_MINUTE), 0).await;
    let callers: Arc<dyn Callers> = Arc::new(worker);
    let nobody: Weak<Nobody> = Weak::new();
    engine.hand_over_to(Hands { callers: Arc::downgrade(&callers), tellers: nobody });
    let orders = (0..7).map(|_| engine.create(order("user-1")));
    assert!(futures_util::future::join_all(orders).await.iter().all(Result::is_ok));
    // Nothing polls here: what went back would not be called.
    until("all to be called", async || peer.heard() == 7).await;
}

/// However much is handed over: what waits in the database has its turn among it.
#[tokio::test]
async fn what_waits_in_the_database_is_not_starved_by_what_is_handed_over() {
    let database = Database::fresh().await;
    let engine = database.engine(rules(None)).await;
    // Nobody takes it over: it waits.
    let Created::New(old) = engine.create(order("user-1")).await.unwrap() else { panic!() };
    let refuses = Conduct::Say(answer("500 Internal Server Error", REFUSED));
    let (worker, _peer) = worker(&database, &engine, refuses, 1).await;
    let callers: Arc<dyn Callers> = Arc::new(worker.clone());
    let nobody: Weak<Nobody> = Weak::new();
    engine.hand_over_to(Hands { callers: Arc::downgrade(&callers), tellers: nobody });
    let orders = (0..6).map(|_| engine.create(order("user-1")));
    let (_, started) = tokio::join!(futures_util::future::join_all(orders), worker.start_some());
    assert_eq!(started.unwrap(), 1);
    let fence = "SELECT fence FROM effects WHERE payout_id = $1";
    let fence: i32 = sqlx::query_scalar(fence).bind(old.payout.id.0).fetch_one(&database.pool).await.unwrap();
    assert_eq!(fence, 1, "the oldest was claimed");
}

/// What has begun need not wait behind all that has not, unless Pike is called at a rate.
#[tokio::test]
async fn what_takes_a_payout_further_does_not_wait_behind_a_backlog() {
    for (calls_per_second, goes_ahead) in [(0, true), (1_000, false)] {
        let database = Database::fresh().await;
        let engine = database.engine(rules(None)).await;
        for _ in 0..3 {
            engine.create(order("user-1")).await.unwrap();
        }
        let declines = Conduct::Say(answer("400 Bad Request", DECLINED));
        let (worker, _peer) =
            waiting_worker(&database, &engine, declines, (1, A_MINUTE), calls_per_second).await;
        let may = |kind| worker.place(&project(), kind).is_some();
        assert!(may(EffectKind::CreateSession) && may(EffectKind::StartPayout), "nobody is known to wait");
        assert_eq!(worker.start_some().await.unwrap(), 1, "two are left");
        assert!(!may(EffectKind::CreateSession));
        for further in [EffectKind::StartPayout, EffectKind::Confirm, EffectKind::Cancel] {
            assert_eq!(may(further), goes_ahead, "{further:?} at {calls_per_second} a second");
        }
    }
}

/// Who delivers notifications when nobody does.
struct Nobody;

impl Tellers for Nobody {
    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn place(&self, _project: &ProjectId) -> Option<Place<notifications::Claimed>> {
        None
    }
}
