//! One history: the books, a Pike, a network that loses, delays, repeats and reorders, workers that die or
//! freeze, callers with wishes, and a clock. Whatever is sent is checked on Pike's side when it arrives.

use crate::{
    books::{Books, CREATOR, EPOCH, Effect},
    bug::Bug,
    mutant::Broken,
    pike::{Manners, Pike},
    rng::Rng,
    tally::{Fault, Tally},
    terms::Terms,
};
use payoutd::domain::{
    effect::EffectKind,
    event::{Command, Event, Observation, Outcome},
    id::SessionId,
    owner::People,
    provider::ProviderError,
    session::SessionReport,
    state::State,
};
use time::{Duration, OffsetDateTime};

/// A request on the wire: sent, and nobody can call it back.
#[derive(Debug)]
pub struct Request {
    pub claim: Effect,
    pub session: Option<SessionId>,
    pub tag: String,
}

#[derive(Debug)]
pub struct Scene<'a> {
    pub books: Books<'a>,
    pub pike: Pike,
    pub tally: Tally,
    /// Faults are over.
    pub calm: bool,
    pub now: OffsetDateTime,
    rng: Rng,
    pub wire: Vec<Request>,
    answers: Vec<(Effect, Outcome)>,
    pub webhooks: Vec<SessionReport>,
    /// Workers that sent a request and wait.
    pub waiting: Vec<Effect>,
    /// Workers that hold a confirm and have not looked yet.
    pub looking: Vec<Effect>,
    /// Pike or the network told something that is not so: anomalies are to be expected.
    pub lied: bool,
    pub liar: bool,
    pub terms: &'a Terms,
    pub broken: Option<Broken>,
    pub trace: Option<Vec<String>>,
}

impl<'a> Scene<'a> {
    /// The tally goes on from that of other histories.
    pub fn new(seed: u64, terms: &'a Terms, bug: Option<Bug>, mut tally: Tally) -> Self {
        let mut rng = Rng::new(seed);
        // Drawn apart, so that the other histories stay what they were.
        let attempts = Rng::new(!seed).percent(30);
        let minor = [1_000, 1_000, 1_000, 600_000, 2_000_000][rng.place(5).unwrap()];
        let liar = rng.percent(15);
        let manners = Manners {
            second_start_adds: rng.percent(50),
            early_cancel: rng.percent(50),
            keys: rng.percent(50),
            misreads: liar && rng.percent(50),
            tells_why: attempts,
        };
        // Sending a start again is for a Pike that is known to refuse the second one.
        let resend = !manners.second_start_adds && rng.percent(50);
        let policy = terms.policy(resend, attempts);
        tally.state(&State::Accepted);
        Self {
            books: Books::open(minor, policy, &terms.rules, bug),
            pike: Pike::new(manners),
            tally,
            calm: false,
            now: EPOCH,
            rng,
            wire: vec![],
            answers: vec![],
            webhooks: vec![],
            waiting: vec![],
            looking: vec![],
            lied: manners.misreads,
            liar,
            terms,
            broken: None,
            trace: None,
        }
    }

    /// The whole history: trouble, then calm until everything is quiet.
    pub fn play(&mut self) -> Result<(), Broken> {
        let steps = 20 + self.rng.below(100);
        for _ in 0..steps {
            self.trouble();
            self.judge()?;
        }
        crate::calm::settle(self)
    }

    fn trouble(&mut self) {
        match self.rng.below(107) {
            0..20 => self.work(),
            20..40 => self.arrive(),
            40..55 => self.answer(),
            55..59 => self.time_out(),
            59..62 => self.crash(),
            62..76 => self.proceed(),
            76..84 => self.deliver(),
            84..95 => self.tick(),
            95..98 => self.command(),
            98 => {
                let on = !self.books.confirms_on;
                self.books.confirms_on = on;
                self.note("switch", &on);
            }
            99 => self.lie(),
            100..104 => self.look(),
            104 => self.alter(),
            105 => self.deploy(),
            _ => self.unflag(),
        }
    }

    pub fn note(&mut self, what: &'static str, about: &dyn std::fmt::Debug) {
        if let Some(trace) = &mut self.trace {
            let at = (self.now - EPOCH).whole_seconds();
            trace.push(format!("{at:>6}s {what} {about:?}"));
        }
    }

    /// A worker claims an effect and sends it, or fails to.
    pub fn work(&mut self) {
        let runnable = self.books.runnable(self.now);
        let Some(place) = self.rng.place(runnable.len()) else { return };
        self.work_on(runnable[place], 8);
    }

