//! Lies to plant in the database, past all code of ours, each with the checks that must tell it by name.

use crate::support::unique;

/// A webhook of a session of Pike's, kept and worked on long ago.
pub fn webhook(session: &str, status: &str, payout_status: &str, amount: &str, tag: &str) -> String {
    let next = if status == "in_progress" { ", \"next_action\": \"confirm\"" } else { "" };
    format!(
        "UPDATE inbox SET received_at = received_at - interval '2 hours';
         UPDATE told_sessions SET received_at = received_at - interval '2 hours';
         INSERT INTO inbox (project_id, body_hash, body, received_at, done_at, outcome)
         SELECT 'shop', sha256(convert_to(body, 'UTF8')), convert_to(body, 'UTF8'), now() - interval '1 hour',
            now(), 'applied'
         FROM (SELECT '{{\"type\": \"payment_finished\", \"session\": {{\"id\": \"' || {session} || '\",
            \"status\": \"{status}\"{next}, \"updated_at\": \"2999-01-01T00:00:00Z\", \"payments\": [{{
            \"id\": \"po_{unique}\", \"status\": \"{payout_status}\", \"metadata\": \"' || {tag} || '\",
            \"amount_details\": {{\"amount\": ' || {amount} || ', \"currency\": \"rub\"}}}}]}}}}' AS body
            FROM payouts p WHERE id = (SELECT id FROM one)) AS made",
        unique = unique()
    )
}

pub const TAG: &str = "'payout_' || replace(p.id::text, '-', '') || '/1'";

/// What is planted, into which payout (a condition), and the checks that must tell: all of them and no other.
pub struct Lie {
    pub names: &'static [&'static str],
    pub of: &'static str,
    how: How,
}

enum How {
    Sql(&'static str),
    /// Session, its status, the payout's status, amount and metadata: all but the statuses are SQL.
    Webhook([&'static str; 5]),
    WebhookThen([&'static str; 5], &'static str),
}

impl Lie {
    pub fn sql(&self) -> String {
        match &self.how {
            How::Sql(sql) => (*sql).to_owned(),
            How::Webhook([session, status, payout, amount, tag]) => {
                webhook(session, status, payout, amount, tag)
            }
            How::WebhookThen([session, status, payout, amount, tag], then) => {
                webhook(session, status, payout, amount, tag) + "; " + then
            }
        }
    }
}

const fn lie(names: &'static [&'static str], of: &'static str, sql: &'static str) -> Lie {
    Lie { names, of, how: How::Sql(sql) }
}

const fn told(names: &'static [&'static str], of: &'static str, webhook: [&'static str; 5]) -> Lie {
    Lie { names, of, how: How::Webhook(webhook) }
}

const PAID: &str = "p.state = 'succeeded' AND p.anomaly IS NULL AND p.amount_minor = 125050
    AND EXISTS (SELECT FROM told_sessions t WHERE t.session_id = p.session_id AND t.paid_payouts > 0)";
const FAILED: &str = "p.state = 'failed'";
const HELD: &str = "p.state = 'on_hold'";

const UNHEARD: &str = "p.state = 'succeeded' AND p.anomaly IS NULL AND NOT EXISTS (
    SELECT FROM told_sessions t WHERE t.session_id = p.session_id)";

const SAME: &str = "p.session_id";

