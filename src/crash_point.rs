//! Named moments at which a test may have this process die as if the power had gone: by SIGKILL from within,
//! without a destructor, a flush or a word to the database. `PAYOUTD_CRASH_AT=name` arms one point for its
//! first passing, `name:3` for its third. Debug builds only: a release build contains neither names nor code
//! of it. Used by every room that waits for SQL or HTTP; decides nothing, and unless armed does nothing.

use std::fmt::Debug;

/// The variable that arms a point.
pub const VARIABLE: &str = "PAYOUTD_CRASH_AT";

/// The points of a call to Pike, each for every kind of call: `Confirm.sent`.
pub const CALLS: [&str; 5] = ["CreateSession", "StartPayout", "Confirm", "Cancel", "ReadStatus"];
pub const CALL_STAGES: [&str; 7] = [
    "claiming",  // claimed in a transaction that is still open
    "claimed",   // that is committed; nothing sent
    "sending",   // signed and put together, about to leave
    "sent",      // Pike answers; nothing of the answer's body is read
    "answered",  // read and understood, not recorded
    "recording", // written in a transaction that is still open
    "recorded",  // committed
];

/// All others.
pub const MOMENTS: [&str; 46] = [
    "startup.rules_stored",
    "startup.listening",
    "auth.looked_up",
    "intake.body_read",
    "intake.begun",
    "intake.committed",
    "intake.stored",
    "intake.answered",
    "command.read",
    "command.recording",
    "command.recorded",
    "command.answered",
    "switch.written",
    "switch.committed",
    "switch.answered",
    "webhook.body_read",
    "webhook.verified",
    "webhook.committed",
    "webhook.answered",
    "inbox.claiming",
    "inbox.claimed",
    "inbox.matched",
    "inbox.recording",
    "inbox.recorded",
    "inbox.postponing",
    "inbox.setting_aside",
    "sweep.found",
    "sweep.recording",
    "sweep.recorded",
    "engine.locked",
    "verdict.due",
    "verdict.recorded",
    "permit.written",
    "permit.confirm_committed",
    "permit.cancel_committed",
    "confirm.looked",
    "notification.claiming",
    "notification.claimed",
    "notification.sent",
    "notification.marked",
    "lease.taken_over",
    "effect.giving_back",
    "effect.given_back",
    "shutdown.not_ready",
    "shutdown.halted",
    "shutdown.finished",
];

/// Every name there is.
#[must_use]
pub fn names() -> Vec<String> {
    let of_calls =
        CALLS.iter().flat_map(|call| CALL_STAGES.iter().map(move |stage| format!("{call}.{stage}")));
    MOMENTS.iter().map(|name| (*name).to_owned()).chain(of_calls).collect()
}

/// The process has come to this point.
pub fn pass(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(|armed| armed == name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The same for one of several of a kind: `what` and `stage` make the name.
pub fn pass_of(what: impl Debug, stage: &str) {
    #[cfg(debug_assertions)]
    armed::pass(|armed| armed.ends_with(stage) && armed == format!("{what:?}.{stage}"));
    #[cfg(not(debug_assertions))]
    let _ = (what, stage);
}

/// An answer is on its way out, which nobody can be told of: the point is passed when it has had time to go.
pub fn pass_soon(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass_soon(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::{
        io::Write,
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
        thread,
        time::Duration,
    };

    /// An answer of a kilobyte on this machine needs far less.
    const ON_ITS_WAY: Duration = Duration::from_millis(10);

    struct Armed {
        name: String,
        /// How often it is still to be passed.
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> =
        LazyLock::new(|| std::env::var(super::VARIABLE).ok().map(|text| read(&text)));

    /// # Panics
    /// When there is no such point: a test that arms nothing tests nothing.
    fn read(text: &str) -> Armed {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        assert!(super::names().iter().any(|known| known == name), "there is no crash point {name}");
        let left = AtomicU32::new(count.parse().expect("the count behind the colon is a number"));
        Armed { name: name.to_owned(), left }
    }

    pub(super) fn pass(is_here: impl FnOnce(&str) -> bool) {
        let Some(armed) = LazyLock::force(&ARMED).as_ref().filter(|armed| is_here(&armed.name)) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            die(&armed.name);
        }
    }

    pub(super) fn pass_soon(name: &'static str) {
        if LazyLock::force(&ARMED).as_ref().is_some_and(|armed| armed.name == name) {
            thread::spawn(move || {
                thread::sleep(ON_ITS_WAY);
                pass(|armed| armed == name);
            });
        }
    }

    fn die(name: &str) -> ! {
        // One write, or a log line gets in between, and whoever armed it cannot tell this death from others.
        let line = format!("crash point {name}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("somebody listens to whoever is to die");
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        loop {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// The sources, without this file.
    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("crash_point.rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_name_is_passed_somewhere_and_every_point_has_a_name() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let mut passed = BTreeSet::new();
        for call in text.split("crash_point::pass").skip(1) {
            let call = call.split(')').next().unwrap();
            passed.insert(call.split('"').nth(1).expect("a name in the text"));
        }
        let known: BTreeSet<&str> = MOMENTS.iter().chain(&CALL_STAGES).copied().collect();
        assert_eq!(passed, known);
    }

    #[test]
    fn names_are_unique_and_enough() {
        let names: BTreeSet<String> = names().into_iter().collect();
        assert_eq!(names.len(), MOMENTS.len() + CALLS.len() * CALL_STAGES.len());
        assert!(names.len() >= 42);
    }
}
