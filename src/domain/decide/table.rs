//! Every state against every kind of event, as reviewed: the table in `docs/state-machine.md` is this test's
//! output. After a wanted change run it with `UPDATE_DOCS=1` and review the difference.

use super::{fixtures::*, *};
use crate::domain::{effect::EffectKind as Call, policy::Attempts, provider::ProviderError};
use std::fmt::Write;

fn events() -> Vec<(&'static str, Event)> {
    let answered = |call, outcome| Event::Observed(Observation::Answered { call, outcome });
    let unknown = || Outcome::Unknown(ProviderError { code: "timeout".into(), description: String::new() });
    let declined =
        || Outcome::Declined(ProviderError { code: "bank_card_expired".into(), description: String::new() });
    let denied =
        || Outcome::Unknown(ProviderError { code: "invalid_request".into(), description: String::new() });
    let withheld = |unfit| Event::Observed(Observation::Withheld(unfit));
    let reported = |report| Event::Observed(Observation::Reported(report));
    vec![
        ("command: cancel", Event::Command(Command::Cancel { by: "key-2".into() })),
        ("command: approve", Event::Command(Command::Approve { by: "key-2".into(), people: People::Two })),
        ("command: reject", Event::Command(Command::Reject { by: "key-2".into() })),
        (
            "command: clear flag",
            Event::Command(Command::ClearFlag { by: "key-2".into(), reason: "seen".into() }),
        ),
        ("create accepted", answered(Call::CreateSession, Outcome::Accepted(not_started()))),
        ("create unknown", answered(Call::CreateSession, unknown())),
        ("start accepted", answered(Call::StartPayout, Outcome::Accepted(working()))),
        ("start declined", answered(Call::StartPayout, declined())),
        ("start unknown", answered(Call::StartPayout, unknown())),
        ("confirm accepted", answered(Call::Confirm, Outcome::Accepted(working()))),
        ("confirm unknown", answered(Call::Confirm, unknown())),
        ("confirm withheld: permit stale", withheld(Unfit::Stale)),
        ("confirm withheld: payout altered", withheld(Unfit::Altered)),
        ("cancel accepted", answered(Call::Cancel, Outcome::Accepted(working()))),
        ("cancel unknown", answered(Call::Cancel, unknown())),
        ("status unknown", answered(Call::ReadStatus, unknown())),
        ("status refused: no such session", answered(Call::ReadStatus, denied())),
        ("Pike shows: not started", reported(not_started())),
        ("Pike shows: working", reported(working())),
        ("Pike shows: awaits confirm", reported(awaits_confirm())),
        ("Pike shows: paid", reported(paid())),
        ("Pike shows: not paid", reported(not_paid())),
        ("Pike shows: session error", reported(session_error())),
        ("Pike shows: returned", reported(returned())),
        ("Pike shows: other amount, awaits confirm", reported(wrong_amount())),
        ("Pike shows: two payouts", reported(two_payouts())),
        ("Pike shows: unknown status", reported(unreadable())),
        ("due", Event::Observed(Observation::Due)),
    ]
}

fn cell(decision: &Decision) -> String {
    let step = |step: &Step| {
        let mut text = format!("**{}**", name(&step.to));
        let permit = step.permit.as_ref().map(|permit| format!("permit {:?}", permit.kind));
        let calls = step.effects.iter().map(|effect| format!("{effect:?}"));
        for extra in permit.into_iter().chain(calls) {
            write!(text, " + {extra}").unwrap();
        }
        write!(text, " ({:?})", step.why).unwrap();
        text
    };
    match decision {
        Decision::Move(to) => step(to),
        Decision::Flag(anomaly, to) => format!("⚑ {anomaly:?}: {}", step(to)),
        Decision::Absorb(why) => format!("absorb ({why:?})"),
        Decision::Schedule(calls) if calls.is_empty() => "look again later".to_owned(),
        Decision::Schedule(calls) => format!("look again: {calls:?}"),
        Decision::Refuse(refusal) => {
            format!("refuse ({})", format!("{refusal:?}").split('(').next().unwrap())
        }
    }
}

