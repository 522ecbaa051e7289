//! What is wrong with a settings or rules file, all of it at once. A problem names the file, the key, what is
//! wrong and what is allowed; it never carries a secret.

use std::fmt;

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// The full key, `section.name`; empty when the file as a whole is meant.
    pub key: String,
    pub wrong: String,
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, key, wrong, allowed } = self;
        if key.is_empty() {
            write!(f, "{file}: {wrong}; {allowed}")
        } else {
            write!(f, "{file}: {key}: {wrong}; {allowed}")
        }
    }
}

/// Everything that is wrong, in the order in which it was found. Displays as one line per problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigProblems(pub Vec<Problem>);

/// Collects the problems of one file.
#[derive(Debug)]
pub(super) struct Problems {
    file: String,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn of(file: impl Into<String>) -> Self {
        Self { file: file.into(), found: vec![] }
    }

    pub(super) fn push(&mut self, key: &str, wrong: impl Into<String>, allowed: impl Into<String>) {
        let file = self.file.clone();
        self.found.push(Problem { file, key: key.to_owned(), wrong: wrong.into(), allowed: allowed.into() });
    }

    /// A problem of a value that came from the environment.
    pub(super) fn push_environment(&mut self, variable: &str, wrong: String, allowed: String) {
        let file = "environment".to_owned();
        self.found.push(Problem { file, key: variable.to_owned(), wrong, allowed });
    }

    pub(super) fn unknown(&mut self, key: &str, known: &[&str]) {
        let name = key.rsplit('.').next().unwrap_or(key);
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean {near}? "),
            None => String::new(),
        };
        self.push(key, "is not a known key", format!("{hint}known here: {}", known.join(", ")));
    }

    /// Whether something was already said about this key, so that what follows from it need not be.
    pub(super) fn mention(&self, key: &str) -> bool {
        self.found.iter().any(|problem| problem.key == key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn done(self) -> ConfigProblems {
        ConfigProblems(self.found)
    }
}

/// The known key that is meant, most likely: the one with the fewest edits, if they are few enough.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    // Half of the letters wrong is no longer a slip of the pen.
    let most = wrong.chars().count().div_ceil(2);
    let by_distance = known.iter().map(|key| (edits(wrong, key), *key));
    by_distance.min().filter(|(distance, _)| *distance <= most).map(|(_, key)| key)
}

/// Levenshtein's distance, one row at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = corner + usize::from(letter != *other);
            corner = row[column + 1];
            row[column + 1] = replaced.min(corner + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_unless_none_is_near() {
        let known = ["connect_timeout", "total_timeout", "base_url"];
        assert_eq!(nearest("total_timout", &known), Some("total_timeout"));
        assert_eq!(nearest("timeout", &["total_timeout"]), None);
        assert_eq!(nearest("url", &known), None);
        assert_eq!(nearest("base-url", &known), Some("base_url"));
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3)] {
            assert_eq!(edits(from, to), count);
        }
    }

    #[test]
    fn each_problem_is_a_line() {
        let mut problems = Problems::of("p.toml");
        problems.push("", "is empty", "settings");
        problems.push("a.b", "is 1", "2 to 3");
        let shown = problems.done().to_string();
        assert_eq!(shown, "p.toml: is empty; settings\np.toml: a.b: is 1; 2 to 3");
    }
}
