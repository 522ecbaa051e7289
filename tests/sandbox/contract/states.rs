//! §2.15, §4.3, §4.5: what each method does in each state a session can be in, and what is seen of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::partner::{Partner, Version, named, token};
use super::shape;
use crate::support::{World, until};

/// Longer than a test.
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Created,
    JustStarted,
    Waiting,
    Confirmed,
    /// A cancel was accepted before the start; its outcome may be out or not.
    CancelledUnstarted,
    /// A cancel was accepted while it waited; the outcome is not out.
    Cancelling,
    Cancelled,
    Accepted,
    /// Refused before it could be confirmed.
    Refused,
    Declined,
    TimedOut,
    /// Session `error`.
    Doubt,
    /// Was in doubt and was paid.
    Resolved,
    Returned,
}

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Work,
    /// `session_wrong_state`, and nothing else.
    Refuse,
    /// The documents leave it open.
    Either,
}

/// What is seen and what may be done: start, confirm, cancel.
struct Row {
    session: &'static [&'static str],
    /// None of them: there is no payout.
    payout: &'static [&'static str],
    /// Whether Pike waits; none leaves it open.
    waits: Option<bool>,
    /// The session's error.
    error: Option<&'static str>,
    does: [Does; 3],
}

use Does::{Either, Refuse, Work};

fn row(state: State) -> Row {
    let failed = |error| Row {
        session: &["cancelled"],
        payout: &["failed"],
        waits: Some(false),
        error: Some(error),
        does: [Refuse; 3],
    };
    let paid = failed("");
    let paid = Row { session: &["accepted"], payout: &["succeeded"], error: None, ..paid };
    let going = Row { session: &["in_progress"], payout: &["in_progress"], ..paid };
    let none = &[];
    match state {
        State::Created => Row { session: &["created"], payout: none, does: [Work, Refuse, Work], ..going },
        // "Possibly just started" for a cancel: the vendor's live test did not look.
        State::JustStarted => Row { does: [Refuse, Refuse, Either], ..going },
        State::Waiting => {
            Row { payout: &["pending"], waits: Some(true), does: [Refuse, Work, Work], ..going }
        }
        State::Confirmed => Row { payout: &["in_progress", "pending"], ..going },
        State::Cancelling => Row { payout: &["in_progress", "pending"], waits: None, ..going },
        State::CancelledUnstarted => Row { payout: none, ..failed("session_cancelled_by_partner") },
        State::Cancelled => failed("session_cancelled_by_partner"),
        State::Accepted | State::Resolved | State::Returned => paid,
        State::Refused => failed("operation_rejected"),
        State::Declined => failed("declined_by_issuer_bank"),
        State::TimedOut => failed("confirm_timeout"),
        State::Doubt => {
            Row { session: &["error"], payout: &["failed", "in_progress"], ..failed("provider_timeout") }
        }
    }
}

/// A sandbox with a session in that state.
async fn reach(state: State, version: Version) -> (World, Partner, String) {
    let world = World::open_with(|settings| {
        let timing = &mut settings.timing;
        timing.ready_delay = if state == State::JustStarted { HOUR } else { timing.ready_delay };
        let settles = !matches!(state, State::Confirmed | State::Cancelling);
        timing.settle_delay = if settles { timing.settle_delay } else { HOUR };
        timing.slow_delay = if state == State::Doubt { HOUR } else { Duration::from_millis(10) };
        timing.confirm_window = if state == State::TimedOut { Duration::from_millis(5) } else { HOUR };
    });
    let world = world.await;
    let partner = Partner::of(&world, version);
    let id = match state {
        State::Created | State::CancelledUnstarted => partner.created().await,
        State::JustStarted | State::Waiting | State::Cancelling | State::Cancelled | State::TimedOut => {
            partner.started(&token("tok_success")).await
        }
        State::Refused => partner.started(&token("tok_decline_early")).await,
        State::Confirmed | State::Accepted => partner.confirmed(&token("tok_success")).await,
        State::Declined => partner.confirmed(&token("tok_decline")).await,
        State::Doubt | State::Resolved => partner.confirmed(&token("tok_session_error")).await,
        State::Returned => partner.confirmed(&token("tok_returned")).await,
    };
    match state {
        State::Waiting => drop(partner.wait_ready(&id).await),
        State::Cancelling | State::Cancelled => {
            partner.wait_ready(&id).await;
            partner.ok("cancel", &named(&id)).await;
        }
        State::CancelledUnstarted => drop(partner.ok("cancel", &named(&id)).await),
        State::Returned => {
            let refunded = |it: &Value| it[version.payouts()][0].get("refunds").is_some();
            until("the return", async || Some(partner.status(&id).await).filter(refunded)).await;
        }
        State::Created
        | State::JustStarted
        | State::Confirmed
        | State::Accepted
        | State::Refused
        | State::Declined
        | State::TimedOut
        | State::Doubt
        | State::Resolved => {}
    }
    let wanted = row(state).session[0];
    partner.wait_status(&id, wanted).await;
    (world, partner, id)
}

