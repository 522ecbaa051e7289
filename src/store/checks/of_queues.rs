//! The queries about what waits: `patience` as with payouts, then the most rows wanted. The tables and
//! partial indexes that they read hold what is unfinished and nothing else, so that they are small however
//! many payouts there are. What stands beside a row is looked up by its key, row by row: `OFFSET 0` keeps
//! the planner from reading a large table as a whole instead.

use crate::domain::checking::Check;

macro_rules! waiting {
    ($($sql:expr),+ $(,)?) => {
        concat!(
            "WITH patience AS (SELECT now() - make_interval(secs => $1::float8) AS past) ",
            $($sql),+,
            " LIMIT $2::bigint"
        )
    };
}

pub(super) const CHECKS: &[(Check, &str)] = &[
    (Check::EffectUnpermitted, EFFECT_UNPERMITTED),
    (Check::PaidForNobody, PAID_FOR_NOBODY),
    (Check::Overdue, OVERDUE),
    (Check::EffectAbandoned, EFFECT_ABANDONED),
    (Check::EffectAfterEnd, EFFECT_AFTER_END),
    (Check::WebhookWaiting, WEBHOOK_WAITING),
    (Check::NotificationWaiting, NOTIFICATION_WAITING),
];

/// An effect of an older release carries no hash; it is decided again before it is sent.
const EFFECT_UNPERMITTED: &str = waiting!(
    "SELECT e.payout_id, e.project_id, 'effect ' || e.id AS subject,
        format('%s is to be sent, and the permit is %s', e.kind, CASE WHEN m.kind IS NULL THEN 'missing'
            WHEN m.kind <> e.kind THEN 'to ' || m.kind ELSE 'about something else' END) AS words
     FROM effects e LEFT JOIN LATERAL (
        SELECT kind, bound_to FROM permits WHERE payout_id = e.payout_id OFFSET 0) m ON true
     WHERE e.kind IN ('confirm', 'cancel')
       AND (m.kind IS DISTINCT FROM e.kind OR e.bound_to <> m.bound_to)"
);

const PAID_FOR_NOBODY: &str = waiting!(
    "SELECT NULL::uuid AS payout_id, t.project_id, t.session_id AS subject,
        'Pike told that this session was paid, and nothing leads from it to a payout' AS words
     FROM told_sessions t
     WHERE t.payout_id IS NULL AND t.paid_payouts > 0 AND NOT EXISTS (
        SELECT FROM payouts p WHERE p.session_id = t.session_id AND p.project_id = t.project_id OFFSET 0)
     ORDER BY t.project_id, t.session_id"
);

/// Looks at paid payouts come late on purpose: after those at open ones.
const OVERDUE: &str = waiting!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('it is %s and should have been looked at on %s', p.state, p.next_check_at) AS words
     FROM payouts p WHERE p.next_check_at < (SELECT past FROM patience)
       AND p.destination_secret IS NOT NULL ORDER BY p.next_check_at"
);

const EFFECT_ABANDONED: &str = waiting!(
    "SELECT e.payout_id, e.project_id, 'effect ' || e.id AS subject,
        format('%s was taken up %s times, last until %s', e.kind, e.fence, e.lease_until) AS words
     FROM effects e WHERE e.lease_until < (SELECT past FROM patience)"
);

/// A final payout may be read.
const EFFECT_AFTER_END: &str = waiting!(
    "SELECT e.payout_id, e.project_id, 'effect ' || e.id AS subject,
        format('%s is still to be sent, and the payout is %s', e.kind, p.state) AS words
     FROM patience, effects e CROSS JOIN LATERAL (
        SELECT state, updated_at FROM payouts WHERE id = e.payout_id OFFSET 0) p
     WHERE e.created_at < patience.past AND e.kind <> 'read_status' AND p.updated_at < patience.past
       AND coalesce(e.lease_until, e.run_at) < patience.past
       AND p.state IN ('succeeded', 'returned', 'failed', 'cancelled')"
);

const WEBHOOK_WAITING: &str = waiting!(
    "SELECT NULL::uuid AS payout_id, i.project_id, 'webhook ' || i.id AS subject, i.words
     FROM ((SELECT id, project_id, format('it is parked since %s', parked_at) AS words
            FROM inbox WHERE parked_at IS NOT NULL AND parked_at < (SELECT past FROM patience)
            ORDER BY parked_at LIMIT $2::bigint)
        UNION ALL
           (SELECT id, project_id, format('it came on %s and nobody works on it', received_at) AS words
            FROM inbox WHERE done_at IS NULL AND due_at < (SELECT past FROM patience)
              AND (lease_until IS NULL OR lease_until < (SELECT past FROM patience))
            ORDER BY due_at LIMIT $2::bigint)) i"
);

const NOTIFICATION_WAITING: &str = waiting!(
    "SELECT n.payout_id, n.project_id, 'notification ' || n.id AS subject,
        format('%s could not be delivered since %s', n.kind, n.created_at) AS words
     FROM notifications n WHERE n.due_at IS NOT NULL AND n.created_at < (SELECT past FROM patience)
     ORDER BY n.due_at"
);
