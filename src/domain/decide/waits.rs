//! Every wait has a last moment: just before it nothing is done, at it something is.

use super::{fixtures::*, *};
use time::Duration;

fn shown(report: SessionReport) -> Event {
    let outcome = Outcome::Accepted(report);
    Event::Observed(Observation::Answered { call: EffectKind::ReadStatus, outcome })
}

/// What is done about a payout that shows this a nanosecond before the end of a wait, and at its end.
fn around(state: State, report: SessionReport, wait: Duration) -> [Vec<EffectKind>; 2] {
    let payout = payout_in(state);
    [wait - Duration::NANOSECOND, wait].map(|waited| {
        match decide_at(&payout, &shown(report.clone()), EPOCH + waited) {
            Decision::Move(step) | Decision::Flag(_, step) => step.effects,
            Decision::Absorb(_) | Decision::Schedule(_) | Decision::Refuse(_) => vec![],
        }
    })
}

#[test]
fn an_accepted_word_is_said_again_when_pike_has_shown_the_old_picture_for_too_long() {
    let grace = policy().stale_read_grace;
    let settling = State::Settling { session: session() };
    assert_eq!(around(settling, awaits_confirm(), grace), [vec![], vec![EffectKind::Confirm]]);
    let sent = State::CancelSent { session: session(), cause: CancelCause::Requested };
    for old in [awaits_confirm(), not_started()] {
        assert_eq!(around(sent.clone(), old, grace), [vec![], vec![EffectKind::Cancel]]);
    }
}

#[test]
fn an_unknown_start_is_closed_when_it_was_watched_for_long_enough() {
    let unknown = State::StartUnknown { session: session() };
    let watched = policy().start_unresolved_after;
    assert_eq!(around(unknown, not_started(), watched), [vec![], vec![EffectKind::Cancel]]);
}
