//! The report: medians with their spread, and ratios within the same round.

use crate::{floor::Floor, load::Shape, rounds::Side};
use std::fmt::Write;

/// One side's turn. Microseconds, fsyncs, bytes and commits are for each payout; times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub rate: f64,
    pub service_us: f64,
    pub postgres_us: f64,
    pub driver_us: f64,
    pub fsyncs: f64,
    pub wal: f64,
    /// Whole pages in the WAL: those that were touched first after a checkpoint.
    pub pages: f64,
    pub commits: f64,
    pub p50: f64,
    pub p99: f64,
    pub ack50: f64,
    pub ack99: f64,
    pub order50: f64,
    pub order99: f64,
    pub rss: f64,
    pub ready: f64,
}

impl Sample {
    /// What does not apply to a side.
    pub fn nothing() -> Self {
        let no = f64::NAN;
        Self {
            rate: no,
            service_us: no,
            postgres_us: no,
            driver_us: no,
            fsyncs: no,
            wal: no,
            pages: no,
            commits: no,
            p50: no,
            p99: no,
            ack50: no,
            ack99: no,
            order50: no,
            order99: no,
            rss: no,
            ready: no,
        }
    }
}

type Row = (Side, Shape, Sample);
type Column = (&'static str, fn(&Sample) -> f64, usize);

const COLUMNS: [Column; 16] = [
    ("payouts/s", |s| s.rate, 0),
    ("service µs", |s| s.service_us, 0),
    ("Postgres µs", |s| s.postgres_us, 0),
    ("driver µs", |s| s.driver_us, 0),
    ("fsyncs", |s| s.fsyncs, 2),
    ("WAL bytes", |s| s.wal, 0),
    ("pages", |s| s.pages, 2),
    ("commits", |s| s.commits, 2),
    ("p50 ms", |s| s.p50, 1),
    ("p99 ms", |s| s.p99, 1),
    ("order p50 ms", |s| s.order50, 1),
    ("order p99 ms", |s| s.order99, 1),
    ("webhook p50 ms", |s| s.ack50, 1),
    ("webhook p99 ms", |s| s.ack99, 1),
    ("RSS MiB", |s| s.rss, 1),
    ("ready ms", |s| s.ready, 0),
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median and spread.
fn cell(values: Vec<f64>, digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let one = values.len() < 2;
    let median = median(values);
    match (median.is_nan(), one) {
        (true, _) => "–".to_owned(),
        (false, true) => format!("{median:.digits$}"),
        (false, false) => format!("{median:.digits$} ({least:.digits$}–{most:.digits$})"),
    }
}

pub fn report(rows: &[Row], floors: &[Floor]) -> String {
    let mut text = String::from("\n| load | side |");
    for (name, ..) in COLUMNS {
        write!(text, " {name} |").unwrap();
    }
    text.push_str("\n| --- | --- |");
    text.push_str(&" --- |".repeat(COLUMNS.len()));
    let mut kinds: Vec<(Shape, Side)> = rows.iter().map(|(side, n, _)| (*n, *side)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (shape, side) in &kinds {
        write!(text, "\n| {shape} | {} |", side.name()).unwrap();
        for (_, value, digits) in COLUMNS {
            write!(text, " {} |", cell(values(rows, *side, *shape, value), digits)).unwrap();
        }
    }
    text.push_str("\n\n");
    floor(&mut text, floors);
    ratios(&mut text, rows, floors, &kinds);
    text
}

fn values(rows: &[Row], side: Side, shape: Shape, value: fn(&Sample) -> f64) -> Vec<f64> {
    let mine = rows.iter().filter(|(its, n, _)| *its == side && *n == shape);
    mine.map(|(.., sample)| value(sample)).collect()
}

fn floor(text: &mut String, floors: &[Floor]) {
    let each = |value: fn(&Floor) -> f64| cell(floors.iter().map(value).collect(), 0);
    writeln!(
        text,
        "Floor: a signature {} µs, an HTTP exchange {} µs (both ends), the SQL of a life in batches {} µs in \
         Postgres and {} µs in its client: {} µs a life, {} lives/s on all processors.\n",
        each(|f| f.signature),
        each(|f| f.exchange),
        each(|f| f.sql_server),
        each(|f| f.sql_client),
        each(Floor::life),
        each(Floor::rate),
    )
    .unwrap();
}

/// Each round's own ratio, then their median: what slows a round slows both of its sides.
fn ratios(text: &mut String, rows: &[Row], floors: &[Floor], kinds: &[(Shape, Side)]) {
    let mut shapes: Vec<Shape> = kinds.iter().map(|(shape, _)| *shape).collect();
    shapes.dedup();
    for shape in shapes {
        if let Shape::PerSecond(_) = shape {
            times(text, rows, shape);
            continue;
        }
        let ours = values(rows, Side::Ours, shape, |s| s.rate);
        for other in [Side::ByHand, Side::Minimal] {
            let theirs = values(rows, other, shape, |s| s.rate);
            let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
            writeln!(text, "{shape}: {} × {}", cell(ratios, 2), other.name()).unwrap();
        }
        let reached: Vec<f64> = ours.iter().zip(floors).map(|(rate, floor)| rate / floor.rate()).collect();
        writeln!(text, "{shape}: {} of the floor's rate", cell(reached, 2)).unwrap();
    }
}

/// Times at the same rate, ours by theirs.
fn times(text: &mut String, rows: &[Row], shape: Shape) {
    type Time = (&'static str, fn(&Sample) -> f64, Side);
    let times: [Time; 4] = [
        ("p50", |s| s.p50, Side::ByHand),
        ("p99", |s| s.p99, Side::ByHand),
        ("webhook p50", |s| s.ack50, Side::Bare),
        ("webhook p99", |s| s.ack99, Side::Bare),
    ];
    for (name, value, other) in times {
        let [ours, theirs] = [Side::Ours, other].map(|side| values(rows, side, shape, value));
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
        writeln!(text, "{shape}: {name} {} × {}", cell(ratios, 2), other.name()).unwrap();
    }
}
