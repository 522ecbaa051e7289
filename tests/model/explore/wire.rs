//! The network and the workers' deaths: what becomes of a request once a worker holds it.

use super::{
    look::ALTERED,
    moves::{Label, Moves, Next, calling},
    partner::Partner,
    point::{Answer, LATE, Phase, Point, Row, Slot, Worker},
};
use crate::bug::Bug;
use payoutd::domain::effect::EffectKind;

/// Names of steps that are faults: each must happen, or nothing was shown.
pub const FAULTS: [&str; 18] = [
    LOST,
    DOUBLED,
    LIE,
    ALTERED,
    "withheld, the payout is altered:",
    "withheld, the permit is too old:",
    "delayed beyond the time limit:",
    "could not be sent:",
    "the worker dies:",
    "the worker dies with its request on the way:",
    "the worker freezes:",
    "arrives late:",
    "claimed as interrupted:",
    "started with another amount",
    "shows an old picture",
    "shows a status nobody has met",
    "says yes and does nothing",
    "shows somebody else's session",
];

const LOST: &str = "answer lost:";
/// Pike pays or takes back what it must not.
pub const LIE: &str = "Pike breaks its own rules";
const DOUBLED: &str = "request doubled:";

impl Moves {
    /// A request reaches Pike and is answered.
    pub fn send(
        &mut self,
        point: &Point,
        at: usize,
        (kind, session): (EffectKind, Option<Slot>),
        faults: bool,
        out: &mut Vec<Next>,
    ) {
        let broken = Partner::forbids(point, kind, session);
        let mut replies = std::mem::take(&mut self.replies);
        replies.clear();
        self.partner.receive(point, kind, session, &mut replies);
        let about = session.filter(|_| faults && kind != EffectKind::CreateSession);
        if let Some((slot, place)) = about.and_then(|slot| Some((slot, slot.at()?))) {
            replies.extend(Partner::nonsense(point, slot, place));
        }
        let doubles = kind != EffectKind::StartPayout
            || !self.reading.adds
            || self.reading.keys
            || self.has(Bug::StartDoubled);
        for reply in &replies {
            let label = |text| Label { answer: Some(reply.answer), ..calling(text, kind) };
            let mut answered = |to: Point, answer: Answer, label: Label| {
                let mut to = to;
                if let Worker::Busy { phase, .. } = &mut to.workers[at] {
                    *phase = Phase::Answered(answer);
                }
                self.push(out, to, label, !faults);
                out.last_mut().unwrap().broken = broken;
            };
            if reply.fault == faults {
                answered(reply.to, reply.answer, label(reply.note));
            }
            if faults && !reply.fault {
                answered(reply.to, Answer::Unknown, Label { answer: None, ..label(LOST) });
                if doubles && LATE.contains(&kind) {
                    let mut to = reply.to;
                    to.send_late(kind, session);
                    answered(to, reply.answer, label(DOUBLED));
                }
            }
        }
        self.replies = replies;
    }

    /// What can go wrong before a request reaches Pike.
    pub fn lose(
        &self,
        point: &Point,
        at: usize,
        (kind, session, current): (EffectKind, Option<Slot>, bool),
        out: &mut Vec<Next>,
    ) {
        let mut delayed = *point;
        delayed.send_late(kind, session);
        if let Worker::Busy { phase, .. } = &mut delayed.workers[at] {
            *phase = Phase::Answered(Answer::Unknown);
        }
        self.push(out, delayed, calling("delayed beyond the time limit:", kind), false);
        let mut unsent = *point;
        unsent.workers[at] = Worker::Idle;
        if current {
            unsent.set(kind, Row::Free);
        }
        self.push(out, unsent, calling("could not be sent:", kind), false);
        self.die(point, at, (kind, current), out);
        if LATE.contains(&kind) {
            let mut sent = *point;
            sent.send_late(kind, session);
            sent.workers[at] = Worker::Idle;
            if current {
                sent.set(kind, Row::Lapsed);
            }
            self.push(out, sent, calling("the worker dies with its request on the way:", kind), false);
        }
    }

    /// A worker dies, or freezes for longer than its lease.
    pub fn die(&self, point: &Point, at: usize, (kind, current): (EffectKind, bool), out: &mut Vec<Next>) {
        let mut to = *point;
        to.workers[at] = Worker::Idle;
        if current {
            to.set(kind, Row::Lapsed);
        }
        self.push(out, to, calling("the worker dies:", kind), false);
        if current && point.row(kind) == Row::Held {
            let mut to = *point;
            to.set(kind, Row::Lapsed);
            self.push(out, to, calling("the worker freezes:", kind), false);
        }
    }

    /// What nobody waits for arrives, or never does.
    pub fn late(&mut self, point: &Point, out: &mut Vec<Next>) {
        for (which, kind) in LATE.into_iter().enumerate() {
            for slot in Slot::OURS {
                let at = slot.at().unwrap();
                if point.late[which][at] == 0 {
                    continue;
                }
                let mut gone = *point;
                gone.late[which][at] -= 1;
                self.push(out, gone, calling("never arrives:", kind), true);
                let broken = Partner::forbids(point, kind, Some(slot));
                let mut replies = std::mem::take(&mut self.replies);
                replies.clear();
                self.partner.receive(&gone, kind, Some(slot), &mut replies);
                for reply in replies.iter().filter(|reply| !reply.fault) {
                    self.push(out, reply.to, calling("arrives late:", kind), false);
                    out.last_mut().unwrap().broken = broken;
                }
                self.replies = replies;
            }
        }
    }
}
