//! The only writer of payouts. [`Engine::apply`] takes a batch of events and, in one transaction, locks the
//! payouts, closes the events' causes, lets `domain::decide` decide and writes everything that follows.
//! Mostly it decides first, upon what this process has written or read; then it is all one statement.
//! It speaks to no network but the database; after the commit it wakes whoever has work now.

mod announce;
mod apply;
mod at_once;
mod create;
mod findings;
mod hands;
mod line;
mod remembered;
mod reports;
mod sessions;
mod together;
mod write;

pub use create::{CreateRefusal, Created};
pub use hands::{Callers, Hands, Place, Tellers};
pub use remembered::Remembered;
pub use reports::Compared;
pub use sessions::Sessions;

use crate::{
    batch::{Batcher, Busy, Gone},
    crash_point,
    domain::{
        decide::Refusal,
        event::Event,
        id::{PayoutId, ProjectId, SessionId},
        policy::{Mode, Policy, StopLine},
        rules::RuleSet,
    },
    store::{
        StoreError,
        effects::{self, EffectClaim},
        inbox::{InboxClaim, Incoming},
        notifications::Settled,
        payouts::{NewPayout, Stored},
        retry,
        rules::{self, Switch},
        writer::Writer,
    },
};
use sqlx::PgPool;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use together::{Done, Item};
use tokio::sync::Notify;
use uuid::Uuid;

/// Most events, orders and deliveries in one transaction. Bounds how long rows stay locked and how much one
/// poisoned event delays.
pub const MAX_BATCH: usize = 128;
/// Payouts asked about in one transaction when everything is.
const READS_IN_ONE_COMMIT: i64 = 5_000;
/// So long a webhook waits for being kept with what it shows: no row that somebody holds keeps Pike waiting.
const KEPT_WITHIN: Duration = Duration::from_millis(500);
/// Transactions under way at once: while one waits for the disk the other goes on. More of them would be
/// smaller, and cost the database, and with it everybody, far more.
const WRITERS: usize = 2;
/// Most items waiting for a transaction; beyond it workers wait and callers are told to come back.
pub const MAX_WAITING: usize = 4096;

/// An event on its way to a payout, with what caused it.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub payout: PayoutId,
    pub event: Event,
    pub cause: Cause,
}

/// What an event comes from. Closed in the same transaction; an event whose cause is no longer ours is
/// dropped.
#[derive(Clone, Debug)]
pub enum Cause {
    /// A caller of this project.
    Command(ProjectId),
    /// An effect under this claim.
    Effect(EffectClaim),
    /// A webhook under this claim.
    Inbox(InboxClaim),
    /// A webhook that is kept together with what it shows.
    Fresh(Arc<Fresh>),
    /// The due time that was seen on the payout.
    Due(OffsetDateTime),
}

/// A genuine webhook that is not in the database yet.
#[derive(Debug)]
pub struct Fresh {
    webhook: Arc<Incoming>,
    /// Whoever brought it no longer waits, and has it kept otherwise.
    given_up: AtomicBool,
}

/// What became of an event.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Decided and written; the payout as it is now.
    Done(Box<Stored>),
    /// A command that cannot be granted.
    Refused(Refusal),
    /// The cause had been taken over by someone else: nothing was written.
    Superseded,
    /// There is no such payout (for this caller).
    NoSuchPayout,
}

/// The engine could not write. Nothing of the batch was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(Arc<StoreError>),
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("too many writes are waiting")]
    Busy,
    /// Orders and commands have to wait until it takes them again.
    #[error("payoutd only reconciles")]
    ReconcileOnly,
    /// Somebody has to look before this webhook can be applied, which must not keep Pike waiting.
    #[error("the webhook has to be kept first")]
    NotKept,
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<sqlx::Error> for EngineError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Wake-ups after a commit, within this process. They only save waiting: polling is the guarantee.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    pub effects: Arc<Notify>,
    pub notifications: Arc<Notify>,
}

/// What the engine works with.
pub struct Core {
    pub pool: PgPool,
    pub policy: Policy,
    pub rules: RuleSet,
    pub stop_line: StopLine,
    pub mode: Mode,
    pub wake: Wake,
    /// Who begins at once with what follows; nobody until they are there.
    pub hands: OnceLock<Hands>,
    pub sessions: Sessions,
    pub remembered: Remembered,
}

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    /// By payout.
    writers: [Batcher<Item, Done>; WRITERS],
    /// For batches that are applied as they come.
    aside: Arc<Writer>,
}

impl Engine {
    /// Starts the engine's writers.
    #[must_use]
    pub fn start(core: Core) -> Self {
        let core = Arc::new(core);
        let writer = || Arc::new(Writer::new(core.pool.clone()));
        let writers = std::array::from_fn(|_| {
            let (core, writer) = (Arc::clone(&core), writer());
            Batcher::spawn(MAX_BATCH, MAX_WAITING, move |items| {
                let (core, writer) = (Arc::clone(&core), Arc::clone(&writer));
                async move { core.write(&writer, items).await }
            })
        });
        let aside = writer();
        Self { core, writers, aside }
    }

    fn writer_of(&self, id: Uuid) -> &Batcher<Item, Done> {
        // The end of an id is random; its beginning is the time.
        let [.., last] = id.into_bytes();
        &self.writers[usize::from(last) % WRITERS]
    }

