//! What a call does to the world: the idempotency key, the session it names, the step, the ledger's line and
//! the answer. Authentication is done before, in `http`; which fault strikes is `strikes`' business.

use super::code::Code;
use super::faults::{Deed, Strike, Twist};
use super::ledger::{Event, Page, Verdict, What};
use super::machine::{Input, Start};
use super::magic::Magic;
use super::request::{Method, Request};
use super::scalars::{At, Digest, PayoutId, SessionId};
use super::session::{Order, Session, Version};
use super::settings::SecondStart;
use super::view::{self, Look};
use super::world::{Record, World};

/// A call as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Empty when the project is unknown.
    pub project: &'a str,
    pub method: Method,
    pub version: Version,
    pub body_sha256: Digest,
    pub idempotency_key: Option<&'a str>,
    pub submerchant: Option<&'a str>,
}

/// What goes back over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A call that was carried out.
#[derive(Debug)]
pub struct Carried {
    pub answer: Answer,
    /// The one it was about.
    pub session: Option<SessionId>,
    /// The fault struck. One of the session's own story waits for a call that is not refused anyway.
    pub struck: bool,
}

/// What a call came to: the session it was about, when there is one, and the verdict.
struct Done {
    session: Option<SessionId>,
    /// The session as the archive has it, for a call that only looks.
    copy: Option<Box<Record>>,
    verdict: Verdict,
}

impl Done {
    fn new(session: Option<SessionId>, verdict: Verdict) -> Self {
        Self { session, copy: None, verdict }
    }

    fn refused(session: Option<SessionId>, code: Code) -> Self {
        Self::new(session, Verdict::Refused(code))
    }

    fn of(session: SessionId, result: Result<(), Code>) -> Self {
        Self::new(Some(session), result.map_or_else(Verdict::Refused, |()| Verdict::Accepted))
    }
}

/// The session that a call names.
pub(super) enum Named {
    Here(SessionId),
    /// Archived; this is a copy.
    Archived(Box<Record>),
    /// There is none, or it is not the caller's own.
    Nobodys,
    /// The archive could not be read.
    Unreadable,
}

impl World {
    /// A refusal.
    #[must_use]
    pub fn refusal(&self, code: Code) -> Answer {
        Answer { status: self.constitution.http_statuses.of(code), body: view::refusal(code) }
    }

    /// Answers a call that was refused before anyone looked at what it wants.
    pub fn turn_away(&mut self, arrival: Arrival<'_>, code: Code, now: At) -> Answer {
        self.conclude(arrival, &Done::refused(None, code), None, now)
    }

    /// Carries out a call of an authenticated partner; `request` is its body, read. What the fault does to
    /// the answer on its way is not done here.
    pub fn call(
        &mut self,
        arrival: Arrival<'_>,
        request: Result<Request, Code>,
        strike: Option<&Strike>,
        now: At,
    ) -> Carried {
        if self.closed {
            return Carried { answer: self.refusal(Code::InternalError), session: None, struck: false };
        }
        let rules = self.constitution.key_rules;
        let key = arrival.idempotency_key.map(|key| rules.key(arrival.project, arrival.method, key));
        let done = if let Err(code) = self.admit(arrival) {
            Done::refused(None, code)
        } else if strike.is_some_and(|strike| strike.kind.prevents()) {
            Done::new(self.session_of(arrival, request.as_ref().ok()), Verdict::Broken)
        } else if key.is_some_and(|key| self.state.used_keys.holds(key, &rules, now)) {
            let session = self.session_of(arrival, request.as_ref().ok());
            Done::refused(session, Code::IdempotencyKeyAlreadyExists)
        } else {
            match request {
                Ok(request) => self.perform(arrival, request, strike, now),
                Err(code) => Done::refused(None, code),
            }
        };
        if let Some(key) = key.filter(|_| rules.is_burnt_by(done.verdict)) {
            self.state.used_keys.use_up(key, now);
        }
        let strike = strike.filter(|strike| !(strike.own && matches!(done.verdict, Verdict::Refused(_))));
        if strike.is_some_and(|strike| strike.own) {
            let record = done.session.and_then(|id| self.state.sessions.get_mut(&id));
            record.into_iter().for_each(|record| record.session.struck = true);
        }
        let answer = self.conclude(arrival, &done, strike, now);
        // Not before: until here a session in use stays in memory.
        self.make_room();
        Carried { answer, session: done.session, struck: strike.is_some() }
    }

