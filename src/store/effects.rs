//! The table `effects`: calls to Pike that are to be made. Claiming takes a lease and raises the fence; only
//! who holds the present fence may record an outcome.

use super::{StoreError, encoding::Code, payouts::Stored};
use crate::domain::{
    effect::EffectKind,
    id::{PayoutId, ProjectId, SessionId},
    money::Money,
    payout::{DestinationKind, metadata_tag},
};
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// The right to record an effect's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectClaim {
    pub id: i64,
    pub fence: i32,
}

/// A claimed effect with all that its call needs.
#[derive(Clone)]
pub struct Claimed {
    pub claim: EffectClaim,
    pub payout: PayoutId,
    pub project: ProjectId,
    pub kind: EffectKind,
    /// A former try ended without a recorded outcome: its worker died or froze.
    pub interrupted: bool,
    /// How often the request provably never left.
    pub not_sent: i32,
    /// How long it has waited since it could have run.
    pub lag: Duration,
    pub session: Option<SessionId>,
    pub attempt: i32,
    pub amount: Money,
    pub destination: DestinationKind,
    /// `None` once erased.
    pub destination_secret: Option<String>,
    pub recipient_name: String,
    pub customer_reference: String,
    /// What Pike gets as metadata.
    pub metadata_tag: String,
}

impl Claimed {
    /// A payout's first call.
    pub(super) fn first(stored: &Stored, claim: EffectClaim, secret: String) -> Self {
        Self::new(stored, EffectKind::CreateSession, claim, Some(secret))
    }

    /// An effect as whoever adds it has claimed it.
    pub(super) fn new(stored: &Stored, kind: EffectKind, claim: EffectClaim, secret: Option<String>) -> Self {
        let (payout, order) = (&stored.payout, &stored.payout.order);
        Self {
            claim,
            payout: payout.id,
            project: payout.project.clone(),
            kind,
            interrupted: false,
            not_sent: 0,
            lag: Duration::ZERO,
            session: payout.state.session().cloned(),
            attempt: payout.attempt,
            amount: order.amount,
            destination: order.destination,
            destination_secret: secret,
            recipient_name: order.recipient_name.clone(),
            customer_reference: order.customer_reference.clone(),
            metadata_tag: metadata_tag(payout.id, payout.attempt),
        }
    }
}

/// Effects that may be claimed together: those of a project that read, or those that do something.
#[derive(Clone, Debug)]
pub struct Lane {
    pub project: ProjectId,
    pub which: Which,
    pub most: usize,
    /// Calls that take a payout further wait here as well, or may.
    pub narrow: bool,
    /// Counts rounds: who is due a part of a call has a whole one every few rounds.
    pub round: u32,
}

/// Which of a project's effects a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Reads,
    Calls,
    /// Calls that move no money and may be repeated: only creates.
    HarmlessCalls,
}

impl Which {
    /// The lane that an effect belongs to.
    #[must_use]
    pub fn of(kind: EffectKind) -> Self {
        match kind {
            EffectKind::ReadStatus => Self::Reads,
            EffectKind::CreateSession
            | EffectKind::StartPayout
            | EffectKind::Confirm
            | EffectKind::Cancel => Self::Calls,
        }
    }
}

/// An effect to add.
#[derive(Clone, Copy, Debug)]
pub struct NewEffect<'a> {
    /// The payout as it is now.
    pub stored: &'a Stored,
    pub kind: EffectKind,
    /// Claimed at once for whoever adds it, if they can begin with it at once.
    pub lease: Option<Duration>,
}

/// A page of [`insert_reads`].
#[derive(Clone, Copy, Debug)]
pub struct ReadsAsked {
    pub added: i64,
    /// Where the next page begins; `None` after the last.
    pub last: Option<PayoutId>,
}

