//! Pike's daily report on payouts, as CSV: what succeeded on a day and what was returned on it, row by row
//! out of the archive and the memory. Nothing else is in it, as in Pike's.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

use super::Sandbox;
use super::parameters::{Parameters, Refusal};
use super::pieces;
use super::scalars::At;
use super::scan::{Outline, Scan};
use super::session::{Payout, Session, Stage};
use super::view;

const CSV: &str = "text/csv; charset=utf-8";
/// The documented columns in the documented order; `contract` is another brand's.
const COLUMNS: [&str; 14] = [
    "operationId",
    "transactionDate",
    "finishedAt",
    "typeOfPayment",
    "paymentFast",
    "paymentSessionId",
    "paymentSessionMerchantMetadata",
    "paymentMethodIdentity",
    "product",
    "grossLocalAmount",
    "paymentLocalAmount",
    "feesLocalAmount",
    "currency",
    "receipt",
];
/// What the contract calls a payout.
const PRODUCT: &str = "new_payouts";
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
/// No clock on Earth is further from UTC.
const OFFSET_HOURS: i8 = 14;
const MICROSECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// For a currency that is not in the table.
const USUAL_DECIMALS: u16 = 2;

/// `GET /_sandbox/reports/payouts.csv`
pub async fn page(State(sandbox): State<Arc<Sandbox>>, parameters: Parameters) -> Response {
    let mut daily = match Daily::asked(&sandbox, &parameters) {
        Ok(daily) => daily,
        Err(refusal) => return refusal.into_response(),
    };
    let disposition = daily.disposition();
    let mut response = pieces::send(sandbox, CSV, move |sandbox| daily.next(sandbox)).await;
    if response.status().is_success() {
        response.headers_mut().extend(disposition.map(|value| (CONTENT_DISPOSITION, value)));
    }
    response
}

/// A report in the making.
struct Daily {
    project: String,
    date: Date,
    offset: UtcOffset,
    delimiter: u8,
    /// The first instant of the day.
    from: At,
    scan: Scan,
    begun: bool,
}

impl Daily {
    fn asked(sandbox: &Sandbox, parameters: &Parameters) -> Result<Self, Refusal> {
        let known = |project: &str| sandbox.partners.contains_key(project).then(|| project.to_owned());
        let allowed = "the id of a project of this sandbox";
        let project = parameters.read("project", allowed, known)?;
        let project = project.ok_or_else(|| Refusal::of("project", allowed))?;
        let allowed = "a day as YYYY-MM-DD";
        let date = parameters.read("date", allowed, |text| Date::parse(text, DAY).ok())?;
        let date = date.ok_or_else(|| Refusal::of("date", allowed))?;
        let allowed = "a distance from UTC as +HH:MM or -HH:MM, at most 14:00";
        let offset = parameters.read("offset", allowed, offset)?.unwrap_or(UtcOffset::UTC);
        let allowed = "one of `,`, `;`, `|` and a tab";
        let delimiter = parameters.read("delimiter", allowed, delimiter)?.unwrap_or(b',');
        Ok(Self {
            from: At::from(date.midnight().assume_offset(offset)),
            scan: Scan::new(Some(&project), None),
            project,
            date,
            offset,
            delimiter,
            begun: false,
        })
    }

