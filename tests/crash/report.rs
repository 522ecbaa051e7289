//! What many runs have shown, added up and written down as Markdown.

use crate::{
    measure::Figures,
    oracle::{Finding, Promise},
    plan::{Plan, Trouble, Weather, fault_kinds},
};
use payoutd::crash_point;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

/// Findings that are written out; all are counted.
const WRITTEN_OUT: usize = 20;

#[derive(Default)]
pub struct Tally {
    pub runs: usize,
    pub figures: Figures,
    pub findings: Vec<(String, Finding)>,
    /// Deaths at each point in each weather.
    points: BTreeMap<String, BTreeMap<Weather, usize>>,
    kinds: BTreeMap<String, usize>,
    seeds: BTreeSet<u64>,
}

impl Tally {
    pub fn add(&mut self, plan: &Plan, figures: Figures, findings: Vec<Finding>) {
        self.runs += 1;
        self.seeds.insert(plan.seed);
        let kind = match &plan.trouble {
            Trouble::Point { name, .. } => {
                let hit = usize::from(!findings.iter().any(|f| f.promise == Promise::RunHappened));
                *self.points.entry(name.clone()).or_default().entry(plan.weather).or_default() += hit;
                "death at a named point".to_owned()
            }
            Trouble::Kills => "SIGKILLs at random moments".to_owned(),
            Trouble::Freeze => "SIGSTOP beyond the lease".to_owned(),
            Trouble::Database => "immediate stop of Postgres".to_owned(),
        };
        *self.kinds.entry(kind).or_default() += 1;
        println!("{plan}: {:.1?} {:.1?}", figures.took, figures.phases);
        for finding in findings {
            println!("  {finding}");
            self.findings.push((plan.to_string(), finding));
        }
        let sum = &mut self.figures;
        sum.took += figures.took;
        sum.payouts += figures.payouts;
        sum.tries_again += figures.tries_again;
        sum.hang_ups += figures.hang_ups;
        sum.kills += figures.kills;
        sum.freezes += figures.freezes;
        sum.database_crashes += figures.database_crashes;
        sum.takeovers.extend(figures.takeovers);
        sum.database_back.extend(figures.database_back);
        sum.learnt_by_asking.extend(figures.learnt_by_asking);
        sum.flagged += figures.flagged;
        sum.interrupted += figures.interrupted;
        sum.calls += figures.calls;
        sum.lines_stopped += figures.lines_stopped;
        for (into, from) in [(&mut sum.faults, figures.faults), (&mut sum.statuses, figures.statuses)] {
            from.into_iter().for_each(|(name, count)| *into.entry(name).or_default() += count);
        }
    }

