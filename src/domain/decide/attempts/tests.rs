//! When another attempt may begin, and that one session at most is paid whatever is told about the others.

use super::{super::fixtures::*, *};
use crate::domain::{
    payout::metadata_tag,
    policy::Attempts,
    session::{PayoutStatus, SessionStatus},
    state::Status,
};
use time::Duration;

const LISTED: &str = "declined_by_issuer_bank";

pub(super) fn on() -> Policy {
    let attempts = Attempts {
        most: 3,
        codes: vec![LISTED.into(), "start_unresolved".into()],
        pause: Duration::MINUTE,
        unsure: false,
    };
    Policy { attempts, ..policy() }
}

pub(super) fn under(policy: &Policy, payout: &Payout, event: &Event, now: OffsetDateTime) -> Decision {
    let rules = rules();
    decide(payout, event, &world(now, policy, &rules))
}

pub(super) fn heard(report: SessionReport) -> Event {
    Event::Observed(Observation::Reported(report))
}

pub(super) fn read(report: SessionReport) -> Event {
    let outcome = Outcome::Accepted(report);
    Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome })
}

pub(super) fn retrying() -> Payout {
    let at = EPOCH + Duration::MINUTE;
    payout_in(State::Retrying { session: session(), code: LISTED.into(), at })
}

pub(super) fn old() -> SessionId {
    SessionId("ps_0".into())
}

/// The same, of the first attempt's session.
pub(super) fn of_old(report: SessionReport) -> SessionReport {
    SessionReport { session: old(), ..report }
}

/// In its second attempt; the fixtures' session is the new one.
pub(super) fn second(state: State) -> Payout {
    let past = vec![PastAttempt { attempt: 1, session: old(), ended: PastEnd::Unpaid }];
    let mut payout = Payout { attempt: 2, past, ..payout_in(state) };
    let kind = payout.permit.as_ref().map(|permit| permit.kind);
    payout.permit = kind.map(|kind| Permit::bind(kind, &payout, &session(), "test"));
    payout
}

/// What Pike shows of the second attempt's session.
fn of_second(mut report: SessionReport) -> SessionReport {
    for shown in &mut report.payouts {
        shown.metadata = Some(metadata_tag(payout_in(State::Accepted).id, 2));
    }
    report
}

pub(super) fn step_of(decision: Decision) -> (Option<Anomaly>, Step) {
    match decision {
        Decision::Move(step) => (None, step),
        Decision::Flag(anomaly, step) => (Some(anomaly), step),
        other @ (Decision::Absorb(_) | Decision::Schedule(_) | Decision::Refuse(_)) => panic!("{other:?}"),
    }
}

/// The payout after a step, as `engine::write` keeps it.
fn after(payout: &Payout, decision: Decision) -> Payout {
    let (anomaly, step) = step_of(decision);
    let mut next = Payout { state: step.to, ..payout.clone() };
    next.anomaly = next.anomaly.or(anomaly);
    next.permit = step.permit.or(next.permit);
    if let Some(past) = step.ends {
        next.permit = None;
        next.past.push(past);
        next.attempt += i32::from(next.state == State::Accepted);
    }
    if let Some((session, ended)) = step.learnt {
        next.past.iter_mut().find(|past| past.session == session).unwrap().ended = ended;
    }
    next
}

/// The table: closed unpaid by Pike, against our will, from these states and no others.
#[test]
fn another_attempt_follows_only_where_pike_alone_ended_the_last() {
    let mut may = vec![];
    for state in states() {
        let payout = payout_in(state.clone());
        for event in [heard(not_paid()), read(not_paid())] {
            let decision = under(&on(), &payout, &event, EPOCH + Duration::SECOND);
            if let Decision::Move(Step { to: State::Retrying { at, code, .. }, effects, voids, .. }) =
                decision
            {
                assert_eq!((at, code.as_str()), (EPOCH + Duration::seconds(61), LISTED));
                assert_eq!((effects, voids), (vec![], EffectKind::ALL.to_vec()), "nothing goes on");
                may.push(name(&state));
            }
        }
    }
    may.dedup();
    let expected = [
        "Starting",
        "StartUnknown",
        "Processing",
        "OnHold",
        "Confirming",
        "ConfirmUnknown",
        "Settling",
        "Unknown",
    ];
    assert_eq!(may, expected);
}

