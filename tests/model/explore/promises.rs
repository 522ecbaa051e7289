//! The promises that hold at every moment of the explored world, and when a payout is at its end. Promises
//! about single decisions are in `mutant.rs`, those about what reaches Pike in `partner.rs`, those about
//! claims and recorded outcomes where these happen, in `moves.rs`.

use super::{
    moves::Moves,
    point::{Point, Session, Slot, Stage},
};
use crate::mutant::Broken;

impl Moves {
    /// The promises that hold at every moment.
    pub fn judge(&self, point: &Point) -> Option<Broken> {
        let facts = &self.desk.facts[usize::from(point.payout)];
        let sum = |count: fn(Session) -> u8| point.pike.into_iter().map(count).sum::<u8>();
        let (paid, alive) = (sum(Session::paid), sum(Session::alive));
        let most = usize::try_from(self.desk.policy.attempts.most).unwrap();
        let open = facts.ours.and_then(Slot::at).is_some_and(|at| point.pike[at].is_open());
        let succeeded = facts.is_final && !facts.unpaid;
        let permitted = facts.ours.and_then(Slot::at).is_some_and(|at| point.confirm_permits[at]);
        let returned = point.pike.iter().any(|session| session.stage == Stage::Paid && session.returned);
        let honest = !point.lied;
        let broken = [
            (paid > 1, "paid twice"),
            (facts.begun > most, "more attempts than allowed"),
            (facts.doubled, "two attempts with one number"),
            (facts.unpaid && point.told_old, "paid in an old session, and recorded as not paid"),
            (alive > 1, "two payouts alive at Pike"),
            (honest && facts.flagged, "an alarm although nobody lied"),
            (!facts.is_final && !point.watched, "nobody will ever look again"),
            (honest && facts.unpaid && paid > 0, "paid, and recorded as not paid"),
            (honest && facts.unpaid && (open || alive > 0), "final, while Pike may still pay"),
            (honest && succeeded && paid == 0, "recorded as paid, and not paid"),
            (honest && facts.returned && !returned, "recorded as returned, and not returned"),
            (
                succeeded && !permitted && !facts.flagged && !point.cleared,
                "paid without a permit, and nobody is told",
            ),
        ];
        broken.into_iter().find_map(|(broken, what)| broken.then_some(what))
    }

    /// Nothing more is expected, or a person has to look. Money that came back is still to be learnt of.
    pub fn settled(&self, point: &Point) -> bool {
        let facts = &self.desk.facts[usize::from(point.payout)];
        let ours = facts.ours.and_then(Slot::at).map(|at| point.pike[at]);
        let back = ours.is_some_and(|session| session.stage == Stage::Paid && session.returned);
        let missed = back && facts.is_final && !facts.returned && !facts.unpaid;
        (facts.is_final && !missed) || facts.flagged
    }
}
