//! The command line: one file for each subcommand.

pub mod check;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Inline guard for live video behind an AWS Gateway Load Balancer.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::CheckArgs),
}

/// Runs the subcommand that the arguments name.
///
/// # Errors
/// What the subcommand could not do, for `main` to print.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Check(args) => check::run(&args),
    }
}
