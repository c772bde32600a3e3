//! `cargo xtask test`: from a fresh machine to the result of every test, and what this machine could not prove.
//!
//! Tests run under plain `cargo test`. Those of the datapath make namespaces and load XDP programs, so the test binaries run
//! as root: this process's own, or through sudo as cargo's runner. Nothing is ever built as root through sudo.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::privilege::{self, Privilege};
use crate::process::ask;
use crate::step::{self, Step, tail};
use crate::summary::{self, Summary};
use crate::{build_ebpf, setup};

/// Building everything, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Running everything; a test that hangs ends here.
const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Tests of the datapath use namespaces of their own, so two at a time do not meet; more would starve each other's clocks.
const TEST_THREADS: &str = "--test-threads=2";
/// How much of the tests' own words is shown when some failed.
const FAILURE_LINES: usize = 120;
/// What no machine without such hardware can prove, whatever the tests say.
const NEVER_PROVEN_HERE: &str =
    "a real network card's zero-copy and native XDP: the tests run on veth, which has no zero-copy";

/// Flags of `cargo xtask test`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run only the tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Take the machine as it is, and the XDP program as it was built last.
    #[arg(long)]
    no_setup: bool,
}

/// Prepares, builds, runs and sums up. Prints `N passed, N failed, N skipped` as its last line.
///
/// # Errors
/// When something could not be prepared or built, when a test failed, or when none ran.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    if !args.no_setup {
        setup::ensure(root)?;
        step::timed("XDP program", || build_ebpf::run(root))?;
        step::timed("load lab's XDP programs", || build_ebpf::run_lab(root))?;
    }
    let mut build = cargo(root, args);
    Step::new(root, "build the tests")
        .limit(BUILD_LIMIT)
        .remedy("see the first error in the log")
        .run(build.arg("--no-run"))?;

    let mut command = cargo(root, args);
    run_as_root(&mut command)?;
    command
        .args(["--no-fail-fast", "--"])
        .args(&args.filter)
        .args(["--show-output", TEST_THREADS]);
    let step = Step::new(root, "run the tests").limit(RUN_LIMIT).show(is_worth_showing);
    let outcome = step.attempt(&mut command)?;
    let text = fs::read(&outcome.log).with_context(|| format!("cannot read {}", outcome.log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let summary = summary::parse(&text);
    report(&summary, &text, &setup::kernel_limits(root));
    let verdict = judge(&summary, outcome.ok(), args.filter.as_deref());
    println!("\n{}", summary.line());
    verdict
}

fn cargo(root: &Path, args: &Args) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["test", "--workspace", "--locked"]);
    if args.filter.is_some() {
        // Doc-tests take most of the time of a filtered run, and have no names to filter by.
        command.arg("--all-targets");
    }
    command
}

/// Lets cargo start the test binaries through sudo when this is not root.
fn run_as_root(command: &mut Command) -> Result<()> {
    match privilege::acquire() {
        Privilege::Root => Ok(()),
        Privilege::Sudo => {
            let version = ask(Command::new("rustc").arg("-vV")).context("cannot ask rustc for its version")?;
            command.env(
                runner_variable(host(&version).context("rustc does not tell its host")?),
                "sudo -n -E",
            );
            Ok(())
        }
        Privilege::None => {
            println!("The tests of the datapath need root: they make network namespaces and load XDP programs.");
            println!(
                "Everything is built. Run them with:\n  sudo -E env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask test --no-setup"
            );
            bail!("not root, and sudo does not give root without asking");
        }
    }
}

/// The host triple in `rustc -vV`.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

/// The environment variable that tells cargo how to start a target's binaries.
fn runner_variable(triple: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"))
}

/// Lines of `cargo test` that a waiting reader wants: which binary runs, how it ended, what failed.
fn is_worth_showing(line: &str) -> bool {
    summary::started(line).is_some()
        || summary::result(line).is_some()
        || line.starts_with("test ") && line.ends_with("FAILED")
}

fn report(summary: &Summary, output: &str, kernel_limits: &[String]) {
    if summary.failed > 0 {
        println!("\n{}", tail(&failure_texts(output), FAILURE_LINES));
        summary.failures.iter().for_each(|name| println!("failed: {name}"));
        summary
            .broken
            .iter()
            .for_each(|name| println!("ended without a result: {name}"));
    }
    println!("\nNot proven on this machine:");
    let said = summary.unproven.iter().chain(kernel_limits);
    said.map(String::as_str)
        .chain([NEVER_PROVEN_HERE])
        .for_each(|what| println!("  {what}"));
}

/// What the failed tests printed: the blocks behind `failures:`, of all binaries.
fn failure_texts(output: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in output.lines() {
        inside = match line {
            "failures:" => true,
            _ if summary::started(line).is_some() || summary::result(line).is_some() => false,
            _ => inside,
        };
        if inside && line != "failures:" && !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn judge(summary: &Summary, cargo_ok: bool, filter: Option<&str>) -> Result<()> {
    if summary.failed > 0 {
        bail!("{} of {} tests failed", summary.failed, summary.passed + summary.failed);
    }
    if !cargo_ok {
        bail!("cargo test failed though no test did; see target/logs/run-the-tests.log");
    }
    match filter {
        _ if summary.passed > 0 => Ok(()),
        Some(filter) => bail!("no test has {filter} in its name"),
        None => bail!("no test ran"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../tests/cargo-test-output.txt");

    #[test]
    fn the_runner_variable_is_cargos() {
        let host = host("rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n").unwrap();
        assert_eq!(runner_variable(host), "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER");
    }

    #[test]
    fn a_waiting_reader_sees_binaries_results_and_failures_only() {
        let shown: Vec<&str> = REAL.lines().filter(|line| is_worth_showing(line)).collect();
        assert_eq!(shown.len(), 4 + 3 + 3, "{shown:#?}");
    }

    #[test]
    fn failed_tests_are_shown_with_their_words_and_passing_ones_are_not() {
        let text = failure_texts(REAL);
        assert!(text.contains("about to") && text.contains("assertion `left == right` failed"));
        assert!(!text.contains("some noise") && !text.contains("test result"));
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_a_success() {
        let summary = |passed, failed| Summary {
            passed,
            failed,
            ..Summary::default()
        };
        assert!(judge(&summary(3, 0), true, None).is_ok());
        assert!(judge(&summary(3, 0), false, None).is_err());
        assert!(judge(&summary(3, 1), false, None).is_err());
        assert!(judge(&summary(0, 0), true, None).is_err());
        assert!(
            judge(&summary(0, 0), true, Some("x"))
                .unwrap_err()
                .to_string()
                .contains('x')
        );
    }
}
