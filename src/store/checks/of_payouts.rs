//! The questions about given payouts, all in one statement. `asked` are their ids, `patience` the time
//! before which something must have happened to be found late. What Pike told is read from `told_sessions`,
//! which stems from signed webhooks. The path of a webhook is not signed: what came in under another project
//! says nothing about a payout that is here, or whoever replays it there could stop two projects.

use crate::domain::checking::Check;
use std::sync::LazyLock;

/// What the questions are asked of: each row is read once for all of them, by its key, however the planner
/// judges the size of the tables.
const ABOUT: &str = "
    WITH asked AS (SELECT unnest($1::uuid[]) AS id),
    patience AS (SELECT now() - make_interval(secs => $2::float8) AS past),
    here AS MATERIALIZED (
        SELECT p.* FROM asked CROSS JOIN LATERAL (SELECT * FROM payouts WHERE id = asked.id OFFSET 0) p),
    named AS MATERIALIZED (
        SELECT t.* FROM asked
        CROSS JOIN LATERAL (SELECT * FROM told_sessions WHERE payout_id = asked.id OFFSET 0) t),
    met AS MATERIALIZED (
        SELECT p.id, p.project_id, p.state, p.amount_minor, p.currency, p.attempt, p.anomaly, p.raised,
            t.session_id, t.payout_id AS named, t.tag, t.payouts, t.amount_minor AS told_minor,
            t.currency AS told_currency, t.paid_payouts, t.newest, t.inbox_id, t.received_at
        FROM here p CROSS JOIN LATERAL (
            SELECT * FROM told_sessions
            WHERE project_id = p.project_id AND session_id = p.session_id OFFSET 0) t),
    tried AS MATERIALIZED (
        SELECT a.* FROM asked
        CROSS JOIN LATERAL (SELECT * FROM attempts WHERE payout_id = asked.id OFFSET 0) a),
    alarms AS MATERIALIZED (
        SELECT a.payout_id, a.anomaly, h.from_state FROM here p
        CROSS JOIN LATERAL (SELECT * FROM anomalies WHERE payout_id = p.id OFFSET 0) a
        LEFT JOIN LATERAL (
            SELECT from_state FROM history WHERE payout_id = p.id AND seq = a.seq OFFSET 0) h ON true),
    permitted AS MATERIALIZED (
        SELECT m.* FROM here p CROSS JOIN LATERAL (
            SELECT * FROM permits WHERE payout_id = p.id AND kind = 'confirm' OFFSET 0) m),
    story AS MATERIALIZED (
        SELECT p.id AS payout_id, h.* FROM here p CROSS JOIN LATERAL (
            SELECT count(*) AS entries, min(seq) AS first, max(seq) AS last,
                (array_agg(to_state ORDER BY seq DESC))[1] AS ends_in,
                array_agg(seq || ' payout.' || to_state ORDER BY seq) FILTER (
                    WHERE to_state IN ('succeeded', 'returned', 'failed', 'cancelled')
                      AND from_state IS DISTINCT FROM to_state) AS ended
            FROM history WHERE payout_id = p.id) h)
";

/// Where nobody was ever alarmed about this, so that nobody knows: another anomaly explains nothing.
macro_rules! nobody_knows {
    ($of:literal) => {
        concat!(
            " AND (p.anomaly IS NULL OR p.anomaly <> ALL ('{",
            $of,
            "}'::text[])) AND NOT p.raised && '{",
            $of,
            "}'::text[] AND NOT EXISTS (SELECT FROM alarms a
                WHERE a.payout_id = p.id AND a.anomaly = ANY ('{",
            $of,
            "}'::text[])) "
        )
    };
}

/// The same for what can only be news of a payout that has ended: an alarm from before told of something
/// else.
macro_rules! nobody_knows_after_the_end {
    ($of:literal) => {
        concat!(
            " AND NOT EXISTS (SELECT FROM alarms a
                WHERE a.payout_id = p.id AND a.from_state IN ('failed', 'cancelled')
                AND a.anomaly = ANY ('{",
            $of,
            "}'::text[])) "
        )
    };
}

/// What Pike told has been worked on, or should have been.
macro_rules! taken_in {
    () => {
        " AND (t.received_at < (SELECT past FROM patience)
            OR EXISTS (
                SELECT FROM inbox i WHERE i.id = t.inbox_id AND i.done_at IS NOT NULL OFFSET 0)) "
    };
}

/// Told of the payout by its metadata, to its project. One that is not here could be any project's.
macro_rules! told_of_it {
    () => {
        " FROM named t LEFT JOIN here p ON p.id = t.payout_id
          WHERE (p.id IS NULL OR p.project_id = t.project_id) AND "
    };
}

/// A session at Pike that waits for our word or was paid, and was not closed since: as webhooks told, or as
/// was found out before another attempt began.
macro_rules! alive {
    () => {
        " (t.ready OR t.paid_payouts > 0) AND t.newest <> 'unpaid'
          AND NOT EXISTS (SELECT FROM tried a
            WHERE a.session_id = t.session_id AND a.payout_id = t.payout_id
              AND (t.paid_payouts = 0 OR a.ended_as <> 'unpaid')) "
    };
}

/// Told of the payout's own session. The two stand in one row: joined, they would be compared each with each.
macro_rules! in_its_session {
    () => {
        " FROM met p CROSS JOIN LATERAL (
            SELECT p.session_id, p.named AS payout_id, p.tag, p.payouts, p.told_minor AS amount_minor,
                p.told_currency AS currency, p.paid_payouts, p.newest, p.inbox_id, p.received_at) t "
    };
}

