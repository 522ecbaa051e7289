//! The table `payouts`: inserting orders, locking and rewriting what moves, reading for callers.

pub(super) mod inserted;
mod rows;
pub(super) mod state_columns;

use super::{StoreError, attempts, effects::EffectClaim, encoding::Code, steps::Writer};
use crate::domain::{
    id::{PayoutId, ProjectId, SessionId},
    payout::{Order, Payout},
    state::Status,
};
pub(super) use rows::{PayoutRow, columns};
use sqlx::PgConnection;
pub use state_columns::name as state_name;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use uuid::Uuid;

/// The stored names of the states that are not final.
pub const UNFINISHED: [&str; 13] = [
    "accepted",
    "starting",
    "start_unknown",
    "processing",
    "on_hold",
    "confirming",
    "confirm_unknown",
    "settling",
    "cancelling",
    "cancel_unknown",
    "cancel_sent",
    "unknown",
    "retrying",
];

/// A payout to be stored, with what only the store needs to know. No `Debug`: it carries a secret and a name.
#[derive(Clone)]
pub struct NewPayout {
    pub id: PayoutId,
    pub project: ProjectId,
    pub order: Order,
    /// The token or hash; erased once the payout is final.
    pub destination_secret: String,
    pub idempotency_key: String,
    /// SHA-256 of the request as understood.
    pub request_fingerprint: [u8; 32],
    /// The caller's metadata as a JSON object.
    pub metadata: String,
}

/// A payout as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub payout: Payout,
    pub metadata: String,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub next_check_at: Option<OffsetDateTime>,
}

/// A payout's idempotency identity.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    pub id: PayoutId,
    pub project: ProjectId,
    pub idempotency_key: String,
    pub reference: Option<String>,
    pub request_fingerprint: Vec<u8>,
}

/// Who holds these idempotency keys or references.
///
/// # Errors
/// Database errors only.
pub async fn key_holders(tx: &mut PgConnection, new: &[&NewPayout]) -> Result<Vec<KeyHolder>, StoreError> {
    let projects: Vec<&str> = new.iter().map(|new| new.project.0.as_str()).collect();
    let keys: Vec<&str> = new.iter().map(|new| new.idempotency_key.as_str()).collect();
    let references: Vec<Option<&str>> = new.iter().map(|new| new.order.reference.as_deref()).collect();
    let rows: Vec<(Uuid, String, String, Option<String>, Vec<u8>)> = sqlx::query_as(
        "SELECT p.id, p.project_id, p.idempotency_key, p.reference, p.request_fingerprint
         FROM unnest($1::text[], $2::text[]) AS n(project_id, idempotency_key)
         JOIN payouts p ON p.project_id = n.project_id AND p.idempotency_key = n.idempotency_key
         UNION
         SELECT p.id, p.project_id, p.idempotency_key, p.reference, p.request_fingerprint
         FROM unnest($1::text[], $3::text[]) AS n(project_id, reference)
         JOIN payouts p ON p.project_id = n.project_id AND p.reference = n.reference",
    )
    .bind(projects)
    .bind(keys)
    .bind(references)
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, project, idempotency_key, reference, request_fingerprint)| KeyHolder {
            id: PayoutId(id),
            project: ProjectId(project),
            idempotency_key,
            reference,
            request_fingerprint,
        })
        .collect())
}

/// Locks these payouts, whole, in id order so that two batches cannot wait for each other in a circle.
///
/// # Errors
/// Database errors, or a row that no code of ours could have written.
pub async fn lock(tx: &mut PgConnection, ids: &[PayoutId]) -> Result<Vec<Stored>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<PayoutRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM payouts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
    ))
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let mut stored: Vec<Stored> = rows.into_iter().map(PayoutRow::into_stored).collect::<Result<_, _>>()?;
    attempts::fill_in(tx, &mut stored).await?;
    Ok(stored)
}

