//! What events came from, closed together in one statement: calls that were answered, webhooks that were
//! read. With it comes what decisions need beside the payouts: the instant, and the switches of confirms.

use super::{StoreError, effects::EffectClaim, inbox::InboxClaim};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The causes that this transaction closed. A claim that was lost is not among them.
#[derive(Debug)]
pub struct Closed {
    pub effects: BTreeSet<EffectClaim>,
    pub inbox: BTreeSet<InboxClaim>,
    /// Whether confirms are on, per scope that has a row. They stay so only in a transaction that holds the
    /// switches ([`super::writer::Writer::begin_holding_switches`]).
    pub switches: BTreeMap<String, bool>,
    /// By the database's clock, after everything that was waited for: a permit that was dated while its
    /// transaction still waited for the switches could bear a time at which they were off.
    pub now: OffsetDateTime,
}

/// What a row tells of.
const EFFECT: i32 = 1;
const WEBHOOK: i32 = 2;
const SWITCH: i32 = 3;

const CLOSE: &str = "
    WITH called AS (
        DELETE FROM effects e USING unnest($1::bigint[], $2::integer[]) AS n(id, fence)
        WHERE e.id = n.id AND e.fence = n.fence RETURNING e.id, e.fence),
    read AS (
        UPDATE inbox i SET done_at = now(), outcome = 'applied', lease_until = NULL
        FROM unnest($3::bigint[], $4::integer[]) AS n(id, fence)
        WHERE i.id = n.id AND i.fence = n.fence AND i.done_at IS NULL RETURNING i.id, i.fence)
    SELECT $5, id, fence, '', false, NULL::timestamptz FROM called
    UNION ALL SELECT $6, id, fence, '', false, NULL FROM read
    UNION ALL SELECT $7, 0, 0, scope, confirms, NULL FROM switches
    UNION ALL SELECT 0, 0, 0, '', false, clock_timestamp()";

/// Closes these, each once, under locked payouts.
///
/// # Errors
/// Database errors only.
pub async fn close(
    tx: &mut PgConnection,
    effects: &[EffectClaim],
    inbox: &[InboxClaim],
) -> Result<Closed, StoreError> {
    let rows: Vec<(i32, i64, i32, String, bool, Option<OffsetDateTime>)> = sqlx::query_as(CLOSE)
        .bind(effects.iter().map(|claim| claim.id).collect::<Vec<_>>())
        .bind(effects.iter().map(|claim| claim.fence).collect::<Vec<_>>())
        .bind(inbox.iter().map(|claim| claim.id).collect::<Vec<_>>())
        .bind(inbox.iter().map(|claim| claim.fence).collect::<Vec<_>>())
        .bind(EFFECT)
        .bind(WEBHOOK)
        .bind(SWITCH)
        .fetch_all(tx)
        .await?;
    let mut closed = Closed {
        effects: BTreeSet::new(),
        inbox: BTreeSet::new(),
        switches: BTreeMap::new(),
        now: OffsetDateTime::UNIX_EPOCH,
    };
    for (what, id, fence, scope, confirms, now) in rows {
        match what {
            EFFECT => drop(closed.effects.insert(EffectClaim { id, fence })),
            WEBHOOK => drop(closed.inbox.insert(InboxClaim { id, fence })),
            SWITCH => drop(closed.switches.insert(scope, confirms)),
            _ => closed.now = now.unwrap_or(closed.now),
        }
    }
    Ok(closed)
}
