//! Storing orders. No provider call happens here, so one local transaction settles the caller's idempotency
//! key for ever.

use super::{Core, EngineError, hands::Handed};
use crate::{
    crash_point,
    domain::id::PayoutId,
    store::{
        StoreError,
        payouts::{self, Inserted, KeyHolder, NewPayout, Stored},
        retry,
        writer::Writer,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

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
    pub(super) async fn create(
        &self,
        writer: &Writer,
        batch: Vec<NewPayout>,
    ) -> Vec<Result<Created, EngineError>> {
        match self.create_together(writer, &batch).await {
            Ok(created) => created.into_iter().map(Ok).collect(),
            Err(error) if error.blames_the_data() && batch.len() > 1 => {
                let mut answers = Vec::with_capacity(batch.len());
                for new in batch {
                    let alone = self.create_together(writer, std::slice::from_ref(&new)).await;
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

    async fn create_together(
        &self,
        writer: &Writer,
        batch: &[NewPayout],
    ) -> Result<Vec<Created>, StoreError> {
        retry::repeatable(|| self.store(writer, batch)).await
    }

    async fn store(&self, writer: &Writer, batch: &[NewPayout]) -> Result<Vec<Created>, StoreError> {
        let mut db = writer.hold().await?;
        let before = Instant::now();
        crash_point::pass("intake.begun");
        let mut handed = Handed::default();
        let leases = handed.first_calls(self.hands.get(), batch);
        let stored = payouts::insert(&mut db, batch, &leases, self.policy.polling.steady).await?;
        let came = Instant::now();
        let Inserted { stored: inserted, claimed, by } = stored;
        crash_point::pass("intake.committed");
        if let Some(one) = inserted.first() {
            self.remembered.told(one.created_at, came);
        }
        self.remembered.keep(inserted.iter(), by, before);
        handed.claimed(claimed);
        handed.over();
        if handed.left_calls && !inserted.is_empty() {
            self.wake.effects.notify_one();
        }
        let new: BTreeSet<PayoutId> = inserted.iter().map(|stored| stored.payout.id).collect();
        let refused: Vec<&NewPayout> = batch.iter().filter(|order| !new.contains(&order.id)).collect();
        let (holders, held) = if refused.is_empty() {
            (vec![], vec![])
        } else {
            let holders = payouts::key_holders(&mut db, &refused).await?;
            let held: Vec<PayoutId> = holders.iter().map(|holder| holder.id).collect();
            (holders, payouts::read(&mut db, &held).await?)
        };
        db.done();
        metrics::counter!("payoutd_payouts_created_total")
            .increment(new.len().try_into().unwrap_or(u64::MAX));
        let stored = held.into_iter().chain(inserted).map(|stored| (stored.payout.id, stored)).collect();
        batch.iter().map(|order| outcome(order, &new, &holders, &stored)).collect()
    }
}

fn outcome(
    new: &NewPayout,
    inserted: &BTreeSet<PayoutId>,
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
