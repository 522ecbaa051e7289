//! Everything the sandbox knows, behind one lock: sessions, webhooks under way, used idempotency keys, the
//! ledger, and the agenda of what is due. Calls and the passing of time go through `machine`; what follows
//! from its steps is booked here. No RSA, and no I/O but that of the archive, a bounded piece at a time, so
//! the lock is held for microseconds.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::code::{Code, HttpStatuses};
use super::faults::{Book, Seal};
use super::idempotency::{KeyRules, UsedKeys};
use super::ledger::{Event, Ledger, Page, What};
use super::machine::{self, Direction, Effect, Funds, Input, Rules, WebhookKind};
use super::request::Method;
use super::scalars::{Amount, At, SessionId};
use super::session::Session;
use super::sessions::Sessions;
use super::settings::{
    ConfirmShows, DeclinedSession, Project, SecondStart, Settings, Timing, WebhookVersion,
};
use super::tokens;

/// A session with its page in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub session: Session,
    pub page: Page,
    /// Webhooks under way.
    #[serde(skip)]
    pub letters: u32,
}

impl Record {
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session, page: Page::default(), letters: 0 }
    }

    /// Nothing happens to it any more unless someone calls.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.letters == 0 && self.session.next_due().is_none()
    }
}

/// A webhook under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub session: SessionId,
    pub project: Box<str>,
    pub kind: WebhookKind,
    pub body: Box<str>,
    /// Known from the first attempt on.
    pub signature: Option<String>,
    /// Attempts that failed.
    pub failures: u32,
    pub born: At,
    pub due: At,
    #[serde(default)]
    pub seal: Seal,
}

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Those in memory; the rest is in the archive.
    pub sessions: Sessions,
    #[serde(default)]
    pub archive: Archive,
    pub deliveries: BTreeMap<u64, Delivery>,
    pub next_delivery: u64,
    #[serde(default)]
    pub used_keys: UsedKeys,
    pub ledger: Ledger,
    #[serde(default)]
    pub tokens: tokens::Book,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    Session(SessionId),
    Delivery(u64),
}

/// What of a project the world needs.
#[derive(Clone, Debug)]
pub struct Terms {
    pub webhook_url: Arc<str>,
    pub auto_confirm: bool,
    pub submerchants: Vec<String>,
    pub submerchant_required: bool,
    pub denied: Vec<Method>,
}

impl Terms {
    fn of(project: &Project) -> Self {
        Self {
            webhook_url: Arc::from(project.webhook_url.as_str()),
            auto_confirm: project.auto_confirm,
            submerchants: project.submerchants.clone(),
            submerchant_required: project.submerchant_required,
            denied: project.denied.clone(),
        }
    }
}

/// The part of the settings that decides.
#[derive(Debug)]
pub struct Constitution {
    timing: Timing,
    pub second_start: SecondStart,
    declined_session: DeclinedSession,
    pub confirm_shows: ConfirmShows,
    pub webhook_version: WebhookVersion,
    pub http_statuses: HttpStatuses,
    balances: BTreeMap<String, i64>,
    projects: HashMap<Box<str>, Terms>,
    pub(super) key_rules: KeyRules,
    keep_sessions: usize,
}

impl Constitution {
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let terms = settings.projects.iter().map(|project| (project.id.as_str().into(), Terms::of(project)));
        Self {
            projects: terms.collect(),
            timing: settings.timing.clone(),
            second_start: settings.second_start,
            declined_session: settings.declined_session,
            confirm_shows: settings.confirm_shows,
            webhook_version: settings.webhook_version,
            http_statuses: settings.http_statuses.clone(),
            balances: settings.balances.clone(),
            key_rules: KeyRules::of(settings),
            keep_sessions: settings.keep_sessions,
        }
    }

    /// What is agreed with a project; `None` when it is not served any more.
    #[must_use]
    pub fn terms(&self, project: &str) -> Option<&Terms> {
        self.projects.get(project)
    }

    /// Where the project's webhooks go; `None` when it is not served any more.
    #[must_use]
    pub fn webhook_url(&self, project: &str) -> Option<Arc<str>> {
        self.projects.get(project).map(|terms| Arc::clone(&terms.webhook_url))
    }

    /// The projects whose payouts nobody needs to confirm.
    #[must_use]
    pub fn auto_confirmed(&self) -> HashSet<Box<str>> {
        let auto = self.projects.iter().filter(|(_, terms)| terms.auto_confirm);
        auto.map(|(project, _)| project.clone()).collect()
    }

    /// When the attempt after `failures` failed ones is due; `None` after the last one.
    pub(super) fn attempt_due(&self, born: At, failures: u32) -> Option<At> {
        let wait = self.timing.webhook_retry.get(usize::try_from(failures).ok()?)?;
        Some(born.after(self.timing.scaled(*wait)))
    }

    fn rules(&self, project: &str) -> Rules<'_> {
        let auto_confirm = self.projects.get(project).is_some_and(|terms| terms.auto_confirm);
        Rules { timing: &self.timing, auto_confirm, declined_session: self.declined_session }
    }
}

