//! How fast Pike is called for one project, and whether at all: a rate for calls, one of their own for
//! status reads, waits that Pike asked for, and a breaker. Times come in, grants go out: no clock, no
//! sleeping, no database. It only ever delays: what is not granted now stays in the database, in its place,
//! or waits a moment in the process for those under way.

use crate::pike::Condition;
use std::time::{Duration, Instant};

/// How far ahead calls are granted. So long may a claimed call wait for its turn: far less than any lease
/// leaves, and enough for a loop that does not wake for each call.
pub const AHEAD: Duration = Duration::from_millis(250);

/// What was left to the database so long ago has been committed, and a round has seen it.
const UNSEEN: Duration = Duration::from_secs(1);

/// Of so many claimed calls, three of them among the newest, one would be such that takes a payout further.
const ENOUGH: usize = 4;

/// What is allowed towards Pike, for each project.
#[derive(Clone, Debug)]
pub struct PaceSettings {
    /// Calls other than status reads; 0 for no limit.
    pub calls_per_second: u32,
    /// Status reads; 0 for no limit.
    pub reads_per_second: u32,
    /// Most calls of a kind under way at once.
    pub width: usize,
    /// So many failures in a row stop the calls.
    pub breaker_failures: u32,
    /// The first pause after that, and the longest: it doubles with each probe that fails.
    pub breaker_pause: Duration,
    pub breaker_longest: Duration,
}

/// Calls that wait for different things: whatever moves something on, and the reads that only look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    Calls,
    Reads,
}

/// How many calls may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub calls: usize,
    pub reads: usize,
    pub calls_are: Calls,
}

/// Which calls are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    Any,
    /// Only such as move no money and may be repeated.
    Harmless,
}

const NOTHING: Grant = Grant { calls: 0, reads: 0, calls_are: Calls::Harmless };

/// Why a project's calls pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paused {
    /// Pike asked for it.
    Asked,
    /// Pike does not answer.
    Breaker,
}

/// Evenly spaced beginnings: never two closer than the rate allows, however long nothing happened before.
#[derive(Debug)]
struct Track {
    every: Option<Duration>,
    next: Option<Instant>,
    under_way: usize,
    /// The last beginning that was really one.
    began: Option<Instant>,
    /// Claimed in this process, waiting for one of those under way to end.
    queued: usize,
}

impl Track {
    fn new(per_second: u32) -> Self {
        let every = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        Self { every, next: None, under_way: 0, began: None, queued: 0 }
    }

    /// How many may be granted now.
    fn room(&self, now: Instant) -> usize {
        let Some(every) = self.every else { return usize::MAX };
        let first = self.next.map_or(now, |next| next.max(now));
        let Some(ahead) = (now + AHEAD).checked_duration_since(first) else { return 0 };
        usize::try_from(ahead.as_nanos() / every.as_nanos()).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// When one that has had its turn, and then had to wait for something else, may begin. None if that is
    /// too far ahead.
    fn begin(&mut self, now: Instant) -> Option<Instant> {
        let Some(every) = self.every else { return Some(now) };
        let at = self.began.map_or(now, |began| (began + every).max(now));
        let near = at <= now + AHEAD;
        if near {
            self.began = Some(at);
        }
        near.then_some(at)
    }

    /// One that was taken is not used: whoever comes next may have it. That others may stand between makes
    /// no difference, as each begins so long after the one before it.
    fn give_back(&mut self) {
        if let (Some(every), Some(next)) = (self.every, self.next) {
            self.next = next.checked_sub(every);
        }
    }

    /// Takes the next beginning.
    fn take(&mut self, now: Instant) -> Instant {
        self.under_way += 1;
        let Some(every) = self.every else { return now };
        let at = self.next.map_or(now, |next| next.max(now));
        self.next = Some(at + every);
        at
    }
}

#[derive(Debug)]
struct Broken {
    since: Instant,
    probe_at: Instant,
    pause: Duration,
}

fn later(until: &mut Option<Instant>, other: Instant) {
    *until = Some(until.map_or(other, |until| until.max(other)));
}

/// One project's pace.
#[derive(Debug)]
pub(super) struct Pace {
    settings: PaceSettings,
    calls: Track,
    reads: Track,
    /// Most calls of a lane under way now: halved by a failure, one more with each success, so that a Pike
    /// that recovers is not met by everything that has waited.
    width: usize,
    failures: u32,
    /// Whether calls, or reads, wait in the database, as far as is known.
    calls_wait: bool,
    reads_wait: bool,
    /// Whether calls that take a payout further are among them, or may be: those of others are not known.
    further_wait: bool,
    /// When the last of these was left there, or may be called again.
    further_at: Option<Instant>,
    round: u32,
    /// When the last one was left there.
    left_at: Option<Instant>,
    /// Nothing is claimed until then.
    quiet_until: Option<Instant>,
    /// Nothing is sent until then, not even what was claimed before: Pike has said so itself.
    asked_until: Option<Instant>,
    broken: Option<Broken>,
}

impl Pace {
    pub(super) fn new(settings: PaceSettings) -> Self {
        Self {
            calls: Track::new(settings.calls_per_second),
            reads: Track::new(settings.reads_per_second),
            width: settings.width,
            failures: 0,
            calls_wait: false,
            reads_wait: false,
            further_wait: true,
            further_at: None,
            round: 0,
            left_at: None,
            quiet_until: None,
            asked_until: None,
            broken: None,
            settings,
        }
    }

