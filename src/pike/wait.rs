//! `Retry-After`: how long Pike, or a gateway in front of it, asks us to stay away. Whatever is written
//! there, the answer is between a second and a quarter of an hour: nonsense must neither hammer Pike nor
//! stop a project for a day.

use super::outcome::Condition;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// The shortest wait, also for what is missing, negative, past or unreadable.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest wait, whatever was asked for.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Whether an answer with this status asks us to wait.
pub(super) fn is_asked_for(http: u16) -> bool {
    matches!(http, 429 | 503)
}

/// How long to wait: as long as is asked for, or shortly, where nothing that can be read is. A date is
/// counted from the answer's own `Date`, so that the difference between Pike's clock and ours does not
/// matter; without one it says nothing.
pub(super) fn wait(headers: &HeaderMap) -> Condition {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER).and_then(|wish| seconds(wish).or_else(|| until(wish, text(DATE))));
    asked.map_or(Condition::Busy(SHORTEST), |wait| Condition::AsksToWait(wait.clamp(SHORTEST, LONGEST)))
}

/// Whole seconds, however many digits; fewer than none are none.
fn seconds(text: &str) -> Option<Duration> {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if negative {
        return Some(Duration::ZERO);
    }
    // More digits than the number can hold are more than the longest wait.
    Some(digits.parse().map_or(LONGEST, Duration::from_secs))
}

fn until(date: &str, now: Option<&str>) -> Option<Duration> {
    let read = |text: &str| OffsetDateTime::parse(text, &Rfc2822).ok();
    Some(Duration::try_from(read(date)? - read(now?)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Mon, 23 Nov 2026 10:00:00 GMT";

    const SHORTLY: Condition = Condition::Busy(SHORTEST);

    fn waits(retry_after: &str, date: Option<&str>) -> Condition {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        wait(&headers)
    }

    #[test]
    fn whatever_is_asked_the_wait_is_a_second_to_a_quarter_of_an_hour() {
        for (asked, seconds) in [
            ("0", 1),
            ("1", 1),
            ("7", 7),
            (" 30 ", 30),
            ("900", 900),
            ("901", 900),
            ("86400", 900),
            ("99999999999999999999999999", 900),
            ("-5", 1),
            ("-99999999999999999999999999", 1),
            ("Mon, 23 Nov 2026 10:00:42 GMT", 42),
            ("Mon, 23 Nov 2026 09:00:00 GMT", 1),
            ("Tue, 24 Nov 2037 10:00:00 GMT", 900),
        ] {
            let wait = Condition::AsksToWait(Duration::from_secs(seconds));
            assert_eq!(waits(asked, Some(NOW)), wait, "{asked}");
        }
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing_and_the_wait_is_short() {
        for unreadable in ["1.5", "soon", "", "-", "Mon, 99 Nov 2026 10:00:00 GMT"] {
            assert_eq!(waits(unreadable, Some(NOW)), SHORTLY, "{unreadable}");
        }
        assert_eq!(wait(&HeaderMap::new()), SHORTLY, "missing");
    }

    #[test]
    fn a_date_counts_by_the_clock_of_whoever_wrote_it() {
        let skewed = "Mon, 23 Nov 2026 09:59:50 GMT";
        let twenty = Condition::AsksToWait(Duration::from_secs(20));
        assert_eq!(waits("Mon, 23 Nov 2026 10:00:10 GMT", Some(skewed)), twenty);
        assert_eq!(waits("Mon, 23 Nov 2026 10:00:10 GMT", None), SHORTLY, "no clock to count by");
    }

    #[test]
    fn only_these_two_statuses_ask() {
        let asking: Vec<u16> = (100..600).filter(|http| is_asked_for(*http)).collect();
        assert_eq!(asking, [429, 503]);
    }
}
