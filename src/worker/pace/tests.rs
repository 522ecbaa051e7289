//! Rates, waits and the breaker against a clock of the tests' own.

use super::*;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn settings() -> PaceSettings {
    PaceSettings {
        calls_per_second: 0,
        reads_per_second: 0,
        width: 8,
        breaker_failures: 3,
        breaker_pause: ms(1000),
        breaker_longest: ms(3000),
    }
}

fn call(pace: &mut Pace, lane: Lane, condition: Condition, now: Instant) {
    let began = pace.take(lane, now);
    pace.ended(lane, condition, began, now);
}

fn broken(start: Instant) -> Pace {
    let mut pace = Pace::new(settings());
    for _ in 0..3 {
        assert_eq!(pace.paused(start), None);
        call(&mut pace, Lane::Calls, Condition::Ill, start);
    }
    assert_eq!(pace.paused(start), Some(Paused::Breaker));
    pace
}

/// Whatever the loop does, and however long it slept: no second has more beginnings than the rate.
#[test]
fn a_rate_is_held_exactly() {
    let start = Instant::now();
    for rate in [1, 5, 7, 200, 1000] {
        let mut pace = Pace::new(PaceSettings { calls_per_second: rate, width: 10_000, ..settings() });
        let (mut began, mut clock) = (vec![], start);
        for step in [0, 3, 1, 250, 251, 249, 4000, 10, 0, 0, 100, 5000, 1, 2, 300, 300, 300, 300] {
            clock += ms(step);
            let now = clock;
            for _ in 0..pace.grant(now).calls {
                began.push(pace.take(Lane::Calls, now));
            }
        }
        let every = Duration::from_secs(1) / rate;
        assert!(began.len() > 3, "{rate}");
        assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= every), "{rate}: {began:?}");
    }
}

#[test]
fn a_rate_is_used_up() {
    let start = Instant::now();
    let mut pace = Pace::new(PaceSettings { calls_per_second: 100, width: 10_000, ..settings() });
    let mut count = 0;
    for round in 0..100 {
        let now = start + ms(100 * round);
        let grant = pace.grant(now).calls;
        count += grant;
        for _ in 0..grant {
            assert!(pace.take(Lane::Calls, now) <= now + AHEAD, "nobody waits longer than granted ahead");
        }
    }
    assert!((990..=1030).contains(&count), "{count} in ten seconds");
}

#[test]
fn reads_and_calls_have_rates_of_their_own() {
    let now = Instant::now();
    let mut pace = Pace::new(PaceSettings { reads_per_second: 5, ..settings() });
    assert_eq!(pace.grant(now), Grant { calls: 8, reads: 2, calls_are: Calls::Any });
    for _ in 0..2 {
        pace.take(Lane::Reads, now);
    }
    assert_eq!(pace.grant(now), Grant { calls: 8, reads: 0, calls_are: Calls::Any });
    assert!(pace.is_narrow(Lane::Reads) && !pace.is_narrow(Lane::Calls));
}

#[test]
fn a_wait_that_pike_asked_for_holds_for_everything_and_then_begins_narrowly() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    call(&mut pace, Lane::Calls, Condition::AsksToWait(ms(5000)), now);
    call(&mut pace, Lane::Calls, Condition::AsksToWait(ms(1000)), now);
    assert_eq!((pace.grant(now + ms(4999)), pace.paused(now)), (NOTHING, Some(Paused::Asked)));
    let after = now + ms(5000);
    assert_eq!(pace.paused(after), None);
    assert_eq!(pace.grant(after), Grant { calls: 1, reads: 1, calls_are: Calls::Any });
    for wider in 2..=8 {
        call(&mut pace, Lane::Calls, Condition::Well, after);
        assert_eq!(pace.grant(after).calls, wider);
    }
    call(&mut pace, Lane::Calls, Condition::Well, after);
    assert_eq!(pace.grant(after).calls, 8, "and no wider than set");
}

#[test]
fn what_was_claimed_before_waits_for_what_pike_asked_for_and_for_nothing_else() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    call(&mut pace, Lane::Calls, Condition::Busy(ms(5000)), now);
    assert_eq!((pace.grant(now), pace.must_wait(now)), (NOTHING, false));
    call(&mut pace, Lane::Calls, Condition::AsksToWait(ms(1000)), now);
    assert!(pace.must_wait(now + ms(999)) && !pace.must_wait(now + ms(1000)));
    assert_eq!(pace.grant(now + ms(4999)), NOTHING);
}

#[test]
fn failures_in_a_row_stop_the_calls_and_a_success_between_them_does_not() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    for _ in 0..5 {
        call(&mut pace, Lane::Calls, Condition::Ill, now);
        call(&mut pace, Lane::Calls, Condition::NotTried, now);
        call(&mut pace, Lane::Calls, Condition::Ill, now);
        call(&mut pace, Lane::Reads, Condition::Well, now);
    }
    assert_eq!(pace.paused(now), None);
    assert_eq!(broken(now).grant(now), NOTHING);
}

#[test]
fn one_status_read_finds_out_whether_pike_is_back() {
    let now = Instant::now();
    let mut pace = broken(now);
    assert_eq!(pace.grant(now + ms(999)), NOTHING);
    let probe = now + ms(1000);
    assert_eq!(pace.grant(probe), Grant { calls: 0, reads: 1, calls_are: Calls::Harmless });
    let began = pace.take(Lane::Reads, probe);
    assert_eq!(pace.grant(probe), NOTHING, "one at a time");
    pace.ended(Lane::Reads, Condition::Well, began, probe);
    assert_eq!(pace.paused(probe), None);
    assert_eq!(pace.grant(probe), Grant { calls: 1, reads: 1, calls_are: Calls::Any }, "without a spike");
}

#[test]
fn where_there_is_nothing_to_read_a_harmless_call_finds_out() {
    let now = Instant::now();
    let pace = broken(now);
    assert_eq!(pace.grant(now + ms(1999)).calls, 0);
    assert_eq!(pace.grant(now + ms(2000)), Grant { calls: 1, reads: 1, calls_are: Calls::Harmless });
}

#[test]
fn probes_that_fail_become_rarer() {
    let mut now = Instant::now();
    let mut pace = broken(now);
    for pause in [1000, 2000, 3000, 3000] {
        assert_eq!(pace.grant(now + ms(pause - 1)).reads, 0, "{pause}");
        now += ms(pause);
        assert_eq!(pace.grant(now).reads, 1, "{pause}");
        call(&mut pace, Lane::Reads, Condition::Ill, now);
    }
}

#[test]
fn what_was_under_way_when_the_calls_were_stopped_neither_probes_nor_prolongs() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    let early: Vec<Instant> = (0..6).map(|_| pace.take(Lane::Calls, now)).collect();
    let later = now + ms(500);
    for began in early {
        pace.ended(Lane::Calls, Condition::Ill, began, later);
    }
    assert_eq!(pace.grant(later + ms(1000)).reads, 1, "the first pause, not the fourth");
}
