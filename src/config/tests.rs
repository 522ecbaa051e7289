//! The defaults are what they are documented to be; every kind of mistake is named with file, key and what is
//! allowed, all of them at once; secrets stay out of sight.

use super::{scratch::Scratch, *};
use crate::domain::policy::{self, Mode, ResendStart};
use crate::keys::{self, ForSandbox};
use std::{collections::BTreeSet, fs};

const RULES: &str = "version = \"v1\"\n[amounts.RUB]\nmin = 100\nmax = 1000\n";
const DATABASE: &str = "[database]\nurl = \"postgres://u:hunter2@h/d\"\n";
const PROJECT: &str = "[projects.main]\npike_project = \"shop\"\nsigning_key_file = \"payoutd.key.pem\"\n\
    pike_public_key_files = [\"pike.pub.pem\"]\n";

/// A directory with keys, rules and a settings file.
struct Desk(Scratch);

impl Desk {
    fn new() -> Self {
        let desk = Self(Scratch::new());
        keys::generate(desk.0.path(), ForSandbox::Yes).unwrap();
        desk.0.file("rules.toml", RULES, 0o644);
        desk
    }

    fn load(&self, settings: &str) -> Result<Config, ConfigProblems> {
        Config::load(Some(&self.0.file("p.toml", settings, 0o644)), &|_| None)
    }

    /// The problems, each without the directory.
    fn lines(&self, settings: &str) -> Vec<String> {
        let problems = self.load(settings).map(|_| ()).unwrap_err();
        let directory = format!("{}/", self.0.path().display());
        problems.to_string().lines().map(|line| line.replace(&directory, "")).collect()
    }

    /// Exactly one problem, and it begins like this.
    #[track_caller]
    fn one(&self, settings: &str, expected: &str) {
        let lines = self.lines(settings);
        assert_eq!(lines.len(), 1, "{settings}\n{lines:#?}");
        let expected = format!("p.toml: {expected}");
        assert!(lines[0].starts_with(&expected), "{}\nshould begin with\n{expected}", lines[0]);
    }
}

fn good(more: &str) -> String {
    format!("{DATABASE}{PROJECT}{more}")
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn the_defaults_are_as_documented() {
    let config = Desk::new().load(&good("")).unwrap();
    assert_eq!(config.database.max_connections, 20);
    let listeners = [config.api, config.webhook, config.admin].map(|listener| listener.listen.to_string());
    assert_eq!(listeners, ["127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8082"]);
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "info"));
    let pike = &config.pike;
    assert_eq!(pike.base_url, "https://proxy-demo.pikepayments.com");
    assert_eq!((pike.api_version, pike.second_start_refused), (ApiVersion::V2, false));
    assert_eq!((pike.connect_timeout, pike.total_timeout), (secs(3), secs(15)));
    assert_eq!((pike.max_response_bytes, pike.max_in_flight), (262_144, 64));
    assert_eq!((pike.calls_per_second, pike.reads_per_second), (0, 5));
    let breaker = &config.breaker;
    assert_eq!((breaker.failures, breaker.pause, breaker.longest_pause), (10, secs(5), secs(60)));
    assert_eq!(pike.confirm_window, secs(240 * 60));
    assert_eq!((pike.start_unresolved_after, pike.stale_read_grace), (secs(60), secs(60)));
    let polling = &config.polling;
    assert_eq!((polling.first, polling.steady, polling.longest), (secs(5), secs(30), secs(15 * 60)));
    let effects = &config.effects;
    assert_eq!((effects.lease, effects.idle_poll), (secs(60), millis(250)));
    assert_eq!((effects.retry_first, effects.retry_longest), (millis(500), secs(60)));
    assert_eq!((config.inbox.lease, config.inbox.orphan_for), (secs(30), secs(24 * 3600)));
    assert_eq!(config.inbox.park_after, 5);
    assert_eq!(config.holds.margin, secs(15 * 60));
    assert_eq!(config.rules.file.file_name().unwrap(), "rules.toml");
    assert_eq!(config.permit.max_age, secs(5 * 60));
    assert_eq!(config.policy().attempts, policy::Attempts::OFF);
    assert_eq!((config.mode(), config.reconcile.recent), (Mode::Everything, secs(3 * 24 * 3600)));
    let defaults = policy::StopLine::default();
    assert_eq!(config.stop_line(), defaults);
    assert_eq!((defaults.anomalies, defaults.window), (3, time::Duration::HOUR));
    let notifications = &config.notifications;
    assert_eq!((notifications.timeout, notifications.retry_first), (secs(5), secs(5)));
    assert_eq!((notifications.retry_longest, notifications.give_up_after), (secs(6 * 3600), secs(72 * 3600)));
    assert!(!notifications.allow_private_addresses);
    assert_eq!((config.shutdown.drain, config.shutdown.grace), (secs(0), secs(20)));
    let project = &config.projects["main"];
    assert_eq!((project.pike_project.as_str(), &project.submerchant), ("shop", &None));
    assert_eq!(project.webhook_signature_header, "X-PARTNER-SIGN");
    assert!(
        matches!(&project.webhook, WebhookScheme::PikeRsaSha256 { public_keys } if public_keys.len() == 1)
    );
    assert!(project.notify.is_none());
}

