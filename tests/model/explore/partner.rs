//! Pike's side of the explored world: what a request does to a session, in every way the documents leave
//! open, and how sessions go on by themselves. What it was asked and what it paid is the truth.

use super::point::{Answer, Picture, Point, Session, Shown, Slot, Stage, TOLD};
use crate::{bug::Bug, mutant::Broken};
use payoutd::domain::effect::EffectKind;

/// How Pike's documents are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub name: &'static str,
    /// A second start adds a payout; else it is refused.
    pub adds: bool,
    /// The key of a start is honoured: whatever was made of the first, a second with the same key is refused.
    pub keys: bool,
    /// Our setting: an unknown start is sent again on the same session.
    pub resend: bool,
    /// Our setting: what Pike closed unpaid is tried again, once.
    pub attempts: bool,
}

pub const READINGS: [Reading; 6] = [
    reading("adds, no keys", [true, false, false, false]),
    reading("adds, keys", [true, true, false, false]),
    reading("refuses, no keys, start sent again", [false, false, true, false]),
    reading("refuses, keys, start sent again", [false, true, true, false]),
    reading("adds, no keys, two attempts", [true, false, false, true]),
    reading("refuses, keys, start sent again, two attempts", [false, true, true, true]),
];

const fn reading(name: &'static str, [adds, keys, resend, attempts]: [bool; 4]) -> Reading {
    Reading { name, adds, keys, resend, attempts }
}

impl Reading {
    /// Faults per path in an ordinary run: with attempts two would take too long.
    pub fn few(&self) -> usize {
        if self.attempts { 1 } else { 2 }
    }
}

/// One way in which Pike may take a request.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    pub to: Point,
    pub answer: Answer,
    /// It is one of the faults that are counted.
    pub fault: bool,
    pub note: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Partner {
    pub reading: Reading,
    pub bug: Option<Bug>,
}

pub fn picture(session: Session, slot: Slot) -> Picture {
    let shown = session.shown();
    Picture { session: slot, shown, several: session.payouts > 1, other_amount: session.other_amount }
}

impl Partner {
    fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// What must not reach Pike.
    pub fn forbids(point: &Point, kind: EffectKind, slot: Option<Slot>) -> Option<Broken> {
        let at = slot?.at()?;
        let session = point.pike[at];
        match kind {
            EffectKind::Confirm if point.cancel_permits[at] => {
                Some("Pike got a confirm after the payout was forbidden")
            }
            EffectKind::Confirm if !point.confirm_permits[at] => {
                Some("Pike got a confirm without a permit for that session")
            }
            EffectKind::Confirm if session.payouts != 1 || session.other_amount => {
                Some("Pike got a confirm for something that was not asked")
            }
            EffectKind::Confirm if !session.has_told(Shown::Awaiting) => {
                Some("Pike got a confirm that it had not asked for")
            }
            EffectKind::Cancel if !point.cancel_permits[at] => {
                Some("Pike got a cancel that was never permitted")
            }
            EffectKind::Confirm
            | EffectKind::Cancel
            | EffectKind::CreateSession
            | EffectKind::StartPayout
            | EffectKind::ReadStatus => None,
        }
    }

    /// Every way in which Pike may take a request.
    pub fn receive(self, point: &Point, kind: EffectKind, slot: Option<Slot>, out: &mut Vec<Reply>) {
        let plain = |to: Point, answer, note| Reply { to, answer, fault: false, note };
        if kind == EffectKind::CreateSession {
            let free =
                Slot::OURS.into_iter().zip(point.pike).find(|(_, session)| session.stage == Stage::Absent);
            return out.push(match free {
                None => plain(*point, Answer::Unknown, "no room in the model"),
                Some((slot, _)) => self.becomes(point, slot, Stage::Created, "a session is created"),
            });
        }
        let Some((slot, at)) = slot.and_then(|slot| Some((slot, slot.at()?))) else { return };
        match kind {
            EffectKind::StartPayout => self.start(point, slot, at, out),
            EffectKind::Confirm if point.pike[at].stage == Stage::Awaiting => {
                self.takes(point, slot, Stage::Settling, "confirmed", out);
            }
            EffectKind::Confirm => out.push(plain(*point, Answer::Unknown, "session_wrong_state")),
            EffectKind::Cancel => self.cancel(point, slot, at, out),
            EffectKind::ReadStatus | EffectKind::CreateSession => self.status(point, slot, at, out),
        }
    }

