//! Pike's daily report as a file: CSV whose columns go by their names, since their order, and what else there
//! is, differ by edition. What cannot be read is handed on with its number; nothing is left out. Compares
//! nothing.

use crate::domain::{
    money::Currency,
    report::{Line, LineKind, Unreadable},
};
use std::str::FromStr;
use time::{Date, format_description::BorrowedFormatItem, macros::format_description};

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// None is stated, and these are what such files have.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Longer than any identifier or metadata of Pike's that we have seen.
const LONGEST_FIELD: usize = 1_000;

/// The columns that are read, in the order of [`Columns`].
const COLUMNS: [&str; 7] = [
    "operationId",
    "finishedAt",
    "typeOfPayment",
    "paymentSessionId",
    "paymentSessionMerchantMetadata",
    "paymentLocalAmount",
    "currency",
];

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DailyReport {
    pub lines: Vec<Line>,
    pub unreadable: Vec<Unreadable>,
}

/// The file as a whole cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its first line does not name the columns {0}")]
pub struct NoHeader(String);

/// Reads a report. A file without a line is a day without payouts.
///
/// # Errors
/// [`NoHeader`] if the first line does not name the columns.
pub fn read_report(file: &[u8]) -> Result<DailyReport, NoHeader> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    // Line by line, so that a quote that is never closed costs its own line alone.
    let mut lines =
        (1..).zip(file.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut report = DailyReport::default();
    let Some((_, header)) = lines.next() else { return Ok(report) };
    let columns = Columns::of(header)?;
    for (number, line) in lines {
        match columns.read(number, line) {
            Ok(line) => report.lines.push(line),
            Err(why) => report.unreadable.push(Unreadable { number, why }),
        }
    }
    Ok(report)
}

/// Where the columns are.
struct Columns {
    delimiter: u8,
    width: usize,
    at: [usize; 7],
}

impl Columns {
    fn of(header: &[u8]) -> Result<Self, NoHeader> {
        let found = DELIMITERS.into_iter().find_map(|delimiter| {
            let names = fields(header, delimiter)?;
            let plain = |name: &str| name.replace(' ', "").to_ascii_lowercase();
            let names: Vec<String> = names.iter().map(|name| plain(&String::from_utf8_lossy(name))).collect();
            let mut at = [0; 7];
            for (place, column) in at.iter_mut().zip(COLUMNS) {
                *place = names.iter().position(|name| *name == plain(column))?;
            }
            Some(Self { delimiter, width: names.len(), at })
        });
        found.ok_or_else(|| NoHeader(COLUMNS.join(", ")))
    }

    fn read(&self, number: u64, line: &[u8]) -> Result<Line, String> {
        let record = fields(line, self.delimiter).ok_or("is not CSV")?;
        if record.len() != self.width {
            return Err(format!("has {} fields, and the header {}", record.len(), self.width));
        }
        let mut texts = [""; 7];
        for (text, (at, column)) in texts.iter_mut().zip(self.at.into_iter().zip(COLUMNS)) {
            let field = std::str::from_utf8(&record[at]).ok().filter(|field| field.len() <= LONGEST_FIELD);
            *text = field.ok_or_else(|| format!("{column} is no text, or too long"))?.trim();
        }
        let [operation, finished, kind, session, metadata, amount, currency] = texts;
        let currency = Currency::from_str(currency).map_err(|_| "currency is not one of ISO 4217")?;
        Ok(Line {
            number,
            kind: line_kind(kind).ok_or("typeOfPayment is neither Advice nor Refund")?,
            operation: id(operation).ok_or("operationId is no identifier")?,
            session: id(session).ok_or("paymentSessionId is no identifier")?,
            tag: tag(metadata),
            amount_minor: minor(amount, currency).ok_or("paymentLocalAmount is no amount")?,
            currency: currency.code(),
            finished_on: day(finished).ok_or("finishedAt does not begin with a day")?,
        })
    }
}

/// The fields of one line.
fn fields(line: &[u8], delimiter: u8) -> Option<csv::ByteRecord> {
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.delimiter(delimiter).has_headers(false).buffer_capacity(line.len().max(1));
    reader.from_reader(line).into_byte_records().next()?.ok()
}

fn line_kind(text: &str) -> Option<LineKind> {
    match text.to_ascii_lowercase().as_str() {
        "advice" => Some(LineKind::Paid),
        "refund" => Some(LineKind::Returned),
        _ => None,
    }
}

/// Opaque, but it will be printed.
fn id(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| text.to_owned())
}

fn tag(metadata: &str) -> Option<String> {
    let text = serde_json::from_str(metadata).unwrap_or_else(|_| metadata.to_owned());
    Some(text).filter(|text: &String| !text.is_empty())
}

