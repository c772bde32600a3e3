//! `cargo xtask ci`: everything a change has to pass, cheap checks first, and how long each took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::step::{Step, elapsed};
use crate::toolchain::TARGET;
use crate::{build_ebpf, demo, instructions, machine, setup, sources, table, test};

/// How long the demo runs here.
const DEMO_SECONDS: u64 = 8;

/// Flags of `cargo xtask ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// All but the tests, for a caller who runs `cargo xtask test` next.
    #[arg(long)]
    no_tests: bool,
}

/// Runs every check, also after one has failed, and says at the end which took how long.
///
/// # Errors
/// When a check failed, or the machine could not be prepared.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let mut checks = Checks::default();
    checks.run("setup", || setup::ensure(root));
    checks.run("format", || format(root));
    checks.run("house rules", || house_rules(root));
    // Without its tools nothing below can work, and each would only say so again.
    if checks.failed("setup") {
        return checks.close();
    }
    checks.run("XDP program", || build_ebpf::run(root).map(drop));
    checks.run("load lab's XDP programs", || build_ebpf::run_lab(root).map(drop));
    checks.run("clippy", || clippy(root));
    checks.run("engine and policy alone", || pure_library(root));
    checks.run("instructions", || {
        instructions::run(root, &instructions::Args::default())
    });
    checks.run("demo", || short_demo(root));
    if !args.no_tests {
        // Last, so that its closing line is the last thing before the times.
        checks.run("tests", || test::run(root, &test::Args::default()));
    }
    checks.close()
}

/// What was run, how it went, how long it took.
#[derive(Default)]
struct Checks {
    done: Vec<(&'static str, Duration, Result<()>)>,
}

impl Checks {
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let started = Instant::now();
        let result = check();
        if let Err(error) = &result {
            println!("{name}: {error:#}");
        }
        self.done.push((name, started.elapsed(), result));
    }

    fn failed(&self, name: &str) -> bool {
        self.done
            .iter()
            .any(|(done, _, result)| *done == name && result.is_err())
    }

    fn close(self) -> Result<()> {
        let row = |(name, time, result): &(&str, Duration, Result<()>)| {
            let verdict = if result.is_ok() { "ok" } else { "FAILED" };
            vec![(*name).to_owned(), verdict.to_owned(), elapsed(*time)]
        };
        let mut rows: Vec<_> = self.done.iter().map(row).collect();
        let total = self.done.iter().map(|(_, time, _)| *time).sum();
        rows.push(vec!["all".to_owned(), String::new(), elapsed(total)]);
        println!("\n{}", table::render(&["check", "result", "time"], &rows));
        let failed: Vec<&str> = self
            .done
            .iter()
            .filter(|(.., result)| result.is_err())
            .map(|(name, ..)| *name)
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            bail!("failed: {}", failed.join(", "))
        }
    }
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

fn format(root: &Path) -> Result<()> {
    let remedy = "cargo fmt --all";
    Step::new(root, "rustfmt")
        .remedy(remedy)
        .run(cargo(root).args(["fmt", "--all", "--check", "--", "--color", "never"]))?;
    let ebpf = root.join("appliance-ebpf/Cargo.toml");
    if ebpf.is_file() {
        let remedy = "cargo fmt --manifest-path appliance-ebpf/Cargo.toml";
        let mut command = cargo(root);
        command
            .args(["fmt", "--manifest-path"])
            .arg(&ebpf)
            .args(["--check", "--", "--color", "never"]);
        Step::new(root, "rustfmt of the XDP program")
            .remedy(remedy)
            .run(&mut command)?;
    }
    Ok(())
}

fn house_rules(root: &Path) -> Result<()> {
    let findings = sources::check(root)?;
    findings.notes.iter().for_each(|note| println!("note: {note}"));
    findings.errors.iter().for_each(|error| println!("{error}"));
    if findings.errors.is_empty() {
        println!("house rules: ok");
        return Ok(());
    }
    bail!("{} places break the rules", findings.errors.len())
}

fn clippy(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    Step::new(root, "clippy of the workspace")
        .remedy("put right what clippy names")
        .run(&mut command)?;
    clippy_of_the_program(root)
}

/// Clippy over the XDP program, which needs a core for BPF that clippy's own compiler can read: one built from sources.
fn clippy_of_the_program(root: &Path) -> Result<()> {
    let program = root.join("appliance-ebpf");
    if !program.is_dir() {
        return Ok(());
    }
    if !machine::active_has_rust_src() {
        println!("note: clippy does not see the XDP program here: that takes rustup component add rust-src");
        return Ok(());
    }
    let mut command = cargo(&program);
    command.args([
        "clippy",
        "--locked",
        "--release",
        "--target",
        TARGET,
        "-Z",
        "build-std=core",
    ]);
    command.args(["--target-dir", "target/clippy", "--", "-D", "warnings"]);
    // As build-ebpf does: build-std and inline assembly for BPF are not stable yet.
    command.env("RUSTC_BOOTSTRAP", "1");
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    command.env("CARGO_ENCODED_RUSTFLAGS", architecture);
    Step::new(root, "clippy of the XDP program")
        .remedy("put right what clippy names")
        .run(&mut command)
}

fn pure_library(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args(["check", "-p", "tidegate", "--lib", "--no-default-features", "--locked"]);
    let remedy = "engine and policy may need nothing that only the appliance has";
    Step::new(root, "check without the appliance")
        .remedy(remedy)
        .run(&mut command)
}

fn short_demo(root: &Path) -> Result<()> {
    if !root.join("perf/demo/src/main.rs").is_file() {
        println!("demo: not part of this tree yet");
        return Ok(());
    }
    demo::run(root, &demo::Args { seconds: DEMO_SECONDS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_all_and_does_not_stop_the_others() {
        let mut checks = Checks::default();
        checks.run("first", || bail!("no"));
        checks.run("second", || Ok(()));
        assert!(checks.failed("first") && !checks.failed("second") && !checks.failed("third"));
        assert_eq!(checks.close().unwrap_err().to_string(), "failed: first");
    }

    #[test]
    fn checks_that_pass_pass() {
        let mut checks = Checks::default();
        checks.run("only", || Ok(()));
        assert!(checks.close().is_ok());
    }
}