    /// What the project may do at all.
    pub(super) fn admit(&self, arrival: Arrival<'_>) -> Result<(), Code> {
        let terms = self.constitution.terms(arrival.project).ok_or(Code::IdentificationError)?;
        let known = arrival.submerchant.is_none_or(|name| {
            terms.submerchants.is_empty() || terms.submerchants.iter().any(|known| known == name)
        });
        let missing = terms.submerchant_required && arrival.submerchant.is_none();
        if !known || missing || terms.denied.contains(&arrival.method) {
            return Err(Code::AuthorizationError);
        }
        Ok(())
    }

    /// The session the call names. It comes back from the archive, unless the call only looks.
    pub(super) fn named(&mut self, arrival: Arrival<'_>, request: &Request) -> Named {
        let Some(id) = request.session else { return Named::Nobodys };
        let is_own = |record: &Record| *record.session.project == *arrival.project;
        if let Some(record) = self.state.sessions.get(&id) {
            return if is_own(record) { Named::Here(id) } else { Named::Nobodys };
        }
        match self.state.archive.read(id) {
            Ok(Some(record)) if is_own(&record) => {
                if arrival.method == Method::Status {
                    return Named::Archived(Box::new(record));
                }
                self.take_back(record);
                Named::Here(id)
            }
            Ok(Some(_) | None) => Named::Nobodys,
            Err(error) => {
                tracing::warn!(%error, session = %id, "could not read a session from the archive");
                Named::Unreadable
            }
        }
    }

    /// The session the call names, if it is in memory.
    fn session_of(&mut self, arrival: Arrival<'_>, request: Option<&Request>) -> Option<SessionId> {
        match self.named(arrival, request?) {
            Named::Here(id) => Some(id),
            Named::Archived(_) | Named::Nobodys | Named::Unreadable => None,
        }
    }

    fn perform(&mut self, arrival: Arrival<'_>, request: Request, strike: Option<&Strike>, now: At) -> Done {
        let session = match self.named(arrival, &request) {
            Named::Here(id) => Some(id),
            // Nothing is due for it, so it is as it was. The look is booked as a call that belongs to no
            // session: it changes nothing, and to write it on the session's page would bring the page back.
            Named::Archived(copy) => {
                return Done { session: None, copy: Some(copy), verdict: Verdict::Accepted };
            }
            Named::Nobodys => None,
            Named::Unreadable => return Done::new(None, Verdict::Broken),
        };
        session.into_iter().for_each(|id| self.catch_up(id, now));
        let order = request.order;
        match (arrival.method, session) {
            (Method::Create, _) => {
                let id = SessionId::fresh();
                self.enter(Session::created(id, arrival.project, arrival.version, order, now));
                Done::of(id, Ok(()))
            }
            (Method::InitPayout, _) => self.init(arrival, order, strike, now),
            (Method::StartPayout, Some(id)) => {
                Done::of(id, self.start(id, arrival.version, order, strike, now))
            }
            (Method::Confirm, Some(id)) => {
                Done::of(id, self.step(id, Input::Confirm, now).map(|()| self.count_confirm(id)))
            }
            (Method::Cancel, Some(id)) => {
                let result = self.step(id, Input::Cancel, now);
                Done::of(id, result.map(|()| self.page(id).cancels_accepted += 1))
            }
            (Method::Status, Some(id)) => Done::of(id, Ok(())),
            (Method::StartPayout | Method::Confirm | Method::Cancel | Method::Status, None)
            // These are answered by `tokens::desk`.
            | (
                Method::Token
                | Method::TokenInfo
                | Method::TokenizeElements
                | Method::RecurrentStatus
                | Method::RecurrentDisable
                | Method::WalletBalance,
                _,
            ) => Done::refused(None, Code::InvalidRequest),
        }
    }

    /// Create and start in one; when the start is refused there is no session either.
    fn init(&mut self, arrival: Arrival<'_>, order: Order, strike: Option<&Strike>, now: At) -> Done {
        let id = SessionId::fresh();
        self.enter(Session::created(id, arrival.project, arrival.version, Order::default(), now));
        match self.start(id, arrival.version, order, strike, now) {
            Ok(()) => Done::of(id, Ok(())),
            Err(code) => {
                self.state.sessions.withdraw();
                self.state.ledger.totals_of(arrival.project).sessions -= 1;
                Done::refused(None, code)
            }
        }
    }

    fn enter(&mut self, session: Session) {
        self.state.ledger.totals_of(&session.project).sessions += 1;
        self.state.sessions.enter(Record::new(session));
    }

