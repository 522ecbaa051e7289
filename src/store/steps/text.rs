//! The statement's text: a part for each table that gets rows, numbered through.

use super::{Stands, Steps};
use std::sync::OnceLock;

/// One table's part of the statement, numbered as if it were alone.
pub(super) struct Part {
    name: &'static str,
    pub(super) columns: usize,
    sql: &'static str,
    /// What comes before one more condition.
    and: &'static str,
    after: &'static str,
}

const fn part(name: &'static str, columns: usize, sql: &'static str) -> Part {
    Part { name, columns, sql, and: " WHERE ", after: "" }
}

/// The switches, held before they are looked at and until what they allow is committed; no instant if they
/// are not as they were thought to be. Before any payout is locked, as for whoever throws one.
const SWITCHED: Part = part("switched", 1, "SELECT switches_held($1::text) AS at");

/// Of what the rules were asked about: never before the step before.
const HELD: &str = "(SELECT at FROM switched) IS NOT NULL AND p.updated_at <= (SELECT at FROM switched)";

/// The payouts that move, if their rows are as this process wrote or read them; the others stay, and so does
/// all that goes with them. In the order of their ids, as whoever locks them. Who is told of no transaction
/// has them locked.
const MOVED: Part = Part {
    name: "moved",
    columns: 32,
    sql: "
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
            $26::text[], $27::bigint[], $28::text[], $29::text[], $30::text[], $31::boolean[],
            $32::bigint[])
            AS n(id, version, attempt, state, status, since, updated_at, next_check_at, session_id,
            retry_at, hold_until, hold_cause, cancel_cause, failure_code, permit_kind, permit_hash,
            anomaly, raised, provider_payout_id, card_brand, card_last4, card_bin, card_id,
            card_country, rrn, auth_code, fee_minor, fee_currency, error_code, error_description, final,
            written_by)
        WHERE p.id = n.id AND coalesce(p.xmin::text::bigint = n.written_by, true)",
    and: " AND ",
    after: " RETURNING p.id",
};

/// The same for payouts that events are about but do not move: locked, so that nobody moves them meanwhile.
const STAYED: Part = Part {
    name: "stayed",
    columns: 2,
    sql: "
        SELECT p.id FROM payouts p JOIN unnest($1::uuid[], $2::bigint[]) AS n(id, written_by)
            ON p.id = n.id AND p.xmin::text::bigint = n.written_by",
    and: " WHERE ",
    after: "
        ORDER BY p.id FOR NO KEY UPDATE OF p",
};

/// What the events came from, if their payouts are there: a lock on a payout comes before any other. Whether
/// a webhook is done is asked in words that no index is for: that of the open ones grows in a backlog.
const CALLED: Part = Part {
    name: "called",
    columns: 3,
    sql: "
        DELETE FROM effects e USING unnest($1::uuid[], $2::bigint[], $3::integer[])
            AS n(payout_id, id, fence)
        WHERE e.id = n.id AND e.fence = n.fence",
    and: " AND ",
    after: " RETURNING 1",
};
const READ: Part = Part {
    name: "read",
    columns: 3,
    sql: "
        UPDATE inbox i SET done_at = now(), outcome = 'applied', lease_until = NULL
        FROM unnest($1::uuid[], $2::bigint[], $3::integer[]) AS n(payout_id, id, fence)
        WHERE i.id = n.id AND i.fence = n.fence AND coalesce(i.done_at, 'infinity') = 'infinity'",
    and: " AND ",
    after: " RETURNING 1",
};

/// Webhooks that came with what they show. In the order in which whoever keeps them alone does.
const KEPT: Part = Part {
    name: "kept",
    columns: 4,
    sql: "
        INSERT INTO inbox (project_id, body_hash, body, fence, done_at, outcome)
        SELECT n.project_id, n.body_hash, n.body, 1, now(), 'applied'
        FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[])
            AS n(payout_id, project_id, body_hash, body)",
    and: " WHERE ",
    after: "
        ORDER BY n.project_id, n.body_hash
        ON CONFLICT (project_id, body_hash) DO NOTHING RETURNING 1",
};

