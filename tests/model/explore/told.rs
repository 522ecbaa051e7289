//! What the desk is told: the model's pictures and answers as the events that the real decisions take.

use super::{
    desk::{Desk, Ev, MINOR},
    point::{Answer, Picture, Shown, Slot},
};
use crate::{
    books::CREATOR,
    bug::Bug,
    terms::{PASSES, REFUSED},
};
use payoutd::domain::{
    effect::EffectKind,
    event::{Command, Event, Observation, Outcome},
    id::SessionId,
    owner::People,
    payout::{Payout, metadata_tag},
    permit::Unfit,
    provider::{ProviderError, ProviderFacts},
    session::{PayoutReport, PayoutStatus, SessionReport, SessionStatus},
};

impl Desk {
    pub fn event(&self, payout: &Payout, ev: Ev) -> Event {
        let by = |own: bool| if own { CREATOR } else { "key-2" }.to_owned();
        let observed = match ev {
            Ev::Cancel => return Event::Command(Command::Cancel { by: by(false) }),
            Ev::Approve { own } => {
                return Event::Command(Command::Approve { by: by(own), people: People::Two });
            }
            Ev::Reject => return Event::Command(Command::Reject { by: by(false) }),
            Ev::ClearFlag => {
                let reason = "seen".to_owned();
                return Event::Command(Command::ClearFlag { by: by(false), reason });
            }
            Ev::Due => Observation::Due,
            Ev::Answered(_, Answer::Stale) => Observation::Withheld(Unfit::Stale),
            Ev::Answered(_, Answer::Altered) => Observation::Withheld(Unfit::Altered),
            Ev::Webhook(picture) => {
                Observation::Reported(self.report(payout, EffectKind::ReadStatus, picture))
            }
            Ev::Answered(call, answer) => {
                let error = |code: &str| ProviderError { code: code.to_owned(), ..ProviderError::default() };
                let outcome = match answer {
                    Answer::Shows(picture) => Outcome::Accepted(self.report(payout, call, picture)),
                    Answer::Declined => Outcome::Declined(error(REFUSED)),
                    Answer::Unknown | Answer::Stale | Answer::Altered => Outcome::Unknown(error("timeout")),
                };
                Observation::Answered { call, outcome }
            }
        };
        Event::Observed(observed)
    }

    /// What Pike was told with the start: payout and attempt.
    fn tag(&self, payout: &Payout, session: Slot) -> String {
        let started = payout.attempt_in(&session_id(session)).filter(|_| !self.has(Bug::PresentTag));
        metadata_tag(payout.id, started.unwrap_or(payout.attempt))
    }

    /// Why Pike closed it: where payouts are tried again, always something after which they may be.
    fn error(&self, shown: Shown) -> Option<ProviderError> {
        let again = self.policy.attempts.most > 1 && matches!(shown, Shown::Unpaid | Shown::Cancelled);
        again.then(|| ProviderError { code: PASSES.to_owned(), ..ProviderError::default() })
    }

    /// What the adapter makes of a picture.
    fn report(&self, payout: &Payout, call: EffectKind, mut picture: Picture) -> SessionReport {
        if self.has(Bug::ForeignAccepted) && call != EffectKind::CreateSession {
            picture.session = payout.state.session().and_then(slot).unwrap_or(picture.session);
        }
        picture.other_amount &= !self.has(Bug::AmountNotRead);
        picture.shown = match picture.shown {
            Shown::Working if self.has(Bug::ConfirmBlindly) => Shown::Awaiting,
            Shown::Error if self.has(Bug::ErrorIsFinal) => Shown::Cancelled,
            Shown::Strange if self.has(Bug::StrangeIsCancelled) => Shown::Cancelled,
            shown @ (Shown::NotStarted
            | Shown::Working
            | Shown::Awaiting
            | Shown::Error
            | Shown::Paid
            | Shown::Returned
            | Shown::Unpaid
            | Shown::Cancelled
            | Shown::Strange) => shown,
        };
        let (status, inner) = statuses(picture.shown);
        let one = PayoutReport {
            status: inner,
            amount_minor: Some(MINOR + i64::from(picture.other_amount)),
            currency: Some("rub".to_owned()),
            metadata: Some(self.tag(payout, picture.session)),
            returned: picture.shown == Shown::Returned,
            facts: ProviderFacts::default(),
        };
        let count = match picture.shown {
            Shown::NotStarted => 0,
            Shown::Working
            | Shown::Awaiting
            | Shown::Error
            | Shown::Paid
            | Shown::Returned
            | Shown::Unpaid
            | Shown::Cancelled
            | Shown::Strange => 1 + usize::from(picture.several),
        };
        SessionReport {
            session: session_id(picture.session),
            status,
            awaits_confirm: picture.shown == Shown::Awaiting,
            payouts: vec![one; count],
            error: self.error(picture.shown),
            updated_at: None,
        }
    }
}

fn statuses(shown: Shown) -> (SessionStatus, PayoutStatus) {
    match shown {
        Shown::NotStarted => (SessionStatus::Created, PayoutStatus::InProgress),
        Shown::Working => (SessionStatus::InProgress, PayoutStatus::InProgress),
        Shown::Awaiting => (SessionStatus::InProgress, PayoutStatus::Pending),
        Shown::Error => (SessionStatus::Error, PayoutStatus::Failed),
        Shown::Paid | Shown::Returned => (SessionStatus::Accepted, PayoutStatus::Succeeded),
        Shown::Unpaid => (SessionStatus::Accepted, PayoutStatus::Failed),
        Shown::Cancelled => (SessionStatus::Cancelled, PayoutStatus::Failed),
        Shown::Strange => (SessionStatus::Other("strange".to_owned()), PayoutStatus::InProgress),
    }
}

fn session_id(slot: Slot) -> SessionId {
    SessionId(format!("ps_{slot:?}"))
}

pub fn slot(id: &SessionId) -> Option<Slot> {
    Slot::OURS.into_iter().find(|slot| session_id(*slot) == *id)
}
