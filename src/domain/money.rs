//! Money: a positive number of minor units with its ISO 4217 currency. Never a float.

use std::{fmt, str::FromStr};

/// The largest amount one payout may carry, in minor units. Far above any card payout; a number beyond it
/// is a mistake in the caller's arithmetic.
pub const MAX_MINOR: i64 = 1_000_000_000_000;

/// An ISO 4217 currency that has minor units (metals, test codes and funds codes are not money to pay out).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The upper-case three-letter code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimals its major unit has.
    #[must_use]
    pub fn decimals(self) -> u16 {
        self.0.exponent().expect("a currency has minor units: `from_str`")
    }
}

impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Currency {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code().cmp(other.code())
    }
}

/// The text is not a currency that can be paid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code with minor units")]
pub struct UnknownCurrency;

impl FromStr for Currency {
    type Err = UnknownCurrency;

    /// Case does not matter: Pike itself writes both `rub` and `RUB`.
    fn from_str(code: &str) -> Result<Self, UnknownCurrency> {
        let found = iso_currency::Currency::from_code(&code.to_ascii_uppercase()).ok_or(UnknownCurrency)?;
        found.exponent().ok_or(UnknownCurrency)?;
        Ok(Self(found))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount to pay: 1 to [`MAX_MINOR`] minor units of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// The number of minor units is outside 1..=[`MAX_MINOR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount must be between 1 and {MAX_MINOR} minor units")]
pub struct AmountOutOfRange;

impl Money {
    /// # Errors
    /// [`AmountOutOfRange`] for anything that is not 1..=[`MAX_MINOR`].
    pub fn new(minor: i64, currency: Currency) -> Result<Self, AmountOutOfRange> {
        if (1..=MAX_MINOR).contains(&minor) { Ok(Self { minor, currency }) } else { Err(AmountOutOfRange) }
    }

    /// Minor units (cents, kopecks).
    #[must_use]
    pub fn minor(self) -> i64 {
        self.minor
    }

    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_stop_at_their_limits() {
        let rub = "rub".parse().unwrap();
        for bad in [0, -1, MAX_MINOR + 1, i64::MIN, i64::MAX] {
            assert_eq!(Money::new(bad, rub), Err(AmountOutOfRange));
        }
        assert!(Money::new(1, rub).is_ok() && Money::new(MAX_MINOR, rub).is_ok());
    }

    #[test]
    fn currencies_are_iso_4217_in_any_case() {
        assert_eq!("eUr".parse::<Currency>().unwrap().code(), "EUR");
        let (eur, rub): (Currency, Currency) = ("eur".parse().unwrap(), "rub".parse().unwrap());
        assert!(eur.partial_cmp(&rub).is_some_and(std::cmp::Ordering::is_lt) && eur.to_string() == "EUR");
        let decimals = ["RUB", "JPY", "BHD"].map(|code| code.parse::<Currency>().unwrap().decimals());
        assert_eq!(decimals, [2, 0, 3]);
        for bad in ["", "EU", "EURO", "ZZZ", "XAU", "XXX", "€"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad}");
        }
    }
}