/// Adds status reads for payouts that have a session and are not final, or have been so for less than
/// `recent`: those after `after`, at most `limit`.
///
/// # Errors
/// Database errors only.
pub async fn insert_reads(
    tx: &mut PgConnection,
    recent: Duration,
    after: Option<PayoutId>,
    limit: i64,
) -> Result<ReadsAsked, StoreError> {
    // Passes over all of a large table, once, before anything else is done.
    sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *tx).await?;
    let (added, last): (i64, Option<Uuid>) = sqlx::query_as(
        "WITH page AS (
            SELECT id, project_id FROM payouts
            WHERE id > $1 AND session_id IS NOT NULL
              AND (state NOT IN ('succeeded', 'returned', 'failed', 'cancelled')
                OR since >= now() - make_interval(secs => $2))
            ORDER BY id LIMIT $3),
         added AS (
            INSERT INTO effects (payout_id, kind, project_id) SELECT id, 'read_status', project_id FROM page
            ON CONFLICT (payout_id, kind) DO NOTHING RETURNING 1)
         SELECT (SELECT count(*) FROM added), (SELECT id FROM page ORDER BY id DESC LIMIT 1)",
    )
    .bind(after.map_or(Uuid::nil(), |id| id.0))
    .bind(recent.as_secs_f64())
    .bind(limit)
    .fetch_one(tx)
    .await?;
    Ok(ReadsAsked { added, last: last.map(PayoutId) })
}

/// Gives a claimed effect back because its request provably never left.
///
/// # Errors
/// Database errors only.
pub async fn retry_later(
    tx: &mut PgConnection,
    claim: EffectClaim,
    after: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE effects SET lease_until = NULL, not_sent = not_sent + 1,
            run_at = now() + make_interval(secs => $3)
         WHERE id = $1 AND fence = $2",
    )
    .bind(claim.id)
    .bind(claim.fence)
    .bind(after.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives a claimed effect back in its place, as if it had never been claimed.
///
/// # Errors
/// Database errors only.
pub async fn put_back(tx: &mut PgConnection, claim: EffectClaim) -> Result<(), StoreError> {
    sqlx::query("UPDATE effects SET lease_until = NULL WHERE id = $1 AND fence = $2")
        .bind(claim.id)
        .bind(claim.fence)
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    id: i64,
    fence: i32,
    kind: String,
    interrupted: bool,
    not_sent: i32,
    lag_seconds: f64,
    payout_id: Uuid,
    project_id: String,
    session_id: Option<String>,
    attempt: i32,
    amount_minor: i64,
    currency: String,
    destination_kind: String,
    destination_secret: Option<String>,
    recipient_name: String,
    customer_reference: String,
}

/// So long nobody is overtaken.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What may be claimed in lane `l`.
macro_rules! runnable {
    ($what:literal, $order:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM effects e
                WHERE e.project_id = l.project_id AND (e.kind = 'read_status') = l.reads
                  AND e.run_at <= now() AND (e.lease_until IS NULL OR e.lease_until < now())
                  AND (NOT l.harmless OR e.kind = 'create_session')
                  AND NOT (e.kind = 'confirm' AND EXISTS (
                    SELECT FROM switches s WHERE NOT s.confirms AND s.scope IN ('*', e.project_id)))
                ",
            $order
        )
    };
}
macro_rules! picked {
    ($order:literal) => {
        runnable!("e.id, e.lease_until IS NOT NULL AS interrupted, e.kind, e.run_at", $order)
    };
}

