//! The table `inbox`: verified webhooks as the bytes that were signed. Receiving is one insert; everything
//! else happens later, under a lease.

use super::StoreError;
use crate::domain::id::{PayoutId, ProjectId};
use sqlx::PgConnection;
use std::time::Duration;
use time::OffsetDateTime;

/// A verified webhook to keep.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub project: ProjectId,
    pub body: Vec<u8>,
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
    /// The payout that the body names, read from these bytes alone.
    pub about: Option<PayoutId>,
}

impl Incoming {
    /// What it is known by within a process.
    #[must_use]
    pub fn key(&self) -> WebhookKey {
        (self.project.clone(), self.body_hash)
    }

    /// What the database knows it by, in the column `body_hash`: the payout's id, which is ordered by time,
    /// before the hash, which falls anywhere. So the index grows at its end, however large it is. Webhooks
    /// that name nobody, and those that were kept before this was so, are known by the hash alone.
    #[must_use]
    pub fn known_by(&self) -> Vec<u8> {
        let about = self.about.map(|payout| payout.0.into_bytes());
        [about.as_ref().map_or(&[][..], |id| id), &self.body_hash].concat()
    }
}

/// The same bytes for the same project are the same webhook.
pub type WebhookKey = (ProjectId, [u8; 32]);

/// The right to record what became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxClaim {
    pub id: i64,
    pub fence: i32,
}

/// A webhook to be worked on.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub claim: InboxClaim,
    pub project: ProjectId,
    pub body: Vec<u8>,
    pub age: Duration,
    /// How often working on it failed, the database being there.
    pub failures: i32,
}

/// Keeps webhooks, each once: the same bytes for the same project are the same webhook, for ever. Says for
/// each that was new under which claim; with a `lease` it is claimed at once for whoever keeps it.
///
/// # Errors
/// Database errors: nothing may be acknowledged. If the connection was lost, it may have been kept.
pub async fn insert(
    tx: &mut PgConnection,
    incoming: &[Incoming],
    lease: Option<Duration>,
) -> Result<Vec<Option<InboxClaim>>, StoreError> {
    let projects: Vec<&str> = incoming.iter().map(|webhook| webhook.project.0.as_str()).collect();
    let hashes: Vec<&[u8]> = incoming.iter().map(|webhook| webhook.body_hash.as_slice()).collect();
    let known_by: Vec<Vec<u8>> = incoming.iter().map(Incoming::known_by).collect();
    let bodies: Vec<&[u8]> = incoming.iter().map(|webhook| webhook.body.as_slice()).collect();
    let mut fresh: Vec<(String, Vec<u8>, i64, i32)> = sqlx::query_as(
        "INSERT INTO inbox (project_id, body_hash, body, fence, lease_until)
         SELECT n.project_id, n.known_by, n.body, ($4::float8 IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => $4)
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $5::bytea[])
            AS n(project_id, known_by, body, hash_alone)
         WHERE NOT EXISTS (
            SELECT FROM inbox i WHERE i.project_id = n.project_id AND i.body_hash = n.hash_alone)
         ORDER BY n.project_id, n.known_by -- two batches must not wait for each other in a circle
         ON CONFLICT (project_id, body_hash) DO NOTHING RETURNING project_id, body_hash, id, fence",
    )
    .bind(projects)
    .bind(&known_by)
    .bind(bodies)
    .bind(lease.map(|lease| lease.as_secs_f64()))
    .bind(hashes)
    .fetch_all(tx)
    .await?;
    Ok(incoming
        .iter()
        .zip(&known_by)
        .map(|(webhook, known_by)| {
            let same = |(project, known, ..): &(String, Vec<u8>, i64, i32)| {
                *project == webhook.project.0 && known == known_by
            };
            // Taken out, so that a twin in the same batch counts as a duplicate.
            let (_, _, id, fence) = fresh.iter().position(same).map(|at| fresh.swap_remove(at))?;
            Some(InboxClaim { id, fence })
        })
        .collect())
}

