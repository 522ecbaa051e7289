//! Which moments are alike: what can make no difference any more is forgotten, so that it is explored once.
//! Every line says why it cannot. Seeded bugs that need what a line forgets switch it off, and a test
//! compares what can be reached with and without all of them.

use super::{
    desk::Facts,
    moves::Moves,
    point::{Phase, Point, Row, Session, Shown, Slot, Stage, Worker},
};
use crate::bug::Bug;
use payoutd::domain::{effect::EffectKind, permit::PermitKind};

impl Moves {
    /// The moment that stands for all that are like this one.
    pub fn tidied(&self, mut point: Point) -> Point {
        // Which worker is which does not matter.
        point.workers.sort_unstable();
        if !self.alike {
            return point;
        }
        let facts = &self.desk.facts[usize::from(point.payout)];
        if !self.has(Bug::FenceDropped) {
            for worker in &mut point.workers {
                if idle_from_now(*worker) || self.knocks_in_vain(&point.pike, *worker) {
                    *worker = Worker::Idle;
                }
            }
        }
        if !self.has(Bug::LapsedForgotten) {
            // Whether its last try was interrupted does not matter to a call that may be repeated.
            for kind in [EffectKind::CreateSession, EffectKind::ReadStatus] {
                if point.row(kind) == Row::Lapsed {
                    point.set(kind, Row::Free);
                }
            }
        }
        // The switch is read for the rules and for claiming a confirm; neither happens any more.
        if facts.is_final || facts.permit == Some(PermitKind::Cancel) {
            point.confirms_on = true;
        }
        // The permit's age is looked at before a confirm is sent, and it is renewed whenever one is wanted.
        point.stale &= point.row(EffectKind::Confirm) != Row::Absent || self.has(Bug::PermitNotRenewed);
        for (at, slot) in Slot::OURS.into_iter().enumerate() {
            let stage = point.pike[at].stage;
            // Nothing of what is on its way does anything to a closed session.
            if point.pike[at].is_closed() && !self.has(Bug::ClosedRestarts) {
                for kind in &mut point.late {
                    kind[at] = 0;
                }
            }
            let known = point.workers.iter().any(|worker| worker.knows(slot));
            let late = point.late.iter().any(|kind| kind[at] > 0);
            // An empty session whose name nobody has can never be started.
            if stage == Stage::Created && facts.ours != Some(slot) && !known && !late {
                point.pike[at] = Session::default();
            }
        }
        self.forget_past(&mut point, facts);
        point.workers.sort_unstable();
        point
    }

    /// It has lost its claim, and its request goes to a session that is closed.
    fn knocks_in_vain(&self, pike: &[Session], worker: Worker) -> bool {
        let Worker::Busy { current: false, session, phase: Phase::Sending, .. } = worker else {
            return false;
        };
        let closed = session.and_then(Slot::at).is_some_and(|at| pike[at].is_closed());
        closed && !self.has(Bug::ClosedRestarts)
    }

    /// Of an attempt before only what Pike may still tell or do counts: every picture that it could have
    /// told is taken to have been told, which allows more and hides nothing.
    fn forget_past(&self, point: &mut Point, facts: &Facts) {
        point.early &= point.row(EffectKind::ReadStatus) != Row::Absent && facts.retrying;
        for (at, slot) in Slot::OURS.into_iter().enumerate() {
            let session = &mut point.pike[at];
            if !facts.past[at] || facts.ours == Some(slot) || session.is_open() {
                continue;
            }
            if session.stage == Stage::Unpaid {
                session.enter(Stage::Cancelled);
            }
            for shown in [Shown::Awaiting, Shown::Error, Shown::Unpaid, Shown::Cancelled] {
                session.tell(shown);
            }
            session.payouts = session.payouts.min(1);
            point.keys_used[at] = false;
            if !point.workers.iter().any(|worker| worker.knows(slot)) {
                point.confirm_permits[at] = false;
                point.cancel_permits[at] = false;
            }
        }
    }
}

/// It has lost its claim, so its answer will be dropped, and what it may still send moves no money.
fn idle_from_now(worker: Worker) -> bool {
    match worker {
        Worker::Busy { current: false, phase: Phase::Answered(_) | Phase::Looking, .. } => true,
        Worker::Busy { current: false, phase: Phase::Sending, kind, .. } => kind.repeatable(),
        Worker::Idle | Worker::Busy { current: true, .. } => false,
    }
}