/// Reads these payouts without locking them and without their past attempts.
///
/// # Errors
/// Database errors, or an impossible row.
pub async fn read(db: &mut PgConnection, ids: &[PayoutId]) -> Result<Vec<Stored>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    // Each by its key, however small the planner takes the table for.
    let rows: Vec<PayoutRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM unnest($1::uuid[]) AS asked(wanted)
          CROSS JOIN LATERAL (SELECT * FROM payouts WHERE id = asked.wanted OFFSET 0) p"
    ))
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(PayoutRow::into_stored).collect()
}

/// A payout as it was read, for whoever decides upon it and says so.
pub struct AsItIs {
    pub stored: Stored,
    pub by: Writer,
    /// The calls for it that are open.
    pub open: Vec<EffectClaim>,
    /// When it was read, by the database's clock.
    pub now: OffsetDateTime,
}

#[derive(sqlx::FromRow)]
struct AsItIsRow {
    #[sqlx(flatten)]
    row: PayoutRow,
    written_by: i64,
    effects: Option<Vec<i64>>,
    fences: Option<Vec<i32>>,
    read_at: OffsetDateTime,
}

/// Reads these payouts without locking them and without their past attempts.
///
/// # Errors
/// Database errors, or an impossible row.
pub async fn as_they_are(db: &mut PgConnection, ids: &BTreeSet<PayoutId>) -> Result<Vec<AsItIs>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<AsItIsRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        ", payouts.xmin::text::bigint AS written_by,
         effects, fences, clock_timestamp() AS read_at
         FROM payouts LEFT JOIN LATERAL (
            SELECT array_agg(e.id) AS effects, array_agg(e.fence) AS fences
            FROM effects e WHERE e.payout_id = payouts.id) AS open ON true
         WHERE id = ANY($1)"
    ))
    .bind(ids)
    .fetch_all(db)
    .await?;
    let as_it_is = |read: AsItIsRow| {
        let claims = read.effects.unwrap_or_default().into_iter().zip(read.fences.unwrap_or_default());
        Ok(AsItIs {
            stored: read.row.into_stored()?,
            by: Writer::read(read.written_by),
            open: claims.map(|(id, fence)| EffectClaim { id, fence }).collect(),
            now: read.read_at,
        })
    };
    rows.into_iter().map(as_it_is).collect()
}

/// One payout of a project.
///
/// # Errors
/// Database errors, or an impossible row.
pub async fn get(
    db: &mut PgConnection,
    project: &ProjectId,
    id: PayoutId,
) -> Result<Option<Stored>, StoreError> {
    let row: Option<PayoutRow> =
        sqlx::query_as(concat!("SELECT ", columns!(), " FROM payouts WHERE id = $1 AND project_id = $2"))
            .bind(id.0)
            .bind(&project.0)
            .fetch_optional(db)
            .await?;
    row.map(PayoutRow::into_stored).transpose()
}

/// Which payouts to list. Everything is optional but the project and the page size.
#[derive(Clone, Debug)]
pub struct Filter {
    pub project: ProjectId,
    pub statuses: Vec<Status>,
    pub reference: Option<String>,
    pub created_from: Option<OffsetDateTime>,
    pub created_before: Option<OffsetDateTime>,
    /// Only payouts older than this one: where the previous page ended.
    pub before: Option<PayoutId>,
    pub limit: i64,
}

/// The newest payouts that match, newest first.
///
/// # Errors
/// Database errors, or an impossible row.
pub async fn list(db: &mut PgConnection, filter: &Filter) -> Result<Vec<Stored>, StoreError> {
    let statuses: Vec<&str> = filter.statuses.iter().map(Code::code).collect();
    let rows: Vec<PayoutRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM payouts
         WHERE project_id = $1
           AND ($2::uuid IS NULL OR id < $2)
           AND (cardinality($3::text[]) = 0 OR status = ANY($3))
           AND ($4::text IS NULL OR reference = $4)
           AND ($5::timestamptz IS NULL OR created_at >= $5)
           AND ($6::timestamptz IS NULL OR created_at < $6)
         ORDER BY id DESC LIMIT $7"
    ))
    .bind(&filter.project.0)
    .bind(filter.before.map(|id| id.0))
    .bind(statuses)
    .bind(filter.reference.as_deref())
    .bind(filter.created_from)
    .bind(filter.created_before)
    .bind(filter.limit)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(PayoutRow::into_stored).collect()
}

