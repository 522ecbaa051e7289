//! The report on a whole run: what was asked, what became of it, and above all which metadata and which
//! idempotency keys were paid more than once. Made from the ledger, never from what a partner says.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Sandbox;
use super::groups::{Groups, Listed, Said};
use super::parameters::Parameters;
use super::pieces;
use super::report::{JSON, Sums};
use super::scalars::SessionId;
use super::scan::{Outline, Scan};
use super::session::{SessionStatus, Stage};
use super::world::World;

/// `GET /_sandbox/report`
pub async fn page(State(sandbox): State<Arc<Sandbox>>, parameters: Parameters) -> Response {
    let mut survey = Survey::new(&sandbox.world(), parameters.text("project"), parameters.text("cut"));
    let mut is_sent = false;
    pieces::send(sandbox, JSON, move |sandbox| {
        if is_sent {
            return Ok(None);
        }
        is_sent = survey.advance(sandbox)?;
        if is_sent {
            survey.report(&sandbox.world(), |report| serde_json::to_vec(report)).map(Some)
        } else {
            Ok(Some(Vec::new()))
        }
    })
    .await
}

/// Writes the report on everything to a file, or to the standard output when the path is `-`.
///
/// # Errors
/// When the archive cannot be read or the report not be written.
pub fn write(sandbox: &Sandbox, path: &Path) -> io::Result<()> {
    let mut survey = Survey::new(&sandbox.world(), None, None);
    while !survey.advance(sandbox)? {}
    let mut text = survey.report(&sandbox.world(), |report| serde_json::to_vec_pretty(report))?;
    text.push(b'\n');
    if path.as_os_str() == "-" { io::stdout().write_all(&text) } else { std::fs::write(path, text) }
}

/// How many sessions there are of each kind.
#[derive(Debug, Default, Serialize)]
struct Kinds {
    created: u64,
    started: u64,
    confirmed: u64,
    paid: u64,
    returned: u64,
    /// Neither accepted nor cancelled.
    open: u64,
}

impl Kinds {
    fn count(&mut self, outline: &Outline) {
        let Outline { session, tally } = outline;
        let is_returned = |stage: Stage| matches!(stage, Stage::Paid { returned: Some(_), .. });
        let is_open = match session.status {
            SessionStatus::Created | SessionStatus::InProgress | SessionStatus::Error => true,
            SessionStatus::Accepted | SessionStatus::Cancelled => false,
        };
        self.created += 1;
        self.started += u64::from(tally.starts > 0);
        self.confirmed += u64::from(tally.confirms_accepted > 0);
        self.paid += u64::from(tally.paid_times > 0);
        self.returned += u64::from(session.payouts.iter().any(|payout| is_returned(payout.stage)));
        self.open += u64::from(is_open);
    }
}

/// The report in the making.
#[derive(Debug)]
struct Survey {
    project: Option<Box<str>>,
    /// Metadata that are text count up to where this stands in them last.
    cut: Option<Box<str>>,
    /// Projects whose payouts nobody needs to confirm.
    unasked: HashSet<Box<str>>,
    scan: Scan,
    progress: Progress,
    kinds: Kinds,
    payouts: u64,
    by_metadata: Groups,
    by_key: Groups,
    paid_without_confirm: Listed<SessionId>,
    paid_more_than_once: Listed<SessionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Counting,
    Listing,
    Done,
}

impl Survey {
    fn new(world: &World, project: Option<&str>, cut: Option<&str>) -> Self {
        Self {
            project: project.map(Box::from),
            cut: cut.map(Box::from),
            unasked: world.constitution.auto_confirmed(),
            scan: Scan::new(project, None),
            progress: Progress::Counting,
            kinds: Kinds::default(),
            payouts: 0,
            by_metadata: Groups::new("metadata"),
            by_key: Groups::new("key"),
            paid_without_confirm: Listed::default(),
            paid_more_than_once: Listed::default(),
        }
    }

