//! The stories that a table cannot tell.

use super::{fixtures::*, *};
use crate::domain::{
    money::Money,
    policy::ResendStart,
    session::{PayoutStatus, SessionStatus},
};
use time::Duration;

fn seen(report: SessionReport) -> Event {
    Event::Observed(Observation::Reported(report))
}

fn starting() -> Payout {
    payout_in(State::Starting { session: session() })
}

#[test]
fn failed_does_not_count_before_the_session_is_final() {
    for status in [SessionStatus::InProgress, SessionStatus::Created] {
        let early = report(status, Some(PayoutStatus::Failed));
        let decision = later(&payout_in(State::Settling { session: session() }), &seen(early));
        assert_eq!(decision, Decision::Absorb(Reason::NothingNew));
    }
    let error = later(&payout_in(State::Settling { session: session() }), &seen(session_error()));
    assert!(matches!(error, Decision::Move(Step { to: State::Unknown { .. }, .. })), "{error:?}");
}

#[test]
fn an_error_that_is_settled_as_paid_ends_well() {
    let unknown = payout_in(State::Unknown { session: session(), cause: None });
    let decision = later(&unknown, &seen(paid()));
    assert!(matches!(decision, Decision::Move(Step { to: State::Succeeded { .. }, .. })), "{decision:?}");
}

#[test]
fn an_error_webhook_that_comes_after_its_settlement_raises_nothing() {
    for state in states().into_iter().filter(State::is_final) {
        let decision = later(&payout_in(state), &seen(session_error()));
        assert_eq!(decision, Decision::Absorb(Reason::Stale));
    }
}

#[test]
fn a_failure_has_pikes_code_or_else_says_where_it_was_seen() {
    let code = |report: SessionReport| {
        let shows = report.shows(&payout_in(State::Settling { session: session() }));
        let Shows::NotPaid { code } = shows else { panic!("{shows:?}") };
        code
    };
    assert_eq!(code(not_paid()), "declined_by_issuer_bank");
    let silent = |status| report(status, Some(PayoutStatus::Failed));
    assert_eq!(code(silent(SessionStatus::Cancelled)), "session_cancelled");
    assert_eq!(code(silent(SessionStatus::Accepted)), "failed");
}

/// A payout that is shown as paid in a session that is shown as cancelled is neither: somebody has to look.
#[test]
fn a_cancelled_session_with_money_in_it_is_a_contradiction() {
    for state in [State::Settling { session: session() }, State::Processing { session: session() }] {
        let report = report(SessionStatus::Cancelled, Some(PayoutStatus::Succeeded));
        let decision = later(&payout_in(state.clone()), &seen(report));
        let Decision::Flag(Anomaly::Contradiction, step) = decision else { panic!("{decision:?}") };
        assert_eq!(step.to, state);
    }
}

#[test]
fn money_without_a_permit_is_recorded_and_raised() {
    for state in [State::Processing { session: session() }, State::Starting { session: session() }] {
        let decision = later(&payout_in(state), &seen(paid()));
        let Decision::Flag(Anomaly::PaidWithoutPermit, step) = decision else { panic!("{decision:?}") };
        assert_eq!(step.to, State::Succeeded { session: session() });
    }
}

#[test]
fn other_metadata_or_currency_or_session_are_not_ours() {
    let mut others = vec![];
    for change in 0..4 {
        let mut report = awaits_confirm();
        match change {
            0 => report.payouts[0].metadata = None,
            1 => report.payouts[0].metadata = Some("somebody else's".into()),
            2 => report.payouts[0].currency = Some("usd".into()),
            _ => report.session = SessionId("ps_2".into()),
        }
        let decision = at_once(&starting(), &seen(report));
        let Decision::Flag(anomaly, step) = decision else { panic!("{decision:?}") };
        assert!(!step.effects.contains(&EffectKind::Confirm) && step.facts.is_none(), "nothing is adopted");
        others.push(anomaly);
    }
    use Anomaly::{OtherAmount, OtherMetadata, OtherSession};
    assert_eq!(others, [OtherMetadata, OtherMetadata, OtherAmount, OtherSession]);
}

