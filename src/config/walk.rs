//! Walks the tree of a settings file against the schema and lays what is good over the defaults. What is
//! wrong is reported and left out, so that the walk always ends with a complete tree and every other problem
//! can still be found.

use super::{
    forms,
    problem::Problems,
    schema::{self, Key, mistyped},
};
use toml::{Table, Value};

/// Settings and rules files larger than this are not settings or rules files.
pub(super) const MOST_FILE_BYTES: u64 = 1_048_576;

/// The complete defaults, as documented.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The defaults as a tree.
pub(super) fn defaults() -> Table {
    DEFAULTS.parse().expect("the built-in defaults are TOML: a test parses them")
}

/// Parses a text. The parser's reason is repeated, never the line it is about: that could hold a password.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Table> {
    let error = match text.parse::<Table>() {
        Ok(table) => return Some(table),
        Err(error) => error,
    };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let reason = error.message();
    let wrong = format!("is not TOML at line {line}, column {column}: {reason}");
    problems.push("", wrong, "keys and values as in config/default.toml, each key once");
    None
}

/// Lays the good values of `user` over `tree`. Returns the good values of each good project.
pub(super) fn overlay(tree: &mut Table, user: Table, problems: &mut Problems) -> Vec<(String, Table)> {
    let mut projects = vec![];
    for (section, value) in user {
        let shown = section.escape_debug().to_string();
        if !schema::sections().contains(&section.as_str()) {
            problems.unknown(&shown, &schema::sections());
            continue;
        }
        let Value::Table(values) = value else {
            problems.push(
                &shown,
                mistyped(&value, "a section"),
                format!("a section [{section}] with its keys"),
            );
            continue;
        };
        if section == "projects" {
            projects = walk_projects(values, problems);
            continue;
        }
        let keys: Vec<&Key> = schema::SETTINGS.iter().filter(|key| key.section == section).collect();
        let good = walk_table(&section, values, &keys, problems);
        if let Some(Value::Table(section)) = tree.get_mut(&section) {
            section.extend(good);
        }
    }
    projects
}

fn walk_projects(projects: Table, problems: &mut Problems) -> Vec<(String, Table)> {
    let keys: Vec<&Key> = schema::PROJECT.iter().collect();
    let mut good = vec![];
    for (name, value) in projects {
        let path = format!("projects.{}", name.escape_debug());
        if !(forms::PROJECT_NAME.fits)(&name) {
            problems.push(&path, "is not a name for a project", forms::PROJECT_NAME.allowed);
        }
        let Value::Table(values) = value else {
            problems.push(&path, mistyped(&value, "a section"), "a section [projects.<name>] with its keys");
            continue;
        };
        good.push((name, walk_table(&path, values, &keys, problems)));
    }
    good
}

/// Judges each value of one table and keeps the good ones.
fn walk_table(path: &str, values: Table, keys: &[&Key], problems: &mut Problems) -> Table {
    let mut good = Table::new();
    for (name, value) in values {
        let full = format!("{path}.{}", name.escape_debug());
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            problems.unknown(&full, &names);
            continue;
        };
        match key.kind.judge(&value) {
            Some(wrong) => problems.push(&full, wrong, key.kind.to_string()),
            None => drop(good.insert(name, value)),
        }
    }
    good
}

/// A variable of the environment and the key that it replaces. An empty variable counts as not set.
const ENVIRONMENT: &[(&str, &str, &str)] = &[
    ("DATABASE_URL", "database", "url"),
    ("PAYOUTD_PIKE_BASE_URL", "pike", "base_url"),
    ("PAYOUTD_LOG", "log", "level"),
];

/// Lays the environment over `tree`.
pub(super) fn environment(tree: &mut Table, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    for (variable, section, name) in ENVIRONMENT {
        let Some(text) = env(variable).filter(|text| !text.is_empty()) else { continue };
        let key = schema::setting(section, name).expect("the environment names keys of the schema");
        let value = Value::String(text);
        match (key.kind.judge(&value), tree.get_mut(*section)) {
            (Some(wrong), _) => problems.push_environment(variable, wrong, key.kind.to_string()),
            (None, Some(Value::Table(section))) => drop(section.insert((*name).to_owned(), value)),
            (None, _) => {}
        }
    }
}
