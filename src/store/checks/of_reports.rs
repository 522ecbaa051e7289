//! The queries that compare Pike's report with our books, both ways. Asked are the lines of one report, and
//! once more what is still open from others: so a difference goes when both sides agree, and not before.

use super::{Check, ProjectId, Row, StoreError};
use crate::domain::{checking::Finding, report::Day};
use sqlx::PgConnection;

macro_rules! open {
    () => {
        "WITH open AS (SELECT check_name, payout_id, subject FROM findings
            WHERE gone_at IS NULL AND project_id = $1 AND check_name LIKE 'report\\_%') "
    };
}

/// The lines that are asked about, beside what our books say. `payout_id` is the payout whose session it is,
/// or, `in_session` being false, the one that the line merely names.
macro_rules! asked {
    ($($sql:expr),+ $(,)?) => {
        concat!(
            open!(),
            ", asked AS (
                SELECT l.* FROM report_lines l WHERE l.report_id = $2
                UNION SELECT l.* FROM open o
                    JOIN report_lines l ON l.project_id = $1 AND l.payout_id = o.payout_id
                    JOIN reports r ON r.id = l.report_id AND r.complete
                UNION SELECT l.* FROM open o
                    JOIN report_lines l ON l.project_id = $1 AND l.session_id = o.subject
                    JOIN reports r ON r.id = l.report_id AND r.complete),
            booked AS (
                SELECT l.*, r.day, p.id AS ours, p.state, p.amount_minor AS asked_minor,
                    p.currency AS asked_currency,
                    a.session_id IS NOT NULL OR p.session_id IS NOT DISTINCT FROM l.session_id AS in_session,
                    a.ended_as IN ('paid', 'returned')
                        OR (p.session_id = l.session_id AND p.state IN ('succeeded', 'returned')) AS paid,
                    a.ended_as = 'returned'
                        OR (p.session_id = l.session_id AND p.state = 'returned') AS returned,
                    'payout_' || replace(p.id::text, '-', '') || '/' || coalesce(a.attempt, p.attempt)
                        AS our_tag
                FROM asked l JOIN reports r ON r.id = l.report_id
                LEFT JOIN payouts p ON p.id = l.payout_id AND p.project_id = $1
                LEFT JOIN attempts a ON a.payout_id = p.id AND a.session_id = l.session_id) ",
            $($sql),+
        )
    };
}

/// One finding for each payout, or for each session that is nobody's.
macro_rules! by_subject {
    ($from:expr) => {
        concat!(
            "SELECT payout_id, $1 AS project_id, CASE WHEN payout_id IS NULL THEN session_id END AS subject,
                string_agg(why || ' (' || kind || ', ' || session_id || ', line ' || line
                    || CASE WHEN part > 1 THEN ' of part ' || part ELSE '' END || ' of ' || day || ')', '; '
                    ORDER BY day, part, line) AS words ",
            $from,
            " GROUP BY payout_id, CASE WHEN payout_id IS NULL THEN session_id END"
        )
    };
}

const EXTRA: &str = asked!(
    ", judged AS (
        SELECT *, CASE
            WHEN ours IS NULL THEN 'no payout of ours'
            WHEN NOT in_session THEN 'a session that is not the payout''s'
            WHEN tag <> our_tag THEN 'the payout''s session, with other metadata'
            WHEN kind = 'paid' AND paid IS NOT TRUE THEN 'by our books ' || state
            WHEN kind = 'returned' AND returned IS NOT TRUE THEN 'by our books ' || state
        END AS why FROM booked) ",
    by_subject!("FROM judged WHERE why IS NOT NULL")
);

const AMOUNT: &str = asked!(
    ", other AS (
        SELECT *, amount_minor || ' ' || currency || ' in minor units, and ' || asked_minor || ' '
            || asked_currency || ' was asked for' AS why
        FROM booked WHERE in_session AND (amount_minor, currency) <> (asked_minor, asked_currency)) ",
    by_subject!("FROM other")
);

