//! `tr101290` of `[rule.ts]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{WINDOW, read_action, read_count, read_window};
use crate::policy::diagnostic::{Collector, Problem};
use crate::policy::fields::Fields;
use crate::policy::rule::{Tr101290Limit, Tr101290Thresholds};
use crate::policy::{schema, value};

/// What a threshold may be.
const THRESHOLD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// What the accuracy of PCRs may be asked to be. The lower end is above one tick of their 27 MHz clock, which is what they
/// can say.
const ACCURACY: RangeInclusive<Duration> = Duration::from_nanos(40)..=Duration::from_millis(100);

/// One threshold of the format.
struct Threshold {
    key: &'static str,
    /// The priority of TR 101 290 that its check belongs to.
    priority: u8,
    /// Whether it bounds a time from below, so that a smaller one is looser.
    least: bool,
    place: fn(&mut Tr101290Thresholds) -> &mut Duration,
}

const fn most(key: &'static str, priority: u8, place: fn(&mut Tr101290Thresholds) -> &mut Duration) -> Threshold {
    Threshold {
        key,
        priority,
        least: false,
        place,
    }
}

const THRESHOLDS: [Threshold; 13] = [
    most("pat", 1, |t| &mut t.pat),
    most("pmt", 1, |t| &mut t.pmt),
    most("pid", 1, |t| &mut t.pid),
    most("pcr_repetition", 2, |t| &mut t.pcr_repetition),
    most("pcr_discontinuity", 2, |t| &mut t.pcr_discontinuity),
    most("pcr_accuracy", 2, |t| &mut t.pcr_accuracy),
    most("pts", 2, |t| &mut t.pts),
    most("nit", 3, |t| &mut t.nit),
    most("sdt", 3, |t| &mut t.sdt),
    most("eit", 3, |t| &mut t.eit),
    most("tdt", 3, |t| &mut t.tdt),
    Threshold {
        key: "section_gap",
        priority: 3,
        least: true,
        place: |t| &mut t.section_gap,
    },
    most("unreferenced_pid", 3, |t| &mut t.unreferenced_pid),
];

pub(super) fn read(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Tr101290Limit {
    let defaults = Tr101290Limit::default();
    let Some(limit) = ts.table("tr101290", &schema::TR101290, out) else {
        return defaults;
    };
    let priority = limit
        .value("priority", out, |v| value::integer(v, 0..=3))
        .unwrap_or(defaults.priority);
    let (on_exceed, hold) = read_action(&limit, out);
    Tr101290Limit {
        priority,
        max_violations: read_count(&limit, "max_violations", defaults.max_violations, out),
        window: read_window(&limit, &WINDOW, defaults.window, out),
        on_exceed,
        hold,
        thresholds: read_thresholds(&limit, priority, out),
    }
}

fn read_thresholds(limit: &Fields<'_, '_>, counted: u8, out: &mut Collector<'_>) -> Tr101290Thresholds {
    let mut read = Tr101290Thresholds::default();
    let Some(section) = limit.table("thresholds", &schema::THRESHOLDS, out) else {
        return read;
    };
    for threshold in &THRESHOLDS {
        let key = threshold.key;
        let length = section.value(key, out, |v| match key {
            "pcr_accuracy" => value::fine_duration(v, &ACCURACY),
            _ => value::duration(v, &THRESHOLD),
        });
        let Some(length) = length else { continue };
        let place = (threshold.place)(&mut read);
        let standard = std::mem::replace(place, length);
        let looser = if threshold.least {
            length < standard
        } else {
            length > standard
        };
        let span = section.value_span(key);
        if looser {
            let message = format!("{key} is looser than the {} of TR 101 290", value::spelled(standard));
            let remedy = "other monitors will report what this one lets pass";
            out.warning(&span, Problem::new(message, remedy));
        }
        if threshold.priority > counted {
            let message = format!(
                "{key} is of priority {}, which this limit with its priority = {counted} does not count",
                threshold.priority
            );
            let remedy = format!("write priority = {}, if it is to count", threshold.priority);
            out.warning(&span, Problem::new(message, remedy));
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_threshold_of_its_own() {
        let keys: Vec<_> = THRESHOLDS.iter().map(|threshold| threshold.key).collect();
        assert_eq!(keys, schema::THRESHOLDS.keys);
        let mut all = Tr101290Thresholds::default();
        for (threshold, seconds) in THRESHOLDS.iter().zip(100..) {
            *(threshold.place)(&mut all) = Duration::from_secs(seconds);
        }
        let distinct: std::collections::BTreeSet<_> = THRESHOLDS
            .iter()
            .map(|threshold| *(threshold.place)(&mut all))
            .collect();
        assert_eq!(distinct.len(), THRESHOLDS.len());
    }
}
