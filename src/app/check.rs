//! Looking at everything from the command line: the checker's questions, asked once, of all payouts.

use crate::{
    config::Config,
    domain::checking::{Check, Finding},
    store::{encoding::Code, findings, pool},
    worker::checker,
};
use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;

/// A reason is a sentence or a few.
const LONGEST_REASON: usize = 500;

/// Everything that is not as promised, save what was accepted: check, subject, project, payout and words, a
/// line each. Nothing is stopped and no finding is kept: that is for a running payoutd.
///
/// # Errors
/// When the database cannot be reached or does not answer.
pub async fn check(config: &Config) -> Result<Vec<String>> {
    let pool = pool::connect(config.database.url.expose_secret(), 2).await?;
    pool::check_schema(&pool).await?;
    let found = checker::everything(&pool, config.checker.patience).await?;
    Ok(found.iter().map(line).collect())
}

fn line(finding: &Finding) -> String {
    let payout = finding.payout.map(|id| id.to_string()).unwrap_or_default();
    let Finding { check, project, subject, words, .. } = finding;
    format!("{}\t{subject}\t{project}\t{payout}\t{words}", check.code())
}

/// Notes that a person has looked at a finding and lets it stand.
///
/// # Errors
/// When there is no such finding, or the database fails.
pub async fn accept(url: &str, check: &str, subject: &str, reason: &str) -> Result<()> {
    let known = Check::from_code(check).with_context(|| format!("there is no check {check}"))?;
    let good = !reason.trim().is_empty() && reason.len() <= LONGEST_REASON;
    if !good || reason.contains(char::is_control) {
        bail!("--reason: 1 to {LONGEST_REASON} characters without line breaks");
    }
    let mut tx = pool::connect(url, 1).await?.begin().await?;
    let accepted = findings::accept(&mut tx, known, subject, reason).await?;
    tx.commit().await?;
    if !accepted {
        bail!(
            "there is no finding {check} of {subject} that a running payoutd has kept: nothing was changed"
        );
    }
    Ok(())
}