    /// With the documented name of the file, as far as a header can carry it.
    fn disposition(&self) -> Option<HeaderValue> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
        let project: String = self.project.chars().map(plain).collect();
        let day = self.date.format(DAY).ok()?;
        HeaderValue::try_from(format!("attachment; filename=\"{project}_{day}_{day}.csv\"")).ok()
    }

    fn next(&mut self, sandbox: &Sandbox) -> io::Result<Option<Vec<u8>>> {
        let Some(outlines) = self.scan.next(sandbox)? else { return Ok(None) };
        let mut rows = csv::WriterBuilder::new().delimiter(self.delimiter).from_writer(Vec::new());
        if !self.begun {
            rows.write_record(COLUMNS)?;
            self.begun = true;
        }
        for Outline { session, .. } in &outlines {
            for payout in &session.payouts {
                let Stage::Paid { at, returned } = payout.stage else { continue };
                if self.is_today(at) {
                    rows.write_record(self.advice(session, payout, at))?;
                }
                if let Some(at) = returned.filter(|at| self.is_today(*at)) {
                    rows.write_record(self.refund(session, payout, at))?;
                }
            }
        }
        rows.into_inner().map(Some).map_err(csv::IntoInnerError::into_error)
    }

    fn is_today(&self, at: At) -> bool {
        at >= self.from && at.0.saturating_sub(self.from.0) < MICROSECONDS_PER_DAY
    }

    fn advice(&self, session: &Session, payout: &Payout, at: At) -> [String; 14] {
        let [begun, finished] = [payout.created_at, at].map(|at| self.shown(at));
        let fee = view::fee(&payout.amount);
        row(session, payout, fee, [payout.id.to_string(), begun, finished, "Advice".to_owned()])
    }

    /// The returned amount; the fee stays with Pike.
    fn refund(&self, session: &Session, payout: &Payout, at: At) -> [String; 14] {
        let [begun, finished] = [at, at].map(|at| self.shown(at));
        row(session, payout, 0, [payout.id.refund_id(), begun, finished, "Refund".to_owned()])
    }

    fn shown(&self, at: At) -> String {
        let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000).ok();
        let instant = instant.and_then(|instant| instant.checked_to_offset(self.offset));
        instant.and_then(|instant| instant.format(TIME).ok()).unwrap_or_default()
    }
}

/// `first` holds the first four columns.
fn row(session: &Session, payout: &Payout, fee: i64, first: [String; 4]) -> [String; 14] {
    let [operation, begun, finished, kind] = first;
    let currency = payout.amount.currency.upper();
    let decimals = match iso_currency::Currency::from_code(&currency) {
        Some(known) => known.exponent().unwrap_or(0),
        None => USUAL_DECIMALS,
    };
    let minor = payout.amount.minor;
    let card = &payout.destination.card;
    [
        operation,
        begun,
        finished,
        kind,
        "0".to_owned(),
        session.id.to_string(),
        payout.metadata.as_ref().map_or_else(String::new, |metadata| metadata.get().to_owned()),
        format!("{}******{}", card.bin, card.last4),
        PRODUCT.to_owned(),
        major(i128::from(minor) + i128::from(fee), decimals),
        major(i128::from(minor), decimals),
        major(i128::from(fee), decimals),
        currency,
        String::new(),
    ]
}

/// A plus sign in a query stands for a space, unless the caller knows.
fn offset(text: &str) -> Option<UtcOffset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+" | " ", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, largest: i8| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i8>().ok().filter(|n| digits && *n <= largest)
    };
    let (hours, minutes) = (number(hours, OFFSET_HOURS)?, number(minutes, 59)?);
    if hours == OFFSET_HOURS && minutes > 0 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [one @ (b',' | b';' | b'|' | b'\t')] => Some(*one),
        _ => None,
    }
}

/// Minor units as a decimal of major ones.
fn major(minor: i128, decimals: u16) -> String {
    let Some(unit) = 10_i128.checked_pow(u32::from(decimals)).filter(|unit| *unit > 1) else {
        return minor.to_string();
    };
    let (whole, part) = (minor / unit, minor % unit);
    format!("{whole}.{part:0width$}", width = usize::from(decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_follow_the_currency() {
        for (minor, decimals, shown) in
            [(125_050, 2, "1250.50"), (7, 2, "0.07"), (110, 0, "110"), (1_250, 3, "1.250"), (5, 4, "0.0005")]
        {
            assert_eq!(major(minor, decimals), shown);
        }
    }

    #[test]
    fn offsets_and_delimiters() {
        assert_eq!(offset("+03:00"), offset(" 03:00"));
        assert_eq!(offset("-05:30"), UtcOffset::from_hms(-5, -30, 0).ok());
        assert!(offset("+14:00").is_some());
        for bad in ["", "03:00", "+3:00", "+03", "+14:01", "+15:00", "+03:60", "+-3:00", "é3:00", "Z"] {
            assert_eq!(offset(bad), None, "{bad}");
        }
        assert_eq!((delimiter(";"), delimiter("\t")), (Some(b';'), Some(b'\t')));
        assert!(delimiter(",,").is_none() && delimiter("a").is_none() && delimiter("\"").is_none());
    }
}
