//! The magic card numbers: one for each row of `magic`, for callers who pay out to numbers or type them into
//! the widget. Ours, not Pike's. They are made from the row's own number, so that a new row has one at once.

use super::super::magic::{Magic, TABLE};

/// The numbers known everywhere as the good Visa and the good Mastercard.
const GOOD_VISA: &str = "4242424242424242";
const GOOD_MASTERCARD: &str = "5555555555554444";
/// All others: this, the row's three digits, the check digit.
const OURS: &str = "400000000000";
/// The country of the number of `tok_country_`; all others are cards of the home country.
pub const FOREIGN_COUNTRY: &str = "GEO";

/// A magic card: the prefix of its row, the story, the row's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MagicCard {
    pub prefix: &'static str,
    pub magic: Magic,
    pub row: u16,
}

impl MagicCard {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(prefix, magic, row)| Self { prefix, magic, row })
    }

    /// The number that tells this story.
    #[must_use]
    pub fn number(self) -> String {
        if self.magic == Magic::Success {
            return GOOD_VISA.to_owned();
        }
        if self.magic == Magic::Mastercard {
            return GOOD_MASTERCARD.to_owned();
        }
        let digits = format!("{OURS}{:03}", self.row);
        let check = (b'0'..=b'9').find(|check| luhn(&format!("{digits}{}", char::from(*check))));
        format!("{digits}{}", char::from(check.expect("one of ten digits fits")))
    }
}

/// The story of a card number: a number that cannot be one has its own, any other without one is good.
#[must_use]
pub fn story(number: &str) -> Magic {
    if !luhn(number) {
        return Magic::NoSuchCard;
    }
    let row = number.strip_prefix(OURS).and_then(|rest| rest.get(..3)?.parse().ok());
    match row.and_then(by_row).filter(|card| card.number() == number) {
        Some(card) => card.magic,
        None if number == GOOD_MASTERCARD => Magic::Mastercard,
        None => Magic::Success,
    }
}

/// The row with this number of its own.
#[must_use]
pub fn by_row(row: u16) -> Option<MagicCard> {
    MagicCard::all().find(|card| card.row == row)
}

/// The own number of a story's row; that of the good card for a story without a row.
#[must_use]
pub fn row_of(magic: Magic) -> u16 {
    let row = |magic| MagicCard::all().find(|card| card.magic == magic).map(|card| card.row);
    row(magic).or_else(|| row(Magic::Success)).unwrap_or(0)
}

/// Whether the check digit of a number fits (ISO/IEC 7812).
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .map(|digit| u32::from(digit.wrapping_sub(b'0')))
        .enumerate()
        .map(|(place, digit)| match (place % 2 == 1, digit) {
            (true, 5..) => 2 * digit - 9,
            (true, _) => 2 * digit,
            (false, _) => digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_number_of_its_own_and_the_number_has_the_story() {
        let numbers: BTreeSet<String> = MagicCard::all().map(MagicCard::number).collect();
        let rows: BTreeSet<u16> = MagicCard::all().map(|card| card.row).collect();
        assert_eq!((numbers.len(), rows.len()), (TABLE.len(), TABLE.len()));
        for card in MagicCard::all() {
            let number = card.number();
            assert!(number.len() == 16 && luhn(&number), "{number}");
            assert_eq!(story(&number), card.magic, "{number}");
            assert_eq!(by_row(row_of(card.magic)).map(|card| card.magic), Some(card.magic));
        }
    }

    #[test]
    fn other_numbers_are_good_when_they_can_be_card_numbers_at_all() {
        for number in ["4111111111111111", "4242424242424242", "5105105105105100", "2200000000000004"] {
            assert_eq!(story(number), Magic::Success, "{number}");
        }
        for number in ["4242424242424241", "4242424242422442", "40000000000010410", "1234567890123456"] {
            assert_eq!(story(number), Magic::NoSuchCard, "{number}");
        }
        assert_eq!(story("5555555555554444"), Magic::Mastercard);
    }

    /// The numbers are made, not written down; so the page that lists them is checked instead.
    #[test]
    fn the_documentation_lists_them_all() {
        let page = include_str!("../../../docs/sandbox.md");
        for card in MagicCard::all() {
            assert!(page.contains(&card.number()), "`{}` has {}", card.prefix, card.number());
        }
    }
}
