//! Whose turn it is to check: one process at a time, never for ever, and whoever comes too late writes
//! nothing.

use crate::{
    lies::{TAG, webhook},
    support::{database::Database, rest::order, until},
    world::World,
};
use payoutd::{
    config,
    domain::{
        checking::{Check, Finding, Newest, Told},
        id::{ProjectId, SessionId},
        policy::Mode,
    },
    engine::{Core, Engine, EngineError, Remembered, Sessions, Wake},
    store::{
        StoreError,
        encoding::Code,
        findings::{Looked, Turn, end_turn, hold_turn, keep_turn, take_turn},
        pool,
        told::{NewTold, add},
    },
    worker::checker::{Checker, CheckerSettings},
};
use sqlx::{AssertSqlSafe, PgPool};
use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(60);

/// A world whose own checker is out of the way.
async fn stopped() -> World {
    let mut world = World::open().await;
    world.caller().run(&order("tok_success"), "succeeded").await;
    world.stop().await;
    world
}

fn engine(world: &World, pool: PgPool) -> Engine {
    let config = world.config();
    let (rules, _) = config::rules::load(&config.rules.file).unwrap();
    Engine::start(Core {
        pool,
        policy: config.policy(),
        rules,
        stop_line: config.stop_line(),
        mode: Mode::default(),
        wake: Wake::default(),
        hands: std::sync::OnceLock::default(),
        sessions: Sessions::default(),
        remembered: Remembered::default(),
    })
}

async fn due(world: &World) {
    let due = "UPDATE checker SET due_at = now(), lease_until = NULL";
    sqlx::query(due).execute(&world.pool).await.unwrap();
}

/// Whoever has the turn keeps it until it ends or runs out; then the next goes on where it got to.
#[tokio::test]
async fn one_looks_at_a_time() {
    let db = Database::new().await;
    let pool = db.pool();
    let mut tx = pool.acquire().await.unwrap();
    let (now, lease) = (Duration::ZERO, LEASE);
    let mut first = take_turn(&mut tx, now, lease).await.unwrap().unwrap();
    assert!(take_turn(&mut tx, now, lease).await.unwrap().is_none(), "it is taken");
    first.inbox_after = 17;
    let elsewhere = Turn { server: "another one".to_owned(), ..first.clone() };
    assert!(!keep_turn(&mut tx, &elsewhere, lease).await.unwrap(), "a turn ends with its server");
    assert!(!hold_turn(&mut tx, &elsewhere).await.unwrap());
    assert!(keep_turn(&mut tx, &first, Duration::ZERO).await.unwrap());
    let second = until("the lease to end", || async {
        let mut tx = pool.acquire().await.unwrap();
        take_turn(&mut tx, Duration::from_secs(600), lease).await.unwrap()
    })
    .await;
    assert_eq!(second.inbox_after, 17);
    assert!(!keep_turn(&mut tx, &first, lease).await.unwrap(), "a frozen one finds its turn taken");
    end_turn(&mut tx, &second).await.unwrap();
    assert!(take_turn(&mut tx, now, lease).await.unwrap().is_none(), "not due yet");
}

/// One that was frozen wakes up, and somebody else has the turn: what it has found may no longer be so.
#[tokio::test]
async fn a_frozen_one_keeps_nothing() {
    let world = stopped().await;
    let engine = engine(&world, world.pool.clone());
    let take = || async {
        due(&world).await;
        let mut db = world.pool.acquire().await.unwrap();
        take_turn(&mut db, Duration::from_secs(600), LEASE).await.unwrap().unwrap()
    };
    let (first, second) = (take().await, take().await);
    let found = [Finding {
        check: Check::PaidForNobody,
        project: ProjectId("shop".to_owned()),
        payout: None,
        subject: "ps_1".to_owned(),
        words: String::new(),
    }];
    let looked = Looked::Checks(&["paid_for_nobody"]);
    let worse = [Finding { check: Check::EffectUnpermitted, ..found[0].clone() }];
    for found in [&found, &worse] {
        assert!(!engine.keep_findings(&first, found, looked).await.unwrap());
    }
    let open = "SELECT count(*) FROM findings WHERE gone_at IS NULL";
    let thrown = "SELECT count(*) FROM switch_changes";
    assert_eq!((world.count(open).await, world.count(thrown).await), (0, 0));
    assert!(!hold_turn(&mut world.pool.acquire().await.unwrap(), &first).await.unwrap());
    for found in [&found, &worse] {
        assert!(engine.keep_findings(&second, found, Looked::Checks(&[])).await.unwrap());
    }
    assert_eq!((world.count(open).await, world.count(thrown).await), (2, 1));
    // Nor does it forget.
    assert!(!engine.keep_findings(&first, &[], looked).await.unwrap());
    assert_eq!(world.count(open).await, 2);
    assert!(engine.keep_findings(&second, &[], looked).await.unwrap());
    assert_eq!(world.count(open).await, 1);
}

