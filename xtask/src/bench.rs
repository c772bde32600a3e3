//! `cargo xtask bench`: the load lab. Prepares and builds, then hands the terminal to the lab itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::privilege::{self, Privilege};
use crate::step::Step;
use crate::{build_ebpf, setup};

/// A release build of everything, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);
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
    fn forward(&self, command: &mut Command) {
        command.args(["--generator", &self.generator, "--collector", &self.collector]);
        for scenario in &self.scenarios {
            command.args(["--scenario", scenario]);
        }
        if let Some(repeats) = self.repeats {
            command.args(["--repeats", &repeats.to_string()]);
        }
        for (given, flag) in [(self.quick, "--quick"), (self.gate, "--gate")] {
            if given {
                command.arg(flag);
            }
        }
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
    Step::new(root, "build the lab")
        .limit(BUILD_LIMIT)
        .remedy("see the first error in the log")
        .run(
            Command::new("cargo")
                .current_dir(root)
                .args(["build", "--release", "--locked"])
                .args([
                    "--package=tidegate",
                    "--package=tidegate-forward",
                    "--package=tidegate-bench",
                ]),
        )?;
    let program = root.join("target/release/tidegate-bench");
    let mut lab = match privilege::acquire() {
        Privilege::Root => Command::new(&program),
        Privilege::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "--"]).arg(&program);
            sudo
        }
        Privilege::None => {
            println!("The lab makes network namespaces and loads XDP programs. Everything is built; run it with:");
            println!("  sudo {}", program.display());
            bail!("not root, and sudo gives no root without somebody to ask");
        }
    };
    args.forward(&mut lab);
    // It shares this terminal and its process group: Ctrl-C reaches it directly, and it cleans up by itself.
    let status = lab
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
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
        let mut command = Command::new("lab");
        args.forward(&mut command);
        let given: Vec<_> = command
            .get_args()
            .map(|text| text.to_string_lossy().into_owned())
            .collect();
        let wanted =
            "--generator af-xdp --collector thread --scenario any --scenario xdp-tx --repeats 3 --quick --gate";
        assert_eq!(given.join(" "), wanted);
    }
}