/// The comments directly above a key, joined.
fn comment(text: &str, section: &str, name: &str) -> String {
    let start = text.find(&format!("[{section}]\n")).unwrap();
    let mut comments = vec![];
    for line in text[start..].lines().skip(1) {
        match line.strip_prefix('#') {
            Some(comment) => comments.push(comment.trim()),
            None if line.starts_with(&format!("{name} =")) => return comments.join(" "),
            None => comments.clear(),
        }
    }
    panic!("{section}.{name} is not in default.toml");
}

/// The commented-out example project, as if it were not.
fn example_project() -> String {
    let start = walk::DEFAULTS.find("# [projects.example]").unwrap();
    walk::DEFAULTS[start..].lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap())).collect()
}

#[test]
fn default_toml_holds_exactly_the_keys_of_the_schema_and_says_what_each_allows() {
    let (defaults, example) = (walk::defaults(), example_project());
    let project: Table = example.parse().unwrap();
    let listed = |path: &str, table: &Table| -> Vec<String> {
        table.keys().map(|name| format!("{path}.{name}")).collect()
    };
    let mut in_file: BTreeSet<String> =
        defaults.iter().flat_map(|(name, section)| listed(name, section.as_table().unwrap())).collect();
    in_file.extend(listed("projects", project["projects"]["example"].as_table().unwrap()));
    let keys = || schema::SETTINGS.iter().chain(schema::PROJECT);
    let in_schema: BTreeSet<String> = keys().map(|key| format!("{}.{}", key.section, key.name)).collect();
    assert_eq!(in_file, in_schema);
    for key in keys() {
        let (text, section) = if key.section == "projects" {
            (example.as_str(), "projects.example")
        } else {
            (walk::DEFAULTS, key.section)
        };
        let comment = comment(text, section, key.name);
        let allowed = format!("Allowed: {}.", key.kind);
        assert!(comment.contains(&allowed), "{}.{}: {comment}\nlacks\n{allowed}", key.section, key.name);
        assert!(comment.len() > allowed.len() + 10, "{}.{} has no reason", key.section, key.name);
    }
}

#[test]
fn the_defaults_pass_their_own_schema() {
    let mut problems = Problems::of("default.toml");
    let projects = walk::overlay(&mut walk::defaults(), walk::defaults(), &mut problems);
    assert!(problems.is_empty() && projects.is_empty(), "{problems:?}");
    let example = walk::parse(&example_project(), &mut problems).unwrap();
    let projects = walk::overlay(&mut walk::defaults(), example, &mut problems);
    assert!(problems.is_empty() && projects.len() == 1, "{problems:?}");
}

