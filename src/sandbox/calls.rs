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
    verdict: Verdict,
}

impl Done {
    fn refused(session: Option<SessionId>, code: Code) -> Self {
        Self { session, verdict: Verdict::Refused(code) }
    }

    fn of(session: SessionId, result: Result<Verdict, Code>) -> Self {
        let verdict = result.unwrap_or_else(Verdict::Refused);
        Self { session: Some(session), verdict }
    }
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
        let key = arrival
            .idempotency_key
            .map(|key| Digest::of_parts(&[arrival.project, arrival.method.path(), key]));
        if key.is_some_and(|key| self.state.used_keys.contains(&key)) {
            let session = request.ok().and_then(|request| self.session_of(arrival, &request));
            return self.conclude(arrival, &Done::refused(session, Code::IdempotencyKeyAlreadyExists), now);
        }
        let done = match request {
            Ok(request) => self.perform(arrival, request, now),
            Err(code) => Done::refused(None, code),
        };
        // A call that broke without effect has not used its key either.
        if done.verdict != Verdict::Broken {
            self.state.used_keys.extend(key);
        }
        self.conclude(arrival, &done, now)
    }

    /// The session the call names, if it exists and is the caller's own.
    fn session_of(&self, arrival: Arrival<'_>, request: &Request) -> Option<SessionId> {
        let id = request.session?;
        let record = self.state.sessions.get(&id)?;
        (*record.session.project == *arrival.project).then_some(id)
    }

    fn perform(&mut self, arrival: Arrival<'_>, request: Request, now: At) -> Done {
        let session = self.session_of(arrival, &request);
        session.into_iter().for_each(|id| self.catch_up(id, now));
        let order = request.order;
        match (arrival.method, session) {
            (Method::Create, _) => {
                let id = SessionId::fresh();
                self.enter(Session::created(id, arrival.project, arrival.version, order, now));
                Done { session: Some(id), verdict: Verdict::Accepted }
            }
            (Method::InitPayout, _) => self.init(arrival, order, now),
            (Method::StartPayout, Some(id)) => Done::of(id, self.start(id, arrival.version, order, now)),
            (Method::Confirm, Some(id)) => {
                Done::of(id, self.decide(id, Call::Confirm, Input::Confirm, now))
            }
            (Method::Cancel, Some(id)) => Done::of(id, self.decide(id, Call::Cancel, Input::Cancel, now)),
            (Method::Status, Some(id)) => Done { session: Some(id), verdict: Verdict::Accepted },
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
    fn init(&mut self, arrival: Arrival<'_>, order: Order, now: At) -> Done {
        let id = SessionId::fresh();
        let session = Session::created(id, arrival.project, arrival.version, Order::default(), now);
        self.enter(session);
        let result = self.start(id, arrival.version, order, now);
        match result {
            Ok(Verdict::Accepted | Verdict::AnswerLost) => Done::of(id, result),
            Ok(Verdict::Refused(_) | Verdict::Broken) | Err(_) => {
                self.state.sessions.remove(&id);
                // It was the last to be entered.
                self.state.ledger.eventful.pop_back();
                self.state.ledger.totals_of(arrival.project).sessions -= 1;
                Done { session: None, verdict: result.unwrap_or_else(Verdict::Refused) }
            }
        }
    }

    fn enter(&mut self, session: Session) {
        let id = session.id;
        self.state.ledger.totals_of(&session.project).sessions += 1;
        self.state.sessions.insert(id, Record { session, page: Page::default() });
        let make_room = self.state.ledger.enter(id);
        if let Some(record) = make_room.and_then(|oldest| self.state.sessions.get_mut(&oldest)) {
            record.page.forget_events();
        }
    }

    fn start(&mut self, id: SessionId, version: Version, order: Order, now: At) -> Result<Verdict, Code> {
        let Record { session, .. } = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
        let destination = order.destination.as_ref().or(session.draft.destination.as_ref());
        let destination = destination.map(|to| self.state.tokens.as_it_is_now(to));
        let fault = destination.as_ref().and_then(|to| to.magic.script().fault);
        let order = Box::new(Order { destination, ..order });
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
        let Record { session, page } = self.state.sessions.get_mut(&id).ok_or(Code::InvalidRequest)?;
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

    /// Writes a call into the ledger.
    pub(super) fn book(
        &mut self,
        arrival: Arrival<'_>,
        session: Option<SessionId>,
        verdict: Verdict,
        now: At,
    ) {
        if self.closed {
            return;
        }
        let Arrival { project, method, body_sha256, idempotency_key, .. } = arrival;
        self.dirty = true;
        self.state.ledger.totals_of(project).count_call(method, verdict);
        let what = What::request(project, method, body_sha256, verdict, idempotency_key);
        let event = Event { at: now, what };
        match session.and_then(|id| self.state.sessions.get_mut(&id)) {
            Some(record) => record.page.append(event),
            None => self.state.ledger.append_loose(event),
        }
    }

    /// Writes the call into the ledger and makes its answer.
    fn conclude(&mut self, arrival: Arrival<'_>, done: &Done, now: At) -> Answer {
        self.book(arrival, done.session, done.verdict, now);
        let record = done.session.and_then(|id| self.state.sessions.get(&id));
        match (done.verdict, record) {
            (Verdict::Accepted, Some(record)) => {
                let look = if arrival.method == Method::Status { Look::Report } else { Look::Answer };
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
