//! One run: a scene, a load, a trouble in the middle of it; then everything settles and the oracle speaks.

use crate::{
    chance::Chance,
    evidence::Session,
    inside,
    load::{SwitchedOff, Told, Voices},
    measure::Takeover,
    operator::Operator,
    oracle::{self, Book, Finding, Promise},
    pace::SHORT,
    plan::{Needs, Plan, Trouble, Weather},
    scene::{Scene, Staging},
    sink::Sink,
    support::database::Database,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

pub use crate::measure::Figures;

/// The replica that is armed, and that Pike's webhooks go to.
pub const ARMED: usize = 0;
const OTHER: usize = 1;
const REPLICAS: usize = 2;
/// How often more payouts are sent towards a point that was not come to.
const WAVES: usize = 30;
/// Between two looks at something that is about to happen.
const LOOK: Duration = Duration::from_millis(5);
/// A point must have been come to by then.
const POINT_WITHIN: Duration = Duration::from_secs(60);
/// How long the operator leaves the switch off.
const SWITCH_OFF: Duration = Duration::from_millis(120);
/// Notifications refused at first, to be delivered again.
const REFUSED: usize = 3;
/// How often one dies so, at most.
const WIDOWS: usize = 5;
/// After the lease: some polls, and a crowded machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(2);
/// Where a replica dies for another to take over: before Pike can know, so that no webhook settles it first.
const WIDOWED_AT: &str = "StartPayout.claimed";

/// A run under way.
pub struct Stage {
    pub scene: Scene,
    pub sink: Arc<Sink>,
    pub plan: Plan,
    pub chance: Chance,
    pub figures: Figures,
    pub findings: Vec<Finding>,
    load: Option<Load>,
    waves: usize,
    told: Vec<Told>,
    off: Vec<SwitchedOff>,
    operator: Option<Operator>,
    takeover: Option<JoinHandle<Takeover>>,
}

type Load = (JoinHandle<Result<Vec<Told>, String>>, JoinHandle<SwitchedOff>);

/// Makes one run. A panic in it is for the caller to count.
pub async fn run(plan: Plan, db: Database) -> (Figures, Vec<Finding>) {
    let begun = Instant::now();
    let (told, sink) = Sink::open().await;
    sink.refuse(REFUSED);
    let staging = Staging {
        replicas: REPLICAS,
        pace: SHORT,
        second_start: plan.weather.second_start(),
        faults: plan.faults(),
        told: Some(told),
    };
    let scene = Scene::build(&staging, db, plan.needs() != Needs::LateSandbox).await;
    let chance = Chance::of(plan.seed);
    let mut stage = Stage {
        scene,
        sink,
        plan,
        chance,
        figures: Figures::default(),
        findings: vec![],
        load: None,
        waves: 0,
        told: vec![],
        off: vec![],
        operator: None,
        takeover: None,
    };
    stage.open().await;
    stage.figures.phases.push(("open", begun.elapsed()));
    match stage.plan.trouble {
        Trouble::Point { .. } => stage.point().await,
        Trouble::Kills => stage.kills().await,
        Trouble::Freeze => stage.freeze().await,
        Trouble::Database => stage.database().await,
    }
    stage.figures.phases.push(("trouble", begun.elapsed()));
    stage.close(begun).await;
    stage.figures.took = begun.elapsed();
    (stage.figures, stage.findings)
}

impl Stage {
    /// Starts the replicas and the load.
    async fn open(&mut self) {
        let armed = self.plan.armed();
        let widow = self.plan.needs() == Needs::Widow;
        self.scene.spawn(ARMED, armed.as_deref());
        self.scene.spawn(OTHER, widow.then_some(WIDOWED_AT));
        for n in [OTHER, ARMED] {
            // The armed one may die before it is ready; `point` sees to that.
            let ended = self.scene.ready_or_ended(n).await;
            assert!(ended.is_none() || (n == ARMED && armed.is_some()), "{ended:?}\n{}", self.scene.log(n));
        }
        let voices = self.voices(ARMED);
        self.operator = Some(Operator::call(self.scene.pool.clone(), voices.clone(), SWITCH_OFF));
        voices.send_card_number().await;
        self.send_wave();
    }

    pub fn voices(&self, first: usize) -> Voices {
        Voices { callers: self.scene.callers(), desks: self.scene.desks(), first }
    }

    /// Sends some payouts, and has the switch thrown off and on meanwhile.
    fn send_wave(&mut self) {
        let errands = self.plan.wave(self.waves, &mut self.chance);
        let first = if self.plan.needs() == Needs::Widow { self.waves % 2 } else { ARMED };
        self.waves += 1;
        self.figures.hang_ups += errands.iter().filter(|errand| errand.hang_up.is_some()).count();
        let voices = self.voices(first);
        let sending = tokio::spawn(voices.clone().send(errands));
        self.load = Some((sending, tokio::spawn(voices.switch(SWITCH_OFF))));
    }

    /// Waits until everybody in the wave has what they wanted.
    async fn finish_wave(&mut self) {
        let Some((sending, switching)) = self.load.take() else { return };
        match sending.await.expect("no caller panics") {
            Ok(told) => self.told.extend(told),
            Err(text) => self.find(Promise::EverythingEnds, text),
        }
        self.off.push(switching.await.expect("the operator does not panic"));
    }

    pub fn find(&mut self, promise: Promise, text: String) {
        self.findings.push(Finding { promise, text });
    }

    /// Sees the armed replica die at its point and starts it again without one.
    async fn point(&mut self) {
        if self.plan.needs() == Needs::Widow {
            self.leave_widows().await;
        }
        if self.plan.needs() == Needs::Termination {
            crate::support::until("some work", || async {
                (oracle::under_way(&self.scene).await > 0).then_some(())
            })
            .await;
            self.scene.signal(ARMED, rustix::process::Signal::TERM);
        }
        let Trouble::Point { name, .. } = self.plan.trouble.clone() else { return };
        if !self.await_death(ARMED, name).await {
            return;
        }
        if self.plan.needs() == Needs::LateSandbox {
            self.scene.start_sandbox().await;
        }
        self.revive(ARMED).await;
        if self.plan.needs() == Needs::Widow {
            self.revive(OTHER).await;
        }
    }

    /// Has the other replica die with work in its hands until the armed one takes some over. It need not the
    /// first time: what the dead one held may be called off before its lease ends.
    async fn leave_widows(&mut self) {
        for _ in 0..WIDOWS {
            if !self.await_death(OTHER, WIDOWED_AT.to_owned()).await {
                return;
            }
            let died = Instant::now();
            while died.elapsed() < SHORT.lease + TAKEN_OVER_WITHIN {
                if self.scene.ended(ARMED).is_some() {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
            self.scene.spawn(OTHER, Some(WIDOWED_AT));
            self.scene.ready_or_ended(OTHER).await;
        }
    }

    /// Waits for a replica to die at a point, sending more until it does. False when it never came there.
    async fn await_death(&mut self, n: usize, point: String) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.scene.ended(n) {
                self.figures.kills += 1;
                if !self.scene.died_at(n, status, &point) {
                    let text = format!("died otherwise than at {point}: {status}\n{}", self.scene.log(n));
                    self.find(Promise::RunHappened, text);
                }
                self.watch_takeover();
                return true;
            }
            // With nobody to pay, a wave never ends: the sandbox comes late.
            let over = self.load.as_ref().is_none_or(|(sending, _)| sending.is_finished());
            if over && self.waves < WAVES {
                self.finish_wave().await;
                self.send_wave();
            }
            if begun.elapsed() > POINT_WITHIN || (over && self.waves >= WAVES) {
                self.find(Promise::RunHappened, format!("{point} was never passed"));
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// From a death on: how long until what the dead may have held is somebody else's or done.
    pub fn watch_takeover(&mut self) {
        self.figures.deaths.push(Instant::now());
        if self.takeover.is_none() {
            self.takeover = Some(tokio::spawn(Takeover::watch(self.scene.pool.clone())));
        }
    }

    pub async fn revive(&mut self, n: usize) {
        self.scene.start(n).await;
    }

    /// Lets everything end, asks the oracle, and takes the figures.
    async fn close(&mut self, begun: Instant) {
        self.finish_wave().await;
        self.figures.phases.push(("load", begun.elapsed()));
        oracle::settle(&self.scene).await;
        self.figures.phases.push(("settled", begun.elapsed()));
        let stopped = self.operator.take().map(Operator::dismiss).unwrap_or_default();
        self.figures.lines_stopped += stopped.len();
        self.off.extend(stopped);
        let book = Book {
            told: std::mem::take(&mut self.told),
            off: std::mem::take(&mut self.off),
            sink: Some(Arc::clone(&self.sink)),
        };
        let (findings, evidence) = oracle::judge(&self.scene, &book).await;
        self.findings.extend(findings);
        // One point needs a lie in any weather.
        let lied = |session: &Session| session.had_fault(&["webhook_wrong_session"]);
        if self.plan.weather != Weather::Lies && !evidence.sessions.iter().any(lied) {
            inside::look(&self.scene, &mut self.findings).await;
        }
        if let Some(watch) = self.takeover.take() {
            self.figures.takeovers.extend(watch.await.expect("the watch does not panic").0);
        }
        self.figures.read(&evidence, &book);
    }
}
