//! Compares Pike's daily report with our books, from the command line: reads the files, has the engine keep
//! and compare, and prints what differs. What counts as a difference is the store's business.

use super::unflag;
use crate::{
    config::Config,
    domain::{
        id::{PayoutId, ProjectId},
        report::Day,
    },
    engine::Compared,
    pike::{DailyReport, read_report},
    store::{
        encoding::Code,
        pool,
        reports::{self, NewReport},
    },
    telemetry::{self, LogFormat},
};
use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::{fmt::Write, path::PathBuf, process::ExitCode};
use time::{Date, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const OFFSET: &[BorrowedFormatItem<'_>] = format_description!("[offset_hour sign:mandatory]:[offset_minute]");
/// The exit code when something differs; 1 is for not having been able to compare.
const DIFFERS: u8 = 3;

/// What to compare.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// Our name of the project
    #[arg(long)]
    project: String,
    /// The report's day as YYYY-MM-DD; if not given, from a name like shop_2025-03-04_2025-03-04.csv
    #[arg(long, value_parser = day)]
    date: Option<Date>,
    /// Where the report's clock stands, as +HH:MM or -HH:MM
    #[arg(long, value_parser = offset, default_value = "+00:00", allow_hyphen_values = true)]
    utc_offset: UtcOffset,
    /// The report: one file, or all the parts of the day
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[arg(long, env = "PAYOUTD_CONFIG")]
    config: PathBuf,
}

fn day(text: &str) -> Result<Date, String> {
    Date::parse(text, DAY).map_err(|_| "not a day as YYYY-MM-DD".to_owned())
}

fn offset(text: &str) -> Result<UtcOffset, String> {
    UtcOffset::parse(text, OFFSET).map_err(|_| "not a distance from UTC as +HH:MM".to_owned())
}

/// Reads the report, keeps it, and prints what differs: what, subject, project, payout, since when and words,
/// a line each; the sums go to standard error. The exit code says whether anything differs that no person
/// has accepted.
///
/// # Errors
/// When a file cannot be read as a report of that day, or the database fails; nothing is compared then.
pub async fn reconcile_report(args: &ReportArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<ExitCode> {
    let config = Config::load(Some(&args.config), env)?;
    ensure!(config.projects.contains_key(&args.project), "there is no project {}", args.project);
    telemetry::start_logs(LogFormat::Text, "warn");
    let report = Files::read(args)?;
    let pool = pool::connect(config.database.url.expose_secret(), 2).await?;
    pool::check_schema(&pool).await?;
    let new = report.to_keep(ProjectId(args.project.clone()));
    let day = Day { date: report.date, offset: args.utc_offset };
    let engine = unflag::engine(&config, pool.clone())?;
    let parts: Vec<_> = report.parts.iter().map(|part| part.lines.as_slice()).collect();
    let compared = engine.keep_report(&new, day, &parts).await?;
    if let Some(before) = report.date.previous_day()
        && !reports::is_read(&mut *pool.acquire().await?, &new.project, before).await?
    {
        eprintln!("the report of {before} was not read: what is missing may be in it");
    }
    Ok(report.print(&new, &compared))
}

/// The files of a day, read.
struct Files {
    date: Date,
    content_hash: Vec<u8>,
    parts: Vec<DailyReport>,
}

impl Files {
    fn read(args: &ReportArgs) -> Result<Self> {
        let (mut date, mut hash, mut parts) = (args.date, Sha256::new(), vec![]);
        for file in &args.files {
            let shown = file.display();
            let bytes = std::fs::read(file).with_context(|| format!("{shown}"))?;
            hash.update(Sha256::digest(&bytes));
            parts.push(read_report(&bytes).with_context(|| format!("{shown}"))?);
            let named = file.file_stem().and_then(|name| name.to_str()).and_then(day_of_name);
            date = date.or(named);
        }
        let date = date.context("no file's name ends in its day twice: say which with --date")?;
        for (part, file) in parts.iter().zip(&args.files) {
            let other = |part: &DailyReport| part.lines.iter().all(|line| line.finished_on != date);
            if !part.lines.is_empty() && other(part) {
                bail!("{}: nothing in it was finished on {date}: is that its day?", file.display());
            }
        }
        Ok(Self { date, content_hash: hash.finalize().to_vec(), parts })
    }

    fn to_keep(&self, project: ProjectId) -> NewReport {
        let sum = |of: fn(&DailyReport) -> usize| {
            i64::try_from(self.parts.iter().map(of).sum::<usize>()).unwrap_or(i64::MAX)
        };
        NewReport {
            project,
            day: self.date,
            content_hash: self.content_hash.clone(),
            lines: sum(|part| part.lines.len()),
            unreadable: sum(|part| part.unreadable.len()),
        }
    }

    fn print(&self, new: &NewReport, compared: &Compared) -> ExitCode {
        for (number, part) in (1..).zip(&self.parts) {
            for line in &part.unreadable {
                println!(
                    "unreadable\tline {} of part {number}\t{}\t\t\t{}",
                    line.number, new.project, line.why
                );
            }
        }
        let (accepted, open): (Vec<_>, Vec<_>) = compared.breaks.iter().partition(|found| found.accepted);
        for found in &open {
            let payout = found.payout_id.map(|id| PayoutId(id).to_string()).unwrap_or_default();
            println!(
                "{}\t{}\t{}\t{payout}\tsince {}\t{}",
                found.check_name, found.subject, new.project, found.found_at, found.words
            );
        }
        let mut sums = format!(
            "{} lines read, {} matched, {} unreadable",
            new.lines + new.unreadable,
            compared.matched,
            new.unreadable
        );
        for check in crate::domain::checking::Check::OF_REPORTS {
            let count = open.iter().filter(|found| found.check_name == check.code()).count();
            write!(sums, ", {count} {}", check.code()).expect("a string takes all text");
        }
        eprintln!("{sums}, {} accepted before", accepted.len());
        let agrees = open.is_empty() && new.unreadable == 0;
        if agrees { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) }
    }
}

/// The day in a name as Pike gives it: the project, the day, and the day again.
fn day_of_name(name: &str) -> Option<Date> {
    let mut parts = name.rsplit('_');
    let (to, from) = (parts.next()?, parts.next()?);
    if from == to { day(from).ok() } else { None }
}
