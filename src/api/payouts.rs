//! The routes of payouts: create, get, and the three commands. Everything that writes goes to the engine,
//! whose tasks do not notice when a caller hangs up.

use super::{
    ApiState,
    auth::Caller,
    body,
    codes::Code,
    create::{Asked, Wire},
    problem::{FieldError, Problem},
    text::IDEMPOTENCY_KEY,
    view::PayoutView,
};
use crate::{
    crash_point,
    domain::{
        decide::Refusal,
        event::{Command, Event},
        id::PayoutId,
        owner::{Party, People},
        payout::Order,
    },
    engine::{Applied, Cause, CreateRefusal, Created, EngineError, Envelope},
    store::{
        api_keys,
        payouts::{self, NewPayout, Stored},
        retry,
    },
};
use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;
use std::{future::Future, time::Duration};
use uuid::Uuid;

const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is about a payout that existed before the request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest that a caller waits for a write. The database's own limits end a transaction sooner; a queue
/// that long is better seen by the caller than by its time-out.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The payout named in the path. Whatever is not an id of ours names none.
pub(super) struct Named(pub PayoutId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::no_such_payout())?;
        text.parse().map(Named).map_err(|_| Problem::no_such_payout())
    }
}

pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let asked = Asked::check(body::json::<Wire>(&headers, body).await?)?;
    let new = new_payout(asked, caller, key);
    crash_point::pass("intake.body_read");
    let created = within(state.engine.create(new)).await?;
    crash_point::pass("intake.stored");
    crash_point::pass_soon("intake.answered");
    match created {
        Created::New(stored) => {
            let location = HeaderValue::try_from(format!("/v1/payouts/{}", stored.payout.id))
                .expect("our ids are visible ASCII");
            let mut response = shown(&stored, StatusCode::CREATED)?;
            response.headers_mut().insert(header::LOCATION, location);
            Ok(response)
        }
        Created::Existing(stored) => {
            let mut response = shown(&stored, StatusCode::OK)?;
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        Created::Refused(refusal) => Err(of_create(&refusal)),
    }
}

pub(super) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    let found = retry::bounded(async {
        let mut db = state.pool.acquire().await?;
        payouts::get(&mut db, &caller.project, id).await
    });
    let stored = found.await?.ok_or_else(Problem::no_such_payout)?;
    shown(&stored, StatusCode::OK)
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::nothing(&headers, body).await?;
    let command = Command::Cancel { by: caller.key_id.clone() };
    submit(&state, caller, id, command).await
}

pub(super) async fn approve(
    State(state): State<ApiState>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::nothing(&headers, body).await?;
    let people = people(&state, &caller, id).await?;
    let command = Command::Approve { by: caller.key_id.clone(), people };
    submit(&state, caller, id, command).await
}

/// Who is behind the caller's key and the one that created the payout. Neither is ever changed, so this may
/// be asked before the engine locks anything; a payout that is not there is for the engine to say.
async fn people(state: &ApiState, caller: &Caller, id: PayoutId) -> Result<People, Problem> {
    let creator = retry::bounded(async {
        let mut db = state.pool.acquire().await?;
        api_keys::creators_owner(&mut db, &caller.project, id).await
    });
    Ok(People::behind(creator.await?.as_ref(), caller.owner.as_ref()))
}

pub(super) async fn reject(
    State(state): State<ApiState>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::nothing(&headers, body).await?;
    let command = Command::Reject { by: caller.key_id.clone() };
    submit(&state, caller, id, command).await
}

async fn submit(
    state: &ApiState,
    caller: Caller,
    id: PayoutId,
    command: Command,
) -> Result<Response, Problem> {
    let cause = Cause::Command(caller.project);
    let envelope = Envelope { payout: id, event: Event::Command(command), cause };
    crash_point::pass("command.read");
    let applied = within(state.engine.submit(envelope)).await?;
    crash_point::pass_soon("command.answered");
    match applied {
        Applied::Done(stored) => shown(&stored, StatusCode::OK),
        Applied::Refused(refusal) => Err(of_refusal(refusal)),
        Applied::NoSuchPayout => Err(Problem::no_such_payout()),
        // Commands have no cause that somebody else could take over.
        Applied::Superseded => Err(Problem::unavailable()),
    }
}

