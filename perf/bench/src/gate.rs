//! The targets: what has to be reached, each with what it was measured by.

use serde::Serialize;

use crate::report::{Report, Status};
use crate::scenario::{BASE, PAIRS};

/// Most that the 99th percentile at half load may be of the bare forward's.
const MOST_P99_RATIO: f64 = 1.5;
/// Most that the 99.9th percentile at 80 % may be, in microseconds.
const MOST_P999_US: f64 = 1000.0;
/// The latency budget that is never exceeded at half load, in microseconds.
const BUDGET_US: f64 = 5000.0;
/// Most that a packet of the flood may cost, as a multiple of dropping it at once.
const MOST_FLOOD_RATIO: f64 = 1.3;
/// Up to how many prefixes that holds.
const MOST_FLOOD_PREFIXES: u32 = 100;
/// The scenario whose latency and loss are judged.
pub const JUDGED: &str = "inspect-50";

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What is wanted.
    pub target: String,
    /// What was measured; absent if it was not.
    pub measured: Option<f64>,
    /// Whether it is met. A target that was not measured is not.
    pub met: bool,
}

impl Verdict {
    fn new(target: impl Into<String>, measured: Option<f64>, meets: impl Fn(f64) -> bool) -> Verdict {
        Verdict {
            target: target.into(),
            measured,
            met: measured.is_some_and(meets),
        }
    }
}

/// Whether a pair's ratio flat out is judged beside the one without loss; why not every one's is, see the crate.
pub(crate) fn judges_flat_out(name: &str) -> bool {
    name == JUDGED
}

/// Every target against a run. Latencies are judged without the machine's stalls, which the probe has to have seen.
pub fn judge(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (name, least) in PAIRS {
        let pair = report.pairs.iter().find(|pair| pair.name == *name && pair.base == BASE);
        if judges_flat_out(name) {
            verdicts.push(Verdict::new(
                format!("{name} forwards at {least:.2} or more of {BASE} flat out"),
                pair.map(|pair| pair.ratio),
                |ratio| ratio >= *least,
            ));
        }
        verdicts.push(Verdict::new(
            format!("{name} forwards without loss at {least:.2} or more of {BASE}"),
            pair.and_then(|pair| pair.loss_free_ratio),
            |ratio| ratio >= *least,
        ));
    }
    let pair = report.pairs.iter().find(|pair| pair.name == JUDGED);
    verdicts.push(Verdict::new(
        format!("{JUDGED}'s p99 at half load is at most {MOST_P99_RATIO} times {BASE}'s"),
        pair.and_then(|pair| pair.p99_ratio),
        |ratio| ratio <= MOST_P99_RATIO,
    ));
    let at = |load: f64| report.scenario(JUDGED)?.at_load(load);
    verdicts.push(Verdict::new(
        format!("{JUDGED}'s p99.9 at 80 % load is under 1 ms in the median repeat, stalls excluded"),
        at(0.8).and_then(|latency| latency.median).map(|trips| trips.p999_us),
        |us| us < MOST_P999_US,
    ));
    // Never is never: no median of repeats.
    verdicts.push(Verdict::new(
        format!("{JUDGED} never exceeds 5 ms at half load, stalls excluded"),
        at(0.5).and_then(|latency| latency.stall_free).map(|trips| trips.max_us),
        |us| us <= BUDGET_US,
    ));
    let sustained = report.sustained.as_ref();
    verdicts.push(Verdict::new(
        sustained.map_or_else(
            || format!("{JUDGED} loses no packet at 95 % of its loss-free maximum"),
            |sustained| {
                format!(
                    "{JUDGED} loses no packet at {:.0} % of its {} maximum in any of {} runs of {:.0} s",
                    sustained.load * 100.0,
                    sustained.of,
                    sustained.rounds.len(),
                    sustained.seconds
                )
            },
        ),
        sustained.map(|sustained| sustained.lost as f64),
        |lost| lost == 0.0,
    ));
    let flood = report.flood.as_ref();
    verdicts.push(Verdict::new(
        "the flood costs the listed streams no packet at half load",
        flood
            .filter(|flood| flood.listed_sent > 0)
            .map(|flood| flood.listed_lost as f64),
        |lost| lost == 0.0,
    ));
    let costs = flood.into_iter().flat_map(|flood| &flood.costs);
    let dearest = costs
        .filter(|cost| cost.prefixes <= MOST_FLOOD_PREFIXES)
        .map(|cost| cost.ratio);
    verdicts.push(Verdict::new(
        format!(
            "a flood packet costs at most {MOST_FLOOD_RATIO} times xdp-drop's, up to {MOST_FLOOD_PREFIXES} prefixes"
        ),
        dearest.fold(None, |most: Option<f64>, ratio| {
            Some(most.map_or(ratio, |most| most.max(ratio)))
        }),
        |ratio| ratio <= MOST_FLOOD_RATIO,
    ));
    verdicts
}

