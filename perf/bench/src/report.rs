//! What a run found, in the shape of `latest.json`. Keys may be added, never renamed; what is not known is `null`.

use serde::Serialize;

use crate::gate::Verdict;
use crate::latency::{Percentiles, RoundTrips};
use crate::machine::Machine;
use crate::statistics::median;

/// The version of the report's shape.
pub const SCHEMA: u32 = 1;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where and when.
    pub machine: Machine,
    /// Whether windows were short and repeats few.
    pub quick: bool,
    /// What was left out or cut, for people.
    pub cut: Vec<String>,
    /// Seconds that the run took.
    pub seconds: f64,
    /// How packets were made.
    pub generator: &'static str,
    /// Where they were collected: by the core that sent them back, or in a thread of its own.
    pub collector: &'static str,
    /// Whether the stall probe ran.
    pub probe: bool,
    /// Whether anything disturbed the run so much that its figures are not to be trusted.
    pub noisy: bool,
    /// What disturbed it.
    pub why: Vec<String>,
    /// The scenarios.
    pub scenarios: Vec<ScenarioReport>,
    /// What is compared back to back.
    pub pairs: Vec<PairReport>,
    /// The run of half a minute just below the maximum.
    pub sustained: Option<SustainedReport>,
    /// The flood.
    pub flood: Option<FloodReport>,
    /// The targets, and whether they are met.
    pub gate: Vec<Verdict>,
}

/// How a scenario's measurement ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Measured, and every check held.
    #[default]
    Ok,
    /// A check did not hold; the figures are given but prove nothing.
    Failed,
    /// This machine lacks something it needs.
    Skipped,
}

/// One scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// Million packets a second that came back flat out, the median of the repeats; for `xdp-drop` those that arrived.
    pub mpps: Option<f64>,
    /// The same in gigabits a second of Ethernet frames, without preamble, checksum and gap.
    pub gbps: Option<f64>,
    /// The largest share of packets lost at 10 %, 50 % and 80 % of its own maximum; for `xdp-drop` and where nothing else was
    /// measured that of the flat-out runs.
    pub loss: Option<f64>,
    /// Round trip at half of its own maximum, microseconds, all of them: median.
    pub p50_us: Option<f64>,
    /// 90th percentile.
    pub p90_us: Option<f64>,
    /// 99th percentile.
    pub p99_us: Option<f64>,
    /// 99.9th percentile.
    pub p999_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
    /// Nanoseconds of processor time for each packet flat out: of the process where there is one, else of the core that the
    /// kernel's work was done on, which includes making the packet.
    pub cpu_ns_per_packet: Option<f64>,
    /// The process' peak resident memory in MiB, buffers shared with the kernel included.
    pub rss_mib: Option<f64>,
    /// Relative interquartile range of the repeats of `mpps`.
    pub spread: Option<f64>,

    /// How it ended.
    pub status: Status,
    /// Why it failed or was skipped.
    pub reasons: Vec<String>,
    /// What it is.
    pub what: &'static str,
    /// Streams sent.
    pub streams: u32,
    /// Every repeat's million packets a second, in the order of measuring.
    pub rounds: Vec<f64>,
    /// The highest rate, in million packets a second, at which a search lost nothing.
    pub loss_free_mpps: Option<f64>,
    /// What each search found, of which `loss_free_mpps` is the median.
    pub loss_free_rounds: Vec<f64>,
    /// The maximum of which loads in per cent are shares, but for the long runs: the smaller of `mpps` and `loss_free_mpps`,
    /// of which the second is not always searched.
    pub own_maximum_mpps: Option<f64>,
    /// Packets lost while streams began, at half of a wanted rate, in all runs at a set rate together. They are in no other count.
    pub start_lost: u64,
    /// Share of the packets sent flat out that did not come back.
    pub flat_out_loss: Option<f64>,
    /// Nanoseconds that the generator's core was busy for each packet flat out.
    pub generator_core_ns_per_packet: Option<f64>,
    /// Nanoseconds that the appliance's core was busy for each packet flat out.
    pub appliance_core_ns_per_packet: Option<f64>,
    /// `rss_mib` without the packet buffers.
    pub rss_without_buffers_mib: Option<f64>,
    /// Round trips at 10 %, 50 % and 80 % of its own maximum.
    pub latency: Vec<LatencyReport>,
    /// Whether its figures are not to be trusted.
    pub noisy: bool,
    /// Why; and what else was lost or disturbed.
    pub why: Vec<String>,
}

