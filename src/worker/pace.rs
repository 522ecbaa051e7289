//! How fast Pike is called for one project, and whether at all: a rate for calls, one of their own for status
//! reads, waits that Pike asked for, and a breaker. Times come in, grants go out: no clock, no sleeping, no
//! database. It only ever delays: what is not granted now stays in the database, in its place.

use crate::pike::Condition;
use std::time::{Duration, Instant};

/// How far ahead calls are granted. So long may a claimed call wait for its turn: far less than any lease
/// leaves, and enough for a loop that does not wake for each call.
pub const AHEAD: Duration = Duration::from_millis(250);

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
}

impl Track {
    fn new(per_second: u32) -> Self {
        let every = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        Self { every, next: None, under_way: 0 }
    }

    /// How many may be granted now.
    fn room(&self, now: Instant) -> usize {
        let Some(every) = self.every else { return usize::MAX };
        let first = self.next.map_or(now, |next| next.max(now));
        let Some(ahead) = (now + AHEAD).checked_duration_since(first) else { return 0 };
        usize::try_from(ahead.as_nanos() / every.as_nanos()).unwrap_or(usize::MAX).saturating_add(1)
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

/// Whether calls of a lane wait in the database, as far as is known.
#[derive(Debug, Default)]
struct Waiting {
    left: u64,
    /// Of these a round has seen.
    seen: u64,
    /// The last round could not take all.
    more: bool,
}

/// How many calls and reads were left to wait so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    calls: u64,
    reads: u64,
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
    calls_left: Waiting,
    reads_left: Waiting,
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
            calls_left: Waiting::default(),
            reads_left: Waiting::default(),
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

    /// Whether calls of this lane wait in the database: whoever comes now comes after them.
    pub(super) fn has_waiting(&mut self, lane: Lane) -> bool {
        let waiting = self.waiting(lane);
        waiting.more || waiting.left != waiting.seen
    }

    /// A call is left to wait there.
    pub(super) fn leave(&mut self, lane: Lane) {
        self.waiting(lane).left += 1;
    }

    pub(super) fn left(&self) -> Left {
        Left { calls: self.calls_left.left, reads: self.reads_left.left }
    }

    /// A round has looked at what waits. `before` is what had been left when it began.
    pub(super) fn looked(&mut self, lane: Lane, before: &Left, took_all: bool) {
        let seen = match lane {
            Lane::Calls => before.calls,
            Lane::Reads => before.reads,
        };
        let waiting = self.waiting(lane);
        waiting.seen = seen;
        waiting.more = !took_all;
    }

    fn waiting(&mut self, lane: Lane) -> &mut Waiting {
        match lane {
            Lane::Calls => &mut self.calls_left,
            Lane::Reads => &mut self.reads_left,
        }
    }

    /// A granted call was claimed: when to make it.
    pub(super) fn take(&mut self, lane: Lane, now: Instant) -> Instant {
        self.track(lane).take(now)
    }

    /// A call that was to begin at `began` has ended.
    pub(super) fn ended(&mut self, lane: Lane, condition: Condition, began: Instant, now: Instant) {
        let track = self.track(lane);
        track.under_way = track.under_way.saturating_sub(1);
        match condition {
            Condition::NotTried => {}
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
