//! The house rules, checked from the source text: which room may use which, how large things may grow, and
//! what must not be there at all. The tables come first; `tidy/source.rs` reads Rust just well enough to
//! apply them. Every check carries an example that it must catch, so that none can go blind unnoticed.

#[path = "tidy/source.rs"]
mod source;

use source::{Source, is_word_char, sources, uses, words};

/// Rooms and what of ours each may use. A name stands for everything in it, `store::inbox` for that part
/// only. A new arrow is a decision of its own: docs/adr/.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("store", &["domain"]),
    ("engine", &["domain", "store", "batch", "clock", "crash_point", "telemetry"]),
    ("pike", &["domain", "keys", "crash_point", "telemetry"]),
    ("notify", &["domain", "telemetry"]),
    ("api", &["engine", "store", "batch", "domain", "http", "clock", "crash_point", "telemetry"]),
    ("console", &["engine", "store", "domain", "http", "clock", "telemetry"]),
    (
        "webhook",
        &[
            "store::inbox",
            "store::retry",
            "store::writer",
            "store::StoreError",
            "domain",
            "keys",
            "batch",
            "http",
            "clock",
            "crash_point",
            "telemetry",
        ],
    ),
    (
        "worker",
        &[
            "engine",
            "store",
            "pike",
            "notify",
            "webhook",
            "domain",
            "batch",
            "clock",
            "crash_point",
            "telemetry",
        ],
    ),
    ("sandbox", &["clock", "telemetry"]),
    // The ground floor.
    ("batch", &[]),
    ("clock", &[]),
    ("crash_point", &[]),
    ("telemetry", &[]),
    ("http", &[]),
    ("config", &["domain", "keys", "http"]),
    ("keys", &["config::scratch"]),
    ("admin", &["store", "telemetry"]),
    // These put the rooms together.
    ("dev", &["*"]),
    ("app", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// Used by no room, not even by one that may use everything: not part of the service.
const ONLY_FOR_MAIN: &str = "dev";

const LINE_COLUMNS: usize = 110;
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// Words that name no responsibility.
const EMPTY_WORDS: [&str; 6] = ["manager", "service", "helper", "util", "common", "processor"];

/// Text that may stand only where it says: what, where under `src/` (nowhere if empty), why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("axum::serve", &["sandbox"], "axum's own server installs no timer: use http::serve"),
    ("sqlx::query", &["store"], "SQL lives in store"),
    ("sqlx::query_as", &["store"], "SQL lives in store"),
    ("sqlx::query_scalar", &["store"], "SQL lives in store"),
    ("sqlx::query_with", &["store"], "SQL lives in store"),
    ("sqlx::raw_sql", &["store"], "SQL lives in store"),
    ("sqlx::QueryBuilder", &["store"], "SQL lives in store"),
    ("reqwest::get", &[], "its client follows redirects and waits for ever"),
];

/// What the domain must not know, being pure: words of its code.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "sqlx",
    "axum",
    "reqwest",
    "tracing",
    "metrics",
    "rand",
    "Serialize",
    "Deserialize",
    "SystemTime",
    "Instant",
    "now_utc",
    "now_v7",
    "new_v4",
    "fs",
    "net",
    "env",
];

/// What every HTTP client of ours sets where it is built. By default a 307 delivers one POST eleven times,
/// the environment chooses a proxy, and there is no time limit.
const CLIENT_SETS: [&str; 3] = [".redirect(Policy::none())", ".no_proxy()", ".timeout("];

struct Check {
    name: &'static str,
    /// Says what is wrong in a file.
    find: fn(&Source) -> Vec<String>,
    /// Files that break the rule.
    bad: &'static [(&'static str, &'static str)],
    /// Files that look like it and do not.
    good: &'static [(&'static str, &'static str)],
}