    /// Takes the next step; whether that was the last one.
    fn advance(&mut self, sandbox: &Sandbox) -> io::Result<bool> {
        match (self.progress, self.scan.next(sandbox)?) {
            (Progress::Counting, Some(outlines)) => outlines.iter().for_each(|outline| self.count(outline)),
            (Progress::Counting, None) => {
                let (metadata, keys) = (self.by_metadata.sum_up(), self.by_key.sum_up());
                self.progress = if metadata || keys { Progress::Listing } else { Progress::Done };
                self.scan = Scan::new(self.project.as_deref(), None);
            }
            (Progress::Listing, Some(outlines)) => outlines.iter().for_each(|outline| self.list(outline)),
            (Progress::Listing, None) | (Progress::Done, _) => self.progress = Progress::Done,
        }
        Ok(self.progress == Progress::Done)
    }

    fn count(&mut self, outline: &Outline) {
        let Outline { session, tally } = outline;
        self.kinds.count(outline);
        self.payouts += u64::try_from(session.payouts.len()).unwrap_or(u64::MAX);
        self.by_name(outline, Groups::count);
        let is_asked = !self.unasked.contains(&session.project);
        if tally.paid_times > 0 && tally.confirms_accepted == 0 && is_asked {
            self.paid_without_confirm.push(session.id);
        }
        if tally.paid_times > 1 {
            self.paid_more_than_once.push(session.id);
        }
    }

    fn list(&mut self, outline: &Outline) {
        self.by_name(outline, Groups::list);
    }

    /// Tells both groups what a session says under its names.
    fn by_name(&mut self, outline: &Outline, tell: fn(&mut Groups, &str, Said)) {
        let Outline { session, tally } = outline;
        let confirmed = tally.confirms_accepted > 0;
        for (name, paid) in metadata_of(outline, self.cut.as_deref()) {
            tell(&mut self.by_metadata, &name, Said { session: session.id, confirmed, paid });
        }
        for key in &tally.keys {
            let paid = tally.paid_times;
            tell(&mut self.by_key, &json_text(key), Said { session: session.id, confirmed, paid });
        }
    }

    fn report(
        &self,
        world: &World,
        write: impl FnOnce(&Report<'_>) -> serde_json::Result<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        let sums = Sums::of(world, self.project.as_deref());
        let per_payout = |calls: u64| ratio(calls, self.payouts);
        let mut calls_per_payout: BTreeMap<&str, Option<f64>> =
            sums.calls.iter().map(|(method, calls)| (method.path(), per_payout(*calls))).collect();
        calls_per_payout.insert("all", per_payout(sums.calls.values().sum()));
        let report = Report { survey: self, calls_per_payout, sums };
        write(&report).map_err(io::Error::from)
    }
}

/// A number with two decimals; none without a divisor.
fn ratio(count: u64, of: u64) -> Option<f64> {
    let float = |count: u64| u32::try_from(count).map_or(f64::INFINITY, f64::from);
    if of == 0 { None } else { format!("{:.2}", float(count) / float(of)).parse().ok() }
}

/// The names that the metadata of a session are, as JSON, and how often money left under each. What create
/// said counts as long as nothing was started.
fn metadata_of(outline: &Outline, cut: Option<&str>) -> Vec<(String, u32)> {
    let session = &outline.session;
    let mut names: Vec<(String, u32)> = Vec::new();
    let mut add = |metadata: &RawValue, paid: u32| {
        let name = name_of(metadata, cut);
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => *times += paid,
            None => names.push((name, paid)),
        }
    };
    if session.payouts.is_empty() {
        session.draft.metadata.iter().for_each(|metadata| add(metadata, 0));
    }
    for payout in &session.payouts {
        let paid = u32::from(matches!(payout.stage, Stage::Paid { .. }));
        payout.metadata.iter().for_each(|metadata| add(metadata, paid));
    }
    names
}

