//! The report as Markdown, for the terminal and for `latest.md`.

use std::fmt::Write as _;

use crate::gate;
use crate::latency::Percentiles;
use crate::report::{FloodReport, Report, ScenarioReport, Status};

/// What is in a cell of which nothing is known.
const NOTHING: &str = "-";

/// The whole report.
pub fn markdown(report: &Report) -> String {
    // Writing to a string does not fail.
    let mut text = String::new();
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "{}, {} processors ({}), {} MiB, Linux {}; commit {}, {}; {} s{}, packets by the {} generator.\n",
        machine.cpu,
        machine.cores,
        machine.virtualised,
        machine.memory,
        machine.kernel,
        if machine.commit.is_empty() {
            "unknown"
        } else {
            &machine.commit
        },
        machine.date,
        report.seconds.round(),
        if report.quick { ", quick" } else { "" },
        report.generator,
    );
    if report.noisy {
        let _ = writeln!(
            text,
            "**Too noisy: these figures prove nothing.** {}\n",
            report.why.join("; ")
        );
    }
    throughput(&mut text, report);
    latency(&mut text, report);
    pairs(&mut text, report);
    if let Some(flood) = &report.flood {
        flooded(&mut text, flood);
    }
    remarks(&mut text, report);
    targets(&mut text, report);
    text
}

fn throughput(text: &mut String, report: &Report) {
    text.push_str("| scenario | Mpps | Gbit/s | loss | loss-free Mpps | CPU ns/packet | RSS MiB | spread | |\n");
    text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---|\n");
    for scenario in &report.scenarios {
        let cells = [
            figure(scenario.mpps, 3),
            figure(scenario.gbps, 2),
            share(scenario.loss),
            figure(scenario.loss_free_mpps, 3),
            figure(scenario.cpu_ns_per_packet, 0),
            figure(scenario.rss_mib, 0),
            scenario
                .spread
                .map_or_else(|| NOTHING.to_owned(), |spread| format!("{:.1} %", spread * 100.0)),
        ];
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            scenario.name,
            cells.join(" | "),
            remark(scenario)
        );
    }
    text.push_str(
        "\nMpps is what came back while more was sent than could (xdp-drop: what arrived), the median of the repeats; it is no \
         rate without loss, which has a column of its own: the highest that a search found. Gbit/s counts Ethernet frames without preamble and checksum. \
         Loss is the largest at 10, 50 and 80 % of the smaller of the two. CPU is the process' own, system calls included, where there is a \
         process, else all of the core's, making the packet included.\n",
    );
}

fn remark(scenario: &ScenarioReport) -> String {
    match scenario.status {
        Status::Ok if scenario.noisy => "noisy".to_owned(),
        Status::Ok => String::new(),
        Status::Failed => format!("FAILED: {}", scenario.reasons.join("; ")),
        Status::Skipped => format!("skipped: {}", scenario.reasons.join("; ")),
    }
}

fn latency(text: &mut String, report: &Report) {
    if report.scenarios.iter().all(|scenario| scenario.latency.is_empty()) {
        return;
    }
    text.push_str(
        "\n| round trip, us | load | p50 | p90 | p99 | p99.9 | max | lost | not sent | stalls: p99 / p99.9 / max with them |\n",
    );
    text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n");
    for scenario in &report.scenarios {
        for latency in &scenario.latency {
            let _ = writeln!(
                text,
                "| {} | {:.0} % | {} | {} | {} | {} of {:.1} ms: {} |",
                scenario.name,
                latency.load * 100.0,
                latency.best().as_ref().map_or_else(|| [NOTHING; 5].join(" | "), five),
                latency.lost,
                share(Some(latency.left_out)),
                latency.stalls,
                latency.stalled_ms,
                latency.raw.as_ref().map_or_else(|| NOTHING.to_owned(), three),
            );
        }
    }
    let which = if report.probe {
        "Round trips outside of the machine's stalls, the median of the repeats and of the longest the longest; the last column \
         has all of them. Not sent is what the generator was held up for too long to make up for."
    } else {
        "The stall probe could not run here: these are all round trips, the machine's stalls included."
    };
    let _ = writeln!(
        text,
        "\nLoads are shares of a scenario's own maximum, the smaller of Mpps and loss-free Mpps as far as it was searched. Streams begin at \
         half of a load; what is lost then is counted apart. {which}"
    );
}

