//! The instructions of the two hottest paths that are ours alone: `cargo bench --bench counts`. Unlike times
//! they are the same on every machine, so they may not rise unnoticed. Counted by valgrind.

#![allow(clippy::unwrap_used, reason = "a failed unwrap ends the measurement")]

#[path = "parts/given.rs"]
mod given;

use given::{Batch, Deciding, WEBHOOK};
use payoutd::pike::read_webhook;
use std::{
    hint::black_box,
    process::{Command, ExitCode},
};

/// A path, and the most instructions that it may take each time: what it takes now and a twentieth. A batch of
/// rows takes half as much again as one of columns did, some two thousand for each payout; Postgres is spared
/// fifty times that.
const PATHS: [(&str, u64); 2] = [("decide", 45_000), ("encode", 345_000)];
/// Counted in two runs; what they differ by is the path, without the process around it.
const TIMES: [u64; 2] = [200, 1_200];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [path, times] = &arguments[..] {
        walk(path, times.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("counts: valgrind is missing (Debian: apt-get install valgrind); nothing was counted");
        return ExitCode::SUCCESS;
    }
    let mut risen = false;
    for (path, most) in PATHS {
        let [few, many] = TIMES.map(|times| count(path, times));
        let each = (many - few) / (TIMES[1] - TIMES[0]);
        println!("{path}: {each} instructions each time, at most {most} are allowed");
        risen |= each > most;
    }
    if risen {
        eprintln!(
            "counts: a hot path takes more than it did; if that is worth it, say so in benches/counts.rs"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn walk(path: &str, times: u64) {
    let (deciding, batch) = (Deciding::new(), Batch::new(50));
    for _ in 0..times {
        match path {
            // A webhook from its bytes to the permit.
            "decide" => {
                black_box(read_webhook(black_box(WEBHOOK.as_bytes())));
                black_box(deciding.decide());
            }
            // What a batch of fifty writes.
            "encode" => assert!(batch.encode()),
            other => panic!("there is no path {other}"),
        }
    }
}

/// Instructions of a process that walks the path so many times.
fn count(path: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args([path, &times.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split_once("refs:")).unwrap_or_else(|| panic!("{text}"));
    line.1.trim().replace(',', "").parse().unwrap()
}
