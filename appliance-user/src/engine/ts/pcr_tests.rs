//! Tests of the PCR checks against hand-made sequences.

use proptest::prelude::*;

use super::*;
use crate::policy::rule::Tr101290Thresholds;

fn limits() -> Limits {
    Limits::from(&Tr101290Thresholds::default())
}

fn reference(pcr_ms: u64, arrival_ms: u64) -> Reference {
    Reference {
        value: pcr_ms * 27_000 % MODULUS,
        at: Timestamp::from_nanos(arrival_ms * 1_000_000),
        place: 0,
    }
}

/// Takes PCRs of (value, arrival) in milliseconds; what they violate in all: 2.3.a and 2.3.b.
fn live(pcrs: impl IntoIterator<Item = (u64, u64)>) -> (u32, u32) {
    let mut pcr = Pcr::new(false);
    pcrs.into_iter().fold((0, 0), |(repetition, jumps), (value, arrival)| {
        let found = pcr.take(reference(value, arrival), &limits());
        (repetition + found.repetition, jumps + u32::from(found.jump))
    })
}

#[test]
fn steady_pcrs_violate_nothing_not_even_over_the_wrap() {
    assert_eq!(live((0..100).map(|n| (n * 40, n * 40))), (0, 0));
    let start = MODULUS / 27_000 - 500;
    assert_eq!(live((0..100).map(|n| (start + n * 40, n * 40))), (0, 0));
}

#[test]
fn a_gap_violates_repetition_for_each_interval_and_the_jump_once() {
    assert_eq!(live([(0, 0), (40, 40), (140, 140)]), (0, 0), "at the limit");
    assert_eq!(live([(0, 0), (40, 40), (240, 240)]), (1, 1));
    assert_eq!(live([(0, 0), (40, 40), (290, 290)]), (2, 1));
}

#[test]
fn a_jump_in_either_direction_is_no_gap() {
    assert_eq!(live([(0, 0), (40, 40), (1_080, 80), (1_120, 120)]), (0, 1));
    assert_eq!(live([(5_000, 0), (5_040, 40), (4_000, 80), (4_040, 120)]), (0, 1));
    assert_eq!(live([(0, 0), (40, 40), (50_000_080, 80)]), (0, 1));
}

#[test]
fn a_packet_sent_again_is_late_and_no_repetition_error() {
    assert_eq!(live([(0, 0), (40, 40), (80, 280), (120, 120), (160, 160)]), (0, 0));
}

#[test]
fn an_announced_discontinuity_excuses_the_next_pcr_only() {
    let mut pcr = Pcr::new(false);
    pcr.take(reference(0, 0), &limits());
    pcr.announce();
    assert_eq!(pcr.take(reference(70_000, 40), &limits()), Violations::default());
    assert!(pcr.take(reference(0, 80), &limits()).jump);
    assert_eq!(pcr.figures.discontinuities, 2);
}

#[test]
fn over_missing_packets_only_what_time_does_not_explain_is_a_jump() {
    for (value, arrival, jump) in [
        (540, 540, false),
        (540, 460, false),
        (540, 100, true),
        (5_000, 540, true),
    ] {
        let mut pcr = Pcr::new(false);
        pcr.take(reference(0, 0), &limits());
        pcr.missing();
        assert_eq!(
            pcr.take(reference(value, arrival), &limits()).jump,
            jump,
            "{value} {arrival}"
        );
    }
}

#[test]
fn what_went_by_unseen_is_neither_gap_nor_jump() {
    let mut pcr = Pcr::new(false);
    pcr.take(reference(0, 0), &limits());
    pcr.missing();
    pcr.forget();
    assert_eq!(pcr.take(reference(90_000, 5_010), &limits()), Violations::default());
    assert_eq!(pcr.figures.intervals, 0);
}

#[test]
fn pcrs_that_stay_away_are_told_while_they_do() {
    let mut pcr = Pcr::new(false);
    pcr.take(reference(0, 0), &limits());
    let told: u32 = (0..3_000)
        .map(|ms| pcr.overdue(Timestamp::from_nanos(ms * 1_000_000), &limits()))
        .sum();
    assert_eq!(told, 29);
    assert_eq!(
        pcr.take(reference(3_000, 3_000), &limits()).repetition,
        0,
        "told already"
    );
}