/// Passes bytes on until the client's `left` writes are used up. Then neither side hears of the other any
/// more, not even that it is gone.
async fn line(target: SocketAddr, left: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(left));
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = TcpStream::connect(target).await.unwrap().into_split();
            tokio::spawn(pass_on(near_in, far_out, Arc::clone(&left), 1));
            tokio::spawn(pass_on(far_in, near_out, Arc::clone(&left), 0));
        }
    });
    addr
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: Arc<AtomicUsize>, costs: usize) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let spend = |left: usize| left.checked_sub(costs).filter(|_| left > 0);
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A router on the way has forgotten the connection: neither an answer nor an error will ever come.
#[tokio::test]
async fn a_silent_connection_does_not_keep_it_for_ever() {
    let world = stopped().await;
    let mut url = reqwest::Url::parse(world.db.url()).unwrap();
    let target = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    let mut silent = 0;
    // While webhooks are read, and while payouts are looked at. One in a row may be what the pool asks.
    for left in [20, 60, 61] {
        let door = line(target, left).await;
        url.set_port(Some(door.port())).unwrap();
        let pool = pool::connect(url.as_str(), 1).await.unwrap();
        let settings = CheckerSettings { every: LEASE, patience: LEASE, sweep: 100 };
        let checker = Checker::new(pool.clone(), engine(&world, pool), settings, CancellationToken::new());
        due(&world).await;
        let turn = tokio::spawn(async move { checker.run_once().await });
        let ended = tokio::time::timeout(LEASE, turn).await.expect("it waits for ever").unwrap();
        let Err(EngineError::Store(error)) = ended else { panic!("{left}: {ended:?}") };
        silent += usize::from(matches!(*error, StoreError::Silent(_)));
    }
    assert!(silent > 0, "no wait of the checker's own was met");
}

/// A webhook whose number is below that of one which was heard already.
#[tokio::test]
async fn what_is_committed_late_is_heard_in_the_next_turn() {
    let world = stopped().await;
    let settings = CheckerSettings { every: LEASE, patience: LEASE, sweep: 0 };
    let engine = engine(&world, world.pool.clone());
    let checker = Checker::new(world.pool.clone(), engine, settings, CancellationToken::new());
    let turn = async || {
        due(&world).await;
        assert!(checker.run_once().await.unwrap(), "ours to the end");
    };
    turn().await;
    let lie = webhook("'ps_second'", "accepted", "succeeded", "p.amount_minor", TAG);
    let late = lie.rsplit(';').next().unwrap();
    let mut tx = world.pool.begin().await.unwrap();
    let one = "CREATE TEMP TABLE one ON COMMIT DROP AS SELECT id FROM payouts";
    for sql in [one, late] {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await.unwrap();
    }
    let other = "INSERT INTO inbox (project_id, body_hash, body, done_at, outcome)
        VALUES ('shop', '\\x00', '{}', now(), 'unreadable')";
    sqlx::query(other).execute(&world.pool).await.unwrap();
    for _ in 0..2 {
        turn().await;
    }
    let found = "SELECT count(*) FROM findings WHERE check_name = 'paid_twice'";
    assert_eq!(world.count(found).await, 0);
    tx.commit().await.unwrap();
    let settled = "SELECT inbox_after FROM checker";
    assert!(
        world.count(settled).await < world.count("SELECT max(id) - 1 FROM inbox").await,
        "or it shows nothing"
    );
    turn().await;
    assert_eq!(world.count(found).await, 1);
}

