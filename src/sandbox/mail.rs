//! Makes webhooks: what each says, in whose names, how many copies of it go out and when, and what a fault
//! does to it before it leaves. `post` brings them to their receivers.

use std::time::Duration;

use super::faults::{Deed, Lie, Manner, Occasion, Of, Point, Seal, Strike, tell};
use super::ledger::{Event, What};
use super::machine::WebhookKind;
use super::scalars::{At, SessionId};
use super::session::{Session, Version};
use super::settings::WebhookVersion;
use super::view;
use super::world::{Delivery, Job, Record, World};

/// How much later a webhook goes when a fault says so and no figure does.
const LATE: Duration = Duration::from_secs(2);
/// How long a webhook that is to be overtaken waits for the next one.
const HELD: Duration = Duration::from_secs(10);
/// How long after the one that overtook it.
const OVERTAKEN: Duration = Duration::from_millis(50);
/// Copies of a duplicated webhook.
const COPIES: u8 = 2;

impl World {
    /// Makes the webhook about a session, or about one of its payouts, and puts it on its way.
    pub(super) fn send(&mut self, id: SessionId, payout: Option<usize>, kind: WebhookKind, now: At) {
        self.send_at_least(0, id, payout, kind, now);
    }

    fn send_at_least(&mut self, least: u8, id: SessionId, payout: Option<usize>, kind: WebhookKind, now: At) {
        let Some(record) = self.state.sessions.get(&id) else { return };
        let session = &record.session;
        let destination = match payout {
            Some(place) => session.payouts.get(place).map(|payout| &payout.destination),
            None => session.draft.destination.as_ref(),
        };
        let script = destination.map(|to| to.magic.script());
        let copies = script.map_or(1, |script| script.webhook_copies).max(least);
        let own = script.and_then(|script| script.fault).filter(|(fault, point)| {
            let here = point.is_none_or(|point| point == Point::Webhook(kind));
            !session.struck && here && fault.can_strike(Of::Webhook(kind), false)
        });
        let delivery = Delivery {
            session: id,
            project: session.project.clone(),
            kind,
            body: text(view::webhook(session, kind, self.version_of(session))),
            signature: None,
            failures: 0,
            born: now,
            due: now,
            seal: Seal::Genuine,
        };
        let strike = match own {
            Some((fault, _)) => Some(Strike::own(fault)),
            None if self.faults.is_empty() => None,
            None => throw(self, id, kind),
        };
        let overtaken = self.held.remove(&id);
        match strike {
            Some(strike) => self.send_struck(delivery, copies, &strike),
            None => {
                for _ in 0..copies {
                    self.post(delivery.clone(), Duration::ZERO);
                }
            }
        }
        overtaken.into_iter().flatten().for_each(|held| self.release(held, now));
    }

    fn version_of(&self, session: &Session) -> Version {
        match self.constitution.webhook_version {
            WebhookVersion::Start => session.version,
            WebhookVersion::V1 => Version::V1,
            WebhookVersion::V2 => Version::V2,
        }
    }

    fn send_struck(&mut self, mut delivery: Delivery, copies: u8, strike: &Strike) {
        let Strike { kind, figures, own } = strike;
        let (id, now) = (delivery.session, delivery.born);
        self.state.ledger.totals_of(&delivery.project).count_fault(*kind);
        if let Some(Record { session, page, .. }) = self.state.sessions.get_mut(&id) {
            page.append(Event { at: now, what: What::Fault { fault: *kind } });
            session.struck |= *own;
        }
        let late = figures.delay.unwrap_or(LATE);
        let (copies, wait, manner) = match kind.deed() {
            Deed::Lie(lie) => {
                self.lie(&mut delivery, lie);
                (copies, Duration::ZERO, None)
            }
            Deed::Seal(seal) => {
                delivery.seal = seal;
                (copies, Duration::ZERO, None)
            }
            Deed::Mail(manner) => match manner {
                Manner::Drop => (0, Duration::ZERO, None),
                Manner::Duplicate => (figures.copies.unwrap_or(COPIES), Duration::ZERO, None),
                Manner::Delay => (copies, late, None),
                Manner::Reorder => (copies, figures.delay.unwrap_or(HELD), Some(manner)),
                Manner::Replay => (copies, Duration::ZERO, Some(manner)),
            },
            // These strike calls.
            Deed::Dress(_) | Deed::Past | Deed::Wait(_) | Deed::Start(_) => (copies, Duration::ZERO, None),
        };
        for _ in 0..copies {
            let posted = self.post(delivery.clone(), wait);
            if let (Some(posted), Some(Manner::Reorder)) = (posted, manner) {
                self.held.entry(id).or_default().push(posted);
            }
        }
        if manner == Some(Manner::Replay) {
            self.post(delivery, late);
        }
    }

    fn lie(&mut self, delivery: &mut Delivery, lie: Lie) {
        let told = text(tell(lie, delivery.body.as_bytes()));
        let genuine = std::mem::replace(&mut delivery.body, told);
        if matches!(lie, Lie::Type(_)) {
            // One more webhook, not one in place of another.
            self.post(Delivery { body: genuine, ..delivery.clone() }, Duration::ZERO);
        }
    }

    /// Puts a webhook on its way `wait` from its birth; its number, unless webhooks are switched off.
    fn post(&mut self, mut delivery: Delivery, wait: Duration) -> Option<u64> {
        delivery.born = delivery.born.after(wait);
        // An empty schedule means that webhooks are switched off.
        let due = self.constitution.attempt_due(delivery.born, 0)?;
        delivery.due = due;
        let number = self.state.next_delivery;
        self.state.next_delivery += 1;
        self.agenda.insert((due, Job::Delivery(number)));
        self.state.sessions.letter_sent(delivery.session);
        self.state.deliveries.insert(number, delivery);
        Some(number)
    }

    /// Lets a webhook that was held back go, shortly.
    fn release(&mut self, number: u64, now: At) {
        let Some(delivery) = self.state.deliveries.get_mut(&number) else { return };
        let due = now.after(OVERTAKEN);
        if due < delivery.due && self.agenda.remove(&(delivery.due, Job::Delivery(number))) {
            (delivery.born, delivery.due) = (due, due);
            self.agenda.insert((due, Job::Delivery(number)));
        }
    }

    /// Sends again what the session's state calls for, even when its story is one of silence.
    pub(super) fn resend(&mut self, id: SessionId, now: At) -> Option<WebhookKind> {
        let session = &self.state.sessions.get(&id)?.session;
        let kind = session.news()?;
        self.send_at_least(1, id, session.payouts.len().checked_sub(1), kind, now);
        Some(kind)
    }
}

/// What the rules in force say about a webhook.
fn throw(world: &mut World, id: SessionId, kind: WebhookKind) -> Option<Strike> {
    let session = &world.state.sessions.get(&id)?.session;
    let shown_id = id.to_string();
    let payout = session.payouts.last();
    let metadata = payout.map_or(session.draft.metadata.as_deref(), |payout| payout.metadata.as_deref());
    let amount = payout.map(|payout| payout.amount.minor);
    let occasion = Occasion {
        project: &session.project,
        version: Some(session.version),
        session: Some(&shown_id),
        metadata: metadata.map(serde_json::value::RawValue::get),
        amount,
        ended: false,
        of: Of::Webhook(kind),
    };
    world.faults.throw(&occasion)
}

fn text(json: Vec<u8>) -> Box<str> {
    String::from_utf8(json).expect("JSON is UTF-8").into()
}
