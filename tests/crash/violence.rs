//! Trouble from outside: kills at random moments, a replica that is frozen beyond its lease, a Postgres that
//! is stopped as by a power cut.

use crate::{
    pace::SHORT,
    run::{ARMED, Stage},
    support::{rest::order, unique, until},
};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A replica lives this long, in milliseconds, before it is killed.
const LIVES: (u64, u64) = (10, 250);
const KILLS: usize = 4;
/// Into a load, in milliseconds.
const INTO: (u64, u64) = (20, 300);
/// Beyond the lease, in milliseconds.
const BEYOND: (u64, u64) = (100, 1_200);

impl Stage {
    async fn pause(&mut self, (least, most): (u64, u64)) {
        // The moment is what is varied, not something that is waited for.
        tokio::time::sleep(Duration::from_millis(self.chance.between(least, most))).await;
    }

    pub async fn kills(&mut self) {
        for _ in 0..KILLS {
            self.pause(LIVES).await;
            let victim = self.chance.below(2);
            self.scene.kill(victim).await;
            self.figures.kills += 1;
            self.watch_takeover();
            self.revive(victim).await;
        }
    }

    /// Its lease ends while it is frozen, others take over, and then it goes on where it was.
    pub async fn freeze(&mut self) {
        self.pause(INTO).await;
        let victim = self.chance.below(2);
        self.scene.signal(victim, Signal::STOP);
        self.figures.freezes += 1;
        tokio::time::sleep(SHORT.lease).await;
        self.pause(BEYOND).await;
        self.scene.signal(victim, Signal::CONT);
        // Frozen for so long, it may have lost its connections; it must not have ended.
        assert!(self.scene.ended(victim).is_none(), "{}", self.scene.log(victim));
    }

    pub async fn database(&mut self) {
        self.pause(INTO).await;
        self.scene.db.crash_cluster().await;
        let begun = Instant::now();
        self.scene.db.start_cluster().await;
        self.figures.database_crashes += 1;
        let up = Instant::now();
        let api = self.scene.callers()[ARMED].clone();
        let (key, order) = (unique(), order("tok_success"));
        let serves = || async {
            let answer = api.try_send(api.creating(&key, order.to_string())).await.ok()?;
            matches!(answer.status, 200 | 201).then_some(())
        };
        until("payoutd to serve again", serves).await;
        self.figures.database_back.push((up - begun, up.elapsed()));
        for n in 0..2 {
            assert!(self.scene.ended(n).is_none(), "replica {n} ended\n{}", self.scene.log(n));
        }
    }
}
