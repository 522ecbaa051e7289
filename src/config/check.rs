//! What `payoutd check-config` says: a summary of good settings, or everything that is wrong with them and
//! with the rules file.

use super::{Config, ConfigProblems, Reading, rules};
use crate::domain::rules::RuleSet;
use std::{fmt::Write as _, path::Path};

/// Reads the settings and the rules file they name. The summary holds no secret.
///
/// # Errors
/// Everything that is wrong in both files, at once.
pub fn check(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ConfigProblems> {
    let Reading { config, problems } = Reading::of(path, env);
    // A file that could not be read at all does not say where its rules are.
    if problems.mention("") || problems.mention("rules.file") {
        return Err(problems.done());
    }
    let mut problems = problems.done();
    match rules::load(&config.rules.file) {
        Ok((rules, _)) if problems.0.is_empty() => Ok(summary(&config, &rules)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.0.extend(more.0);
            Err(problems)
        }
    }
}

fn summary(config: &Config, rules: &RuleSet) -> String {
    let mut text = String::from("The settings are good.\n");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:<12} {value}").expect("writing to a string cannot fail");
    };
    line("api", &config.api.listen.to_string());
    line("webhook", &config.webhook.listen.to_string());
    line("admin", &config.admin.listen.to_string());
    line("pike", &config.pike.base_url);
    if config.reconcile.only {
        line("mode", "reconciling only: no order is taken, Pike gets nothing but status reads");
    }
    let currencies: Vec<&str> = rules.amounts.keys().map(|currency| currency.code()).collect();
    line("rules", &format!("{} ({})", rules.version, currencies.join(", ")));
    for (name, project) in &config.projects {
        let notifications = if project.notify.is_some() { "notified" } else { "not notified" };
        let scheme = project.webhook.name();
        line("project", &format!("{name}: {}, webhooks {scheme}, {notifications}", project.pike_project));
    }
    text
}