/// What Pike told last is how the payout ended, and was worked on.
macro_rules! same_end {
    () => {
        " (t.newest = CASE p.state
                WHEN 'succeeded' THEN 'paid' WHEN 'returned' THEN 'returned' ELSE 'unpaid' END
           AND EXISTS (
                SELECT FROM inbox i WHERE i.id = t.inbox_id AND i.done_at IS NOT NULL OFFSET 0)) "
    };
}

pub(super) const CHECKS: &[(Check, &str)] = &[
    (Check::PaidTwice, PAID_TWICE),
    (Check::SeveralSessions, SEVERAL_SESSIONS),
    (Check::UnknownSession, UNKNOWN_SESSION),
    (Check::UnknownPayout, UNKNOWN_PAYOUT),
    (Check::PaidMoreThanAsked, PAID_MORE_THAN_ASKED),
    (Check::ConfirmWithoutPermit, CONFIRM_WITHOUT_PERMIT),
    (Check::PermitUndecided, PERMIT_UNDECIDED),
    (Check::DestinationAltered, DESTINATION_ALTERED),
    (Check::PaidButUnpaidHere, PAID_BUT_UNPAID_HERE),
    (Check::UnpaidButPaidHere, UNPAID_BUT_PAID_HERE),
    (Check::OtherAmount, OTHER_AMOUNT),
    (Check::OtherMetadata, OTHER_METADATA),
    (Check::EndedAtPike, ENDED_AT_PIKE),
    (Check::RecipientTotal, RECIPIENT_TOTAL),
    (Check::HistoryGap, HISTORY_GAP),
    (Check::StateUntold, STATE_UNTOLD),
    (Check::NotificationGap, NOTIFICATION_GAP),
    (Check::NoDueTime, NO_DUE_TIME),
];

/// The checks in one statement. Of each row the first column is the check's place among them, and the second
/// is empty; or it is at rest, and the second is its version.
pub(super) static ALL: LazyLock<String> = LazyLock::new(|| {
    let mut questions = vec![AT_REST.to_owned()];
    questions.extend(CHECKS.iter().enumerate().map(|(place, (_, sql))| {
        format!("SELECT {place} AS place, NULL::bigint AS version, q.* FROM ({sql}) q")
    }));
    format!("{ABOUT}{}", questions.join(" UNION ALL "))
});

/// Those about which no time that passes can bring a finding: they have ended, and what Pike told last of
/// each of their sessions has been worked on and is the same end.
const AT_REST: &str = concat!(
    "SELECT -1 AS place, p.version, p.id AS payout_id, p.project_id, NULL AS subject, '' AS words
     FROM here p WHERE p.state IN ('succeeded', 'returned', 'failed', 'cancelled') AND p.id NOT IN (
        SELECT p.id FROM here p JOIN named t ON t.payout_id = p.id WHERE ",
    same_end!(),
    " IS NOT TRUE UNION ALL SELECT p.id",
    in_its_session!(),
    "WHERE t.payout_id IS DISTINCT FROM p.id AND ",
    same_end!(),
    " IS NOT TRUE)"
);

const PAID_TWICE: &str = concat!(
    "SELECT t.payout_id, t.project_id, NULL AS subject,
        format('Pike told that it was paid %s times, in %s', sum(t.paid_payouts),
            string_agg(t.session_id, ', ' ORDER BY t.session_id)) AS words",
    told_of_it!(),
    "t.paid_payouts > 0 GROUP BY t.payout_id, t.project_id HAVING sum(t.paid_payouts) > 1"
);

const SEVERAL_SESSIONS: &str = concat!(
    "SELECT t.payout_id, t.project_id, NULL AS subject,
        format('%s sessions wait at Pike or were paid: %s', count(*),
            string_agg(t.session_id, ', ' ORDER BY t.session_id)) AS words",
    told_of_it!(),
    alive!(),
    " GROUP BY t.payout_id, t.project_id HAVING count(*) > 1"
);

const UNKNOWN_SESSION: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, t.session_id AS subject,
        format('Pike told of session %s (%s), but the payout is %s with session %s', t.session_id, t.newest,
            p.state, coalesce(p.session_id, 'none')) AS words
     FROM here p JOIN named t ON t.payout_id = p.id AND t.project_id = p.project_id
     WHERE t.session_id IS DISTINCT FROM p.session_id AND ",
    alive!()
);

