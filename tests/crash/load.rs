//! Callers and an operator. Each sends its order with one key until somebody says 2xx, then says what it has
//! to say about the payout, and remembers what it was told: the promises are about that.

use crate::{
    chance::Chance,
    support::{
        rest::{Answer, Api, order_of},
        unique,
    },
};
use payoutd::clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// A number that would be a card's. Refused at the door; nobody may keep it.
pub const CARD_NUMBER: &str = "4242424242424242";
/// Each try takes no longer: a frozen replica answers nobody.
const TRY_WITHIN: Duration = Duration::from_millis(1_500);
/// A caller's own pause before it tries again.
const PAUSE: Duration = Duration::from_millis(20);
/// A caller gives up some time, and that is a finding.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a caller is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Pay,
    /// More than the rules allow: they cancel it.
    TooMuch,
    /// Held by the rules, then answered by the desk.
    Approve,
    Reject,
    /// Called off as soon as it is accepted.
    Cancel,
}

impl Wish {
    fn amount(self) -> i64 {
        match self {
            Self::Pay | Self::Cancel => 125_050,
            Self::TooMuch => 2_000_000,
            Self::Approve | Self::Reject => 600_000,
        }
    }
}

/// An order to be sent.
#[derive(Clone, Debug)]
pub struct Errand {
    pub wish: Wish,
    /// How the destination's token begins: its story.
    pub story: String,
    /// When to send it, from the beginning of its wave.
    pub after: Duration,
    /// The caller hangs up after so long, once, before it asks in earnest.
    pub hang_up: Option<Duration>,
}

/// What one caller asked for and was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub payout: String,
    pub key: String,
    pub order: Value,
    pub story: String,
    pub tries: usize,
    /// The command that was granted with a 2xx: cancel, approve or reject.
    pub granted: Option<&'static str>,
}

/// The switch was off, as far as the operator was told: from the answer to `off` to the sending of `on`.
#[derive(Clone, Debug)]
pub struct SwitchedOff {
    pub reason: String,
    pub from: OffsetDateTime,
    pub to: OffsetDateTime,
}

/// Clients of every replica.
#[derive(Clone)]
pub struct Voices {
    pub callers: Vec<Api>,
    pub desks: Vec<Api>,
    /// The replica that is asked first. Whoever takes an order works on it first.
    pub first: usize,
}

impl Voices {
    /// Sends a wave and waits until everybody has what they wanted.
    pub async fn send(self, errands: Vec<Errand>) -> Result<Vec<Told>, String> {
        let mut under_way = tokio::task::JoinSet::new();
        for (place, errand) in errands.into_iter().enumerate() {
            let voices = self.clone();
            under_way.spawn(async move {
                tokio::time::sleep(errand.after).await;
                let begun = tokio::time::Instant::now();
                let done = tokio::time::timeout(PATIENCE, voices.one(place, &errand)).await;
                done.map_err(|_| format!("{errand:?} was not served within {:?}", begun.elapsed()))
            });
        }
        under_way.join_all().await.into_iter().collect()
    }