fn five(trips: &Percentiles) -> String {
    [trips.p50_us, trips.p90_us, trips.p99_us, trips.p999_us, trips.max_us]
        .map(micros)
        .join(" | ")
}

fn three(trips: &Percentiles) -> String {
    [trips.p99_us, trips.p999_us, trips.max_us].map(micros).join(" / ")
}

fn pairs(text: &mut String, report: &Report) {
    if report.pairs.is_empty() {
        return;
    }
    text.push_str("\n| pair, back to back | ratio of | median | pairs | from - to |\n|---|---|---:|---:|---|\n");
    for pair in &report.pairs {
        let p99: Vec<f64> = pair.p99_rounds.iter().map(|round| round.ratio).collect();
        let rows = [
            ("Mpps, flat out", Some(pair.ratio), pair.ratios.as_slice()),
            ("loss-free Mpps", pair.loss_free_ratio, pair.loss_free_ratios.as_slice()),
            ("p99, both at the same rate", pair.p99_ratio, p99.as_slice()),
        ];
        for (what, ratio, ratios) in rows {
            let _ = writeln!(
                text,
                "| {} / {} | {what} | {} | {} | {} |",
                pair.name,
                pair.base,
                figure(ratio, 3),
                ratios.len(),
                range(ratios)
            );
        }
    }
    text.push_str(
        "\nThe same rate is half of the smaller own maximum of the two. Flat out, many streams have a gap at every packet: what \
         inspecting sound streams costs is the ratio without loss.\n",
    );
}

/// From the least to the most.
fn range(values: &[f64]) -> String {
    if values.is_empty() {
        return NOTHING.to_owned();
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.3} - {most:.3}")
}

fn flooded(text: &mut String, flood: &FloodReport) {
    let _ = writeln!(
        text,
        "\nFlood: {:.3} Mpps from unlisted sources dropped beside {:.3} Mpps of listed streams; {} of {} listed packets lost.",
        flood.flood_mpps, flood.listed_mpps, flood.listed_lost, flood.listed_sent
    );
    if flood.costs.is_empty() {
        return;
    }
    text.push_str("\n| flood alone, prefixes | Mpps dropped | ns/packet | xdp-drop ns/packet | ratio |\n|---:|---:|---:|---:|---:|\n");
    for cost in &flood.costs {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.0} | {:.0} | {:.2} |",
            cost.prefixes, cost.mpps, cost.ns_per_packet, cost.drop_ns_per_packet, cost.ratio
        );
    }
}

fn remarks(text: &mut String, report: &Report) {
    if let Some(run) = &report.sustained {
        let _ = writeln!(
            text,
            "\n{} at {:.0} % of its {} maximum, {:.3} Mpps for {:.0} s, the worst of {}: {} of {} lost (each: {}; while streams began: {}), \
             {} not sent; in all {} altered, twice or out of order, {} stalls of the machine, {:.1} ms the longest.{}",
            run.scenario,
            run.load * 100.0,
            run.of,
            run.offered_mpps,
            run.seconds,
            run.rounds.len(),
            run.lost,
            run.sent,
            run.rounds
                .iter()
                .map(|round| round.lost.to_string())
                .collect::<Vec<_>>()
                .join(", "),
            run.start_lost,
            share(Some(run.left_out)),
            run.spoiled,
            run.stalls,
            run.longest_stall_ms,
            if run.reasons.is_empty() {
                String::new()
            } else {
                format!(" FAILED: {}", run.reasons.join("; "))
            },
        );
    }
    let noisy: Vec<String> = report
        .scenarios
        .iter()
        .filter(|scenario| !scenario.why.is_empty())
        .map(|scenario| format!("{}: {}", scenario.name, scenario.why.join("; ")))
        .collect();
    if !noisy.is_empty() {
        let _ = writeln!(text, "\nDisturbed:\n- {}", noisy.join("\n- "));
    }
    if !report.cut.is_empty() {
        let _ = writeln!(text, "\nLeft out:\n- {}", report.cut.join("\n- "));
    }
}