const CHECKS: &[Check] = &[
    Check {
        name: "a room uses only what the table allows",
        find: foreign_rooms,
        bad: &[
            ("src/domain/payout.rs", "use crate::store::payouts;"),
            ("src/webhook/mod.rs", "use crate::{domain::Id, store::{inbox, payouts}};"),
            ("src/pike.rs", "fn f() { super::engine::apply() }"),
            ("src/api/list.rs", "use super::super::worker::Sweep;"),
            ("src/sandbox/ledger.rs", "fn f() -> crate::http::Limits { todo() }"),
            ("src/app.rs", "use crate::dev::postgres::Cluster;"),
            ("src/brandnew.rs", ""),
            ("src/api/mod.rs", "use crate::*;"),
        ],
        good: &[
            (
                "src/webhook/mod.rs",
                "use crate::{domain::Id, store::inbox::{self, Row}};\nuse crate::store::inbox;",
            ),
            ("src/api/list.rs", "use crate::api::dto; use super::super::domain; // crate::worker"),
            ("src/app.rs", "use crate::worker; const A: &str = \"crate::dev\";"),
            ("src/store.rs", "use crate::domain::Payout;"),
        ],
    },
    Check {
        name: "lines, files and functions fit",
        find: sizes,
        // Too long to write here: `each_size_has_its_limit` makes them.
        bad: &[],
        good: &[("src/app.rs", "fn small() {\n}\ntype Callback = fn(usize) -> usize;\n")],
    },
    Check {
        name: "a module says its role",
        find: no_module_prose,
        bad: &[("src/app.rs", "use crate::clock;\n//! Too late.")],
        good: &[("src/app.rs", "//! The composition root.\n")],
    },
    Check {
        name: "a name says a responsibility",
        find: empty_names,
        bad: &[
            ("src/worker/utils.rs", ""),
            ("src/common/mod.rs", ""),
            ("src/app.rs", "pub struct PayoutManager;"),
            ("src/app.rs", "mod test_helpers { }"),
            ("src/app.rs", "trait EventProcessor {}"),
        ],
        good: &[("src/app.rs", "use tower::Service; let service = service_fn(); struct Managed;")],
    },
    Check {
        name: "some things have one place",
        find: misplaced,
        bad: &[
            ("src/api/mod.rs", "let a = sqlx::query(\"SELECT 1\");"),
            ("src/worker.rs", "use sqlx::{Postgres, query_as};"),
            ("src/app.rs", "axum::serve(listener, router).await"),
            ("src/pike/mod.rs", "let a = reqwest::get(url);"),
        ],
        good: &[
            ("src/store/inbox.rs", "let a = sqlx::query!(\"SELECT 1\");"),
            ("src/sandbox/mod.rs", "axum::serve(listener, router).await"),
            ("src/app.rs", "/// Not `axum::serve`.\nuse axum::{Router, response::Response};"),
        ],
    },
    Check {
        name: "the domain is pure",
        find: impurity,
        bad: &[
            ("src/domain/decide.rs", "async fn decide() {}"),
            ("src/domain/money.rs", "#[derive(Serialize)]\nstruct Money;"),
            ("src/domain.rs", "let now = OffsetDateTime::now_utc();"),
        ],
        good: &[
            ("src/domain/decide.rs", "// now\nfn decide(at: OffsetDateTime) {}"),
            ("src/app.rs", "async fn f() {}"),
        ],
    },
    // A commit that notifies takes a lock of the whole cluster until it is done: 1,282 commits a second were
    // measured with it, 5,487 without. Work is found by polling; a wake-up inside the process only hastens
    // it.
    Check {
        name: "no NOTIFY",
        find: notify,
        bad: &[
            ("src/store/effects.rs", "sqlx::query(\"NOTIFY effects\")"),
            ("src/store/effects.rs", "sqlx::query(\"SELECT pg_notify('a', 'b')\")"),
            ("migrations/1_a.sql", "CREATE FUNCTION f() AS 'notify effects'"),
        ],
        good: &[
            ("migrations/1_a.sql", "-- never NOTIFY\nCREATE TABLE notifications (notify_url text);"),
            ("src/store/effects.rs", "// NOTIFY is slow\nuse crate::notify;"),
        ],
    },
    Check {
        name: "an HTTP client follows nothing, trusts no environment and gives up",
        find: loose_clients,
        bad: &[
            ("src/pike/client.rs", "fn f() { reqwest::Client::new() }"),
            (
                "src/pike/client.rs",
                "use reqwest::Client;\nfn f() { Client::builder().no_proxy().timeout(T).build() }",
            ),
            (
                "src/notify.rs",
                "fn f() { reqwest::ClientBuilder::new().timeout(T).build() }\n\
                 fn g() { x.redirect(Policy::none()).no_proxy() }",
            ),
        ],
        good: &[(
            "src/pike/client.rs",
            "fn f() {\n reqwest::Client::builder()\n .redirect(reqwest::redirect::Policy::none())\n \
             .no_proxy()\n .timeout(TOTAL)\n .build() }",
        )],
    },
];

fn foreign_rooms(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("room `{room}` is not in the table")];
    };
    let mut used = uses(&source.code, "crate");
    used.extend(source.uses_through_super().into_iter().filter(|path| {
        // `super::` from a room's own tests may end in anything; only a room's name is a way out.
        ROOMS.iter().any(|(name, _)| is_in(path, name))
    }));
    let is_fine = |path: &String| {
        is_in(path, room)
            || (allowed.contains(&"*") && (room == "main" || room == "lib" || !is_in(path, ONLY_FOR_MAIN)))
            || allowed.iter().any(|allowed| is_in(path, allowed))
    };
    used.into_iter()
        .filter(|path| !is_fine(path))
        .map(|path| format!("`{room}` may not use `{path}`"))
        .collect()
}

/// Whether `path` is `place` or something in it.
fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn sizes(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS {
            found.push(format!("line {} has {columns} columns", number + 1));
        }
    }
    let lines = source.text.lines().count();
    if source.is_ours() && lines > FILE_LINES {
        found.push(format!("the file has {lines} lines"));
    }
    for function in source.functions() {
        let lines = source.code[function.clone()].lines().count();
        if lines > FUNCTION_LINES {
            found.push(format!("the function at line {} has {lines} lines", source.line_of(function.start)));
        }
    }
    found
}

