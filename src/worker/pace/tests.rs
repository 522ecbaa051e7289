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

#[test]
fn whoever_waits_in_a_lane_is_known_until_a_round_has_taken_all() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    assert!(!pace.has_waiting(Lane::Calls));
    pace.leave(Lane::Calls, false, now);
    assert!(pace.has_waiting(Lane::Calls) && !pace.has_waiting(Lane::Reads));
    pace.looked(Lane::Calls, false, now);
    assert!(pace.has_waiting(Lane::Calls), "it could not take all");
    pace.leave(Lane::Reads, false, now);
    pace.looked(Lane::Calls, true, now);
    assert!(!pace.has_waiting(Lane::Calls) && pace.has_waiting(Lane::Reads));
}

/// A payout that has begun does not wait behind all that have not, unless each call's turn is counted.
#[test]
fn what_takes_a_payout_further_goes_behind_others_in_a_narrow_lane_only() {
    let now = Instant::now();
    let at_a_rate = PaceSettings { calls_per_second: 10, ..settings() };
    for (settings, narrow) in [(settings(), false), (at_a_rate, true)] {
        let mut pace = Pace::new(settings);
        assert!(
            !pace.goes_behind(Lane::Calls, true) && !pace.goes_behind(Lane::Calls, false),
            "nobody waits"
        );
        pace.leave(Lane::Calls, false, now);
        assert!(pace.goes_behind(Lane::Calls, false), "what begins");
        assert_eq!(pace.goes_behind(Lane::Calls, true), narrow);
        call(&mut pace, Lane::Calls, Condition::Ill, now);
        assert!(pace.goes_behind(Lane::Calls, true), "Pike is in trouble");
    }
}

/// Those that were left in the middle of their course get the larger share until a round meets none of them.
#[test]
fn whether_such_wait_that_have_begun_is_known_from_what_rounds_claim() {
    let start = Instant::now();
    let mut pace = Pace::new(settings());
    assert!(pace.further_wait(), "somebody before us may have left some");
    pace.claimed_calls(ENOUGH - 1, false, false, start);
    assert!(pace.further_wait(), "too few to tell");
    pace.claimed_calls(ENOUGH, false, false, start);
    assert!(!pace.further_wait());
    pace.leave(Lane::Calls, false, start);
    assert!(!pace.further_wait(), "one that has not begun");
    pace.leave(Lane::Calls, true, start);
    pace.claimed_calls(ENOUGH, false, true, start + ms(500));
    assert!(pace.further_wait(), "the round may not have seen it");
    pace.claimed_calls(1, false, true, start + UNSEEN);
    assert!(!pace.further_wait(), "all were taken");
    pace.further_left(start + ms(5_000));
    pace.claimed_calls(ENOUGH, false, true, start + ms(4_000));
    assert!(pace.further_wait(), "nobody can have claimed it yet");
    let later = start + ms(5_000) + UNSEEN;
    pace.claimed_calls(ENOUGH, true, false, later);
    assert!(pace.further_wait(), "there may be more");
    pace.claimed_calls(ENOUGH, false, false, later);
    assert!(!pace.further_wait());
    call(&mut pace, Lane::Calls, Condition::Ill, later);
    assert!(pace.further_wait(), "they all wait there while Pike is in trouble");
}

/// What is being written while a round looks is not overtaken while order matters most.
#[test]
fn a_narrow_lane_waits_for_what_a_round_could_not_see() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    call(&mut pace, Lane::Calls, Condition::AsksToWait(ms(10)), now);
    pace.leave(Lane::Calls, false, now);
    pace.looked(Lane::Calls, true, now + ms(5));
    assert!(pace.has_waiting(Lane::Calls));
    pace.looked(Lane::Calls, true, now + ms(1000));
    assert!(!pace.has_waiting(Lane::Calls));
}