/// Waits for the engine, but not for ever. Giving up cancels only the waiting.
pub(super) async fn within<T>(work: impl Future<Output = Result<T, EngineError>>) -> Result<T, Problem> {
    at_most(WRITE_WITHIN, work).await
}

async fn at_most<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::unavailable()),
    }
}

fn shown(stored: &Stored, status: StatusCode) -> Result<Response, Problem> {
    Ok((status, Json(PayoutView::of(stored)?)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let field = "Idempotency-Key";
    let mut values = headers.get_all(IDEMPOTENCY_KEY_HEADER).iter();
    let Some(value) = values.next() else {
        let detail = "Send an Idempotency-Key of your own, and the same one when you send the request again.";
        return Err(Problem::new(Code::IdempotencyKeyMissing, detail).field(field));
    };
    if values.next().is_some() {
        let detail = "There must be exactly one Idempotency-Key.";
        return Err(Problem::new(Code::IdempotencyKeyInvalid, detail).field(field));
    }
    let invalid = |FieldError { code, detail, limit, field }| match (code, limit) {
        (Code::RawCardRefused, _) => Problem::new(code, detail).field(field),
        (_, Some(limit)) => Problem::new(Code::IdempotencyKeyInvalid, detail).field(field).limit(limit),
        (_, None) => Problem::new(Code::IdempotencyKeyInvalid, detail).field(field),
    };
    // Bytes that are not ASCII become characters that the rule refuses.
    let text = String::from_utf8_lossy(value.as_bytes());
    match IDEMPOTENCY_KEY.check(field, &text) {
        None => Ok(text.into_owned()),
        Some(error) => Err(invalid(error)),
    }
}

fn new_payout(asked: Asked, caller: Caller, idempotency_key: String) -> NewPayout {
    let request_fingerprint = asked.fingerprint();
    let destination_fingerprint = asked.destination_fingerprint();
    let metadata = asked.metadata_json();
    NewPayout {
        id: PayoutId(Uuid::now_v7()),
        project: caller.project,
        order: Order {
            amount: asked.amount,
            destination: asked.destination,
            destination_fingerprint,
            recipient_name: asked.recipient_name,
            customer_reference: asked.customer_reference,
            reference: asked.reference,
            created_by: caller.key_id,
        },
        destination_secret: asked.secret.expose_secret().to_owned(),
        idempotency_key,
        request_fingerprint,
        metadata,
    }
}

fn of_create(refusal: &CreateRefusal) -> Problem {
    match refusal {
        CreateRefusal::KeyReused(id) => Problem::new(
            Code::IdempotencyKeyReused,
            "The key belongs to a different request, which became the payout named here. Nothing was done.",
        )
        .field("Idempotency-Key")
        .payout(*id),
        CreateRefusal::ReferenceTaken(id) => {
            Problem::new(Code::ReferenceTaken, "The payout named here has this reference. Nothing was done.")
                .field("reference")
                .payout(*id)
        }
    }
}

fn of_refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::AlreadyConfirmed => {
            Problem::new(Code::AlreadyConfirmed, "The payout was permitted, and the money may be moving.")
        }
        Refusal::AlreadyFinal => Problem::new(Code::AlreadyFinal, "The payout has its final status."),
        Refusal::OutcomeUnknown => {
            Problem::new(Code::OutcomeUnknown, "Pike itself does not know the outcome; it is being asked.")
        }
        Refusal::NotOnHold => Problem::new(Code::NotOnHold, "The payout does not wait for anybody's word."),
        Refusal::OwnPayout => {
            let detail = "The key that created a payout may not approve it, nor may another of its owner's.";
            Problem::new(Code::OwnPayout, detail)
        }
        Refusal::OwnerUnknown(party) => Problem::new(Code::OwnerUnknown, ownerless(party)),
        Refusal::ConfirmsOff => {
            Problem::new(Code::ConfirmsOff, "Nothing can be approved while confirms are switched off.")
        }
        Refusal::Flagged => {
            Problem::new(Code::Flagged, "What Pike reports contradicts what was asked; a person has to look.")
        }
        Refusal::NotFlagged => Problem::new(Code::NotFlagged, "There is no flag on the payout."),
        Refusal::RulesForbid(verdict) => {
            let detail = "The rules forbid this payout, approval or not.";
            Problem::new(Code::RulesForbid, detail).reasons(verdict.hits)
        }
    }
}

