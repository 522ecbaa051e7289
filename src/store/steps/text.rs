//! The statement's text: the parts that it has, numbered through, each under its conditions.

use super::parts::{CALLED, KEPT, MOVED, ORDERED, PARTS, Part, READ, SETTLED, SWITCHED, VOIDED, WANTED};
use std::sync::OnceLock;

/// Of what the rules were asked about: never before the step before.
const HELD: &str = "(SELECT at FROM switched) IS NOT NULL AND p.updated_at <= (SELECT at FROM switched)";

/// The payouts that are as they were: written, and held until the commit.
const STOOD: &str = ", stood AS (SELECT array(SELECT id FROM moved) AS ids)";
/// Of what goes with a payout.
const STANDS: &str = "n.payout_id = ANY ((SELECT ids FROM stood)::uuid[])";
/// Of what goes with none: whoever waits for a key or a message holds all payouts that it will.
const MOVED_BEFORE: &str = "(SELECT ids FROM stood) IS NOT NULL";

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

/// The statement for each choice of parts. A part without rows is opened and checked each time all the same;
/// a batch of one payout needs two or three.
static STATEMENTS: [OnceLock<String>; 1 << PARTS] = [const { OnceLock::new() }; 1 << PARTS];

pub(super) fn statement(parts: &[(Part, bool); PARTS]) -> &'static str {
    let place = parts.iter().rev().fold(0, |place, (_, has_rows)| place * 2 + usize::from(*has_rows));
    STATEMENTS[place].get_or_init(|| {
        let (mut text, mut before) = (String::new(), 0);
        let has = |name| parts.iter().any(|(part, has_rows)| *has_rows && part.name == name);
        let (held, moved) = (has(SWITCHED.name), has(MOVED.name));
        let at = if held { "(SELECT at FROM switched)" } else { "n.at" };
        for (part, has_rows) in parts {
            if *has_rows {
                text.push_str(if before == 0 { "WITH " } else { ", " });
                text.push_str(part.name);
                text.push_str(" AS (");
                let sql = numbered_after(before, part.sql);
                text.push_str(&sql.replace("{rows}", &part.rows(before)).replace("{at}", at));
                let is = |one: Part| part.name == one.name;
                let of_none = is(ORDERED) || is(SETTLED);
                let follows = moved && !(is(SWITCHED) || is(MOVED) || of_none);
                let mut and = part.and;
                for (condition, applies) in [
                    (HELD, held && is(MOVED)),
                    (STANDS, follows),
                    (MOVED_BEFORE, moved && of_none),
                    (CALLED_BEFORE, (is(VOIDED) || is(WANTED)) && has(CALLED.name)),
                    (VOIDED_BEFORE, is(WANTED) && has(VOIDED.name)),
                ] {
                    if applies {
                        text.push_str(and);
                        text.push_str(condition);
                        and = " AND ";
                    }
                }
                text.push_str(part.after);
                text.push(')');
                if is(MOVED) {
                    text.push_str(STOOD);
                }
                before += part.parameters;
            }
        }
        for (part, rows) in [(WANTED.name, CLAIMED), (VOIDED.name, OVER), (ORDERED.name, INSERTED)] {
            if has(part) {
                text.push_str(rows);
            }
        }
        for (_, rows) in rows(parts, &[MOVED]) {
            text.push_str(&gone(&rows, held));
        }
        text.push_str(WRITER);
        text.push_str(&unless_stale(&rows(parts, &[CALLED, READ, KEPT])));
        text
    })
}

/// The payouts that are not as they were, of these rows, each with whether it is the switches that are not.
fn gone(rows: &str, held: bool) -> String {
    let switches = if held { "(SELECT (at IS NULL)::integer FROM switched)" } else { "0" };
    format!(
        " SELECT 0, {switches}, n.payout_id, NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz
        FROM {rows} AS n WHERE NOT {STANDS} UNION ALL"
    )
}

/// Nothing at all is written if a cause of a payout that stands is no longer there: somebody else has taken
/// it. Counted once they are closed, so that none is closed for nothing.
fn unless_stale(causes: &[(&str, String)]) -> String {
    let mut cases = String::new();
    for (name, rows) in causes {
        cases.push_str(&format!(
            " WHEN (SELECT count(*) FROM {name}) <>
            (SELECT count(*) FROM {rows} AS n WHERE {STANDS})
            THEN steps_stale()"
        ));
    }
    if cases.is_empty() { cases } else { format!(" WHERE CASE{cases} ELSE true END") }
}

/// Those of these parts that have rows, each with them.
fn rows(parts: &[(Part, bool); PARTS], of: &[Part]) -> Vec<(&'static str, String)> {
    let (mut rows, mut before) = (vec![], 0);
    for (part, _) in parts.iter().filter(|(_, has_rows)| *has_rows) {
        if of.iter().any(|one| one.name == part.name) {
            rows.push((part.name, part.rows(before)));
        }
        before += part.parameters;
    }
    rows
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