#[test]
fn the_example_projects_optional_keys_show_their_defaults() {
    let project: Table = example_project().parse().unwrap();
    let mut shown: project::Written = project["projects"]["example"].clone().try_into().unwrap();
    let required = ["pike_project", "signing_key_file", "pike_public_key_files"];
    assert!(schema::PROJECT_REQUIRED.iter().all(|name| required.contains(name)));
    shown.pike_project.clear();
    shown.signing_key_file.clear();
    shown.pike_public_key_files.clear();
    assert_eq!(shown, Value::Table(Table::new()).try_into().unwrap());
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let lines = Desk::new().lines(
        "[pike]\ntotal_timeout = \"2m\"\nconnect_timeout = \"bad\"\nfoo = 1\n\
         [effects]\nlease = \"1s\"\n[polling]\nfirst = \"1m\"\n\
         [projects.a]\nsigning_key_file = \"no.pem\"\n[projects.b]\npike_project = 1\n",
    );
    let keys: Vec<&str> = lines.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    let expected = [
        // What follows from the wrong timeouts, the lease, is not said as well.
        "pike.connect_timeout",
        "pike.foo",
        "pike.total_timeout",
        "projects.b.pike_project",
        "database.url",
        "polling.first",
        "projects.a.pike_project",
        "projects.a.signing_key_file",
        "projects.a.pike_public_key_files",
        "projects.b.signing_key_file",
        "projects.b.pike_public_key_files",
    ];
    assert_eq!(keys, expected, "{lines:#?}");
}

#[test]
fn the_environment_replaces_three_settings() {
    let desk = Desk::new();
    let file = desk.0.file("p.toml", &format!("[database]\nurl = \"\"\n{PROJECT}"), 0o644);
    let load = |variables: &'static [(&str, &str)]| {
        let find =
            move |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        Config::load(Some(&file), &find)
    };
    let config = load(&[
        ("DATABASE_URL", "postgres://env"),
        ("PAYOUTD_PIKE_BASE_URL", "http://127.0.0.1:9000/"),
        ("PAYOUTD_LOG", "debug"),
    ])
    .unwrap();
    assert_eq!(config.database.url.expose_secret(), "postgres://env");
    assert_eq!(
        (config.pike.base_url.as_str(), config.log.level.as_str()),
        ("http://127.0.0.1:9000", "debug")
    );
    let missing = load(&[("DATABASE_URL", "")]).unwrap_err().to_string();
    assert!(
        missing.contains("p.toml: database.url: is empty, and DATABASE_URL is not set; postgres://user:")
    );
    assert_eq!(missing.lines().count(), 1, "{missing}");
    let wrong = load(&[("DATABASE_URL", "hunter2"), ("PAYOUTD_LOG", "loud")]).unwrap_err().to_string();
    let lines: Vec<&str> = wrong.lines().collect();
    assert_eq!(lines.len(), 2, "{wrong}");
    let hidden =
        "environment: DATABASE_URL: the value, not repeated here, does not fit; postgres://user:password";
    assert!(lines[0].starts_with(hidden), "{wrong}");
    assert!(lines[1].starts_with("environment: PAYOUTD_LOG: \"loud\" does not fit; off, error"), "{wrong}");
}

#[test]
fn without_a_file_the_problems_name_the_defaults() {
    let problems = Config::load(None, &|_| None).unwrap_err().to_string();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 2, "{problems}");
    assert!(lines[0].starts_with("built-in defaults: database.url: is empty"), "{problems}");
    assert!(lines[1].starts_with("built-in defaults: projects: none is set up"), "{problems}");
}

#[test]
fn a_file_that_is_not_toml_is_one_problem_and_its_text_is_not_repeated() {
    let desk = Desk::new();
    for value in ["\"postgres://u:hunter2@h/d", "postgres://u:hunter2@h/d", "hunter2", "\"a\" \"hunter2\""] {
        let lines = desk.lines(&format!("[log]\nlevel = \"info\"\n[database]\nurl = {value}\nmax = 1\n"));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("p.toml: is not TOML at line 4, column "), "{lines:#?}");
        assert!(!lines[0].contains("hunter2"), "{lines:#?}");
    }
    desk.one("[log]\nlevel = \"info\"\nlevel = \"info\"\n", "is not TOML at line 3, column 1");
    let missing = Config::load(Some(&desk.0.path().join("no.toml")), &|_| None).unwrap_err().to_string();
    assert!(
        missing.ends_with("no.toml: does not exist; a readable file like config/default.toml"),
        "{missing}"
    );
}

