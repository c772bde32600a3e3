//! `tidegate check FILE`: is this policy valid, and what does it compile to?

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::io::policy_file::{self, LoadError};

/// The exit code for a policy that is wrong or cannot be read.
const EXIT_INVALID: u8 = 2;

/// Validate a policy and print what it compiles to.
///
/// The files of passphrases and stream keys that it refers to are read and validated, too; nothing of them is shown.
///
/// Exits with 0 if the policy is valid, and with 2 and the errors as FILE:LINE:COLUMN on standard error if it is not.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The policy file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Checks the policy: 0 and what it compiles to on standard output, or 2 and every error on standard error.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string();
    match policy_file::load(&args.file) {
        Ok(policy) => {
            let mut out = io::stdout().lock();
            writeln!(out, "{name} is valid")?;
            write!(out, "{}", policy.describe())?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            match error {
                LoadError::Unreadable { error, .. } => eprintln!("{name}: {error}"),
                LoadError::Invalid(errors) => eprintln!("{errors}"),
            }
            Ok(ExitCode::from(EXIT_INVALID))
        }
    }
}