    pub fn work_on(&mut self, at: usize, not_sent: u64) {
        let (claim, interrupted) = self.books.claim(at, self.now);
        let resend = claim.kind.repeatable()
            || (claim.kind == EffectKind::StartPayout && self.books.has(Bug::ResendAfterCrash));
        if interrupted && !resend {
            self.tally.fault(Fault::Interrupted);
            return self.record(&claim, lost("interrupted"));
        }
        if self.rng.percent(not_sent) {
            self.tally.fault(Fault::NotSent);
            return self.books.give_back(&claim);
        }
        self.check_sending(claim.kind);
        if claim.kind == EffectKind::Confirm {
            self.looking.push(claim);
            // Some linger.
            if not_sent == 0 || self.rng.percent(60) {
                self.look();
            }
            return;
        }
        self.note("send", &claim);
        self.waiting.push(claim.clone());
        self.send(claim);
    }

    pub fn send(&mut self, claim: Effect) {
        let payout = &self.books.payout;
        let (session, tag) = (payout.state.session().cloned(), payout.metadata_tag());
        self.wire.push(Request { claim, session, tag });
    }

    fn check_sending(&mut self, kind: EffectKind) {
        if self.books.payout.state.is_final() && kind != EffectKind::ReadStatus {
            self.break_with("a call about a final payout");
        }
        if self.books.payout.state.retry_at().is_some() && kind != EffectKind::ReadStatus {
            self.break_with("a call about a closed attempt");
        }
        if kind == EffectKind::StartPayout && self.books.payout.permit.is_some() {
            self.break_with("a start after the decision about the money");
        }
    }

    /// A request reaches Pike: any of them, however old.
    pub fn arrive(&mut self) {
        let Some(place) = self.rng.place(self.wire.len()) else { return };
        let request = self.wire.swap_remove(place);
        if self.rng.percent(8) && !self.quiet() {
            self.tally.fault(Fault::RequestLost);
            return self.note("request lost", &request.claim.kind);
        }
        if request.claim.lease.is_some_and(|end| end < self.now) {
            self.tally.fault(Fault::LateRequest);
        }
        let outcome = self.receive(&request);
        self.note("pike", &(request.claim.kind, &outcome));
        if self.rng.percent(12) && !self.quiet() {
            self.tally.fault(Fault::AnswerLost);
        } else {
            self.answers.push((request.claim, outcome));
        }
    }

    fn receive(&mut self, request: &Request) -> Outcome {
        let kind = request.claim.kind;
        let Some(id) = &request.session else { return self.pike.create(self.now) };
        match kind {
            EffectKind::CreateSession => self.pike.create(self.now),
            EffectKind::StartPayout => {
                let minor = self.books.payout.order.amount.minor();
                if !self.quiet() && self.rng.percent(2) {
                    self.tally.fault(Fault::EmptyPromise);
                    return self.pike.promise(id, &mut self.rng);
                }
                self.pike.start(id, minor, &request.tag, &mut self.rng)
            }
            EffectKind::Confirm => {
                self.check_confirm(id);
                self.pike.confirm(id, &mut self.rng)
            }
            EffectKind::Cancel => {
                if !self.books.may_cancel(id) {
                    self.break_with("Pike got a cancel that was never permitted");
                }
                self.pike.cancel(id, &mut self.rng)
            }
            EffectKind::ReadStatus => self.pike.status(id),
        }
    }

    fn check_confirm(&mut self, id: &SessionId) {
        if !self.books.may_confirm(id) {
            return self.break_with("Pike got a confirm without a permit for that session");
        }
        let Some(session) = self.pike.session(id) else { return };
        let asked = session.asked;
        if session.payouts != [self.books.payout.order.amount.minor()] {
            return self.break_with("Pike got a confirm for something that was not asked");
        }
        if !asked {
            self.break_with("Pike got a confirm that it had not asked for");
        }
    }

    /// An answer reaches its worker, if that still waits.
    pub fn answer(&mut self) {
        let Some(place) = self.rng.place(self.answers.len()) else { return };
        let (claim, outcome) = self.answers.swap_remove(place);
        let Some(at) = self.waiting_at(&claim) else { return };
        let worker = self.waiting.swap_remove(at);
        if worker.lease.is_some_and(|end| end < self.now) {
            self.tally.fault(Fault::FrozenWorker);
        }
        self.record(&claim, outcome);
    }

    fn waiting_at(&self, claim: &Effect) -> Option<usize> {
        self.waiting.iter().position(|worker| worker.id == claim.id && worker.fence == claim.fence)
    }