/// Of all that we cancelled ourselves only what Pike had refused, or what nobody ever saw started.
#[test]
fn a_cancel_by_decision_is_never_tried_again() {
    use CancelCause as C;
    let refused = |code: &str| C::StartRefused { code: code.into() };
    for (cause, expected) in [
        (C::Requested, false),
        (C::Rules, false),
        (C::Rejected, false),
        (C::HoldExpired, false),
        (C::Mismatch, false),
        (C::StartUnresolved, true),
        (refused(LISTED), true),
        (refused("bank_card_expired"), false),
    ] {
        for stage in 0..4 {
            let (session, cause) = (session(), cause.clone());
            let state = match stage {
                0 => State::Cancelling { session, cause },
                1 => State::CancelUnknown { session, cause },
                2 => State::CancelSent { session, cause },
                _ => State::Unknown { session, cause: Some(cause) },
            };
            let (flag, step) = step_of(under(&on(), &payout_in(state), &read(not_paid()), EPOCH));
            assert_eq!((flag, step.to.retry_at().is_some()), (None, expected), "{:?}", step.to);
        }
    }
    let mut silent = payout_in(State::Unknown { session: session(), cause: None });
    silent.permit = Some(Permit::bind(PermitKind::Cancel, &silent, &session(), "test"));
    let (_, step) = step_of(under(&on(), &silent, &read(not_paid()), EPOCH));
    assert!(step.to.is_unpaid(), "only the permit says that it was cancelled");
}

#[test]
fn each_condition_alone_keeps_a_payout_failed() {
    let payout = payout_in(State::Settling { session: session() });
    let with = |change: fn(&mut Attempts)| {
        let mut policy = on();
        change(&mut policy.attempts);
        policy
    };
    let flagged = Payout { anomaly: Some(Anomaly::OtherAmount), ..payout.clone() };
    let bind = |payout: &Payout, rules| Some(Permit::bind(PermitKind::Confirm, payout, &session(), rules));
    let third = Payout { attempt: 3, ..payout.clone() };
    let third = Payout { permit: bind(&third, "test"), ..third };
    let mut altered = payout.clone();
    altered.order.recipient_name = "Mallory".into();
    let outdated = Payout { permit: bind(&payout, "older"), ..payout.clone() };
    let mut refund = not_paid();
    refund.error = None;
    for (why, policy, payout, report) in [
        ("off", policy(), &payout, not_paid()),
        ("one attempt", with(|attempts| attempts.most = 1), &payout, not_paid()),
        (
            "another code",
            with(|attempts| attempts.codes = vec!["provider_timeout".into()]),
            &payout,
            not_paid(),
        ),
        ("no code at all", on(), &payout, refund.clone()),
        // Even if somebody managed to list it.
        ("a code without a cause", with(|a| a.codes = vec!["session_cancelled".into()]), &payout, refund),
        ("flagged", on(), &flagged, not_paid()),
        ("the last one", on(), &third, not_paid()),
        ("altered", on(), &altered, not_paid()),
        ("permitted under other rules", on(), &outdated, not_paid()),
    ] {
        let mut report = report;
        for shown in &mut report.payouts {
            shown.metadata = Some(payout.metadata_tag());
        }
        let (_, step) = step_of(under(&policy, payout, &heard(report), EPOCH));
        assert!(matches!(step.to, State::Failed { .. }), "{why}: {:?}", step.to);
        assert!(step.ends.is_none() && step.effects.is_empty(), "{why}");
    }
}