    /// What may begin now.
    pub(super) fn grant(&self, now: Instant) -> Grant {
        if self.quiet_until.is_some_and(|until| now < until) {
            return NOTHING;
        }
        let Some(broken) = &self.broken else {
            let room = |track: &Track| track.room(now).min(self.width.saturating_sub(track.under_way));
            return Grant { calls: room(&self.calls), reads: room(&self.reads), calls_are: Calls::Any };
        };
        if now < broken.probe_at || self.calls.under_way + self.reads.under_way > 0 {
            return NOTHING;
        }
        // One status read finds out. Where there is none to make, because nothing has a session yet, a
        // create does it after another pause: it moves no money either.
        let no_read_came = now >= broken.probe_at + broken.pause;
        Grant { calls: usize::from(no_read_came), reads: 1, calls_are: Calls::Harmless }
    }

    /// Whether one more may begin now. Harmless ones may where others may not.
    pub(super) fn has_room(&self, lane: Lane, harmless: bool, now: Instant) -> bool {
        let grant = self.grant(now);
        match lane {
            Lane::Calls => grant.calls > 0 && (grant.calls_are == Calls::Any || harmless),
            Lane::Reads => grant.reads > 0,
        }
    }

    /// One more waits in the process for those under way, unless `most` do, or anything but the number of
    /// those under way is in the way.
    pub(super) fn queue(&mut self, lane: Lane, most: usize, now: Instant) -> bool {
        let free = self.paused(now).is_none() && !self.is_narrow(lane);
        let track = self.track(lane);
        let fits = free && track.queued < most;
        track.queued += usize::from(fits);
        fits
    }

    /// One that waited so may begin, or not any more.
    pub(super) fn leave_queue(&mut self, lane: Lane, now: Instant) -> Option<Instant> {
        let (paused, width) = (self.paused(now).is_some(), self.width);
        let track = self.track(lane);
        track.queued = track.queued.saturating_sub(1);
        (!paused && track.under_way < width).then(|| track.take(now))
    }

    /// One that waited so does not any more.
    pub(super) fn give_up_queue(&mut self, lane: Lane) {
        let track = self.track(lane);
        track.queued = track.queued.saturating_sub(1);
    }

    /// Whether calls of this lane wait in the database.
    pub(super) fn has_waiting(&self, lane: Lane) -> bool {
        match lane {
            Lane::Calls => self.calls_wait,
            Lane::Reads => self.reads_wait,
        }
    }

    /// Whether a call that comes now goes behind those that wait in the database. While Pike is called as
    /// fast as we can, one that takes a payout further does not: it would wait behind all that has not
    /// begun. While Pike is called one by one or at a rate, calls of all kinds wait there in turn.
    pub(super) fn goes_behind(&self, lane: Lane, further: bool) -> bool {
        self.has_waiting(lane) && (!further || self.is_narrow(lane))
    }

    /// A call was left to wait there; it may be committed only after the next round has looked.
    pub(super) fn leave(&mut self, lane: Lane, further: bool, now: Instant) {
        self.waits(lane, true);
        if further {
            self.further_left(now);
        }
        self.left_at = Some(now);
    }

    /// A round has looked: there may be more than it took, or it took all that it saw. While Pike is called
    /// one by one or at a rate, nobody may overtake those that it could not see yet; otherwise that they are
    /// overtaken once costs them less than having everybody wait.
    pub(super) fn looked(&mut self, lane: Lane, took_all: bool, now: Instant) {
        let unseen = self.left_at.is_some_and(|left| now < left + UNSEEN);
        self.waits(lane, !took_all || (unseen && self.is_narrow(lane)));
    }

