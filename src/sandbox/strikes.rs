//! Which fault strikes a call: the one that its caller asked for, else the one that its destination's story
//! tells, else what the rules in force say.

use serde_json::value::RawValue;

use super::calls::{Arrival, Named};
use super::faults::{FaultKind, Occasion, Of, Point, Strike};
use super::magic::Magic;
use super::request::{Method, Request};
use super::scalars::SessionId;
use super::session::{Order, Session};
use super::world::World;

impl World {
    /// The fault that strikes this call, unless the call is refused and the fault one of its own story.
    pub fn strike(
        &mut self,
        arrival: Arrival<'_>,
        request: Option<&Request>,
        asked: Option<Strike>,
    ) -> Option<Strike> {
        let named = request.map(|request| self.named(arrival, request));
        let (id, ended) = match named {
            Some(Named::Here(id)) => {
                (Some(id), self.state.sessions.get(&id).is_some_and(|record| record.session.is_final()))
            }
            Some(Named::Archived(record)) => (None, record.session.is_final()),
            Some(Named::Nobodys | Named::Unreadable) | None => (None, false),
        };
        let of = Of::Call(arrival.method);
        if let Some(strike) = asked.filter(|strike| strike.kind.can_strike(of, ended)) {
            return Some(strike);
        }
        let own = request.and_then(|request| self.own_strike(arrival, request, id));
        let own = own.filter(|kind| kind.can_strike(of, ended)).map(Strike::own);
        own.or_else(|| self.thrown(arrival, request, id, ended))
    }

    /// The fault in the story of the destination, once in a session's life.
    fn own_strike(
        &self,
        arrival: Arrival<'_>,
        request: &Request,
        id: Option<SessionId>,
    ) -> Option<FaultKind> {
        let none = Order::default();
        let session = id.and_then(|id| self.state.sessions.get(&id)).map(|record| &record.session);
        if session.is_some_and(|session| session.struck) {
            return None;
        }
        let draft = session.map_or(&none, |session| &session.draft);
        let magic = match arrival.method {
            Method::Create | Method::InitPayout | Method::StartPayout => story(&request.order, draft),
            Method::Token
            | Method::TokenInfo
            | Method::TokenizeElements
            | Method::RecurrentStatus
            | Method::RecurrentDisable
            | Method::WalletBalance => return None,
            Method::Confirm | Method::Cancel | Method::Status => {
                let started = session.and_then(|session| session.payouts.last());
                started.map_or_else(|| story(draft, &none), |payout| Some(payout.destination.magic))
            }
        };
        let (kind, point) = magic?.script().fault?;
        let here = match (point, arrival.method) {
            (None, _) | (Some(Point::Call(Method::StartPayout)), Method::InitPayout) => true,
            (Some(Point::Call(wanted)), method) => wanted == method,
            (Some(Point::Webhook(_)), _) => false,
        };
        // What stands in the story of a start is not for one that comes too late anyway.
        let late = arrival.method == Method::StartPayout && session.is_some_and(Session::was_started);
        (here && !late).then_some(kind)
    }

    /// What the rules in force say.
    fn thrown(
        &mut self,
        arrival: Arrival<'_>,
        request: Option<&Request>,
        id: Option<SessionId>,
        ended: bool,
    ) -> Option<Strike> {
        if self.faults.is_empty() {
            return None;
        }
        let session = id.and_then(|id| self.state.sessions.get(&id)).map(|record| &record.session);
        let payout = session.and_then(|session| session.payouts.last());
        let order = request.map(|request| &request.order);
        let draft = session.map(|session| &session.draft);
        let orders = [order, draft].into_iter().flatten();
        let amount = payout.map(|payout| payout.amount.minor);
        let amount = amount
            .or_else(|| orders.clone().find_map(|order| order.amount.as_ref().map(|amount| amount.minor)));
        let metadata = payout.and_then(|payout| payout.metadata.as_deref());
        let metadata = metadata.or_else(|| orders.clone().find_map(|order| order.metadata.as_deref()));
        let shown_id = id.map(|id| id.to_string());
        let occasion = Occasion {
            project: arrival.project,
            version: Some(arrival.version),
            session: shown_id.as_deref(),
            metadata: metadata.map(RawValue::get),
            amount,
            ended,
            of: Of::Call(arrival.method),
        };
        self.faults.throw(&occasion)
    }
}

/// The story that an order tells on top of an earlier one.
fn story(order: &Order, earlier: &Order) -> Option<Magic> {
    let destination = order.destination.as_ref().or(earlier.destination.as_ref());
    let amount = order.amount.as_ref().or(earlier.amount.as_ref());
    let magic = destination?.magic;
    let by_amount = amount.and_then(|amount| Magic::of_amount(amount.minor));
    Some(if magic == Magic::Success { by_amount.unwrap_or(magic) } else { magic })
}