/// The second proof is an answer, after the pause, and shows the same.
#[test]
fn a_new_session_needs_a_second_look_after_the_pause() {
    let (payout, at) = (retrying(), EPOCH + Duration::MINUTE);
    let early = at - Duration::NANOSECOND;
    let nothing = [
        (heard(not_paid()), at),
        (read(not_paid()), early),
        (read(working()), at),
        (read(awaits_confirm()), at),
        (read(not_started()), at),
        (read(session_error()), at),
        (read(unreadable()), at),
        (heard(awaits_confirm()), at),
    ];
    for (event, now) in nothing {
        let decision = under(&on(), &payout, &event, now);
        let idle = match &decision {
            Decision::Absorb(_) => true,
            Decision::Schedule(calls) => calls.is_empty(),
            Decision::Move(step) => step.why == Reason::FactsLearned && step.to == payout.state,
            Decision::Flag(..) | Decision::Refuse(_) => false,
        };
        assert!(idle, "{event:?}: {decision:?}");
    }
    let due = Event::Observed(Observation::Due);
    assert_eq!(under(&on(), &payout, &due, early), Decision::Schedule(vec![]));
    assert_eq!(under(&on(), &payout, &due, at), Decision::Schedule(vec![EffectKind::ReadStatus]));
    assert_eq!(on().polling.next(&payout.state, EPOCH, EPOCH), Some(at), "and not looked at before");

    let decision = under(&on(), &payout, &read(not_paid()), at);
    let next = after(&payout, decision.clone());
    // Also where we closed the session ourselves behind a start that Pike had refused.
    let permit = Some(Permit::bind(PermitKind::Cancel, &payout, &session(), "test"));
    let closed_by_us = Payout { permit, ..payout.clone() };
    assert_eq!(under(&on(), &closed_by_us, &read(not_paid()), at), decision);
    let (_, step) = step_of(decision);
    assert_eq!((step.to, step.why), (State::Accepted, Reason::NextAttempt));
    assert_eq!((step.effects, step.voids), (vec![EffectKind::CreateSession], EffectKind::ALL.to_vec()));
    assert_eq!(step.facts, Some(ProviderFacts::default()), "the next one has facts of its own");
    assert_eq!((next.attempt, next.permit.is_none(), next.status()), (2, true, Status::Processing));
    assert_eq!(next.past, [PastAttempt { attempt: 1, session: session(), ended: PastEnd::Unpaid }]);

    for (policy, anomaly) in [(policy(), None), (on(), Some(Anomaly::OtherAmount))] {
        let payout = Payout { anomaly, ..payout.clone() };
        let decision = under(&policy, &payout, &read(not_paid()), at);
        if anomaly.is_some() {
            assert_eq!(decision, Decision::Schedule(vec![]));
        } else {
            assert!(step_of(decision).1.to.is_unpaid(), "switched off meanwhile");
        }
    }
}

#[test]
fn money_that_comes_out_during_the_pause_ends_it() {
    for report in [paid(), returned()] {
        let (anomaly, step) = step_of(under(&on(), &retrying(), &heard(report), EPOCH));
        assert_eq!(anomaly, Some(Anomaly::OldSessionPaid));
        assert!(step.to.is_final() && !step.to.is_unpaid() && step.to.session() == Some(&session()));
    }
    let cancel = Event::Command(Command::Cancel { by: "key-1".into() });
    let (_, step) = step_of(under(&on(), &retrying(), &cancel, EPOCH));
    assert_eq!(step.to, State::Cancelled { session: Some(session()), cause: CancelCause::Requested });
}

/// The table of late payments: by the state of the second attempt, where the payout goes.
#[test]
fn an_old_session_that_is_paid_after_all_stops_the_new_one() {
    for state in states() {
        let payout = second(state.clone());
        let decision = under(&on(), &payout, &heard(of_old(paid())), EPOCH);
        let next = after(&payout, decision.clone());
        let (anomaly, step) = step_of(decision);
        assert_eq!(anomaly, Some(Anomaly::OldSessionPaid), "{state:?}");
        assert_eq!(next.past[0].ended, PastEnd::Paid);
        let calls: Vec<_> = step.effects.iter().filter(|call| **call != EffectKind::Cancel).collect();
        assert!(calls.is_empty(), "{state:?}: {calls:?}");
        let expected = match name(&state).as_str() {
            "Accepted" | "Retrying" | "Failed" | "Cancelled" => "Succeeded by the old",
            "Starting" | "StartUnknown" | "Processing" | "OnHold" => "Cancelling",
            "Confirming" => "ConfirmUnknown",
            _ => "as it was",
        };
        match expected {
            "Succeeded by the old" => assert_eq!(step.to, State::Succeeded { session: old() }, "{state:?}"),
            "as it was" => assert_eq!(step.to, state),
            other => assert_eq!(name(&step.to), other, "{state:?}"),
        }
        if name(&state).contains("Confirm") || name(&state) == "Settling" {
            assert!(step.voids.contains(&EffectKind::Confirm), "{state:?}");
        }
        never_paid_by_us_again(&next);
    }
}

