//! What an event tells is kept exactly when it is about this payout; and what the rules need is read exactly
//! when they may be asked.

use super::{fixtures::*, *};
use crate::domain::provider::ProviderError;

fn answered(call: EffectKind, outcome: Outcome) -> Event {
    Event::Observed(Observation::Answered { call, outcome })
}

fn read(report: SessionReport) -> Event {
    answered(EffectKind::ReadStatus, Outcome::Accepted(report))
}

fn webhook(report: SessionReport) -> Event {
    Event::Observed(Observation::Reported(report))
}

/// The same report with a bank reference in it.
fn with_rrn(mut report: SessionReport) -> SessionReport {
    report.payouts[0].facts.rrn = Some("0001".into());
    report
}

fn step(decision: Decision) -> Step {
    match decision {
        Decision::Move(step) | Decision::Flag(_, step) => step,
        Decision::Absorb(_) | Decision::Schedule(_) | Decision::Refuse(_) => panic!("{decision:?}"),
    }
}

fn rrn(decision: Decision) -> Option<String> {
    step(decision).facts.and_then(|facts| facts.rrn)
}

#[test]
fn a_move_and_a_flag_keep_what_was_told() {
    let settling = payout_in(State::Settling { session: session() });
    assert_eq!(rrn(later(&settling, &webhook(with_rrn(paid())))).as_deref(), Some("0001"));
    let processing = payout_in(State::Processing { session: session() });
    let decision = later(&processing, &webhook(with_rrn(paid())));
    assert!(matches!(decision, Decision::Flag(Anomaly::PaidWithoutPermit, _)));
    assert_eq!(rrn(decision).as_deref(), Some("0001"));
}

#[test]
fn what_was_told_by_the_way_is_kept_with_the_calls_that_follow() {
    let payout = payout_in(State::ConfirmUnknown { session: session() });
    let asks = later(&payout, &webhook(awaits_confirm()));
    assert_eq!(asks, Decision::Schedule(vec![EffectKind::ReadStatus]));
    let told = step(later(&payout, &webhook(with_rrn(awaits_confirm()))));
    assert_eq!(told.effects, [EffectKind::ReadStatus], "the question is still asked");
    assert_eq!((&told.to, told.why), (&payout.state, Reason::FactsLearned));
    assert_eq!(told.facts.and_then(|facts| facts.rrn).as_deref(), Some("0001"));
}

#[test]
fn a_refusal_leaves_its_words() {
    let error = ProviderError { code: "bank_card_expired".into(), description: "expired".into() };
    let starting = payout_in(State::Starting { session: session() });
    let refused = answered(EffectKind::StartPayout, Outcome::Declined(error.clone()));
    assert_eq!(step(later(&starting, &refused)).facts.and_then(|facts| facts.error), Some(error));
}

#[test]
fn what_is_told_about_something_else_is_not_kept() {
    let settling = payout_in(State::Settling { session: session() });
    let elsewhere = SessionReport { session: SessionId("ps_2".into()), ..with_rrn(paid()) };
    assert_eq!(rrn(later(&settling, &webhook(elsewhere))), None);
    let mut other_amount = with_rrn(wrong_amount());
    other_amount.session = session();
    assert_eq!(rrn(later(&settling, &webhook(other_amount))), None);
}

/// In a payout that is open, whatever its state: another event of the same batch may come first.
#[test]
fn the_rules_are_asked_about_what_waits_for_our_word() {
    for state in states() {
        let payout = payout_in(state.clone());
        let asked = [webhook(awaits_confirm()), read(awaits_confirm())];
        let open = !state.is_final();
        assert_eq!(asked.map(|event| needs_verdict(&payout, &event)), [open; 2], "{state:?}");
        let elsewhere = webhook(SessionReport { session: SessionId("ps_2".into()), ..awaits_confirm() });
        // Before there is a session, any that is shown may be ours.
        assert_eq!(needs_verdict(&payout, &elsewhere), payout.state.session().is_none(), "{state:?}");
        for event in [
            webhook(working()),
            read(paid()),
            answered(EffectKind::ReadStatus, Outcome::Unknown(ProviderError::default())),
            Event::Observed(Observation::Due),
            Event::Observed(Observation::Withheld(Unfit::Stale)),
            Event::Command(Command::Cancel { by: "key-2".into() }),
            Event::Command(Command::Reject { by: "key-2".into() }),
            Event::Command(Command::ClearFlag { by: "key-2".into(), reason: "seen".into() }),
        ] {
            assert!(!needs_verdict(&payout, &event), "{event:?}");
        }
        assert!(needs_verdict(
            &payout,
            &Event::Command(Command::Approve { by: "key-2".into(), people: People::Two })
        ));
    }
}