pub const ABOUT_MONEY: &[Lie] = &[
    told(
        &["paid_more_than_asked", "paid_twice", "several_sessions", "unknown_session"],
        PAID,
        ["'ps_second'", "accepted", "succeeded", "p.amount_minor", TAG],
    ),
    // Waiting for our word in a session that we do not know.
    told(
        &["several_sessions", "unknown_session"],
        PAID,
        ["'ps_second'", "in_progress", "pending", "p.amount_minor", TAG],
    ),
    told(&["unknown_session"], "p.state = 'accepted'", ["'ps_x'", "accepted", "succeeded", "125050", TAG]),
    told(
        &["unknown_payout"],
        PAID,
        ["'ps_x'", "accepted", "succeeded", "125050", "'payout_00000000000000000123456789abcdef/1'"],
    ),
    told(&["paid_for_nobody"], PAID, ["'ps_x'", "accepted", "succeeded", "125050", "'something'"]),
    told(&["other_amount", "paid_more_than_asked"], PAID, [SAME, "accepted", "succeeded", "125051", TAG]),
    told(&["other_metadata"], PAID, [SAME, "accepted", "succeeded", "125050", "'something'"]),
    told(&["paid_but_unpaid_here"], FAILED, [SAME, "accepted", "succeeded", "125050", TAG]),
    told(&["unpaid_but_paid_here"], UNHEARD, [SAME, "cancelled", "failed", "125050", TAG]),
    told(&["ended_at_pike"], HELD, [SAME, "cancelled", "failed", "p.amount_minor", TAG]),
    lie(
        &["confirm_without_permit", "permit_altered"],
        PAID,
        "DELETE FROM permits WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["confirm_without_permit", "state_untold"],
        HELD,
        "ALTER TABLE payouts DROP CONSTRAINT payouts_confirm_permitted, DROP CONSTRAINT payouts_hold_ends;
             UPDATE payouts SET state = 'confirming', hold_until = NULL, hold_cause = NULL
             WHERE id = (SELECT id FROM one)",
    ),
    lie(
        &["permit_altered"],
        PAID,
        "UPDATE payouts SET recipient_name = 'Mallory' WHERE id = (SELECT id FROM one)",
    ),
    lie(
        &["permit_altered"],
        PAID,
        "UPDATE permits SET bound_to = sha256('x') WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["permit_altered"],
        HELD,
        "UPDATE payouts SET permit_kind = 'confirm', permit_hash = sha256('x')
             WHERE id = (SELECT id FROM one)",
    ),
    lie(&["permit_undecided"], PAID, "DELETE FROM decisions WHERE payout_id = (SELECT id FROM one)"),
    lie(
        &["permit_undecided"],
        PAID,
        "UPDATE decisions SET at = at + interval '1 second' WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["destination_altered"],
        HELD,
        "UPDATE payouts SET destination_secret = 'tok_mallory' WHERE id = (SELECT id FROM one)",
    ),
    lie(
        &["effect_unpermitted"],
        HELD,
        "ALTER TABLE effects DROP CONSTRAINT effects_permit;
             INSERT INTO effects (payout_id, kind, permit_kind) SELECT id, 'confirm', 'confirm' FROM one",
    ),
    lie(
        &["effect_unpermitted"],
        "p.permit_kind = 'cancel'",
        "ALTER TABLE effects DROP CONSTRAINT effects_permit;
             INSERT INTO effects (payout_id, kind, permit_kind) SELECT id, 'confirm', 'confirm' FROM one",
    ),
    lie(
        &["effect_unpermitted"],
        PAID,
        "INSERT INTO effects (payout_id, kind, permit_kind, bound_to)
             SELECT id, 'confirm', 'confirm', sha256('x') FROM one",
    ),
    lie(
        &["recipient_total"],
        PAID,
        "UPDATE permits SET released_at = now() WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["recipient_total"],
        "p.state = 'failed' AND p.permit_kind = 'confirm'",
        "UPDATE permits SET released_at = NULL WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["recipient_total"],
        PAID,
        "UPDATE permits SET amount_minor = 1 WHERE payout_id = (SELECT id FROM one)",
    ),
];

/// An alarm of long ago, which a person has answered.
macro_rules! alarm {
    ($anomaly:literal) => {
        concat!(
            "INSERT INTO anomalies (payout_id, seq, project_id, anomaly, counts, at)
             SELECT id, 1, 'shop', '",
            $anomaly,
            "', false, now() - interval '30 days' FROM one"
        )
    };
}

const fn alarmed(
    names: &'static [&'static str],
    of: &'static str,
    webhook: [&'static str; 5],
    by: &'static str,
) -> Lie {
    Lie { names, of, how: How::WebhookThen(webhook, by) }
}