fn assert_seen(partner: &Partner, state: State, session: &Value) {
    let row = row(state);
    let is_one_of = |value: &Value, known: &[&str]| known.contains(&value.as_str().unwrap_or_default());
    assert!(is_one_of(&session["status"], row.session), "{state:?}: {session}");
    if let Some(waits) = row.waits {
        assert_eq!(session.get("next_action").is_some(), waits, "{state:?}: {session}");
    }
    match row.error {
        Some(code) => assert_eq!(session["error"]["code"], code, "{state:?}"),
        None => assert!(session.get("error").is_none(), "{state:?}: {session}"),
    }
    if row.payout.is_empty() {
        assert_eq!(session.get(partner.version.payouts()), None, "{state:?}: {session}");
        return;
    }
    let payout = partner.payout(session);
    assert!(is_one_of(&payout["status"], row.payout), "{state:?}: {payout}");
    if payout["status"] == "failed" {
        // §4.4: at both levels.
        assert_eq!(payout["error"]["code"], session["error"]["code"], "{state:?}");
    }
    assert_eq!(payout.get("refunds").is_some(), state == State::Returned, "{payout}");
}

/// Every method in a state, in both versions.
async fn every_method(state: State) {
    for version in Version::BOTH {
        for (method, does) in ["start/payout", "confirm", "cancel"].into_iter().zip(row(state).does) {
            let (_world, partner, id) = reach(state, version).await;
            let before = partner.status(&id).await;
            assert_seen(&partner, state, &before);
            assert_eq!(partner.status(&id).await, before, "§2.7: asking has no effect");
            let body = if method == "confirm" || method == "cancel" {
                named(&id)
            } else {
                partner.start(&id, &token("tok_mastercard"))
            };
            let answer = partner.call(&format!("session/{method}"), &body).await;
            let worked = answer.http() == 200;
            assert!(does == Either || worked == (does == Work), "{method} when {state:?}: {answer:?}");
            if worked {
                let answered = partner.session(&answer);
                assert_eq!(answered["id"], before["id"]);
                after(&partner, method, &id).await;
            } else {
                shape::refusal(&answer, 400, "session_wrong_state");
                assert_eq!(partner.status(&id).await, before, "{method} when {state:?} had an effect");
            }
        }
    }
}

/// That a call which was accepted comes to what it is for.
async fn after(partner: &Partner, method: &str, id: &str) {
    match method {
        "start/payout" => drop(partner.wait_ready(id).await),
        "confirm" => {
            let session = partner.wait_status(id, "accepted").await;
            assert_eq!(partner.payout(&session)["status"], "succeeded");
        }
        _ => {
            let session = partner.wait_status(id, "cancelled").await;
            assert_eq!(session["error"]["code"], "session_cancelled_by_partner");
        }
    }
}

#[tokio::test]
async fn a_created_session_waits_to_be_started_or_cancelled() {
    every_method(State::Created).await;
}

#[tokio::test]
async fn a_session_just_started_waits_for_nobody() {
    every_method(State::JustStarted).await;
}

#[tokio::test]
async fn a_payout_that_is_pending_waits_for_confirm_or_cancel() {
    every_method(State::Waiting).await;
}

#[tokio::test]
async fn a_confirmed_payout_takes_nothing_more() {
    every_method(State::Confirmed).await;
}

#[tokio::test]
async fn a_payout_being_cancelled_takes_nothing_more() {
    every_method(State::Cancelling).await;
}

#[tokio::test]
async fn a_cancelled_payout_takes_nothing_more() {
    every_method(State::Cancelled).await;
}

#[tokio::test]
async fn a_session_cancelled_before_its_start_takes_nothing_more() {
    every_method(State::CancelledUnstarted).await;
}

#[tokio::test]
async fn an_accepted_session_takes_nothing_more() {
    every_method(State::Accepted).await;
}

#[tokio::test]
async fn a_payout_refused_before_its_confirm_takes_nothing_more() {
    every_method(State::Refused).await;
}

#[tokio::test]
async fn a_declined_payout_takes_nothing_more() {
    every_method(State::Declined).await;
}

#[tokio::test]
async fn a_payout_that_nobody_confirmed_takes_nothing_more() {
    every_method(State::TimedOut).await;
}

#[tokio::test]
async fn a_session_in_doubt_takes_nothing_more() {
    every_method(State::Doubt).await;
}

#[tokio::test]
async fn a_session_that_was_in_doubt_takes_nothing_more() {
    every_method(State::Resolved).await;
}

#[tokio::test]
async fn a_returned_payout_takes_nothing_more() {
    every_method(State::Returned).await;
}

#[tokio::test]
async fn a_cancel_before_the_start_keeps_the_session_from_ever_starting() {
    let world = World::open_with(|settings| settings.timing.settle_delay = HOUR).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.created().await;
        partner.ok("cancel", &named(&id)).await;
        // Whether its outcome is out at once is open; that nobody pays after it is not.
        let start = partner.start(&id, &token("tok_success"));
        partner.refused("start/payout", &start, 400, "session_wrong_state").await;
        partner.refused("confirm", &named(&id), 400, "session_wrong_state").await;
        assert_eq!(partner.status(&id).await.get(version.payouts()), None);
    }
}

#[tokio::test]
async fn a_second_start_that_adds_a_payout_leaves_both_in_the_list() {
    let world = World::open_with(|settings| settings.second_start = payoutd::sandbox::SecondStart::Add).await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        let id = partner.started(&token("tok_success")).await;
        let session = partner.ok("start/payout", &partner.start(&id, &token("tok_mastercard"))).await;
        let payouts = session[version.payouts()].as_array().unwrap();
        let brands: Vec<_> = payouts.iter().map(|it| &it[version.destination()]["card"]["brand"]).collect();
        assert_eq!(brands, [&json!("visa"), &json!("mastercard")]);
        assert_ne!(payouts[0]["id"], payouts[1]["id"]);
    }
}
