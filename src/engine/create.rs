//! Storing orders. No provider call happens here, so one local transaction settles the caller's idempotency
//! key for ever.

use super::{Core, EngineError, hands::Handed};
use crate::{
    crash_point,
    domain::id::PayoutId,
    store::{
        StoreError,
        payouts::{self, KeyHolder, NewPayout, Stored},
        retry,
        steps::{self, Orders, Steps},
        writer::Writer,
    },
};
use sqlx::PgConnection;
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
        batch: &[NewPayout],
    ) -> Vec<Result<Created, EngineError>> {
        match self.create_together(writer, batch).await {
            Ok(created) => created.into_iter().map(Ok).collect(),
            Err(error) if error.blames_the_data() && batch.len() > 1 => {
                let mut answers = Vec::with_capacity(batch.len());
                for new in batch {
                    let alone = self.create_together(writer, std::slice::from_ref(new)).await;
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
        let orders = Orders { new: batch, leases: &leases, first_look: self.policy.polling.of_queued() };
        let written = steps::write(&mut db, &Steps { orders, ..Steps::default() }, None).await?;
        self.begun(&written.inserted, written.by, before);
        handed.claimed(written.claimed);
        handed.over();
        if handed.left_calls && !written.inserted.is_empty() {
            self.wake.effects.notify_one();
        }
        let created = outcomes(&mut db, batch, written.inserted).await?;
        db.done();
        Ok(created)
    }

    /// These orders are committed.
    pub(super) fn begun(&self, inserted: &[Stored], by: Option<steps::Writer>, before: Instant) {
        crash_point::pass("intake.committed");
        if let Some(one) = inserted.first() {
            self.remembered.told(one.created_at, Instant::now());
        }
        self.remembered.keep(inserted.iter(), by, before);
        metrics::counter!("payoutd_payouts_created_total")
            .increment(inserted.len().try_into().unwrap_or(u64::MAX));
    }

    /// What became of orders that were written along with something else.
    pub(super) async fn written_along(
        &self,
        writer: &Writer,
        batch: &[NewPayout],
        inserted: Vec<Stored>,
    ) -> Vec<Result<Created, EngineError>> {
        let mut stored: BTreeMap<PayoutId, Stored> =
            inserted.into_iter().map(|stored| (stored.payout.id, stored)).collect();
        let refused: Vec<NewPayout> =
            batch.iter().filter(|new| !stored.contains_key(&new.id)).cloned().collect();
        let mut others = match refused.is_empty() {
            true => vec![],
            false => self.create(writer, &refused).await,
        }
        .into_iter();
        let answer = |new: &NewPayout| match stored.remove(&new.id) {
            Some(stored) => Some(Ok(Created::New(Box::new(stored)))),
            None => others.next(),
        };
        batch.iter().filter_map(answer).collect()
    }
}

/// What became of each, when these of them have been stored.
async fn outcomes(
    db: &mut PgConnection,
    batch: &[NewPayout],
    inserted: Vec<Stored>,
) -> Result<Vec<Created>, StoreError> {
    let new: BTreeSet<PayoutId> = inserted.iter().map(|stored| stored.payout.id).collect();
    let refused: Vec<&NewPayout> = batch.iter().filter(|order| !new.contains(&order.id)).collect();
    let (holders, held) = if refused.is_empty() {
        (vec![], vec![])
    } else {
        let holders = payouts::key_holders(db, &refused).await?;
        let held: Vec<PayoutId> = holders.iter().map(|holder| holder.id).collect();
        (holders, payouts::read(db, &held).await?)
    };
    let stored = held.into_iter().chain(inserted).map(|stored| (stored.payout.id, stored)).collect();
    batch.iter().map(|order| outcome(order, &new, &holders, &stored)).collect()
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
        if holder.id == new.id {
            // By ourselves, when the answer was lost.
            return Ok(Created::New(read(holder.id)?));
        }
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
