//! The report as a picture: bars of throughput with the spread of their repeats, and round trips at half load by percentile.
//!
//! Plain SVG text, since there is nothing here that a drawing library would make shorter, and so that one style sheet can
//! serve light and dark pages. Every colour of data is of middling lightness and is read on both.

use std::fmt::Write as _;

use crate::report::{Report, ScenarioReport, Status};
use crate::scenario::{BASE, Scenario, Subject};
use crate::statistics::quantile;

const WIDTH: f64 = 860.0;
/// Where bars and curves begin and end.
const LEFT: f64 = 130.0;
const RIGHT: f64 = WIDTH - 30.0;
const BAR_TOP: f64 = 84.0;
const BAR_STEP: f64 = 26.0;
const BAR_HEIGHT: f64 = 16.0;
const CURVE_HEIGHT: f64 = 280.0;
/// Room between the bars' axis and the curves, for a heading and a legend of two lines.
const BETWEEN: f64 = 108.0;
/// Bars of kernel programs are several times as long as all others: beyond this multiple of the longest other they are cut.
const CUT: f64 = 1.25;
/// Whose curves are drawn, so that they can be told apart, with their colours (after Okabe and Ito, told apart by everyone).
const CURVES: &[(&str, &str)] = &[
    ("xdp-tx", "#56a3d9"),
    ("iptables", "#9a8fd0"),
    (BASE, "#d98c00"),
    ("any", "#c46a9a"),
    ("inspect-50", "#00996b"),
    ("inspect-10000", "#d55e2a"),
];
/// A character's width in the legend at most, and room around a name there: fonts differ, names must not touch.
const CHARACTER: f64 = 7.4;
const AROUND: f64 = 42.0;
/// Colour of what has no curve.
const PLAIN: &str = "#8794a1";
/// Percentiles on the axis.
const PERCENTILES: &[(f64, &str)] = &[
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];

const STYLE: &str = "<style>\n\
    text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }\n\
    .title { font-size: 15px; font-weight: 600 }\n\
    .small { font-size: 11.5px; fill: #57606a }\n\
    .end { text-anchor: end } .mid { text-anchor: middle }\n\
    .page { fill: #ffffff } .grid { stroke: #d8dee4; stroke-width: 1 } .whisker { stroke: #24292f; stroke-width: 1.3; fill: none }\n\
    .mark { fill: #ffffff; stroke: #24292f; stroke-width: 1.3 }\n\
    .curve { fill: none; stroke-width: 2; stroke-linejoin: round }\n\
    @media (prefers-color-scheme: dark) {\n\
      text { fill: #e6edf3 } .small { fill: #9da7b1 } .page { fill: #0d1117 } .grid { stroke: #30363d } .whisker { stroke: #e6edf3 }\n\
      .mark { fill: #0d1117; stroke: #e6edf3 }\n\
    }\n</style>\n";

/// The picture of a report.
pub fn svg(report: &Report) -> String {
    let bars: Vec<&ScenarioReport> = report
        .scenarios
        .iter()
        .filter(|scenario| scenario.mpps.is_some())
        .collect();
    let axis = BAR_TOP + bars.len() as f64 * BAR_STEP + 4.0;
    let top = axis + BETWEEN;
    let height = top + CURVE_HEIGHT + 54.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         role=\"img\" aria-label=\"Throughput and round trips of every scenario\">\n{STYLE}\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n"
    );
    let noisy = if report.noisy {
        " (too noisy: proves nothing)"
    } else {
        ""
    };
    text(
        &mut out,
        20.0,
        28.0,
        "title",
        &format!("Throughput, million packets a second{noisy}"),
    );
    let machine = &report.machine;
    let place = format!(
        "{}, {} processors, Linux {}, {}, {}",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.commit,
        machine.date.split('T').next().unwrap_or_default()
    );
    text(&mut out, 20.0, 47.0, "small", &place);
    diamond(&mut out, 26.0, 60.0);
    let key = "the highest rate without loss; bars: flat out, median and quartiles of the repeats, cut where a kernel program is far ahead";
    text(&mut out, 37.0, 64.0, "small", key);
    draw_bars(&mut out, &bars, axis);
    draw_curves(&mut out, report, top);
    out.push_str("</svg>\n");
    out
}

