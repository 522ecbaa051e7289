//! What a claimed confirm stands on right now: its claim, its permit, its payout and the switches, read
//! together right before it is sent.

use super::{
    StoreError,
    effects::EffectClaim,
    encoding::Code,
    payouts::{PayoutRow, Stored, columns},
};
use crate::domain::permit::{Evidence, Permit, PermitKind};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::Duration;

/// What a confirm effect stands on.
#[derive(Clone, Debug)]
pub struct Standing {
    pub evidence: Evidence,
    /// Both switches.
    pub confirms_on: bool,
    /// Without its past attempts.
    pub stored: Stored,
}

/// A claimed confirm with its permit, as they stand.
#[derive(sqlx::FromRow)]
struct StandingRow {
    effect_id: i64,
    fence: i32,
    carried: Option<Vec<u8>>,
    kind: String,
    bound_to: Vec<u8>,
    rule_set: String,
    age_seconds: f64,
    confirms_on: bool,
    #[sqlx(flatten)]
    payout: PayoutRow,
}

/// Looks at what claimed confirms stand on. A claim that is no longer good is not among them.
///
/// # Errors
/// Database errors, or a permit or payout that no code of ours could have written.
pub async fn read(
    db: &mut PgConnection,
    claims: &[EffectClaim],
) -> Result<BTreeMap<EffectClaim, Standing>, StoreError> {
    let rows: Vec<StandingRow> = sqlx::query_as(concat!(
        "SELECT e.id AS effect_id, e.fence, e.bound_to AS carried, m.kind, m.bound_to, m.rule_set,
            extract(epoch FROM now() - coalesce(m.renewed_at, m.decided_at))::float8 AS age_seconds,
            NOT EXISTS (SELECT FROM switches s WHERE NOT s.confirms AND s.scope IN ('*', e.project_id))
                AS confirms_on,
            p.*
         FROM unnest($1::bigint[], $2::integer[]) AS c(id, fence)
         JOIN effects e ON e.id = c.id AND e.fence = c.fence AND e.lease_until > now()
         JOIN permits m ON m.payout_id = e.payout_id
         JOIN (SELECT ",
        columns!(),
        " FROM payouts) p ON p.id = e.payout_id"
    ))
    .bind(claims.iter().map(|claim| claim.id).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.fence).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let claim = |row: &StandingRow| EffectClaim { id: row.effect_id, fence: row.fence };
    rows.into_iter().map(|row| Ok((claim(&row), row.into_standing()?))).collect()
}

impl StandingRow {
    fn into_standing(self) -> Result<Standing, StoreError> {
        // A hash of another length is none of ours, and equals none.
        let hash = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).unwrap_or([0; 32]);
        let kind = PermitKind::from_code(&self.kind).ok_or_else(|| StoreError::ImpossibleRow {
            table: "permits",
            column: "kind",
            id: format!("effect {}", self.effect_id),
        })?;
        let evidence = Evidence {
            carried: self.carried.map(hash),
            permit: Permit { kind, bound_to: hash(self.bound_to) },
            rule_set: self.rule_set,
            age: Duration::seconds_f64(self.age_seconds),
        };
        Ok(Standing { evidence, confirms_on: self.confirms_on, stored: self.payout.into_stored()? })
    }
}
