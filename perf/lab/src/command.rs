//! Running a tool to its end and turning its failure into a readable error.

use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Fails unless the caller is root.
///
/// # Errors
/// [`Error::NotRoot`].
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// [`Error::Spawn`] if it cannot be started, [`Error::Command`] with its standard error if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn {
        command: line.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command {
        command: line,
        status: output.status,
        output: text,
    })
}

/// The command line as a person would type it, for messages.
pub(crate) fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
