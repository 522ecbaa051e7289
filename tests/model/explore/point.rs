//! One moment of the explored world, small enough that millions of them fit into memory. The payout itself is
//! a number: the real ones are kept once each, by `desk.rs`.

use payoutd::domain::effect::EffectKind;
use std::hash::{Hash, Hasher};

pub const SLOTS: usize = 3;

/// Which of Pike's sessions: one for each attempt and one that nobody wanted, and one is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    A,
    B,
    C,
    Foreign,
}

impl Slot {
    pub const OURS: [Self; SLOTS] = [Self::A, Self::B, Self::C];

    /// Place in the lists of sessions, for one of ours.
    pub fn at(self) -> Option<usize> {
        Self::OURS.iter().position(|slot| *slot == self)
    }
}

/// An intended call in the table of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Row {
    #[default]
    Absent,
    /// Never claimed, or given back because the request never left.
    Free,
    /// Claimed, and the lease still runs.
    Held,
    /// Claimed, and the lease has run out: whoever held it is dead or frozen.
    Lapsed,
}

/// What Pike shows of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shown {
    NotStarted,
    Working,
    Awaiting,
    Error,
    Paid,
    Returned,
    /// `accepted` over a failed payout.
    Unpaid,
    Cancelled,
    /// A status nobody has met.
    Strange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Picture {
    pub session: Slot,
    pub shown: Shown,
    pub several: bool,
    pub other_amount: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Shows(Picture),
    Declined,
    Unknown,
    /// Nothing was sent: the last look found the permit too old.
    Stale,
    /// Nothing was sent: the last look found another payout than the one that was permitted.
    Altered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// A confirm is claimed, and has not had its last look.
    Looking,
    /// Claimed; the request has not reached Pike.
    Sending,
    /// An answer, or the knowledge that there is none, not yet recorded.
    Answered(Answer),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    #[default]
    Idle,
    Busy {
        kind: EffectKind,
        /// The session the request is about, as claimed.
        session: Option<Slot>,
        /// It still has the row's latest fence.
        current: bool,
        phase: Phase,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    #[default]
    Absent,
    Created,
    Working,
    Awaiting,
    Settling,
    Closing,
    ErrorAsked,
    ErrorConfirmed,
    Paid,
    Unpaid,
    Cancelled,
}

/// A session at Pike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    pub stage: Stage,
    pub payouts: u8,
    pub other_amount: bool,
    pub returned: bool,
    /// Pike has paid it after it had closed it unpaid: its own word broken, and not ours to prevent.
    pub reopened: bool,
    /// Pictures that a webhook was ever made of: any of them may arrive at any time, again and again, or
    /// never.
    pub told: u8,
}

/// Of what a webhook tells, in the order of the bits of `told`.
pub const TOLD: [Shown; 6] =
    [Shown::Awaiting, Shown::Error, Shown::Paid, Shown::Returned, Shown::Unpaid, Shown::Cancelled];

impl Session {
    pub fn shown(self) -> Shown {
        match self.stage {
            Stage::Absent | Stage::Created => Shown::NotStarted,
            Stage::Working | Stage::Settling | Stage::Closing => Shown::Working,
            Stage::Awaiting => Shown::Awaiting,
            Stage::ErrorAsked | Stage::ErrorConfirmed => Shown::Error,
            Stage::Paid if self.returned => Shown::Returned,
            Stage::Paid => Shown::Paid,
            Stage::Unpaid => Shown::Unpaid,
            Stage::Cancelled => Shown::Cancelled,
        }
    }

    pub fn has_told(self, shown: Shown) -> bool {
        TOLD.iter().position(|told| *told == shown).is_some_and(|bit| self.told & (1 << bit) != 0)
    }

