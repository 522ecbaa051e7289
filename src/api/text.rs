//! What callers' texts may look like, one rule per kind of text. Every rule refuses control characters and
//! card numbers; no refusal repeats the text.

use super::{
    codes::Code,
    pan,
    problem::{FieldError, shown},
};

/// A kind of text. Lengths are in characters.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub shortest: usize,
    pub longest: usize,
    pub alphabet: Alphabet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Anything but control characters, and not only white space.
    Printable,
    /// ASCII that leaves a mark on paper: no spaces.
    Visible,
    /// What tokens, hashes and base64 are made of.
    Token,
    /// Letters, digits, `_`, `-` and `.`.
    Name,
}

/// Names of people: the longest that card networks and banks carry.
pub const RECIPIENT_NAME: Rule = Rule { shortest: 1, longest: 140, alphabet: Alphabet::Printable };
/// References travel in URLs, files and bank statements, and are index keys.
pub const REFERENCE: Rule = Rule { shortest: 1, longest: 64, alphabet: Alphabet::Visible };
/// Pike's tokens and hashes have 64 characters; room for another format of theirs, not for a document.
pub const TOKEN: Rule = Rule { shortest: 1, longest: 512, alphabet: Alphabet::Token };
/// A key is an identifier, not a text.
pub const METADATA_KEY: Rule = Rule { shortest: 1, longest: 40, alphabet: Alphabet::Name };
/// A sentence or a URL. May be empty: the key alone can be the message.
pub const METADATA_VALUE: Rule = Rule { shortest: 0, longest: 500, alphabet: Alphabet::Printable };
/// A UUID or a hash with a prefix; it is an index key.
pub const IDEMPOTENCY_KEY: Rule = Rule { shortest: 1, longest: 128, alphabet: Alphabet::Visible };
/// Why somebody threw a switch: a sentence or two for whoever reads it at night.
pub const REASON: Rule = Rule { shortest: 1, longest: 200, alphabet: Alphabet::Printable };
/// Metadata are for finding a payout again, not for storing an order.
pub const METADATA_ENTRIES: usize = 20;

impl Rule {
    /// What is wrong with `text`, if anything. Card numbers come first: they matter most.
    #[must_use]
    pub fn check(&self, field: &str, text: &str) -> Option<FieldError> {
        if pan::contains_card_number(text) {
            return Some(raw_card(field));
        }
        let length = text.chars().count();
        if length < self.shortest {
            return Some(FieldError::new(field, Code::InvalidLength, "It must not be empty."));
        }
        if length > self.longest {
            let detail = format!("It has more than {} characters.", self.longest);
            return Some(FieldError::new(field, Code::InvalidLength, detail).limit(shown(self.longest)));
        }
        let only_blanks = !text.is_empty() && text.chars().all(char::is_whitespace);
        if only_blanks || !text.chars().all(|c| self.alphabet.has(c)) {
            return Some(FieldError::new(field, Code::InvalidText, self.alphabet.described()));
        }
        None
    }
}

impl Alphabet {
    fn has(self, c: char) -> bool {
        match self {
            Self::Printable => !c.is_control(),
            Self::Visible => c.is_ascii_graphic(),
            Self::Token => c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | '+' | '/' | '='),
            Self::Name => c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Printable => "It must be printable text: no control characters, not only white space.",
            Self::Visible => "It must be visible ASCII characters without spaces.",
            Self::Token => "It must be made of A-Z, a-z, 0-9 and . _ : - + / =",
            Self::Name => "It must be made of A-Z, a-z, 0-9 and . _ -",
        }
    }
}

/// A card number where none may be.
#[must_use]
pub fn raw_card(field: &str) -> FieldError {
    FieldError::new(
        field,
        Code::RawCardRefused,
        "Card numbers are not accepted here, and nothing of this one was kept. Turn the number into a token \
         or a hash with Pike's tokenisation and send it as `tokenized_card` or `encrypted_card`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, Rule); 7] = [
        ("recipient name", RECIPIENT_NAME),
        ("reference", REFERENCE),
        ("token", TOKEN),
        ("metadata key", METADATA_KEY),
        ("metadata value", METADATA_VALUE),
        ("idempotency key", IDEMPOTENCY_KEY),
        ("reason", REASON),
    ];

    #[test]
    fn every_limit_is_reached() {
        for (name, rule) in ALL {
            assert_eq!(rule.check("f", &"x".repeat(rule.longest)), None, "{name}");
            let over = rule.check("f", &"x".repeat(rule.longest + 1)).unwrap();
            assert_eq!((over.code, over.limit), (Code::InvalidLength, Some(shown(rule.longest))), "{name}");
            let empty = rule.check("f", "");
            assert_eq!(empty.is_some(), rule.shortest > 0, "{name}");
        }
        assert_eq!(RECIPIENT_NAME.check("f", &"я".repeat(140)), None, "characters, not bytes");
    }

    #[test]
    fn control_characters_are_refused_everywhere() {
        for (name, rule) in ALL {
            for bad in ["a\0b", "a\nb", "a\tb", "a\u{7f}b", "a\u{85}b"] {
                assert_eq!(rule.check("f", bad).map(|e| e.code), Some(Code::InvalidText), "{name} {bad:?}");
            }
        }
    }

    #[test]
    fn card_numbers_are_refused_everywhere_and_never_repeated() {
        for (name, rule) in ALL {
            let error = rule.check("f", "x.4111111111111111").unwrap();
            assert_eq!(error.code, Code::RawCardRefused, "{name}");
            assert!(!format!("{error:?}").contains("4111"), "{name}");
        }
    }

    #[test]
    fn alphabets_hold() {
        for (rule, good, bad) in [
            (RECIPIENT_NAME, "Zoë O’Neil-Müller", "   "),
            (REFERENCE, "wd-2025/000417#1", "two words"),
            (REFERENCE, "a", "ü"),
            (TOKEN, "9f0c:ab_c-d.e+/=", "tok en"),
            (METADATA_KEY, "order.id", "order id"),
            (IDEMPOTENCY_KEY, "0191d2c4-7a3b-7c5d-8e9f-0a1b2c3d4e5f", "a b"),
        ] {
            assert_eq!(rule.check("f", good), None, "{good}");
            assert_eq!(rule.check("f", bad).map(|e| e.code), Some(Code::InvalidText), "{bad}");
        }
    }
}
