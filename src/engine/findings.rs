//! Keeping what the checker has found: findings, and the switch that those of the money kind throw, are one
//! transaction. No payout is changed for a finding; a person decides what to do about it.

use super::{Engine, EngineError, line};
use crate::{
    domain::checking::Finding,
    store::{
        encoding::Code,
        findings::{self, Looked, Turn},
        retry,
    },
};

impl Engine {
    /// Keeps what was found, forgets what is gone, and stops the line where money may move wrongly. Says
    /// whether the turn was still the caller's: if not, nothing was kept.
    ///
    /// # Errors
    /// Database errors; nothing was kept.
    pub async fn keep_findings(
        &self,
        turn: &Turn,
        found: &[Finding],
        looked: Looked<'_>,
    ) -> Result<bool, EngineError> {
        let kept = retry::transient(|| async {
            let mut tx = self.core.pool.begin().await?;
            if !findings::hold_turn(&mut tx, turn).await? {
                return Ok(None);
            }
            let new = findings::keep(&mut tx, found).await?;
            findings::forget(&mut tx, looked).await?;
            let stopped = line::stop_for(&mut tx, &new).await?;
            tx.commit().await?;
            Ok(Some((new, stopped)))
        })
        .await?;
        let Some((new, stopped)) = kept else { return Ok(false) };
        tell(&new, &stopped);
        Ok(true)
    }
}

/// One line for each finding that is new, and for each line that it stopped.
pub(super) fn tell(new: &[&Finding], stopped: &[(&Finding, String)]) {
    for finding in new {
        let (check, project) = (finding.check.code(), &finding.project);
        let (payout, subject) = (finding.payout.map(|id| id.to_string()), &finding.subject);
        tracing::warn!(check, payout, subject, %project, words = finding.words, "not as promised");
    }
    for (finding, reason) in stopped {
        metrics::counter!("payoutd_line_stopped_total", "project" => finding.project.0.clone(),
            "anomaly" => finding.check.code())
        .increment(1);
        tracing::error!(project = %finding.project, reason, "confirms were switched off by a finding");
    }
}