/// The day before the time, whichever dash was typed.
fn day(text: &str) -> Option<Date> {
    let text = text.replace('\u{2013}', "-");
    Date::parse(text.get(..10)?, DAY).ok()
}

/// A decimal of major units in minor ones, exactly. The fraction may be shorter than the currency's, or
/// longer by zeros.
fn minor(text: &str, currency: Currency) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = usize::from(currency.decimals());
    let part = format!("{part:0<decimals$}");
    let (part, rest) = part.split_at_checked(decimals)?;
    if whole.is_empty() || !digits(whole) || !digits(part) || rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    format!("{whole}{part}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "operationId,transactionDate,finishedAt,typeOfPayment,paymentFast,paymentSessionId,\
        paymentSessionMerchantMetadata,paymentLocalAmount,currency,receipt";
    const GOOD: &str = "po_1,2025-03-04 13:15:31,2025-03-04 13:16:02,Advice,0,ps_1,\"\"\"payout_x/1\"\"\",\
        1250.50,RUB,";

    fn read(text: &str) -> DailyReport {
        read_report(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_read_by_the_names_of_its_columns() {
        let usual = read(&format!("{HEADER}\n{GOOD}\n"));
        let line = Line {
            number: 2,
            kind: LineKind::Paid,
            operation: "po_1".into(),
            session: "ps_1".into(),
            tag: Some("payout_x/1".into()),
            amount_minor: 125_050,
            currency: "RUB",
            finished_on: time::macros::date!(2025 - 03 - 04),
        };
        assert_eq!(usual, DailyReport { lines: vec![line.clone()], unreadable: vec![] });
        let other = "\u{feff}Currency;payment Local Amount;FINISHEDAT;paymentSessionMerchantMetadata;\
            paymentSessionId;type of payment;operationId\r\n\r\n\
            rub;1250.5;2025\u{2013}03\u{2013}04 13:16:02;payout_x/1;ps_1;advice;po_1\r\n";
        assert_eq!(read(other).lines, [Line { number: 3, ..line }]);
        assert_eq!(read(""), DailyReport::default());
        assert_eq!(read(&format!("{HEADER}\n")), DailyReport::default());
        assert!(read_report(b"operationId,finishedAt\npo_1,2025-03-04\n").is_err());
    }

    #[test]
    fn what_cannot_be_read_is_named_and_costs_no_other_line() {
        let cases = [
            ("po_1", "\"po_1", "has "),
            (",RUB", ",ZZZ", "currency"),
            ("Advice", "Reversal", "typeOfPayment"),
            ("ps_1", "", "paymentSessionId"),
            ("po_1", "po 1", "operationId"),
            ("1250.50", "1250.505", "paymentLocalAmount"),
            ("1250.50", "\"1250,50\"", "paymentLocalAmount"),
            ("13:15:31,2025-03-04", "13:15:31,04.03.2025", "finishedAt"),
            (",RUB,", ",RUB", "has 9 fields"),
        ];
        for (from, to, why) in cases {
            let bad = GOOD.replacen(from, to, 1);
            let report = read(&format!("{HEADER}\n{GOOD}\n{bad}\n{GOOD}\n"));
            let numbers: Vec<u64> = report.lines.iter().map(|line| line.number).collect();
            assert_eq!(numbers, [2, 4], "{bad}");
            let [Unreadable { number: 3, why: told }] = &report.unreadable[..] else { panic!("{bad}") };
            assert!(told.starts_with(why), "{bad}: {told}");
        }
        let mut bytes = format!("{HEADER}\n{GOOD}\n").into_bytes();
        let at = bytes.windows(4).position(|four| four == b"ps_1").unwrap();
        bytes[at] = 0xff;
        assert_eq!(read_report(&bytes).unwrap().unreadable.len(), 1);
    }

    #[test]
    fn amounts_are_exact() {
        let minor = |text: &str, currency: &str| minor(text, currency.parse().unwrap());
        for (text, currency, shown) in [
            ("110", "RUB", Some(11_000)),
            ("0.07", "RUB", Some(7)),
            ("0.070", "RUB", Some(7)),
            ("110", "JPY", Some(110)),
            ("110.0", "JPY", Some(110)),
            ("1.250", "KWD", Some(1_250)),
            ("92233720368547758.07", "RUB", Some(i64::MAX)),
            ("92233720368547758.08", "RUB", None),
            ("110.5", "JPY", None),
            ("-1.00", "RUB", None),
            ("+1.00", "RUB", None),
            (".50", "RUB", None),
            ("1.+5", "RUB", None),
            ("1 000.00", "RUB", None),
            ("1e3", "RUB", None),
            ("é", "RUB", None),
            ("1.é", "RUB", None),
            ("", "RUB", None),
        ] {
            assert_eq!(minor(text, currency), shown, "{text} {currency}");
        }
    }
}
