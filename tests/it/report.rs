//! Pike's daily report against our books: a real one agrees, and whatever is planted in it, each kind of
//! difference is found by its name, kept, counted and stops what it should, until both sides agree again.

use crate::{
    parked::payoutd,
    planted::{Plant, altered, strange, sums, with},
    support::{http_client, rest::order, until},
    world::{PIKE_SHOP, World},
};
use payoutd::clock::Clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use time::{Date, Duration};

/// What a reading came to.
#[derive(Debug)]
struct Reading {
    code: Option<i32>,
    /// Check and subject of each line on standard output.
    told: Vec<(String, String)>,
    out: String,
    sums: String,
}

/// A world with payouts of all kinds, and Pike's report on them.
pub struct Day {
    world: World,
    /// By what became of them.
    pub ids: BTreeMap<&'static str, String>,
    header: String,
    pub lines: Vec<String>,
    date: Date,
    offset: String,
}

impl Day {
    async fn new() -> Self {
        let world = World::with(|setup| {
            setup.set("checker.every", "1s");
            setup.set("attempts.max", "2");
            setup.set("attempts.codes", r#"["provider_timeout"]"#);
            setup.set("attempts.pause", "1s");
        })
        .await;
        let api = world.caller();
        let mut ids = BTreeMap::new();
        let story = json!({ "fault": "story", "story": "tok_fail_provider_timeout", "times": 1 });
        world.fault(story).await;
        let mut euros = order("tok_success");
        euros["currency"] = json!("EUR");
        for (name, order, status) in [
            ("again", order("tok_success"), "succeeded"),
            ("paid", order("tok_success"), "succeeded"),
            ("euros", euros, "succeeded"),
            ("failed", order("tok_decline"), "failed"),
            ("cancelled", order("tok_country_PRK"), "cancelled"),
        ] {
            ids.insert(name, api.run(&order, status).await["id"].as_str().unwrap().to_owned());
        }
        let back = api.create(&order("tok_returned")).await;
        api.wait(&back, "returned", |payout| payout["status"] == "returned").await;
        ids.insert("returned", back);
        world.api("stranger").run(&order("tok_success"), "succeeded").await;
        // Where it is about noon, so that no midnight falls into a test.
        let now = Clock.now();
        let hours = 12 - i64::from(now.hour());
        let offset = format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs());
        let date = (now + Duration::hours(hours)).date();
        let query = format!("project={PIKE_SHOP}&date={date}&offset={}", offset.replace('+', "%2B"));
        let url = format!("http://{}/_sandbox/reports/payouts.csv?{query}", world.sandbox);
        let text = http_client().get(url).send().await.unwrap().text().await.unwrap();
        let mut lines = text.lines().map(str::to_owned);
        let header = lines.next().unwrap();
        Self { world, ids, header, lines: lines.collect(), date, offset }
    }

    /// The line that Pike wrote about a payout, of a kind.
    pub fn at(&self, name: &str, kind: &str) -> usize {
        let of = |line: &String| line.contains(&self.ids[name]) && line.contains(kind);
        self.lines.iter().position(of).unwrap_or_else(|| panic!("no {kind} of {name}: {:#?}", self.lines))
    }

    pub fn line(&self, name: &str) -> String {
        self.lines[self.at(name, "Advice")].clone()
    }

    pub async fn session(&self, name: &str, attempt: i32) -> String {
        let ledger = self.world.ledger().await;
        let tag = format!("{}/{attempt}", self.ids[name]);
        let line = ledger.sessions().iter().find(|line| line["metadata"] == json!(tag)).unwrap();
        line["id"].as_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, lines: &[String]) -> String {
        let text: String = [&self.header].into_iter().chain(lines).map(|line| format!("{line}\n")).collect();
        let file = self.world.dir.file(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn command(&self, arguments: &[&str]) -> Reading {
        let offset = format!("--utc-offset={}", self.offset);
        let arguments = [&["reconcile-report", "--project", "shop", &offset], arguments].concat();
        let output = payoutd(&self.world, &arguments).await;
        let out = String::from_utf8(output.stdout).unwrap();
        let told = out.lines().map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        });
        let sums = String::from_utf8(output.stderr).unwrap().lines().last().unwrap_or_default().to_owned();
        Reading { code: output.status.code(), told: told.collect(), out, sums }
    }

