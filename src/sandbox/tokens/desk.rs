//! Answers the calls that are not about sessions, where the book and the ledger must be asked or told:
//! whether a public token is used, a recurrent one disabled, and what is left in the wallet. `wish` has read
//! them.

use std::time::Duration;

use serde::Serialize;
use time::UtcOffset;

use super::super::calls::{Answer, Arrival};
use super::super::code::Code;
use super::super::faults::Strike;
use super::super::ledger::Verdict;
use super::super::scalars::{At, Digest};
use super::super::world::World;
use super::seal::Mark;
use super::wish::{Wanted, Wish};

/// Times of tokens are shown with the offset of Moscow, in seconds.
const SHOWN_OFFSET_HOURS: i8 = 3;
/// How long a recurrent token is said to be good for: five years. Nothing happens at their end.
const RECURRENT_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);
/// The end of a disabled recurrent token: a date in the year 2000, which readers are to ignore.
const DISABLED_END: At = At(946_684_800_000_000);

/// An accepted answer: `status`, and what is said beside it.
pub fn accepted(said: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a, T> {
        status: &'static str,
        #[serde(flatten)]
        said: &'a T,
    }
    serde_json::to_vec(&Body { status: "ok", said }).expect("string keys and no failing parts")
}

/// A token and its life.
#[derive(Serialize)]
struct Life<'a> {
    token: &'a str,
    created_at: String,
    finished_at: String,
    is_active: bool,
    r#type: &'static str,
}

#[derive(Serialize)]
struct InfoSaid<'a> {
    info: Life<'a>,
}

#[derive(Serialize)]
struct RecurrentSaid<'a> {
    recurrent: Life<'a>,
}

#[derive(Serialize)]
struct BalanceSaid {
    wallets: Vec<WalletSaid>,
}

#[derive(Serialize)]
struct WalletSaid {
    id: String,
    amount_details: Left,
}

#[derive(Serialize)]
struct Left {
    amount: i128,
    currency: String,
}

impl World {
    /// Answers a call of an authenticated partner that is not about a session. Idempotency keys are for
    /// sessions; here they are noted in the ledger and mean nothing.
    pub fn attend(
        &mut self,
        arrival: Arrival<'_>,
        wish: Result<Wish, Code>,
        strike: Option<&Strike>,
        now: At,
    ) -> Answer {
        if self.closed {
            return self.refusal(Code::InternalError);
        }
        let loses = strike.is_some_and(|strike| strike.kind.loses_the_answer());
        let prevents = strike.is_some_and(|strike| strike.kind.prevents());
        let (verdict, answer) = match self.admit(arrival).and(wish) {
            Err(code) => (Verdict::Refused(code), self.refusal(code)),
            Ok(_) if prevents => (Verdict::Broken, self.refusal(Code::InternalError)),
            Ok(wish) => {
                let verdict = if loses { Verdict::AnswerLost } else { Verdict::Accepted };
                (verdict, Answer { status: 200, body: self.grant(arrival, wish, now) })
            }
        };
        self.book(arrival, None, verdict, strike, now);
        answer
    }

    fn grant(&mut self, arrival: Arrival<'_>, wish: Wish, now: At) -> Vec<u8> {
        match wish {
            Wish::Known(answer) => answer,
            Wish::PublicInfo { token, pass } => {
                let is_active = now < pass.ends() && !self.state.tokens.is_used(&pass, Mark::of(&token));
                let info = Life {
                    token: &token,
                    created_at: shown(pass.made),
                    finished_at: shown(pass.ends()),
                    is_active,
                    r#type: "public_token",
                };
                accepted(&InfoSaid { info })
            }
            Wish::Recurrent { token, made, wanted } => {
                let mark = Mark::of(&token);
                if wanted == Wanted::Disabling {
                    self.state.tokens.disable(mark);
                }
                let is_active = !self.state.tokens.is_disabled(mark);
                let life = Life {
                    token: &token,
                    created_at: shown(made),
                    finished_at: shown(if is_active { made.after(RECURRENT_LIFE) } else { DISABLED_END }),
                    is_active,
                    r#type: "recurrent_token",
                };
                match wanted {
                    Wanted::Info => accepted(&InfoSaid { info: life }),
                    Wanted::Status | Wanted::Disabling => accepted(&RecurrentSaid { recurrent: life }),
                }
            }
            Wish::Balance => {
                let wallets = self.balances(arrival.project).map(|(currency, left)| WalletSaid {
                    id: Digest::of_parts(&["wallet", arrival.project, currency]).digits(0, 8),
                    amount_details: Left { amount: left, currency: currency.to_ascii_lowercase() },
                });
                accepted(&BalanceSaid { wallets: wallets.collect() })
            }
        }
    }
}

/// `2020-07-14T13:17:11+03:00`
fn shown(at: At) -> String {
    let offset = UtcOffset::from_hms(SHOWN_OFFSET_HOURS, 0, 0).expect("within a day");
    let t = at.utc().to_offset(offset);
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    let (hour, minute, second) = (t.hour(), t.minute(), t.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+{SHOWN_OFFSET_HOURS:02}:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_tokens_have_an_offset_and_no_fraction() {
        assert_eq!(shown(At(1_594_721_831_999_999)), "2020-07-14T13:17:11+03:00");
        assert!(shown(DISABLED_END).starts_with("2000-01-01T"));
    }
}
