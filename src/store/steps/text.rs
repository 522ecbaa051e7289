//! The statement's text: the parts that have rows, numbered through, each under its conditions.

use super::parts::{
    CALLED, KEPT, MOVED, ORDERED, PARTS, Part, READ, SETTLED, STAYED, SWITCHED, VOIDED, WANTED,
};
use std::sync::OnceLock;

/// Of what the rules were asked about: never before the step before.
const HELD: &str = "(SELECT at FROM switched) IS NOT NULL AND p.updated_at <= (SELECT at FROM switched)";

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

/// So many of the parts, the first ones, say which payouts stand.
const OF_PAYOUTS: usize = 3;
/// The statement for each choice of parts. A part without rows would still be planned, opened and checked
/// each time; a batch of one payout has two or three.
static STATEMENTS: [OnceLock<String>; 1 << PARTS] = [const { OnceLock::new() }; 1 << PARTS];

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