/// Open payouts in a state that we know whose time to be looked at has come by the database's clock, most
/// overdue first, with that time: whoever finds it changed later knows that another replica has looked
/// already. `aside` are left out. Does not pass over what is paid, however much of that is due.
///
/// # Errors
/// Database errors only.
pub async fn due(
    db: &mut PgConnection,
    limit: i64,
    aside: &[PayoutId],
) -> Result<Vec<(PayoutId, OffsetDateTime)>, StoreError> {
    let rows: Vec<(Uuid, OffsetDateTime)> = sqlx::query_as(
        "SELECT id, next_check_at FROM payouts
         WHERE next_check_at <= now() AND destination_secret IS NOT NULL
           AND state = ANY($2) AND id <> ALL($3)
         ORDER BY next_check_at LIMIT $1",
    )
    .bind(limit)
    .bind(UNFINISHED)
    .bind(uuids(aside))
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(id, due)| (PayoutId(id), due)).collect())
}

/// As [`due`], paid payouts of these projects: of each no more than would make `most` reads wait there.
///
/// # Errors
/// Database errors only.
pub async fn due_paid(
    db: &mut PgConnection,
    limit: i64,
    aside: &[PayoutId],
    projects: &[ProjectId],
    most: i64,
) -> Result<Vec<(PayoutId, OffsetDateTime)>, StoreError> {
    let projects: Vec<&str> = projects.iter().map(|project| project.0.as_str()).collect();
    let rows: Vec<(Uuid, OffsetDateTime)> = sqlx::query_as(
        "SELECT d.id, d.next_check_at FROM unnest($3::text[]) AS l(project_id) CROSS JOIN LATERAL (
            SELECT p.id, p.next_check_at FROM payouts p
            WHERE p.project_id = l.project_id AND p.destination_secret IS NULL AND p.next_check_at <= now()
              AND p.state = 'succeeded' AND p.id <> ALL($2)
            ORDER BY p.next_check_at
            LIMIT $4 - (SELECT count(*) FROM (
                SELECT FROM effects e WHERE e.project_id = l.project_id AND (e.kind = 'read_status') LIMIT $4
            ) AS waiting)) d
         LIMIT $1",
    )
    .bind(limit)
    .bind(uuids(aside))
    .bind(projects)
    .bind(most)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(id, due)| (PayoutId(id), due)).collect())
}

fn uuids(ids: &[PayoutId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// Whose sessions these are or were, each within its project; unknown ones are left out.
///
/// # Errors
/// Database errors only.
pub async fn by_sessions(
    db: &mut PgConnection,
    sessions: &[(&ProjectId, &SessionId)],
) -> Result<BTreeMap<(ProjectId, SessionId), PayoutId>, StoreError> {
    let (projects, ids): (Vec<&str>, Vec<&str>) =
        sessions.iter().map(|(project, session)| (project.0.as_str(), session.0.as_str())).unzip();
    let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
        // One session after the other, whatever the tables held when this was planned; that it is one of its
        // project comes after.
        "SELECT p.project_id, p.session_id, p.id
         FROM unnest($1::text[], $2::text[]) AS n(project_id, session_id)
         CROSS JOIN LATERAL (SELECT * FROM payouts p WHERE p.session_id = n.session_id OFFSET 0) AS p
         WHERE p.project_id = n.project_id
         UNION
         SELECT p.project_id, n.session_id, p.id
         FROM unnest($1::text[], $2::text[]) AS n(project_id, session_id)
         CROSS JOIN LATERAL (SELECT payout_id FROM attempts a WHERE a.session_id = n.session_id OFFSET 0) AS a
         CROSS JOIN LATERAL (SELECT * FROM payouts p WHERE p.id = a.payout_id OFFSET 0) AS p
         WHERE p.project_id = n.project_id",
    )
    .bind(projects)
    .bind(ids)
    .fetch_all(db)
    .await?;
    let found = |(project, session, id)| ((ProjectId(project), SessionId(session)), PayoutId(id));
    Ok(rows.into_iter().map(found).collect())
}
