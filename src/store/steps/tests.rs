//! The text of the statement, for each choice of parts.

use super::{parts::*, text::*, *};
use crate::store::pool::MIGRATIONS;

/// Every choice of parts has its own text, with its parameters and no other.
#[test]
fn parameters_are_numbered_through() {
    for mask in 1..1_usize << PARTS {
        let mut parts = parts(&Steps::default(), None);
        for (at, (_, has_rows)) in parts.iter_mut().enumerate() {
            *has_rows = mask & (1 << at) != 0;
        }
        let text = statement(&parts);
        let parameters: usize =
            parts.iter().filter(|(_, has_rows)| *has_rows).map(|(part, _)| part.parameters).sum();
        let mut found: Vec<usize> = (text.split('$').skip(1))
            .map(|piece| piece.chars().take_while(char::is_ascii_digit).collect::<String>())
            .map(|number| number.parse().unwrap())
            .collect();
        found.sort_unstable();
        // Counted, too.
        found.dedup();
        assert_eq!(found, (1..=parameters).collect::<Vec<_>>(), "{mask:b}");
    }
}

/// Most columns of a row are texts: two of them in each other's place would be written so.
#[test]
fn rows_have_the_columns_of_their_composites() {
    let rows = [
        Moved::COMPOSITE,
        Claim::COMPOSITE,
        Kept::COMPOSITE,
        Told::COMPOSITE,
        Permitted::COMPOSITE,
        Judged::COMPOSITE,
        Noted::COMPOSITE,
        Voided::COMPOSITE,
        Wanted::COMPOSITE,
        Ordered::COMPOSITE,
        Ended::COMPOSITE,
    ];
    let migrations: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.sql.as_str()).collect();
    let migrations = migrations.join("\n");
    assert!(!migrations.contains("ALTER TYPE"), "the release before writes with it still");
    for (composite, columns) in rows {
        let begin = format!("CREATE TYPE {composite} AS (");
        let (_, rest) = migrations.split_once(&begin).unwrap_or_else(|| panic!("no {composite}"));
        let (definition, _) = rest.split_once(");").unwrap();
        let found: Vec<&str> = definition.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(found, columns, "{composite}");
    }
}
