//! What a run is: which trouble, which payouts, which of the provider's faults, all from one seed.

use crate::{
    chance::Chance,
    load::{Errand, Wish, spread},
};
use payoutd::crash_point;
use std::{fmt, time::Duration};

/// Payouts of the first wave; later ones, while a crash point was not come to, are smaller.
const FIRST_WAVE: usize = 20;
const LATER_WAVE: usize = 10;
/// Over which a wave is spread: longer than a sweep, so that some payouts fall due for either replica.
const SPREAD: Duration = Duration::from_millis(300);
/// Kinds of faults at once in one run of [`Weather::Lies`].
const FAULTS_AT_ONCE: usize = 6;

/// Of one rule in one run: then it is over, and things can end.
const STRIKES: usize = 8;

/// What the callers want and what the provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Good payouts, and only as much else as the crash points need.
    Plain,
    /// Declines, cancels, holds, webhooks again and again, the switch thrown.
    Busy,
    /// Answers lost, lies, forgeries; and a second start would pay a second time.
    Lies,
}

impl Weather {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Busy, Self::Lies];

    pub fn second_start(self) -> &'static str {
        if self == Self::Lies { "add" } else { "reject" }
    }
}

/// What happens to payoutd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// One replica dies by itself at this point, at its n-th passing.
    Point { name: String, nth: u64 },
    /// SIGKILL at random moments.
    Kills,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    Freeze,
    /// Postgres is stopped as by a power cut and comes back.
    Database,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub number: u64,
    pub seed: u64,
    pub weather: Weather,
    pub trouble: Trouble,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, seed, weather, trouble } = self;
        match trouble {
            Trouble::Point { name, nth } => write!(f, "run {number}: {name}:{nth}, {weather:?}, seed {seed}"),
            Trouble::Kills | Trouble::Freeze | Trouble::Database => {
                write!(f, "run {number}: {trouble:?}, {weather:?}, seed {seed}")
            }
        }
    }
}

/// What a run's point needs beyond the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// SIGTERM while there is work.
    Termination,
    /// A sandbox that is not there yet: a request that provably never leaves.
    LateSandbox,
    /// Another replica that died while calling.
    Widow,
}

/// Points that are passed once at most, or seldom: later passings would be waited for in vain.
fn is_rare(name: &str) -> bool {
    ["startup.", "shutdown.", "switch.", "lease.", "effect.", "command.", "inbox.postponing", "ReadStatus."]
        .iter()
        .any(|rare| name.starts_with(rare))
}

impl Plan {
    /// Every point once in one weather, the weathers taking turns.
    pub fn each_point_once(seed: u64) -> Vec<Self> {
        let points = crash_point::names().into_iter().zip(0..);
        points
            .map(|(name, n)| Self::at_point(n, seed.wrapping_add(n), name, Weather::ALL[turn(n, 3)]))
            .collect()
    }

    pub fn at_point(number: u64, seed: u64, name: String, weather: Weather) -> Self {
        let mut chance = Chance::of(seed);
        let nth = if is_rare(&name) { 1 } else { [1, 1, 2, 3, 5][chance.below(5)] };
        Self { number, seed, weather, trouble: Trouble::Point { name, nth } }
    }

    pub fn needs(&self) -> Needs {
        let Trouble::Point { name, .. } = &self.trouble else { return Needs::Nothing };
        match name.split('.').next() {
            Some("shutdown") => Needs::Termination,
            Some("effect") => Needs::LateSandbox,
            Some("lease") => Needs::Widow,
            Some(_) | None => Needs::Nothing,
        }
    }

    /// The value of the variable that arms the point.
    pub fn armed(&self) -> Option<String> {
        match &self.trouble {
            Trouble::Point { name, nth } => Some(format!("{name}:{nth}")),
            Trouble::Kills | Trouble::Freeze | Trouble::Database => None,
        }
    }

    pub fn wave(&self, n: usize, chance: &mut Chance) -> Vec<Errand> {
        let mut wanted = self.enablers();
        let size = if n == 0 { FIRST_WAVE } else { LATER_WAVE };
        while wanted.len() < size {
            wanted.push(self.ordinary(chance));
        }
        spread(&wanted, SPREAD, chance)
    }

    /// One of everything that some crash point lies behind.
    fn enablers(&self) -> Vec<(Wish, &'static str)> {
        let mut wanted = vec![
            (Wish::Pay, "tok_success"),
            (Wish::TooMuch, "tok_success"),
            (Wish::Pay, "tok_no_webhooks"),
            (Wish::Approve, "tok_success"),
            (Wish::Reject, "tok_success"),
        ];
        if let Trouble::Point { name, .. } = &self.trouble {
            match name.as_str() {
                "inbox.postponing" => wanted.push((Wish::Pay, "tok_fault_webhook_wrong_session")),
                "inbox.setting_aside" => wanted.push((Wish::Pay, "tok_fault_webhook_unknown_type")),
                name if name.starts_with("Cancel.") || name.ends_with("cancel_committed") => {
                    wanted.extend([(Wish::TooMuch, "tok_success"); 3]);
                }
                name if name.starts_with("ReadStatus.") || name.starts_with("sweep.") => {
                    wanted.extend([(Wish::Pay, "tok_no_webhooks"); 4]);
                }
                _ => {}
            }
        }
        wanted
    }