    /// Enters a stage; Pike makes a webhook of it if it is worth one.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.tell(self.shown());
    }

    pub fn tell(&mut self, shown: Shown) {
        if let Some(bit) = TOLD.iter().position(|told| *told == shown) {
            self.told |= 1 << bit;
        }
    }

    pub fn is_closed(self) -> bool {
        matches!(self.stage, Stage::Paid | Stage::Unpaid | Stage::Cancelled)
    }

    pub fn is_open(self) -> bool {
        self.stage != Stage::Absent && !self.is_closed()
    }

    /// Payouts started in it that were not closed unpaid.
    pub fn alive(self) -> u8 {
        let counts = (self.is_open() || self.stage == Stage::Paid) && !self.reopened;
        if counts { self.payouts } else { 0 }
    }

    pub fn paid(self) -> u8 {
        if self.stage == Stage::Paid && !self.reopened { self.payouts } else { 0 }
    }
}

/// Calls that move money and can reach Pike long after everybody stopped waiting for them.
pub const LATE: [EffectKind; 3] = [EffectKind::StartPayout, EffectKind::Confirm, EffectKind::Cancel];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    pub payout: u16,
    /// In the order of `EffectKind::ALL`.
    pub rows: [Row; 5],
    pub workers: [Worker; 2],
    pub pike: [Session; SLOTS],
    /// Requests on their way that nobody waits for, by kind and session.
    pub late: [[u8; SLOTS]; 3],
    /// The switch.
    pub confirms_on: bool,
    /// A next check is noted.
    pub watched: bool,
    /// Pike has seen the key of our start: there is one for each attempt, which starts in one session.
    pub keys_used: [bool; SLOTS],
    /// Pike or the network told something that is not so.
    pub lied: bool,
    /// Confirm permits ever given, by session.
    pub confirm_permits: [bool; SLOTS],
    /// Cancel permits ever given, by session.
    pub cancel_permits: [bool; SLOTS],
    /// The confirm that is wanted was permitted too long ago, or under other rules.
    pub stale: bool,
    /// A person has taken a flag off: once is enough to see what follows.
    pub cleared: bool,
    /// The status read that is wanted was asked for before the pause between two attempts was over.
    pub early: bool,
    /// We were told that the session of an attempt before was paid.
    pub told_old: bool,
}

pub fn place(kind: EffectKind) -> usize {
    EffectKind::ALL.iter().position(|each| *each == kind).unwrap()
}

impl Point {
    pub fn row(&self, kind: EffectKind) -> Row {
        self.rows[place(kind)]
    }

    pub fn set(&mut self, kind: EffectKind, row: Row) {
        self.rows[place(kind)] = row;
    }

    /// Nobody's claim on this row is good any more.
    pub fn raise_fence(&mut self, kind: EffectKind) {
        for worker in &mut self.workers {
            if let Worker::Busy { kind: held, current, .. } = worker {
                *current &= *held != kind;
            }
        }
    }

    pub fn remove(&mut self, kind: EffectKind) {
        self.set(kind, Row::Absent);
        self.raise_fence(kind);
    }

    pub fn send_late(&mut self, kind: EffectKind, session: Option<Slot>) {
        let kind = LATE.iter().position(|late| *late == kind);
        if let (Some(kind), Some(at)) = (kind, session.and_then(Slot::at)) {
            self.late[kind][at] = (self.late[kind][at] + 1).min(2);
        }
    }
}

impl Worker {
    pub fn knows(&self, slot: Slot) -> bool {
        match self {
            Self::Idle => false,
            Self::Busy { session, phase, .. } => {
                let told = matches!(phase, Phase::Answered(Answer::Shows(seen)) if seen.session == slot);
                told || *session == Some(slot)
            }
        }
    }
}

/// A quick hash for keys of our own making.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.unsigned_abs().try_into().unwrap());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value.try_into().unwrap());
    }
}

pub fn hash_of(point: &Point) -> u64 {
    let mut hasher = Quick::default();
    point.hash(&mut hasher);
    hasher.finish()
}