    /// From now on what follows from an event is handed over, as far as there are places.
    pub fn hand_over_to(&self, hands: Hands) {
        // A second time would be somebody who does not know of the first.
        assert!(self.core.hands.set(hands).is_ok(), "hands are given once");
    }

    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.core.wake
    }

    /// Applies one event together with whatever else is waiting.
    ///
    /// # Errors
    /// [`EngineError`]: the event was not applied, or it is not known whether it was.
    pub async fn submit(&self, envelope: Envelope) -> Result<Applied, EngineError> {
        if let (Event::Command(_), Mode::ReconcileOnly) = (&envelope.event, self.core.mode) {
            return Err(EngineError::ReconcileOnly);
        }
        let id = envelope.payout.0;
        applied(self.writer_of(id).submit(Item::Event(envelope)).await?)
    }

    /// Keeps a genuine webhook and applies what it shows, in one transaction, if that can be done without
    /// looking. Says whether it was new, once it is committed; nothing if it has to be kept by itself first.
    pub async fn keep(&self, webhook: Arc<Incoming>, payout: PayoutId, event: Event) -> Option<bool> {
        let fresh = Arc::new(Fresh { webhook, given_up: AtomicBool::new(false) });
        let envelope = Envelope { payout, event, cause: Cause::Fresh(Arc::clone(&fresh)) };
        let keeping = async {
            let done = self.writer_of(payout.0).try_submit(Item::Event(envelope)).await?;
            Ok::<_, Busy>(applied(done))
        };
        match tokio::time::timeout(KEPT_WITHIN, keeping).await {
            Ok(Ok(Ok(Applied::Done(_) | Applied::Refused(_)))) => Some(true),
            Ok(Ok(Ok(Applied::Superseded))) => Some(false),
            Ok(Ok(Ok(Applied::NoSuchPayout) | Err(_)) | Err(_)) | Err(_) => {
                fresh.given_up.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether what happens to this payout now would share a commit with something else.
    #[must_use]
    pub fn has_waiting(&self, payout: PayoutId) -> bool {
        self.writer_of(payout.0).has_waiting()
    }

    /// Whose session this is, if this process knows.
    #[must_use]
    pub fn whose(&self, project: &ProjectId, session: &SessionId) -> Option<PayoutId> {
        self.core.sessions.whose(project, session)
    }

    /// Applies these events in one transaction, at once.
    pub async fn apply(&self, batch: Vec<Envelope>) -> Vec<Result<Applied, EngineError>> {
        self.core.apply(&self.aside, batch).await
    }

    /// Stores one order together with whatever else is waiting. Calling again with the same key is safe.
    ///
    /// # Errors
    /// [`EngineError`]: the order may or may not be stored; the same key finds out.
    pub async fn create(&self, new: NewPayout) -> Result<Created, EngineError> {
        if self.core.mode == Mode::ReconcileOnly {
            return Err(EngineError::ReconcileOnly);
        }
        let done = self.writer_of(new.id.0).try_submit(Item::Order(Box::new(new))).await;
        let done = done.map_err(|busy| match busy {
            Busy::Full => EngineError::Busy,
            Busy::Gone(gone) => EngineError::Gone(gone),
        })?;
        match done {
            Done::Order(created) => created,
            Done::Event(_) | Done::Delivery(_) => unreachable!("{OTHER}"),
        }
    }

    /// Records that a delivery has ended, together with whatever else is waiting.
    ///
    /// # Errors
    /// [`EngineError`]: it may not be recorded; then its lease ends and it is delivered once more.
    pub async fn settle(&self, settled: Settled) -> Result<(), EngineError> {
        match self.writer_of(settled.id).submit(Item::Delivery(settled)).await? {
            Done::Delivery(recorded) => recorded,
            Done::Event(_) | Done::Order(_) => unreachable!("{OTHER}"),
        }
    }

    /// Asks for a status read of every payout that has a session and is not final, or became so within
    /// `recent`. Says how many reads are new.
    ///
    /// # Errors
    /// Database errors: some may have been asked for; asking again is harmless.
    pub async fn ask_about_everything(&self, recent: Duration) -> Result<i64, EngineError> {
        let (mut asked, mut after) = (0, None);
        loop {
            let mut tx = self.core.pool.begin().await?;
            let page = effects::insert_reads(&mut tx, recent, after, READS_IN_ONE_COMMIT).await?;
            tx.commit().await?;
            asked += page.added;
            after = page.last;
            if after.is_none() {
                self.core.wake.effects.notify_one();
                return Ok(asked);
            }
        }
    }

    /// Throws the switch for confirms. Once this returns, no confirm is permitted against it.
    ///
    /// # Errors
    /// Database errors: the switch may or may not have been thrown.
    pub async fn set_confirms(
        &self,
        scope: &str,
        confirms: Switch,
        by: &str,
        reason: &str,
    ) -> Result<(), EngineError> {
        let (core, scope) = (Arc::clone(&self.core), scope.to_owned());
        let (by, reason) = (by.to_owned(), reason.to_owned());
        // Detached: a caller who hangs up must not leave the transaction half way.
        // Again, too: a batch that waits for a payout holds the switches meanwhile.
        let task = tokio::spawn(async move {
            retry::transient(|| async {
                let mut tx = core.pool.begin().await?;
                rules::set_confirms(&mut tx, &scope, confirms, &by, &reason).await?;
                crash_point::pass("switch.written");
                Ok(tx.commit().await?)
            })
            .await?;
            crash_point::pass("switch.committed");
            tracing::warn!(scope, ?confirms, by, reason, "the switch for confirms was thrown");
            Ok(())
        });
        task.await.unwrap_or(Err(EngineError::Gone(Gone)))
    }
}

/// What a writer answers is of the kind that it was given.
const OTHER: &str = "the answer to something else";

fn applied(done: Done) -> Result<Applied, EngineError> {
    match done {
        Done::Event(applied) => applied,
        Done::Order(_) | Done::Delivery(_) => unreachable!("{OTHER}"),
    }
}
