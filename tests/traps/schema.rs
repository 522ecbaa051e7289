//! The last line of defence: what no code of ours may write, the database refuses, by a constraint's name.

use crate::support::{Database, rules};
use payoutd::domain::id::PayoutId;

const PERMIT: &str = "INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
    customer_reference, currency, amount_minor)
    SELECT id, 'confirm', '', 'by hand', now(), project_id, customer_reference, currency, amount_minor
    FROM payouts WHERE id = $1";
const CANCEL_PERMIT: &str =
    "INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
    customer_reference, currency, amount_minor)
    SELECT id, 'cancel', '', 'by hand', now(), project_id, customer_reference, currency, amount_minor
    FROM payouts WHERE id = $1";

/// What must fail, and what it must fail by.
const FORBIDDEN: [(&str, &str); 13] = [
    (
        "INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'confirm', 'confirm')",
        "effects_permit",
    ),
    ("INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'cancel', 'cancel')", "effects_permit"),
    ("INSERT INTO effects (payout_id, kind) VALUES ($1, 'confirm')", "effects_confirm_needs_permit"),
    (
        "INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'confirm', 'cancel')",
        "effects_confirm_needs_permit",
    ),
    ("UPDATE payouts SET next_check_at = NULL WHERE id = $1", "payouts_never_stuck"),
    ("UPDATE payouts SET state = 'confirming' WHERE id = $1", "payouts_confirm_permitted"),
    (
        "UPDATE payouts SET state = 'cancelling', cancel_cause = 'rules' WHERE id = $1",
        "payouts_cancel_permitted",
    ),
    ("UPDATE payouts SET amount_minor = 0 WHERE id = $1", "payouts_amount_positive"),
    ("UPDATE payouts SET state = 'retrying', failure_code = 'x' WHERE id = $1", "payouts_retry_has_time"),
    ("UPDATE payouts SET state = 'retrying', retry_at = now() WHERE id = $1", "payouts_failed_has_code"),
    (
        "INSERT INTO past_permits (payout_id, attempt, kind, bound_to, rule_set, decided_at)
         VALUES ($1, 1, 'confirm', '', 'by hand', now())",
        "past_permits_attempt",
    ),
    (
        "INSERT INTO attempts (payout_id, attempt, session_id, ended_as) VALUES ($1, 1, 'ps_1', 'somehow')",
        "attempts_ended_as_known",
    ),
    ("UPDATE payouts SET state = 'thinking' WHERE id = $1", "payouts_state_known"),
];

async fn refusal(database: &Database, sql: &'static str, id: PayoutId) -> sqlx::Error {
    database.run(sql, id).await.expect_err(sql)
}

fn constraint(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.constraint()).map(str::to_owned)
}

#[tokio::test]
async fn what_must_never_be_is_refused_by_name() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    for (sql, name) in FORBIDDEN {
        let error = refusal(&database, sql, id).await;
        assert_eq!(constraint(&error).as_deref(), Some(name), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_payout_has_one_permit_of_one_kind() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    database.run(PERMIT, id).await.unwrap();
    for second in [PERMIT, CANCEL_PERMIT] {
        let error = refusal(&database, second, id).await;
        assert_eq!(constraint(&error).as_deref(), Some("permits_pkey"), "{error}");
    }
    // With its permit, and only with it, the effect may be.
    let cancel = "INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'cancel', 'cancel')";
    let error = refusal(&database, cancel, id).await;
    assert_eq!(constraint(&error).as_deref(), Some("effects_permit"), "{error}");
    let confirm = "INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'confirm', 'confirm')";
    database.run(confirm, id).await.unwrap();
    let error = refusal(&database, confirm, id).await;
    assert_eq!(constraint(&error).as_deref(), Some("effects_one_live_of_a_kind"), "{error}");
    // A permit that is acted on cannot be taken away or turned into its opposite.
    for sql in [
        "DELETE FROM permits WHERE payout_id = $1",
        "UPDATE permits SET kind = 'cancel' WHERE payout_id = $1",
    ] {
        let error = refusal(&database, sql, id).await;
        assert_eq!(constraint(&error).as_deref(), Some("effects_permit"), "{error}");
    }
}

#[tokio::test]
async fn history_is_only_added_to() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    let before = database.story(id).await;
    for sql in [
        "UPDATE history SET reason = 'another' WHERE payout_id = $1",
        "DELETE FROM history WHERE payout_id = $1",
    ] {
        let error = refusal(&database, sql, id).await;
        assert!(error.to_string().contains("history is append-only"), "{error}");
    }
    assert_eq!(database.story(id).await, before);
}