#[test]
fn an_answer_about_something_else_is_not_adopted() {
    let amount = |minor| {
        let mut report = awaits_confirm();
        report.payouts[0].amount_minor = minor;
        report
    };
    let others = [
        SessionReport { session: SessionId("ps_2".into()), ..paid() },
        SessionReport { session: SessionId("ps_2".into()), ..awaits_confirm() },
        amount(Some(0)),
        amount(Some(-1000)),
        amount(Some(1001)),
        amount(None),
    ];
    for (call, state) in [
        (EffectKind::StartPayout, State::Starting { session: session() }),
        (EffectKind::ReadStatus, State::Processing { session: session() }),
        (EffectKind::Confirm, State::Confirming { session: session() }),
    ] {
        for other in &others {
            let event =
                Event::Observed(Observation::Answered { call, outcome: Outcome::Accepted(other.clone()) });
            let decision = at_once(&payout_in(state.clone()), &event);
            let Decision::Flag(_, step) = decision else { panic!("{call:?} {other:?}: {decision:?}") };
            assert!(!step.to.is_final() && step.to.session() == Some(&session()), "{call:?} {other:?}");
            assert!(!step.effects.contains(&EffectKind::Confirm) && step.facts.is_none(), "{other:?}");
        }
    }
}

#[test]
fn a_hold_ends_before_pikes_window_does() {
    let mut payout = payout_in(State::Processing { session: session() });
    payout.order.amount = Money::new(600_000, "RUB".parse().unwrap()).unwrap();
    let mut report = awaits_confirm();
    report.payouts[0].amount_minor = Some(600_000);
    let Decision::Move(step) = at_once(&payout, &seen(report)) else { panic!() };
    let until = step.to.hold_until().unwrap();
    assert_eq!(until, EPOCH + Duration::seconds(1) + Duration::minutes(225));
    payout.state = step.to;
    let due = Event::Observed(Observation::Due);
    assert_eq!(
        decide_at(&payout, &due, until - Duration::SECOND),
        Decision::Schedule(vec![EffectKind::ReadStatus])
    );
    let Decision::Move(step) = decide_at(&payout, &due, until) else { panic!() };
    assert!(matches!(step.to, State::Cancelling { cause: CancelCause::HoldExpired, .. }));
    let late = Event::Command(Command::Approve { by: "key-2".into(), people: People::Two });
    assert_eq!(decide_at(&payout, &late, until), Decision::Refuse(Refusal::NotOnHold));
}

#[test]
fn what_a_late_report_tells_is_kept_but_overrides_nothing() {
    let until = EPOCH + Duration::hours(3);
    let mut payout = payout_in(State::OnHold { session: session(), until, cause: HoldCause::Approval });
    payout.facts.card.brand = Some("visa".into());
    let mut report = awaits_confirm();
    report.payouts[0].facts.card.country = Some("PRK".into());
    report.payouts[0].facts.card.brand = Some("mir".into());
    let Decision::Move(step) = at_once(&payout, &seen(report.clone())) else { panic!() };
    let facts = step.facts.unwrap();
    assert_eq!((facts.card.country.as_deref(), facts.card.brand.as_deref()), (Some("PRK"), Some("visa")));
    assert_eq!((step.to, step.why), (payout.state.clone(), Reason::FactsLearned));
    payout.facts = facts;
    assert_eq!(at_once(&payout, &seen(report)), Decision::Absorb(Reason::NothingNew), "known by now");
}

#[test]
fn a_webhook_does_not_end_doubt_about_a_session_in_error() {
    let payout = payout_in(State::Unknown { session: session(), cause: None });
    assert_eq!(at_once(&payout, &seen(awaits_confirm())), Decision::Schedule(vec![EffectKind::ReadStatus]));
    let read =
        Observation::Answered { call: EffectKind::ReadStatus, outcome: Outcome::Accepted(awaits_confirm()) };
    let Decision::Move(step) = at_once(&payout, &Event::Observed(read)) else { panic!() };
    assert_eq!(step.effects, vec![EffectKind::Confirm]);
}

#[test]
fn a_hold_counts_from_when_pike_began_to_wait() {
    let mut payout = payout_in(State::Processing { session: session() });
    payout.order.amount = Money::new(600_000, "RUB".parse().unwrap()).unwrap();
    let mut report = awaits_confirm();
    report.payouts[0].amount_minor = Some(600_000);
    let hold_until = |updated_at| {
        let report = SessionReport { updated_at, ..report.clone() };
        let Decision::Move(step) = decide_at(&payout, &seen(report), EPOCH + Duration::HOUR) else {
            panic!()
        };
        step.to.hold_until().unwrap() - EPOCH
    };
    assert_eq!(hold_until(Some(EPOCH)), Duration::minutes(225), "we learnt of it an hour late");
    let from_now = Duration::minutes(60 + 225);
    assert_eq!(hold_until(Some(EPOCH + Duration::DAY)), from_now, "a clock that is ahead adds nothing");
    assert_eq!(hold_until(None), from_now);
}

