//! Building the XDP program.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Builds the XDP program and returns the path of its object file.
///
/// # Errors
/// Always: the program's sources are not part of this tree yet.
pub(crate) fn run(_root: &Path) -> Result<PathBuf> {
    bail!("the XDP program is not part of this tree yet")
}
