//! What is planned for the wires between payoutd and Pike, and what was seen on them. A payout is known by
//! the mark in its token, and its session from the moment that a start names both. A create says nothing
//! about whose it is, so the plans for creates go to the creates in their order.

use crate::{
    fault::{Call, Case, Fault},
    seed,
    support::until,
};
use fastrand::Rng;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Mutex,
};
use tokio::sync::watch;

/// What was seen, in the order of both wires together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Whoever asks has sent a whole POST.
    Sent(Call, Option<String>),
    /// A whole POST has reached the other side.
    Through(Call, Option<String>),
    /// The other side has answered with this status; for a webhook, the hash of what it answered to.
    Answered(Call, Option<String>, u16, [u8; 32]),
    /// The whole answer has gone back to whoever asked.
    Back(Call, Option<String>),
}

/// What a message on its way meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Strike(Case),
    /// A webhook, or the answer to a call of ours, waits until released.
    Hold(Call),
}

impl Plan {
    fn call(self) -> Call {
        match self {
            Self::Strike(case) => case.call,
            Self::Hold(call) => call,
        }
    }
}

/// A message of one side, whole.
pub struct Asked {
    pub call: Option<Call>,
    pub session: Option<String>,
    pub plan: Option<Plan>,
    pub hash: [u8; 32],
    /// This message's own chance.
    pub chance: Rng,
}

#[derive(Default)]
struct Plans {
    by_mark: HashMap<usize, Plan>,
    for_creates: VecDeque<Plan>,
    marks: HashMap<String, usize>,
}

pub struct Wire {
    seed: u64,
    plans: Mutex<Plans>,
    log: Mutex<Vec<Seen>>,
    struck: Mutex<BTreeMap<Case, usize>>,
    held: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Wire {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            plans: Mutex::default(),
            log: Mutex::default(),
            struck: Mutex::default(),
            held: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }
    }

    /// Plans something for the payout with this mark, for its first call of the kind.
    pub fn plan(&self, mark: usize, plan: Plan) {
        let mut plans = self.plans.lock().unwrap();
        if plan.call() == Call::Create {
            plans.for_creates.push_back(plan);
        } else {
            assert_eq!(plans.by_mark.insert(mark, plan), None, "one plan for each payout");
        }
    }

    /// A whole message has arrived from whoever asks: notes it and says what it meets.
    pub fn arrived(&self, path: &str, body: &[u8]) -> Asked {
        let call = Call::of_path(path);
        let session = session(body);
        let n = self.note(call.map(|call| Seen::Sent(call, session.clone())));
        let mut plans = self.plans.lock().unwrap();
        if let (Some(Call::Start), Some(session), Some(mark)) = (call, &session, mark(body)) {
            plans.marks.insert(session.clone(), mark);
        }
        let plan = match call {
            Some(Call::Create) => plans.for_creates.pop_front(),
            Some(call) => {
                let mark = session.as_ref().and_then(|session| plans.marks.get(session)).copied();
                let planned =
                    mark.and_then(|mark| plans.by_mark.get(&mark).copied().map(|plan| (mark, plan)));
                planned.filter(|(_, plan)| plan.call() == call).map(|(mark, plan)| {
                    plans.by_mark.remove(&mark);
                    plan
                })
            }
            None => None,
        };
        Asked { call, session, plan, hash: Sha256::digest(body).into(), chance: seed::chance(self.seed, n) }
    }

    /// Notes what was seen, if it is of interest; its number.
    pub fn note(&self, seen: Option<Seen>) -> usize {
        let mut log = self.log.lock().unwrap();
        log.extend(seen);
        log.len()
    }

    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// How many whole POSTs of a kind got through.
    pub fn through(&self, call: Call) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|seen| matches!(seen, Seen::Through(of, _) if *of == call)).count()
    }

    pub fn strike(&self, case: Case) {
        *self.struck.lock().unwrap().entry(case).or_default() += 1;
    }

    /// How often each case has struck.
    pub fn struck(&self) -> BTreeMap<Case, usize> {
        self.struck.lock().unwrap().clone()
    }

    /// How often each fault has struck.
    pub fn struck_by_fault(&self) -> BTreeMap<Fault, usize> {
        let mut faults = BTreeMap::new();
        for (case, times) in self.struck() {
            *faults.entry(case.fault).or_default() += times;
        }
        faults
    }

    /// Waits, for whoever has met a hold.
    pub async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        self.released.subscribe().wait_for(|released| *released).await.unwrap();
    }

    /// Waits until so many are held.
    pub async fn held(&self, wanted: usize) {
        let held = || async { (*self.held.borrow() >= wanted).then_some(()) };
        until(&format!("{wanted} messages to be held"), held).await;
    }

    /// Lets go whatever is held now and later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

/// The mark of a payout, as it stands in its token.
pub fn marked(token: &str, mark: usize) -> String {
    format!("{token}_mark{mark}x")
}

fn mark(body: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("_mark")?;
    rest.split_once('x')?.0.parse().ok()
}

/// The first session that a message names.
fn session(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let at = text.find("\"ps_")? + 1;
    text[at..].split_once('"').map(|(id, _)| id.to_owned())
}
