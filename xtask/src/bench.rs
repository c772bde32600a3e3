//! `cargo xtask bench`: the load lab. Prepares and builds, then hands the terminal to the lab itself.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::program::Program;
use crate::{build_ebpf, setup};

const LAB: Program = Program {
    what: "lab",
    name: "tidegate-bench",
    starts: &["tidegate", "tidegate-forward"],
    why_root: "The lab makes network namespaces and loads XDP programs.",
};
/// Where the lab writes, and where a run is kept that README shows.
const WRITTEN: &str = "target/bench";
const KEPT: &str = "perf/bench/results";
/// The name of what is kept: the link that was measured.
const NAME: &str = "veth";
/// What the lab says when targets were missed.
const EXIT_MISSED: i32 = 3;

/// Flags of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Finish within three minutes once everything is built: short windows, few repeats.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure this scenario alone; may be given several times.
    #[arg(long = "scenario", value_name = "NAME")]
    pub(crate) scenarios: Vec<String>,
    /// Repeats of every scenario.
    #[arg(long, value_name = "N")]
    pub(crate) repeats: Option<u32>,
    /// How packets are made: in the kernel, or by an AF_XDP socket.
    #[arg(long, value_name = "HOW", default_value = "kernel", value_parser = ["kernel", "af-xdp"])]
    pub(crate) generator: String,
    /// Where returned packets are collected: on the appliance's core, as they are sent, or in a thread on the generator's.
    #[arg(long, value_name = "WHERE", default_value = "sender", value_parser = ["sender", "thread"])]
    pub(crate) collector: String,
    /// Fail unless every target is met; a run too noisy to judge fails too.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Keep table, plot and figures in perf/bench/results, where README shows them from; of whole runs alone.
    #[arg(long, conflicts_with_all = ["quick", "scenarios"])]
    pub(crate) record: bool,
}

impl Args {
    /// The same flags for the lab's program.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--generator", &self.generator, "--collector", &self.collector];
        for scenario in &self.scenarios {
            arguments.extend(["--scenario", scenario]);
        }
        let repeats = self.repeats.map(|repeats| repeats.to_string());
        if let Some(repeats) = &repeats {
            arguments.extend(["--repeats", repeats]);
        }
        for (given, flag) in [(self.quick, "--quick"), (self.gate, "--gate")] {
            arguments.extend(given.then_some(flag));
        }
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// Prepares and builds, then runs the lab.
///
/// # Errors
/// When something could not be prepared, built or measured, or a target is missed that was asked for.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::ensure(root)?;
    build_ebpf::run(root)?;
    build_ebpf::run_lab(root)?;
    let status = LAB.run(root, &args.arguments())?;
    match status.code() {
        Some(0) if args.record => record(&root.join(WRITTEN), &root.join(KEPT)),
        Some(0) => Ok(()),
        Some(EXIT_MISSED) => bail!("the gate is closed; the reasons are above, the figures in target/bench"),
        _ => bail!("the lab ended with {status}; its logs are in target/bench"),
    }
}

/// Copies a run's table, plot and figures to where they are kept.
fn record(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for kind in ["md", "svg", "json"] {
        let (written, kept) = (from.join(format!("latest.{kind}")), to.join(format!("{NAME}.{kind}")));
        fs::copy(&written, &kept)
            .with_context(|| format!("cannot copy {} to {}", written.display(), kept.display()))?;
        println!("kept: {}", kept.display());
    }
    println!("README's tables of this run are copied from {NAME}.md and calculated from {NAME}.json by hand");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_run_is_all_three_files_or_an_error() {
        let folder = std::env::temp_dir().join(format!("tidegate-record-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(&from).unwrap();
        for kind in ["md", "svg"] {
            fs::write(from.join(format!("latest.{kind}")), kind).unwrap();
        }
        let lacking = record(&from, &to);
        fs::write(from.join("latest.json"), "json").unwrap();
        let whole = record(&from, &to);
        let kept = ["md", "svg", "json"].map(|kind| fs::read_to_string(to.join(format!("{NAME}.{kind}"))).ok());
        fs::remove_dir_all(&folder).unwrap();
        assert!(format!("{:#}", lacking.unwrap_err()).contains("latest.json"));
        assert!(whole.is_ok());
        assert_eq!(kept.map(Option::unwrap_or_default), ["md", "svg", "json"]);
    }

    #[test]
    fn every_flag_is_handed_on() {
        let args = Args {
            quick: true,
            scenarios: vec!["any".to_owned(), "xdp-tx".to_owned()],
            repeats: Some(3),
            generator: "af-xdp".to_owned(),
            collector: "thread".to_owned(),
            gate: true,
            record: false,
        };
        let wanted =
            "--generator af-xdp --collector thread --scenario any --scenario xdp-tx --repeats 3 --quick --gate";
        assert_eq!(args.arguments().join(" "), wanted);
    }
}
