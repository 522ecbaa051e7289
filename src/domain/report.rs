//! Pike's daily report as we understand it: what Pike says it paid, and what came back, on one day. Reading
//! the file is `pike`'s business, comparing it with our books the store's.

use super::{checking, id::PayoutId};
use time::{Date, Duration, OffsetDateTime, UtcOffset};

/// We learn of a payment a moment after Pike's clock has noted it, or, where clocks differ, before. What our
/// books have from the last minutes of a day is looked for in the reports up to the next one.
const MARGIN: Duration = Duration::minutes(15);

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Money went out.
    Paid,
    /// Money came back.
    Returned,
}

/// A line that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where in the file, counted from 1, the header included.
    pub number: u64,
    pub kind: LineKind,
    pub operation: String,
    pub session: String,
    /// The metadata, decoded if they are a JSON string.
    pub tag: Option<String>,
    pub amount_minor: i64,
    pub currency: &'static str,
    /// By the report's own clock.
    pub finished_on: Date,
}

impl Line {
    /// The payout that its metadata name.
    #[must_use]
    pub fn names(&self) -> Option<PayoutId> {
        self.tag.as_deref().and_then(checking::named)
    }
}

/// A line that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub number: u64,
    pub why: String,
}

/// The day that a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    pub date: Date,
    /// Where its clock stands.
    pub offset: UtcOffset,
}

impl Day {
    /// What our books have learnt from the first instant until before the second must be in this report or in
    /// another one that was read.
    #[must_use]
    pub fn owed(self) -> (OffsetDateTime, OffsetDateTime) {
        let begins = self.date.midnight().assume_offset(self.offset);
        (begins - MARGIN, begins + Duration::DAY - MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime, offset};

    #[test]
    fn days_follow_each_other_without_a_gap() {
        let day = |date| Day { date, offset: offset!(+3) }.owed();
        let (from, to) = day(date!(2025 - 03 - 04));
        assert_eq!(from, datetime!(2025-03-03 20:45 UTC));
        assert_eq!(to, day(date!(2025 - 03 - 05)).0);
    }

    #[test]
    fn a_line_names_the_payout_of_its_metadata() {
        let names = |tag: Option<&str>| {
            let line = Line {
                number: 2,
                kind: LineKind::Paid,
                operation: "po_1".into(),
                session: "ps_1".into(),
                tag: tag.map(str::to_owned),
                amount_minor: 1,
                currency: "RUB",
                finished_on: date!(2025 - 03 - 04),
            };
            line.names()
        };
        let id = "payout_0191d2c47a3b7c5d8e9f0a1b2c3d4e5f";
        assert_eq!(names(Some(&format!("{id}/2"))).map(|id| id.to_string()), Some(id.to_owned()));
        for nobody in [None, Some(id), Some("payout_7/1"), Some("")] {
            assert_eq!(names(nobody), None, "{nobody:?}");
        }
    }
}