fn render() -> String {
    let mut text = String::from(
        "# What may happen to a payout\n\n\
         Generated from `domain::decide` by its own test; do not edit. Every state is met with every kind\n\
         of event, under rules that allow the payout, the switch on, and all waiting times over. Bold is\n\
         the next state, `+` what is written with it, ⚑ an anomaly that stays on the payout: nothing\n\
         automatic follows but a cancel and status reads.\n",
    );
    for state in states() {
        let payout = payout_in(state.clone());
        writeln!(text, "\n## {}\n", name(&state)).unwrap();
        writeln!(text, "Callers see: `{:?}`.\n", payout.state.status(false)).unwrap();
        text.push_str("| event | what follows |\n| --- | --- |\n");
        for (label, event) in events() {
            let decision = later(&payout, &event);
            writeln!(text, "| {label} | {} |", cell(&decision)).unwrap();
        }
    }
    text.push_str(&render_attempts());
    text
}

/// The one table that depends on settings that are off otherwise.
fn render_attempts() -> String {
    let code = "declined_by_issuer_bank";
    let attempts =
        Attempts { most: 3, codes: vec![code.into()], pause: time::Duration::MINUTE, unsure: false };
    let (policy, rules) = (Policy { attempts, ..policy() }, rules());
    let now = EPOCH + time::Duration::HOUR;
    let world = world(now, &policy, &rules);
    let outcome = Outcome::Accepted(not_paid());
    let read = Event::Observed(Observation::Answered { call: Call::ReadStatus, outcome });
    let mut text = format!(
        "\n# Where another attempt may follow\n\n\
         With `attempts.max = 3` and `{code}` among `attempts.codes` (elsewhere on this page\n\
         attempts are off), when a status read shows the session closed unpaid with that code.\n\n\
         | state | what follows |\n| --- | --- |\n"
    );
    for state in states() {
        let decision = decide(&payout_in(state.clone()), &read, &world);
        writeln!(text, "| {} | {} |", name(&state), cell(&decision)).unwrap();
    }
    text
}

#[test]
fn the_reviewed_table_is_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state-machine.md");
    let now = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        std::fs::write(path, &now).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        reviewed == now,
        "docs/state-machine.md is not what the code does: run this test with UPDATE_DOCS=1"
    );
}

/// What must hold of every cell, whatever the table says.
#[test]
fn no_decision_breaks_a_promise() {
    let mut checked = 0;
    for state in states() {
        for flagged in [false, true] {
            let mut payout = payout_in(state.clone());
            payout.anomaly = flagged.then_some(Anomaly::OtherAmount);
            for (label, event) in events() {
                for decision in [at_once(&payout, &event), later(&payout, &event)] {
                    check(&payout, &event, &decision, &format!("{} × {label}", name(&state)));
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, states().len() * 2 * events().len() * 2);
}

fn check(payout: &Payout, event: &Event, decision: &Decision, place: &str) {
    if let (Event::Observed(_), Decision::Refuse(_)) = (event, decision) {
        panic!("{place}: a fact was refused");
    }
    let (Decision::Move(step) | Decision::Flag(_, step)) = decision else { return };
    if step.effects.contains(&Call::Confirm) {
        let permitted = step.permit.as_ref().or(payout.permit.as_ref()).map(|permit| permit.kind);
        assert_eq!(permitted, Some(PermitKind::Confirm), "{place}: a confirm without a permit");
        assert!(payout.anomaly.is_none(), "{place}: a flagged payout was confirmed");
    }
    if step.effects.contains(&Call::StartPayout) {
        assert!(payout.anomaly.is_none(), "{place}: a flagged payout was started");
        assert!(payout.permit.is_none(), "{place}: started after the decision");
    }
    if step.permit.is_some() {
        assert!(payout.permit.is_none(), "{place}: a second permit");
    }
    if step.to.is_final() {
        assert!(step.effects.is_empty(), "{place}: calls after the end");
        assert_eq!(step.voids, Call::ALL.to_vec(), "{place}: calls left over");
    }
    if payout.state.is_final() {
        assert!(step.effects.is_empty(), "{place}: a final payout was called about");
        assert!(step.to.is_final(), "{place}: a final payout became open");
        let unpaid_after_paid = step.to.is_unpaid() && !payout.state.is_unpaid();
        assert!(!unpaid_after_paid, "{place}: a paid payout became unpaid");
    }
    let session = step.to.session();
    let same = payout.state.session().is_none() || session.is_none() || session == payout.state.session();
    assert!(same, "{place}: the session changed");
}