fn no_module_prose(source: &Source) -> Vec<String> {
    let missing = source.is_ours() && !source.text.starts_with("//!");
    missing.then(|| "does not begin with `//!`".to_owned()).into_iter().collect()
}

fn empty_names(source: &Source) -> Vec<String> {
    let declared = ["mod", "struct", "enum", "trait", "type", "union"];
    let tokens = words(&source.code);
    let names = tokens.windows(2).filter(|pair| declared.contains(&pair[0].1)).map(|pair| pair[1].1);
    let path = source.path.split(['/', '.']);
    let is_empty = |name: &&str| {
        let name = name.to_lowercase();
        EMPTY_WORDS.iter().any(|word| name.contains(word))
    };
    path.chain(names).filter(is_empty).map(|name| format!("`{name}` names no responsibility")).collect()
}

fn misplaced(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let mut found = Vec::new();
    for (what, rooms, why) in ONLY_IN {
        let (root, rest) = what.split_once("::").expect("an entry is a path");
        let used = uses(&source.code, root);
        if !rooms.contains(&room) && used.iter().any(|path| is_in(path, rest)) {
            found.push(format!("`{what}`: {why}"));
        }
    }
    found
}

fn impurity(source: &Source) -> Vec<String> {
    if source.room() != Some("domain") {
        return Vec::new();
    }
    // Tests of the domain read and write the generated document.
    if source.path.ends_with("/tests.rs") || source.path.ends_with("/table.rs") {
        return vec![];
    }
    let found = words(&source.code).into_iter().filter(|(_, word)| IMPURE.contains(word));
    found.map(|(at, word)| format!("`{word}` in line {}", source.line_of(at))).collect()
}

fn notify(source: &Source) -> Vec<String> {
    if source.path.starts_with("tests/") {
        return Vec::new();
    }
    let is_sql = source.path.ends_with(".sql");
    let statements = if is_sql { source.text_without_sql_comments() } else { source.text_without_comments() };
    let is_notify = |word: &str| {
        // In Rust `notify` is also a room and a method; as SQL there it is written in capitals.
        word == "NOTIFY" || word == "pg_notify" || (is_sql && word.eq_ignore_ascii_case("notify"))
    };
    let found = words(&statements).into_iter().filter(|(_, word)| is_notify(word));
    found.map(|(at, _)| format!("NOTIFY in line {}", source.line_of(at))).collect()
}

fn loose_clients(source: &Source) -> Vec<String> {
    if !source.is_ours() || !source.code.contains("reqwest") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for start in ["Client::new(", "Client::builder(", "ClientBuilder::new(", "Client::default("] {
        for (at, _) in source.code.match_indices(start) {
            if source.code[..at].ends_with(is_word_char) {
                continue;
            }
            let around = source.functions().into_iter().filter(|function| function.contains(&at));
            let innermost = around.min_by_key(|function| function.len()).unwrap_or(at..source.code.len());
            let body: String = source.code[innermost].split_whitespace().collect();
            let body =
                body.replace("reqwest::redirect::Policy", "Policy").replace("redirect::Policy", "Policy");
            for setting in CLIENT_SETS.iter().filter(|setting| !body.contains(**setting)) {
                found.push(format!("the client at line {} lacks `{setting}`", source.line_of(at)));
            }
        }
    }
    found
}

#[test]
fn the_house_is_tidy() {
    let tree = sources();
    assert!(tree.iter().any(|source| source.path == "src/main.rs"), "the tree was not found");
    let mut found = Vec::new();
    for check in CHECKS {
        for source in &tree {
            let wrong = (check.find)(source);
            found.extend(wrong.into_iter().map(|what| format!("{}: {}: {what}", source.path, check.name)));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn each_check_catches_its_examples_and_nothing_else() {
    for check in CHECKS {
        for (path, text) in check.bad {
            let found = (check.find)(&Source::new(path, text));
            assert!(!found.is_empty(), "{} misses {path}:\n{text}", check.name);
        }
        for (path, text) in check.good {
            let found = (check.find)(&Source::new(path, text));
            assert!(found.is_empty(), "{} blames {path}:\n{text}\n{found:?}", check.name);
        }
    }
}

#[test]
fn each_size_has_its_limit() {
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    a();\n".repeat(lines - 2));
    let cases = [
        ("x".repeat(LINE_COLUMNS), "x".repeat(LINE_COLUMNS + 1)),
        ("\n".repeat(FILE_LINES), "\n".repeat(FILE_LINES + 1)),
        (function(FUNCTION_LINES), function(FUNCTION_LINES + 1)),
    ];
    for (fits, exceeds) in cases {
        assert_eq!(sizes(&Source::new("src/app.rs", &fits)), Vec::<String>::new());
        assert_eq!(sizes(&Source::new("src/app.rs", &exceeds)).len(), 1);
    }
}