/// The wallet of one project: its prefunding less what the ledger says is gone.
struct Wallet<'a> {
    balances: &'a BTreeMap<String, i64>,
    ledger: &'a Ledger,
    project: &'a str,
}

impl Funds for Wallet<'_> {
    fn cover(&self, amount: &Amount) -> bool {
        self.left(&amount.currency.upper()).is_none_or(|left| i128::from(amount.minor) <= left)
    }
}

impl Wallet<'_> {
    /// What is left in a currency (upper case); `None` when there is no end to it.
    fn left(&self, currency: &str) -> Option<i128> {
        let balance = self.balances.get(currency)?;
        let spent = self.ledger.totals.get(self.project).map_or(0, |totals| totals.spent(currency));
        Some(i128::from(*balance) - spent)
    }
}

/// The state with its agenda.
#[derive(Debug)]
pub struct World {
    pub state: State,
    pub constitution: Constitution,
    pub faults: Book,
    /// Webhooks held back until the next one of their session has gone.
    pub(super) held: HashMap<SessionId, Vec<u64>>,
    pub(super) agenda: BTreeSet<(At, Job)>,
    /// Set by every change, cleared by whoever saves the state.
    pub dirty: bool,
    /// The state was saved for the last time: nothing may change it any more.
    pub closed: bool,
}

