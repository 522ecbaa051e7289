//! What events came from, closed together in one statement: calls that were answered, webhooks that were
//! read. With it comes what decisions need beside the payouts: the instant, and the switches of confirms.

use super::{
    StoreError,
    effects::EffectClaim,
    inbox::{InboxClaim, WebhookKey},
};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The causes that this transaction closed. A claim that was lost is not among them.
#[derive(Debug)]
pub struct Closed {
    pub effects: BTreeSet<EffectClaim>,
    pub inbox: BTreeSet<InboxClaim>,
    /// Webhooks that are kept in the same statement, by whoever decides without looking.
    pub fresh: BTreeSet<WebhookKey>,
    /// Whether confirms are on, per scope that has a row. They stay so only in a transaction that holds the
    /// switches ([`super::writer::Writer::begin_holding_switches`]).
    pub switches: BTreeMap<String, bool>,
    /// By the database's clock, after everything that was waited for: a permit that was dated while its
    /// transaction still waited for the switches could bear a time at which they were off.
    pub now: OffsetDateTime,
}

impl Closed {
    /// Nothing yet.
    #[must_use]
    pub fn none(now: OffsetDateTime) -> Self {
        let (effects, inbox, fresh) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { effects, inbox, fresh, switches: BTreeMap::new(), now }
    }
}

/// What a row of the statements below tells of.
const EFFECT: i32 = 1;
const WEBHOOK: i32 = 2;
const SWITCH: i32 = 3;

/// The calls and webhooks of these parameters, and the rows that tell which were closed.
macro_rules! called {
    ($ids:literal, $fences:literal) => {
        concat!(
            "called AS (
        DELETE FROM effects e USING unnest($",
            $ids,
            "::bigint[], $",
            $fences,
            "::integer[]) AS n(id, fence)
        WHERE e.id = n.id AND e.fence = n.fence RETURNING 1, e.id, e.fence, '', false, NULL::timestamptz)"
        )
    };
}
macro_rules! read {
    ($ids:literal, $fences:literal) => {
        concat!(
            "read AS (
        UPDATE inbox i SET done_at = now(), outcome = 'applied', lease_until = NULL
        FROM unnest($",
            $ids,
            "::bigint[], $",
            $fences,
            "::integer[]) AS n(id, fence)
        WHERE i.id = n.id AND i.fence = n.fence AND coalesce(i.done_at, 'infinity') = 'infinity'
        RETURNING 2, i.id, i.fence, '', false, NULL::timestamptz)"
        )
    };
}
macro_rules! world {
    () => {
        "SELECT 3, 0::bigint, 0, scope, confirms, NULL::timestamptz FROM switches
         UNION ALL SELECT 0, 0, 0, '', false, clock_timestamp()"
    };
}

// A part without rows would still be planned, opened and checked each time.
const NEITHER: &str = world!();
const CALLS: &str = concat!("WITH ", called!(1, 2), " SELECT * FROM called UNION ALL ", world!());
const WEBHOOKS: &str = concat!("WITH ", read!(1, 2), " SELECT * FROM read UNION ALL ", world!());
const BOTH: &str = concat!(
    "WITH ",
    called!(1, 2),
    ", ",
    read!(3, 4),
    " SELECT * FROM called UNION ALL SELECT * FROM read UNION ALL ",
    world!()
);

type Row = (i32, i64, i32, String, bool, Option<OffsetDateTime>);

/// Closes these, each once, under locked payouts.
///
/// # Errors
/// Database errors only.
pub async fn close(
    tx: &mut PgConnection,
    effects: &[EffectClaim],
    inbox: &[InboxClaim],
) -> Result<Closed, StoreError> {
    let statement = match (effects, inbox) {
        ([], []) => NEITHER,
        (_, []) => CALLS,
        ([], _) => WEBHOOKS,
        (_, _) => BOTH,
    };
    let mut close = sqlx::query_as::<_, Row>(statement);
    if !effects.is_empty() {
        close = close
            .bind(effects.iter().map(|claim| claim.id).collect::<Vec<_>>())
            .bind(effects.iter().map(|claim| claim.fence).collect::<Vec<_>>());
    }
    if !inbox.is_empty() {
        close = close
            .bind(inbox.iter().map(|claim| claim.id).collect::<Vec<_>>())
            .bind(inbox.iter().map(|claim| claim.fence).collect::<Vec<_>>());
    }
    let rows = close.fetch_all(tx).await?;
    let now = rows.iter().find_map(|(.., now)| *now).ok_or(sqlx::Error::RowNotFound)?;
    let mut closed = Closed::none(now);
    for (what, id, fence, scope, confirms, _) in rows {
        match what {
            EFFECT => drop(closed.effects.insert(EffectClaim { id, fence })),
            WEBHOOK => drop(closed.inbox.insert(InboxClaim { id, fence })),
            SWITCH => drop(closed.switches.insert(scope, confirms)),
            // The instant.
            _ => {}
        }
    }
    Ok(closed)
}