/// Why the gate does not let a run pass; empty if it does. A noisy run never passes: it proves nothing either way.
pub fn objections(report: &Report) -> Vec<String> {
    let mut objections = Vec::new();
    if report.noisy {
        objections.push(format!("too noisy to judge: {}", report.why.join("; ")));
    }
    for scenario in report
        .scenarios
        .iter()
        .filter(|scenario| scenario.status == Status::Failed)
    {
        objections.push(format!("{} failed: {}", scenario.name, scenario.reasons.join("; ")));
    }
    if let Some(sustained) = report
        .sustained
        .as_ref()
        .filter(|sustained| !sustained.reasons.is_empty())
    {
        objections.push(format!("the run at 95 % failed: {}", sustained.reasons.join("; ")));
    }
    for verdict in report.gate.iter().filter(|verdict| !verdict.met) {
        objections.push(match verdict.measured {
            Some(measured) => format!("missed: {} (measured {measured:.3})", verdict.target),
            None => format!("not measured: {}", verdict.target),
        });
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{percentiles, report};

    fn judged(change: impl Fn(&mut Report)) -> Report {
        let mut report = report();
        change(&mut report);
        report.gate = judge(&report);
        report
    }

    #[test]
    fn a_run_that_reaches_everything_passes() {
        let report = judged(|_| {});
        assert_eq!(objections(&report), Vec::<String>::new());
        assert_eq!(report.gate.len(), 9);
    }

    #[test]
    fn each_target_can_be_missed() {
        let changes: [fn(&mut Report); 9] = [
            |report| report.pairs[0].ratio = 0.899,
            |report| report.pairs[0].loss_free_ratio = Some(0.899),
            |report| report.pairs[1].loss_free_ratio = Some(0.79),
            |report| report.pairs[0].p99_ratio = Some(1.51),
            |report| report.scenarios[2].latency[2].median = Some(percentiles(101.0)),
            |report| report.scenarios[2].latency[1].stall_free = Some(percentiles(101.0)),
            |report| report.sustained.as_mut().unwrap().lost = 1,
            |report| report.flood.as_mut().unwrap().listed_lost = 1,
            |report| report.flood.as_mut().unwrap().costs[0].ratio = 1.31,
        ];
        for (number, change) in changes.iter().enumerate() {
            let report = judged(change);
            let missed: Vec<usize> = (0..9).filter(|index| !report.gate[*index].met).collect();
            assert_eq!(missed, [number], "{:?}", report.gate);
            assert_eq!(objections(&report).len(), 1);
        }
    }

    #[test]
    fn streams_with_a_gap_at_every_packet_are_not_judged() {
        let report = judged(|report| report.pairs[1].ratio = 0.4);
        assert_eq!(objections(&report), Vec::<String>::new());
        let unmeasured = judged(|report| report.pairs[1].loss_free_ratio = None);
        assert_eq!(objections(&unmeasured).len(), 1);
    }

    #[test]
    fn what_was_not_measured_or_only_in_noise_does_not_pass() {
        let report = judged(|report| report.sustained = None);
        assert!(
            objections(&report)[0].starts_with("not measured"),
            "{:?}",
            objections(&report)
        );
        let unprobed = judged(|report| report.scenarios[2].latency[2].median = None);
        assert_eq!(objections(&unprobed).len(), 1);
        let noisy = judged(|report| {
            report.noisy = true;
            report.why = vec!["steal".to_owned()];
        });
        assert_eq!(objections(&noisy), ["too noisy to judge: steal"]);
        let failed = judged(|report| report.scenarios[0].status = Status::Failed);
        assert_eq!(objections(&failed).len(), 1);
    }
}