const UNKNOWN_PAYOUT: &str = concat!(
    "SELECT t.payout_id, t.project_id, t.session_id AS subject,
        format('Pike told of session %s (%s) for a payout that is not here', t.session_id, t.newest) AS words
     FROM named t WHERE NOT EXISTS (SELECT FROM here p WHERE p.id = t.payout_id) AND ",
    alive!()
);

const PAID_MORE_THAN_ASKED: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('Pike told that %s was paid where %s was asked', sum(t.paid_minor), p.amount_minor) AS words
     FROM here p JOIN named t ON t.payout_id = p.id AND t.project_id = p.project_id
     WHERE t.paid_payouts > 0 GROUP BY p.id, p.project_id, p.amount_minor
     HAVING sum(t.paid_minor) > p.amount_minor";

/// A paid one without a permit is what the anomaly of that name tells, so there it is found only if nobody
/// was told.
const CONFIRM_WITHOUT_PERMIT: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('it is %s without a permit to confirm', p.state) AS words
     FROM here p WHERE NOT EXISTS (SELECT FROM permitted m WHERE m.payout_id = p.id)
       AND (p.state IN ('confirming', 'confirm_unknown', 'settling')
         OR p.state IN ('succeeded', 'returned') ",
    nobody_knows!("paid_without_permit,paid_after_final,old_session_paid"),
    ")"
);

const PERMIT_UNDECIDED: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('no decision of the rules %s stands before its permit', m.rule_set) AS words
     FROM here p JOIN permitted m ON m.payout_id = p.id
     WHERE NOT EXISTS (SELECT FROM decisions d WHERE d.payout_id = p.id AND d.outcome = 'confirm'
        AND d.rule_set = m.rule_set AND d.at <= coalesce(m.renewed_at, m.decided_at) OFFSET 0)";

/// As the API makes it of an order: SHA-256 of kind and secret, each after its length.
const DESTINATION_ALTERED: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        'the stored destination is not the one that was asked for' AS words
     FROM here p
     WHERE p.destination_secret IS NOT NULL AND p.destination_fingerprint <> sha256(convert_to(
        octet_length(p.destination_kind) || ':' || p.destination_kind
        || octet_length(p.destination_secret) || ':' || p.destination_secret, 'UTF8'))";

/// What was found wrong while the session was still open, and was answered with a cancel, is no word of
/// money.
const PAID_BUT_UNPAID_HERE: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('Pike told that session %s was paid; the payout is %s', t.session_id, p.state) AS words",
    in_its_session!(),
    "WHERE t.paid_payouts > 0 AND p.state IN ('failed', 'cancelled')",
    nobody_knows!("paid_after_final,old_session_paid,paid_without_permit"),
    nobody_knows_after_the_end!("several_payouts,other_amount,other_metadata,contradiction"),
    taken_in!()
);

const UNPAID_BUT_PAID_HERE: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('Pike told that session %s was closed unpaid; the payout is %s', t.session_id, p.state)
            AS words",
    in_its_session!(),
    "WHERE t.newest = 'unpaid' AND t.paid_payouts = 0 AND p.state IN ('succeeded', 'returned')",
    nobody_knows!(
        "failed_after_paid,paid_after_final,old_session_paid,several_payouts,other_amount,other_metadata"
    ),
    taken_in!()
);

/// What is closed unpaid is taken as such whatever else it shows, without an alarm.
const OTHER_AMOUNT: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('Pike shows %s %s where %s %s was asked', t.amount_minor, t.currency, p.amount_minor,
            p.currency) AS words",
    in_its_session!(),
    "WHERE t.payouts > 0 AND t.newest <> 'unpaid'
       AND (t.amount_minor, t.currency) IS DISTINCT FROM (p.amount_minor, p.currency)",
    nobody_knows!("other_amount,several_payouts,permit_altered"),
    taken_in!()
);

