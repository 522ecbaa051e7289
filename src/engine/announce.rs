//! Telling: the words of the history, the message to the caller, the log line and the metrics of a
//! transition. Nothing here may carry a card number, a token or a name.

use super::{Core, write::Writes};
use crate::{
    domain::{
        decide::Reason,
        event::{Command, Event, Observation, Outcome},
        id::PayoutId,
        payout::{Anomaly, Payout},
        permit::Unfit,
        session::Shows,
        state::{Ending, State},
    },
    store::{encoding::Code, history, notifications::NewNotification, payouts::Stored},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// The log line of one recorded event.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) payout: PayoutId,
    project: String,
    seq: i64,
    event: String,
    decision: &'static str,
    reason: &'static str,
    from: &'static str,
    to: &'static str,
    anomaly: Option<&'static str>,
    age_ms: i64,
}

impl Line {
    pub(super) fn of(stored: &Stored, entry: &history::Entry, anomaly: Option<Anomaly>) -> Self {
        let age = (entry.at - stored.created_at).whole_milliseconds();
        Self {
            payout: stored.payout.id,
            project: stored.payout.project.0.clone(),
            seq: entry.seq,
            event: entry.event.clone(),
            decision: entry.decision,
            reason: entry.reason,
            from: entry.from_state.unwrap_or("none"),
            to: entry.to_state,
            anomaly: anomaly.as_ref().map(Code::code),
            age_ms: age.try_into().unwrap_or(i64::MAX),
        }
    }
}

impl Core {
    /// After the commit: log, count, wake.
    pub(super) fn announce(&self, writes: &Writes<'_>) {
        for line in &writes.lines {
            metrics::counter!("payoutd_transitions_total", "from" => line.from, "to" => line.to,
                "decision" => line.decision, "reason" => line.reason)
            .increment(1);
            if line.decision == "flag" {
                metrics::counter!("payoutd_anomalies_total", "anomaly" => line.anomaly.unwrap_or("none"))
                    .increment(1);
                // The line below has the rest.
                let (payout, seq, anomaly) = (line.payout, line.seq, line.anomaly);
                tracing::error!(%payout, seq, anomaly, "a payout contradicts what we hold");
            }
            if line.reason == Reason::Unreadable.code() {
                metrics::counter!("payoutd_unknown_statuses_total", "from" => "webhook").increment(1);
                let (payout, seq) = (line.payout, line.seq);
                tracing::error!(%payout, seq, "Pike shows a payout in a status that we do not know");
            }
            tracing::info!(
                payout = %line.payout,
                project = line.project,
                seq = line.seq,
                event = line.event,
                decision = line.decision,
                reason = line.reason,
                from = line.from,
                to = line.to,
                anomaly = line.anomaly,
                age_ms = line.age_ms,
                "payout event recorded"
            );
        }
        for stopped in &writes.stopped {
            metrics::counter!("payoutd_line_stopped_total", "project" => stopped.project.0.clone(),
                "anomaly" => stopped.anomaly.code())
            .increment(1);
            let (project, reason) = (&stopped.project, &stopped.reason);
            tracing::error!(%project, reason, "confirms were switched off by an anomaly");
        }
        if writes.handed.left_calls {
            self.wake.effects.notify_one();
        }
        if writes.handed.left_messages {
            self.wake.notifications.notify_one();
        }
    }
}

/// The stored name of an event.
pub(super) fn event_name(event: &Event) -> String {
    match event {
        Event::Command(Command::Cancel { .. }) => "cancel_requested".to_owned(),
        Event::Command(Command::Approve { .. }) => "approved".to_owned(),
        Event::Command(Command::Reject { .. }) => "rejected".to_owned(),
        Event::Command(Command::ClearFlag { .. }) => "flag_cleared".to_owned(),
        Event::Observed(Observation::Due) => "due".to_owned(),
        Event::Observed(Observation::Reported(_)) => "webhook".to_owned(),
        Event::Observed(Observation::Withheld(_)) => "confirm_withheld".to_owned(),
        Event::Observed(Observation::Answered { call, outcome }) => {
            let how = match outcome {
                Outcome::Accepted(_) => "accepted",
                Outcome::Declined(_) => "declined",
                Outcome::Unknown(_) => "unknown",
            };
            format!("{}_{how}", call.code())
        }
    }
}

