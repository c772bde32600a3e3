//! `cargo xtask demo`: from a fresh machine to live streams through the real appliance, and the proof.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::privilege::{self, Privilege};
use crate::step::Step;
use crate::{build_ebpf, setup};

/// A release build of everything, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

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
    Step::new(root, "build the demo")
        .limit(BUILD_LIMIT)
        .remedy("see the first error in the log")
        .run(
            Command::new("cargo")
                .current_dir(root)
                .args(["build", "--release", "--locked"])
                .args([
                    "--package=tidegate",
                    "--package=tidegate-gwlb",
                    "--package=tidegate-demo",
                ]),
        )?;
    let program = root.join("target/release/tidegate-demo");
    let mut demo = match privilege::acquire() {
        Privilege::Root => Command::new(&program),
        Privilege::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "--"]).arg(&program);
            sudo
        }
        Privilege::None => {
            println!("The demo makes network namespaces and loads an XDP program. Everything is built; run it with:");
            println!("  sudo {} --seconds {}", program.display(), args.seconds);
            bail!("not root, and sudo gives no root without somebody to ask");
        }
    };
    // The demo shares this terminal and its process group: Ctrl-C reaches it directly, and it cleans up by itself.
    let status = demo
        .current_dir(root)
        .args(["--seconds", &args.seconds.to_string()])
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        status.success(),
        "the demo ended with {status}; its logs are in target/demo"
    );
    Ok(())
}