/// An attempt before that was paid after all is the payout's session again, with that attempt's number.
const OTHER_METADATA: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('session %s carries metadata of something else', t.session_id) AS words",
    in_its_session!(),
    "WHERE t.payouts > 0 AND t.newest <> 'unpaid'
       AND t.tag IS DISTINCT FROM 'payout_' || replace(p.id::text, '-', '') || '/' || p.attempt",
    nobody_knows!("other_metadata,other_amount,several_payouts,old_session_paid"),
    taken_in!()
);

const ENDED_AT_PIKE: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('Pike told the end of session %s (%s); the payout is %s', t.session_id, t.newest, p.state)
            AS words",
    in_its_session!(),
    "WHERE t.received_at < (SELECT past FROM patience)
       AND ((t.newest IN ('paid', 'unpaid')
             AND p.state NOT IN ('retrying', 'succeeded', 'returned', 'failed', 'cancelled'))
         OR (t.newest = 'returned' AND p.state <> 'returned'))",
    nobody_knows!("several_payouts,other_amount,other_metadata,contradiction,old_session_paid")
);

/// The daily total is the sum of unreleased permits, so it is right if each permit counts as its payout does
/// and says what its payout says.
const RECIPIENT_TOTAL: &str = concat!(
    "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        CASE WHEN (m.project_id, m.customer_reference, m.currency, m.amount_minor)
                IS DISTINCT FROM (p.project_id, p.customer_reference, p.currency, p.amount_minor)
             THEN 'its permit counts another amount or recipient'
             WHEN m.released_at IS NULL THEN format('it is %s, yet its permit still counts', p.state)
             ELSE format('it is %s, yet its permit no longer counts', p.state) END AS words
     FROM here p JOIN permitted m ON m.payout_id = p.id
     WHERE (m.project_id, m.customer_reference, m.currency, m.amount_minor)
            IS DISTINCT FROM (p.project_id, p.customer_reference, p.currency, p.amount_minor)
        OR ((m.released_at IS NULL) = (p.state IN ('retrying', 'failed', 'cancelled')) ",
    nobody_knows!("paid_after_final,old_session_paid"),
    ")"
);

const HISTORY_GAP: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('%s entries from %s to %s at version %s', h.entries, h.first, h.last, p.version) AS words
     FROM here p JOIN story h ON h.payout_id = p.id
     WHERE (h.entries, h.first, h.last) IS DISTINCT FROM (p.version, 1, p.version)";

const STATE_UNTOLD: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('the history ends in %s, the payout is %s', coalesce(h.ends_in, 'nothing'), p.state) AS words
     FROM here p JOIN story h ON h.payout_id = p.id
     WHERE h.ends_in IS DISTINCT FROM p.state";

/// Each entry that makes a payout final in another way than before has its notification, and no other has.
const NOTIFICATION_GAP: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('%s notifications are missing, %s tell what did not happen, %s are out of order',
            cardinality(h.ended) - n.founded, n.all_told - n.founded, n.disordered) AS words
     FROM here p
     JOIN (SELECT payout_id, coalesce(ended, ARRAY[]::text[]) AS ended FROM story) h ON h.payout_id = p.id
     CROSS JOIN LATERAL (
        SELECT count(*) AS all_told, count(*) FILTER (WHERE seq || ' ' || kind = ANY (h.ended)) AS founded,
            count(*) FILTER (WHERE created_at < before) AS disordered
        FROM (SELECT seq, kind, created_at, max(created_at) OVER (ORDER BY seq ROWS BETWEEN
                UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM notifications WHERE payout_id = p.id) each) n
     WHERE n.founded < cardinality(h.ended) OR n.founded < n.all_told OR n.disordered > 0";

const NO_DUE_TIME: &str = "SELECT p.id AS payout_id, p.project_id, NULL AS subject,
        format('it is %s and has no time to be looked at', p.state) AS words
     FROM here p
     WHERE p.next_check_at IS NULL AND p.state NOT IN ('succeeded', 'returned', 'failed', 'cancelled')";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::payout::Anomaly, store::encoding::Code};

    /// A misspelt one would explain nothing, and each such payout would be found.
    #[test]
    fn what_explains_a_check_is_an_anomaly() {
        let mut named = 0;
        for (check, sql) in CHECKS {
            for list in sql.split("'{").skip(1).filter_map(|rest| rest.split("}'::text[]").next()) {
                for code in list.split(',') {
                    assert!(Anomaly::from_code(code).is_some(), "{check:?}: {code}");
                    named += 1;
                }
            }
        }
        assert!(named > 20);
    }
}