#[test]
fn hmac_and_notifications_are_read_whole() {
    let desk = Desk::new();
    let secret = keys::new_webhook_secret().unwrap();
    keys::write_secret(&desk.0.path().join("webhook.secret"), &secret).unwrap();
    let project = PROJECT.replace("pike_public_key_files = [\"pike.pub.pem\"]\n", "");
    let config = desk
        .load(&format!(
            "[notifications]\nallow_private_addresses = true\n{DATABASE}{project}submerchant = \"s\"\n\
             webhook_scheme = \"hmac-sha256\"\nwebhook_secret_file = \"webhook.secret\"\n\
             notify_url = \"http://127.0.0.1:1/hook\"\nnotify_secret_file = \"notify.secret\"\n"
        ))
        .unwrap();
    let project = &config.projects["main"];
    assert_eq!(project.submerchant.as_deref(), Some("s"));
    let WebhookScheme::HmacSha256 { secret: read } = &project.webhook else { panic!("{project:?}") };
    assert_eq!(read.expose_secret(), secret.expose_secret());
    let notify = project.notify.as_ref().unwrap();
    assert!(notify.url == "http://127.0.0.1:1/hook" && notify.secret.expose_secret().starts_with("whsec_"));
    let shown = format!("{config:?}");
    for hidden in ["hunter2", "whsec_", secret.expose_secret(), "PRIVATE KEY"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[test]
fn the_policy_follows_the_settings() {
    let desk = Desk::new();
    let policy = desk.load(&good("")).unwrap().policy();
    assert_eq!(policy.resend_start, ResendStart::Never);
    assert_eq!(policy.confirm_window, time::Duration::minutes(240));
    assert_eq!(policy.hold_margin, time::Duration::minutes(15));
    assert_eq!(policy.start_unresolved_after, time::Duration::seconds(60));
    assert_eq!(policy.stale_read_grace, time::Duration::seconds(60));
    assert_eq!(policy.polling.first, time::Duration::seconds(5));
    assert_eq!(policy.polling.steady, time::Duration::seconds(30));
    assert_eq!(policy.polling.longest, time::Duration::minutes(15));
    let on = "[attempts]\nmax = 2\ncodes = [\"provider_timeout\"]\npause = \"5m\"\n";
    let attempts = desk.load(&good(on)).unwrap().policy().attempts;
    assert_eq!((attempts.most, attempts.pause), (2, time::Duration::minutes(5)));
    assert!(attempts.another(1, "provider_timeout") && !attempts.another(2, "provider_timeout"));
    let looking = format!("{on}[reconcile]\nonly = true\n");
    let attempts = desk.load(&good(&looking)).unwrap().policy().attempts;
    assert!(attempts.unsure, "who only looks begins nothing, and calls nothing failed for good");
    let policy = desk.load(&good("[pike]\nsecond_start_refused = true")).unwrap().policy();
    assert_eq!(policy.resend_start, ResendStart::SameSession);
}

#[test]
fn check_summarises_good_settings_and_reports_both_files() {
    let desk = Desk::new();
    let file = desk.0.file("p.toml", &good(""), 0o644);
    let summary = check(Some(&file), &|_| None).unwrap();
    for part in [
        "127.0.0.1:8082",
        "https://proxy-demo.pikepayments.com",
        "main: shop, webhooks pike-rsa-sha256",
        "v1#",
    ] {
        assert!(summary.contains(part), "{summary}");
    }
    assert!(!summary.contains("hunter2"), "{summary}");
    desk.0.file("rules.toml", "version = 1\n", 0o644);
    desk.0.file("p.toml", &good("[log]\nlevel = 1"), 0o644);
    let problems = check(Some(&file), &|_| None).unwrap_err();
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["log.level", "version", "amounts"]);
    assert!(problems.0[1].file.ends_with("rules.toml"), "{problems}");
    fs::remove_file(&file).unwrap();
    assert_eq!(check(Some(&file), &|_| None).unwrap_err().0.len(), 1);
}

mod mistakes;
