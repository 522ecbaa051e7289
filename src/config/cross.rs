//! What must hold between two settings. Nothing is said about keys that are wrong in themselves.

use super::{Config, problem::Problems};
use crate::domain::environment::Environment;
use std::time::Duration;

/// How much longer than a call to Pike the lease on its effect must be: signing, waiting for the call's turn,
/// the last look before a confirm, and waiting for a connection to write the answer down must fit too. A
/// lease that ends earlier lets a second worker begin.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// One setting in a comparison.
type Named<'a> = (&'a str, Duration);

pub(super) fn check(config: &Config, problems: &mut Problems) {
    let pike = &config.pike;
    let polling = &config.polling;
    let (effects, notifications) = (&config.effects, &config.notifications);
    let connect = ("pike.connect_timeout", pike.connect_timeout);
    let total = ("pike.total_timeout", pike.total_timeout);
    at_most(connect, total, problems);
    lease(config, problems);
    at_most(("polling.first", polling.first), ("polling.steady", polling.steady), problems);
    at_most(("polling.steady", polling.steady), ("polling.longest", polling.longest), problems);
    if !polling.paid_until.is_zero() {
        at_most(
            ("polling.paid_first", polling.paid_first),
            ("polling.paid_until", polling.paid_until),
            problems,
        );
    }
    let longest = ("breaker.longest_pause", config.breaker.longest_pause);
    at_most(("breaker.pause", config.breaker.pause), longest, problems);
    let longest = ("effects.retry_longest", effects.retry_longest);
    at_most(("effects.retry_first", effects.retry_first), longest, problems);
    let longest = ("notifications.retry_longest", notifications.retry_longest);
    at_most(("notifications.retry_first", notifications.retry_first), longest, problems);
    at_most(longest, ("notifications.give_up_after", notifications.give_up_after), problems);
    holds(config, problems);
    attempts(config, problems);
    listeners(config, problems);
    live(config, problems);
}

fn at_most(short: Named<'_>, long: Named<'_>, problems: &mut Problems) {
    if short.1 <= long.1 || problems.mention(short.0) || problems.mention(long.0) {
        return;
    }
    let wrong = format!("{} is longer than {}", humantime::format_duration(short.1), long.0);
    problems.push(
        short.0,
        wrong,
        format!("at most {}, or a longer {}", humantime::format_duration(long.1), long.0),
    );
}

fn lease(config: &Config, problems: &mut Problems) {
    let (total, connect) = (config.pike.total_timeout, config.pike.connect_timeout);
    let least = total + connect + LEASE_MARGIN;
    let keys = ["effects.lease", "pike.total_timeout", "pike.connect_timeout"];
    if config.effects.lease >= least || keys.iter().any(|key| problems.mention(key)) {
        return;
    }
    let wrong = format!("{} may end during a call to Pike", humantime::format_duration(config.effects.lease));
    let allowed = format!(
        "at least {}: pike.total_timeout + pike.connect_timeout + {}",
        humantime::format_duration(least),
        humantime::format_duration(LEASE_MARGIN)
    );
    problems.push("effects.lease", wrong, allowed);
}

fn holds(config: &Config, problems: &mut Problems) {
    let (margin, window) = (config.holds.margin, config.pike.confirm_window);
    if margin < window || problems.mention("holds.margin") || problems.mention("pike.confirm_window") {
        return;
    }
    let wrong = format!("{} leaves no time for a person to decide", humantime::format_duration(margin));
    let allowed = format!("less than pike.confirm_window ({})", humantime::format_duration(window));
    problems.push("holds.margin", wrong, allowed);
}

fn attempts(config: &Config, problems: &mut Problems) {
    let (max, codes) = (config.attempts.max, &config.attempts.codes);
    if max == 1
        || !codes.is_empty()
        || ["attempts.max", "attempts.codes"].iter().any(|key| problems.mention(key))
    {
        return;
    }
    let wrong = format!("is empty, so that no payout gets {max} attempts");
    problems.push("attempts.codes", wrong, "at least one code, or attempts.max = 1");
}

/// Port 0 asks the system for a free port, so two of them do not clash.
fn listeners(config: &Config, problems: &mut Problems) {
    let listeners = [
        ("api.listen", config.api.listen),
        ("webhook.listen", config.webhook.listen),
        ("admin.listen", config.admin.listen),
    ];
    for (index, (key, address)) in listeners.iter().enumerate() {
        let earlier = listeners[..index].iter().find(|(other, taken)| {
            taken == address && address.port() != 0 && !problems.mention(other) && !problems.mention(key)
        });
        if let Some((other, _)) = earlier {
            problems.push(
                key,
                format!("{address} is also {other}"),
                "an address of its own: three listeners",
            );
        }
    }
}

/// Tests, load generators and crash points are debug builds. One that is aimed at the wrong address must not
/// pay anybody.
fn live(config: &Config, problems: &mut Problems) {
    if cfg!(debug_assertions) && config.environment() == Environment::Live {
        let allowed = "another address, or a release build: only that may move real money";
        problems.push(
            "pike.base_url",
            "leads to Pike's live environment, and this is a debug build",
            allowed,
        );
    }
}
