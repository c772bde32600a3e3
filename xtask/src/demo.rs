//! `cargo xtask demo`: from a fresh machine to live streams through the real appliance, and the proof.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::program::Program;
use crate::{build_ebpf, setup};

const DEMO: Program = Program {
    what: "demo",
    name: "tidegate-demo",
    starts: &["tidegate", "tidegate-gwlb"],
    why_root: "The demo makes network namespaces and loads an XDP program.",
};

/// Flags of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the streams run, in seconds.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub(crate) seconds: u64,
}

/// Prepares and builds, then hands the terminal to the demo itself.
///
/// # Errors
/// When something could not be prepared or built, or a claim of the demo does not hold.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    setup::ensure(root)?;
    build_ebpf::run(root)?;
    let status = DEMO.run(root, &["--seconds".to_owned(), args.seconds.to_string()])?;
    ensure!(
        status.success(),
        "the demo ended with {status}; its logs are in target/demo"
    );
    Ok(())
}
