//! Everything that can happen at one moment of the explored world: two workers, Pike, the network, the
//! callers, the clock. What is free always may happen; what is a fault is counted.

use super::{
    desk::{Desk, Ev},
    look,
    partner::{Partner, Reading, Reply, picture},
    point::{Answer, Phase, Picture, Point, Row, SLOTS, Shown, Slot, Stage, TOLD, Worker, place},
    wire,
};
use crate::{again, bug::Bug, mutant::Broken};
use payoutd::domain::{effect::EffectKind, permit::PermitKind};

/// What a step is called.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub text: &'static str,
    pub kind: Option<EffectKind>,
    pub answer: Option<Answer>,
    /// Where the desk's answer is.
    pub follows: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub to: Point,
    pub label: Label,
    /// It happens when nothing goes wrong any more, although no webhook and no caller comes and Pike's
    /// patience has no end.
    pub calm: bool,
    pub broken: Option<Broken>,
}

#[derive(Debug)]
pub struct Moves {
    pub desk: Desk,
    pub reading: Reading,
    pub partner: Partner,
    /// Moments that cannot differ are taken as one.
    pub alike: bool,
    bug: Option<Bug>,
    pub replies: Vec<Reply>,
}

pub fn called(text: &'static str) -> Label {
    Label { text, kind: None, answer: None, follows: None }
}

pub fn calling(text: &'static str, kind: EffectKind) -> Label {
    Label { kind: Some(kind), ..called(text) }
}

