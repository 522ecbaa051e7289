//! Puts together whoever calls Pike: the client, the pace, and what a confirm must fulfil.

use crate::{
    config::{self, Config, LEASE_MARGIN},
    domain::{id::ProjectId, policy::Mode},
    engine::Engine,
    pike::{ApiVersion, Pike, PikeProject, PikeSettings, sign::Signer},
    worker::{
        confirm::{ConfirmSettings, LOOK_WITHIN},
        effects::{EffectSettings, Effects},
        pace::{AHEAD, PaceSettings},
    },
};
use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What comes before a confirm fits into what its lease leaves beside the call, with time to write it down.
const _: () = assert!(LOOK_WITHIN.as_millis() + 2 * AHEAD.as_millis() < LEASE_MARGIN.as_millis());

/// Longest that a call waits in this process for another one to end, before it is anybody's again.
const SLOT_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn effects(
    config: &Config,
    pool: &PgPool,
    engine: &Engine,
    rule_set: String,
    mode: Mode,
) -> Result<Effects> {
    let settings = EffectSettings {
        lease: config.effects.lease,
        slot_within: SLOT_WITHIN,
        retry_first: config.effects.retry_first,
        retry_longest: config.effects.retry_longest,
        max_in_flight: config.pike.max_in_flight,
        pace: PaceSettings {
            calls_per_second: config.pike.calls_per_second,
            reads_per_second: config.pike.reads_per_second,
            width: config.pike.max_in_flight,
            breaker_failures: config.breaker.failures,
            breaker_pause: config.breaker.pause,
            breaker_longest: config.breaker.longest_pause,
        },
        confirm: ConfirmSettings { rule_set, max_age: config.permit.max_age },
        mode,
        projects: config.projects.keys().cloned().map(ProjectId).collect(),
    };
    Ok(Effects::new(pool.clone(), engine.clone(), Arc::new(pike(config)?), settings))
}

fn pike(config: &Config) -> Result<Pike> {
    let settings = PikeSettings {
        base_url: config.pike.base_url.trim_end_matches('/').to_owned(),
        version: match config.pike.api_version {
            config::ApiVersion::V1 => ApiVersion::V1,
            config::ApiVersion::V2 => ApiVersion::V2,
        },
        connect_timeout: config.pike.connect_timeout,
        total_timeout: config.pike.total_timeout,
        max_response_bytes: config.pike.max_response_bytes,
    };
    let mut projects = BTreeMap::new();
    for (name, project) in &config.projects {
        let signer = Signer::from_pem(project.signing_key.expose_secret())
            .with_context(|| format!("projects.{name}.signing_key_file"))?;
        let key = signer.key_id();
        tracing::info!(project = name, key, "calls are signed with this key");
        metrics::gauge!("payoutd_signing_key", "project" => name.clone(), "key" => key).set(1.0);
        let identity = PikeProject {
            pike_project: project.pike_project.clone(),
            submerchant: project.submerchant.clone(),
            signer,
        };
        projects.insert(ProjectId(name.clone()), identity);
    }
    Ok(Pike::new(settings, projects)?)
}
