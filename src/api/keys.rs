//! Looks API keys up. Keys that are asked for at the same time are read together, and each is read anew for
//! its request, so that a revoked one ends at once.

use super::problem::Problem;
use crate::{
    batch::{Batcher, Busy},
    engine::EngineError,
    store::{
        StoreError,
        api_keys::{self, ApiKey},
        retry,
        writer::Writer,
    },
};
use sqlx::PgPool;
use std::sync::Arc;

/// Most keys in one query.
const MAX_BATCH: usize = 128;
/// Most requests waiting to be let in; beyond it callers are told to come back.
const MAX_WAITING: usize = 2048;

type Found = Result<Option<ApiKey>, Arc<StoreError>>;

/// Reads keys in groups; cheap to clone.
#[derive(Clone)]
pub struct Keys(Batcher<String, Found>);

impl Keys {
    #[must_use]
    pub fn start(pool: PgPool) -> Self {
        let reader = Arc::new(Writer::new(pool));
        Self(Batcher::spawn(MAX_BATCH, MAX_WAITING, move |ids: Vec<String>| {
            let reader = Arc::clone(&reader);
            async move {
                match retry::reading(|| read(&reader, &ids)).await {
                    Ok(found) => found,
                    Err(error) => {
                        tracing::error!(%error, keys = ids.len(), "API keys could not be looked up");
                        let error = Arc::new(error);
                        ids.iter().map(|_| Err(Arc::clone(&error))).collect()
                    }
                }
            }
        }))
    }

    /// The live key with this id.
    pub(super) async fn find(&self, id: &str) -> Result<Option<ApiKey>, Problem> {
        let found = self.0.try_submit(id.to_owned()).await.map_err(|busy| match busy {
            Busy::Full => EngineError::Busy,
            Busy::Gone(gone) => EngineError::Gone(gone),
        })?;
        Ok(found.map_err(EngineError::Store)?)
    }
}

async fn read(reader: &Writer, ids: &[String]) -> Result<Vec<Found>, StoreError> {
    let mut db = reader.hold().await?;
    let found = api_keys::find(&mut db, ids).await?;
    db.done();
    Ok(ids.iter().map(|id| found.get(id).cloned().transpose()).collect())
}
