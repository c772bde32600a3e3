//! The command line: one file for each subcommand.

pub mod check;
pub mod detach;
pub mod inspect;
pub mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for what the operator has to put right: a flag, a policy, an interface, a privilege.
pub const EXIT_REFUSED: u8 = 2;

/// Inline guard for live video behind an AWS Gateway Load Balancer.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Detach(detach::DetachArgs),
    Check(check::CheckArgs),
    Inspect(inspect::InspectArgs),
}

/// Runs the subcommand that the arguments name.
///
/// # Errors
/// What the subcommand could not do, for `main` to print.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Detach(args) => detach::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// Logs go to standard error; `RUST_LOG` chooses what, `info` unless it says otherwise.
fn log_to_stderr() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Fails only if a subscriber is set already, which then serves.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