/// Whoever is next need not wait for the lease of a process that stops in the middle of its turn.
#[tokio::test]
async fn a_process_that_stops_leaves_its_turn() {
    let world = stopped().await;
    due(&world).await;
    sqlx::query("UPDATE checker SET finished_at = NULL").execute(&world.pool).await.unwrap();
    let checker = |stop: CancellationToken| {
        let settings = CheckerSettings { every: LEASE, patience: LEASE, sweep: 100 };
        Checker::new(world.pool.clone(), engine(&world, world.pool.clone()), settings, stop)
    };
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!checker(stop).run_once().await.unwrap(), "not to the end");
    let left = "SELECT count(*) FROM checker
        WHERE lease_until IS NULL AND due_at > now() AND finished_at IS NULL";
    assert_eq!(world.count(left).await, 1);
    sqlx::query("UPDATE checker SET due_at = now()").execute(&world.pool).await.unwrap();
    assert!(checker(CancellationToken::new()).run_once().await.unwrap(), "free");
    assert_eq!(world.count("SELECT count(*) FROM checker WHERE finished_at IS NOT NULL").await, 1);
}

/// What is known must not stay open because something else cannot be asked about.
#[tokio::test]
async fn known_findings_come_first_and_one_that_fails_stops_no_other() {
    let world = World::with(|setup| {
        setup.set("checker.every", "1s");
        setup.set("checker.sweep", "0");
    })
    .await;
    let id = world.caller().run(&order("tok_success"), "succeeded").await["id"].as_str().unwrap().to_owned();
    for aged in [
        "UPDATE inbox SET received_at = now() - interval '1 hour'",
        "ALTER TABLE history DISABLE TRIGGER USER",
        "UPDATE history SET at = now() - interval '1 hour'",
        "ALTER TABLE history ENABLE TRIGGER USER",
    ] {
        sqlx::query(aged).execute(&world.pool).await.unwrap();
    }
    let heard = "SELECT count(*) FROM checker WHERE inbox_after = (SELECT max(id) FROM inbox)
        AND lease_until IS NULL";
    until("the webhooks to be read", || async { (world.count(heard).await == 1).then_some(()) }).await;
    // Nobody can ask about effects now.
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE effects").execute(&mut *lock).await.unwrap();
    sqlx::query(
        "INSERT INTO findings (check_name, subject, payout_id, project_id, words, seen_at)
         SELECT name, $1, CASE name WHEN 'history_gap' THEN id END, 'shop', '', now() - interval '1 hour'
         FROM payouts, unnest('{history_gap,notification_waiting}'::text[]) AS name",
    )
    .bind(&id)
    .execute(&world.pool)
    .await
    .unwrap();
    due(&world).await;
    let open = "SELECT count(*) FROM findings WHERE gone_at IS NULL";
    until("what is right again to be gone", || async { (world.count(open).await == 0).then_some(()) }).await;
    lock.rollback().await.unwrap();
}

/// Pike's clock is coarse and its webhooks come in any order: what is newest does not depend on that.
#[tokio::test]
async fn of_one_instant_the_further_fact_is_the_newest() {
    let db = Database::new().await;
    let mut tx = db.pool().begin().await.unwrap();
    let at = time::OffsetDateTime::UNIX_EPOCH;
    let told = |session: &str, newest| NewTold {
        project: ProjectId("shop".to_owned()),
        session: SessionId(session.to_owned()),
        told: Told {
            tag: None,
            names: None,
            payouts: 1,
            amount_minor: Some(1),
            currency: None,
            newest,
            paid_payouts: 0,
            paid_minor: 0,
        },
        at,
        inbox_id: 1,
        received_at: at,
    };
    for (n, less) in Newest::IN_ORDER.into_iter().enumerate() {
        for more in Newest::IN_ORDER.into_iter().skip(n + 1) {
            for (session, order) in [("ps_up", [less, more]), ("ps_down", [more, less])] {
                sqlx::query("DELETE FROM told_sessions").execute(&mut *tx).await.unwrap();
                add(&mut tx, &order.map(|newest| told(session, newest))).await.unwrap();
                let newest: String =
                    sqlx::query_scalar("SELECT newest FROM told_sessions").fetch_one(&mut *tx).await.unwrap();
                assert_eq!(newest, more.code(), "{order:?}");
            }
        }
    }
    // A later one is newer, whatever it is.
    let later = at + time::Duration::SECOND;
    add(&mut tx, &[NewTold { at: later, ..told("ps_down", Newest::Error) }]).await.unwrap();
    let newest: String =
        sqlx::query_scalar("SELECT newest FROM told_sessions").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(newest, "error");
}