/// The same text for metadata that are the same: how a text is escaped and in which order fields stand is
/// nothing to tell payouts apart by. Numbers stay as written, for some are longer than ours.
fn name_of(metadata: &RawValue, cut: Option<&str>) -> String {
    let raw = metadata.get();
    if !raw.starts_with(['"', '{', '[']) {
        return raw.to_owned();
    }
    match serde_json::from_str(raw) {
        Ok(Value::String(text)) => {
            let kept = cut.and_then(|cut| text.rsplit_once(cut)).map_or(text.as_str(), |(kept, _)| kept);
            json_text(kept)
        }
        Ok(value) => value.to_string(),
        Err(_) => raw.to_owned(),
    }
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// The report as it is shown.
struct Report<'a> {
    survey: &'a Survey,
    calls_per_payout: BTreeMap<&'static str, Option<f64>>,
    sums: Sums<'a>,
}

#[derive(Serialize)]
struct Webhooks {
    attempts: u64,
    delivered: u64,
    given_up: u64,
    under_way: usize,
}

/// Webhooks that nobody should have believed.
#[derive(Serialize)]
struct Forgeries {
    sent: u64,
    accepted: u64,
}

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { survey, calls_per_payout, sums } = self;
        let webhooks = Webhooks {
            attempts: sums.webhook_attempts,
            delivered: sums.webhooks_delivered,
            given_up: sums.webhooks_given_up,
            under_way: sums.webhooks_under_way,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sessions", &survey.kinds)?;
        map.serialize_entry("money", &sums.money)?;
        map.serialize_entry("calls", &sums.calls)?;
        map.serialize_entry("calls_per_payout", calls_per_payout)?;
        map.serialize_entry("refusals", &sums.refusals)?;
        map.serialize_entry("answers_lost", &sums.answers_lost)?;
        map.serialize_entry("calls_broken", &sums.calls_broken)?;
        map.serialize_entry("webhooks", &webhooks)?;
        map.serialize_entry(
            "forgeries",
            &Forgeries { sent: sums.forgeries, accepted: sums.forgeries_accepted },
        )?;
        map.serialize_entry("faults", &sums.faults)?;
        map.serialize_entry("by_metadata", &survey.by_metadata)?;
        map.serialize_entry("by_idempotency_key", &survey.by_key)?;
        map.serialize_entry("paid_without_confirm", &survey.paid_without_confirm.shown)?;
        map.serialize_entry("paid_without_confirm_total", &survey.paid_without_confirm.total)?;
        map.serialize_entry("paid_more_than_once", &survey.paid_more_than_once.shown)?;
        map.serialize_entry("paid_more_than_once_total", &survey.paid_more_than_once.total)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn metadata_are_the_same_however_they_are_written() {
        for (one, other, cut) in [
            (r#""a""#, r#""\u0061""#, None),
            (r#""wd-1/1""#, r#""wd-1/2""#, Some("/")),
            (r#""wd/1/1""#, r#""wd/1/2""#, Some("/")),
            (r#"{"a":1,"b":[]}"#, r#"{"b": [], "a": 1}"#, None),
        ] {
            assert_eq!(name_of(&raw(one), cut), name_of(&raw(other), cut), "{one} {other}");
        }
        for (one, other, cut) in [
            (r#""wd-1/1""#, r#""wd-1/2""#, None),
            (r#""wd/1/1""#, r#""wd/2/1""#, Some("/")),
            (r#""1""#, "1", Some("/")),
            ("123456789012345678901", "123456789012345678902", None),
            ("null", r#""null""#, None),
        ] {
            assert_ne!(name_of(&raw(one), cut), name_of(&raw(other), cut), "{one} {other}");
        }
        assert_eq!(name_of(&raw(r#""wd-1""#), Some("/")), r#""wd-1""#);
    }

    #[test]
    fn ratios_have_two_decimals() {
        assert_eq!((ratio(9, 8), ratio(1, 3), ratio(5, 0)), (Some(1.12), Some(0.33), None));
    }
}
