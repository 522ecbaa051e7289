//! What is planted in Pike's report, and what must be found of it: lines of strangers, and lines of ours with
//! something about them.

use crate::report::Day;

pub fn sums(lines: usize, matched: usize, unreadable: usize, found: [usize; 4]) -> String {
    let [missing, extra, amount, twice] = found;
    format!(
        "{lines} lines read, {matched} matched, {unreadable} unreadable, {missing} report_missing, \
         {extra} report_extra, {amount} report_amount, {twice} report_twice, 0 accepted before"
    )
}

/// A change to the report, and what must be found: check and what became of the payout, or a subject.
pub struct Plant {
    pub what: &'static str,
    pub lines: Vec<String>,
    pub found: Vec<(&'static str, String)>,
    pub stops: bool,
    pub sums: String,
}

/// The report with one line changed.
pub fn with(day: &Day, at: usize, change: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let lines = day.lines.iter().enumerate();
    lines.flat_map(|(n, line)| if n == at { change(line) } else { vec![line.clone()] }).collect()
}

/// What Pike has and we do not.
pub async fn strange(day: &Day) -> Vec<Plant> {
    let (all, line) = (day.lines.len(), day.line("paid"));
    let id = |name: &str| day.ids[name].clone();
    let (session, failed) = (day.session("paid", 1).await, day.session("failed", 1).await);
    let (first, second) = (day.session("again", 1).await, day.session("again", 2).await);
    let old = day.line("again").replace(&second, &first);
    let old = old.replace(&format!("{}/2", id("again")), &format!("{}/1", id("again")));
    let foreign = line.replace(&session, "ps_foreign");
    let nobody = id("paid").replace("payout_0", "payout_f");
    let plant = |what, more: &[String], found, sums| {
        let lines = [&day.lines, more].concat();
        Plant { what, lines, found, stops: true, sums }
    };
    let one = sums(all + 1, all, 0, [0, 1, 0, 0]);
    vec![
        plant(
            "somebody else's",
            &[foreign.replace(&format!("{}/1", id("paid")), "order 17")],
            vec![("report_extra", "ps_foreign".to_owned())],
            one.clone(),
        ),
        plant(
            "somebody else's, twice",
            &[foreign.replace(&id("paid"), "x"), foreign.replace(&id("paid"), "x")],
            vec![("report_extra", "ps_foreign".to_owned()), ("report_twice", "ps_foreign".to_owned())],
            sums(all + 2, all, 0, [0, 1, 0, 1]),
        ),
        plant(
            "a payout that failed by our books",
            &[line.replace(&session, &failed).replace(&id("paid"), &id("failed"))],
            vec![("report_extra", id("failed"))],
            one.clone(),
        ),
        plant(
            "the first attempt, which was closed unpaid",
            &[old],
            vec![("report_extra", id("again")), ("report_twice", id("again"))],
            sums(all + 1, all - 1, 0, [0, 1, 0, 1]),
        ),
        plant(
            "our metadata in a session that is not ours",
            std::slice::from_ref(&foreign),
            vec![("report_extra", id("paid")), ("report_twice", id("paid"))],
            sums(all + 1, all - 1, 0, [0, 1, 0, 1]),
        ),
        plant(
            "a payout that we do not have",
            &[foreign.replace(&id("paid"), &nobody)],
            vec![("report_extra", nobody)],
            one,
        ),
        plant(
            "a return that our books do not have",
            &[line.replace("Advice", "Refund")],
            vec![("report_extra", id("paid"))],
            sums(all + 1, all - 1, 0, [0, 1, 0, 0]),
        ),
    ]
}

/// Something about one line of ours.
pub fn altered(day: &Day) -> Vec<Plant> {
    let (all, paid) = (day.lines.len(), day.at("paid", "Advice"));
    let id = |name: &str| day.ids[name].clone();
    let plant = |what, lines, found: Option<&'static str>, sums| {
        let stops = found.is_some_and(|check| check != "report_missing");
        Plant {
            what,
            lines,
            found: found.map(|check| (check, id("paid"))).into_iter().collect(),
            stops,
            sums,
        }
    };
    let change = |from: &str, to: &str| with(day, paid, |line| vec![line.replacen(from, to, 1)]);
    vec![
        plant(
            "a line is not there",
            with(day, paid, |_| vec![]),
            Some("report_missing"),
            sums(all - 1, all - 1, 0, [1, 0, 0, 0]),
        ),
        plant(
            "our session with other metadata",
            change(&id("paid"), &id("euros")),
            Some("report_extra"),
            sums(all, all - 1, 0, [0, 1, 0, 0]),
        ),
        plant(
            "another amount",
            change(",1250.50,", ",1250.51,"),
            Some("report_amount"),
            sums(all, all - 1, 0, [0, 0, 1, 0]),
        ),
        plant(
            "another currency",
            change(",RUB,", ",EUR,"),
            Some("report_amount"),
            sums(all, all - 1, 0, [0, 0, 1, 0]),
        ),
        plant(
            "a line twice",
            with(day, paid, |line| vec![line.to_owned(); 2]),
            Some("report_twice"),
            sums(all + 1, all - 1, 0, [0, 0, 0, 1]),
        ),
        plant(
            "a line that cannot be read, more",
            [&day.lines[..], &["\"what, is this".to_owned()]].concat(),
            None,
            sums(all + 1, all, 1, [0; 4]),
        ),
        plant(
            "a line that cannot be read any more",
            change(",RUB,", ",RU,"),
            Some("report_missing"),
            sums(all, all - 1, 1, [1, 0, 0, 0]),
        ),
    ]
}
