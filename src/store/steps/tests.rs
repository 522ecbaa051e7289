//! The text of the statement, for each choice of parts.

use super::{parts::*, text::*, *};

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
