//! Handing over: what a transaction leaves to be done is claimed in it for a worker of this process, if that
//! worker has a place for it, and given to the worker after the commit: no second transaction claims it. What
//! finds no place waits in the database for whoever comes; so does, until its lease ends, what was handed
//! over in a process that died.

use crate::{
    crash_point,
    domain::{
        effect::EffectKind,
        id::{PayoutId, ProjectId},
    },
    store::{
        effects::{self, NewEffect},
        notifications::{self, NewNotification},
        payouts::{NewPayout, Stored},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};
use uuid::Uuid;

/// A worker's place, taken: what is put into it begins as soon as it may. Dropped, it is free again.
pub type Place<T> = Box<dyn FnOnce(T) + Send>;

/// Whoever calls Pike in this process.
pub trait Callers: Send + Sync {
    /// A place for a call that can begin at once, or within moments, with how long its claim is to last.
    fn place(&self, project: &ProjectId, kind: EffectKind) -> Option<(Duration, Place<effects::Claimed>)>;
}

/// Whoever delivers notifications in this process.
pub trait Tellers: Send + Sync {
    /// How long a claim lasts.
    fn lease(&self) -> Duration;
    /// A place for a message that can be sent at once.
    fn place(&self, project: &ProjectId) -> Option<Place<notifications::Claimed>>;
}

/// The workers of this process, as long as they are there: they hold the engine, not the engine them.
#[derive(Clone)]
pub struct Hands {
    pub callers: Weak<dyn Callers>,
    pub tellers: Weak<dyn Tellers>,
}

/// What one transaction hands over.
#[derive(Default)]
pub(super) struct Handed {
    places: BTreeMap<(PayoutId, EffectKind), Place<effects::Claimed>>,
    calls: Vec<(effects::Claimed, Place<effects::Claimed>)>,
    messages: Vec<(notifications::Claimed, Place<notifications::Claimed>)>,
    /// Whether something found no place, and somebody is to be woken for it.
    pub(super) left_calls: bool,
    pub(super) left_messages: bool,
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handed({} calls, {} messages)", self.calls.len(), self.messages.len())
    }
}

impl Handed {
    /// Takes places for these calls, as far as there are any.
    pub(super) fn calls<'a>(
        &mut self,
        hands: Option<&Hands>,
        new: impl Iterator<Item = (&'a Stored, EffectKind)>,
    ) -> Vec<NewEffect<'a>> {
        let callers = hands.and_then(|hands| hands.callers.upgrade());
        new.map(|(stored, kind)| {
            let lease = self.call(callers.as_ref(), stored.payout.id, &stored.payout.project, kind);
            NewEffect { stored, kind, lease }
        })
        .collect()
    }

    /// The same for the first calls of these orders: how long each claim is to last.
    pub(super) fn first_calls(&mut self, hands: Option<&Hands>, new: &[NewPayout]) -> Vec<Option<Duration>> {
        let callers = hands.and_then(|hands| hands.callers.upgrade());
        let call =
            |new: &NewPayout| self.call(callers.as_ref(), new.id, &new.project, EffectKind::CreateSession);
        new.iter().map(call).collect()
    }

    fn call(
        &mut self,
        callers: Option<&Arc<dyn Callers>>,
        payout: PayoutId,
        project: &ProjectId,
        kind: EffectKind,
    ) -> Option<Duration> {
        let Some((lease, place)) = callers.and_then(|callers| callers.place(project, kind)) else {
            self.left_calls = true;
            return None;
        };
        self.places.insert((payout, kind), place);
        Some(lease)
    }

    /// Takes places for these messages, as far as there are any.
    pub(super) fn messages(&mut self, hands: Option<&Hands>, new: &mut [NewNotification]) {
        let tellers = hands.and_then(|hands| hands.tellers.upgrade());
        for message in new {
            let place =
                |tellers: &Arc<dyn Tellers>| Some((tellers.lease(), tellers.place(&message.project)?));
            match tellers.as_ref().and_then(place) {
                Some((lease, place)) => {
                    message.lease = Some(lease);
                    self.messages.push((message.claimed(), place));
                }
                None => self.left_messages = true,
            }
        }
    }

    /// These calls were claimed: one that was live already keeps its own claim.
    pub(super) fn claimed(&mut self, claimed: Vec<effects::Claimed>) {
        for claimed in claimed {
            if let Some(place) = self.places.remove(&(claimed.payout, claimed.kind)) {
                crash_point::pass_of(claimed.kind, "claiming");
                self.calls.push((claimed, place));
            }
        }
        self.places.clear();
        self.messages.iter().for_each(|_| crash_point::pass("notification.claiming"));
    }

    /// These messages were not written after all.
    pub(super) fn forget(&mut self, messages: BTreeSet<Uuid>) {
        self.messages.retain(|(message, _)| !messages.contains(&message.id));
    }

    /// After the commit: lets everything begin.
    pub(super) fn over(&mut self) {
        for (claimed, place) in self.calls.drain(..) {
            crash_point::pass_of(claimed.kind, "claimed");
            place(claimed);
        }
        for (claimed, place) in self.messages.drain(..) {
            crash_point::pass("notification.claimed");
            place(claimed);
        }
    }
}