    /// O10: faults that never struck have tested nothing.
    pub fn faults_that_never_struck(&self) -> Vec<&'static str> {
        fault_kinds().into_iter().filter(|kind| !self.figures.faults.contains_key(*kind)).collect()
    }

    /// Points at which nobody died, in any weather or in this one.
    pub fn points_never_died_at(&self, weather: Option<Weather>) -> Vec<String> {
        let died = |name: &String| {
            let by_weather = self.points.get(name);
            by_weather.into_iter().flatten().any(|(at, count)| *count > 0 && weather.is_none_or(|w| w == *at))
        };
        crash_point::names().into_iter().filter(|name| !died(name)).collect()
    }

    fn broken(&self, promises: &[Promise]) -> usize {
        self.findings.iter().filter(|(_, finding)| promises.contains(&finding.promise)).count()
    }

    pub fn markdown(&self, took: Duration, seed: u64) -> String {
        let mut text = String::new();
        let sum = &self.figures;
        let per_run = took.as_secs_f64() / f64::from(u32::try_from(self.runs.max(1)).unwrap());
        let mut line = |words: String| writeln!(text, "{words}").unwrap();
        line("# The crash harness: a demonstration\n".to_owned());
        line(format!(
            "Real processes (two replicas, the sandbox, Postgres), {} runs in {:.1} minutes ({per_run:.2} s \
             a run, several at once). Seed {seed}, to which each run adds its number; \
             `PAYOUTD_TEST_SEED={seed} scripts/demonstrate` makes the same plans.\n",
            self.runs,
            took.as_secs_f64() / 60.0
        ));
        line("| promise | broken |\n| --- | --- |".to_owned());
        for (words, promises) in [
            ("double payouts (O1, O2)", &[Promise::PaidOnce, Promise::StartedOnce][..]),
            ("wrongly confirmed (O3, O4)", &[Promise::PermittedExactly, Promise::NeverAfterNo]),
            ("acknowledged but absent (O5)", &[Promise::AcknowledgedIsKept]),
            ("lost: never ended (O6)", &[Promise::EverythingEnds]),
            ("ended otherwise than at Pike (O7)", &[Promise::EndsAsPikeSays]),
            ("gaps in what callers are told (O8)", &[Promise::ToldWithoutGaps]),
            ("secrets in logs or tables (O9)", &[Promise::NoSecretAnywhere]),
            ("findings of payoutd's own checker, Pike having told the truth", &[Promise::NothingFoundInside]),
            ("runs that did not happen", &[Promise::RunHappened]),
        ] {
            line(format!("| {words} | {} |", self.broken(promises)));
        }
        line(format!("| fault kinds that never struck (O10) | {} |", self.faults_that_never_struck().len()));
        line("\n| what | how often |\n| --- | --- |".to_owned());
        for (kind, count) in &self.kinds {
            line(format!("| runs: {kind} | {count} |"));
        }
        for (words, count) in [
            ("payouts", sum.payouts),
            ("processes killed", sum.kills),
            ("processes frozen beyond their lease", sum.freezes),
            ("Postgres stopped at once", sum.database_crashes),
            ("calls that a death interrupted", sum.interrupted),
            ("callers who hung up in the middle of a request", sum.hang_ups),
            ("times a caller had to ask again", sum.tries_again),
            ("times payoutd itself stopped all confirms, Pike having lied", sum.lines_stopped),
        ] {
            line(format!("| {words} | {count} |"));
        }
        line(format!("| calls to Pike | {} |", sum.calls));
        line(format!("| payouts that wait for a person, Pike having lied | {} |", sum.flagged));
        let all = crash_point::names().len();
        let missed = Weather::ALL.map(|weather| self.points_never_died_at(Some(weather)).len());
        let [plain, busy, lies] = missed.map(|missed| all - missed);
        line(format!("| points died at, of {all}: plain, busy, lies | {plain}, {busy}, {lies} |"));
        line("\n| recovery | times | median | 95 % | longest |\n| --- | --- | --- | --- | --- |".to_owned());
        line(spread("SIGKILL until taken over", &sum.takeovers));
        let (back, serving): (Vec<_>, Vec<_>) = sum.database_back.iter().copied().unzip();
        line(spread("Postgres gone until it takes connections", &back));
        line(spread("Postgres back until payoutd takes an order", &serving));
        line(spread("change without a webhook until known", &sum.learnt_by_asking));
        line(self.counted());
        text
    }

    /// The long tables.
    fn counted(&self) -> String {
        let mut text = "\n## Faults that struck\n\n| fault | times |\n| --- | --- |\n".to_owned();
        for kind in fault_kinds() {
            let count = self.figures.faults.get(kind).copied().unwrap_or(0);
            writeln!(text, "| {kind} | {count} |").unwrap();
        }
        text.push_str("\n## Where payouts ended\n\n| state | payouts |\n| --- | --- |\n");
        for (state, count) in &self.figures.statuses {
            writeln!(text, "| {state} | {count} |").unwrap();
        }
        text.push_str(
            "\n## Deaths at named points\n\n| point | plain | busy | lies |\n| --- | --- | --- | --- |\n",
        );
        for (point, by_weather) in &self.points {
            let [plain, busy, lies] =
                Weather::ALL.map(|weather| by_weather.get(&weather).copied().unwrap_or_default());
            writeln!(text, "| {point} | {plain} | {busy} | {lies} |").unwrap();
        }
        if !self.findings.is_empty() {
            text.push_str("\n## Findings\n\n");
            for (plan, finding) in self.findings.iter().take(WRITTEN_OUT) {
                writeln!(text, "- {plan}: {finding}").unwrap();
            }
        }
        text
    }
}

fn spread(what: &str, times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len().max(1) - 1) * share / 100).copied().unwrap_or_default();
    format!("| {what} | {} | {:.2?} | {:.2?} | {:.2?} |", sorted.len(), at(50), at(95), at(100))
}
