//! Storing orders. No provider call happens here, so one local transaction settles the caller's idempotency
//! key for ever.

use super::{Core, EngineError};
use crate::{
    crash_point,
    domain::{effect::EffectKind, id::PayoutId},
    store::{
        StoreError, effects, history,
        payouts::{self, KeyHolder, NewPayout, Stored},
        pool, retry,
    },
};
use std::collections::BTreeMap;

/// What became of an order.
#[derive(Clone, Debug)]
pub enum Created {
    /// Stored just now.
    New(Box<Stored>),
    /// The key had been used for the same request: this is its payout.
    Existing(Box<Stored>),
    Refused(CreateRefusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateRefusal {
    /// The key belongs to a different request.
    KeyReused(PayoutId),
    /// Another payout of the project carries this reference.
    ReferenceTaken(PayoutId),
}

impl Core {
    pub(super) async fn create(&self, batch: Vec<NewPayout>) -> Vec<Result<Created, EngineError>> {
        match self.create_together(&batch).await {
            Ok(created) => created.into_iter().map(Ok).collect(),
            Err(error) if error.blames_the_data() && batch.len() > 1 => {
                let mut answers = Vec::with_capacity(batch.len());
                for new in batch {
                    let alone = self.create_together(std::slice::from_ref(&new)).await;
                    answers.push(alone.map(|mut one| one.remove(0)).map_err(EngineError::from));
                }
                answers
            }
            Err(error) => {
                let error = EngineError::from(error);
                tracing::error!(%error, orders = batch.len(), "orders could not be stored");
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn create_together(&self, batch: &[NewPayout]) -> Result<Vec<Created>, StoreError> {
        retry::transient(|| self.store(batch)).await
    }

    async fn store(&self, batch: &[NewPayout]) -> Result<Vec<Created>, StoreError> {
        let mut tx = self.pool.begin().await?;
        crash_point::pass("intake.begun");
        let now = pool::now(&mut tx).await?;
        let inserted = payouts::insert(&mut tx, batch, now, now + self.policy.polling.steady).await?;
        let calls: Vec<_> = inserted.iter().map(|id| (*id, EffectKind::CreateSession)).collect();
        effects::insert(&mut tx, &calls).await?;
        let entries: Vec<_> =
            batch.iter().filter(|new| inserted.contains(&new.id)).map(|new| entry(new, now)).collect();
        history::append(&mut tx, &entries).await?;
        crash_point::pass("intake.inserted");
        let refused: Vec<&NewPayout> = batch.iter().filter(|new| !inserted.contains(&new.id)).collect();
        let holders =
            if refused.is_empty() { vec![] } else { payouts::key_holders(&mut tx, &refused).await? };
        let mut wanted = inserted.clone();
        wanted.extend(holders.iter().map(|holder| holder.id));
        wanted.sort_unstable();
        wanted.dedup();
        let stored: BTreeMap<PayoutId, Stored> = payouts::read(&mut tx, &wanted)
            .await?
            .into_iter()
            .map(|stored| (stored.payout.id, stored))
            .collect();
        tx.commit().await?;
        crash_point::pass("intake.committed");
        if !inserted.is_empty() {
            self.wake.effects.notify_one();
        }
        metrics::counter!("payoutd_payouts_created_total")
            .increment(inserted.len().try_into().unwrap_or(u64::MAX));
        batch.iter().map(|new| outcome(new, &inserted, &holders, &stored)).collect()
    }
}

fn entry(new: &NewPayout, now: time::OffsetDateTime) -> history::Entry {
    history::Entry {
        payout: new.id,
        seq: 1,
        at: now,
        event: "created".to_owned(),
        decision: "move",
        reason: "created",
        from_state: None,
        to_state: "accepted",
        actor: Some(new.order.created_by.clone()),
        detail: None,
    }
}

fn outcome(
    new: &NewPayout,
    inserted: &[PayoutId],
    holders: &[KeyHolder],
    stored: &BTreeMap<PayoutId, Stored>,
) -> Result<Created, StoreError> {
    let read = |id: PayoutId| {
        stored.get(&id).cloned().map(Box::new).ok_or_else(|| StoreError::ImpossibleRow {
            table: "payouts",
            column: "id",
            id: id.to_string(),
        })
    };
    if inserted.contains(&new.id) {
        return Ok(Created::New(read(new.id)?));
    }
    let same_key = holders
        .iter()
        .find(|holder| holder.project == new.project && holder.idempotency_key == new.idempotency_key);
    if let Some(holder) = same_key {
        if holder.request_fingerprint == new.request_fingerprint {
            return Ok(Created::Existing(read(holder.id)?));
        }
        return Ok(Created::Refused(CreateRefusal::KeyReused(holder.id)));
    }
    let same_reference = holders
        .iter()
        .find(|holder| holder.project == new.project && holder.reference == new.order.reference);
    match same_reference {
        Some(holder) => Ok(Created::Refused(CreateRefusal::ReferenceTaken(holder.id))),
        // Refused by an index, yet nobody holds key or reference: rows are never deleted.
        None => Err(StoreError::ImpossibleRow {
            table: "payouts",
            column: "idempotency_key",
            id: new.id.to_string(),
        }),
    }
}
