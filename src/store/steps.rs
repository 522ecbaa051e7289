//! What the steps of many payouts write: one statement for all of it, however many there are, one array for
//! each column. Each statement more would cost a round trip, and a batch as one JSON text several times as
//! much to read. The payouts must be locked.

use super::{
    StoreError,
    effects::{Claimed, EffectClaim, NewEffect},
    encoding::Code,
    history::Entry,
    notifications::NewNotification,
    payouts::{Stored, state_columns},
    permits::NewPermit,
    rules::{self, NewDecision},
};
use crate::domain::{effect::EffectKind, id::PayoutId, payout::Payout};
use sqlx::{Arguments, Encode, PgConnection, Postgres, Type, error::BoxDynError, postgres::PgArguments};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Everything that one transaction writes, but for what is rare.
#[derive(Debug, Default)]
pub struct Steps<'a> {
    /// The payouts that moved. The destination's secret goes when one is final.
    pub moved: Vec<&'a Stored>,
    /// A number that is taken already means that two writers worked on one payout.
    pub history: &'a [Entry],
    /// A second one for a payout violates the primary key, which is the point of it.
    pub permits: &'a [NewPermit],
    pub decisions: &'a [NewDecision],
    pub notifications: &'a [NewNotification],
    /// Effects that are no longer wanted, claimed or not.
    pub voided: &'a [(PayoutId, EffectKind)],
    /// One that is live already is not doubled. A confirm or cancel without its permit violates a constraint.
    pub wanted: &'a [NewEffect<'a>],
}

const WRITE: &str = "
    WITH moved AS (
        UPDATE payouts p SET version = n.version, attempt = n.attempt, state = n.state,
            status = n.status, since = n.since, updated_at = n.updated_at,
            next_check_at = n.next_check_at, session_id = n.session_id, retry_at = n.retry_at,
            hold_until = n.hold_until, hold_cause = n.hold_cause, cancel_cause = n.cancel_cause,
            failure_code = n.failure_code, permit_kind = n.permit_kind, permit_hash = n.permit_hash,
            anomaly = n.anomaly, raised = string_to_array(n.raised, ','),
            provider_payout_id = n.provider_payout_id, card_brand = n.card_brand,
            card_last4 = n.card_last4, card_bin = n.card_bin, card_id = n.card_id,
            card_country = n.card_country, rrn = n.rrn, auth_code = n.auth_code,
            fee_minor = n.fee_minor, fee_currency = n.fee_currency, error_code = n.error_code,
            error_description = n.error_description,
            destination_secret = CASE WHEN n.final THEN NULL ELSE p.destination_secret END
        FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::text[], $10::timestamptz[], $11::timestamptz[],
            $12::text[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::text[], $18::text[],
            $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[],
            $26::text[], $27::bigint[], $28::text[], $29::text[], $30::text[], $31::boolean[])
            AS n(id, version, attempt, state, status, since, updated_at, next_check_at, session_id,
            retry_at, hold_until, hold_cause, cancel_cause, failure_code, permit_kind, permit_hash,
            anomaly, raised, provider_payout_id, card_brand, card_last4, card_bin, card_id,
            card_country, rrn, auth_code, fee_minor, fee_currency, error_code, error_description, final)
        WHERE p.id = n.id),
    told AS (
        INSERT INTO history
            (payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail)
        SELECT * FROM unnest($32::uuid[], $33::bigint[], $34::timestamptz[], $35::text[], $36::text[],
            $37::text[], $38::text[], $39::text[], $40::text[], $41::text[])),
    permitted AS (
        INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
            customer_reference, currency, amount_minor)
        SELECT * FROM unnest($42::uuid[], $43::text[], $44::bytea[], $45::text[], $46::timestamptz[],
            $47::text[], $48::text[], $49::text[], $50::bigint[])),
    judged AS (
        INSERT INTO decisions (payout_id, seq, at, rule_set, outcome, hits, inputs)
        SELECT * FROM unnest($51::uuid[], $52::bigint[], $53::timestamptz[], $54::text[], $55::text[],
            $56::text[], $57::text[])),
    noted AS (
        INSERT INTO notifications
            (id, project_id, payout_id, seq, kind, payload, created_at, due_at, fence, lease_until)
        SELECT id, project_id, payout_id, seq, kind, payload, at, now(), (lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => lease)
        FROM unnest($58::uuid[], $59::text[], $60::uuid[], $61::bigint[], $62::text[], $63::text[],
            $64::timestamptz[], $65::float8[])
            AS n(id, project_id, payout_id, seq, kind, payload, at, lease)),
    voided AS (
        DELETE FROM effects e USING unnest($66::uuid[], $67::text[]) AS n(payout_id, kind)
        WHERE e.payout_id = n.payout_id AND e.kind = n.kind RETURNING e.id),
    wanted AS (
        INSERT INTO effects (payout_id, kind, permit_kind, project_id, bound_to, fence, lease_until)
        SELECT n.payout_id, n.kind, n.permit_kind, n.project_id, n.bound_to, (n.lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => n.lease)
        FROM unnest($68::uuid[], $69::text[], $70::text[], $71::text[], $72::bytea[], $73::float8[])
            AS n(payout_id, kind, permit_kind, project_id, bound_to, lease)
        -- Reads all of them first: what is voided and wanted again is in nobody's way.
        WHERE (SELECT count(*) FROM voided) >= 0
        ON CONFLICT (payout_id, kind) DO NOTHING RETURNING id, fence, payout_id, kind)
    SELECT w.id, w.fence, w.payout_id, w.kind, p.destination_secret
    FROM wanted w JOIN payouts p ON p.id = w.payout_id WHERE w.fence > 0";

