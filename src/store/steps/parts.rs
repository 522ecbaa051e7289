//! The parts of the statement, one for each table that gets rows.

use super::{Stands, Steps};

/// One table's part of the statement, numbered as if it were alone.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// The composite that its first parameter is an array of: `{rows}` in what follows. Empty for what has no
    /// rows.
    row: &'static str,
    pub(super) parameters: usize,
    pub(super) sql: &'static str,
    /// What comes before one more condition.
    pub(super) and: &'static str,
    pub(super) after: &'static str,
}

impl Part {
    /// Its rows, if so many parameters come before.
    pub(super) fn rows(&self, before: usize) -> String {
        format!("unnest(${}::{}[])", before + 1, self.row)
    }
}

const fn part(name: &'static str, row: &'static str, sql: &'static str) -> Part {
    Part { name, row, parameters: 1, sql, and: " WHERE ", after: "" }
}

/// The switches, held before they are looked at and until what they allow is committed; no instant if they
/// are not as they were thought to be. Before any payout is locked, as for whoever throws one.
pub(super) const SWITCHED: Part = part("switched", "", "SELECT switches_held($1::text) AS at");

/// The payouts that move, if their rows are as this process wrote or read them; the others stay, and so does
/// all that goes with them. Who names no transaction has them locked. In the order of their ids as a rule, as
/// whoever locks them: nothing promises that of an update, so now and then of two who meet one is sent to try
/// again.
pub(super) const MOVED: Part = Part {
    name: "moved",
    row: "moved_row",
    parameters: 1,
    sql: "
        UPDATE payouts p SET version = n.version, attempt = n.attempt, state = n.state,
            status = n.status, since = n.since, updated_at = n.updated_at,
            next_check_at = n.next_check_at, session_id = n.session_id, retry_at = n.retry_at,
            hold_until = n.hold_until, hold_cause = n.hold_cause, cancel_cause = n.cancel_cause,
            failure_code = n.failure_code, permit_kind = n.permit_kind, permit_hash = n.permit_hash,
            anomaly = n.anomaly, raised = n.raised,
            provider_payout_id = n.provider_payout_id, card_brand = n.card_brand,
            card_last4 = n.card_last4, card_bin = n.card_bin, card_id = n.card_id,
            card_country = n.card_country, rrn = n.rrn, auth_code = n.auth_code,
            fee_minor = n.fee_minor, fee_currency = n.fee_currency, error_code = n.error_code,
            error_description = n.error_description,
            destination_secret = CASE WHEN n.is_final THEN NULL ELSE p.destination_secret END
        FROM {rows} AS n
        WHERE p.id = n.payout_id AND coalesce(p.xmin::text::bigint = n.written_by, true)",
    and: " AND ",
    after: " RETURNING p.id",
};

/// What the events came from, if their payouts are there: a lock on a payout comes before any other. Whether
/// a webhook is done is asked in words that no index is for: that of the open ones grows in a backlog.
pub(super) const CALLED: Part = Part {
    name: "called",
    row: "claim_row",
    parameters: 1,
    sql: "
        DELETE FROM effects e USING {rows} AS n
        WHERE e.id = n.id AND e.fence = n.fence",
    and: " AND ",
    after: " RETURNING 1",
};
pub(super) const READ: Part = Part {
    name: "read",
    row: "claim_row",
    parameters: 1,
    sql: "
        UPDATE inbox i SET done_at = now(), outcome = 'applied', lease_until = NULL
        FROM {rows} AS n
        WHERE i.id = n.id AND i.fence = n.fence AND coalesce(i.done_at, 'infinity') = 'infinity'",
    and: " AND ",
    after: " RETURNING 1",
};

/// Webhooks that came with what they show. In the order in which whoever keeps them alone does.
pub(super) const KEPT: Part = Part {
    name: "kept",
    row: "kept_row",
    parameters: 1,
    sql: "
        INSERT INTO inbox (project_id, body_hash, body, fence, done_at, outcome)
        SELECT n.project_id, n.known_by, n.body, 1, now(), 'applied'
        FROM {rows} AS n
        WHERE NOT EXISTS (
            SELECT FROM inbox i WHERE i.project_id = n.project_id AND i.body_hash = n.hash_alone)",
    and: " AND ",
    after: "
        ORDER BY n.project_id, n.known_by
        ON CONFLICT (project_id, body_hash) DO NOTHING RETURNING 1",
};

pub(super) const TOLD: Part = part(
    "told",
    "told_row",
    "
        INSERT INTO history
            (payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail)
        SELECT n.payout_id, n.seq, n.at, n.event, n.decision, n.reason, n.from_state, n.to_state, n.actor,
            n.detail
        FROM {rows} AS n",
);

pub(super) const PERMITTED: Part = part(
    "permitted",
    "permitted_row",
    "
        INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
            customer_reference, currency, amount_minor)
        SELECT n.payout_id, n.kind, n.bound_to, n.rule_set, {at}, n.project_id, n.customer_reference,
            n.currency, n.amount_minor
        FROM {rows} AS n",
);

