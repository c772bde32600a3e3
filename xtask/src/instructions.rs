//! `cargo xtask instructions`: what the engine's parts take in instructions, against their budget.
//!
//! Counting, judging and the budget's file are `perf/instructions`' own business; here it is built as the product is, without
//! what valgrind does not take, and run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::needs::Group;
use crate::setup;
use crate::step::Step;

/// A release build of the engine and its fixtures, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Flags of `cargo xtask instructions`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Make what is counted now the budget.
    #[arg(long)]
    update: bool,
}

/// Builds and counts.
///
/// # Errors
/// When valgrind is missing, the build fails, or a part takes more than its budget allows.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::ensure_with(root, &[Group::Measure])?;
    Step::new(root, "build the parts to count")
        .limit(BUILD_LIMIT)
        .remedy("see the first error in the log")
        .run(cargo(root).args(["build", "--release", "--locked", "--package=tidegate-instructions"]))?;
    let mut count = cargo(root);
    count.args([
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package=tidegate-instructions",
        "--",
    ]);
    if args.update {
        count.arg("--update");
    }
    let status = count.status().context("cannot start cargo")?;
    ensure!(
        status.success(),
        "a part takes more instructions than its budget allows. Make it take fewer; where it has to take them, say so with \
         cargo xtask instructions --update"
    );
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}
