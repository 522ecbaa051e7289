//! A person who is called when payoutd stops a project's confirms by itself: looks, and lets them go on.
//! Under a Pike that lies that happens; with nobody to answer the alarm, payouts would wait for ever.

use crate::load::{SwitchedOff, Voices};
use payoutd::clock::Clock;
use sqlx::PgPool;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// How often somebody looks at the alarms.
const LOOK: Duration = Duration::from_millis(100);

pub struct Operator {
    /// Times in which the line is known to have been stopped.
    stopped: Arc<Mutex<Vec<SwitchedOff>>>,
    work: JoinHandle<()>,
}

impl Operator {
    pub fn call(pool: PgPool, voices: Voices, pause: Duration) -> Self {
        let stopped = Arc::default();
        let work = tokio::spawn(watch(pool, voices, pause, Arc::clone(&stopped)));
        Self { stopped, work }
    }

    /// Ends the work, and what was stopped.
    pub fn dismiss(self) -> Vec<SwitchedOff> {
        std::mem::take(&mut *self.stopped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn watch(pool: PgPool, voices: Voices, pause: Duration, stopped: Arc<Mutex<Vec<SwitchedOff>>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(alarm) = stopped_line(&pool).await else { continue };
        let from = Clock.now();
        tokio::time::sleep(pause).await;
        let to = Clock.now();
        // A drill may have thrown the switch meanwhile: then nothing is known about the time between.
        let same = stopped_line(&pool).await.as_ref() == Some(&alarm);
        let reason = alarm.0;
        voices.throw("on", &reason).await;
        if same {
            let off = SwitchedOff { reason, from, to };
            stopped.lock().unwrap_or_else(PoisonError::into_inner).push(off);
        }
    }
}

/// Why and since when, if payoutd itself has stopped the line. Postgres may be gone: then nobody knows.
async fn stopped_line(pool: &PgPool) -> Option<(String, OffsetDateTime)> {
    let sql = "SELECT reason, changed_at FROM switches WHERE NOT confirms AND changed_by = 'payoutd'";
    sqlx::query_as(sql).fetch_optional(pool).await.ok().flatten()
}
