//! What a call does to the world: the idempotency key, the session it names, the step, the ledger's line and
//! the answer. Authentication is done before, in `http`.

use super::code::Code;
use super::ledger::{Event, Page, Verdict, What};
use super::machine::Input;
use super::magic::{Call, Fault};
use super::request::{Method, Request};
use super::scalars::{At, Digest, PayoutId, SessionId};
use super::session::{Order, Session, SessionStatus, Version};
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
}

/// What goes back over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// A refusal.
    #[must_use]
    pub fn error(code: Code) -> Self {
        Self { status: code.http_status(), body: view::refusal(code) }
    }
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

    fn of(session: SessionId, result: Result<Verdict, Code>) -> Self {
        Self::new(Some(session), result.unwrap_or_else(Verdict::Refused))
    }
}

/// The session that a call names.
enum Named {
    Here(SessionId),
    /// Archived; this is a copy.
    Archived(Box<Record>),
    /// There is none, or it is not the caller's own.
    Nobodys,
    /// The archive could not be read.
    Unreadable,
}

impl World {
    /// Answers a call that was refused before anyone looked at what it wants.
    pub fn turn_away(&mut self, arrival: Arrival<'_>, code: Code, now: At) -> Answer {
        self.conclude(arrival, &Done::refused(None, code), now)
    }

    /// Answers a call of an authenticated partner; `request` is its body, read.
    pub fn call(&mut self, arrival: Arrival<'_>, request: Result<Request, Code>, now: At) -> Answer {
        if self.closed {
            return Answer::error(Code::InternalError);
        }
        let answer = self.take(arrival, request, now);
        // Not before: until here a session in use stays in memory.
        self.make_room();
        answer
    }

    fn take(&mut self, arrival: Arrival<'_>, request: Result<Request, Code>, now: At) -> Answer {
        let rules = self.constitution.key_rules;
        let key = arrival.idempotency_key.map(|key| rules.key(arrival.project, arrival.method, key));
        if key.is_some_and(|key| self.state.used_keys.holds(key, &rules, now)) {
            let session = request.ok().and_then(|request| match self.named(arrival, &request) {
                Named::Here(id) => Some(id),
                Named::Archived(_) | Named::Nobodys | Named::Unreadable => None,
            });
            return self.conclude(arrival, &Done::refused(session, Code::IdempotencyKeyAlreadyExists), now);
        }
        let done = match request {
            Ok(request) => self.perform(arrival, request, now),
            Err(code) => Done::refused(None, code),
        };
        if let Some(key) = key.filter(|_| rules.is_burnt_by(done.verdict)) {
            self.state.used_keys.use_up(key, now);
        }
        self.conclude(arrival, &done, now)
    }