macro_rules! without_permit {
    ($anomaly:literal) => {
        concat!(
            "DELETE FROM permits WHERE payout_id = (SELECT id FROM one);
             UPDATE payouts SET permit_kind = NULL, permit_hash = NULL WHERE id = (SELECT id FROM one); ",
            alarm!($anomaly)
        )
    };
}

macro_rules! released {
    ($anomaly:literal) => {
        concat!(
            "UPDATE permits SET released_at = now() WHERE payout_id = (SELECT id FROM one); ",
            alarm!($anomaly)
        )
    };
}

/// Somebody was alarmed, of something else: that explains nothing.
pub const ALARMED_OF_SOMETHING_ELSE: &[Lie] = &[
    alarmed(&["paid_but_unpaid_here"], FAILED, OWN_PAID, alarm!("session_unknown")),
    // It was found wrong before it ended, not paid since.
    alarmed(&["paid_but_unpaid_here"], FAILED, OWN_PAID, alarm!("other_amount")),
    alarmed(&["other_amount"], HELD, OTHER_SUM, alarm!("status_unknown")),
    alarmed(&["other_metadata"], PAID, OTHER_TAG, alarm!("failed_after_paid")),
    alarmed(&["ended_at_pike"], HELD, CLOSED, alarm!("permit_outdated")),
    alarmed(&["unpaid_but_paid_here"], UNHEARD, CLOSED, alarm!("other_session")),
    lie(&["confirm_without_permit"], PAID, without_permit!("other_amount")),
    lie(&["recipient_total"], PAID, released!("other_amount")),
];

/// Told that a failed one was paid; but something explains it.
const fn explained(by: &'static str) -> Lie {
    Lie { names: &[], of: FAILED, how: How::WebhookThen([SAME, "accepted", "succeeded", "125050", TAG], by) }
}

/// No lies: they must not be found, because some of these would stop the line.
pub const NOT_AT_ALL: &[Lie] = &[
    explained(
        "UPDATE inbox SET done_at = NULL, outcome = NULL, received_at = now(), due_at = now()
         WHERE id = (SELECT max(id) FROM inbox)",
    ),
    explained(alarm!("paid_after_final")),
    // Flagged when it had ended already.
    explained(
        "UPDATE payouts SET version = version + 1 WHERE id = (SELECT id FROM one);
         INSERT INTO history (payout_id, seq, at, event, decision, reason, from_state, to_state)
         SELECT id, version, now(), 'reported', 'flag', 'contradicted', state, state FROM payouts
            WHERE id = (SELECT id FROM one);
         INSERT INTO anomalies (payout_id, seq, project_id, anomaly, counts, at)
         SELECT id, version, 'shop', 'other_amount', true, now() FROM payouts
            WHERE id = (SELECT id FROM one)",
    ),
    alarmed(&[], HELD, OTHER_SUM, alarm!("other_amount")),
    alarmed(&[], HELD, OTHER_SUM, alarm!("several_payouts")),
    // Of a payout that was flagged before there was a table of anomalies.
    alarmed(
        &[],
        HELD,
        OTHER_SUM,
        "UPDATE payouts p SET anomaly = 'other_amount' FROM one WHERE p.id = one.id",
    ),
    alarmed(
        &[],
        HELD,
        OTHER_SUM,
        "UPDATE payouts p SET raised = '{other_amount}' FROM one WHERE p.id = one.id",
    ),
    alarmed(&[], PAID, OTHER_TAG, alarm!("other_metadata")),
    alarmed(&[], HELD, CLOSED, alarm!("contradiction")),
    alarmed(&[], UNHEARD, CLOSED, alarm!("failed_after_paid")),
    lie(&[], PAID, without_permit!("paid_without_permit")),
    lie(&[], PAID, released!("paid_after_final")),
    // What came in under another project that trusts the same key: the payout's own session once more, and
    // one that would be its second.
    Lie { names: &[], of: PAID, how: How::WebhookThen(SECOND_PAID, ELSEWHERE) },
    Lie { names: &[], of: PAID, how: How::WebhookThen(OWN_PAID, ELSEWHERE) },
    Lie { names: &[], of: FAILED, how: How::WebhookThen(OWN_PAID, ELSEWHERE) },
];

