//! The queries about what waits. The tables and partial indexes that they read hold what is unfinished and
//! nothing else, so that they are small however many payouts there are.

use crate::domain::checking::Check;

macro_rules! waiting {
    ($($sql:expr),+ $(,)?) => {
        concat!(
            "WITH patience AS (SELECT now() - make_interval(secs => $1::float8) AS past) ",
            $($sql),+,
            " LIMIT 1000"
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
     FROM effects e LEFT JOIN permits m ON m.payout_id = e.payout_id, patience
     WHERE e.kind IN ('confirm', 'cancel')
       AND (m.kind IS DISTINCT FROM e.kind OR e.bound_to <> m.bound_to)"
);

const PAID_FOR_NOBODY: &str = waiting!(
    "SELECT NULL::uuid AS payout_id, t.project_id, t.session_id AS subject,
        'Pike told that this session was paid, and nothing leads from it to a payout' AS words
     FROM told_sessions t, patience
     WHERE t.payout_id IS NULL AND t.paid_payouts > 0 AND NOT EXISTS (
        SELECT FROM payouts p WHERE p.session_id = t.session_id AND p.project_id = t.project_id)"
);

const OVERDUE: &str = waiting!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('it is %s and should have been looked at on %s', p.state, p.next_check_at) AS words
     FROM payouts p WHERE p.next_check_at < (SELECT past FROM patience) ORDER BY p.next_check_at"
);

const EFFECT_ABANDONED: &str = waiting!(
    "SELECT e.payout_id, e.project_id, 'effect ' || e.id AS subject,
        format('%s was taken up %s times, last until %s', e.kind, e.fence, e.lease_until) AS words
     FROM effects e, patience WHERE e.lease_until < patience.past"
);

/// A final payout may be read.
const EFFECT_AFTER_END: &str = waiting!(
    "SELECT e.payout_id, e.project_id, 'effect ' || e.id AS subject,
        format('%s is still to be sent, and the payout is %s', e.kind, p.state) AS words
     FROM patience, effects e JOIN payouts p ON p.id = e.payout_id
     WHERE e.created_at < patience.past AND e.kind <> 'read_status' AND p.updated_at < patience.past
       AND coalesce(e.lease_until, e.run_at) < patience.past
       AND p.state IN ('succeeded', 'returned', 'failed', 'cancelled')"
);

const WEBHOOK_WAITING: &str = waiting!(
    "SELECT NULL::uuid AS payout_id, i.project_id, 'webhook ' || i.id AS subject,
        CASE WHEN i.parked_at IS NULL THEN format('it came on %s and nobody works on it', i.received_at)
            ELSE format('it is parked since %s', i.parked_at) END AS words
     FROM inbox i, patience
     WHERE (i.done_at IS NULL AND i.due_at < patience.past
            AND (i.lease_until IS NULL OR i.lease_until < patience.past))
        OR (i.parked_at IS NOT NULL AND i.parked_at < patience.past)"
);

const NOTIFICATION_WAITING: &str = waiting!(
    "SELECT n.payout_id, n.project_id, 'notification ' || n.id AS subject,
        format('%s could not be delivered since %s', n.kind, n.created_at) AS words
     FROM notifications n, patience WHERE n.due_at IS NOT NULL AND n.created_at < patience.past
     ORDER BY n.due_at"
);