const TOLD: Part = part(
    "told",
    10,
    "
        INSERT INTO history
            (payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail)
        SELECT n.* FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
            AS n(payout_id, seq, at, event, decision, reason, from_state, to_state, actor, detail)",
);

const PERMITTED: Part = part(
    "permitted",
    9,
    "
        INSERT INTO permits (payout_id, kind, bound_to, rule_set, decided_at, project_id,
            customer_reference, currency, amount_minor)
        SELECT n.payout_id, n.kind, n.bound_to, n.rule_set, {at}, n.project_id, n.customer_reference,
            n.currency, n.amount_minor
        FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[],
            $6::text[], $7::text[], $8::text[], $9::bigint[])
            AS n(payout_id, kind, bound_to, rule_set, at, project_id, customer_reference, currency,
            amount_minor)",
);

const JUDGED: Part = part(
    "judged",
    7,
    "
        INSERT INTO decisions (payout_id, seq, at, rule_set, outcome, hits, inputs)
        SELECT n.payout_id, n.seq, {at}, n.rule_set, n.outcome, n.hits, n.inputs
        FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
            $6::text[], $7::text[]) AS n(payout_id, seq, at, rule_set, outcome, hits, inputs)",
);

const NOTED: Part = part(
    "noted",
    8,
    "
        INSERT INTO notifications
            (id, project_id, payout_id, seq, kind, payload, created_at, due_at, fence, lease_until)
        SELECT id, project_id, payout_id, seq, kind, payload, at, now(), (lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => lease)
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[],
            $7::timestamptz[], $8::float8[])
            AS n(id, project_id, payout_id, seq, kind, payload, at, lease)",
);

const VOIDED: Part = Part {
    name: "voided",
    columns: 2,
    sql: "
        DELETE FROM effects e USING unnest($1::uuid[], $2::text[]) AS n(payout_id, kind)
        WHERE e.payout_id = n.payout_id AND e.kind = n.kind",
    and: " AND ",
    after: " RETURNING e.id",
};

const WANTED: Part = Part {
    name: "wanted",
    columns: 6,
    sql: "
        INSERT INTO effects (payout_id, kind, permit_kind, project_id, bound_to, fence, lease_until)
        SELECT n.payout_id, n.kind, n.permit_kind, n.project_id, n.bound_to, (n.lease IS NOT NULL)::integer,
            clock_timestamp() + make_interval(secs => n.lease)
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::float8[])
            AS n(payout_id, kind, permit_kind, project_id, bound_to, lease)",
    and: " WHERE ",
    after: "
        ON CONFLICT (payout_id, kind) DO NOTHING RETURNING id, fence, payout_id, kind",
};

/// New orders, as far as key and reference are both free, each with the beginning of its history and its
/// first call. In the order of their keys, so that two batches with the same ones do not wait for each other
/// in a circle.
const ORDERED: Part = Part {
    name: "ordered",
    columns: 16,
    sql: "
        SELECT n.*, make_interval(secs => $16) AS first_look
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::text[],
            $7::text[], $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[],
            $14::text[], $15::float8[])
        AS n(id, project_id, idempotency_key, request_fingerprint, amount_minor, currency, destination_kind,
            destination_secret, destination_fingerprint, recipient_name, customer_reference, reference,
            metadata, created_by, lease)",
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
const SETTLED: Part = Part {
    name: "settled",
    columns: 5,
    sql: "
        UPDATE notifications n SET attempts = n.attempts + 1, lease_until = NULL, last_error = s.error,
            delivered_at = CASE WHEN s.delivered THEN now() END,
            due_at = now() + make_interval(secs => s.retry_after)
        FROM unnest($1::uuid[], $2::integer[], $3::boolean[], $4::float8[], $5::text[])
            AS s(id, fence, delivered, retry_after, error)
        WHERE n.id = s.id AND n.fence = s.fence AND n.lease_until IS NOT NULL",
    and: " AND ",
    after: "",
};