    fn ordinary(&self, chance: &mut Chance) -> (Wish, &'static str) {
        let choices: &[(Wish, &str)] = match self.weather {
            Weather::Plain => &[(Wish::Pay, "tok_success"), (Wish::Pay, "tok_mastercard")],
            Weather::Busy => &[
                (Wish::Pay, "tok_success"),
                (Wish::Pay, "tok_decline"),
                (Wish::Pay, "tok_decline_early"),
                (Wish::Pay, "tok_start_refused"),
                (Wish::Pay, "tok_duplicate"),
                (Wish::Pay, "tok_returned"),
                (Wish::Pay, "tok_session_error"),
                (Wish::Pay, "tok_slow"),
                (Wish::Cancel, "tok_success"),
                (Wish::Cancel, "tok_slow"),
                (Wish::Cancel, "tok_cancel_lost"),
                (Wish::Approve, "tok_duplicate"),
                (Wish::Reject, "tok_duplicate"),
                (Wish::TooMuch, "tok_duplicate"),
            ],
            Weather::Lies => &[
                (Wish::Pay, "tok_success"),
                (Wish::Pay, "tok_success"),
                (Wish::Pay, "tok_no_webhooks"),
                (Wish::Pay, "tok_start_lost"),
                (Wish::Pay, "tok_confirm_lost"),
                (Wish::Pay, "tok_start_500"),
                (Wish::TooMuch, "tok_cancel_lost"),
                (Wish::Cancel, "tok_start_lost"),
            ],
        };
        choices[chance.below(choices.len())]
    }

    /// The sandbox's scenario: a few kinds at a time, all of them as the runs go on.
    pub fn faults(&self) -> String {
        let mut text = format!("seed = {}\n", self.seed % (1 << 31));
        let all = fault_kinds();
        let kinds = match self.weather {
            Weather::Plain => vec![],
            Weather::Busy => vec!["webhook_duplicate", "webhook_replay"],
            Weather::Lies => {
                let first = turn(self.number / 3, all.len()) * FAULTS_AT_ONCE;
                all.iter().cycle().skip(first).take(FAULTS_AT_ONCE).copied().collect()
            }
        };
        kinds.into_iter().for_each(|kind| text.push_str(&rules(kind)));
        text
    }
}

fn turn(n: u64, of: usize) -> usize {
    usize::try_from(n).unwrap() % of
}

/// The names of all faults there are, as the sandbox's page for users lists them (its test sees to that).
pub fn fault_kinds() -> Vec<&'static str> {
    let page = include_str!("../../docs/sandbox.md");
    let table = page.split("| fault | what happens").nth(1).expect("the page has a table of faults");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).expect("a row has cells"));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Where and how a kind strikes: often enough for a run of two dozen payouts, and within its time-outs.
fn rules(kind: &str) -> String {
    let figures = match kind {
        // Longer than a call may take: it has its effect when its caller has gone.
        "delay_before" | "delay_after" => "delay = \"600ms\"",
        "drip" => "delay = \"20ms\"",
        "huge" => "bytes = 400000",
        "webhook_before_answer" => "delay = \"200ms\"",
        "webhook_delay" | "webhook_reorder" | "webhook_replay" => "delay = \"500ms\"",
        "webhook_duplicate" => "copies = 3",
        "story" => "story = \"tok_session_error\"",
        _ => "",
    };
    let on: &[&str] = match kind {
        // Nothing follows from a lie about what does not exist yet: a wrong name from the very first answer
        // on would be a session that nobody ever finds.
        "wrong_session" | "wrong_amount" | "wrong_currency" | "unknown_values" => &[
            "method = \"session/start/payout\"",
            "method = \"session/confirm\"",
            "method = \"session/status\"",
        ],
        "stale_status" | "status_backwards" => &["method = \"session/status\""],
        // A return is told once and never asked for: what is final is not read again.
        kind if kind.starts_with("webhook_") && kind != "webhook_before_answer" => {
            &["webhook = \"ready_to_confirm\"", "webhook = \"payment_finished\""]
        }
        _ => &[""],
    };
    let rate = if matches!(kind, "stale_status" | "status_backwards") { 0.6 } else { 0.15 };
    let rule = |on: &&str| {
        format!("[[fault]]\nfault = \"{kind}\"\nrate = {rate}\ntimes = {STRIKES}\n{on}\n{figures}\n")
    };
    on.iter().map(rule).collect()
}

/// So many plans without end have been at every point in every weather.
pub fn every_point_in_every_weather() -> usize {
    crash_point::names().len() * Weather::ALL.len() * 4 / 3
}

/// Plans without end: all points in all weathers in turn, and violence between them.
pub fn endless(seed: u64) -> impl Iterator<Item = Plan> + Send {
    let points = crash_point::names();
    let violence = [Trouble::Kills, Trouble::Freeze, Trouble::Kills, Trouble::Database];
    (0..).map(move |number: u64| {
        let its_seed = seed.wrapping_add(number);
        if number % 4 == 3 {
            let n = number / 4;
            let (weather, trouble) = (Weather::ALL[turn(n, 3)], violence[turn(n, violence.len())].clone());
            return Plan { number, seed: its_seed, weather, trouble };
        }
        // Three of four are points; the weather changes when all points were had.
        let n = number - number / 4;
        let round = n / u64::try_from(points.len()).unwrap();
        let name = points[turn(n, points.len())].clone();
        Plan::at_point(number, its_seed, name, Weather::ALL[turn(n + round, 3)])
    })
}
