//! The last look before money moves, in the random histories: what a claimed confirm stands on, read again
//! right before it is sent, by the real check. And what may have happened by then.

use crate::{
    books::{Books, Effect},
    bug::Bug,
    scene::Scene,
    tally::Fault,
};
use payoutd::domain::{
    decide::Reason,
    event::{Command, Event, Observation},
    permit::{self, Evidence, PermitKind, Unfit},
};
use time::{Duration, OffsetDateTime};

/// A permit older than this is not confirmed under as it is.
const PERMIT_MAX_AGE: Duration = Duration::minutes(10);

/// What the last look before a confirm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Good,
    NotOurs,
    SwitchedOff,
    Unfit(Unfit),
}

impl Books<'_> {
    /// The last look, as `worker::confirm` takes it.
    pub fn look(&self, claim: &Effect, now: OffsetDateTime) -> Look {
        let held = |effect: &&Effect| effect.id == claim.id && effect.fence == claim.fence;
        let Some(effect) = self.effects.iter().find(held) else { return Look::NotOurs };
        let Some(standing) = &self.standing else { return Look::NotOurs };
        if effect.lease.is_none_or(|end| end <= now) {
            return Look::NotOurs;
        }
        if !self.confirms_on {
            return Look::SwitchedOff;
        }
        let seen = Evidence {
            carried: effect.carried,
            permit: standing.permit.clone(),
            rule_set: standing.rule_set.clone(),
            age: now - standing.renewed_at,
        };
        let checked = permit::check(&self.payout, &seen, &self.rules.version, PERMIT_MAX_AGE);
        checked.map_or_else(Look::Unfit, |()| Look::Good)
    }

    /// Records that a confirm was not sent, if its claim is still good.
    pub fn withhold(&mut self, claim: &Effect, unfit: Unfit, now: OffsetDateTime) -> Option<Reason> {
        let ours = self.close(claim);
        ours.then(|| self.apply(&Event::Observed(Observation::Withheld(unfit)), now)).flatten()
    }
}

impl Scene<'_> {
    /// A worker that holds a confirm comes to its last look.
    pub fn look(&mut self) {
        let waiting = self.looking.len();
        let Some(place) = self.rng().place(waiting) else { return };
        let claim = self.looking.swap_remove(place);
        let look = self.books.look(&claim, self.now);
        self.note("last look", &(look, &claim));
        let blind = match look {
            Look::Unfit(Unfit::Stale) => self.books.has(Bug::StaleSent),
            Look::Unfit(Unfit::Altered) => self.books.has(Bug::AlteredUnseen),
            Look::Good | Look::NotOurs | Look::SwitchedOff => false,
        };
        if look == Look::Good || blind || self.books.has(Bug::LookSkipped) {
            return self.send_looked(claim, look);
        }
        match look {
            Look::Good | Look::NotOurs => {}
            Look::SwitchedOff => self.books.give_back(&claim),
            Look::Unfit(unfit) => {
                self.tally.fault(match unfit {
                    Unfit::Stale => Fault::PermitStale,
                    Unfit::Altered => Fault::PermitAltered,
                });
                if self.books.has(Bug::WithheldSent) {
                    self.send_looked(claim.clone(), look);
                }
                let why = self.books.withhold(&claim, unfit, self.now);
                self.applied(why);
            }
        }
    }

    fn send_looked(&mut self, claim: Effect, look: Look) {
        match look {
            Look::Good | Look::SwitchedOff => {}
            Look::NotOurs => self.break_with("a confirm was sent by who did not hold it"),
            Look::Unfit(Unfit::Stale) => {
                self.break_with("a confirm was sent under a permit that was too old");
            }
            Look::Unfit(Unfit::Altered) => {
                self.break_with("a confirm was sent for what nobody had permitted");
            }
        }
        if self.books.told_old {
            self.break_with("a confirm was sent after an old session had been paid");
        }
        self.note("send", &claim);
        self.waiting.push(claim.clone());
        self.send(claim);
    }

    /// Somebody writes into the stored payout past us, after its confirm was permitted.
    pub fn alter(&mut self) {
        let payout = &mut self.books.payout;
        let permitted = payout.permit.as_ref().is_some_and(|permit| permit.kind == PermitKind::Confirm);
        if self.liar && permitted && !payout.state.is_final() {
            "Mallory".clone_into(&mut payout.order.recipient_name);
            self.lied = true;
            self.tally.fault(Fault::PayoutAltered);
            self.note("altered", &());
        }
    }

    /// Other rules come into force, with the same limits.
    pub fn deploy(&mut self) {
        self.books.rules = &self.terms.other_rules;
        self.tally.fault(Fault::OtherRules);
        self.note("other rules", &());
    }

    /// An operator takes a flag off.
    pub fn unflag(&mut self) {
        if let Some(anomaly) = self.books.payout.anomaly {
            self.tally.fault(Fault::FlagTakenOff);
            self.note("clear flag", &anomaly);
            let by = "a person".to_owned();
            self.apply(&Event::Command(Command::ClearFlag { by, reason: "seen".to_owned() }));
        }
    }
}