    /// Reads these lines as the report of a day, its name saying which.
    async fn read_as(&self, date: Date, lines: &[String]) -> Reading {
        let file = self.write(&format!("{PIKE_SHOP}_{date}_{date}.csv"), lines);
        self.command(&[&file]).await
    }

    async fn read(&self, lines: &[String]) -> Reading {
        self.read_as(self.date, lines).await
    }

    async fn agrees(&self) {
        let reading = self.read(&self.lines).await;
        assert_eq!((reading.code, reading.out.as_str()), (Some(0), ""), "{reading:?}");
        assert_eq!(self.open().await, []);
    }

    async fn open(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT check_name, subject FROM findings WHERE gone_at IS NULL ORDER BY 1, 2")
            .fetch_all(&self.world.pool)
            .await
            .unwrap()
    }

    async fn switch(&self) -> Value {
        self.world.api("operator").get("/v1/confirms").await.body["switches"]["project"].clone()
    }

    async fn switch_on(&self) {
        let on = json!({ "confirms": "on", "reason": "seen" });
        assert_eq!(self.world.api("operator").put("/v1/confirms", &on).await.status, 200);
    }

    /// Waits until the checker has begun and ended a turn.
    async fn another_turn(&self) {
        let fence = "SELECT fence FROM checker";
        let before = self.world.count(fence).await;
        let later = || async { (self.world.count(fence).await > before + 2).then_some(()) };
        until("more turns of the checker", later).await;
    }

    async fn figure(&self, check: &str, count: usize) {
        let line = format!("payoutd_checker_findings{{check=\"{check}\"}} {count}\n");
        let shown = || async { self.world.admin("/metrics").await.1.contains(&line).then_some(()) };
        until(&line, shown).await;
    }
}

#[tokio::test]
async fn a_real_report_agrees_and_each_difference_is_found_by_its_name() {
    let day = Day::new().await;
    // Paid four times, one of them with the second attempt, and one came back.
    assert_eq!(day.lines.len(), 5, "{:#?}", day.lines);
    assert!(day.lines[day.at("again", "Advice")].contains("/2"), "{:#?}", day.lines);
    let reading = day.read(&day.lines).await;
    assert_eq!((reading.code, reading.sums), (Some(0), sums(5, 5, 0, [0; 4])), "{}", reading.out);
    for Plant { what, lines, found, stops, sums } in strange(&day).await.into_iter().chain(altered(&day)) {
        let found: Vec<(String, String)> =
            found.into_iter().map(|(check, subject)| (check.to_owned(), subject)).collect();
        let reading = day.read(&lines).await;
        assert_eq!((reading.code, &reading.sums), (Some(3), &sums), "{what}: {}", reading.out);
        assert_eq!(day.open().await, found, "{what}");
        let unreadable = reading.told.iter().filter(|(check, _)| check == "unreadable").count();
        assert_eq!(reading.told[unreadable..], found, "{what}");
        assert_eq!(day.switch().await, if stops { "off" } else { "on" }, "{what}");
        day.switch_on().await;
        // The same again is no news: nothing is found anew or thrown again.
        let again = day.read(&lines).await;
        assert_eq!((&again.out, &again.sums), (&reading.out, &sums), "{what}");
        assert_eq!(day.switch().await, "on", "{what}");
        day.agrees().await;
    }
}

#[tokio::test]
async fn what_is_found_stays_until_both_sides_agree_or_a_person_accepts_it() {
    let day = Day::new().await;
    let id = &day.ids["paid"];
    let line = day.line("paid");
    day.agrees().await;
    // Paid again on the day after, as the report of that day says.
    let next = day.date.next_day().unwrap();
    let later = line.replace(&day.date.to_string(), &next.to_string());
    let reading = day.read_as(next, std::slice::from_ref(&later)).await;
    assert_eq!(reading.told, [("report_twice".to_owned(), id.clone())], "{reading:?}");
    for date in [day.date, next] {
        assert!(reading.out.contains(&format!("of {date}")), "{}", reading.out);
    }
    assert_eq!(day.switch().await, "off");
    day.figure("report_twice", 1).await;
    // The checker in the background looks at the payout and leaves the finding alone; so does another report
    // that says nothing about it.
    day.another_turn().await;
    assert_eq!(day.open().await, [("report_twice".to_owned(), id.clone())]);
    let reading = day.read(&day.lines).await;
    assert_eq!((reading.code, reading.told.len()), (Some(3), 1), "{reading:?}");
    let accept = ["findings", "accept", "report_twice", id, "--reason", "they will send it back"];
    assert!(payoutd(&day.world, &accept).await.status.success());
    day.figure("report_twice", 0).await;
    let reading = day.read_as(next, std::slice::from_ref(&later)).await;
    assert_eq!((reading.code, reading.out.as_str()), (Some(0), ""), "{reading:?}");
    assert!(reading.sums.ends_with(", 1 accepted before"), "{reading:?}");
    // What Pike takes back is gone.
    day.read_as(next, &[]).await;
    day.agrees().await;
}