    /// A call that takes a payout further went back there, and may be claimed from this moment on.
    pub(super) fn further_left(&mut self, at: Instant) {
        self.further_wait = true;
        later(&mut self.further_at, at);
    }

    /// A round of claiming begins: its number.
    pub(super) fn next_round(&mut self) -> u32 {
        self.round = self.round.wrapping_add(1);
        self.round
    }

    /// A round has claimed so many calls, and such that take a payout further among them or not: if none of
    /// several was such a one, none is known to wait, but for one that the round could not see yet.
    pub(super) fn claimed_calls(&mut self, count: usize, further: bool, took_all: bool, now: Instant) {
        let unseen = self.further_at.is_some_and(|at| now < at + UNSEEN);
        let untold = self.further_wait && !took_all && count < ENOUGH;
        self.further_wait = further || unseen || untold;
    }

    /// Whether calls that take a payout further wait in the database, as far as is known: each has its turn
    /// there in a narrow lane, and elsewhere some were left because there was no place for them.
    pub(super) fn further_wait(&self) -> bool {
        self.further_wait || self.is_narrow(Lane::Calls)
    }

    fn waits(&mut self, lane: Lane, some: bool) {
        match lane {
            Lane::Calls => self.calls_wait = some,
            Lane::Reads => self.reads_wait = some,
        }
    }

    /// A granted call was claimed: when to make it.
    pub(super) fn take(&mut self, lane: Lane, now: Instant) -> Instant {
        self.track(lane).take(now)
    }

    /// A call is about to be made, its turn having come: when exactly, so that those whose last look took
    /// long do not begin together. None if too many stand before it.
    pub(super) fn begin(&mut self, lane: Lane, now: Instant) -> Option<Instant> {
        self.track(lane).begin(now)
    }

    /// A call that was to begin at `began` has ended.
    pub(super) fn ended(&mut self, lane: Lane, condition: Condition, began: Instant, now: Instant) {
        let track = self.track(lane);
        track.under_way = track.under_way.saturating_sub(1);
        match condition {
            Condition::NotTried => track.give_back(),
            Condition::Well => self.well(),
            Condition::Ill => {
                self.width = (self.width / 2).max(1);
                self.failed(began, now);
            }
            Condition::Busy(wait) => {
                later(&mut self.quiet_until, now + wait);
                self.width = 1;
                self.failed(began, now);
            }
            Condition::AsksToWait(wait) => {
                later(&mut self.quiet_until, now + wait);
                later(&mut self.asked_until, now + wait);
                self.width = 1;
                self.failed(began, now);
            }
        }
    }

    fn well(&mut self) {
        self.failures = 0;
        if self.broken.take().is_some() {
            self.width = 1;
        } else {
            self.width = (self.width + 1).min(self.settings.width);
        }
    }

    fn failed(&mut self, began: Instant, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let pause = match &self.broken {
            None if self.failures < self.settings.breaker_failures => return,
            None => self.settings.breaker_pause,
            // It was under way when the calls were stopped: no news.
            Some(broken) if began < broken.since => return,
            Some(broken) => (broken.pause * 2).min(self.settings.breaker_longest),
        };
        self.broken = Some(Broken { since: now, probe_at: now + pause, pause });
    }

    pub(super) fn paused(&self, now: Instant) -> Option<Paused> {
        if self.broken.is_some() {
            return Some(Paused::Breaker);
        }
        self.quiet_until.is_some_and(|until| now < until).then_some(Paused::Asked)
    }

    /// Whether Pike has asked for a wait that has not passed.
    pub(super) fn must_wait(&self, now: Instant) -> bool {
        self.asked_until.is_some_and(|until| now < until)
    }

    /// Whether the end of a call in this lane may make room that a round has missed.
    pub(super) fn is_narrow(&self, lane: Lane) -> bool {
        let every = match lane {
            Lane::Calls => self.calls.every,
            Lane::Reads => self.reads.every,
        };
        every.is_some() || self.width < self.settings.width
    }

    fn track(&mut self, lane: Lane) -> &mut Track {
        match lane {
            Lane::Calls => &mut self.calls,
            Lane::Reads => &mut self.reads,
        }
    }
}

#[cfg(test)]
mod tests;
