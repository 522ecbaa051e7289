//! Finds card numbers in text that must not have any. It looks for what people paste: 13 to 19 digits,
//! grouped or not, that begin like a card of a known brand and satisfy Luhn. Machine-made identifiers (UUIDs,
//! hexadecimal hashes) contain such runs by chance and are let through, or one request in a thousand would
//! fail for nothing.

use uuid::Uuid;

/// Digits in a card number.
const FEWEST_DIGITS: usize = 13;
const MOST_DIGITS: usize = 19;
/// Between two groups of digits: `4111 1111`, `4111-1111`, `4111 - 1111`.
const MOST_SEPARATORS: usize = 3;
/// Characters of a UUID with its hyphens.
const UUID_CHARS: usize = 36;

/// Whether `text` has a card number in it.
#[must_use]
pub fn contains_card_number(text: &str) -> bool {
    let chars: Vec<char> = without_uuids(text).chars().collect();
    let groups = groups(&chars);
    (0..groups.len()).any(|first| begins_card_number(&groups[first..]))
}

/// Digits that stand together, and what separates them from the group before.
struct Group {
    digits: Vec<u32>,
    /// Nothing but a few separators since the group before.
    joined: bool,
}

fn without_uuids(text: &str) -> String {
    let is_uuid = |at: usize| {
        text.get(at..at + UUID_CHARS)
            .is_some_and(|part| part.as_bytes()[8] == b'-' && Uuid::try_parse(part).is_ok())
    };
    let mut rest = String::with_capacity(text.len());
    let mut skip_to = 0;
    for (at, char) in text.char_indices() {
        if at >= skip_to {
            if is_uuid(at) {
                skip_to = at + UUID_CHARS;
                rest.push('|');
            } else {
                rest.push(char);
            }
        }
    }
    rest
}

fn groups(chars: &[char]) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    let mut last_end = None;
    let mut at = 0;
    while at < chars.len() {
        let word = run(chars, at, char::is_ascii_alphanumeric);
        if word.is_empty() || piece_of_a_hash(word) {
            at += word.len().max(1);
            continue;
        }
        let end = at + word.len();
        while at < end {
            let digits = run(&chars[..end], at, char::is_ascii_digit);
            if !digits.is_empty() {
                let joined = last_end.is_some_and(|last: usize| is_separator(&chars[last..at]));
                last_end = Some(at + digits.len());
                groups.push(Group { digits: digits.iter().filter_map(|c| c.to_digit(10)).collect(), joined });
            }
            at += digits.len().max(1);
        }
    }
    groups
}

/// The longest run of such characters from `at` on.
fn run(chars: &[char], at: usize, is: fn(&char) -> bool) -> &[char] {
    let length = chars[at..].iter().take_while(|c| is(c)).count();
    &chars[at..at + length]
}

/// Hexadecimal digits with letters among them.
fn piece_of_a_hash(word: &[char]) -> bool {
    word.iter().all(char::is_ascii_hexdigit) && !word.iter().all(char::is_ascii_digit)
}

fn is_separator(between: &[char]) -> bool {
    // The last three are what word processors make of a space and a hyphen.
    let one = |c: &char| matches!(c, ' ' | '-' | '.' | '_' | '\t' | '\u{a0}' | '\u{2011}' | '\u{2013}');
    between.len() <= MOST_SEPARATORS && between.iter().all(one)
}

/// The first of these groups, alone or with those joined to it, is a card number.
fn begins_card_number(groups: &[Group]) -> bool {
    let mut digits: Vec<u32> = vec![];
    for (index, group) in groups.iter().enumerate() {
        if index > 0 && !group.joined {
            return false;
        }
        digits.extend(&group.digits);
        if digits.len() > MOST_DIGITS {
            return false;
        }
        if digits.len() >= FEWEST_DIGITS && of_a_brand(&digits) && luhn(&digits) {
            return true;
        }
    }
    false
}

fn of_a_brand(digits: &[u32]) -> bool {
    let [a, b, c, d, ..] = *digits else { return false };
    let first_four = a * 1000 + b * 100 + c * 10 + d;
    let begins =
        |ranges: &[std::ops::RangeInclusive<u32>]| ranges.iter().any(|range| range.contains(&first_four));
    match digits.len() {
        // Visa, Mastercard, Mir, Maestro, UnionPay, JCB, Discover.
        16 | 19
            if begins(&[5100..=5599, 2200..=2204, 2221..=2720, 5000..=5099, 5600..=5899, 6200..=6299]) =>
        {
            true
        }
        16 if begins(&[3528..=3589, 6011..=6011, 6440..=6599, 6304..=6304, 6759..=6763]) => true,
        // American Express.
        15 if begins(&[3400..=3499, 3700..=3799]) => true,
        _ => a == 4,
    }
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "4111 - 1111 - 1111 - 1111",
            "5555555555554444",
            "2223003122003222",
            "6011111111111117",
            "378282246310005",
            "2200000000000004",
            "6200000000000005",
            "3530111333300000",
            "4222222222222",
            "4000000000000000006",
            "order 12 4111 1111 1111 1111",
            "card 4111111111111111, thank you",
            "tok_4111111111111111",
            "card4111111111111111",
            "pay to 4111111111111111 12/29",
            "Анна 4111111111111111",
            "0191d2c4-7a3b-7c5d-8e9f-0a1b2c3d4e5f 4111111111111111",
        ] {
            assert!(contains_card_number(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "",
            "Anna Petrova",
            "4111111111111112",
            "41111111111111111111",
            "411111111111",
            "9011111111111113",
            "1718000000000",
            "+44 20 7946 0958",
            "2025-01-01T00:00:00Z",
            "4111 1111, 1111 1111",
            "4111    1111    1111    1111",
            "41111111-1111-1111-8111-11111111111a",
            "order-41111111-1111-1111-a111-111111111111",
            "a4111111111111111",
            "3c6c4111111111111111ab",
            "payout_0191d2c47a3b7c5d8e9f0a1b2c3d4e5f",
        ] {
            assert!(!contains_card_number(text), "{text}");
        }
    }

    #[test]
    fn the_limits_of_length_are_exact() {
        let padded = |length: usize| {
            let mut digits = vec![4];
            digits.resize(length, 0);
            // The check digit that makes it valid.
            let last = (0..10).find(|last| {
                digits[length - 1] = *last;
                luhn(&digits)
            });
            assert!(last.is_some());
            digits.iter().map(u32::to_string).collect::<String>()
        };
        for (length, found) in [(12, false), (13, true), (19, true), (20, false)] {
            assert_eq!(contains_card_number(&padded(length)), found, "{length}");
        }
    }

    #[test]
    fn long_texts_take_no_longer_than_reading_them() {
        // Quadratic work on either would take minutes.
        assert!(!contains_card_number(&"1a".repeat(1 << 20)));
        assert!(!contains_card_number(&"1 ".repeat(1 << 20)));
    }

    proptest::proptest! {
        #[test]
        fn hashes_are_never_taken_for_cards(bytes in proptest::array::uniform32(0_u8..)) {
            let hash = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let all_digits = hash.bytes().all(|b| b.is_ascii_digit());
            proptest::prop_assert!(all_digits || !contains_card_number(&hash));
        }

        #[test]
        fn any_text_is_digested(text in ".*") {
            let _ = contains_card_number(&text);
        }
    }
}
