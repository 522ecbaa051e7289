//! The last look before money moves, and what it may find: a permit that has become too old, a payout that
//! somebody has altered. And the person who takes a flag off.

use super::{
    desk::Ev,
    moves::{Moves, Next, called, calling},
    point::{Answer, Phase, Point, Row, Slot, Worker},
};
use crate::bug::Bug;
use payoutd::domain::effect::EffectKind::Confirm;

/// Time passes over a permitted confirm, or other rules come into force.
pub const AGED: &str = "the permit is too old by now";
pub const ALTERED: &str = "somebody writes into the payout";

impl Moves {
    /// As `worker::confirm` does, right before the request leaves.
    pub fn look(
        &self,
        point: &Point,
        at: usize,
        (session, current): (Option<Slot>, bool),
        out: &mut Vec<Next>,
    ) {
        let altered = self.desk.facts[usize::from(point.payout)].altered;
        let (mut to, ours) = (*point, current && point.row(Confirm) == Row::Held);
        let phase = |phase| Worker::Busy { kind: Confirm, session, current, phase };
        let blind = altered && self.has(Bug::AlteredUnseen);
        let (next, text) = if self.has(Bug::LookSkipped) {
            (phase(Phase::Sending), "no last look:")
        } else if !ours {
            (Worker::Idle, "the last look finds the claim lost:")
        } else if !point.confirms_on && !self.has(Bug::SwitchNotAsked) {
            to.set(Confirm, Row::Free);
            (Worker::Idle, "the last look finds the switch off:")
        } else if altered && !blind {
            (phase(Phase::Answered(Answer::Altered)), "withheld, the payout is altered:")
        } else if point.stale && !self.has(Bug::StaleSent) {
            (phase(Phase::Answered(Answer::Stale)), "withheld, the permit is too old:")
        } else {
            (phase(Phase::Sending), "the last look is good:")
        };
        to.workers[at] = next;
        let withheld = matches!(next, Worker::Busy { phase: Phase::Answered(_), .. });
        if withheld && self.has(Bug::WithheldSent) {
            to.send_late(Confirm, session);
        }
        let leaves = matches!(next, Worker::Busy { phase: Phase::Sending, .. }) || to.late != point.late;
        self.push(out, to, calling(text, Confirm), true);
        let broken = [
            (leaves && withheld, "a confirm was withheld and sent"),
            (leaves && !ours, "a confirm was sent by who did not hold it"),
            (leaves && altered, "a confirm was sent for what nobody had permitted"),
            (leaves && point.told_old, "a confirm was sent after an old session had been paid"),
            (leaves && point.stale, "a confirm was sent under a permit that was too old"),
        ];
        let broken = broken.into_iter().find_map(|(broken, what)| broken.then_some(what));
        out.last_mut().unwrap().broken = broken;
    }

    /// Somebody writes into the stored payout past us, after its confirm was permitted.
    pub fn alter(&mut self, point: &Point, out: &mut Vec<Next>) {
        if let Some(payout) = self.desk.altered(point.payout) {
            self.push(out, Point { payout, lied: true, ..*point }, called(ALTERED), false);
        }
    }

    /// An operator has looked at a flagged payout and takes the flag off.
    pub fn unflag(&mut self, point: &Point, out: &mut Vec<Next>) {
        if self.desk.facts[usize::from(point.payout)].flagged && !point.cleared {
            let point = Point { cleared: true, ..*point };
            self.decide(&point, Ev::ClearFlag, called("command: clear flag"), false, out);
        }
    }
}
