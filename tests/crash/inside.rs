//! The background checker of payoutd, asked about everything once the run is over: what it would raise in
//! production must not be there. Where Pike lies it has to find that; so it is asked where Pike does not.

use crate::{
    oracle::{Finding, Promise},
    scene::Scene,
};
use payoutd::worker::checker;
use std::time::Duration;

/// What is late by more than this has been forgotten.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn look(scene: &Scene, findings: &mut Vec<Finding>) {
    for found in checker::everything(&scene.pool, PATIENCE).await.expect("Postgres is there") {
        let text = format!("{:?} {}: {}", found.check, found.subject, found.words);
        findings.push(Finding { promise: Promise::NothingFoundInside, text });
    }
}
