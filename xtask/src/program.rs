//! A program of this workspace that is built for release and then handed the terminal, as root: the demo, the load lab.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::privilege::{self, Privilege};
use crate::process;
use crate::step::Step;

/// A release build of everything, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// A program, and what goes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// What it is called: `build the NAME`.
    pub(crate) what: &'static str,
    /// Its package, and its file.
    pub(crate) name: &'static str,
    /// Packages whose programs it starts.
    pub(crate) starts: &'static [&'static str],
    /// A sentence on what it does that takes root.
    pub(crate) why_root: &'static str,
}

impl Program {
    /// Builds it with what it starts, runs it in the workspace's root and returns how it ended.
    ///
    /// # Errors
    /// When it cannot be built or started, or there is no root to be had: then the command to type has been printed.
    pub(crate) fn run(&self, root: &Path, arguments: &[String]) -> Result<ExitStatus> {
        let packages = self.starts.iter().chain([&self.name]);
        Step::new(root, &format!("build the {}", self.what))
            .limit(BUILD_LIMIT)
            .remedy("see the first error in the log")
            .run(
                Command::new("cargo")
                    .current_dir(root)
                    .args(["build", "--release", "--locked"])
                    .args(packages.map(|package| format!("--package={package}"))),
            )?;
        let file = root.join("target/release").join(self.name);
        let mut sudo = Command::new("sudo");
        let mut command = match privilege::acquire() {
            Privilege::Root => Command::new(&file),
            Privilege::Sudo => {
                sudo.args(["-n", "--"]).arg(&file);
                sudo
            }
            Privilege::None => {
                sudo.arg(&file).args(arguments);
                println!("{} Everything is built; run it with:", self.why_root);
                println!("  {}", process::line(&sudo));
                bail!("not root, and sudo gives no root without somebody to ask");
            }
        };
        // It shares this terminal and its process group: Ctrl-C reaches it directly, and it cleans up by itself.
        command
            .current_dir(root)
            .args(arguments)
            .status()
            .with_context(|| format!("cannot start {}", file.display()))
    }
}
