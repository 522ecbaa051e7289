//! The last look before money moves: what a claimed confirm stands on, read again right before it is sent.

use crate::{
    batch::{Batcher, Gone},
    domain::{
        id::PayoutId,
        permit::{self, Unfit},
    },
    store::{
        StoreError,
        effects::{Claimed, EffectClaim},
        retry,
        standing::{self, Standing},
        writer::Writer,
    },
};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

/// What a confirm must still fulfil.
#[derive(Clone, Debug)]
pub struct ConfirmSettings {
    /// The version of the rules in force.
    pub rule_set: String,
    /// A permit older than this is decided again, after a look at Pike.
    pub max_age: Duration,
}

/// Longest that the last look may take. It comes out of what the lease leaves beside the call itself: later
/// than that, somebody else may hold the effect, and the confirm is not sent.
pub const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Whether a confirm may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Good,
    /// The claim is somebody else's now: whoever holds it goes on.
    NotOurs,
    /// Confirms were switched off since it was claimed.
    SwitchedOff,
    Unfit(Unfit),
}

/// Takes last looks, those that are wanted at the same time together.
#[derive(Clone)]
pub(super) struct Looks(Batcher<Wanted, Result<Look, Arc<StoreError>>>);

/// The confirm that is to be sent.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    claim: EffectClaim,
    payout: PayoutId,
}

/// Most looks in one query.
const MAX_BATCH: usize = 128;

impl Looks {
    /// `most` confirms can be on their way at once.
    pub(super) fn start(pool: PgPool, settings: ConfirmSettings, most: usize) -> Self {
        let shared = Arc::new((Writer::new(pool), settings));
        Self(Batcher::spawn(MAX_BATCH, most.max(1), move |wanted: Vec<Wanted>| {
            let shared = Arc::clone(&shared);
            async move { look(&shared.0, &wanted, &shared.1).await }
        }))
    }

    /// Reads what this confirm stands on, in the present: after it was asked for, and in time or not at all.
    ///
    /// # Errors
    /// Nothing is known, so nothing may be sent.
    pub(super) async fn look(&self, effect: &Claimed) -> Result<Look, Arc<StoreError>> {
        let wanted = Wanted { claim: effect.claim, payout: effect.payout };
        let silent = || Err(Arc::new(StoreError::Silent(LOOK_WITHIN)));
        match tokio::time::timeout(LOOK_WITHIN, self.0.submit(wanted)).await {
            Ok(Ok(look)) => look,
            Ok(Err(Gone)) | Err(_) => silent(),
        }
    }
}

async fn look(
    writer: &Writer,
    wanted: &[Wanted],
    settings: &ConfirmSettings,
) -> Vec<Result<Look, Arc<StoreError>>> {
    match look_together(writer, wanted, settings).await {
        Ok(looks) => looks.into_iter().map(Ok).collect(),
        // One of them cannot be read: let the others through.
        Err(error) if error.blames_the_data() && wanted.len() > 1 => {
            let mut looks = Vec::with_capacity(wanted.len());
            for one in wanted {
                let alone = look_together(writer, std::slice::from_ref(one), settings).await;
                looks.push(alone.map(|mut one| one.remove(0)).map_err(Arc::new));
            }
            looks
        }
        Err(error) => {
            let error = Arc::new(error);
            wanted.iter().map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}

async fn look_together(
    writer: &Writer,
    wanted: &[Wanted],
    settings: &ConfirmSettings,
) -> Result<Vec<Look>, StoreError> {
    retry::within(LOOK_WITHIN, async {
        let mut db = writer.hold().await?;
        let claims: Vec<EffectClaim> = wanted.iter().map(|wanted| wanted.claim).collect();
        let standing = standing::read(&mut db, &claims).await?;
        db.done();
        let of = |wanted: &Wanted| {
            let standing = standing.get(&wanted.claim)?;
            (standing.stored.payout.id == wanted.payout).then(|| judge(standing, settings))
        };
        Ok(wanted.iter().map(|wanted| of(wanted).unwrap_or(Look::NotOurs)).collect())
    })
    .await
}

fn judge(standing: &Standing, settings: &ConfirmSettings) -> Look {
    if !standing.confirms_on {
        return Look::SwitchedOff;
    }
    let max_age = time::Duration::try_from(settings.max_age).unwrap_or(time::Duration::MAX);
    let checked = permit::check(&standing.stored.payout, &standing.evidence, &settings.rule_set, max_age);
    checked.map_or_else(Look::Unfit, |()| Look::Good)
}
