//! Loading a policy: its file, and the files of secrets that it refers to. `run`, `inspect` and `check` all load here, so that
//! what `check` calls sound is what the others take.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::secrets;
use crate::policy::{self, Policy, PolicyErrors};

/// Why a policy cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The policy's own file cannot be read.
    #[error("cannot read the policy {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The policy, or a file that it refers to, is wrong; one line per error, each with its place and remedy.
    #[error("{0}")]
    Invalid(PolicyErrors),
}

impl LoadError {
    /// Each error by itself, as events tell them.
    pub fn each(&self) -> Vec<String> {
        match self {
            LoadError::Unreadable { error, .. } => vec![error.to_string()],
            LoadError::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads, parses and validates the policy in a file, with the secrets it refers to. Relative paths in it start where it lies.
///
/// # Errors
/// The file cannot be read; or all that is wrong with it, or else with the files it refers to.
pub fn load(path: &Path) -> Result<Policy, LoadError> {
    let text = read(path).map_err(|error| LoadError::Unreadable {
        file: path.to_owned(),
        error,
    })?;
    let policy = policy::parse_bytes(&path.display().to_string(), &text).map_err(LoadError::Invalid)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    policy
        .with_secrets(&mut |file| {
            let place = folder.join(file.path());
            secrets::read(&place, file.max_bytes()).map_err(|error| error.told(&place))
        })
        .map_err(LoadError::Invalid)
}

/// The file's bytes; of one that is too large just enough for the policy to be refused.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(policy::MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}
