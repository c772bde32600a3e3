//! `tidegate-bench`: runs the load lab and writes its table, its plot and its figures. `cargo xtask bench` builds what it needs
//! and calls it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidegate_bench::device::{self, Places};
use tidegate_bench::measure::Bench;
use tidegate_bench::plan::Plan;
use tidegate_bench::report::Report;
use tidegate_bench::run::Run;
use tidegate_bench::scenario::{SCENARIOS, Scenario};
use tidegate_bench::stage::{CORES, CollectorNapi};
use tidegate_bench::traffic::GeneratorKind;
use tidegate_bench::{gate, plot, table};

/// The gate's exit code for targets that were not met; 1 is for a run that could not be made.
const EXIT_MISSED: u8 = 3;

/// Tidegate beside what it is compared with, in network namespaces on two cores: packets a second, loss, round trips, cost.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Finish within three minutes: short windows, few repeats
    #[arg(long)]
    quick: bool,
    /// Measure this scenario alone; may be given several times
    #[arg(long = "scenario", value_name = "NAME", value_parser = named)]
    scenarios: Vec<Scenario>,
    /// Repeats of every scenario; at least 7 for ratios that can be relied on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: Option<u32>,
    /// How packets are made
    #[arg(long, value_enum, default_value_t = GeneratorKind::Kernel)]
    generator: GeneratorKind,
    /// Where the collector's packets are received
    #[arg(long, value_enum, default_value_t = CollectorNapi::Sender)]
    collector: CollectorNapi,
    /// Fail unless every target is met
    #[arg(long)]
    gate: bool,
    /// Where latest.md, latest.json, latest.svg, policies and logs go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where the programs `tidegate` and `tidegate-forward` are; by default beside this one
    #[arg(long)]
    programs: Option<PathBuf>,
}

fn named(name: &str) -> Result<Scenario, String> {
    let all = || {
        SCENARIOS
            .iter()
            .map(|scenario| scenario.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Scenario::named(name).ok_or_else(|| format!("there are {}", all()))
}

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    if let Err(error) = watch_signals(Arc::clone(&interrupted)) {
        eprintln!("bench: cannot watch for signals: {error}");
        return ExitCode::FAILURE;
    }
    match run(&Arguments::parse(), &interrupted) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// At a signal the lab is torn down from under the run, which then ends by itself, with an error that says why.
fn watch_signals(interrupted: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if interrupted.swap(true, Ordering::AcqRel) {
                // Somebody insists; namespaces and processes are gone already.
                std::process::exit(130);
            }
            tidegate_lab::teardown_all();
        }
    });
    Ok(())
}

fn run(arguments: &Arguments, interrupted: &AtomicBool) -> Result<ExitCode> {
    tidegate_lab::require_root().context("the lab makes network namespaces")?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores >= CORES.len(),
        "the lab needs two cores, one to send and one to measure; here is {cores}"
    );
    let programs = match &arguments.programs {
        Some(programs) => programs.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("this program lies in no folder")?
            .to_owned(),
    };
    let plan = Plan::new(arguments.quick, &arguments.scenarios, arguments.repeats);
    device::programs_are_there(&programs, &plan.scenarios)?;
    fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    tidegate_lab::sweep()?;
    let places = Places {
        programs,
        out: arguments.out.clone(),
    };
    places.forget_failures()?;
    let bench = Bench {
        places,
        generator: arguments.generator,
        napi: arguments.collector,
        probe: true,
    };
    let report = Run::new(bench, plan, interrupted).go()?;
    write(&report, &arguments.out)?;
    print!("{}", table::markdown(&report));
    println!(
        "\nwritten: latest.md, latest.json and latest.svg in {}",
        arguments.out.display()
    );
    Ok(verdict(&report, arguments.gate))
}

/// The three files, whole or not at all: a reader never sees half of one.
fn write(report: &Report, out: &Path) -> Result<()> {
    let files = [
        ("latest.md", table::markdown(report)),
        ("latest.json", serde_json::to_string_pretty(report)? + "\n"),
        ("latest.svg", plot::svg(report)),
    ];
    for (name, text) in files {
        let (draft, file) = (out.join(format!(".{name}")), out.join(name));
        fs::write(&draft, text).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn verdict(report: &Report, gated: bool) -> ExitCode {
    if gated {
        let objections = gate::objections(report);
        for objection in &objections {
            eprintln!("gate: {objection}");
        }
        return if objections.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_MISSED)
        };
    }
    if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
