//! After the trouble: nothing is lost any more, whatever was under way arrives, due checks run. Within a
//! bounded number of rounds the payout must have its final status, and that must be the truth.

use crate::{mutant::Broken, promises::succeeded, scene::Scene};
use payoutd::domain::event::{Command, Event, Observation};

/// A history's remaining troubles end in far fewer.
const ROUNDS: usize = 400;
/// When a person has looked at a payout that raised an alarm and is not final by itself.
const PERSON: usize = 100;

pub fn settle(scene: &mut Scene<'_>) -> Result<(), Broken> {
    scene.calm = true;
    scene.books.confirms_on = true;
    scene.note("calm", &());
    // Polling alone must do as well.
    let deaf = scene.rng().percent(50);
    for round in 0..ROUNDS {
        if round == PERSON && scene.books.payout.anomaly.is_some() {
            scene.apply(&Event::Command(Command::Cancel { by: "a person".to_owned() }));
        }
        if round > PERSON && round.is_multiple_of(PERSON / 2) {
            scene.unflag();
        }
        if deaf {
            scene.forget_webhooks();
        }
        calls(scene)?;
        for at in 0..scene.pike.sessions.len() {
            scene.proceed_at(at);
        }
        scene.judge()?;
        if scene.books.payout.state.is_final() && scene.books.effects.is_empty() && !scene.work_left() {
            return verdict(scene);
        }
        wait(scene);
        scene.judge()?;
    }
    Err("not final although nothing goes wrong any more")
}

/// Everything on its way arrives; every effect that may run is performed.
fn calls(scene: &mut Scene<'_>) -> Result<(), Broken> {
    for _ in 0..100 {
        if let Some(&at) = scene.books.runnable(scene.now).first() {
            scene.work_on(at, 0);
        } else if !scene.work_left() {
            return Ok(());
        }
        scene.look();
        scene.arrive();
        scene.answer();
        scene.deliver();
        scene.judge()?;
    }
    Err("calls without end")
}

/// Jumps to whatever comes next: a check, the end of a lease, the end of Pike's patience.
fn wait(scene: &mut Scene<'_>) {
    let second = time::Duration::SECOND;
    let leases = scene.books.effects.iter().filter_map(|effect| effect.lease).map(|end| end + second);
    let others = [scene.books.next_check, scene.pike.next_expiry()];
    let next = leases.chain(others.into_iter().flatten()).filter(|at| *at > scene.now).min();
    scene.now = next.unwrap_or(scene.now + second);
    if scene.books.next_check.is_some_and(|due| due <= scene.now) {
        scene.apply(&Event::Observed(Observation::Due));
    }
}

/// The books against Pike's truth.
fn verdict(scene: &Scene<'_>) -> Result<(), Broken> {
    let paid = scene.pike.paid() == 1;
    let succeeded = succeeded(&scene.books.payout.state);
    if paid == succeeded || (succeeded && scene.by_reopened()) {
        Ok(())
    } else {
        Err("the final status is not the truth")
    }
}