pub(super) const JUDGED: Part = part(
    "judged",
    "judged_row",
    "
        INSERT INTO decisions (payout_id, seq, at, rule_set, outcome, hits, inputs)
        SELECT n.payout_id, n.seq, {at}, n.rule_set, n.outcome, n.hits, n.inputs
        FROM {rows} AS n",
);

pub(super) const NOTED: Part = part(
    "noted",
    "noted_row",
    "
        INSERT INTO notifications
            (id, project_id, payout_id, seq, kind, payload, created_at, due_at, fence, lease_until)
        SELECT id, project_id, payout_id, seq, kind, payload, at, now(), (lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => lease)
        FROM {rows} AS n",
);

pub(super) const VOIDED: Part = Part {
    name: "voided",
    row: "voided_row",
    parameters: 1,
    sql: "
        DELETE FROM effects e USING {rows} AS n
        WHERE e.payout_id = n.payout_id AND e.kind = n.kind",
    and: " AND ",
    after: " RETURNING e.id",
};

pub(super) const WANTED: Part = Part {
    name: "wanted",
    row: "wanted_row",
    parameters: 1,
    sql: "
        INSERT INTO effects (payout_id, kind, permit_kind, project_id, bound_to, fence, lease_until)
        SELECT n.payout_id, n.kind, n.permit_kind, n.project_id, n.bound_to, (n.lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => n.lease)
        FROM {rows} AS n",
    and: " WHERE ",
    after: "
        ON CONFLICT (payout_id, kind) DO NOTHING RETURNING id, fence, payout_id, kind",
};

/// New orders, as far as key and reference are both free, each with the beginning of its history and its
/// first call. In the order of their keys, so that two batches with the same ones do not wait for each other
/// in a circle.
pub(super) const ORDERED: Part = Part {
    name: "ordered",
    row: "ordered_row",
    parameters: 2,
    sql: "
        SELECT n.*, make_interval(secs => $2) AS first_look FROM {rows} AS n",
    and: " WHERE ",
    after: "),
    inserted AS (
        INSERT INTO payouts (id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
            destination_kind, destination_secret, destination_fingerprint, recipient_name,
            customer_reference, reference, metadata, created_by, created_at, version, attempt, state, status,
            since, updated_at, next_check_at)
        SELECT id, project_id, idempotency_key, request_fingerprint, amount_minor, currency,
            destination_kind, destination_secret, destination_fingerprint, recipient_name,
            customer_reference, reference, metadata, created_by, now(), 1, 1, 'accepted', 'accepted', now(),
            now(), now() + first_look
        FROM ordered ORDER BY project_id, idempotency_key
        ON CONFLICT DO NOTHING RETURNING id, project_id, created_by, created_at, next_check_at),
    begun AS (
        INSERT INTO history (payout_id, seq, at, event, decision, reason, to_state, actor)
        SELECT id, 1, created_at, 'created', 'move', 'created', 'accepted', created_by FROM inserted),
    first AS (
        INSERT INTO effects (payout_id, kind, project_id, fence, lease_until)
        SELECT i.id, 'create_session', i.project_id, (n.lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => n.lease)
        FROM inserted i JOIN ordered n ON n.id = i.id RETURNING id, fence, payout_id, kind",
};

/// What became of deliveries whose claims are still good, each once.
pub(super) const SETTLED: Part = Part {
    name: "settled",
    row: "settled_row",
    parameters: 1,
    sql: "
        UPDATE notifications n SET attempts = n.attempts + 1, lease_until = NULL, last_error = s.error,
            delivered_at = CASE WHEN s.delivered THEN now() END,
            due_at = now() + make_interval(secs => s.retry_after)
        FROM {rows} AS s
        WHERE n.id = s.id AND n.fence = s.fence AND n.lease_until IS NOT NULL",
    and: " AND ",
    after: "",
};

/// How many parts there are.
pub(super) const PARTS: usize = 13;

/// Batches of so many payouts take all usual parts.
const MANY: usize = 8;

/// All parts, each with whether the statement has it: if it has rows, or comes as a rule. One without rows
/// costs something each time; but each choice of parts is a statement to be planned, which costs as much as
/// to run it, and what many payouts do together nearly always has the usual ones.
pub(super) fn parts(steps: &Steps<'_>, stands: Option<&Stands>) -> [(Part, bool); PARTS] {
    let [switches, effects, inbox, fresh] = stands.map_or([false; 4], |on| {
        [on.switches.is_some(), !on.effects.is_empty(), !on.inbox.is_empty(), !on.fresh.is_empty()]
    });
    let many = stands.is_some() && steps.moved.len() >= MANY;
    [
        (SWITCHED, switches),
        (MOVED, !steps.moved.is_empty()),
        (CALLED, many || effects),
        (READ, inbox),
        (KEPT, many || fresh),
        (TOLD, many || !steps.history.is_empty()),
        (PERMITTED, many && switches || !steps.permits.is_empty()),
        (JUDGED, many && switches || !steps.decisions.is_empty()),
        (NOTED, many || !steps.notifications.is_empty()),
        (VOIDED, !steps.voided.is_empty()),
        (WANTED, many || !steps.wanted.is_empty()),
        (ORDERED, many || !steps.orders.new.is_empty()),
        (SETTLED, many || !steps.settled.is_empty()),
    ]
}
