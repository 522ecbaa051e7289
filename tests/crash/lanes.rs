//! Many runs at once: each mostly waits for leases, so several share the machine.

use crate::{
    oracle::{Finding, Promise},
    plan::{Plan, Trouble},
    report::Tally,
    run,
    support::database::{Database, cluster_options},
};
use payoutd::dev::postgres::{ClusterOptions, Lifetime};
use std::sync::{Arc, Mutex};

/// Runs plans until there are none, `lanes` at a time, and adds them up.
pub async fn all(lanes: usize, next: impl FnMut() -> Option<Plan> + Send + 'static) -> Tally {
    let next = Arc::new(Mutex::new(next));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let (next, tally) = (Arc::clone(&next), Arc::clone(&tally));
        under_way.spawn(async move {
            loop {
                let plan = (next.lock().unwrap())();
                let Some(plan) = plan else { return };
                let (figures, findings) = one(plan.clone()).await;
                tally.lock().unwrap().add(&plan, figures, findings);
            }
        });
    }
    under_way.join_all().await;
    std::mem::take(&mut *tally.lock().unwrap())
}

/// One run in a task of its own: that it panics is a finding like others.
async fn one(plan: Plan) -> (run::Figures, Vec<Finding>) {
    let under_way = tokio::spawn(async move {
        if plan.trouble == Trouble::Database {
            return on_own_cluster(plan).await;
        }
        run::run(plan, Database::new().await).await
    });
    under_way.await.unwrap_or_else(|panic| {
        let why = panic.into_panic();
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a panic without words".to_owned());
        (run::Figures::default(), vec![Finding { promise: Promise::RunHappened, text }])
    })
}

/// On a server that nobody else needs.
async fn on_own_cluster(plan: Plan) -> (run::Figures, Vec<Finding>) {
    let options = ClusterOptions { lifetime: Lifetime::Kept, max_connections: 60, ..cluster_options() };
    let db = Database::on_own_cluster(&options).await;
    let done = run::run(plan, db).await;
    // Its server ends with the run; what it leaves is nobody's.
    let _ = std::fs::remove_dir_all(&options.data_dir);
    done
}