#[tokio::test]
async fn what_is_missing_may_come_with_another_report() {
    let day = Day::new().await;
    let (id, paid, back) = (day.ids["paid"].clone(), day.at("paid", "Advice"), day.at("returned", "Refund"));
    let without = with(&day, paid, |_| vec![]);
    assert_eq!(day.read(&without).await.told, [("report_missing".to_owned(), id)]);
    day.figure("report_missing", 1).await;
    day.another_turn().await;
    assert_eq!(day.open().await.len(), 1);
    let next = day.date.next_day().unwrap();
    let later = day.line("paid").replace(&day.date.to_string(), &next.to_string());
    let reading = day.read_as(next, &[later]).await;
    assert_eq!((reading.code, day.open().await.len()), (Some(0), 0), "{reading:?}");
    day.read_as(next, &[]).await;
    // Half a report, as somebody left it who died, counts for nothing.
    let half = "WITH r AS (INSERT INTO reports (project_id, day, content_hash, lines, unreadable)
            SELECT project_id, day - 9, content_hash, lines, 0 FROM reports LIMIT 1 RETURNING id)
        INSERT INTO report_lines SELECT r.id, part, line, project_id, operation_id, session_id, kind, tag,
            payout_id, amount_minor, currency FROM report_lines, r";
    sqlx::query(half).execute(&day.world.pool).await.unwrap();
    // In two parts.
    let (one, two) = day.lines.split_at(2);
    let parts = [day.write("one.csv", one), day.write("two.csv", two)];
    let reading = day.command(&["--date", &day.date.to_string(), &parts[0], &parts[1]]).await;
    assert_eq!((reading.code, reading.sums), (Some(0), sums(5, 5, 0, [0; 4])), "{}", reading.out);
    // What came back yesterday must be in today's report at the latest.
    let yesterday = "UPDATE payouts SET since = since - interval '1 day' WHERE state = 'returned'";
    sqlx::query(yesterday).execute(&day.world.pool).await.unwrap();
    day.agrees().await;
    let reading = day.read(&with(&day, back, |_| vec![])).await;
    let subject = format!("{}/returned", day.ids["returned"]);
    assert_eq!(reading.told, [("report_missing".to_owned(), subject)], "{reading:?}");
    day.agrees().await;
}

#[tokio::test]
async fn a_file_that_is_no_report_of_that_day_is_refused() {
    let day = Day::new().await;
    let good = day.write("good.csv", &day.lines);
    let bad = day.world.dir.file("bad.csv").to_str().unwrap().to_owned();
    std::fs::write(&bad, format!("{}\n", day.lines[0])).unwrap();
    let date = day.date.to_string();
    let before = day.date.previous_day().unwrap().to_string();
    for (arguments, why) in [
        (vec![good.as_str()], "--date"),
        (vec!["--date", &before, &good], "is that its day"),
        (vec!["--date", &date, &good, &bad], "does not name the columns"),
        (vec!["--date", &date, "gone.csv"], "gone.csv"),
    ] {
        let reading = day.command(&arguments).await;
        assert!(reading.code == Some(1) && reading.sums.contains(why), "{reading:?}");
    }
    let nobody = ["reconcile-report", "--project", "nobody", "--date", &date, &good];
    assert_eq!(payoutd(&day.world, &nobody).await.status.code(), Some(1));
    assert_eq!(day.world.count("SELECT count(*) FROM reports").await, 0);
    assert_eq!(day.open().await, []);
}