/// Whatever Pike asks or shows from here on, with the flag taken off: no start, no confirm, no new session;
/// and once the present session is closed unpaid, the payout is paid, by the old one.
fn never_paid_by_us_again(payout: &Payout) {
    let payout = Payout { anomaly: None, ..payout.clone() };
    let outcome = |report: &SessionReport| Outcome::Accepted(report.clone());
    for report in [not_started(), working(), awaits_confirm(), session_error(), not_paid()].map(of_second) {
        for call in EffectKind::ALL {
            let answered = Observation::Answered { call, outcome: outcome(&report) };
            for event in [heard(report.clone()), Event::Observed(answered)] {
                let decision = under(&on(), &payout, &event, EPOCH + Duration::HOUR);
                let (Decision::Move(step) | Decision::Flag(_, step)) = decision else { continue };
                use EffectKind::{Confirm, CreateSession, StartPayout};
                let paying = [Confirm, CreateSession, StartPayout];
                assert!(
                    !step.effects.iter().any(|call| paying.contains(call)),
                    "{:?}: {step:?}",
                    payout.state
                );
                assert!(!step.to.is_unpaid() && step.to.retry_at().is_none(), "{:?}: {step:?}", payout.state);
            }
        }
    }
    if !payout.state.is_final() {
        for twice in [paid(), returned()] {
            let decision = under(&on(), &payout, &read(of_second(twice)), EPOCH);
            assert!(matches!(decision, Decision::Flag(Anomaly::PaidTwice, _)), "{decision:?}");
        }
        let (_, step) = step_of(under(&on(), &payout, &read(of_second(not_paid())), EPOCH));
        assert_eq!(step.to, State::Succeeded { session: old() }, "{:?}", payout.state);
        assert_eq!(step.ends.map(|past| past.session), Some(session()), "closed, and remembered");
    }
}

#[test]
fn what_else_is_heard_of_an_old_session_changes_nothing() {
    for state in states() {
        let payout = second(state);
        for (report, expected) in [
            (not_paid(), Reason::NothingNew),
            (not_started(), Reason::Stale),
            (working(), Reason::Stale),
            (awaits_confirm(), Reason::Stale),
            (session_error(), Reason::Stale),
            (unreadable(), Reason::Unreadable),
        ] {
            let decision = under(&on(), &payout, &heard(of_old(report)), EPOCH + Duration::HOUR);
            assert_eq!(decision, Decision::Absorb(expected), "{payout:?}");
        }
        let mut known = payout.clone();
        known.past[0].ended = PastEnd::Paid;
        let again = under(&on(), &known, &heard(of_old(paid())), EPOCH);
        assert_eq!(again, Decision::Absorb(Reason::NothingNew), "told once");
        let (flag, step) = step_of(under(&on(), &known, &heard(of_old(returned())), EPOCH));
        assert_eq!((flag, step.to, step.learnt), (None, known.state, Some((old(), PastEnd::Returned))));
    }
}

/// Neither payment nor its absence, but not ours: nothing more is sent until a person has looked.
#[test]
fn an_old_session_that_is_not_what_it_was_stops_the_new_one_too() {
    let contradiction = SessionReport {
        payouts: report(SessionStatus::Cancelled, Some(PayoutStatus::Succeeded)).payouts,
        ..report(SessionStatus::Cancelled, None)
    };
    for state in states() {
        let payout = second(state.clone());
        let event = heard(of_old(contradiction.clone()));
        let (anomaly, step) = step_of(under(&on(), &payout, &event, EPOCH));
        assert_eq!(anomaly, Some(Anomaly::Contradiction));
        assert!(step.effects.iter().all(|call| *call == EffectKind::Cancel), "{state:?}: {step:?}");
        let next = Payout { state: step.to, anomaly, ..payout };
        let due = under(&on(), &next, &Event::Observed(Observation::Due), EPOCH + Duration::SECOND);
        let Decision::Schedule(calls) = due else { panic!("{due:?}") };
        assert!(!calls.contains(&EffectKind::CreateSession), "{state:?}");
    }
}

#[test]
fn an_old_session_is_not_adopted_again() {
    let payout = second(State::Accepted);
    let create = |session| {
        let outcome = Outcome::Accepted(SessionReport { session, ..not_started() });
        Event::Observed(Observation::Answered { call: EffectKind::CreateSession, outcome })
    };
    let decision = under(&on(), &payout, &create(old()), EPOCH);
    assert_eq!(decision, Decision::Absorb(Reason::OrphanSession));
    let (_, step) = step_of(under(&on(), &payout, &create(SessionId("ps_9".into())), EPOCH));
    assert_eq!(step.effects, [EffectKind::StartPayout]);
    let asked = second(State::Processing { session: session() });
    let (anomaly, _) = step_of(under(&on(), &asked, &read(of_old(paid())), EPOCH));
    assert_eq!(anomaly, Some(Anomaly::OtherSession), "an answer about another session than asked");
}

#[test]
fn each_session_is_known_by_its_own_attempts_metadata() {
    let payout = second(State::Processing { session: session() });
    assert_eq!(of_old(paid()).shows(&payout), Shows::Paid);
    assert_eq!(of_second(paid()).shows(&payout), Shows::Paid);
    for crossed in [paid(), of_old(of_second(paid()))] {
        let wrong = Shows::Wrong { anomaly: Anomaly::OtherMetadata, awaits_confirm: false };
        assert_eq!(crossed.shows(&payout), wrong);
    }
}
