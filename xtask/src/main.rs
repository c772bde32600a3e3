//! `cargo xtask`: what a fresh machine needs to build, test, show and check Tidegate. One file per subcommand.
//!
//! The tool itself must build in seconds with a C compiler and nothing else installed, so it has few dependencies and
//! talks to the rest of the machine through commands.
#![forbid(unsafe_code)]

mod bench;
mod build_ebpf;
mod ci;
mod demo;
mod fuzz;
mod instructions;
mod layers;
mod machine;
mod needs;
mod platform;
mod privilege;
mod process;
mod program;
mod rust_text;
mod setup;
mod sources;
mod step;
mod summary;
mod table;
mod test;
mod toolchain;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Project tasks of Tidegate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find what this machine lacks and install it (apt on Debian and Ubuntu), or print the exact commands.
    Setup(setup::Args),
    /// Build the XDP program, its linker included. A second run without changes takes under a second.
    BuildEbpf,
    /// Run live streams through the real appliance in network namespaces, with a table and a closing report.
    Demo(demo::Args),
    /// Measure Tidegate beside what it is compared with, in network namespaces: table, plot and figures.
    Bench(bench::Args),
    /// Run every test there is and say what could not be proven on this machine.
    Test(test::Args),
    /// Run the fuzz targets, each for some time, and say what each did and found.
    Fuzz(fuzz::Args),
    /// Count the instructions of the engine's parts and hold them to their budget.
    Instructions(instructions::Args),
    /// Boot the kernels of Amazon Linux 2023 under emulation, with the namespace tests and a pktgen load in them.
    Vm(vm::Args),
    /// Format, lints and checks of the architecture, then a short demo and the tests.
    Ci(ci::Args),
}

fn main() -> ExitCode {
    match workspace_root().and_then(|root| run(&root, Cli::parse().task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, task: Task) -> Result<()> {
    match task {
        Task::Setup(args) => setup::run(root, &args),
        Task::BuildEbpf => {
            for object in [build_ebpf::run(root)?, build_ebpf::run_lab(root)?] {
                println!("{}", object.display());
            }
            Ok(())
        }
        Task::Demo(args) => demo::run(root, &args),
        Task::Bench(args) => bench::run(root, &args),
        Task::Test(args) => test::run(root, &args),
        Task::Fuzz(args) => fuzz::run(root, &args),
        Task::Instructions(args) => instructions::run(root, &args),
        Task::Vm(args) => vm::run(root, &args),
        Task::Ci(args) => ci::run(root, &args),
    }
}

/// The workspace's root. Cargo tells where this package is now, which a moved checkout's old binary would not know.
fn workspace_root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&package).parent().context("xtask's folder has no parent")?;
    anyhow::ensure!(root.join("Cargo.toml").is_file(), "no workspace at {}", root.display());
    Ok(root.to_path_buf())
}