/// Ids are made for ever: what fits into 32 bits runs out one day.
#[tokio::test]
async fn every_number_that_names_a_row_is_wide() {
    let database = Database::fresh().await;
    let names = "FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%'
          AND (is_identity = 'YES' OR column_default LIKE 'nextval%'
            OR column_name IN ('id', 'seq', 'version') OR column_name LIKE '%\\_id')";
    let count = async |types: &str| -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) {names} AND data_type IN ({types})"));
        sqlx::query_scalar(sql).fetch_one(&database.pool).await.unwrap()
    };
    assert_eq!(count("'integer', 'smallint'").await, 0);
    assert!(count("'bigint', 'uuid'").await > 10, "the columns were not found");
}

/// A past permit gives no right to anything.
#[tokio::test]
async fn a_confirm_stands_on_the_present_attempts_permit_alone() {
    let database = Database::fresh().await;
    let id = database.processing(&database.engine(rules(None)).await, "user-1", 1).await[0];
    let past = "INSERT INTO attempts (payout_id, attempt, session_id, ended_as)
                VALUES ($1, 1, 'ps_old', 'unpaid')";
    database.run(past, id).await.unwrap();
    let permit = "INSERT INTO past_permits (payout_id, attempt, kind, bound_to, rule_set, decided_at)
                  VALUES ($1, 1, 'confirm', '', 'by hand', now())";
    database.run(permit, id).await.unwrap();
    let confirm = "INSERT INTO effects (payout_id, kind, permit_kind) VALUES ($1, 'confirm', 'confirm')";
    let error = refusal(&database, confirm, id).await;
    assert_eq!(constraint(&error).as_deref(), Some("effects_permit"), "{error}");
    // One session, one attempt; and a permit that is acted on is not made history.
    for sql in [
        "INSERT INTO attempts (payout_id, attempt, session_id, ended_as) VALUES ($1, 2, 'ps_old', 'unpaid')",
        "INSERT INTO attempts (payout_id, attempt, session_id, ended_as) VALUES ($1, 1, 'ps_new', 'unpaid')",
    ] {
        refusal(&database, sql, id).await;
    }
}

/// The tables whose rows change and that have many, each with how many may be dead before they are cleaned
/// up. A share, as is Postgres' default, would be millions some day.
const BY_NUMBER: [(&str, u32); 5] = [
    ("effects", 5_000),
    ("inbox", 20_000),
    ("notifications", 20_000),
    ("payouts", 20_000),
    ("told_sessions", 20_000),
];
/// Only added to, but for what is rare: a permit that is decided again, the report of a day that is read
/// again.
const ADDED_TO: [&str; 8] = [
    "anomalies",
    "attempts",
    "decisions",
    "history",
    "past_permits",
    "permits",
    "recipients",
    "report_lines",
];
/// Few rows: one for whatever is configured, for a day, or for what is wrong.
const FEW: [&str; 9] = [
    "_sqlx_migrations",
    "api_keys",
    "checker",
    "environment",
    "findings",
    "reports",
    "rule_sets",
    "switch_changes",
    "switches",
];

#[tokio::test]
async fn dead_rows_are_cleaned_up_by_their_number() {
    let database = Database::fresh().await;
    let options = "SELECT relname::text, coalesce(array_to_string(reloptions, ', '), '')
        FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables: Vec<(String, String)> = sqlx::query_as(options).fetch_all(&database.pool).await.unwrap();
    assert_eq!(tables.len(), BY_NUMBER.len() + ADDED_TO.len() + FEW.len(), "{tables:?}");
    for (table, options) in &tables {
        let table = table.as_str();
        match BY_NUMBER.iter().find(|(name, _)| *name == table) {
            Some((_, number)) => {
                let wanted = ["scale_factor=0".to_owned(), format!("threshold={number}")]
                    .map(|it| format!("autovacuum_vacuum_{it}"));
                assert!(
                    wanted.iter().all(|one| options.split(", ").any(|it| it == one)),
                    "{table}: {options}"
                );
            }
            None => assert!(
                ADDED_TO.iter().chain(&FEW).any(|name| *name == table),
                "{table}: do its rows change, and are there many?"
            ),
        }
    }
}