    fn time_out(&mut self) {
        let Some(place) = self.rng.place(self.waiting.len()) else { return };
        let claim = self.waiting.swap_remove(place);
        self.tally.fault(Fault::TimedOut);
        self.record(&claim, lost("timeout"));
    }

    fn crash(&mut self) {
        if self.looking.is_empty() || self.rng.percent(70) {
            let Some(place) = self.rng.place(self.waiting.len()) else { return };
            let claim = self.waiting.swap_remove(place);
            self.note("crash", &claim);
        } else {
            self.looking.clear();
            self.note("crash before the last look", &());
        }
        self.tally.fault(Fault::Crash);
    }

    fn record(&mut self, claim: &Effect, outcome: Outcome) {
        self.note("record", &(claim.kind, &outcome));
        let why = self.books.record(claim, outcome, self.now);
        if self.books.recorded.iter().filter(|id| **id == claim.id).count() > 1 {
            self.break_with("one effect's outcome was recorded twice");
        }
        self.applied(why);
    }

    pub fn apply(&mut self, event: &Event) {
        let why = self.books.apply(event, self.now);
        self.applied(why);
    }

    pub fn applied(&mut self, why: Option<payoutd::domain::decide::Reason>) {
        self.tally.state(&self.books.payout.state);
        if let Some(why) = why {
            self.tally.reason(why);
            self.note("  now", &(why, self.books.payout.state.clone(), self.books.payout.anomaly));
        }
    }

    /// One of Pike's sessions goes on by itself.
    pub fn proceed(&mut self) {
        let Some(at) = self.rng.place(self.pike.sessions.len()) else { return };
        self.proceed_at(at);
    }

    pub fn proceed_at(&mut self, at: usize) {
        if let Some(report) = self.pike.proceed(at, self.now, &mut self.rng) {
            let stage = self.pike.sessions[at].stage;
            self.note("pike goes on", &stage);
            self.webhooks.push(report);
        }
    }

    /// A webhook arrives: any of them. Only those of our session find the payout.
    pub fn deliver(&mut self) {
        let Some(place) = self.rng.place(self.webhooks.len()) else { return };
        let report = self.webhooks[place].clone();
        if self.quiet() || !self.rng.percent(15) {
            self.webhooks.swap_remove(place);
        } else {
            self.tally.fault(Fault::WebhookRepeated);
        }
        if !self.quiet() && self.rng.percent(20) {
            return self.tally.fault(Fault::WebhookLost);
        }
        let payout = &self.books.payout;
        if payout.state.session() == Some(&report.session) || payout.past_in(&report.session).is_some() {
            self.note("webhook", &report.status);
            let report = self.books.as_read(EffectKind::ReadStatus, report);
            self.apply(&Event::Observed(Observation::Reported(report)));
        }
    }

    /// Time passes; a due payout is looked at.
    fn tick(&mut self) {
        let passed = match self.rng.below(20) {
            0..10 => Duration::seconds(1 + i64::try_from(self.rng.below(10)).unwrap()),
            10..19 => Duration::seconds(20 + i64::try_from(self.rng.below(100)).unwrap()),
            _ => Duration::minutes(10 + i64::try_from(self.rng.below(240)).unwrap()),
        };
        self.now += passed;
        if self.books.next_check.is_some_and(|due| due <= self.now) {
            self.note("due", &());
            self.apply(&Event::Observed(Observation::Due));
        }
    }

    fn command(&mut self) {
        let by = [CREATOR, "key-2"][self.rng.place(2).unwrap()].to_owned();
        let command = match self.rng.below(10) {
            0..2 => Command::Cancel { by },
            2..9 => Command::Approve { by, people: People::Two },
            _ => Command::Reject { by },
        };
        self.note("command", &command);
        self.tally.fault(Fault::Command);
        self.apply(&Event::Command(command));
    }

    pub fn break_with(&mut self, broken: Broken) {
        self.broken = self.broken.or(Some(broken));
    }

    fn quiet(&self) -> bool {
        self.calm
    }

    pub fn work_left(&self) -> bool {
        let looking = !self.looking.is_empty();
        looking || !self.wire.is_empty() || !self.answers.is_empty() || !self.webhooks.is_empty()
    }

    pub fn forget_webhooks(&mut self) {
        self.webhooks.clear();
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

fn lost(code: &str) -> Outcome {
    Outcome::Unknown(ProviderError { code: code.to_owned(), description: String::new() })
}