#[test]
fn jitter_is_how_far_arrival_strays_and_free_of_drift() {
    // The sender's clock is fast by 100 ppm, the path adds nothing.
    let mut pcr = Pcr::new(false);
    for n in 0..10_000u64 {
        let reference = Reference {
            value: n * 40 * 27_000 * 10_001 / 10_000 % MODULUS,
            at: Timestamp::from_nanos(n * 40_000_000),
            place: 0,
        };
        pcr.take(reference, &limits());
    }
    assert!(pcr.figures.worst <= 4_100, "{:?}", pcr.figures);
    // Every second packet comes 2 ms late.
    let mut pcr = Pcr::new(false);
    for n in 0..1_000 {
        pcr.take(reference(n * 40, n * 40 + n % 2 * 2), &limits());
    }
    assert_eq!(pcr.figures.worst, 2_000_000);
    assert!(
        (1_900_000..=2_000_000).contains(&pcr.figures.jitter),
        "{:?}",
        pcr.figures
    );
    assert_eq!(
        (pcr.figures.longest, pcr.figures.sum / pcr.figures.intervals),
        (40_000_000, 40_000_000)
    );
}

/// A PCR every 100 packets of 10 800 periods each (400 us); `error` in periods. What fails, and how many were checked.
fn in_file(count: u64, error: impl Fn(u64) -> i64, packets: impl Fn(u64) -> u64) -> (u32, u64) {
    let mut pcr = Pcr::new(true);
    let (mut found, mut place) = (0, 0);
    for n in 0..count {
        let value = (27_000_000 + n * 1_080_000).saturating_add_signed(error(n));
        let reference = Reference {
            value,
            at: Timestamp::from_nanos(nanos(value)),
            place,
        };
        found += u32::from(pcr.take(reference, &limits()).inaccurate);
        place += packets(n);
    }
    (found, pcr.accuracy.map_or(0, |accuracy| accuracy.checked))
}

#[test]
fn one_wrong_pcr_of_a_constant_multiplex_counts_once() {
    assert_eq!(in_file(200, |_| 0, |_| 100).0, 0);
    // 500 ns are 13.5 periods.
    assert_eq!(in_file(200, |n| if n == 100 { 13 } else { 0 }, |_| 100).0, 0);
    for error in [14, -14, 1_000, -20_000] {
        assert_eq!(
            in_file(200, |n| if n == 100 { error } else { 0 }, |_| 100).0,
            1,
            "{error}"
        );
    }
    assert_eq!(
        in_file(200, |n| if n % 10 == 0 && n > 40 { 100 } else { 0 }, |_| 100).0,
        15
    );
}

#[test]
fn a_shift_of_all_pcrs_is_told_at_its_beginning_and_not_for_ever() {
    let (found, checked) = in_file(400, |n| if n >= 200 { 5_000 } else { 0 }, |_| 100);
    assert!((1..=2).contains(&found), "{found} of {checked}");
}

#[test]
fn a_multiplex_of_variable_rate_is_not_measured() {
    assert_eq!(in_file(400, |_| 0, |n| 20 + n * 7919 % 200), (0, 0));
}

proptest! {
    #[test]
    fn arbitrary_pcrs_are_harmless(
        pcrs in prop::collection::vec((0..MODULUS, any::<u64>(), any::<u64>(), any::<[bool; 2]>()), 0..60),
        in_file in any::<bool>(),
    ) {
        let mut pcr = Pcr::new(in_file);
        for (value, at, place, [announced, missing]) in pcrs {
            if announced { pcr.announce() }
            if missing { pcr.missing() }
            let at = Timestamp::from_nanos(at);
            let found = pcr.take(Reference { value, at, place }, &limits());
            prop_assert!(!(found.jump && announced));
            pcr.overdue(at, &limits());
        }
    }

    #[test]
    fn a_step_is_undone_by_its_reverse(from in 0..MODULUS, to in 0..MODULUS) {
        prop_assert!((step(from, to) + step(to, from)).abs() <= 1 || step(from, to) == step(to, from));
    }
}
