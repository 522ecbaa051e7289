//! What may be known of a card: read from card data that a caller states, and shown in every project as a
//! card of that project. The number itself lives no longer than the call that brings it.

use std::fmt;

use serde::Deserialize;

use super::super::code::Code;
use super::super::magic::{self, HOME_COUNTRY, Magic};
use super::super::scalars::At;
use super::super::session::Card;
use super::numbers::{self, FOREIGN_COUNTRY};
use super::seal::Seal;

/// Card data as stated. No `Debug`, so that it gets into no log; the security code and the name are not even
/// read.
#[derive(Deserialize)]
pub struct CardData {
    number: String,
    expiration_month: Option<String>,
    expiration_year: Option<String>,
}

/// The last month of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    year: i32,
    month: u8,
}

impl Expiry {
    /// Reads `"3"` or `"03"`, and `"29"` or `"2029"`.
    fn parse(month: &str, year: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let century = match year.len() {
            2 => 2000,
            4 => 0,
            _ => return None,
        };
        let is_plain = digits(month) && digits(year) && month.len() <= 2;
        let (month, year): (u8, i32) = (month.parse().ok()?, year.parse().ok()?);
        (is_plain && (1..=12).contains(&month)).then_some(Self { year: century + year, month })
    }

    /// Whether the month is over, in UTC.
    fn is_past(self, now: At) -> bool {
        let today = now.utc();
        self < Self { year: today.year(), month: today.month().into() }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A keyed digest of number and expiry: the same for the same card, whichever way it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub [u8; 7]);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A card without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// The story of its number.
    pub magic: Magic,
    pub bin: u32,
    pub last4: u16,
    /// Three upper-case letters.
    pub country: [u8; 3],
    pub identity: Identity,
}

impl Face {
    /// Reads card data.
    ///
    /// # Errors
    /// `invalid_request` for what cannot be card data: a number that is not 14 to 19 digits, or an expiry
    /// that is no month of a year. A number that is merely wrong, or a card that has expired, is a story.
    pub fn of(data: &CardData, seal: &Seal, now: At) -> Result<Self, Code> {
        let expiry = match (&data.expiration_month, &data.expiration_year) {
            (None, None) => None,
            (Some(month), Some(year)) => Some(Expiry::parse(month, year).ok_or(Code::InvalidRequest)?),
            (Some(_), None) | (None, Some(_)) => return Err(Code::InvalidRequest),
        };
        let number = data.number.as_str();
        if !(14..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Code::InvalidRequest);
        }
        let story = numbers::story(number);
        let expired = expiry.is_some_and(|expiry| expiry.is_past(now)) && story != Magic::NoSuchCard;
        let country = if story == Magic::Country { FOREIGN_COUNTRY } else { HOME_COUNTRY };
        Ok(Self {
            magic: if expired { Magic::Expired } else { story },
            bin: number[..6].parse().map_err(|_| Code::InvalidRequest)?,
            last4: number[number.len() - 4..].parse().map_err(|_| Code::InvalidRequest)?,
            country: country.as_bytes().try_into().map_err(|_| Code::InternalError)?,
            identity: seal.identity(number, expiry),
        })
    }

    /// The card as a project sees it.
    #[must_use]
    pub fn card(&self, project: &str) -> Card {
        Card {
            brand: self.brand().into(),
            bin: format!("{:06}", self.bin).into(),
            last4: self.last4().into(),
            card_id: magic::card_id(project, &self.identity.to_string()),
            country_iso3: String::from_utf8_lossy(&self.country).into(),
        }
    }

    #[must_use]
    pub fn last4(&self) -> String {
        format!("{:04}", self.last4)
    }

    #[must_use]
    pub fn brand(&self) -> &'static str {
        match self.bin {
            220_000..=220_499 => "mir",
            200_000..=299_999 | 500_000..=599_999 => "mastercard",
            300_000..=399_999 => "amex",
            _ => "visa",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::Settings;
    use super::*;

    /// 15 March 2027.
    const NOW: At = At(1_805_068_800_000_000);

    fn face(number: &str, month: Option<&str>, year: Option<&str>) -> Result<Face, Code> {
        let data = CardData {
            number: number.to_owned(),
            expiration_month: month.map(str::to_owned),
            expiration_year: year.map(str::to_owned),
        };
        Face::of(&data, &Seal::of(&Settings::new(Vec::new(), "key".to_owned())), NOW)
    }

    #[test]
    fn a_number_shows_its_brand_and_its_ends() {
        for (number, brand, bin, last4) in [
            ("4242424242424242", "visa", "424242", "4242"),
            ("5555555555554444", "mastercard", "555555", "4444"),
            ("2200000000000004", "mir", "220000", "0004"),
            ("2221000000000009", "mastercard", "222100", "0009"),
            ("378282246310005", "amex", "378282", "0005"),
            ("00000000000000", "visa", "000000", "0000"),
        ] {
            let card = face(number, None, None).unwrap().card("p");
            assert_eq!((&*card.brand, &*card.bin, &*card.last4), (brand, bin, last4));
            assert_eq!(&*card.country_iso3, HOME_COUNTRY);
        }
        for number in ["4242", "4242-4242-4242-42", "42424242424242424242", "", "４２４２４"] {
            assert_eq!(face(number, None, None), Err(Code::InvalidRequest), "{number}");
        }
    }

    #[test]
    fn an_expiry_is_a_month_that_may_be_over() {
        let story = |month, year| face("4242424242424242", Some(month), Some(year)).map(|face| face.magic);
        for (month, year) in [("3", "27"), ("03", "2027"), ("12", "2027"), ("1", "28")] {
            assert_eq!(story(month, year), Ok(Magic::Success), "{month}/{year}");
        }
        for (month, year) in [("2", "27"), ("02", "2027"), ("12", "26"), ("12", "1999")] {
            assert_eq!(story(month, year), Ok(Magic::Expired), "{month}/{year}");
        }
        for (month, year) in [("13", "27"), ("0", "27"), ("", "27"), ("3", ""), ("3", "027"), ("+3", "27")] {
            assert_eq!(story(month, year), Err(Code::InvalidRequest), "{month}/{year}");
        }
        assert_eq!(face("4242424242424242", Some("3"), None), Err(Code::InvalidRequest));
        assert_eq!(face("4242424242424241", Some("1"), Some("20")).unwrap().magic, Magic::NoSuchCard);
    }

    #[test]
    fn an_identity_is_the_number_with_its_expiry_however_written() {
        let identity = |number, month, year| face(number, month, year).unwrap().identity;
        let known = identity("4242424242424242", Some("3"), Some("29"));
        assert_eq!(known, identity("4242424242424242", Some("03"), Some("2029")));
        assert_ne!(known, identity("4242424242424242", Some("04"), Some("2029")));
        assert_ne!(known, identity("4242424242424242", None, None));
        assert_ne!(known, identity("4111111111111111", Some("3"), Some("29")));
    }
}
