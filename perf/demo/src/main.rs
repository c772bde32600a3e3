//! The demo: live streams through the real appliance between four network namespaces, and the proof that all of it is true.
//!
//! One stream over RTP, one over encrypted SRT, one from a source that no rule lists, one with continuity faults put in on
//! purpose. A table follows them while they run; at the end every claim is checked against what was sent, what arrived and
//! what was counted, and the exit code says whether all of them hold.
#![forbid(unsafe_code)]

mod checks;
mod feeder;
mod http;
mod picture;
mod receiver;
mod scene;
mod table;
mod tap;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::checks::Outcome;
use crate::scene::Scene;
use crate::table::Table;

/// Live streams through the appliance in network namespaces, with a proof at the end.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How long the streams run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
    /// Where logs, captures, received streams and report.json go.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Where the programs `tidegate` and `gwlb` are; by default beside this one.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Draw the output of a run that is in this file as SVG to standard output, and do nothing else.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
}

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            eprintln!("demo: cannot watch for signals: {error}");
            return ExitCode::from(2);
        }
    }
    let arguments = Arguments::parse();
    if let Some(printed) = &arguments.draw {
        return match std::fs::read_to_string(printed) {
            Ok(printed) => {
                print!("{}", picture::svg(&printed));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("demo: cannot read {}: {error}", printed.display());
                ExitCode::from(2)
            }
        };
    }
    match run(&arguments, &interrupted) {
        Ok(outcome) if outcome.all_hold() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Outcome> {
    tidegate_lab::require_root().context("the demo makes network namespaces")?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let programs = match &arguments.programs {
        Some(programs) => programs.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("this program lies in no folder")?
            .to_owned(),
    };
    tidegate_lab::sweep()?;
    println!("building four namespaces: source, gwlb, appliance, sink");
    let scene = Scene::set(&programs, &arguments.out, arguments.seconds)?;
    println!(
        "tidegate is sound, the load balancer sends; {} s of live streams\n",
        arguments.seconds
    );

    let mut table = Table::new();
    let end = Instant::now() + Duration::from_secs(arguments.seconds + 1);
    while Instant::now() < end {
        if interrupted.load(Ordering::Acquire) {
            bail!("interrupted; everything is cleaned up");
        }
        std::thread::sleep(Duration::from_millis(250));
        scene.check_alive()?;
        table.refresh(&scene)?;
    }
    table.finish(&scene)?;
    println!("\nthe senders are done; waiting for the last packets and the judge");
    let finale = scene.finish(interrupted)?;
    let outcome = checks::judge(&finale)?;
    outcome.print();
    let path = arguments.out.join("report.json");
    let report = serde_json::to_string_pretty(&outcome.to_json(arguments.seconds, &finale))?;
    std::fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "\nreport: {}   logs, captures and streams: {}",
        path.display(),
        arguments.out.display()
    );
    Ok(outcome)
}