fn targets(text: &mut String, report: &Report) {
    if report.gate.is_empty() {
        return;
    }
    text.push_str("\n| target | measured | |\n|---|---:|---|\n");
    for verdict in &report.gate {
        let met = match (verdict.met, verdict.measured) {
            (true, _) => "met",
            (false, Some(_)) => "MISSED",
            (false, None) => "not measured",
        };
        let _ = writeln!(text, "| {} | {} | {met} |", verdict.target, figure(verdict.measured, 3));
    }
    for objection in gate::objections(report)
        .iter()
        .filter(|objection| objection.starts_with("too noisy"))
    {
        let _ = writeln!(text, "\nThe gate does not pass this run: {objection}.");
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.digits$}"))
}

/// A share as a percentage, down to single packets in millions: "0" is said of nothing alone.
fn share(value: Option<f64>) -> String {
    match value {
        None => NOTHING.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) if value < 0.0001 => format!("{:.0} ppm", (value * 1e6).ceil()),
        Some(value) => format!("{:.2} %", value * 100.0),
    }
}

/// Microseconds with as many digits as mean something.
fn micros(us: f64) -> String {
    if us < 100.0 {
        format!("{us:.1}")
    } else {
        format!("{us:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_row_has_the_cells_of_its_table() {
        let mut report = report();
        report.gate = gate::judge(&report);
        let text = markdown(&report);
        let mut columns = None;
        for line in text.lines() {
            let cells = line.starts_with('|').then(|| line.matches('|').count());
            if let (Some(cells), Some(columns)) = (cells, columns) {
                assert_eq!(cells, columns, "{line}");
            }
            columns = cells;
        }
        assert_eq!(text.matches("| xdp-drop |").count(), 4, "{text}");
        for row in [
            "Mpps, flat out | 0.950 | 7",
            "loss-free Mpps | 0.940 | 7",
            "p99, both at the same rate | 1.200 | 0",
        ] {
            assert!(
                text.contains(&format!("| inspect-50 / afxdp-forward | {row} |")),
                "{text}"
            );
        }
        assert!(!text.contains("noisy") && !text.contains("FAILED"), "{text}");
    }

    #[test]
    fn failures_skips_and_noise_are_said() {
        let mut report = report();
        report.noisy = true;
        report.why = vec!["steal".to_owned()];
        report.scenarios[0].status = Status::Failed;
        report.scenarios[0].reasons = vec!["49 streams".to_owned()];
        report.scenarios[2].why = vec!["7 packets lost while streams began".to_owned()];
        report.scenarios[1] = ScenarioReport {
            name: "iptables".to_owned(),
            status: Status::Skipped,
            reasons: vec!["no nat".to_owned()],
            ..ScenarioReport::default()
        };
        let text = markdown(&report);
        assert!(
            text.contains("inspect-50: 7 packets lost while streams began"),
            "{text}"
        );
        assert!(
            text.contains("FAILED: 49 streams") && text.contains("skipped: no nat"),
            "{text}"
        );
        assert!(
            text.contains("Too noisy") && text.contains("| iptables | - | - | - |"),
            "{text}"
        );
    }

    #[test]
    fn a_single_lost_packet_is_never_shown_as_none() {
        assert_eq!(share(Some(0.0)), "0");
        assert_eq!(share(Some(1e-9)), "1 ppm");
        assert_eq!(share(Some(0.25)), "25.00 %");
        assert_eq!(share(None), "-");
    }
}
