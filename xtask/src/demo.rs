//! The demo: live streams through the real appliance.

use std::path::Path;

use anyhow::{Result, bail};

/// Flags of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the streams run, in seconds.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) seconds: u64,
}

/// Runs the demo.
///
/// # Errors
/// Always: the demo is not part of this tree yet.
pub(crate) fn run(_root: &Path, args: &Args) -> Result<()> {
    bail!("the demo ({} s asked for) is not part of this tree yet", args.seconds)
}
