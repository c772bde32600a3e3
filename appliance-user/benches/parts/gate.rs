//! What a release must keep: the cost of a packet does not grow with the number of streams, and stays below two bounds.
//!
//! A machine's neighbours make every figure in nanoseconds uncertain, so flatness is a ratio: one stream and a thousand are
//! measured in turn, in pairs, and the median of the pairs' ratios counts. The two bounds are absolute and are told with
//! their spread.

use std::time::Duration;

use anyhow::ensure;
use tidegate_fixtures::part::{Inspection, is_sound};

use super::measure::Spread;
use super::{Cold, run as spend};

/// Pairs of measurements.
const PAIRS: usize = 9;
/// Packets of each measurement.
const PACKETS: u64 = 100_000;
/// How much more a packet may cost with a thousand streams than with one.
const FLATNESS: f64 = 1.15;
/// Nanoseconds that a packet may cost when its bytes are in the cache, and when they are not.
const WARM_NS: f64 = 90.0;
const COLD_NS: f64 = 130.0;

/// Measures and tells; whether all was kept.
pub(crate) fn run() -> anyhow::Result<bool> {
    let (pairs, packets) = (PAIRS, PACKETS);
    let mut one = Inspection::backlog(1);
    let mut many = Inspection::backlog(1000);
    let mut fifty = Inspection::backlog(50);
    let mut cold = Cold::new();
    let figure = |spent: Duration| spent.as_nanos() as f64 / packets as f64;
    let [mut ratios, mut ones, mut manies, mut warms, mut colds]: [Vec<f64>; 5] = Default::default();
    // The first round warms up.
    for round in 0..=pairs {
        let (few, lots) = if round % 2 == 0 {
            let few = figure(spend(&mut one, packets));
            (few, figure(spend(&mut many, packets)))
        } else {
            let lots = figure(spend(&mut many, packets));
            (figure(spend(&mut one, packets)), lots)
        };
        let warm = figure(spend(&mut fifty, packets));
        let frozen = figure(cold.run(packets));
        if round > 0 {
            ratios.push(lots / few);
            ones.push(few);
            manies.push(lots);
            warms.push(warm);
            colds.push(frozen);
        }
    }
    for inspection in [&one, &many, &fifty, &cold.inspection] {
        for report in inspection.reports() {
            ensure!(is_sound(&report) == Ok(()), "{:?}", is_sound(&report));
        }
    }
    println!("{pairs} rounds of {packets} packets each, nanoseconds of processor time per packet of 7 TS packets");
    tell("1 stream", &ones, None);
    tell("1,000 streams", &manies, None);
    let mut kept = tell("1,000 streams to 1", &ratios, Some(FLATNESS));
    kept &= tell("50 streams, warm", &warms, Some(WARM_NS));
    kept &= tell("50 streams, cold", &colds, Some(COLD_NS));
    Ok(kept)
}

/// Prints a figure; whether its median keeps the bound.
fn tell(what: &str, figures: &[f64], bound: Option<f64>) -> bool {
    let spread = Spread::of(figures.iter().copied());
    let kept = bound.is_none_or(|bound| spread.median <= bound);
    let verdict = match bound {
        None => String::new(),
        Some(bound) if kept => format!("at most {bound}: kept"),
        Some(bound) => format!("at most {bound}: NOT KEPT"),
    };
    println!(
        "{what:<20} {:>8.2} ({:.2} to {:.2}) {verdict}",
        spread.median, spread.least, spread.most
    );
    kept
}
