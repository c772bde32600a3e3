//! The flood: what it costs the listed streams, and what each of its packets costs.

use std::time::Duration;

use anyhow::Result;

use crate::gather::Gathered;
use crate::measure::Order;
use crate::plan::HALF;
use crate::report::{FloodCost, FloodReport, ScenarioReport};
use crate::run::Run;
use crate::scenario::{Scenario, Subject};
use crate::statistics::{median, pair_ratios};
use crate::traffic::{Rate, Wish};

/// Whose half load the listed streams have.
const NORM: &str = "inspect-50";
/// Unlisted packets after each listed one that the search for the right number begins with.
const FIRST_GUESS: u32 = 4;
/// Unlisted packets after each listed one, at most.
const MOST: u32 = 200;
/// Tries to find the number that gives half load.
const TRIES: u32 = 3;
/// Prefixes of the whitelist where its size is not the question.
const PREFIXES: u32 = 10;
/// Streams of the traffic that is dropped at once; it does not matter who they are.
const DROPPED: &str = "xdp-drop";

/// Measures everything about the flood, if the plan has it.
///
/// # Errors
/// An interruption; all else is in the report.
pub(crate) fn measure(run: &mut Run<'_>) -> Result<Option<(ScenarioReport, FloodReport)>> {
    let Some(scenario) = run
        .plan
        .scenarios
        .iter()
        .copied()
        .find(|scenario| scenario.subject == Subject::Flood)
    else {
        return Ok(None);
    };
    let mut gathered = Gathered::new(scenario);
    let mut report = FloodReport::default();
    if let Err(error) = beside(run, &mut gathered, &mut report).and_then(|()| alone(run, &mut gathered, &mut report)) {
        if run.interrupted.load(std::sync::atomic::Ordering::Acquire) {
            return Err(error);
        }
        gathered.fail(&error);
    }
    let mut own = gathered.report();
    // The one scenario whose figure is not what came back but what was kept away.
    own.mpps = (report.flood_mpps > 0.0).then_some(report.flood_mpps);
    own.loss = (report.listed_sent > 0).then(|| report.listed_lost as f64 / report.listed_sent as f64);
    own.gbps = None;
    Ok(Some((own, report)))
}

/// The listed streams beside the flood. The generator sends flat out and slips so many unlisted packets in after each listed
/// one that the listed ones make about half load; how many is found by trying.
fn beside(run: &mut Run<'_>, gathered: &mut Gathered, report: &mut FloodReport) -> Result<()> {
    let scenario = gathered.scenario;
    let (mut each, wanted) = (FIRST_GUESS, run.maximum(NORM).map(|maximum| maximum * HALF));
    let (warm_up, settle) = (run.plan.warm_up, run.plan.settle);
    let order = |each: u32, window: Duration| Order {
        wish: Wish {
            unlisted_each: each,
            ..Wish::of(&scenario, Rate::FlatOut)
        },
        prefixes: PREFIXES,
        warm_up,
        settle,
        window,
        round_trips: true,
        overload: false,
        trial: false,
    };
    for _ in 0..TRIES {
        let Some(wanted) = wanted else { break };
        let order = order(each, run.plan.search_window);
        if !run.has_time_for("finding the flood's measure", order.traffic()) {
            break;
        }
        let tried = run.measure(&format!("flood, {each} to 1,"), &scenario, &order)?;
        let listed = tried.sent.listed as f64 / tried.seconds;
        // Rather too little than too much: beyond half load nothing is promised.
        let next = (f64::from(each + 1) * listed / wanted)
            .ceil()
            .clamp(2.0, f64::from(MOST + 1)) as u32
            - 1;
        if listed <= wanted && next >= each {
            break;
        }
        each = next.max(1);
    }
    let order = order(each, run.plan.latency_window);
    if !run.has_time_for("the flood beside listed streams", order.traffic()) {
        return Ok(());
    }
    let outcome = run.measure(&format!("flood, {each} to 1,"), &scenario, &order)?;
    report.listed_mpps = outcome.sent.listed as f64 / outcome.seconds / 1e6;
    report.flood_mpps = outcome.sent.unlisted as f64 / outcome.seconds / 1e6;
    report.listed_sent = outcome.total_sent.listed;
    report.listed_lost = outcome.lost(&scenario);
    gathered.flat_out(&outcome);
    gathered.at_load(HALF, outcome.sent.listed as f64 / outcome.seconds, &outcome)?;
    Ok(())
}

/// The flood alone against whitelists of several sizes, each beside the program that drops everything.
fn alone(run: &mut Run<'_>, gathered: &mut Gathered, report: &mut FloodReport) -> Result<()> {
    let Some(drop_all) = Scenario::named(DROPPED) else {
        return Ok(());
    };
    let scenario = gathered.scenario;
    let order = |prefixes: u32| Order {
        wish: Wish {
            listed: false,
            unlisted_each: 1,
            ..Wish::of(&scenario, Rate::FlatOut)
        },
        prefixes,
        warm_up: run.plan.warm_up,
        settle: run.plan.settle,
        window: run.plan.window,
        round_trips: false,
        overload: true,
        trial: false,
    };
    let orders: Vec<(u32, Order)> = run
        .plan
        .prefixes
        .iter()
        .map(|prefixes| (*prefixes, order(*prefixes)))
        .collect();
    for (prefixes, order) in orders {
        let mut pairs = Vec::new();
        for _ in 0..run.plan.flood_rounds {
            if !run.has_time_for(&format!("the flood against {prefixes} prefixes"), order.traffic() * 2) {
                break;
            }
            let base = run.measure("the same flood,", &drop_all, &order)?;
            let own = run.measure(&format!("flood alone, {prefixes} prefixes,"), &scenario, &order)?;
            gathered.blame(&format!("flood alone, {prefixes} prefixes"), &own.faults);
            // Rates of what arrived: each is as fast as generator and program together let it be.
            pairs.push((base.arrived as f64 / base.seconds, own.arrived as f64 / own.seconds));
        }
        let ratios = pair_ratios(&pairs);
        let (base, own): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        if let (Some(base), Some(own), Some(ratio)) = (median(&base), median(&own), median(&ratios)) {
            report.costs.push(FloodCost {
                prefixes,
                mpps: own / 1e6,
                ns_per_packet: 1e9 / own,
                drop_ns_per_packet: 1e9 / base,
                ratio,
                ratios,
            });
        }
    }
    Ok(())
}
