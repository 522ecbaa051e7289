//! Callers as they should be: they send an order again, under the same key, until they are told what became
//! of it.

use crate::support::{
    rest::{Answer, Api},
    unique,
};
use serde_json::Value;
use std::time::Duration;

/// What a caller was told, in the end.
pub struct Told {
    pub answer: Answer,
    /// How often it was told to come back.
    pub unavailable: usize,
}

/// Sends an order until it is answered otherwise than by 503.
pub async fn send(api: &Api, order: &Value) -> Told {
    let (key, mut unavailable) = (unique(), 0);
    loop {
        let answer = api.create_with_key(&key, order).await;
        if answer.status != 503 {
            return Told { answer, unavailable };
        }
        unavailable += 1;
        assert!(unavailable < 1_000, "nothing but {}", answer.text);
        // As the answer asks, only sooner.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A payout that is acknowledged in the end; its id.
pub async fn create(api: &Api, order: &Value) -> String {
    let told = send(api, order).await;
    // 200 when an earlier try was stored after all.
    assert!(matches!(told.answer.status, 200 | 201), "{}", told.answer.text);
    told.answer.id()
}
