//! Migrating a database that is in use: building may take long, waiting for a lock may not.

use crate::support::{Database, until};
use payoutd::store::{
    migrate::{self, NotMigrated, Patience},
    pool::MIGRATIONS,
};
use sqlx::AssertSqlSafe;
use std::{cell::RefCell, time::Duration};

/// The last one before payouts are changed that are in use.
const BEFORE: i64 = 7;
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
/// Locks that somebody waits for, and those by which only one migrates at a time.
const IN_THE_WAY: &str = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND (NOT l.granted OR l.locktype = 'advisory')";

fn short(tries: u32) -> Patience {
    Patience { lock_timeout: Duration::from_millis(200), tries, pause: Duration::from_millis(50) }
}

async fn older() -> Database {
    let database = Database::empty().await;
    MIGRATIONS.run_to(BEFORE, &database.pool).await.unwrap();
    database
}

async fn version(database: &Database) -> i64 {
    database.number("SELECT max(version) FROM _sqlx_migrations").await
}

#[tokio::test]
async fn a_migration_may_take_long_and_waits_for_nobody_for_long() {
    let database = Database::empty().await;
    let hurried = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET statement_timeout = %L', current_database(), '5s');
        EXECUTE format('ALTER DATABASE %I SET lock_timeout = 0', current_database());
    END $$";
    sqlx::raw_sql(hurried).execute(&database.pool).await.unwrap();
    let mut connection = migrate::connect(&database.url, Patience::default().lock_timeout).await.unwrap();
    for (setting, wanted) in
        [("statement_timeout", "0"), ("lock_timeout", "2s"), ("synchronous_commit", "on")]
    {
        let asked = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
        let found: String = asked.fetch_one(&mut connection).await.unwrap();
        assert_eq!(found, wanted, "{setting}");
    }
}

/// Whoever reads payouts in a transaction that nobody ends.
#[tokio::test]
async fn a_migration_that_meets_a_lock_lets_go_and_says_who_holds_it() {
    let database = older().await;
    let mut holder = database.observer().await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM payouts").execute(&mut holder).await.unwrap();
    let told = RefCell::new(vec![]);
    let tell = |words: &str| told.borrow_mut().push(words.to_owned());
    let refused = migrate::run(&database.url, &short(3), tell).await;
    let Err(NotMigrated::Locked { waited, tries: 3 }) = &refused else { panic!("{refused:?}") };
    assert!(waited.starts_with("migration 8 waits for a lock"), "{waited}");
    assert!(waited.contains(&format!("pid {pid} ")), "{waited}");
    let told = told.into_inner();
    assert!(told.len() == 2 && told[0].ends_with("try 1 of 3"), "{told:?}");
    assert_eq!(version(&database).await, BEFORE);
    until("nobody is in anybody's way", async || database.number(IN_THE_WAY).await == 0).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    migrate::run(&database.url, &short(1), |words| panic!("{words}")).await.unwrap();
    assert!(version(&database).await > BEFORE);
}

#[tokio::test]
async fn a_lock_that_is_given_up_meanwhile_costs_a_try() {
    let database = older().await;
    let mut holder = database.observer().await;
    sqlx::raw_sql("BEGIN; SELECT FROM payouts").execute(&mut holder).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let url = database.url.clone();
    let migrating = tokio::spawn(async move {
        migrate::run(&url, &short(1_000), |words| tell.send(words.to_owned()).unwrap_or_default()).await
    });
    assert!(told.recv().await.unwrap().contains("migration 8"));
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    migrating.await.unwrap().unwrap();
}

#[tokio::test]
async fn of_two_who_migrate_one_says_that_it_waits_for_the_other() {
    let database = older().await;
    let mut holder = database.observer().await;
    sqlx::raw_sql("BEGIN; SELECT FROM payouts").execute(&mut holder).await.unwrap();
    let patient = Patience { lock_timeout: Duration::from_secs(600), ..short(1) };
    let url = database.url.clone();
    let first = tokio::spawn(async move { migrate::run(&url, &patient, |_| {}).await });
    // It has the lock by which only one migrates, and waits for another.
    until("the first waits", async || database.number(IN_THE_WAY).await == 2).await;
    let second = migrate::run(&database.url, &short(2), |_| {}).await.unwrap_err();
    assert!(second.to_string().starts_with("another migration is at work"), "{second}");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    first.await.unwrap().unwrap();
}

/// The statements of the migrations that build an index beside what is in use, as they are run by hand: of
/// those that no later migration drops.
fn by_hand() -> Vec<String> {
    let all = || MIGRATIONS.iter().map(|migration| migration.sql.as_str());
    let sql = all().flat_map(|sql| sql.split(';').map(str::to_owned));
    let dropped: Vec<&str> = all()
        .flat_map(|sql| sql.split(';'))
        .filter_map(|sql| sql.split("DROP INDEX ").nth(1))
        .flat_map(|names| names.split(", "))
        .collect();
    let code = |text: String| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
        lines.collect::<Vec<_>>().join(" ")
    };
    let built = sql.map(code).filter(|text| text.starts_with("CREATE INDEX IF NOT EXISTS"));
    let kept = built.filter(|text| !dropped.iter().any(|name| text.contains(&format!(" {name} "))));
    kept.map(|text| text.replacen("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)).collect()
}

#[tokio::test]
async fn what_the_runbook_builds_by_hand_is_what_migrating_finds() {
    let database = older().await;
    let statements = by_hand();
    assert_eq!(statements.len(), 4, "{statements:?}");
    let runbook = RUNBOOK.split_whitespace().collect::<Vec<_>>().join(" ");
    for statement in &statements {
        assert!(runbook.contains(&format!("{statement};")), "the runbook lacks: {statement}");
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut database.observer().await)
            .await
            .unwrap();
    }
    let by_hand = "SELECT sum(indexrelid::bigint)::bigint FROM pg_index
        WHERE indisvalid AND indexrelid::regclass::text IN
            ('payouts_flagged', 'payouts_open', 'payouts_paid', 'history_at')";
    let indexes = "SELECT indexrelid::bigint FROM pg_index
        WHERE indrelid IN ('payouts'::regclass, 'history'::regclass) AND indisvalid";
    let all = async || -> Vec<i64> { sqlx::query_scalar(indexes).fetch_all(&database.pool).await.unwrap() };
    let (found, before) = (database.number(by_hand).await, all().await);
    migrate::run(&database.url, &short(1), |words| panic!("{words}")).await.unwrap();
    assert_eq!(database.number(by_hand).await, found, "the same ones");
    assert!(all().await.iter().all(|index| before.contains(index)), "and no others");
}

/// As a build by hand leaves it that was given up.
#[tokio::test]
async fn an_index_that_is_not_valid_is_not_taken_for_one() {
    let database = older().await;
    let broken = "CREATE INDEX payouts_changed ON payouts (updated_at);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payouts_changed'::regclass";
    sqlx::raw_sql(broken).execute(&database.pool).await.unwrap();
    let refused = migrate::run(&database.url, &short(1), |words| panic!("{words}")).await.unwrap_err();
    assert!(refused.to_string().contains("DROP INDEX CONCURRENTLY payouts_changed"), "{refused}");
    assert_eq!(version(&database).await, BEFORE);
    sqlx::raw_sql("DROP INDEX CONCURRENTLY payouts_changed").execute(&database.pool).await.unwrap();
    migrate::run(&database.url, &short(1), |words| panic!("{words}")).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").await, 0);
}