/// Of what goes with a payout, once those that stand are locked.
const STANDS: &str = "n.payout_id = ANY ((SELECT ids FROM stood)::uuid[])";
/// Of what goes with none: whoever waits for a key or a message holds all payouts that it will.
const LOCKED: &str = "(SELECT ids FROM stood) IS NOT NULL";

/// What is closed is not voided before; what is closed or voided and wanted again is in nobody's way then.
const CALLED_BEFORE: &str = "(SELECT count(*) FROM called) >= 0";
const VOIDED_BEFORE: &str = "(SELECT count(*) FROM voided) >= 0";

/// Only a start carries the destination.
const CLAIMED: &str = "
    SELECT w.id, w.fence, w.payout_id, w.kind, CASE WHEN w.kind = 'start_payout' THEN
            (SELECT p.destination_secret FROM payouts p WHERE p.id = w.payout_id) END,
        NULL::timestamptz, NULL::timestamptz
    FROM wanted w WHERE w.fence > 0 UNION ALL";
const OVER: &str = "
    SELECT v.id, 0, NULL::uuid, 'voided', NULL::text, NULL::timestamptz, NULL::timestamptz FROM voided v
    UNION ALL";
const INSERTED: &str = "
    SELECT f.id, f.fence, i.id, f.kind, NULL::text, i.created_at, i.next_check_at
    FROM inserted i JOIN first f ON f.payout_id = i.id UNION ALL";
/// Who wrote: what a row is known by.
const WRITER: &str = " SELECT pg_current_xact_id()::xid::text::bigint, 0, NULL::uuid, NULL::text, NULL::text,
    NULL::timestamptz, NULL::timestamptz";

pub(super) const PARTS: usize = 14;
/// So many of them, the first ones, say which payouts stand.
const OF_PAYOUTS: usize = 3;
/// The statement for each choice of parts. A part without rows would still be planned, opened and checked
/// each time; a batch of one payout has two or three.
static STATEMENTS: [OnceLock<String>; 1 << PARTS] = [const { OnceLock::new() }; 1 << PARTS];

/// The parts that have rows, each with whether it has.
pub(super) fn parts(steps: &Steps<'_>, stands: Option<&Stands>) -> [(Part, bool); PARTS] {
    let [switches, stayed, effects, inbox, fresh] = stands.map_or([false; 5], |on| {
        [
            on.switches.is_some(),
            !on.stayed.is_empty(),
            !on.effects.is_empty(),
            !on.inbox.is_empty(),
            !on.fresh.is_empty(),
        ]
    });
    [
        (SWITCHED, switches),
        (MOVED, !steps.moved.is_empty()),
        (STAYED, stayed),
        (CALLED, effects),
        (READ, inbox),
        (KEPT, fresh),
        (TOLD, !steps.history.is_empty()),
        (PERMITTED, !steps.permits.is_empty()),
        (JUDGED, !steps.decisions.is_empty()),
        (NOTED, !steps.notifications.is_empty()),
        (VOIDED, !steps.voided.is_empty()),
        (WANTED, !steps.wanted.is_empty()),
        (ORDERED, !steps.orders.new.is_empty()),
        (SETTLED, !steps.settled.is_empty()),
    ]
}

