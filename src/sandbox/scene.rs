//! For tests: a world without HTTP, keys and a clock, driven by hand.

use std::time::Duration;

use super::calls::{Answer, Arrival};
use super::faults::Book;
use super::magic::{Magic, card_of_token};
use super::request::{Method, Request};
use super::scalars::{Amount, At, Currency, Digest, SessionId};
use super::session::{Destination, Order, Version};
use super::settings::{Project, Settings};
use super::world::{Constitution, Record, State, World};

/// A world and its hour.
pub struct Scene {
    pub world: World,
    pub now: At,
    /// Who calls.
    pub project: &'static str,
}

impl Scene {
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let project = |id| Project::new(id, String::new(), "http://127.0.0.1:9/".to_owned());
        let mut settings = Settings::new(vec![project("p"), project("q")], String::new());
        // No webhooks: nobody is here to carry them.
        settings.timing.webhook_retry.clear();
        change(&mut settings);
        let faults = Book::new(1, Vec::new());
        let world = World::new(Constitution::of(&settings), faults, State::default());
        Self { world, now: At(0), project: "p" }
    }

    pub fn call(&mut self, method: Method, key: Option<&str>, request: Request) -> Answer {
        let arrival = Arrival {
            project: self.project,
            method,
            version: Version::V2,
            body_sha256: Digest::of(b""),
            idempotency_key: key,
            submerchant: None,
        };
        let strike = self.world.strike(arrival, Some(&request), None);
        self.world.call(arrival, Ok(request), strike.as_ref(), self.now).answer
    }

    pub fn named(&mut self, method: Method, session: SessionId) -> u16 {
        self.call(method, None, Request { session: Some(session), ..Request::default() }).status
    }

    pub fn create(&mut self) -> SessionId {
        let answer = self.call(Method::Create, None, Request::default());
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        SessionId::parse(body["session"]["id"].as_str().unwrap()).unwrap()
    }

    pub fn start(&mut self, session: SessionId, token: &str) -> u16 {
        let order = Order {
            destination: Some(Destination {
                magic: Magic::of(token),
                card: card_of_token("p", token),
                recurrent: None,
            }),
            amount: Some(Amount { minor: 500, currency: Currency::parse("rub").unwrap() }),
            ..Order::default()
        };
        self.call(Method::StartPayout, None, Request { session: Some(session), order }).status
    }

    /// Lets `time` pass and whatever is due in it happen.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        while self.world.next_due().is_some_and(|due| due <= self.now) {
            self.world.pass(self.now, 64);
        }
    }

    pub fn settle(&mut self) {
        self.wait(Duration::from_millis(50));
    }

    /// A payout from beginning to end.
    pub fn pay(&mut self) -> SessionId {
        let id = self.create();
        assert_eq!(self.start(id, "tok_success"), 200);
        self.settle();
        assert_eq!(self.named(Method::Confirm, id), 200);
        self.settle();
        id
    }

    pub fn is_in_memory(&self, id: SessionId) -> bool {
        self.world.state.sessions.get(&id).is_some()
    }

    pub fn in_memory(&self) -> usize {
        self.world.state.sessions.entries().0
    }

    /// The record, wherever it is.
    pub fn record(&self, id: SessionId) -> Record {
        let State { sessions, archive, .. } = &self.world.state;
        sessions.get(&id).cloned().or_else(|| archive.read(id).unwrap()).unwrap()
    }
}