impl World {
    /// Takes a state up where it was left: everything open is due when it was due.
    #[must_use]
    pub fn new(constitution: Constitution, faults: Book, mut state: State) -> Self {
        let mut agenda = BTreeSet::new();
        for (id, record) in state.sessions.iter() {
            agenda.extend(record.session.next_due().map(|due| (due, Job::Session(*id))));
        }
        for (id, delivery) in &state.deliveries {
            agenda.insert((delivery.due, Job::Delivery(*id)));
            state.sessions.letter_sent(delivery.session);
        }
        state.sessions.line_up(constitution.keep_sessions);
        let held = HashMap::new();
        Self { state, constitution, faults, held, agenda, dirty: false, closed: false }
    }
    /// What is left in the limited currencies of a project, by upper-case currency.
    pub fn balances<'a>(&'a self, project: &'a str) -> impl Iterator<Item = (&'a str, i128)> {
        let balances = &self.constitution.balances;
        let wallet = Wallet { balances, ledger: &self.state.ledger, project };
        balances.keys().filter_map(move |currency| Some((currency.as_str(), wallet.left(currency)?)))
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<At> {
        self.agenda.first().map(|(due, _)| *due)
    }

    /// Lets up to `limit` due things happen; returns the webhooks that are to be attempted now. They are off
    /// the agenda until their attempt is booked.
    pub fn pass(&mut self, now: At, limit: usize) -> Vec<u64> {
        let mut letters = Vec::new();
        if self.closed {
            return letters;
        }
        for _ in 0..limit {
            let Some((due, job)) = self.agenda.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.dirty = true;
            match job {
                // The tick takes the entry off the agenda, for it moves the session's due time.
                Job::Session(id) => self.tick(id, now),
                Job::Delivery(id) => {
                    self.agenda.remove(&(due, job));
                    letters.push(id);
                }
            }
        }
        self.make_room();
        letters
    }

    /// Lets the next batch of sessions leave memory, when there is one.
    pub(super) fn make_room(&mut self) {
        let State { sessions, archive, .. } = &mut self.state;
        let leavers = sessions.leavers();
        if leavers.is_empty() {
            return;
        }
        let records: Vec<&Record> = leavers.iter().filter_map(|id| sessions.get(id)).collect();
        match archive.append(&records) {
            Ok(count) => {
                sessions.left(&leavers, count);
                self.dirty = true;
            }
            Err(error) => {
                tracing::warn!(%error, "could not archive sessions, keeping them in memory");
                sessions.stayed(&leavers);
            }
        }
    }

    /// Takes a session in that was read from the archive.
    pub(super) fn take_back(&mut self, record: Record) {
        self.state.archive.release(record.session.id);
        self.state.sessions.enter(record);
        self.dirty = true;
    }

    /// Whether there is such a session; brings it back from the archive if need be.
    pub(super) fn recall(&mut self, id: SessionId) -> bool {
        let archived = match self.state.sessions.get(&id) {
            Some(_) => return true,
            None => self.state.archive.read(id).ok().flatten(),
        };
        let found = archived.is_some();
        archived.into_iter().for_each(|record| self.take_back(record));
        found
    }

    /// Brings a session up to `now`, so that a call that comes late finds what the clock has decided.
    pub(super) fn catch_up(&mut self, id: SessionId, now: At) {
        while self.state.sessions.get(&id).and_then(|r| r.session.next_due()).is_some_and(|due| due <= now) {
            self.tick(id, now);
        }
    }

    fn tick(&mut self, id: SessionId, now: At) {
        // A tick is never refused.
        let _: Result<(), Code> = self.step(id, Input::Tick, now);
    }

    /// One step of a session of ours, with all that follows from it. An unknown id is an invalid request.
    pub(super) fn step(&mut self, id: SessionId, input: Input, now: At) -> Result<(), Code> {
        let record = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
        let session = &mut record.session;
        let due_before = session.next_due();
        let wallet = Wallet {
            balances: &self.constitution.balances,
            ledger: &self.state.ledger,
            project: &session.project.clone(),
        };
        let rules = self.constitution.rules(wallet.project);
        let effects = machine::step(session, input, rules, &wallet, now)?;
        let due_after = session.next_due();
        if due_before != due_after {
            due_before.map(|due| self.agenda.remove(&(due, Job::Session(id))));
            self.agenda.extend(due_after.map(|due| (due, Job::Session(id))));
        }
        for effect in effects {
            self.follow(id, effect, now);
        }
        self.state.sessions.look_at(id);
        Ok(())
    }

    /// Books an effect: a line in the ledger, a sum, a webhook on its way.
    fn follow(&mut self, id: SessionId, effect: Effect, now: At) {
        let Some(Record { session, page, .. }) = self.state.sessions.get_mut(&id) else { return };
        match effect {
            Effect::Changed { payout } => {
                let payout = payout.and_then(|place| session.payouts.get(place));
                let error = payout.map_or(session.error, |payout| payout.error().or(session.error));
                let payout = payout.map(|payout| (payout.id, payout.status()));
                let what = What::Change { session_status: session.status, payout, error };
                page.append(Event { at: now, what });
            }
            Effect::Money { payout: place, direction } => {
                let Some(payout) = session.payouts.get(place) else { return };
                let (payout, amount) = (payout.id, payout.amount.clone());
                let totals = self.state.ledger.totals_of(&session.project);
                totals.count_money(direction, &amount);
                if direction == Direction::Out {
                    totals.paid_sessions += u64::from(page.paid_times == 0);
                    page.paid_times += 1;
                }
                page.append(Event { at: now, what: What::Money { payout, direction, amount } });
            }
            Effect::Webhook { payout, kind } => self.send(id, payout, kind, now),
        }
    }

    /// Ends a webhook, delivered or given up.
    pub(super) fn end_delivery(&mut self, id: u64) {
        let Some(delivery) = self.state.deliveries.remove(&id) else { return };
        if let Entry::Occupied(mut held) = self.held.entry(delivery.session) {
            held.get_mut().retain(|held| *held != id);
            if held.get().is_empty() {
                held.remove();
            }
        }
        self.state.sessions.letter_ended(delivery.session);
        self.make_room();
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