    async fn one(&self, place: usize, errand: &Errand) -> Told {
        // Most go to the first replica, every fourth elsewhere.
        let place = if place % 4 == 3 { self.first + 1 } else { self.first };
        let token = format!("{}_{}", errand.story, unique());
        let (key, order) = (unique(), order_of(&token, errand.wish.amount()));
        let send = async |api: &Api| api.try_send(api.creating(&key, order.to_string())).await;
        if let Some(patience) = errand.hang_up {
            // Whatever came of it is of no interest to who hangs up.
            let _ = tokio::time::timeout(patience, send(self.caller(place))).await;
        }
        let mut tries = 0;
        let payout = loop {
            let answer = tokio::time::timeout(TRY_WITHIN, send(self.caller(place + tries))).await;
            tries += 1;
            match answer {
                Ok(Ok(answer)) if answer.status == 200 || answer.status == 201 => break answer.id(),
                Ok(Ok(answer)) => {
                    assert!(answer.status >= 500, "a good order was refused: {}", answer.text);
                }
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        };
        let granted = match errand.wish {
            Wish::Pay | Wish::TooMuch => None,
            Wish::Cancel => self.command(place, &payout, "cancel").await,
            Wish::Approve => self.command(place, &payout, "approve").await,
            Wish::Reject => self.command(place, &payout, "reject").await,
        };
        let story = errand.story.clone();
        Told { payout, key, order, story, tries, granted }
    }

    fn caller(&self, place: usize) -> &Api {
        &self.callers[place % self.callers.len()]
    }

    /// Says a command until it is granted or comes too late.
    async fn command(&self, place: usize, payout: &str, what: &'static str) -> Option<&'static str> {
        let voices = if what == "cancel" { &self.callers } else { &self.desks };
        for turn in place.. {
            let api = &voices[turn % voices.len()];
            match tokio::time::timeout(TRY_WITHIN, say(api, payout, what)).await {
                Ok(Some(answer)) if answer.status == 200 => return Some(what),
                Ok(Some(answer)) if answer.code() == "not_on_hold" => {
                    // Not yet, or an answer of ours was lost and it has gone on.
                    if has_gone_on(api, payout).await {
                        return None;
                    }
                }
                Ok(Some(answer)) if answer.code() == "confirms_off" || answer.status >= 500 => {}
                // Too late, in one way or another.
                Ok(Some(answer)) => {
                    assert_eq!(answer.status, 409, "{what}: {}", answer.text);
                    return None;
                }
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Throws the switch off and, a moment later, on again.
    pub async fn switch(self, pause: Duration) -> SwitchedOff {
        let reason = format!("drill-{}", unique());
        self.throw("off", &reason).await;
        let from = Clock.now();
        // As long as the operator likes: that confirms wait meanwhile is what is tried.
        tokio::time::sleep(pause).await;
        let to = Clock.now();
        self.throw("on", &reason).await;
        SwitchedOff { reason, from, to }
    }

    pub async fn throw(&self, confirms: &str, reason: &str) {
        let body = json!({ "confirms": confirms, "reason": reason });
        for turn in self.first.. {
            let api = &self.desks[turn % self.desks.len()];
            let request = api.put_request("/v1/confirms", &body);
            match tokio::time::timeout(TRY_WITHIN, api.try_send(request)).await {
                Ok(Ok(answer)) if answer.status == 200 => return,
                Ok(Ok(answer)) => assert!(answer.status >= 500, "{}", answer.text),
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An order that names a card number, which must be refused and kept nowhere.
    pub async fn send_card_number(&self) {
        let mut order = order_of("tok_success", 1_000);
        order["metadata"] = json!({ "note": CARD_NUMBER });
        for api in &self.callers {
            if let Ok(Ok(answer)) =
                tokio::time::timeout(TRY_WITHIN, api.try_send(api.creating(&unique(), order.to_string())))
                    .await
            {
                assert!(answer.status >= 400, "a card number was taken: {}", answer.text);
            }
        }
    }
}

async fn say(api: &Api, payout: &str, what: &str) -> Option<Answer> {
    api.try_send(api.post_request(&format!("/v1/payouts/{payout}/{what}"))).await.ok()
}

/// Whether the payout is past the point at which it could be held.
async fn has_gone_on(api: &Api, payout: &str) -> bool {
    let Ok(Ok(answer)) =
        tokio::time::timeout(TRY_WITHIN, api.try_send(api.get_request(&format!("/v1/payouts/{payout}"))))
            .await
    else {
        return false;
    };
    let details = answer.body["status_details"]["code"].as_str().unwrap_or_default();
    let before = [
        "queued",
        "starting",
        "start_unknown",
        "preparing",
        "waiting_for_approval",
        "waiting_for_confirms",
        "unknown_at_pike",
    ];
    answer.status == 200 && !before.contains(&details)
}

/// Spreads errands over a time, some of them by callers who hang up first.
pub fn spread(stories: &[(Wish, &str)], over: Duration, chance: &mut Chance) -> Vec<Errand> {
    let over = u64::try_from(over.as_millis()).unwrap().max(1);
    let errand = |(wish, story): &(Wish, &str)| {
        let hang_up = (chance.below(6) == 0).then(|| Duration::from_micros(chance.between(100, 8_000)));
        let after = Duration::from_millis(chance.between(0, over));
        Errand { wish: *wish, story: (*story).to_owned(), after, hang_up }
    };
    stories.iter().map(errand).collect()
}
