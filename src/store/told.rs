//! The table `told_sessions`: what Pike has told about each session, as read from the webhooks in the inbox.
//! It is only ever built from them, so that the checks rest on Pike's word and not on ours.

use super::{StoreError, encoding::Code};
use crate::domain::{
    checking::{Newest, Told},
    id::{PayoutId, ProjectId, SessionId},
};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// A webhook as kept.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Kept {
    pub id: i64,
    pub project_id: String,
    pub body: Vec<u8>,
    pub received_at: OffsetDateTime,
    /// Whether every webhook with a smaller number is there by now: a number is given before its commit, and
    /// no transaction stays open for so long.
    pub settled: bool,
}

macro_rules! settled {
    () => {
        " received_at < now() - interval '1 minute' "
    };
}

macro_rules! kept {
    () => {
        concat!("SELECT id, project_id, body, received_at,", settled!(), "AS settled FROM inbox ")
    };
}

/// The webhooks after number `after`, in order.
///
/// # Errors
/// Database errors only.
pub async fn webhooks(db: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<Kept>, StoreError> {
    Ok(sqlx::query_as(concat!(kept!(), "WHERE id > $1 ORDER BY id LIMIT $2"))
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Those webhooks among these that are there by now, in order.
///
/// # Errors
/// Database errors only.
pub async fn webhooks_of(db: &mut PgConnection, ids: &[i64]) -> Result<Vec<Kept>, StoreError> {
    Ok(sqlx::query_as(concat!(kept!(), "WHERE id = ANY ($1) ORDER BY id")).bind(ids).fetch_all(db).await?)
}

/// The last webhook after number `after` and up to `upto` that is settled, as [`Kept`] says.
///
/// # Errors
/// Database errors only.
pub async fn settled(db: &mut PgConnection, after: i64, upto: i64) -> Result<Option<i64>, StoreError> {
    let last = concat!("SELECT max(id) FROM inbox WHERE id > $1 AND id <= $2 AND", settled!());
    Ok(sqlx::query_scalar(last).bind(after).bind(upto).fetch_one(db).await?)
}

/// What a webhook told about its session.
#[derive(Clone, Debug)]
pub struct NewTold {
    pub project: ProjectId,
    pub session: SessionId,
    pub told: Told,
    /// When it was so, by Pike's clock if it says.
    pub at: OffsetDateTime,
    pub inbox_id: i64,
    pub received_at: OffsetDateTime,
}

/// Adds what was told; telling it again changes nothing. Of two things told of one instant the further one
/// is the newest, whichever came first.
///
/// # Errors
/// Database errors only.
pub async fn add(tx: &mut PgConnection, new: &[NewTold]) -> Result<(), StoreError> {
    // One statement can touch a row once: what is told of a session again comes with the next.
    let mut waves: Vec<Vec<&NewTold>> = vec![];
    let mut told: BTreeMap<(&ProjectId, &SessionId), usize> = BTreeMap::new();
    for new in new {
        let wave = told.entry((&new.project, &new.session)).or_default();
        if waves.len() == *wave {
            waves.push(vec![]);
        }
        waves[*wave].push(new);
        *wave += 1;
    }
    for mut wave in waves {
        // Two who hear the same must not wait for each other in a circle.
        wave.sort_by(|one, other| (&one.project, &one.session).cmp(&(&other.project, &other.session)));
        add_once(tx, &wave).await?;
    }
    Ok(())
}

async fn add_once(tx: &mut PgConnection, new: &[&NewTold]) -> Result<(), StoreError> {
    fn column<'a, C>(new: &[&'a NewTold], of: impl Fn(&'a NewTold) -> C) -> Vec<C> {
        new.iter().map(|new| of(new)).collect()
    }
    sqlx::query(
        "INSERT INTO told_sessions AS t (project_id, session_id, tag, payout_id, payouts, amount_minor,
            currency, ready, paid_payouts, paid_minor, newest, newest_at, inbox_id, received_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::integer[], $6::bigint[],
            $7::text[], $8::boolean[], $9::integer[], $10::bigint[], $11::text[], $12::timestamptz[],
            $13::bigint[], $14::timestamptz[])
         ON CONFLICT (project_id, session_id) DO UPDATE SET
            tag = coalesce(excluded.tag, t.tag),
            payout_id = coalesce(excluded.payout_id, t.payout_id),
            payouts = greatest(excluded.payouts, t.payouts),
            amount_minor = coalesce(excluded.amount_minor, t.amount_minor),
            currency = coalesce(excluded.currency, t.currency),
            ready = excluded.ready OR t.ready,
            paid_payouts = greatest(excluded.paid_payouts, t.paid_payouts),
            paid_minor = greatest(excluded.paid_minor, t.paid_minor),
            newest = CASE WHEN (excluded.newest_at, array_position($15::text[], excluded.newest))
                >= (t.newest_at, array_position($15::text[], t.newest))
                THEN excluded.newest ELSE t.newest END,
            newest_at = greatest(excluded.newest_at, t.newest_at),
            inbox_id = greatest(excluded.inbox_id, t.inbox_id),
            received_at = greatest(excluded.received_at, t.received_at)",
    )
    .bind(column(new, |new| new.project.0.as_str()))
    .bind(column(new, |new| new.session.0.as_str()))
    .bind(column(new, |new| new.told.tag.as_deref()))
    .bind(column(new, |new| new.told.names.map(|id| id.0)))
    .bind(column(new, |new| i32::try_from(new.told.payouts).unwrap_or(i32::MAX)))
    .bind(column(new, |new| new.told.amount_minor))
    .bind(column(new, |new| new.told.currency.as_deref()))
    .bind(column(new, |new| new.told.newest == Newest::Ready))
    .bind(column(new, |new| i32::try_from(new.told.paid_payouts).unwrap_or(i32::MAX)))
    .bind(column(new, |new| new.told.paid_minor))
    .bind(column(new, |new| new.told.newest.code()))
    .bind(column(new, |new| new.at))
    .bind(column(new, |new| new.inbox_id))
    .bind(column(new, |new| new.received_at))
    .bind(Newest::IN_ORDER.map(|newest| newest.code()))
    .execute(tx)
    .await?;
    Ok(())
}

/// The payouts that these sessions belong to, by our books or by their metadata.
///
/// # Errors
/// Database errors only.
pub async fn concerned(
    db: &mut PgConnection,
    sessions: &[(ProjectId, SessionId)],
) -> Result<Vec<PayoutId>, StoreError> {
    let (projects, ids): (Vec<&str>, Vec<&str>) =
        sessions.iter().map(|(project, session)| (project.0.as_str(), session.0.as_str())).unzip();
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "WITH n AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n(project_id, session_id))
         SELECT p.id FROM n CROSS JOIN LATERAL (
            SELECT id FROM payouts WHERE session_id = n.session_id AND project_id = n.project_id OFFSET 0) p
         UNION SELECT t.payout_id FROM n CROSS JOIN LATERAL (
            SELECT payout_id FROM told_sessions
            WHERE project_id = n.project_id AND session_id = n.session_id AND payout_id IS NOT NULL
            OFFSET 0) t",
    )
    .bind(projects)
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(PayoutId).collect())
}

/// The next payouts, in the order of their ids, that Pike named and that we do not have.
///
/// # Errors
/// Database errors only.
pub async fn strangers(
    db: &mut PgConnection,
    after: Option<PayoutId>,
    limit: i64,
) -> Result<Vec<PayoutId>, StoreError> {
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT t.payout_id FROM told_sessions t WHERE t.payout_id > $1
           AND NOT EXISTS (SELECT FROM payouts p WHERE p.id = t.payout_id)
         ORDER BY t.payout_id LIMIT $2",
    )
    .bind(after.map_or(Uuid::nil(), |id| id.0))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(PayoutId).collect())
}
