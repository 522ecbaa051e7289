//! What the oracle looks at, read after a run: the sandbox's ledger, and payoutd's database past payoutd.

use crate::{scene::Scene, support::ledger::Ledger};
use futures_util::{StreamExt, stream};
use payoutd::domain::id::PayoutId;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgExecutor};
use std::collections::{BTreeMap, BTreeSet};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A session as the sandbox booked it.
#[derive(Clone)]
pub struct Session {
    pub id: String,
    /// `<payout>/<attempt>`, once it was started.
    pub tag: Option<String>,
    pub line: Value,
    pub events: Vec<Value>,
}

#[derive(Clone)]
pub struct Evidence {
    pub sessions: Vec<Session>,
    pub totals: Value,
    /// Rows by payout, as callers name it.
    pub payouts: BTreeMap<String, Value>,
    pub permits: BTreeMap<String, Value>,
    pub history: BTreeMap<String, Vec<Value>>,
    pub notifications: Vec<Value>,
    /// Type and session of every webhook that was kept.
    pub inbox: BTreeSet<(String, String)>,
    /// In the order in which they took effect.
    pub switches: Vec<SwitchChange>,
}

/// By whom the audit says a switch was thrown that payoutd threw by itself. It only ever throws them off.
pub const AUTOMATIC: &str = "payoutd";

/// A row of the audit of switches.
#[derive(Clone, Debug)]
pub struct SwitchChange {
    pub reason: String,
    pub by: String,
    pub confirms: bool,
    /// When its transaction began: never after it took effect.
    pub at: OffsetDateTime,
}

impl Session {
    pub fn payout(&self) -> Option<&str> {
        self.tag.as_deref().and_then(|tag| tag.split_once('/')).map(|(payout, _)| payout)
    }

    pub fn count(&self, name: &str) -> u64 {
        self.line[name].as_u64().unwrap()
    }

    /// When calls of this method came, whatever became of them.
    pub fn calls(&self, method: &str) -> Vec<OffsetDateTime> {
        let is_it = |event: &&Value| event["event"]["request"]["method"] == method;
        self.events.iter().filter(is_it).map(|event| instant(&event["at"])).collect()
    }

    pub fn had_fault(&self, names: &[&str]) -> bool {
        let struck = self.events.iter().filter_map(|event| event["event"]["fault"]["fault"].as_str());
        struck.into_iter().any(|fault| names.contains(&fault))
    }

    /// Minor units that left (or came back), and how often.
    pub fn money(&self, direction: &str) -> Vec<i64> {
        let moved = self.events.iter().map(|event| &event["event"]["money"]);
        let moved = moved.filter(|money| money["direction"] == direction);
        moved
            .map(|money| money["amount"]["amount"].as_i64().or(money["amount"]["minor"].as_i64()))
            .map(|minor| minor.expect("money has an amount"))
            .collect()
    }

    /// Types of genuine webhooks that we answered with 200.
    pub fn acknowledged(&self) -> Vec<&str> {
        let webhooks = self.events.iter().map(|event| &event["event"]["webhook"]);
        let kept =
            webhooks.filter(|webhook| webhook["reception"]["http"] == 200 && webhook["forged"] != true);
        kept.map(|webhook| webhook["kind"].as_str().unwrap()).collect()
    }

    /// When the session last changed, as Pike knows it.
    pub fn changed_at(&self) -> Option<OffsetDateTime> {
        let last = self.events.iter().rfind(|event| event["event"]["change"].is_object());
        last.map(|event| instant(&event["at"]))
    }
}

pub fn instant(text: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(text.as_str().expect("an instant is text"), &Rfc3339).expect("RFC 3339")
}