pub(super) fn statement(parts: &[(Part, bool); PARTS]) -> &'static str {
    let place = parts.iter().rev().fold(0, |place, (_, has_rows)| place * 2 + usize::from(*has_rows));
    STATEMENTS[place].get_or_init(|| {
        let (mut text, mut before) = (String::new(), 0);
        let has = |name| parts.iter().any(|(part, has_rows)| *has_rows && part.name == name);
        let (held, payouts) = (has(SWITCHED.name), numbers(parts, &[MOVED, STAYED]));
        let at = if held { "(SELECT at FROM switched)" } else { "n.at" };
        for (place, (part, has_rows)) in parts.iter().enumerate() {
            if *has_rows {
                text.push_str(if before == 0 { "WITH " } else { ", " });
                text.push_str(part.name);
                text.push_str(" AS (");
                text.push_str(&numbered_after(before, part.sql).replace("{at}", at));
                let of_none = [ORDERED.name, SETTLED.name].contains(&part.name);
                let (voided, wanted) = (part.name == VOIDED.name, part.name == WANTED.name);
                let mut and = part.and;
                for (condition, applies) in [
                    (HELD, held && (1..OF_PAYOUTS).contains(&place)),
                    (STANDS, !payouts.is_empty() && place >= OF_PAYOUTS && !of_none),
                    (LOCKED, !payouts.is_empty() && of_none),
                    (CALLED_BEFORE, (voided || wanted) && has(CALLED.name)),
                    (VOIDED_BEFORE, wanted && has(VOIDED.name)),
                ] {
                    if applies {
                        text.push_str(and);
                        text.push_str(condition);
                        and = " AND ";
                    }
                }
                text.push_str(part.after);
                text.push(')');
                before += part.columns;
            }
            if place + 1 == OF_PAYOUTS && !payouts.is_empty() {
                let ids = payouts.iter().map(|(name, _)| format!("SELECT id FROM {name}"));
                let ids = ids.collect::<Vec<_>>().join(" UNION ALL ");
                text.push_str(&format!(", stood AS (SELECT array({ids}) AS ids)"));
            }
        }
        for (part, rows) in [(WANTED.name, CLAIMED), (VOIDED.name, OVER), (ORDERED.name, INSERTED)] {
            if has(part) {
                text.push_str(rows);
            }
        }
        text.push_str(&gone(&payouts));
        text.push_str(WRITER);
        text.push_str(&unless_stale(&numbers(parts, &[CALLED, READ, KEPT])));
        text
    })
}

/// The payouts that are not as they were, whose ids are these parameters.
fn gone(payouts: &[(&str, usize)]) -> String {
    let ids = payouts.iter().map(|(_, number)| format!("${number}::uuid[]")).collect::<Vec<_>>().join(" || ");
    match payouts {
        [] => String::new(),
        _ => format!(
            " SELECT 0, 0, n.payout_id, NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz
            FROM unnest({ids}) AS n(payout_id) WHERE NOT {STANDS} UNION ALL"
        ),
    }
}

/// Nothing at all is written if a cause of a payout that stands is no longer there: somebody else has taken
/// it. Counted once they are closed, so that none is closed for nothing.
fn unless_stale(causes: &[(&str, usize)]) -> String {
    let mut cases = String::new();
    for (name, payouts) in causes {
        cases.push_str(&format!(
            " WHEN (SELECT count(*) FROM {name}) <>
            (SELECT count(*) FROM unnest(${payouts}::uuid[]) AS n(payout_id) WHERE {STANDS})
            THEN steps_stale()"
        ));
    }
    if cases.is_empty() { cases } else { format!(" WHERE CASE{cases} ELSE true END") }
}

/// Those of these parts that have rows, each with the number of its first parameter: the payouts' ids.
fn numbers(parts: &[(Part, bool); PARTS], of: &[Part]) -> Vec<(&'static str, usize)> {
    let (mut numbers, mut before) = (vec![], 0);
    for (part, _) in parts.iter().filter(|(_, has_rows)| *has_rows) {
        if of.iter().any(|one| one.name == part.name) {
            numbers.push((part.name, before + 1));
        }
        before += part.columns;
    }
    numbers
}

/// Its parameters come after so many others.
fn numbered_after(before: usize, sql: &str) -> String {
    let mut pieces = sql.split('$');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = piece.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + before;
        text.push_str(&format!("${number}{rest}"));
    }
    text
}
