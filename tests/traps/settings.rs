//! What every connection is like before money depends on it, whatever somebody set "for speed".

use crate::support::{Database, order, rules};
use payoutd::{
    domain::environment::Environment,
    store::pool::{self, NotFit},
};
use sqlx::PgPool;

/// As an administrator may do: later connections no longer wait for the disk.
const HURRY: &str = "DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
    EXECUTE format('ALTER DATABASE %I SET lock_timeout = 0', current_database());
END $$";

async fn hurried() -> Database {
    let database = Database::fresh().await;
    sqlx::raw_sql(HURRY).execute(&database.pool).await.unwrap();
    database
}

#[tokio::test]
async fn every_connection_has_the_settings_that_the_promises_rely_on() {
    let database = hurried().await;
    let pool = pool::connect(&database.url, 1).await.unwrap();
    for (setting, wanted) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ] {
        let found: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&pool).await.unwrap();
        assert_eq!(found, wanted, "{setting}");
    }
    pool::check(&pool).await.unwrap();
}

#[tokio::test]
async fn a_database_that_may_lose_what_it_acknowledged_is_refused() {
    let database = hurried().await;
    let plain = PgPool::connect(&database.url).await.unwrap();
    let refused = pool::check(&plain).await.unwrap_err();
    let NotFit::Setting { setting: "synchronous_commit", found, .. } = &refused else { panic!("{refused}") };
    assert_eq!(found, "off");
}

/// Rows, sessions and API keys of one of Pike's environments mean nothing in another.
#[tokio::test]
async fn a_database_with_payouts_belongs_to_one_environment() {
    use Environment::{Demo, Elsewhere, Live};
    let database = Database::fresh().await;
    for tried in [Demo, Live, Live] {
        pool::check_environment(&database.pool, tried).await.expect("it is empty");
    }
    database.engine(rules(None)).await.create(order("user-1")).await.unwrap();
    for other in [Demo, Elsewhere] {
        let refused = pool::check_environment(&database.pool, other).await.unwrap_err();
        assert!(matches!(&refused, NotFit::Environment { found, .. } if found == "live"), "{refused}");
    }
    pool::check_environment(&database.pool, Live).await.expect("it is the one");
}