/// Round trips at one load.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyReport {
    /// Share of [`ScenarioReport::own_maximum_mpps`].
    pub load: f64,
    /// Million packets a second that were wanted.
    pub wanted_mpps: f64,
    /// Million packets a second that were really sent, the median of the repeats.
    pub offered_mpps: f64,
    /// Packets sent at that load.
    pub sent: u64,
    /// Packets of them that did not come back.
    pub lost: u64,
    /// Packets lost before, while streams began.
    pub start_lost: u64,
    /// Share of the packets due that the generator left out, for it was held up.
    pub left_out: f64,
    /// Packets that the lab's link refused on either way: as far as `lost` goes, they are not the appliance's fault.
    pub link_lost: u64,
    /// All round trips.
    pub raw: Option<Percentiles>,
    /// Those outside of stalls and their backlogs.
    pub stall_free: Option<Percentiles>,
    /// Percentiles of each repeat by themselves, outside of stalls, and of those the median; the longest is the longest of
    /// all. What is judged, where nothing is to be "never".
    pub median: Option<Percentiles>,
    /// The repeats.
    pub rounds: Vec<LatencyRound>,
    /// Times that a core was taken away for more than 200 us.
    pub stalls: usize,
    /// Their total length in milliseconds.
    pub stalled_ms: f64,
    /// Share of the time left out of the stall-free figures.
    pub excluded: f64,
    /// Share of round trips, and the microseconds within which they lay.
    pub curve: Vec<(f64, f64)>,
}

/// One repeat at a load.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRound {
    /// Million packets a second that were really sent.
    pub offered_mpps: f64,
    /// Packets sent at that load.
    pub sent: u64,
    /// Packets of them that did not come back.
    pub lost: u64,
    /// Packets lost before, while streams began.
    pub start_lost: u64,
    /// Share of the packets due that the generator left out.
    pub left_out: f64,
    /// All round trips.
    pub raw: Option<Percentiles>,
    /// Those outside of stalls and their backlogs.
    pub stall_free: Option<Percentiles>,
}

impl LatencyReport {
    /// A report of repeats at a load, pooled and by themselves.
    pub fn new(load: f64, wanted_pps: f64, trips: &RoundTrips, rounds: Vec<LatencyRound>) -> LatencyReport {
        let of = |take: fn(&LatencyRound) -> f64| median(&rounds.iter().map(take).collect::<Vec<_>>()).unwrap_or(0.0);
        let stall_free: Vec<Percentiles> = rounds.iter().filter_map(|round| round.stall_free).collect();
        LatencyReport {
            load,
            wanted_mpps: wanted_pps / 1e6,
            offered_mpps: of(|round| round.offered_mpps),
            sent: rounds.iter().map(|round| round.sent).sum(),
            lost: rounds.iter().map(|round| round.lost).sum(),
            start_lost: rounds.iter().map(|round| round.start_lost).sum(),
            left_out: of(|round| round.left_out),
            link_lost: 0,
            raw: trips.raw(),
            stall_free: trips.stall_free(),
            median: Percentiles::median(&stall_free),
            rounds,
            stalls: trips.stalls,
            stalled_ms: trips.stalled.as_secs_f64() * 1000.0,
            excluded: if trips.slices == 0 {
                0.0
            } else {
                trips.excluded as f64 / trips.slices as f64
            },
            curve: trips.curve(),
        }
    }

    /// The figures to show: of the repeats without stalls where that is known.
    pub fn best(&self) -> Option<Percentiles> {
        self.median.or(self.raw)
    }
}

/// Two scenarios measured back to back.
#[derive(Clone, Debug, Serialize)]
pub struct PairReport {
    /// What is compared.
    pub name: String,
    /// With what.
    pub base: String,
    /// The median of the pairs' ratios of packets a second.
    pub ratio: f64,
    /// Each pair's ratio.
    pub ratios: Vec<f64>,
    /// Relative interquartile range of the ratios.
    pub spread: Option<f64>,
    /// The median ratio of the highest rates without loss, of searches that went side by side.
    pub loss_free_ratio: Option<f64>,
    /// Each pair of searches' ratio.
    pub loss_free_ratios: Vec<f64>,
    /// Relative interquartile range of them.
    pub loss_free_spread: Option<f64>,
    /// What each pair of searches found, in million packets a second: this scenario's and the base's.
    pub loss_free_mpps: Vec<(f64, f64)>,
    /// The median of the pairs' ratios of the 99th percentile, at half of the smaller of the two maxima.
    pub p99_ratio: Option<f64>,
    /// Relative interquartile range of these ratios.
    pub p99_spread: Option<f64>,
    /// Each of these pairs.
    pub p99_rounds: Vec<P99Pair>,
}

