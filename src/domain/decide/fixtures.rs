//! Payouts and reports to decide about.

use super::*;
use crate::domain::{
    id::{PayoutId, ProjectId},
    money::Money,
    payout::{DestinationKind, Order},
    policy::{Attempts, Polling, ResendStart},
    provider::ProviderError,
    rules::AmountLimits,
    session::{PayoutReport, PayoutStatus, SessionStatus},
};
use std::collections::BTreeMap;
use time::Duration;
use uuid::Uuid;

pub(super) const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

pub(super) fn session() -> SessionId {
    SessionId("ps_1".into())
}

pub(in crate::domain) fn policy() -> Policy {
    Policy {
        resend_start: ResendStart::Never,
        start_unresolved_after: Duration::seconds(60),
        stale_read_grace: Duration::seconds(60),
        confirm_window: Duration::minutes(240),
        hold_margin: Duration::minutes(15),
        polling: Polling {
            first: Duration::seconds(5),
            steady: Duration::seconds(30),
            longest: Duration::minutes(15),
            paid_first: Duration::days(1),
            paid_until: Duration::days(30),
        },
        attempts: Attempts::OFF,
        approvals: Approvals::ByKey,
    }
}

pub(super) fn rules() -> RuleSet {
    let rub = "RUB".parse().unwrap();
    RuleSet {
        version: "test".into(),
        amounts: BTreeMap::from([(rub, AmountLimits { min: 1, max: 1_000_000, hold_above: Some(500_000) })]),
        ..RuleSet::default()
    }
}

/// Every state once.
pub(in crate::domain) fn states() -> Vec<State> {
    let session = session();
    let cause = CancelCause::Requested;
    vec![
        State::Accepted,
        State::Starting { session: session.clone() },
        State::StartUnknown { session: session.clone() },
        State::Processing { session: session.clone() },
        State::OnHold {
            session: session.clone(),
            until: EPOCH + Duration::hours(3),
            cause: HoldCause::Approval,
        },
        State::Confirming { session: session.clone() },
        State::ConfirmUnknown { session: session.clone() },
        State::Settling { session: session.clone() },
        State::Cancelling { session: session.clone(), cause: cause.clone() },
        State::CancelUnknown { session: session.clone(), cause: cause.clone() },
        State::CancelSent { session: session.clone(), cause: cause.clone() },
        State::Unknown { session: session.clone(), cause: None },
        State::Retrying {
            session: session.clone(),
            code: "declined_by_issuer_bank".into(),
            at: EPOCH + Duration::MINUTE,
        },
        State::Succeeded { session: session.clone() },
        State::Returned { session: session.clone() },
        State::Failed { session: session.clone(), code: "declined_by_issuer_bank".into() },
        State::Cancelled { session: Some(session), cause },
    ]
}

pub(super) fn name(state: &State) -> String {
    format!("{state:?}").split([' ', '{']).next().unwrap().to_owned()
}

/// A payout in this state, with the permit that such a payout has.
pub(in crate::domain) fn payout_in(state: State) -> Payout {
    let mut payout = Payout {
        id: PayoutId(Uuid::from_u128(7)),
        project: ProjectId("demo".into()),
        order: Order {
            amount: Money::new(1000, "RUB".parse().unwrap()).unwrap(),
            destination: DestinationKind::TokenizedCard,
            destination_fingerprint: [1; 32],
            recipient_name: "Anna".into(),
            customer_reference: "user-1".into(),
            reference: None,
            created_by: "key-1".into(),
        },
        version: 3,
        attempt: 1,
        past: vec![],
        state,
        since: EPOCH,
        permit: None,
        anomaly: None,
        raised: Default::default(),
        facts: ProviderFacts { payout_id: Some("po_1".into()), ..ProviderFacts::default() },
    };
    let kind = match &payout.state {
        State::Confirming { .. }
        | State::ConfirmUnknown { .. }
        | State::Settling { .. }
        | State::Succeeded { .. }
        | State::Returned { .. }
        | State::Failed { .. }
        | State::Retrying { .. }
        | State::Unknown { cause: None, .. } => Some(PermitKind::Confirm),
        State::Cancelling { .. }
        | State::CancelUnknown { .. }
        | State::CancelSent { .. }
        | State::Cancelled { .. }
        | State::Unknown { cause: Some(_), .. } => Some(PermitKind::Cancel),
        State::Accepted
        | State::Starting { .. }
        | State::StartUnknown { .. }
        | State::Processing { .. }
        | State::OnHold { .. } => None,
    };
    payout.permit = kind.map(|kind| Permit::bind(kind, &payout, &session(), "test"));
    payout
}

/// With the switch on, for payouts that were permitted under the rules called `test`.
pub(super) fn world<'a>(now: OffsetDateTime, policy: &'a Policy, rules: &'a RuleSet) -> World<'a> {
    World { now, policy, rules, recipient_today: Some(0), confirms_on: true, permitted_under: Some("test") }
}

pub(super) fn decide_at(payout: &Payout, event: &Event, now: OffsetDateTime) -> Decision {
    let (policy, rules) = (policy(), rules());
    decide(payout, event, &world(now, &policy, &rules))
}

pub(super) fn at_once(payout: &Payout, event: &Event) -> Decision {
    decide_at(payout, event, EPOCH + Duration::seconds(1))
}

/// After every waiting time but before a hold ends.
pub(super) fn later(payout: &Payout, event: &Event) -> Decision {
    decide_at(payout, event, EPOCH + Duration::hours(1))
}

pub(in crate::domain) fn report(status: SessionStatus, payout: Option<PayoutStatus>) -> SessionReport {
    let payouts = payout.into_iter().map(|status| PayoutReport {
        status,
        amount_minor: Some(1000),
        currency: Some("rub".into()),
        metadata: Some(payout_in(State::Accepted).metadata_tag()),
        returned: false,
        facts: ProviderFacts { payout_id: Some("po_1".into()), ..ProviderFacts::default() },
    });
    SessionReport {
        session: session(),
        status,
        awaits_confirm: false,
        payouts: payouts.collect(),
        error: None,
        updated_at: None,
    }
}

pub(super) fn not_started() -> SessionReport {
    report(SessionStatus::Created, None)
}

pub(super) fn working() -> SessionReport {
    report(SessionStatus::InProgress, Some(PayoutStatus::InProgress))
}

pub(super) fn awaits_confirm() -> SessionReport {
    SessionReport { awaits_confirm: true, ..report(SessionStatus::InProgress, Some(PayoutStatus::Pending)) }
}

pub(super) fn paid() -> SessionReport {
    report(SessionStatus::Accepted, Some(PayoutStatus::Succeeded))
}

pub(super) fn not_paid() -> SessionReport {
    let error = ProviderError { code: "declined_by_issuer_bank".into(), description: String::new() };
    SessionReport { error: Some(error), ..report(SessionStatus::Cancelled, Some(PayoutStatus::Failed)) }
}

pub(super) fn session_error() -> SessionReport {
    report(SessionStatus::Error, Some(PayoutStatus::Failed))
}

pub(super) fn returned() -> SessionReport {
    let mut report = paid();
    report.payouts[0].returned = true;
    report
}

pub(super) fn wrong_amount() -> SessionReport {
    let mut report = awaits_confirm();
    report.payouts[0].amount_minor = Some(1001);
    report
}

pub(super) fn two_payouts() -> SessionReport {
    let mut report = working();
    report.payouts.push(report.payouts[0].clone());
    report
}

pub(super) fn unreadable() -> SessionReport {
    report(SessionStatus::Other("pondering".into()), Some(PayoutStatus::InProgress))
}
