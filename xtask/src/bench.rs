//! `cargo xtask bench`: the load lab. Prepares and builds, then hands the terminal to the lab itself.

use std::path::Path;

use anyhow::{Result, bail};

use crate::program::Program;
use crate::{build_ebpf, setup};

const LAB: Program = Program {
    what: "lab",
    name: "tidegate-bench",
    starts: &["tidegate", "tidegate-forward"],
    why_root: "The lab makes network namespaces and loads XDP programs.",
};
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
        Some(0) => Ok(()),
        Some(EXIT_MISSED) => bail!("the gate is closed; the reasons are above, the figures in target/bench"),
        _ => bail!("the lab ended with {status}; its logs are in target/bench"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_handed_on() {
        let args = Args {
            quick: true,
            scenarios: vec!["any".to_owned(), "xdp-tx".to_owned()],
            repeats: Some(3),
            generator: "af-xdp".to_owned(),
            collector: "thread".to_owned(),
            gate: true,
        };
        let wanted =
            "--generator af-xdp --collector thread --scenario any --scenario xdp-tx --repeats 3 --quick --gate";
        assert_eq!(args.arguments().join(" "), wanted);
    }
}