/// The 99th percentiles of two scenarios, one right after the other, at the same rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct P99Pair {
    /// Million packets a second that were wanted of both.
    pub mpps: f64,
    /// This scenario's, microseconds.
    pub own_us: f64,
    /// The base's.
    pub base_us: f64,
    /// The first divided by the second.
    pub ratio: f64,
    /// Whether the machine's stalls are left out, of both or of neither.
    pub stall_free: bool,
    /// Share of the packets due that the generator left out, here.
    pub own_left_out: f64,
    /// The same at the base.
    pub base_left_out: f64,
}

/// Long runs just below the maximum: what is lost in the worst of them, else the medians, and each run by itself.
#[derive(Clone, Debug, Serialize)]
pub struct SustainedReport {
    /// What ran.
    pub scenario: String,
    /// Share of that maximum.
    pub load: f64,
    /// Which maximum: `loss-free`, the median of its searches, or `flat-out` where these found nothing.
    pub of: &'static str,
    /// Million packets a second that were wanted.
    pub wanted_mpps: f64,
    /// Million packets a second that were really sent.
    pub offered_mpps: f64,
    /// For how long each.
    pub seconds: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that did not come back in the worst run: what is to happen never is no matter of medians.
    pub lost: u64,
    /// Packets lost before, while streams began, in all runs together.
    pub start_lost: u64,
    /// Share of the packets due that the generator left out.
    pub left_out: f64,
    /// Packets that the lab's link refused on either way.
    pub link_lost: u64,
    /// Packets that came back altered, twice or out of order, in all runs together.
    pub spoiled: u64,
    /// Times that a core was taken away meanwhile, in all runs together.
    pub stalls: usize,
    /// The longest of them all in milliseconds.
    pub longest_stall_ms: f64,
    /// The runs.
    pub rounds: Vec<SustainedRound>,
    /// What did not hold in any of them.
    pub reasons: Vec<String>,
}

/// One run just below the maximum.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SustainedRound {
    /// Million packets a second that were really sent.
    pub offered_mpps: f64,
    /// For how long.
    pub seconds: f64,
    /// Packets sent at that load.
    pub sent: u64,
    /// Packets of them that did not come back.
    pub lost: u64,
    /// Packets lost before, while streams began.
    pub start_lost: u64,
    /// Share of the packets due that the generator left out.
    pub left_out: f64,
    /// Packets that the lab's link refused on either way.
    pub link_lost: u64,
    /// Packets that came back altered, twice or out of order.
    pub spoiled: u64,
    /// Times that a core was taken away meanwhile.
    pub stalls: usize,
    /// The longest of them in milliseconds.
    pub longest_stall_ms: f64,
}

impl SustainedReport {
    /// Runs of a scenario at a share of a maximum as one report; `None` of no run.
    pub fn new(
        scenario: &str,
        load: f64,
        of_maximum: &'static str,
        wanted_pps: f64,
        rounds: Vec<SustainedRound>,
        reasons: Vec<String>,
    ) -> Option<SustainedReport> {
        let of = |take: fn(&SustainedRound) -> f64| median(&rounds.iter().map(take).collect::<Vec<_>>());
        // Of an even number of runs the upper: half a packet is a packet.
        let count = |take: fn(&SustainedRound) -> f64| of(take).map(|count| count.ceil() as u64);
        Some(SustainedReport {
            scenario: scenario.to_owned(),
            load,
            of: of_maximum,
            wanted_mpps: wanted_pps / 1e6,
            offered_mpps: of(|round| round.offered_mpps)?,
            seconds: of(|round| round.seconds)?,
            sent: count(|round| round.sent as f64)?,
            lost: rounds.iter().map(|round| round.lost).max()?,
            start_lost: rounds.iter().map(|round| round.start_lost).sum(),
            left_out: of(|round| round.left_out)?,
            link_lost: count(|round| round.link_lost as f64)?,
            spoiled: rounds.iter().map(|round| round.spoiled).sum(),
            stalls: rounds.iter().map(|round| round.stalls).sum(),
            longest_stall_ms: rounds.iter().map(|round| round.longest_stall_ms).fold(0.0, f64::max),
            rounds,
            reasons,
        })
    }
}