    /// The session the call names. It comes back from the archive, unless the call only looks.
    fn named(&mut self, arrival: Arrival<'_>, request: &Request) -> Named {
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

    fn perform(&mut self, arrival: Arrival<'_>, request: Request, now: At) -> Done {
        match arrival.method {
            Method::Create => {
                let id = SessionId::fresh();
                let session = Session::created(id, arrival.project, arrival.version, request.order, now);
                self.enter(session);
                return Done::of(id, Ok(Verdict::Accepted));
            }
            Method::InitPayout => return self.init(arrival, request.order, now),
            Method::StartPayout | Method::Confirm | Method::Cancel | Method::Status => {}
        }
        let id = match self.named(arrival, &request) {
            Named::Here(id) => id,
            // Nothing is due for it, so it is as it was. The look is booked as a call that belongs to no
            // session: it changes nothing, and to write it on the session's page would bring the page back.
            Named::Archived(copy) => {
                return Done { session: None, copy: Some(copy), verdict: Verdict::Accepted };
            }
            Named::Nobodys => return Done::refused(None, Code::InvalidRequest),
            Named::Unreadable => return Done::new(None, Verdict::Broken),
        };
        self.catch_up(id, now);
        let result = match arrival.method {
            Method::StartPayout => self.start(id, arrival.version, request.order, now),
            Method::Confirm => self.decide(id, Call::Confirm, Input::Confirm, now),
            Method::Cancel => self.decide(id, Call::Cancel, Input::Cancel, now),
            Method::Status | Method::Create | Method::InitPayout => Ok(Verdict::Accepted),
        };
        Done::of(id, result)
    }

    /// Create and start in one; when the start is refused there is no session either.
    fn init(&mut self, arrival: Arrival<'_>, order: Order, now: At) -> Done {
        let id = SessionId::fresh();
        let session = Session::created(id, arrival.project, arrival.version, Order::default(), now);
        self.enter(session);
        let result = self.start(id, arrival.version, order, now);
        match result {
            Ok(Verdict::Accepted | Verdict::AnswerLost) => Done::of(id, result),
            Ok(Verdict::Refused(_) | Verdict::Broken) | Err(_) => {
                self.state.sessions.withdraw();
                self.state.ledger.totals_of(arrival.project).sessions -= 1;
                Done::new(None, result.unwrap_or_else(Verdict::Refused))
            }
        }
    }

    fn enter(&mut self, session: Session) {
        self.state.ledger.totals_of(&session.project).sessions += 1;
        self.state.sessions.enter(Record::new(session));
    }

    fn start(&mut self, id: SessionId, version: Version, order: Order, now: At) -> Result<Verdict, Code> {
        let Record { session, .. } = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
        let destination = order.destination.as_ref().or(session.draft.destination.as_ref());
        let fault = destination.and_then(|to| to.magic.script().fault);
        let untouched = session.status == SessionStatus::Created && !session.start_broke;
        if fault == Some(Fault::StartBreaks) && untouched {
            session.start_broke = true;
            return Ok(Verdict::Broken);
        }
        self.step(id, Input::Start { payout: PayoutId::fresh(), version, order }, now)?;
        self.page(id).starts += 1;
        Ok(lost_if(fault == Some(Fault::LostAnswer(Call::Start))))
    }

    /// Confirm and cancel.
    fn decide(&mut self, id: SessionId, call: Call, input: Input, now: At) -> Result<Verdict, Code> {
        self.step(id, input, now)?;
        let Record { session, page, .. } = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
        match call {
            Call::Confirm => {
                if page.confirms_accepted == 0 {
                    self.state.ledger.totals_of(&session.project).confirmed_sessions += 1;
                }
                page.confirms_accepted += 1;
            }
            Call::Cancel => page.cancels_accepted += 1,
            Call::Start => {}
        }
        let started = session.payouts.iter().map(|payout| &payout.destination);
        let fault = Some(Fault::LostAnswer(call));
        let mut destinations = started.chain(&session.draft.destination);
        Ok(lost_if(destinations.any(|to| to.magic.script().fault == fault)))
    }

    fn page(&mut self, id: SessionId) -> &mut Page {
        &mut self.state.sessions.get_mut(&id).expect("the caller has just used it").page
    }

    /// Writes the call into the ledger and makes its answer.
    fn conclude(&mut self, arrival: Arrival<'_>, done: &Done, now: At) -> Answer {
        let Arrival { project, method, body_sha256, idempotency_key, .. } = arrival;
        if !self.closed {
            self.dirty = true;
            self.state.ledger.totals_of(project).count_call(method, done.verdict);
            let what = What::request(project, method, body_sha256, done.verdict, idempotency_key);
            let event = Event { at: now, what };
            match done.session.and_then(|id| self.state.sessions.get_mut(&id)) {
                Some(record) => {
                    if method != Method::Status {
                        idempotency_key.inspect(|key| record.page.note_key(key));
                    }
                    record.page.append(event);
                }
                None => self.state.ledger.append_loose(event),
            }
        }
        let record = done.session.and_then(|id| self.state.sessions.get(&id)).or(done.copy.as_deref());
        match (done.verdict, record) {
            (Verdict::Accepted, Some(record)) => {
                let look = if method == Method::Status { Look::Report } else { Look::Answer };
                Answer { status: 200, body: view::answer(&record.session, arrival.version, look) }
            }
            (Verdict::Refused(code), _) => Answer::error(code),
            (Verdict::AnswerLost | Verdict::Broken, _) | (Verdict::Accepted, None) => {
                Answer::error(Code::InternalError)
            }
        }
    }
}

fn lost_if(lost: bool) -> Verdict {
    if lost { Verdict::AnswerLost } else { Verdict::Accepted }
}