    fn becomes(self, point: &Point, slot: Slot, stage: Stage, note: &'static str) -> Reply {
        let mut to = *point;
        let at = slot.at().unwrap();
        to.pike[at].enter(stage);
        Reply { to, answer: Answer::Shows(picture(to.pike[at], slot)), fault: false, note }
    }

    /// The answer shows the time before or after: both are documented.
    fn takes(self, point: &Point, slot: Slot, stage: Stage, note: &'static str, out: &mut Vec<Reply>) {
        let after = self.becomes(point, slot, stage, note);
        let before = Answer::Shows(picture(point.pike[slot.at().unwrap()], slot));
        out.extend([after, Reply { answer: before, ..after }]);
    }

    fn start(self, point: &Point, slot: Slot, at: usize, out: &mut Vec<Reply>) {
        let refused = |note| Reply { to: *point, answer: Answer::Unknown, fault: false, note };
        if self.reading.keys && point.keys_used[at] && !self.has(Bug::KeyForgotten) {
            return out.push(refused("idempotency_key_already_exists"));
        }
        let mut seen = *point;
        seen.keys_used[at] = self.reading.keys;
        let stage = point.pike[at].stage;
        if stage == Stage::Created || (stage == Stage::Cancelled && self.has(Bug::ClosedRestarts)) {
            seen.pike[at].payouts = 1;
            self.takes(&seen, slot, Stage::Working, "started", out);
            seen.pike[at].other_amount = true;
            seen.lied = true;
            let other = self.becomes(&seen, slot, Stage::Working, "started with another amount");
            out.push(Reply { fault: true, ..other });
            let mut declined = *point;
            declined.keys_used[at] = self.reading.keys;
            let reply = Reply { to: declined, answer: Answer::Declined, fault: false, note: "declined" };
            declined.pike[at].enter(Stage::Cancelled);
            return out.extend([reply, Reply { to: declined, note: "declined, session closed", ..reply }]);
        }
        let adds = self.reading.adds || self.has(Bug::AddsWhileResending);
        let takes_more = matches!(stage, Stage::Working | Stage::Awaiting | Stage::Settling);
        if adds && takes_more && point.pike[at].payouts < 2 {
            seen.pike[at].payouts += 1;
            out.push(self.becomes(&seen, slot, stage, "a second payout is added"));
        }
        out.push(refused("session_wrong_state"));
    }

    fn cancel(self, point: &Point, slot: Slot, at: usize, out: &mut Vec<Reply>) {
        let refused =
            Reply { to: *point, answer: Answer::Unknown, fault: false, note: "session_wrong_state" };
        match point.pike[at].stage {
            Stage::Created if !self.has(Bug::UnstartedStays) => {
                self.takes(point, slot, Stage::Cancelled, "cancelled", out);
            }
            Stage::Awaiting => self.takes(point, slot, Stage::Closing, "cancel taken", out),
            // Possibly just started: whether that can be cancelled is not clear.
            Stage::Working => {
                self.takes(point, slot, Stage::Closing, "cancel taken early", out);
                out.push(refused);
            }
            Stage::Absent
            | Stage::Created
            | Stage::Settling
            | Stage::Closing
            | Stage::ErrorAsked
            | Stage::ErrorConfirmed
            | Stage::Paid
            | Stage::Unpaid
            | Stage::Cancelled => out.push(refused),
        }
    }