/// Listed streams beside a flood, and what a packet of the flood costs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FloodReport {
    /// Million packets a second of the listed streams.
    pub listed_mpps: f64,
    /// Packets of the listed streams sent.
    pub listed_sent: u64,
    /// Those that did not come back.
    pub listed_lost: u64,
    /// Million packets a second of the flood that the XDP program dropped meanwhile.
    pub flood_mpps: f64,
    /// The flood alone, by size of the whitelist.
    pub costs: Vec<FloodCost>,
}

/// A flood alone against a whitelist of some size, beside the program that drops everything.
#[derive(Clone, Debug, Serialize)]
pub struct FloodCost {
    /// Prefixes in the whitelist.
    pub prefixes: u32,
    /// Million packets a second that were dropped.
    pub mpps: f64,
    /// Nanoseconds a packet, making it and bringing it there included.
    pub ns_per_packet: f64,
    /// That of `xdp-drop`, measured right before.
    pub drop_ns_per_packet: f64,
    /// The median of the pairs' ratios.
    pub ratio: f64,
    /// Each pair's ratio.
    pub ratios: Vec<f64>,
}

impl Report {
    /// A scenario that was measured.
    pub fn scenario(&self, name: &str) -> Option<&ScenarioReport> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }

    /// Whether a scenario that was asked for failed.
    pub fn failed(&self) -> bool {
        let sustained = self
            .sustained
            .as_ref()
            .is_some_and(|sustained| !sustained.reasons.is_empty());
        sustained || self.scenarios.iter().any(|scenario| scenario.status == Status::Failed)
    }
}

impl ScenarioReport {
    /// The latencies at a share of the maximum.
    pub fn at_load(&self, load: f64) -> Option<&LatencyReport> {
        self.latency.iter().find(|latency| (latency.load - load).abs() < 1e-6)
    }
}

