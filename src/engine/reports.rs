//! Keeping a daily report of Pike's and what differs between it and our books. The lines go in first, in
//! steps, and count for nothing until the report is complete; comparing, the findings and the switch that
//! they throw are one transaction. No payout is changed: a person decides what to do about it.

use super::{Engine, EngineError, findings::tell, line};
use crate::{
    domain::report::{Day, Line},
    store::{
        checks,
        findings::{self, Looked},
        reports::{self, Break, NewReport},
    },
};

/// Lines in one step.
const STEP: usize = 2_000;

/// How a report and our books compare.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Lines of this report about which nothing is open.
    pub matched: i64,
    /// All that is open for the project, from this report and others.
    pub breaks: Vec<Break>,
}

impl Engine {
    /// Keeps a report, whose lines come in their parts, in the place of the one that was read for its day
    /// before, and compares it with our books: what differs is kept, what agrees by now is forgotten, and the
    /// line stops where money moved wrongly. The same report again only compares.
    ///
    /// # Errors
    /// Database errors; the day's report is the one before.
    pub async fn keep_report(
        &self,
        new: &NewReport,
        day: Day,
        parts: &[&[Line]],
    ) -> Result<Compared, EngineError> {
        let known = reports::known(&mut *self.core.pool.acquire().await?, new).await?;
        let report = match known {
            Some(report) => report,
            None => self.add_report(new, parts).await?,
        };
        let mut tx = self.core.pool.begin().await?;
        reports::lock(&mut tx).await?;
        reports::complete(&mut tx, report, new).await?;
        let found = checks::of_report(&mut tx, &new.project, report, day).await?;
        let fresh = findings::keep(&mut tx, &found).await?;
        findings::forget(&mut tx, Looked::Reports(&new.project)).await?;
        let stopped = line::stop_for(&mut tx, &fresh).await?;
        let matched = reports::matched(&mut tx, report).await?;
        let breaks = reports::breaks(&mut tx, &new.project).await?;
        tx.commit().await?;
        tell(&fresh, &stopped);
        Ok(Compared { matched, breaks })
    }

    async fn add_report(&self, new: &NewReport, parts: &[&[Line]]) -> Result<i64, EngineError> {
        let mut tx = self.core.pool.begin().await?;
        let report = reports::begin(&mut tx, new).await?;
        tx.commit().await?;
        for (part, lines) in (1..).zip(parts) {
            for step in lines.chunks(STEP) {
                let mut tx = self.core.pool.begin().await?;
                reports::add(&mut tx, report, &new.project, part, step).await?;
                tx.commit().await?;
            }
        }
        reports::analyze(&mut *self.core.pool.acquire().await?).await?;
        Ok(report)
    }
}
