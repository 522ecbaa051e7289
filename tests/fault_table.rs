//! `docs/faults.md` against the tree: every row is there once, says how far it is shown in a known word, and
//! every test that is named anywhere in it exists, is compiled and is run. That the test fails without the
//! behaviour is its author's promise; this only keeps the page from naming what is gone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

/// The sections of the table and how many rows each has.
const SECTIONS: [(char, u32); 10] = [
    ('A', 24),
    ('B', 26),
    ('C', 16),
    ('D', 24),
    ('E', 14),
    ('F', 12),
    ('G', 9),
    ('H', 12),
    ('I', 12),
    ('J', 8),
];

/// A word for how far a row is shown, and whether it may stand without a test, and without a reason.
const HOW_FAR: [(&str, bool, bool); 6] = [
    ("shown", false, true),
    ("partly", false, false),
    ("not yet", true, false),
    ("not here", true, false),
    ("later", true, true),
    ("nothing to do", true, true),
];

/// A table that breaks every rule once, with what must be said of each line.
const BAD: &str = "\
| A1 | fault | answer | shown | `tests/fault_table.rs: a_test_that_is_gone` |
| A1 | fault | answer | shown | `tests/fault_table.rs: the_table_is_true` |
| A3 | fault | answer | shown | |
| A4 | fault | answer | partly | `tests/fault_table.rs: the_table_is_true` |
| A5 | fault | answer | surely | `tests/fault_table.rs: the_table_is_true` |
| A6 | fault | answer | shown | `tests/network`, the whole of it |
| A7 | fault | answer | shown | `tests/gone.rs: the_table_is_true` |
| A8 | fault | answer | shown | `tests/fault_table.rs: rows` |
| A9 | fault | answer | shown | `tests/traps/egress.rs: child_of_a_proxy_in_the_environment` |
| A10 | fault | answer | not yet | |
| A11 | fault | answer | being added | `tests/fault_table.rs: the_table_is_true` |
| A12 | fault | shown |
| A13 | fault | answer | shown | `src/dev/postgres/keeper.sh: a_test` |
| A25 | fault | answer | later | |
| a figure | wanted | `tests/fault_table.rs: the_figure` |
";

const BLAME: [&str; 15] = [
    "A1: tests/fault_table.rs has no test a_test_that_is_gone",
    "A1: there twice",
    "A3: names no test",
    "A4: does not say what is missing",
    "A5: `surely` is no word for how far",
    "A6: names no test",
    "A7: tests/gone.rs is not there",
    "A8: tests/fault_table.rs has no test rows",
    "A9: child_of_a_proxy_in_the_environment is not run",
    "A10: does not say what is missing",
    "A11: `being added` is no word for how far",
    "A12: has 3 cells",
    "A13: src/dev/postgres/keeper.sh is nobody's module",
    "A25: no such row",
    "elsewhere: tests/fault_table.rs has no test the_figure",
];

fn ids() -> BTreeSet<String> {
    SECTIONS
        .iter()
        .flat_map(|(section, rows)| (1..=*rows).map(move |row| format!("{section}{row}")))
        .collect()
}

/// The rows of faults among all tables: id and the cells behind it.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| {
            let (section, row) = cells[0].split_at(cells[0].chars().next().map_or(0, char::len_utf8));
            section.chars().all(|c| c.is_ascii_uppercase()) && row.parse::<u32>().is_ok()
        })
        .map(|cells| (cells[0], cells[1..].to_vec()))
        .collect()
}

/// What stands between backticks and names a test: its file and its name.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(": ")).collect()
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

/// Whether somebody says `mod` of a file, or nobody has to.
fn is_compiled(file: &str) -> bool {
    let Some((folder, name)) = file.rsplit_once('/') else { return false };
    let name = name.trim_end_matches(".rs");
    let above = ["/main.rs", "/lib.rs", "/mod.rs", ".rs"].map(|of| format!("{folder}{of}"));
    let declared = |of: &String| read(of).is_some_and(|text| text.contains(&format!("mod {name};")));
    name == "main" || folder == "tests" || above.iter().any(declared)
}

/// What is wrong with a test's being named: nothing, if its file has it and the usual run runs it.
fn missing(file: &str, name: &str) -> Option<String> {
    let Some(text) = read(file) else { return Some(format!("{file} is not there")) };
    if !is_compiled(file) {
        return Some(format!("{file} is nobody's module"));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let line = line.trim_start_matches("pub ").trim_start_matches("async ");
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let at = lines.iter().position(|line| begins(line));
    let attributes: Vec<&str> = at.map_or(vec![], |at| {
        lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).copied().collect()
    });
    if !attributes.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
        return Some(format!("{file} has no test {name}"));
    }
    attributes.iter().any(|line| line.starts_with("#[ignore")).then(|| format!("{name} is not run"))
}

/// Everything wrong with the rows, in their order; then the rows that are not there.
fn faults(text: &str) -> Vec<String> {
    let (mut wanted, mut found) = (ids(), vec![]);
    let rows = rows(text);
    for (id, cells) in rows.iter().cloned() {
        if !ids().contains(id) {
            found.push(format!("{id}: no such row"));
        } else if !wanted.remove(id) {
            found.push(format!("{id}: there twice"));
        } else {
            found.extend(wrong_in(&cells).into_iter().map(|what| format!("{id}: {what}")));
        }
    }
    let of_rows: BTreeSet<(&str, &str)> =
        rows.iter().flat_map(|(_, cells)| cells.iter().flat_map(|cell| tests(cell))).collect();
    let elsewhere = text.lines().flat_map(tests).filter(|named| !of_rows.contains(named));
    let wrong = elsewhere.filter_map(|(file, name)| missing(file, name));
    found.extend(wrong.map(|what| format!("elsewhere: {what}")));
    found.extend(wanted.iter().map(|id| format!("{id}: is missing")));
    found
}

fn wrong_in(cells: &[&str]) -> Vec<String> {
    let &[_, _, how_far, shown_by] = cells else { return vec![format!("has {} cells", cells.len() + 1)] };
    let (word, reason) = how_far.split_once(": ").unwrap_or((how_far, ""));
    let Some((_, without_test, without_reason)) = HOW_FAR.iter().find(|(known, ..)| *known == word) else {
        return vec![format!("`{word}` is no word for how far")];
    };
    let mut found = vec![];
    if !without_test && tests(shown_by).is_empty() {
        found.push("names no test".to_owned());
    }
    if !without_reason && reason.is_empty() {
        found.push("does not say what is missing".to_owned());
    }
    found.extend(tests(shown_by).into_iter().filter_map(|(file, name)| missing(file, name)));
    found
}

#[test]
fn the_table_is_true() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
    let found = faults(&std::fs::read_to_string(path).unwrap());
    assert!(found.is_empty(), "docs/faults.md:\n{}\n", found.join("\n"));
}

#[test]
fn a_table_that_is_not_true_is_caught() {
    let found = faults(BAD);
    let (rows, missing) = found.split_at(BLAME.len());
    assert_eq!(rows, BLAME);
    assert!(missing.contains(&"A2: is missing".to_owned()) && missing.contains(&"J8: is missing".to_owned()));
    assert_eq!(missing.len(), ids().len() - 12, "rows that are there are not missing");
}