/// A made-up run for the tests of what is built from reports.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn percentiles(p50: f64) -> Percentiles {
        Percentiles {
            samples: 100_000,
            p50_us: p50,
            p90_us: p50 * 1.5,
            p99_us: p50 * 3.0,
            p999_us: p50 * 10.0,
            max_us: p50 * 50.0,
        }
    }

    pub(crate) fn measured(name: &str, mpps: f64, p50: f64) -> ScenarioReport {
        let latency = |load: f64| LatencyReport {
            load,
            wanted_mpps: mpps * load,
            offered_mpps: mpps * load,
            start_lost: 0,
            left_out: 0.001,
            median: Some(percentiles(p50)),
            sent: 1000,
            lost: 0,
            link_lost: 0,
            raw: Some(percentiles(p50 * 2.0)),
            stall_free: Some(percentiles(p50)),
            rounds: Vec::new(),
            stalls: 2,
            stalled_ms: 3.0,
            excluded: 0.01,
            curve: vec![
                (0.0, p50 / 2.0),
                (0.5, p50),
                (0.9, p50 * 1.5),
                (0.99, p50 * 3.0),
                (0.999, p50 * 10.0),
            ],
        };
        let raw = percentiles(p50 * 2.0);
        ScenarioReport {
            name: name.to_owned(),
            mpps: Some(mpps),
            gbps: Some(mpps * 11.504),
            loss: Some(0.0),
            p50_us: Some(raw.p50_us),
            p90_us: Some(raw.p90_us),
            p99_us: Some(raw.p99_us),
            p999_us: Some(raw.p999_us),
            max_us: Some(raw.max_us),
            cpu_ns_per_packet: Some(1000.0 / mpps),
            rss_mib: Some(300.0),
            spread: Some(0.02),
            rounds: vec![mpps; 7],
            latency: vec![latency(0.1), latency(0.5), latency(0.8)],
            ..ScenarioReport::default()
        }
    }

    fn pair(name: &str, ratio: f64, p99_ratio: f64) -> PairReport {
        PairReport {
            name: name.to_owned(),
            base: "afxdp-forward".to_owned(),
            ratio,
            ratios: vec![ratio; 7],
            spread: Some(0.01),
            loss_free_ratio: Some(ratio - 0.01),
            loss_free_ratios: vec![ratio - 0.01; 7],
            loss_free_spread: Some(0.0),
            loss_free_mpps: vec![(0.7, 0.8); 7],
            p99_ratio: Some(p99_ratio),
            p99_spread: Some(0.1),
            p99_rounds: Vec::new(),
        }
    }

    fn sustained(lost: u64) -> SustainedRound {
        SustainedRound {
            offered_mpps: 0.72,
            seconds: 30.0,
            sent: 21_600_000,
            lost,
            stalls: 2,
            longest_stall_ms: 3.0,
            ..SustainedRound::default()
        }
    }

    #[test]
    fn the_worst_of_three_long_runs_speaks_for_all() {
        let of = |lost: &[u64]| {
            let rounds = lost.iter().copied().map(sustained).collect();
            SustainedReport::new("inspect-50", 0.95, "loss-free", 0.72e6, rounds, Vec::new())
        };
        let report = of(&[0, 900, 0]).unwrap();
        assert_eq!((report.lost, report.stalls, report.rounds[2].lost), (900, 6, 0));
        assert_eq!((of(&[0, 0, 0]).unwrap().lost, of(&[0, 1]).unwrap().lost), (0, 1));
        assert!(of(&[]).is_none());
    }

    #[test]
    fn percentiles_of_repeats_are_their_medians_but_for_the_longest() {
        let round = |p50: f64| LatencyRound {
            offered_mpps: 0.4,
            sent: 1000,
            lost: 1,
            start_lost: 0,
            left_out: 0.01,
            raw: Some(percentiles(p50 * 2.0)),
            stall_free: Some(percentiles(p50)),
        };
        let trips = RoundTrips::new(true).unwrap();
        let report = LatencyReport::new(0.8, 0.41e6, &trips, vec![round(5.0), round(500.0), round(6.0)]);
        let median = report.median.unwrap();
        assert_eq!((median.p50_us, median.p999_us, median.max_us), (6.0, 60.0, 25_000.0));
        assert_eq!((report.sent, report.lost, report.offered_mpps), (3000, 3, 0.4));
        assert_eq!(median.samples, 300_000);
    }

    pub(crate) fn report() -> Report {
        Report {
            schema: SCHEMA,
            machine: Machine::look(),
            quick: false,
            cut: Vec::new(),
            seconds: 600.0,
            generator: "kernel",
            collector: "sender",
            probe: true,
            noisy: false,
            why: Vec::new(),
            scenarios: vec![
                measured("xdp-drop", 6.5, 2.0),
                measured("afxdp-forward", 0.80, 6.0),
                measured("inspect-50", 0.76, 7.0),
                measured("inspect-10000", 0.70, 8.0),
            ],
            pairs: vec![pair("inspect-50", 0.95, 1.2), pair("inspect-10000", 0.875, 1.3)],
            sustained: SustainedReport::new(
                "inspect-50",
                0.95,
                "loss-free",
                0.72e6,
                vec![sustained(0); 3],
                Vec::new(),
            ),
            flood: Some(FloodReport {
                listed_mpps: 0.38,
                listed_sent: 1_000_000,
                listed_lost: 0,
                flood_mpps: 3.2,
                costs: vec![FloodCost {
                    prefixes: 100,
                    mpps: 5.5,
                    ns_per_packet: 182.0,
                    drop_ns_per_packet: 154.0,
                    ratio: 1.18,
                    ratios: vec![1.18; 5],
                }],
            }),
            gate: Vec::new(),
        }
    }

    #[test]
    fn the_shape_is_as_promised() {
        let json = serde_json::to_value(report()).unwrap();
        for key in ["cpu", "cores", "kernel", "virtualised", "memory", "commit", "date"] {
            assert!(json["machine"].get(key).is_some(), "machine.{key}");
        }
        let promised = [
            "name",
            "mpps",
            "gbps",
            "loss",
            "p50_us",
            "p90_us",
            "p99_us",
            "p999_us",
            "max_us",
            "cpu_ns_per_packet",
            "rss_mib",
            "spread",
        ];
        for scenario in json["scenarios"].as_array().unwrap() {
            for key in promised {
                assert!(scenario[key].is_number() || key == "name", "{key} of {scenario}");
            }
            assert_eq!(scenario["latency"][1]["load"], 0.5);
            assert!(scenario["latency"][1]["stall_free"]["p999_us"].is_number());
            // The flat figures are the raw ones at half load.
            assert_eq!(scenario["p50_us"], scenario["latency"][1]["raw"]["p50_us"]);
        }
        // A scenario that was not measured has every key all the same.
        let empty = serde_json::to_value(ScenarioReport::default()).unwrap();
        assert!(promised.iter().all(|key| empty.get(key).is_some()));
        assert!(empty["mpps"].is_null());
    }

    #[test]
    fn a_failed_check_fails_the_run() {
        let mut report = report();
        assert!(!report.failed());
        report.scenarios[1].status = Status::Failed;
        assert!(report.failed());
    }
}