/// Claims up to `limit` runnable effects of these lanes for `lease`, oldest first, reads last: they can
/// wait. If calls have waited for longer than [`PATIENCE`], one of four is among the newest ones instead: who
/// comes behind a backlog need not wait for all of it. In a narrow lane it is three of four, because there
/// what is on its way waits as well, and each of the oldest is followed by two calls that are new. So it is
/// over four rounds, however few calls each may take. Effects whose lease ran out are runnable again and come
/// back as interrupted. A confirm whose switch is off stays where it is. A row that cannot be read is left to
/// its lease and does not keep the others from being claimed.
///
/// # Errors
/// Database errors only.
pub async fn claim(
    tx: &mut PgConnection,
    limit: i64,
    lease: Duration,
    lanes: &[Lane],
) -> Result<Vec<Claimed>, StoreError> {
    let projects: Vec<&str> = lanes.iter().map(|lane| lane.project.0.as_str()).collect();
    let reads: Vec<bool> = lanes.iter().map(|lane| lane.which == Which::Reads).collect();
    let harmless: Vec<bool> = lanes.iter().map(|lane| lane.which == Which::HarmlessCalls).collect();
    let narrow: Vec<bool> = lanes.iter().map(|lane| lane.narrow).collect();
    let rounds: Vec<i64> = lanes.iter().map(|lane| i64::from(lane.round % 4)).collect();
    let most: Vec<i64> = lanes.iter().map(|lane| i64::try_from(lane.most).unwrap_or(limit)).collect();
    let rows: Vec<ClaimRow> = sqlx::query_as(concat!(
        "WITH lanes AS (
            SELECT l.*, CASE WHEN NOT l.reads AND (",
        runnable!("e.run_at", "ORDER BY e.run_at LIMIT 1"),
        ") <= now() - make_interval(secs => $7)
                THEN (least(l.most, $1) * (CASE WHEN l.narrow THEN 3 ELSE 1 END) + l.round) / 4
                ELSE 0 END AS newest
            FROM unnest($3::text[], $4::boolean[], $5::boolean[], $6::bigint[], $8::boolean[], $9::bigint[])
                AS l(project_id, reads, harmless, most, narrow, round)),
         picked AS (
            SELECT c.id, c.interrupted FROM lanes l CROSS JOIN LATERAL (
                SELECT * FROM (",
        picked!("ORDER BY e.run_at LIMIT least(l.most, $1) - l.newest FOR UPDATE OF e SKIP LOCKED"),
        ") AS oldest UNION SELECT * FROM (",
        picked!("ORDER BY e.run_at DESC LIMIT l.newest FOR UPDATE OF e SKIP LOCKED"),
        ") AS newest) c
            ORDER BY c.kind = 'read_status', c.run_at LIMIT $1)
         UPDATE effects e SET fence = e.fence + 1, lease_until = now() + make_interval(secs => $2)
         FROM picked, payouts p
         WHERE e.id = picked.id AND p.id = e.payout_id
         RETURNING e.id, e.fence, e.kind, picked.interrupted, e.not_sent,
            extract(epoch FROM now() - e.run_at)::float8 AS lag_seconds,
            e.payout_id, p.project_id, p.session_id, p.attempt, p.amount_minor, p.currency,
            p.destination_kind, p.destination_secret, p.recipient_name, p.customer_reference"
    ))
    .bind(limit)
    .bind(lease.as_secs_f64())
    .bind(projects)
    .bind(reads)
    .bind(harmless)
    .bind(most)
    .bind(PATIENCE.as_secs_f64())
    .bind(narrow)
    .bind(rounds)
    .fetch_all(tx)
    .await?;
    let claimed = rows.into_iter().filter_map(|row| {
        row.into_claimed().inspect_err(|error| tracing::error!(%error, "an effect cannot be read")).ok()
    });
    Ok(claimed.collect())
}

impl ClaimRow {
    fn into_claimed(self) -> Result<Claimed, StoreError> {
        let bad = |column: &'static str| StoreError::ImpossibleRow {
            table: "effects",
            column,
            id: self.id.to_string(),
        };
        let payout = PayoutId(self.payout_id);
        let currency = self.currency.parse().map_err(|_| bad("currency"))?;
        Ok(Claimed {
            claim: EffectClaim { id: self.id, fence: self.fence },
            payout,
            kind: EffectKind::from_code(&self.kind).ok_or_else(|| bad("kind"))?,
            interrupted: self.interrupted,
            not_sent: self.not_sent,
            lag: Duration::try_from_secs_f64(self.lag_seconds).unwrap_or_default(),
            amount: Money::new(self.amount_minor, currency).map_err(|_| bad("amount_minor"))?,
            destination: DestinationKind::from_code(&self.destination_kind)
                .ok_or_else(|| bad("destination_kind"))?,
            project: ProjectId(self.project_id),
            session: self.session_id.map(SessionId),
            attempt: self.attempt,
            destination_secret: self.destination_secret,
            recipient_name: self.recipient_name,
            customer_reference: self.customer_reference,
            metadata_tag: metadata_tag(payout, self.attempt),
        })
    }
}