fn ownerless(party: Party) -> &'static str {
    match party {
        Party::Approver => {
            "Nobody knows whose this key is. Approve with one that has an owner \
             (`payoutd keys api … --owner`)."
        }
        Party::Creator => {
            "Nobody knows whose the key is that created the payout. Reject the payout, and order it again \
             with a key that has an owner (`payoutd keys api … --owner`)."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        money::Money,
        provider::CardFacts,
        rules::{Inputs, RuleSet, Verdict},
    };

    fn verdict() -> Verdict {
        RuleSet::default().evaluate(Inputs {
            amount: Money::new(1, "EUR".parse().unwrap()).unwrap(),
            card: CardFacts::default(),
            recipient_today: None,
            confirms_on: true,
            approved: true,
        })
    }

    fn keys(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (IDEMPOTENCY_KEY_HEADER, HeaderValue::from_bytes(value).unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    #[test]
    fn there_is_exactly_one_usable_idempotency_key() {
        let longest = "k".repeat(IDEMPOTENCY_KEY.longest);
        assert_eq!(idempotency_key(&keys(&[longest.as_bytes()])).unwrap(), longest);
        let over = "k".repeat(IDEMPOTENCY_KEY.longest + 1);
        let cases: [(&[&[u8]], Code); 8] = [
            (&[], Code::IdempotencyKeyMissing),
            (&[b""], Code::IdempotencyKeyInvalid),
            (&[b"a", b"a"], Code::IdempotencyKeyInvalid),
            (&[b"a b"], Code::IdempotencyKeyInvalid),
            (&[b"a\tb"], Code::IdempotencyKeyInvalid),
            (&[b"a\xffb"], Code::IdempotencyKeyInvalid),
            (&[over.as_bytes()], Code::IdempotencyKeyInvalid),
            (&[b"4111-1111-1111-1111"], Code::RawCardRefused),
        ];
        for (values, code) in cases {
            assert_eq!(idempotency_key(&keys(values)).unwrap_err().code(), code, "{values:?}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let slow = at_most(Duration::from_millis(10), std::future::pending::<Result<(), _>>()).await;
        assert_eq!(slow.unwrap_err().code(), Code::TemporarilyUnavailable);
        assert!(within(async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn every_refusal_has_its_code() {
        for (refusal, code, status) in [
            (Refusal::AlreadyConfirmed, "already_confirmed", 409),
            (Refusal::AlreadyFinal, "already_final", 409),
            (Refusal::OutcomeUnknown, "outcome_unknown", 409),
            (Refusal::NotOnHold, "not_on_hold", 409),
            (Refusal::OwnPayout, "own_payout", 403),
            (Refusal::OwnerUnknown(Party::Creator), "owner_unknown", 403),
            (Refusal::OwnerUnknown(Party::Approver), "owner_unknown", 403),
            (Refusal::ConfirmsOff, "confirms_off", 409),
            (Refusal::Flagged, "flagged", 409),
            (Refusal::NotFlagged, "not_flagged", 409),
            (Refusal::RulesForbid(Box::new(verdict())), "rules_forbid", 409),
        ] {
            let found = of_refusal(refusal).code();
            assert_eq!((found.text(), found.status().as_u16()), (code, status));
        }
    }

    #[test]
    fn refused_creates_name_the_payout_in_the_way() {
        let id = PayoutId(Uuid::from_u128(7));
        let reused = of_create(&CreateRefusal::KeyReused(id));
        assert_eq!((reused.code().text(), reused.code().status().as_u16()), ("idempotency_key_reused", 422));
        let taken = of_create(&CreateRefusal::ReferenceTaken(id));
        assert_eq!((taken.code().text(), taken.code().status().as_u16()), ("reference_taken", 409));
    }
}
