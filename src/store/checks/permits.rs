//! Whether permits are about the payouts that they stand beside. The hash is computed by the code that made
//! it, from what is stored now.

use crate::{
    domain::{
        checking::{Check, Finding},
        id::{PayoutId, ProjectId},
        permit::{Permit, PermitKind},
    },
    store::{
        StoreError,
        checks::{Found, LookedAt},
        encoding::Code,
        payouts::{self, Stored},
    },
};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

type PermitRow = (Uuid, String, Vec<u8>, String);

/// Adds payouts whose permit is not about them, and rows that cannot be read as payouts at all.
pub(super) async fn altered(
    db: &mut PgConnection,
    ids: &[PayoutId],
    found: &mut Found,
) -> Result<(), StoreError> {
    let (stored, findings) = readable(db, ids).await?;
    found.findings.extend(findings);
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<PermitRow> = sqlx::query_as(
        "SELECT m.payout_id, m.kind, m.bound_to, m.rule_set FROM unnest($1::uuid[]) AS asked(id)
         CROSS JOIN LATERAL (SELECT * FROM permits WHERE payout_id = asked.id OFFSET 0) m",
    )
    .bind(uuids)
    .fetch_all(db)
    .await?;
    let permits: BTreeMap<Uuid, PermitRow> = rows.into_iter().map(|row| (row.0, row)).collect();
    for stored in stored {
        let payout = &stored.payout;
        found.looked_at.push(LookedAt { payout: payout.id, version: payout.version, at_rest: false });
        if let Some(words) = difference(&stored, permits.get(&payout.id.0)) {
            found.findings.push(Finding {
                check: Check::PermitAltered,
                project: payout.project.clone(),
                payout: Some(payout.id),
                subject: payout.id.to_string(),
                words: words.to_owned(),
            });
        }
    }
    Ok(())
}

/// All at once; one by one if there is one among them that cannot be read.
async fn readable(
    db: &mut PgConnection,
    ids: &[PayoutId],
) -> Result<(Vec<Stored>, Vec<Finding>), StoreError> {
    match payouts::read(db, ids).await {
        Ok(stored) => return Ok((stored, vec![])),
        Err(StoreError::ImpossibleRow { .. }) => {}
        Err(error @ (StoreError::Database(_) | StoreError::Silent(_))) => return Err(error),
    }
    let (mut stored, mut findings) = (vec![], vec![]);
    for id in ids {
        match payouts::read(db, &[*id]).await {
            Ok(one) => stored.extend(one),
            Err(StoreError::ImpossibleRow { table, column, .. }) => {
                let project: String = sqlx::query_scalar("SELECT project_id FROM payouts WHERE id = $1")
                    .bind(id.0)
                    .fetch_one(&mut *db)
                    .await?;
                findings.push(Finding {
                    check: Check::ImpossibleRow,
                    project: ProjectId(project),
                    payout: Some(*id),
                    subject: id.to_string(),
                    words: format!("{table}.{column} cannot be read"),
                });
            }
            Err(error @ (StoreError::Database(_) | StoreError::Silent(_))) => return Err(error),
        }
    }
    Ok((stored, findings))
}

fn difference(stored: &Stored, row: Option<&PermitRow>) -> Option<&'static str> {
    let payout = &stored.payout;
    let Some((_, kind, bound_to, rule_set)) = row else {
        return payout.permit.as_ref().map(|_| "the payout holds a permit that is not there");
    };
    let Some(permit) = &payout.permit else { return Some("there is a permit that the payout does not hold") };
    if permit.kind.code() != kind || permit.bound_to.as_slice() != bound_to {
        return Some("the payout holds another permit than there is");
    }
    // A permit always has a session, which a payout keeps.
    let Some(session) = payout.state.session() else { return Some("it has a permit and no session") };
    let kind = PermitKind::from_code(kind)?;
    (Permit::bind(kind, payout, session, rule_set) != *permit).then_some("the permit is about something else")
}