const SECOND_PAID: [&str; 5] = ["'ps_second'", "accepted", "succeeded", "p.amount_minor * 2", TAG];
const OWN_PAID: [&str; 5] = [SAME, "accepted", "succeeded", "p.amount_minor", TAG];
const OTHER_SUM: [&str; 5] = [SAME, "in_progress", "pending", "p.amount_minor + 1", TAG];
const OTHER_TAG: [&str; 5] = [SAME, "accepted", "succeeded", "p.amount_minor", "'something'"];
const CLOSED: [&str; 5] = [SAME, "cancelled", "failed", "p.amount_minor", TAG];
const ELSEWHERE: &str = "UPDATE inbox SET project_id = 'other' WHERE id = (SELECT max(id) FROM inbox)";

pub const ABOUT_THE_REST: &[Lie] = &[
    lie(
        &["history_gap"],
        PAID,
        "SET LOCAL session_replication_role = replica;
             DELETE FROM history WHERE payout_id = (SELECT id FROM one) AND seq = 2",
    ),
    lie(&["history_gap"], PAID, "UPDATE payouts SET version = version + 1 WHERE id = (SELECT id FROM one)"),
    lie(
        &["state_untold"],
        PAID,
        "UPDATE payouts SET state = 'returned', status = 'returned' WHERE id = (SELECT id FROM one)",
    ),
    lie(&["notification_gap"], PAID, "DELETE FROM notifications WHERE payout_id = (SELECT id FROM one)"),
    lie(
        &["notification_gap"],
        PAID,
        "UPDATE notifications SET kind = 'payout.failed' WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["notification_gap"],
        HELD,
        "INSERT INTO notifications (id, project_id, payout_id, seq, kind, payload, created_at, due_at)
             SELECT gen_random_uuid(), 'shop', id, 2, 'payout.succeeded', '{}', now(), now() FROM one",
    ),
    lie(
        &["notification_gap"],
        "p.state = 'returned'",
        "UPDATE notifications SET created_at = created_at - interval '1 hour'
             WHERE kind = 'payout.returned' AND payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["no_due_time"],
        HELD,
        "ALTER TABLE payouts DROP CONSTRAINT payouts_never_stuck;
             UPDATE payouts SET next_check_at = NULL WHERE id = (SELECT id FROM one)",
    ),
    lie(
        &["overdue"],
        HELD,
        "UPDATE payouts SET next_check_at = now() - interval '16 minutes'
             WHERE id = (SELECT id FROM one)",
    ),
    lie(
        &["effect_abandoned"],
        HELD,
        "INSERT INTO effects (payout_id, kind, lease_until)
             SELECT id, 'read_status', now() - interval '16 minutes' FROM one
             ON CONFLICT (payout_id, kind) DO UPDATE SET lease_until = excluded.lease_until",
    ),
    lie(
        &["effect_after_end"],
        PAID,
        "UPDATE payouts SET updated_at = now() - interval '1 hour' WHERE id = (SELECT id FROM one);
             INSERT INTO effects (payout_id, kind, created_at, run_at)
             SELECT id, 'start_payout', early, early
             FROM one, (SELECT now() - interval '16 minutes' AS early) t",
    ),
    lie(
        &["webhook_waiting"],
        PAID,
        "INSERT INTO inbox (project_id, body_hash, body, due_at)
             VALUES ('shop', '\\x00', '{}', now() - interval '16 minutes')",
    ),
    lie(
        &["webhook_waiting"],
        PAID,
        "INSERT INTO inbox (project_id, body_hash, body, due_at, parked_at)
             VALUES ('shop', '\\x00', '{}', 'infinity', now() - interval '16 minutes')",
    ),
    lie(
        &["notification_waiting"],
        PAID,
        "UPDATE notifications SET due_at = now(), delivered_at = NULL,
                created_at = created_at - interval '1 hour'
             WHERE payout_id = (SELECT id FROM one)",
    ),
    lie(
        &["impossible_row"],
        "p.state = 'accepted'",
        "UPDATE payouts SET currency = 'QQQ' WHERE id = (SELECT id FROM one)",
    ),
];