/// Claims up to `limit` webhooks that are due, oldest first.
///
/// # Errors
/// Database errors only.
pub async fn claim(tx: &mut PgConnection, limit: i64, lease: Duration) -> Result<Vec<Claimed>, StoreError> {
    let rows: Vec<(i64, i32, String, Vec<u8>, f64, i32)> = sqlx::query_as(
        "WITH picked AS (
            SELECT id FROM inbox
            WHERE done_at IS NULL AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         UPDATE inbox i SET fence = i.fence + 1, lease_until = now() + make_interval(secs => $2)
         FROM picked WHERE i.id = picked.id
         RETURNING i.id, i.fence, i.project_id, i.body,
            extract(epoch FROM now() - i.received_at)::float8, i.failures",
    )
    .bind(limit)
    .bind(lease.as_secs_f64())
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, fence, project, body, age, failures)| Claimed {
            claim: InboxClaim { id, fence },
            project: ProjectId(project),
            body,
            age: Duration::try_from_secs_f64(age).unwrap_or_default(),
            failures,
        })
        .collect())
}

/// Marks claimed webhooks done and says which of the claims were still good, each once.
///
/// # Errors
/// Database errors only.
pub async fn close(
    tx: &mut PgConnection,
    claims: &[InboxClaim],
    outcome: &'static str,
) -> Result<Vec<InboxClaim>, StoreError> {
    if claims.is_empty() {
        return Ok(vec![]);
    }
    let (ids, fences): (Vec<i64>, Vec<i32>) = claims.iter().map(|claim| (claim.id, claim.fence)).unzip();
    let closed: Vec<(i64, i32)> = sqlx::query_as(
        "UPDATE inbox i SET done_at = now(), outcome = $3, lease_until = NULL
         FROM unnest($1::bigint[], $2::integer[]) AS n(id, fence)
         WHERE i.id = n.id AND i.fence = n.fence AND i.done_at IS NULL RETURNING i.id, i.fence",
    )
    .bind(ids)
    .bind(fences)
    .bind(outcome)
    .fetch_all(tx)
    .await?;
    Ok(closed.into_iter().map(|(id, fence)| InboxClaim { id, fence }).collect())
}

/// Puts a claimed webhook back for later: its session may not be stored yet.
///
/// # Errors
/// Database errors only.
pub async fn postpone(tx: &mut PgConnection, claim: InboxClaim, after: Duration) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE inbox SET lease_until = NULL, due_at = now() + make_interval(secs => $3)
         WHERE id = $1 AND fence = $2 AND done_at IS NULL",
    )
    .bind(claim.id)
    .bind(claim.fence)
    .bind(after.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that working on a claimed webhook failed: it is due again after `pause`, or parked if this was
/// failure number `most`. Says whether it was parked.
///
/// # Errors
/// Database errors only.
pub async fn failed(
    tx: &mut PgConnection,
    claim: InboxClaim,
    why: &str,
    pause: Duration,
    most: u32,
) -> Result<bool, StoreError> {
    let parked: Option<bool> = sqlx::query_scalar(
        "UPDATE inbox SET failures = failures + 1, last_error = $3, lease_until = NULL,
            parked_at = CASE WHEN failures + 1 >= $5 THEN now() END,
            due_at = CASE WHEN failures + 1 >= $5 THEN 'infinity' ELSE now() + make_interval(secs => $4) END
         WHERE id = $1 AND fence = $2 AND done_at IS NULL RETURNING parked_at IS NOT NULL",
    )
    .bind(claim.id)
    .bind(claim.fence)
    .bind(why)
    .bind(pause.as_secs_f64())
    .bind(i64::from(most))
    .fetch_optional(tx)
    .await?;
    Ok(parked.unwrap_or(false))
}

/// A parked webhook, without its body.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Parked {
    pub id: i64,
    pub project_id: String,
    pub received_at: OffsetDateTime,
    pub parked_at: OffsetDateTime,
    pub failures: i32,
    pub last_error: Option<String>,
}

/// The webhooks that are parked, longest first, at most `limit`.
///
/// # Errors
/// Database errors only.
pub async fn parked(db: &mut PgConnection, limit: i64) -> Result<Vec<Parked>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT id, project_id, received_at, parked_at, failures, last_error
         FROM inbox WHERE parked_at IS NOT NULL ORDER BY parked_at LIMIT $1",
    )
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Makes one parked webhook, or all of them, due again. Says how many.
///
/// # Errors
/// Database errors only.
pub async fn replay(tx: &mut PgConnection, only: Option<i64>) -> Result<u64, StoreError> {
    let replayed = sqlx::query(
        "UPDATE inbox SET parked_at = NULL, failures = 0, due_at = now()
         WHERE parked_at IS NOT NULL AND ($1::bigint IS NULL OR id = $1)",
    )
    .bind(only)
    .execute(tx)
    .await?;
    Ok(replayed.rows_affected())
}