/// What the history adds in words: codes and statuses, never free text of callers.
pub(super) fn detail(event: &Event, payout: &Payout, anomaly: Option<Anomaly>) -> Option<String> {
    let told = match event {
        Event::Command(Command::ClearFlag { reason, .. }) => format!("flag taken off: {reason}"),
        Event::Command(Command::Cancel { .. } | Command::Approve { .. } | Command::Reject { .. })
        | Event::Observed(Observation::Due) => return None,
        Event::Observed(Observation::Withheld(Unfit::Stale)) => {
            "the permit is old or of other rules: Pike is asked first".to_owned()
        }
        Event::Observed(Observation::Withheld(Unfit::Altered)) => {
            "the stored payout is not the one that was permitted".to_owned()
        }
        Event::Observed(
            Observation::Reported(report) | Observation::Answered { outcome: Outcome::Accepted(report), .. },
        ) => {
            let words = report.unknown_words();
            let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
            format!("Pike's session {}: {}{words}", report.session, in_words(&report.shows(payout)))
        }
        Event::Observed(Observation::Answered { outcome: Outcome::Declined(error), .. }) => {
            format!("Pike refused: {}", error.code)
        }
        Event::Observed(Observation::Answered { outcome: Outcome::Unknown(error), .. }) => {
            format!("no usable answer: {}", error.code)
        }
    };
    Some(match anomaly {
        None => told,
        Some(anomaly) => format!("{told}; anomaly {}", anomaly.code()),
    })
}

fn in_words(shows: &Shows) -> String {
    match shows {
        Shows::NotStarted => "nothing started".to_owned(),
        Shows::Working => "in progress".to_owned(),
        Shows::AwaitsConfirm => "waits for our confirm or cancel".to_owned(),
        Shows::Paid => "paid".to_owned(),
        Shows::Returned => "paid and returned".to_owned(),
        Shows::NotPaid { code } => format!("closed unpaid ({code})"),
        Shows::SessionError => "in error, result unknown".to_owned(),
        Shows::Wrong { anomaly, .. } => format!("not what we asked for ({})", anomaly.code()),
        Shows::Unreadable => "in a status that we do not know".to_owned(),
    }
}

/// Code of why a payout ended, for callers.
fn reason(state: &State) -> Option<&str> {
    match state.ending()? {
        Ending::Failed(code) => Some(code),
        Ending::Cancelled(cause) => Some(cause.code()),
        Ending::Succeeded | Ending::Returned => None,
    }
}

/// The message that tells the caller about a final status.
pub(super) fn final_status(stored: &Stored, now: OffsetDateTime) -> NewNotification {
    let payout = &stored.payout;
    let status = payout.status().code();
    let kind = format!("payout.{status}");
    let at = now.format(&Rfc3339).expect("an instant of our time has an RFC 3339 form");
    let payload = serde_json::json!({
        "type": kind,
        "timestamp": at,
        "data": {
            "id": payout.id.to_string(),
            "project": payout.project.0,
            "sequence": payout.version,
            "status": status,
            "reason": reason(&payout.state),
            "reference": payout.order.reference,
            "customer_reference": payout.order.customer_reference,
            "amount": payout.order.amount.minor(),
            "currency": payout.order.amount.currency().code(),
        },
    });
    NewNotification {
        id: Uuid::now_v7(),
        project: payout.project.clone(),
        payout: payout.id,
        seq: payout.version,
        kind,
        payload: payload.to_string(),
        at: now,
        lease: None,
    }
}