    fn status(self, point: &Point, slot: Slot, at: usize, out: &mut Vec<Reply>) {
        if self.has(Bug::StatusSilent) {
            return out.push(Reply { to: *point, answer: Answer::Unknown, fault: false, note: "silence" });
        }
        let session = point.pike[at];
        let now = picture(session, slot);
        let shows = |seen, fault, note| Reply { to: *point, answer: Answer::Shows(seen), fault, note };
        out.push(shows(now, false, "shows"));
        // An old picture: anything that it once showed.
        let old = TOLD.into_iter().filter(|shown| session.has_told(*shown));
        let earliest = [Shown::NotStarted, Shown::Working];
        let started = if session.payouts > 0 { &earliest[..] } else { &earliest[..1] };
        for shown in old.chain(started.iter().copied()).filter(|shown| *shown != now.shown) {
            out.push(shows(Picture { shown, ..now }, true, "shows an old picture"));
        }
    }

    /// Answers that no request deserves: unreadable, or about somebody else's session.
    pub fn nonsense(point: &Point, slot: Slot, at: usize) -> Vec<Reply> {
        let now = picture(point.pike[at], slot);
        let shows = |to, seen, note| Reply { to, answer: Answer::Shows(seen), fault: true, note };
        let strange = Picture { shown: Shown::Strange, ..now };
        let mut replies = vec![
            shows(*point, strange, "shows a status nobody has met"),
            shows(*point, now, "says yes and does nothing"),
        ];
        let lied = Point { lied: true, ..*point };
        for shown in [Shown::Paid, Shown::Awaiting, Shown::Cancelled] {
            let seen = Picture { session: Slot::Foreign, shown, several: false, other_amount: false };
            replies.push(shows(lied, seen, "shows somebody else's session"));
        }
        replies
    }

    /// How a session may go on by itself; `faults` asks for the ways that are lies instead.
    pub fn proceed(self, point: &Point, at: usize, faults: bool, mut each: impl FnMut(Point)) {
        let session = point.pike[at];
        let lies = |honest: bool| faults != honest;
        let mut enter = |stage: Stage, lied: bool| {
            let mut to = *point;
            to.pike[at].reopened |= lied && !session.is_open() && stage == Stage::Paid;
            to.pike[at].enter(stage);
            to.lied |= lied;
            each(to);
        };
        let unasked =
            lies(self.has(Bug::PaysUnasked)) && matches!(session.stage, Stage::Working | Stage::Awaiting);
        let is_closed = matches!(session.stage, Stage::Cancelled | Stage::Unpaid);
        let closed = lies(self.has(Bug::PaysClosed)) && is_closed && session.payouts > 0;
        if unasked || closed {
            enter(Stage::Paid, faults);
        }
        if faults {
            if session.stage == Stage::Paid {
                enter(Stage::Cancelled, true);
            }
            return;
        }
        let next: &[Stage] = match session.stage {
            Stage::Working => &[Stage::Awaiting, Stage::ErrorAsked, Stage::Cancelled, Stage::Unpaid],
            Stage::Awaiting => &[Stage::Cancelled],
            Stage::Settling => &[Stage::Paid, Stage::ErrorConfirmed, Stage::Cancelled, Stage::Unpaid],
            Stage::Closing => &[Stage::Cancelled, Stage::ErrorAsked],
            Stage::ErrorAsked if !self.has(Bug::ErrorForEver) => &[Stage::Awaiting, Stage::Cancelled],
            Stage::ErrorConfirmed if !self.has(Bug::ErrorForEver) => &[Stage::Paid, Stage::Cancelled],
            Stage::Paid if !session.returned => &[Stage::Paid],
            Stage::Absent
            | Stage::Created
            | Stage::ErrorAsked
            | Stage::ErrorConfirmed
            | Stage::Paid
            | Stage::Unpaid
            | Stage::Cancelled => &[],
        };
        for stage in next {
            let mut to = *point;
            to.pike[at].returned = session.stage == Stage::Paid;
            to.pike[at].enter(*stage);
            each(to);
        }
    }
}
