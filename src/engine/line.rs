//! Stopping the line: anomalies and findings of the money kind switch their project's confirms off, in the
//! transaction that records them. Only a person switches them on again.

use crate::{
    domain::{
        checking::Finding,
        id::{PayoutId, ProjectId},
        payout::{Alarm, Anomaly},
        policy::StopLine,
    },
    store::{
        StoreError,
        anomalies::{self, NewAnomaly},
        encoding::Code,
        rules,
    },
};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// Who switched, in the audit of switches.
const BY: &str = "payoutd";

/// A project whose confirms were switched off, and the history entry that did it.
#[derive(Clone, Debug)]
pub(super) struct StoppedLine {
    pub project: ProjectId,
    pub payout: PayoutId,
    pub seq: i64,
    pub anomaly: Anomaly,
    pub reason: String,
}

/// Switches off the confirms of every project that has had enough. What is off already stays as it was.
pub(super) async fn stop(
    tx: &mut PgConnection,
    new: &[NewAnomaly],
    stop_line: &StopLine,
    now: OffsetDateTime,
) -> Result<Vec<StoppedLine>, StoreError> {
    let mut looked_at = BTreeSet::new();
    let mut stopped = vec![];
    // The worst first, so that it is the one that is named.
    let mut alarming: Vec<&NewAnomaly> =
        new.iter().filter(|new| new.anomaly.alarm() != Alarm::None).collect();
    alarming.sort_by_key(|new| new.anomaly.alarm() != Alarm::AtOnce);
    for new in alarming {
        if !looked_at.insert(&new.project) {
            continue;
        }
        let Some(why) = enough(tx, new, stop_line, now).await? else { continue };
        let reason = format!("{}: {} ({why})", new.payout, new.anomaly.code());
        if rules::stop_confirms(tx, &new.project, BY, &reason).await? {
            stopped.push(StoppedLine {
                project: new.project.clone(),
                payout: new.payout,
                seq: new.seq,
                anomaly: new.anomaly,
                reason,
            });
        }
    }
    Ok(stopped)
}

/// Switches off the confirms of every project that a new finding of the money kind is about: one is enough.
/// Says which were on, and what did it.
pub(super) async fn stop_for<'a>(
    tx: &mut PgConnection,
    new: &[&'a Finding],
) -> Result<Vec<(&'a Finding, String)>, StoreError> {
    let mut stopped = vec![];
    for finding in new.iter().filter(|finding| finding.check.stops_the_line()) {
        let reason = format!("{}: found {}", finding.subject, finding.check.code());
        if rules::stop_confirms(tx, &finding.project, BY, &reason).await? {
            stopped.push((*finding, reason));
        }
    }
    Ok(stopped)
}

/// Why it is enough, if it is.
async fn enough(
    tx: &mut PgConnection,
    new: &NewAnomaly,
    stop_line: &StopLine,
    now: OffsetDateTime,
) -> Result<Option<String>, StoreError> {
    match new.anomaly.alarm() {
        Alarm::None => Ok(None),
        Alarm::AtOnce => Ok(Some("one is enough".to_owned())),
        Alarm::Counted => {
            let count = anomalies::counted(tx, &new.project, now, stop_line.window).await?;
            let window = stop_line.window;
            Ok((count >= stop_line.anomalies).then(|| format!("{count} within {window}")))
        }
    }
}