/// What waits in the process waits for calls that end, never against a rate or a Pike in trouble.
#[test]
fn only_the_number_of_calls_is_waited_for_in_the_process() {
    let now = Instant::now();
    let mut pace = Pace::new(settings());
    for _ in 0..8 {
        assert!(pace.has_room(Lane::Calls, false, now));
        pace.take(Lane::Calls, now);
    }
    assert!(!pace.has_room(Lane::Calls, false, now), "eight are under way");
    assert!(pace.queue(Lane::Calls, 1, now) && !pace.queue(Lane::Calls, 1, now), "one waits");
    assert!(pace.queue(Lane::Reads, 1, now), "reads wait apart");
    pace.give_up_queue(Lane::Calls);
    assert!(pace.queue(Lane::Calls, 1, now));

    let mut rated = Pace::new(PaceSettings { calls_per_second: 5, ..settings() });
    assert!(rated.has_room(Lane::Calls, false, now) && !rated.queue(Lane::Calls, 100, now));
    assert!(!broken(now).queue(Lane::Calls, 100, now));
    let mut asked = Pace::new(settings());
    call(&mut asked, Lane::Calls, Condition::AsksToWait(ms(10)), now);
    assert!(!asked.queue(Lane::Calls, 100, now));
    assert!(!asked.queue(Lane::Calls, 100, now + ms(20)), "one call at a time first");
}

#[test]
fn who_waited_begins_unless_the_calls_were_slowed_down() {
    let now = Instant::now();
    let waiting = || {
        let mut pace = Pace::new(settings());
        let began = pace.take(Lane::Calls, now);
        assert!(pace.queue(Lane::Calls, 1, now));
        (pace, began)
    };
    for (condition, may) in [
        (Condition::Well, true),
        (Condition::NotTried, true),
        (Condition::Busy(ms(10)), false),
        (Condition::AsksToWait(ms(10)), false),
    ] {
        let (mut pace, began) = waiting();
        pace.ended(Lane::Calls, condition, began, now);
        assert_eq!(pace.leave_queue(Lane::Calls, now).is_some(), may, "{condition:?}");
        assert_eq!(pace.calls.under_way, usize::from(may), "{condition:?}");
        pace.ended(Lane::Calls, Condition::Well, now, now + ms(20));
        assert!(pace.calls.queued == 0, "{condition:?}");
    }
    let (mut pace, began) = waiting();
    for _ in 0..7 {
        pace.take(Lane::Calls, now);
    }
    pace.ended(Lane::Calls, Condition::Ill, began, now);
    assert_eq!(pace.leave_queue(Lane::Calls, now), None, "half as many at a time, and these are there");
}

/// Their turns were apart, and then one look held all of them up.
#[test]
fn what_was_held_up_together_does_not_begin_together() {
    let start = Instant::now();
    let mut pace = Pace::new(PaceSettings { calls_per_second: 10, ..settings() });
    let began: Vec<_> = (0..4).map(|_| pace.begin(Lane::Calls, start)).collect();
    assert_eq!(began, [Some(start), Some(start + ms(100)), Some(start + ms(200)), None], "not too far ahead");
    assert_eq!(pace.begin(Lane::Calls, start + ms(900)), Some(start + ms(900)));
    let mut free = Pace::new(settings());
    assert_eq!([free.begin(Lane::Calls, start), free.begin(Lane::Calls, start)], [Some(start); 2]);
}

/// A place was reserved for it, and then there was nothing to call.
#[test]
fn a_turn_that_is_not_used_is_free_again() {
    let start = Instant::now();
    let mut pace = Pace::new(PaceSettings { calls_per_second: 10, ..settings() });
    let taken: Vec<_> = (0..3).map(|_| pace.take(Lane::Calls, start)).collect();
    assert_eq!(taken, [start, start + ms(100), start + ms(200)]);
    assert_eq!(pace.grant(start).calls, 0);
    for at in taken {
        pace.ended(Lane::Calls, Condition::NotTried, at, start);
    }
    assert_eq!(pace.grant(start).calls, 3);
    assert_eq!(pace.take(Lane::Calls, start), start);
    // One between others: two have the same turn, and yet do not begin together.
    let [second, third] = [(); 2].map(|()| pace.take(Lane::Calls, start));
    pace.ended(Lane::Calls, Condition::NotTried, second, start);
    assert_eq!(pace.take(Lane::Calls, start), third);
    let began = [(); 3].map(|()| pace.begin(Lane::Calls, start));
    assert_eq!(began, [Some(start), Some(start + ms(100)), Some(start + ms(200))]);
}