    fn start(
        &mut self,
        id: SessionId,
        version: Version,
        mut order: Order,
        strike: Option<&Strike>,
        now: At,
    ) -> Result<(), Code> {
        let Record { session, .. } = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
        let destination = order.destination.as_ref().or(session.draft.destination.as_ref());
        order.destination = destination.map(|to| self.state.tokens.as_it_is_now(to));
        let story = strike.and_then(|strike| strike.figures.story.as_deref()).and_then(Magic::listed);
        if let (Some(to), Some(magic)) = (&mut order.destination, story) {
            to.magic = magic;
        }
        let twice = strike.is_some_and(|strike| strike.kind.deed() == Deed::Start(Twist::Twice));
        let again = twice.then(|| order.clone());
        let start = |order: Order, second| {
            let payout = PayoutId::fresh();
            Input::Start(Box::new(Start { payout, version, order, second }))
        };
        self.step(id, start(order, self.constitution.second_start), now)?;
        self.page(id).starts += 1;
        if let Some(order) = again {
            // Pike itself carried the call out twice.
            self.step(id, start(order, SecondStart::Add), now)?;
        }
        Ok(())
    }

    fn count_confirm(&mut self, id: SessionId) {
        let Some(Record { session, page, .. }) = self.state.sessions.get_mut(&id) else { return };
        let first = page.confirms_accepted == 0;
        page.confirms_accepted += 1;
        self.state.ledger.totals_of(&session.project).confirmed_sessions += u64::from(first);
    }

    fn page(&mut self, id: SessionId) -> &mut Page {
        &mut self.state.sessions.get_mut(&id).expect("the caller has just used it").page
    }

    /// Writes the call into the ledger and makes its answer.
    fn conclude(&mut self, arrival: Arrival<'_>, done: &Done, strike: Option<&Strike>, now: At) -> Answer {
        let loses = strike.is_some_and(|strike| strike.kind.loses_the_answer());
        let lost = loses && done.verdict == Verdict::Accepted;
        let verdict = if lost { Verdict::AnswerLost } else { done.verdict };
        self.book(arrival, done.session, verdict, strike, now);
        let record = done.session.and_then(|id| self.state.sessions.get(&id)).or(done.copy.as_deref());
        match (done.verdict, record) {
            (Verdict::Accepted, Some(record)) => {
                let body = self.constitution.shown(&record.session, arrival, strike);
                Answer { status: 200, body }
            }
            (Verdict::Refused(code), _) => self.refusal(code),
            (Verdict::AnswerLost | Verdict::Broken, _) | (Verdict::Accepted, None) => {
                self.refusal(Code::InternalError)
            }
        }
    }

    /// Writes a call into the ledger.
    pub(super) fn book(
        &mut self,
        arrival: Arrival<'_>,
        session: Option<SessionId>,
        verdict: Verdict,
        strike: Option<&Strike>,
        now: At,
    ) {
        if self.closed {
            return;
        }
        let Arrival { project, method, body_sha256, idempotency_key, submerchant, .. } = arrival;
        self.dirty = true;
        let totals = self.state.ledger.totals_of(project);
        totals.count_call(method, verdict);
        let request = What::request(project, method, body_sha256, verdict, idempotency_key, submerchant);
        let fault = strike.map(|strike| {
            totals.count_fault(strike.kind);
            What::Fault { fault: strike.kind }
        });
        let mut record = session.and_then(|id| self.state.sessions.get_mut(&id));
        let had_effect = matches!(verdict, Verdict::Accepted | Verdict::AnswerLost);
        let key = idempotency_key.filter(|_| had_effect && method != Method::Status);
        if let (Some(record), Some(key)) = (&mut record, key) {
            record.page.note_key(key);
        }
        for what in [Some(request), fault].into_iter().flatten() {
            let event = Event { at: now, what };
            match &mut record {
                Some(record) => record.page.append(event),
                None => self.state.ledger.append_loose(event),
            }
        }
    }
}

impl super::world::Constitution {
    /// The body of an accepted call's answer: as it is, unless a lagging copy answers.
    fn shown(&self, session: &Session, arrival: Arrival<'_>, strike: Option<&Strike>) -> Vec<u8> {
        let look = match arrival.method {
            Method::Status => Look::Report,
            Method::Confirm => Look::Confirm(self.confirm_shows),
            Method::Create
            | Method::InitPayout
            | Method::StartPayout
            | Method::Cancel
            | Method::Token
            | Method::TokenInfo
            | Method::TokenizeElements
            | Method::RecurrentStatus
            | Method::RecurrentDisable
            | Method::WalletBalance => Look::Answer,
        };
        let past = strike.filter(|strike| strike.kind.deed() == Deed::Past);
        let past = past.map(|strike| strike.figures.shows.unwrap_or_else(|| session.step_back()));
        let past = past.map(|shows| session.as_it_was(shows));
        view::answer(past.as_ref().unwrap_or(session), arrival.version, look)
    }
}
