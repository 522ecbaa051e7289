//! Takes the flag off a payout from the command line: through the engine, as all that changes a payout.

use crate::{
    config::{self, Config},
    domain::{
        event::{Command, Event},
        id::PayoutId,
    },
    engine::{Applied, Cause, Core, Engine, Envelope, Remembered, Sessions, Wake},
    store::{payouts, pool},
};
use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use sqlx::PgPool;

/// Who did it, in the history.
const BY: &str = "command line";
/// A reason is a sentence or a few.
const LONGEST_REASON: usize = 500;

/// Clears the anomaly of a payout; a running payoutd goes on with it by itself.
///
/// # Errors
/// When there is no such payout or no flag on it, or the reason is no text, or the database fails.
pub async fn unflag(config: &Config, id: PayoutId, reason: &str) -> Result<()> {
    let good = !reason.trim().is_empty() && reason.len() <= LONGEST_REASON;
    if !good || reason.contains(char::is_control) {
        bail!("--reason: 1 to {LONGEST_REASON} characters without line breaks, for the history");
    }
    let pool = pool::connect(config.database.url.expose_secret(), 2).await?;
    pool::check_schema(&pool).await?;
    let mut db = pool.acquire().await?;
    let stored = payouts::read(&mut db, &[id]).await?.pop();
    drop(db);
    let project = stored.with_context(|| format!("there is no payout {id}"))?.payout.project;
    let engine = engine(config, pool)?;
    let command = Command::ClearFlag { by: BY.to_owned(), reason: reason.to_owned() };
    let envelope = Envelope { payout: id, event: Event::Command(command), cause: Cause::Command(project) };
    match engine.submit(envelope).await? {
        Applied::Done(_) => Ok(()),
        Applied::Refused(_) => bail!("there is no flag on {id}: nothing was changed"),
        Applied::Superseded | Applied::NoSuchPayout => bail!("there is no payout {id}"),
    }
}

/// An engine for one command; the payoutd that runs beside it finds by polling what it leaves to do.
pub(super) fn engine(config: &Config, pool: PgPool) -> Result<Engine> {
    let (rules, _) = config::rules::load(&config.rules.file)?;
    Ok(Engine::start(Core {
        pool,
        policy: config.policy(),
        rules,
        stop_line: config.stop_line(),
        mode: crate::domain::policy::Mode::Everything,
        wake: Wake::default(),
        hands: std::sync::OnceLock::default(),
        sessions: Sessions::default(),
        remembered: Remembered::default(),
    }))
}