fn draw_bars(out: &mut String, bars: &[&ScenarioReport], axis: f64) {
    let most = bars.iter().filter_map(|bar| bar.mpps).fold(0.0, f64::max);
    let others = bars
        .iter()
        .filter(|bar| !is_kernels(&bar.name))
        .filter_map(|bar| bar.mpps);
    let longest = others.fold(0.0, f64::max);
    // Room for the number behind the longest bar.
    let end = if longest > 0.0 { most.min(longest * CUT) } else { most }.max(1e-9) * 1.12;
    let x = |mpps: f64| LEFT + (mpps / end).min(1.0) * (RIGHT - LEFT);
    let step = tick(end);
    for number in 0..=(end / step) as u32 {
        let at = x(f64::from(number) * step);
        line(out, "grid", (at, BAR_TOP - 4.0), (at, axis));
        text(out, at, axis + 16.0, "small mid", &trimmed(f64::from(number) * step));
    }
    for (place, bar) in bars.iter().enumerate() {
        let y = BAR_TOP + place as f64 * BAR_STEP;
        draw_bar(out, bar, y, &x, end / 1.12);
    }
}

fn draw_bar(out: &mut String, bar: &ScenarioReport, y: f64, x: &impl Fn(f64) -> f64, cut: f64) {
    let mpps = bar.mpps.unwrap_or(0.0);
    let shown = mpps.min(cut);
    let opacity = if bar.status == Status::Failed { "0.35" } else { "1" };
    text(out, LEFT - 8.0, y + 13.0, "end", &bar.name);
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\" fill=\"{}\" fill-opacity=\"{opacity}\"/>",
        x(shown) - LEFT,
        colour(&bar.name)
    );
    let mut after = x(shown);
    if mpps > shown {
        // Two strokes through the bar: it goes on.
        for shift in [16.0, 22.0] {
            let _ = writeln!(
                out,
                "<path d=\"M{:.1} {:.1} l5 -{:.1}\" class=\"whisker\"/>",
                after - shift,
                y + BAR_HEIGHT + 2.0,
                BAR_HEIGHT + 4.0
            );
        }
    } else if let (Some(low), Some(high)) = (quantile(&bar.rounds, 0.25), quantile(&bar.rounds, 0.75)) {
        let (low, high, middle) = (x(low), x(high.min(cut * 1.05)), y + BAR_HEIGHT / 2.0);
        let _ = writeln!(
            out,
            "<path d=\"M{low:.1} {:.1} v8 M{low:.1} {middle:.1} H{high:.1} M{high:.1} {:.1} v8\" class=\"whisker\"/>",
            middle - 4.0,
            middle - 4.0
        );
        after = after.max(high);
    }
    if let Some(loss_free) = bar.loss_free_mpps.filter(|rate| *rate <= cut) {
        diamond(out, x(loss_free), y + BAR_HEIGHT / 2.0);
        after = after.max(x(loss_free) + 5.0);
    }
    let failed = match bar.status {
        Status::Failed => " failed",
        _ if Scenario::named(&bar.name).is_some_and(|known| known.subject == Subject::Flood) => " dropped",
        _ => "",
    };
    // Tidegate and what it is compared with differ in the third digit.
    let digits = if mpps < 1.0 { 3 } else { 2 };
    text(out, after + 7.0, y + 13.0, "", &format!("{mpps:.digits$}{failed}"));
}

/// The mark of a rate without loss.
fn diamond(out: &mut String, x: f64, y: f64) {
    let _ = writeln!(
        out,
        "<path class=\"mark\" d=\"M{x:.1} {:.1} l5 5 l-5 5 l-5 -5 z\"/>",
        y - 5.0
    );
}

/// A scenario's name, its colour, and its curve of shares and microseconds.
type Drawn<'a> = (&'static str, &'static str, &'a [(f64, f64)]);