/// The answer of a held payout of key-1 to an approval: nothing when it is granted.
fn approval(by: &str, people: People, approvals: Approvals) -> Option<Refusal> {
    let until = EPOCH + Duration::hours(3);
    let payout = payout_in(State::OnHold { session: session(), until, cause: HoldCause::Approval });
    let (policy, rules) = (Policy { approvals, ..policy() }, rules());
    let approve = Event::Command(Command::Approve { by: by.into(), people });
    match decide(&payout, &approve, &world(EPOCH, &policy, &rules)) {
        Decision::Refuse(refusal) => Some(refusal),
        Decision::Move(Step { to: State::Confirming { .. }, .. }) => None,
        other @ (Decision::Move(_) | Decision::Flag(..) | Decision::Absorb(_) | Decision::Schedule(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn nobody_approves_their_own_payout() {
    for approvals in [Approvals::ByKey, Approvals::ByOwner] {
        for people in [People::One, People::Two, People::Unknown(Party::Creator)] {
            assert_eq!(approval("key-1", people, approvals), Some(Refusal::OwnPayout), "{people:?}");
        }
        assert_eq!(approval("key-2", People::One, approvals), Some(Refusal::OwnPayout), "{approvals:?}");
        assert_eq!(approval("key-2", People::Two, approvals), None, "{approvals:?}");
    }
}

#[test]
fn two_keys_are_two_people_only_where_owners_need_not_be_known() {
    for party in [Party::Creator, Party::Approver] {
        let people = People::Unknown(party);
        assert_eq!(approval("key-2", people, Approvals::ByKey), None);
        assert_eq!(approval("key-2", people, Approvals::ByOwner), Some(Refusal::OwnerUnknown(party)));
    }
}

#[test]
fn an_unknown_start_is_watched_then_closed_unless_resending_is_known_to_be_safe() {
    let payout = payout_in(State::StartUnknown { session: session() });
    assert_eq!(at_once(&payout, &seen(not_started())), Decision::Absorb(Reason::NothingNew));
    let Decision::Move(step) = later(&payout, &seen(not_started())) else { panic!() };
    assert!(matches!(step.to, State::Cancelling { cause: CancelCause::StartUnresolved, .. }));
    let policy = Policy { resend_start: ResendStart::SameSession, ..policy() };
    let rules = rules();
    let resent = |waited: Duration| {
        let now = EPOCH + waited;
        let Decision::Move(step) = decide(&payout, &seen(not_started()), &world(now, &policy, &rules)) else {
            panic!()
        };
        step
    };
    let step = resent(Duration::minutes(4));
    // Still unknown: were it starting anew, the waiting would begin again and never end.
    let unknown = State::StartUnknown { session: session() };
    assert_eq!((step.to, step.effects), (unknown, vec![EffectKind::StartPayout]));
    let step = resent(Duration::minutes(5));
    assert!(matches!(step.to, State::Cancelling { cause: CancelCause::StartUnresolved, .. }));
    assert_eq!((step.effects, step.voids), (vec![EffectKind::Cancel], vec![EffectKind::StartPayout]));
}

#[test]
fn a_start_that_was_accepted_and_does_not_show_is_unknown() {
    for report in [not_started(), unreadable()] {
        let outcome = Outcome::Accepted(report);
        let answer = Event::Observed(Observation::Answered { call: EffectKind::StartPayout, outcome });
        let Decision::Move(step) = at_once(&starting(), &answer) else { panic!() };
        assert_eq!((step.to, step.why), (State::StartUnknown { session: session() }, Reason::StartUnknown));
        let watched = payout_in(State::StartUnknown { session: session() });
        assert_eq!(at_once(&watched, &answer), Decision::Absorb(Reason::Overtaken), "it waits on");
    }
}

#[test]
fn a_start_that_shows_takes_its_repetition_back() {
    let Decision::Move(step) = at_once(&starting(), &seen(working())) else { panic!() };
    assert_eq!(step.voids, vec![EffectKind::StartPayout]);
    let Decision::Move(step) = at_once(&starting(), &seen(awaits_confirm())) else { panic!() };
    assert_eq!(step.voids, vec![EffectKind::StartPayout]);
}

#[test]
fn the_switch_holds_and_lets_go() {
    let (policy, rules) = (policy(), rules());
    let now = EPOCH + Duration::seconds(1);
    let off = World { confirms_on: false, ..world(now, &policy, &rules) };
    let mut payout = starting();
    let Decision::Move(step) = decide(&payout, &seen(awaits_confirm()), &off) else { panic!() };
    assert!(matches!(step.to, State::OnHold { cause: HoldCause::Switch, .. }) && step.permit.is_none());
    payout.state = step.to;
    assert_eq!(decide(&payout, &seen(awaits_confirm()), &off), Decision::Absorb(Reason::NothingNew));
    let approve = Event::Command(Command::Approve { by: "key-2".into(), people: People::Two });
    assert_eq!(decide(&payout, &approve, &off), Decision::Refuse(Refusal::ConfirmsOff));
    let on = World { confirms_on: true, ..off };
    let Decision::Move(step) = decide(&payout, &seen(awaits_confirm()), &on) else { panic!() };
    assert_eq!(step.to, State::Confirming { session: session() });
}

#[test]
fn a_permit_is_bound_to_what_was_decided_about() {
    let payout = starting();
    let bind = |payout: &Payout, session: &str, rules: &str| {
        crate::domain::permit::binding(payout, &SessionId(session.into()), rules)
    };
    let original = bind(&payout, "ps_1", "r1");
    assert_eq!(original, bind(&payout, "ps_1", "r1"));
    let changed: [fn(&mut Payout); 4] = [
        |p| p.order.amount = Money::new(1001, "RUB".parse().unwrap()).unwrap(),
        |p| p.order.amount = Money::new(1000, "USD".parse().unwrap()).unwrap(),
        |p| p.order.recipient_name = "Boris".into(),
        |p| p.order.destination_fingerprint = [2; 32],
    ];
    for change in changed {
        let mut other = payout.clone();
        change(&mut other);
        assert_ne!(original, bind(&other, "ps_1", "r1"));
    }
    assert_ne!(original, bind(&payout, "ps_2", "r1"));
    assert_ne!(original, bind(&payout, "ps_1", "r2"));
}

/// A confirm whose outcome is unknown is said again under the rules that permitted it; under others these
/// decide. They cannot cancel: the first confirm may still arrive.
#[test]
fn a_confirm_under_other_rules_is_decided_again() {
    let payout = payout_in(State::ConfirmUnknown { session: session() });
    let outcome = Outcome::Accepted(awaits_confirm());
    let event = Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome });
    assert!(needs_verdict(&payout, &event));
    let policy = policy();
    let decided = |rules: &RuleSet, confirms_on| {
        let now = EPOCH + Duration::hours(1);
        decide(&payout, &event, &World { confirms_on, ..world(now, &policy, rules) })
    };
    let Decision::Move(same) = decided(&rules(), true) else { panic!() };
    assert_eq!(
        (same.why, &same.permit, &same.effects[..]),
        (Reason::ConfirmResent, &None, &[EffectKind::Confirm][..])
    );
    let other = RuleSet { version: "other".into(), ..rules() };
    let Decision::Move(again) = decided(&other, true) else { panic!() };
    assert_eq!(again.effects, [EffectKind::Confirm]);
    assert_eq!(again.permit, Some(Permit::bind(PermitKind::Confirm, &payout, &session(), "other")));
    assert!(again.verdict.is_some());
    assert_eq!(decided(&other, false), Decision::Schedule(vec![]), "the switch is off");
    let forbids = RuleSet { amounts: Default::default(), ..other };
    let Decision::Flag(Anomaly::PermitOutdated, stay) = decided(&forbids, true) else { panic!() };
    assert!(
        stay.effects.is_empty() && stay.permit.is_none() && stay.to == payout.state && stay.verdict.is_some()
    );
}

/// A webhook was made before our word was said, however late it comes.
#[test]
fn a_word_is_said_again_only_after_a_look_at_the_present() {
    let cause = CancelCause::Requested;
    let states = [
        State::ConfirmUnknown { session: session() },
        State::CancelUnknown { session: session(), cause: cause.clone() },
        State::Settling { session: session() },
        State::CancelSent { session: session(), cause },
    ];
    for payout in states.map(payout_in) {
        let late = later(&payout, &seen(awaits_confirm()));
        let read = Decision::Schedule(vec![EffectKind::ReadStatus]);
        assert!(late == read || late == Decision::Absorb(Reason::Stale), "{late:?}");
        let outcome = Outcome::Accepted(awaits_confirm());
        let answer = Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome });
        let Decision::Move(step) = later(&payout, &answer) else { panic!("{payout:?}") };
        assert_eq!(step.effects.len(), 1, "the word again: {step:?}");
    }
}