impl Moves {
    pub fn new(reading: Reading, bug: Option<Bug>) -> Self {
        let desk = Desk::open(reading, bug);
        Self { desk, reading, partner: Partner { reading, bug }, alike: true, bug, replies: vec![] }
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// A payout as `engine::create` leaves it.
    pub fn start(&self) -> Point {
        let mut point = Point {
            payout: 0,
            rows: [Row::Absent; 5],
            workers: [Worker::Idle; 2],
            pike: Default::default(),
            late: [[0; SLOTS]; 3],
            confirms_on: true,
            watched: true,
            keys_used: [false; SLOTS],
            lied: false,
            confirm_permits: [false; SLOTS],
            cancel_permits: [false; SLOTS],
            stale: false,
            cleared: false,
            early: false,
            told_old: false,
        };
        point.set(EffectKind::CreateSession, Row::Free);
        point
    }

    fn ours(&self, point: &Point) -> Option<Slot> {
        self.desk.facts[usize::from(point.payout)].ours
    }

    /// All free moves, or all faults.
    pub fn all(&mut self, point: &Point, faults: bool, out: &mut Vec<Next>) {
        out.clear();
        for at in 0..2 {
            match point.workers[at] {
                Worker::Idle if !faults => self.claim(point, at, out),
                Worker::Idle => {}
                Worker::Busy { kind, phase: Phase::Looking, current, .. } if faults => {
                    self.die(point, at, (kind, current), out);
                }
                Worker::Busy { session, phase: Phase::Looking, current, .. } => {
                    self.look(point, at, (session, current), out);
                }
                Worker::Busy { kind, session, phase: Phase::Sending, current } => {
                    self.send(point, at, (kind, session), faults, out);
                    if faults {
                        self.lose(point, at, (kind, session, current), out);
                    }
                }
                Worker::Busy { kind, phase: Phase::Answered(answer), current, .. } if !faults => {
                    self.record(point, at, (kind, answer, current), out);
                }
                Worker::Busy { kind, phase: Phase::Answered(_), current, .. } => {
                    self.die(point, at, (kind, current), out);
                    if current && self.has(Bug::ClosedFirst) {
                        let mut to = *point;
                        to.workers[at] = Worker::Idle;
                        to.remove(kind);
                        self.push(out, to, calling("an effect is closed; the worker dies", kind), false);
                    }
                }
            }
        }
        for at in 0..point.pike.len() {
            let mut reached = vec![];
            self.partner.proceed(point, at, faults, |to| reached.push(to));
            // That Pike gives up waiting for our word is no excuse for never giving it, unless it may not be
            // given any more: an old session was paid.
            let calm = !faults && (point.pike[at].stage != Stage::Awaiting || point.told_old);
            let label = called(if faults { wire::LIE } else { "Pike goes on by itself" });
            for to in reached {
                self.push(out, to, label, calm);
            }
        }
        if faults {
            self.alter(point, out);
        } else {
            self.late(point, out);
            self.news(point, out);
        }
    }

    pub fn push(&self, out: &mut Vec<Next>, to: Point, label: Label, calm: bool) {
        out.push(Next { to: self.tidied(to), label, calm, broken: None });
    }

    /// A worker takes the lease of an effect that may run.
    fn claim(&self, point: &Point, at: usize, out: &mut Vec<Next>) {
        // The other one would do the same.
        if at > 0 && point.workers[0] == Worker::Idle {
            return;
        }
        let facts = &self.desk.facts[usize::from(point.payout)];
        for kind in EffectKind::ALL {
            let free = match point.row(kind) {
                Row::Absent => false,
                Row::Free => true,
                Row::Lapsed => !self.has(Bug::LapsedForgotten),
                Row::Held => self.has(Bug::LeaseIgnored),
            };
            let off = kind == EffectKind::Confirm && !point.confirms_on;
            if !free || (off && !self.has(Bug::SwitchNotAsked)) {
                continue;
            }
            let blind = kind == EffectKind::StartPayout && self.has(Bug::ResendAfterCrash);
            let interrupted = point.row(kind) == Row::Lapsed && !kind.repeatable() && !blind;
            let phase = match kind {
                _ if interrupted => Phase::Answered(Answer::Unknown),
                EffectKind::Confirm => Phase::Looking,
                EffectKind::CreateSession
                | EffectKind::StartPayout
                | EffectKind::Cancel
                | EffectKind::ReadStatus => Phase::Sending,
            };
            let mut to = *point;
            to.raise_fence(kind);
            to.set(kind, Row::Held);
            to.workers[at] = Worker::Busy { kind, session: facts.ours, current: true, phase };
            let text = if interrupted { "claimed as interrupted:" } else { "a worker claims" };
            self.push(out, to, calling(text, kind), true);
            let start = kind == EffectKind::StartPayout;
            let broken = [
                (off, "a confirm was claimed against the switch"),
                (facts.is_final && kind != EffectKind::ReadStatus, "a call about a final payout"),
                (facts.retrying && kind != EffectKind::ReadStatus, "a call about a closed attempt"),
                (start && facts.permit.is_some(), "a start after the decision about the money"),
            ];
            let broken = broken.into_iter().find_map(|(broken, what)| broken.then_some(what));
            out.last_mut().unwrap().broken = broken;
        }
    }

    fn record(
        &mut self,
        point: &Point,
        at: usize,
        (kind, answer, current): (EffectKind, Answer, bool),
        out: &mut Vec<Next>,
    ) {
        let mut to = *point;
        to.workers[at] = Worker::Idle;
        if !current && !self.has(Bug::FenceDropped) {
            return self.push(out, to, calling("superseded:", kind), true);
        }
        if current {
            to.remove(kind);
        }
        let label = Label { answer: Some(answer), ..calling("recorded:", kind) };
        let first = out.len();
        self.decide(&to, Ev::Answered(kind, answer), label, true, out);
        for next in &mut out[first..] {
            let broken = (!current).then_some("an outcome was recorded by who did not hold the effect");
            next.broken = next.broken.or(broken);
        }
    }

    /// Everything that comes to us unasked.
    fn news(&mut self, point: &Point, out: &mut Vec<Next>) {
        if point.watched {
            self.decide(point, Ev::Due, called("due"), true, out);
        }
        let ours = self.ours(point);
        for slot in Slot::OURS {
            let session = point.pike[slot.at().unwrap()];
            let told = TOLD.into_iter().filter(|shown| session.has_told(*shown));
            for seen in told.map(|shown| Picture { shown, ..picture(session, slot) }) {
                // As the inbox does: only what is about our session finds the payout.
                if self.finds(point, slot) || (self.has(Bug::ForeignAccepted) && ours.is_some()) {
                    let label = Label { answer: Some(Answer::Shows(seen)), ..called("webhook") };
                    self.decide(point, Ev::Webhook(seen), label, false, out);
                }
            }
        }
        if self.has(Bug::ForeignAccepted) && ours.is_some() {
            let shown = Shown::Paid;
            let seen = Picture { session: Slot::Foreign, shown, several: false, other_amount: false };
            let label = called("a webhook about somebody else");
            self.decide(point, Ev::Webhook(seen), label, false, out);
        }
        let commands = [
            (Ev::Cancel, "command: cancel"),
            (Ev::Approve { own: false }, "command: approve"),
            (Ev::Approve { own: true }, "command: approve, by its creator"),
            (Ev::Reject, "command: reject"),
        ];
        for (ev, text) in commands {
            self.decide(point, ev, called(text), false, out);
        }
        self.unflag(point, out);
        if !point.stale && point.row(EffectKind::Confirm) != Row::Absent {
            let to = Point { stale: true, ..*point };
            self.push(out, to, called(look::AGED), false);
        }
        let to = Point { confirms_on: !point.confirms_on, ..*point };
        self.push(out, to, called("the switch is thrown"), to.confirms_on);
    }

    /// Whether what is told about a session of Pike's finds the payout.
    fn finds(&self, point: &Point, slot: Slot) -> bool {
        let facts = &self.desk.facts[usize::from(point.payout)];
        facts.ours == Some(slot) || slot.at().is_some_and(|at| facts.past[at])
    }

    /// Whether somebody tells that an attempt before was paid.
    fn tells_old(&self, point: &Point, ev: Ev) -> bool {
        let Ev::Webhook(seen) = ev else { return false };
        let paid = matches!(seen.shown, Shown::Paid | Shown::Returned);
        paid && self.finds(point, seen.session) && self.ours(point) != Some(seen.session)
    }

    /// The engine's transaction.
    pub fn decide(&mut self, point: &Point, ev: Ev, label: Label, calm: bool, out: &mut Vec<Next>) {
        let asked = self.desk.ask(point.payout, ev, point.confirms_on);
        for at in 0..self.desk.answers[asked].len() {
            let follows = &self.desk.answers[asked][at];
            let label = Label { follows: Some((asked, at)), ..label };
            let mut to = Point { payout: follows.to, watched: follows.watched, ..*point };
            for (which, kind) in EffectKind::ALL.into_iter().enumerate() {
                if follows.voids[which] {
                    to.remove(kind);
                }
            }
            let torn = to;
            for (which, kind) in EffectKind::ALL.into_iter().enumerate() {
                if follows.wants[which] && to.row(kind) == Row::Absent {
                    to.set(kind, Row::Free);
                }
            }
            // Who decides again that it is sent renews its permit.
            let confirms = follows.wants[place(EffectKind::Confirm)];
            to.stale &= !confirms || (follows.permit.is_none() && self.has(Bug::PermitNotRenewed));
            let unpermitted = Point { payout: follows.unpermitted, ..to };
            let mut broken = follows.broken;
            to.told_old |= self.tells_old(point, ev);
            if follows.wants[place(EffectKind::ReadStatus)] && torn.row(EffectKind::ReadStatus) == Row::Absent
            {
                to.early = follows.early;
            }
            let promises = [
                (follows.again && point.early, again::UNPROVEN),
                (confirms && to.told_old, "a confirm was asked for after an old session had been paid"),
            ];
            broken = broken.or(promises.into_iter().find_map(|(broken, what)| broken.then_some(what)));
            if let Some((kind, Some(at))) = follows.permit.map(|(kind, slot)| (kind, slot.and_then(Slot::at)))
            {
                if point.cancel_permits[at] || point.confirm_permits[at] {
                    broken = broken.or(Some("a second permit"));
                }
                match kind {
                    PermitKind::Cancel => to.cancel_permits[at] = true,
                    PermitKind::Confirm => to.confirm_permits[at] = true,
                }
            }
            let (waited, wants, permit) = (follows.waited, follows.wants != [false; 5], follows.permit);
            // A command refused, a webhook that is no news: most are.
            if to == *point && broken.is_none() && !matches!(ev, Ev::Answered(..)) {
                continue;
            }
            self.push(out, to, label, calm && waited);
            out.last_mut().unwrap().broken = broken;
            if wants && self.has(Bug::EffectsLater) {
                let (cancel_permits, confirm_permits) = (to.cancel_permits, to.confirm_permits);
                let to = Point { cancel_permits, confirm_permits, ..torn };
                self.push(out, to, Label { text: "torn: the effects are never written,", ..label }, false);
            }
            if permit.is_some() && self.has(Bug::PermitLater) {
                self.push(
                    out,
                    unpermitted,
                    Label { text: "torn: the permit is never written,", ..label },
                    false,
                );
            }
        }
    }
}