type Row = (i64, i32, Uuid, String, Option<String>);

/// Writes them. Returns the effects that were claimed.
///
/// # Errors
/// Database errors; constraints are named above.
pub async fn write(tx: &mut PgConnection, steps: &Steps<'_>) -> Result<Vec<Claimed>, StoreError> {
    let arguments = arguments(steps).map_err(sqlx::Error::Encode)?;
    let rows: Vec<Row> = sqlx::query_as_with(WRITE, arguments).fetch_all(tx).await?;
    let whose: BTreeMap<(Uuid, &str), &NewEffect<'_>> =
        steps.wanted.iter().map(|new| ((new.stored.payout.id.0, new.kind.code()), new)).collect();
    let claimed = rows.into_iter().filter_map(|(id, fence, payout, kind, secret)| {
        let new = whose.get(&(payout, kind.as_str()))?;
        Some(Claimed::new(new.stored, new.kind, EffectClaim { id, fence }, secret))
    });
    Ok(claimed.collect())
}

/// The arguments of the statement, in order.
///
/// # Errors
/// None that any of these types is known to make.
pub fn arguments(steps: &Steps<'_>) -> Result<PgArguments, BoxDynError> {
    let columns = bind_moved(Columns::default(), &steps.moved);
    let columns = bind_permits(bind_history(columns, steps.history), steps.permits);
    let columns = bind_notifications(bind_decisions(columns, steps.decisions), steps.notifications);
    let columns = bind_effects(columns, steps.voided, steps.wanted);
    columns.error.map_or(Ok(columns.arguments), Err)
}

#[derive(Default)]
struct Columns {
    arguments: PgArguments,
    error: Option<BoxDynError>,
}

impl Columns {
    fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, column: T) -> Self {
        if let Err(error) = self.arguments.add(column) {
            self.error.get_or_insert(error);
        }
        self
    }
}

/// The column of a batch.
fn column<'a, T, C>(rows: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

fn bind_moved(columns: Columns, moved: &[&Stored]) -> Columns {
    let payouts: Vec<&Payout> = moved.iter().map(|stored| &stored.payout).collect();
    let states = column(&payouts, |payout| state_columns::encode(&payout.state));
    let raised = |payout: &Payout| payout.raised.iter().map(Code::code).collect::<Vec<_>>().join(",");
    let facts = column(&payouts, |payout| &payout.facts);
    columns
        .bind(column(&payouts, |payout| payout.id.0))
        .bind(column(&payouts, |payout| payout.version))
        .bind(column(&payouts, |payout| payout.attempt))
        .bind(column(&states, |state| state.state))
        .bind(column(&payouts, |payout| payout.status().code()))
        .bind(column(&payouts, |payout| payout.since))
        .bind(column(moved, |stored| stored.updated_at))
        .bind(column(moved, |stored| stored.next_check_at))
        .bind(column(&states, |state| state.session_id))
        .bind(column(&states, |state| state.retry_at))
        .bind(column(&states, |state| state.hold_until))
        .bind(column(&states, |state| state.hold_cause))
        .bind(column(&states, |state| state.cancel_cause.clone()))
        .bind(column(&states, |state| state.failure_code))
        .bind(column(&payouts, |payout| payout.permit.as_ref().map(|permit| permit.kind.code())))
        .bind(column(&payouts, |payout| payout.permit.as_ref().map(|permit| permit.bound_to.as_slice())))
        .bind(column(&payouts, |payout| payout.anomaly.as_ref().map(Code::code)))
        .bind(column(&payouts, |payout| raised(payout)))
        .bind(column(&facts, |facts| facts.payout_id.as_deref()))
        .bind(column(&facts, |facts| facts.card.brand.as_deref()))
        .bind(column(&facts, |facts| facts.card.last4.as_deref()))
        .bind(column(&facts, |facts| facts.card.bin.as_deref()))
        .bind(column(&facts, |facts| facts.card.card_id.as_deref()))
        .bind(column(&facts, |facts| facts.card.country.as_deref()))
        .bind(column(&facts, |facts| facts.rrn.as_deref()))
        .bind(column(&facts, |facts| facts.auth_code.as_deref()))
        .bind(column(&facts, |facts| facts.fee_minor))
        .bind(column(&facts, |facts| facts.fee_currency.as_deref()))
        .bind(column(&facts, |facts| facts.error.as_ref().map(|error| error.code.as_str())))
        .bind(column(&facts, |facts| facts.error.as_ref().map(|error| error.description.as_str())))
        .bind(column(&payouts, |payout| payout.state.is_final()))
}