impl Evidence {
    pub async fn gather(scene: &Scene) -> Self {
        let ledger = Ledger::read_by(&scene.http, &scene.sandbox).await;
        let sessions = stream::iter(ledger.sessions().clone())
            .map(|line| session(scene, line))
            .buffer_unordered(8)
            .collect()
            .await;
        // One snapshot: what waits for a person is still asked about while we look.
        let mut tx = scene.pool.begin().await.unwrap();
        let snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        tx.execute(snapshot).await.unwrap();
        let db = &mut *tx;
        let permits = rows(
            &mut *db,
            "SELECT payout_id, kind, encode(bound_to, 'hex') AS bound_to, rule_set, amount_minor, currency,
                to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS decided_at
             FROM permits",
        )
        .await;
        let history = rows(
            &mut *db,
            "SELECT payout_id, seq, event, decision, reason, from_state, to_state, detail,
                to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS at
             FROM history ORDER BY payout_id, seq",
        )
        .await;
        let inbox = rows(
            &mut *db,
            "SELECT convert_from(body, 'UTF8')::jsonb->>'type' AS type,
                convert_from(body, 'UTF8')::jsonb->'session'->>'id' AS session FROM inbox",
        )
        .await;
        let payouts = rows(
            &mut *db,
            "SELECT id AS payout_id, state, status, version, amount_minor, currency, session_id, permit_kind,
                encode(permit_hash, 'hex') AS permit_hash, anomaly,
                next_check_at IS NOT NULL AND state <> 'succeeded' AS due,
                destination_secret IS NOT NULL AS has_secret, customer_reference FROM payouts",
        )
        .await;
        let told = rows(
            &mut *db,
            "SELECT id, payout_id, seq, kind, payload, due_at, delivered_at FROM notifications",
        )
        .await;
        let sql = "SELECT reason, confirms, changed_by, changed_at FROM switch_changes ORDER BY id";
        let switches = rows(&mut *db, sql).await;
        let mut by_payout: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for row in history {
            by_payout.entry(payout_of(&row)).or_default().push(row);
        }
        Self {
            sessions,
            totals: ledger.0["totals"].clone(),
            payouts: payouts.into_iter().map(|row| (payout_of(&row), row)).collect(),
            permits: permits.into_iter().map(|row| (payout_of(&row), row)).collect(),
            history: by_payout,
            notifications: told,
            inbox: inbox.iter().map(|row| (text(row, "type"), text(row, "session"))).collect(),
            switches: switches.iter().map(switch_change).collect(),
        }
    }

    /// The sessions that were started for a payout.
    pub fn started<'a>(&'a self, payout: &'a str) -> impl Iterator<Item = &'a Session> {
        self.sessions.iter().filter(move |session| session.payout() == Some(payout))
    }

    pub fn story(&self, payout: &str) -> String {
        let lines = self.history.get(payout).into_iter().flatten();
        let lines = lines.map(|row| {
            format!(
                "\n    {} {} {} {} {}",
                row["at"], row["event"], row["reason"], row["to_state"], row["detail"]
            )
        });
        let sessions = self.started(payout).flat_map(|session| &session.events);
        let events = sessions.map(|event| format!("\n    {} {}", event["at"], event["event"]));
        format!("\n  ours:{}\n  Pike's:{}", lines.collect::<String>(), events.collect::<String>())
    }
}

/// The payout of a row, as callers name it.
pub fn payout_of(row: &Value) -> String {
    PayoutId(row["payout_id"].as_str().unwrap().parse().unwrap()).to_string()
}

async fn session(scene: &Scene, line: Value) -> Session {
    let id = line["id"].as_str().unwrap().to_owned();
    let url = format!("{}/_sandbox/ledger/events?session={id}", scene.sandbox);
    let answer = scene.http.get(url).send().await.unwrap().bytes().await.unwrap();
    let page: Value = serde_json::from_slice(&answer).unwrap();
    let tag = line["metadata"].as_str().map(str::to_owned);
    Session { id, tag, line, events: page["events"].as_array().unwrap().clone() }
}

/// The rows of a query, as JSON.
pub async fn rows(db: impl PgExecutor<'_>, sql: &str) -> Vec<Value> {
    let sql = format!("SELECT to_jsonb(row)::text FROM ({sql}) row");
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(db).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn switch_change(row: &Value) -> SwitchChange {
    SwitchChange {
        reason: text(row, "reason"),
        by: text(row, "changed_by"),
        confirms: row["confirms"] == true,
        at: instant(&row["changed_at"]),
    }
}
