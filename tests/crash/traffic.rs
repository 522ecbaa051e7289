//! Callers: each sends its order with one key until somebody says 2xx, whatever happens to payoutd meanwhile.

use crate::{
    load::Told,
    support::{
        rest::{Api, order},
        unique,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How the next hundred orders are mixed: mostly good ones, and every fault often enough to count on.
const MIX: [(&str, usize); 7] = [
    ("tok_success", 60),
    ("tok_decline", 10),
    ("tok_slow", 5),
    ("tok_no_webhooks", 5),
    ("tok_start_lost", 8),
    ("tok_confirm_lost", 7),
    ("tok_duplicate", 5),
];

pub struct Traffic {
    pub told: Vec<Told>,
}

impl Traffic {
    /// Sends `count` orders, `at_once` at a time, until each has its 2xx. Each caller
    /// pauses between its orders.
    pub async fn send(apis: Vec<Api>, count: usize, at_once: usize, pause: Duration) -> Self {
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for place in 0..at_once {
            let (apis, next) = (apis.clone(), Arc::clone(&next));
            callers.spawn(async move {
                let mut told = vec![];
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= count {
                        return told;
                    }
                    told.push(insist(&apis, place, token(n)).await);
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Self { told: callers.join_all().await.into_iter().flatten().collect() }
    }

    /// How often callers had to try again.
    pub fn retries(&self) -> usize {
        self.told.iter().map(|told| told.tries - 1).sum()
    }
}

fn token(n: usize) -> &'static str {
    let mut left = n * 37 % 100;
    for (token, share) in MIX {
        if left < share {
            return token;
        }
        left -= share;
    }
    unreachable!("the shares add up to a hundred")
}

async fn insist(apis: &[Api], place: usize, story: &'static str) -> Told {
    let (key, order) = (unique(), order(&format!("{story}_{}", unique())));
    let mut tries = 0;
    loop {
        let api = &apis[(place + tries) % apis.len()];
        tries += 1;
        match api.try_send(api.creating(&key, order.to_string())).await {
            Ok(answer) if answer.status == 200 || answer.status == 201 => {
                let (payout, story) = (answer.id(), story.to_owned());
                return Told { payout, key, order, story, tries, granted: None };
            }
            Ok(answer) => assert!(answer.status >= 500, "a good order was refused: {}", answer.text),
            Err(_) => {}
        }
        // A caller's own pause before it tries again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
