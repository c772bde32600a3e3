//! `tidegate check FILE`: is this policy valid, and what does it compile to?

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::policy;

/// The exit code for a policy that is wrong or cannot be read.
const EXIT_INVALID: u8 = 2;

/// Validate a policy and print what it compiles to.
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
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{name}: {error}");
            return Ok(ExitCode::from(EXIT_INVALID));
        }
    };
    match policy::parse_bytes(&name, &bytes) {
        Ok(policy) => {
            let mut out = io::stdout().lock();
            writeln!(out, "{name} is valid")?;
            write!(out, "{}", policy.describe())?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Ok(ExitCode::from(EXIT_INVALID))
        }
    }
}

/// The file's bytes; of one that is too large just enough for the policy to be refused.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(policy::MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}