fn draw_curves(out: &mut String, report: &Report, top: f64) {
    let drawn: Vec<Drawn<'_>> = CURVES
        .iter()
        .filter_map(|(name, colour)| {
            let curve = &report.scenario(name)?.at_load(0.5)?.curve;
            (curve.len() > 1).then_some((*name, *colour, curve.as_slice()))
        })
        .collect();
    let which = if report.probe {
        ", stalls of the machine left out"
    } else {
        ""
    };
    text(
        out,
        20.0,
        top - 52.0,
        "title",
        &format!("Round trip at half load, microseconds by percentile{which}"),
    );
    let points = || drawn.iter().flat_map(|(_, _, curve)| curve.iter());
    let most = points().map(|(_, us)| *us).fold(1.0, f64::max);
    let least = points().map(|(_, us)| *us).fold(most, f64::min).max(0.1);
    let (low, high) = (
        least.log10().floor(),
        most.log10().ceil().max(least.log10().floor() + 1.0),
    );
    let furthest = points().map(|(share, _)| nines(*share)).fold(3.0, f64::max);
    let x = |share: f64| LEFT + nines(share) / furthest * (RIGHT - LEFT);
    let y = |us: f64| top + CURVE_HEIGHT * (1.0 - (us.max(0.1).log10() - low) / (high - low));
    for (share, name) in PERCENTILES.iter().filter(|(share, _)| nines(*share) <= furthest + 1e-9) {
        line(out, "grid", (x(*share), top), (x(*share), top + CURVE_HEIGHT));
        text(out, x(*share), top + CURVE_HEIGHT + 18.0, "small mid", name);
    }
    for decade in low as i32..=high as i32 {
        let us = 10_f64.powi(decade);
        line(out, "grid", (LEFT, y(us)), (RIGHT, y(us)));
        text(out, LEFT - 8.0, y(us) + 4.0, "small end", &trimmed(us));
    }
    text(
        out,
        (LEFT + RIGHT) / 2.0,
        top + CURVE_HEIGHT + 38.0,
        "small mid",
        "percentile",
    );
    let mut at = LEFT;
    for (name, colour, curve) in &drawn {
        let path: Vec<String> = curve
            .iter()
            .map(|(share, us)| format!("{:.1} {:.1}", x(*share), y(*us)))
            .collect();
        let _ = writeln!(
            out,
            "<path class=\"curve\" stroke=\"{colour}\" d=\"M{}\"/>",
            path.join(" L")
        );
        let line = top - 22.0;
        let _ = writeln!(
            out,
            "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" rx=\"2\" fill=\"{colour}\"/>",
            line - 6.0
        );
        text(out, at + 19.0, line, "", name);
        at += name.len() as f64 * CHARACTER + AROUND;
    }
    if drawn.is_empty() {
        text(
            out,
            (LEFT + RIGHT) / 2.0,
            top + CURVE_HEIGHT / 2.0,
            "small mid",
            "no round trips were measured",
        );
    }
}

/// Whether a bar counts what an XDP program did alone, several times what a socket can carry.
fn is_kernels(name: &str) -> bool {
    Scenario::named(name)
        .is_none_or(|known| matches!(known.subject, Subject::XdpDrop | Subject::XdpTx | Subject::Flood))
}

/// How far out a percentile is: 1 for 90 %, 2 for 99 %, 3 for 99.9 %.
fn nines(share: f64) -> f64 {
    -(1.0 - share.clamp(0.0, 0.999_999_9)).log10()
}

/// A step of 1, 2 or 5 times a power of ten that makes four to ten ticks.
fn tick(end: f64) -> f64 {
    let power = 10_f64.powf((end / 4.0).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| end / step >= 4.0)
        .unwrap_or(power)
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn colour(name: &str) -> &'static str {
    CURVES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(PLAIN, |(_, colour)| colour)
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_scenario_has_a_bar_and_every_curve_a_line() {
        let picture = svg(&report());
        for name in ["xdp-drop", "afxdp-forward", "inspect-50", "inspect-10000"] {
            assert!(picture.contains(&format!(">{name}</text>")), "{name}");
        }
        assert_eq!(picture.matches("class=\"curve\"").count(), 3);
        assert!(picture.contains("prefers-color-scheme: dark") && picture.contains(">0.760</text>"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }

    #[test]
    fn an_empty_or_odd_report_still_makes_a_picture() {
        let mut report = report();
        report.machine.cpu = "A < B & C".to_owned();
        report.noisy = true;
        for scenario in &mut report.scenarios {
            scenario.latency.clear();
            scenario.rounds.clear();
        }
        let picture = svg(&report);
        assert!(picture.contains("A &lt; B &amp; C") && picture.contains("too noisy"));
        report.scenarios.clear();
        let picture = svg(&report);
        assert!(picture.ends_with("</svg>\n") && !picture.contains("NaN"), "{picture}");
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (end, step) in [(0.96, 0.2), (7.3, 1.0), (1.0, 0.2), (25.0, 5.0)] {
            assert!((tick(end) - step).abs() < 1e-9, "{end}: {}", tick(end));
        }
        assert_eq!(trimmed(0.200), "0.2");
        assert_eq!(trimmed(100.0), "100");
        assert!((nines(0.999) - 3.0).abs() < 1e-9 && nines(1.0).is_finite());
    }
}