fn bind_history(columns: Columns, entries: &[Entry]) -> Columns {
    columns
        .bind(column(entries, |entry| entry.payout.0))
        .bind(column(entries, |entry| entry.seq))
        .bind(column(entries, |entry| entry.at))
        .bind(column(entries, |entry| entry.event.as_str()))
        .bind(column(entries, |entry| entry.decision))
        .bind(column(entries, |entry| entry.reason))
        .bind(column(entries, |entry| entry.from_state))
        .bind(column(entries, |entry| entry.to_state))
        .bind(column(entries, |entry| entry.actor.as_deref()))
        .bind(column(entries, |entry| entry.detail.as_deref()))
}

fn bind_permits(columns: Columns, permits: &[NewPermit]) -> Columns {
    columns
        .bind(column(permits, |new| new.payout.id.0))
        .bind(column(permits, |new| new.permit.kind.code()))
        .bind(column(permits, |new| new.permit.bound_to.as_slice()))
        .bind(column(permits, |new| new.rule_set.as_str()))
        .bind(column(permits, |new| new.decided_at))
        .bind(column(permits, |new| new.payout.project.0.as_str()))
        .bind(column(permits, |new| new.payout.order.customer_reference.as_str()))
        .bind(column(permits, |new| new.payout.order.amount.currency().code()))
        .bind(column(permits, |new| new.payout.order.amount.minor()))
}

fn bind_decisions(columns: Columns, decisions: &[NewDecision]) -> Columns {
    columns
        .bind(column(decisions, |decision| decision.payout.0))
        .bind(column(decisions, |decision| decision.seq))
        .bind(column(decisions, |decision| decision.at))
        .bind(column(decisions, |decision| decision.verdict.rule_set.as_str()))
        .bind(column(decisions, |decision| decision.verdict.outcome.code()))
        .bind(column(decisions, |decision| rules::hits(&decision.verdict).to_string()))
        .bind(column(decisions, |decision| rules::inputs(&decision.verdict).to_string()))
}

fn bind_notifications(columns: Columns, new: &[NewNotification]) -> Columns {
    columns
        .bind(column(new, |message| message.id))
        .bind(column(new, |message| message.project.0.as_str()))
        .bind(column(new, |message| message.payout.0))
        .bind(column(new, |message| message.seq))
        .bind(column(new, |message| message.kind.as_str()))
        .bind(column(new, |message| message.payload.as_str()))
        .bind(column(new, |message| message.at))
        .bind(column(new, |message| message.lease.map(|lease| lease.as_secs_f64())))
}

fn bind_effects(columns: Columns, voided: &[(PayoutId, EffectKind)], wanted: &[NewEffect<'_>]) -> Columns {
    let stored = wanted.iter().map(|new| (new.stored, new.kind));
    let permits = stored.map(|(stored, kind)| {
        let permit = stored.payout.permit.as_ref();
        permit.filter(|permit| permit.kind.code() == kind.code()).map(|permit| permit.bound_to.as_slice())
    });
    let needs_permit = |kind: EffectKind| matches!(kind, EffectKind::Confirm | EffectKind::Cancel);
    columns
        .bind(column(voided, |(payout, _)| payout.0))
        .bind(column(voided, |(_, kind)| kind.code()))
        .bind(column(wanted, |new| new.stored.payout.id.0))
        .bind(column(wanted, |new| new.kind.code()))
        .bind(column(wanted, |new| needs_permit(new.kind).then(|| new.kind.code())))
        .bind(column(wanted, |new| new.stored.payout.project.0.as_str()))
        .bind(permits.collect::<Vec<_>>())
        .bind(column(wanted, |new| new.lease.map(|lease| lease.as_secs_f64())))
}