/// All lines about the same, whenever they came.
const TWICE: &str = asked!(
    ", every AS (
        SELECT l.*, r.day FROM (SELECT DISTINCT payout_id FROM asked) s
        JOIN report_lines l ON l.project_id = $1 AND l.payout_id = s.payout_id
        JOIN reports r ON r.id = l.report_id AND r.complete
        UNION ALL SELECT l.*, r.day FROM (SELECT DISTINCT session_id FROM asked WHERE payout_id IS NULL) s
        JOIN report_lines l ON l.project_id = $1 AND l.session_id = s.session_id AND l.payout_id IS NULL
        JOIN reports r ON r.id = l.report_id AND r.complete),
    counted AS (
        SELECT *, 'again' AS why, count(*) OVER (
            PARTITION BY payout_id, CASE WHEN payout_id IS NULL THEN session_id END, kind) AS times
        FROM every) ",
    by_subject!("FROM counted WHERE times > 1")
);

const OF_LINES: &[(Check, &str)] =
    &[(Check::ReportExtra, EXTRA), (Check::ReportAmount, AMOUNT), (Check::ReportTwice, TWICE)];

/// What our books have learnt from $2 until before $3, and what is open: a payment and a return each have
/// their line. Pike lists a return a day late.
const MISSING: &str = concat!(
    open!(),
    ", few AS (
        SELECT id, session_id, state, since FROM payouts
        WHERE project_id = $1 AND id IN (SELECT payout_id FROM history WHERE at >= $2 - interval '1 day')
        UNION SELECT p.id, p.session_id, p.state, p.since FROM open o JOIN payouts p ON p.id = o.payout_id
        WHERE o.check_name = 'report_missing' AND p.project_id = $1),
    owed AS (
        SELECT id, NULL AS suffix, session_id, 'paid' AS kind,
            CASE state WHEN 'succeeded' THEN since ELSE (
                SELECT min(h.at) FROM history h
                WHERE h.payout_id = few.id AND h.to_state IN ('succeeded', 'returned')) END AS at,
            interval '0' AS late
        FROM few WHERE state IN ('succeeded', 'returned')
        UNION ALL SELECT id, '/returned', session_id, 'returned', since, interval '1 day'
        FROM few WHERE state = 'returned'
        UNION ALL SELECT few.id, '/' || a.attempt, a.session_id, 'paid',
            (SELECT min(n.at) FROM anomalies n WHERE n.payout_id = few.id AND n.anomaly = 'old_session_paid'),
            interval '0'
        FROM few JOIN attempts a ON a.payout_id = few.id
        WHERE a.ended_as IN ('paid', 'returned') AND a.session_id IS DISTINCT FROM few.session_id),
    named AS (
        SELECT *, 'payout_' || replace(id::text, '-', '') || coalesce(suffix, '') AS subject FROM owed)
    SELECT id AS payout_id, $1 AS project_id, subject,
        kind || ' by our books, in no report (' || session_id || ', learnt '
            || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC)' AS words
    FROM named n
    WHERE (at >= $2 - late AND at < $3 - late
        OR subject IN (SELECT o.subject FROM open o WHERE o.check_name = 'report_missing'))
      AND NOT EXISTS (
        SELECT FROM report_lines l JOIN reports r ON r.id = l.report_id AND r.complete
        WHERE l.project_id = $1 AND l.session_id = n.session_id AND l.kind = n.kind)"
);

pub(super) async fn ask(
    db: &mut PgConnection,
    project: &ProjectId,
    report: i64,
    day: Day,
) -> Result<Vec<Finding>, StoreError> {
    let mut findings = vec![];
    for (check, sql) in OF_LINES {
        let rows: Vec<Row> = sqlx::query_as(*sql).bind(&project.0).bind(report).fetch_all(&mut *db).await?;
        findings.extend(rows.into_iter().map(|row| row.into_finding(*check)));
    }
    let (from, to) = day.owed();
    let rows: Vec<Row> =
        sqlx::query_as(MISSING).bind(&project.0).bind(from).bind(to).fetch_all(&mut *db).await?;
    findings.extend(rows.into_iter().map(|row| row.into_finding(Check::ReportMissing)));
    Ok(findings)
}
