//! Reading what Pike told: webhooks become what is known of their sessions, and name the payouts to look at.

use super::memory::Unheard;
use crate::{
    domain::{
        checking::Told,
        id::{PayoutId, ProjectId, SessionId},
    },
    pike::{Webhook, read_webhook},
    store::{
        StoreError,
        told::{self, Kept, NewTold},
    },
};
use sqlx::PgConnection;

/// Webhooks in one step: a payout has two or more, mostly within moments, and is looked at once for those of
/// one step. Bounds what is read into memory.
const WEBHOOKS: i64 = 1_000;

/// What a step over the webhooks has heard.
pub(super) struct Heard {
    pub(super) concerned: Vec<PayoutId>,
    /// Those that were there, in order.
    pub(super) webhooks: Vec<i64>,
    /// There may be more. What comes meanwhile is for the next turn: whoever waited until none came any more
    /// would hear of each payout in the middle of its course.
    pub(super) full: bool,
    /// The last one heard behind which no other could appear any more, if there is one.
    pub(super) settled: Option<i64>,
}

/// Hears those of them that are there.
pub(super) async fn hear(tx: &mut PgConnection, unheard: &Unheard) -> Result<Heard, StoreError> {
    let (kept, settled) = match unheard {
        Unheard::After(after) => {
            let kept = told::webhooks(tx, *after, WEBHOOKS).await?;
            let settled = kept.iter().filter(|webhook| webhook.settled).map(|webhook| webhook.id).max();
            (kept, settled)
        }
        Unheard::Late { missing, settled, upto } => {
            (told::webhooks_of(tx, missing).await?, told::settled(tx, *settled, *upto).await?)
        }
    };
    let new: Vec<NewTold> = kept.iter().filter_map(read).collect();
    told::add(tx, &new).await?;
    let sessions: Vec<(ProjectId, SessionId)> =
        new.into_iter().map(|told| (told.project, told.session)).collect();
    let concerned = told::concerned(tx, &sessions).await?;
    let full = i64::try_from(kept.len()).is_ok_and(|count| count >= WEBHOOKS);
    let webhooks = kept.into_iter().map(|webhook| webhook.id).collect();
    Ok(Heard { concerned, webhooks, full, settled })
}

/// A body that cannot be read tells nothing; that it came is counted where it is worked on.
fn read(webhook: &Kept) -> Option<NewTold> {
    match read_webhook(&webhook.body) {
        Webhook::Session(report) => Some(NewTold {
            project: ProjectId(webhook.project_id.clone()),
            told: Told::of(&report),
            at: report.updated_at.unwrap_or(webhook.received_at),
            session: report.session,
            inbox_id: webhook.id,
            received_at: webhook.received_at,
        }),
        Webhook::OtherType(_) | Webhook::Unreadable => None,
    }
}
