//! `cargo xtask vm`: the datapath on the kernels it will run on. Boots Debian's builds of the 6.1 and 6.12 lines, those of Amazon
//! Linux 2023, under qemu's emulation, with virtio cards, and runs there the tests that need namespaces and a pktgen
//! load through the real appliance.
//!
//! Emulation is slow and its speed means nothing: what is asserted is what holds on any machine. Nothing is installed but
//! qemu and what builds a guest's file system; kernels are unpacked below `target/vm/`.

mod image;
mod kernel;
mod modules;
mod packages;
mod plan;
mod qemu;
mod serial;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::needs::Group;
use crate::step::{self, Step, elapsed, tail};
use crate::{build_ebpf, setup, table};
use kernel::Line;
use serial::Report;

/// Building the binaries, from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How much of the console is shown when the guest died.
const CONSOLE_LINES: usize = 40;

/// Flags of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which kernel line to boot.
    #[arg(long, value_enum, default_value_t = Choice::All)]
    kernel: Choice,
    /// What the guest's processor is. `kvm` needs a machine that offers it and a kernel that boots with it.
    #[arg(long, value_enum, default_value_t = qemu::Accel::Tcg)]
    accel: qemu::Accel,
    /// Run only this in the guest: a test binary's name, or `load`.
    #[arg(long, value_name = "RUN", value_parser = plan::names())]
    only: Option<String>,
    /// Print the whole console of every boot, not only what failed. It is kept in target/logs either way.
    #[arg(long)]
    keep_log: bool,
}

/// A kernel line, or every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    All,
}

impl Choice {
    fn lines(self) -> &'static [Line] {
        match self {
            Self::V6_1 => &[Line::V6_1],
            Self::V6_12 => &[Line::V6_12],
            Self::All => &[Line::V6_1, Line::V6_12],
        }
    }
}

/// Prepares, builds, boots each kernel and sums up. Prints `N passed, N failed` as its last line.
///
/// # Errors
/// When qemu or a kernel cannot be had (what to install has been said), a guest did not come to its end, or something failed in it.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    anyhow::ensure!(
        std::env::consts::ARCH == "x86_64",
        "the guests are x86_64 and so are the binaries they run; this machine is {}",
        std::env::consts::ARCH
    );
    setup::ensure_with(root, &[Group::Vm])?;
    step::timed("XDP program", || build_ebpf::run(root))?;
    let base = build(root)?;
    let mut reports = Vec::new();
    for line in args.kernel.lines() {
        let report = one(root, *line, args, &base).with_context(|| format!("Linux {}", line.name()));
        if let Err(error) = &report {
            println!("{error:#}");
        }
        reports.push((*line, report));
    }
    conclude(&reports)
}

/// Boots one kernel and reads what it said.
fn one(root: &Path, line: Line, args: &Args, base: &image::Base) -> Result<Report> {
    let kernel = kernel::fetch(root, line)?;
    let image = image::build(root, &kernel, base, &plan::text(line, args.only.as_deref()))?;
    let name = format!("boot {}", line.name());
    let step = Step::new(root, &name)
        .limit(plan::BOOT_LIMIT)
        .show(serial::is_worth_showing);
    let begun = Instant::now();
    let outcome = step.attempt(&mut qemu::command(&kernel.image, &image, args.accel))?;
    let whole = begun.elapsed();
    let text = std::fs::read(&outcome.log).with_context(|| format!("cannot read {}", outcome.log.display()))?;
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    if args.keep_log {
        println!("{text}");
    }
    let report = serial::parse(&text);
    if let Some(why) = report.died() {
        println!("{}", tail(&text, CONSOLE_LINES));
        bail!("the guest {why}");
    }
    for failed in report.runs.iter().filter(|run| !run.ok()) {
        println!(
            "--- {} failed ({}):\n{}",
            failed.name,
            failed.ending(),
            tail(&failed.output, CONSOLE_LINES)
        );
    }
    println!("{}", tabulate(line, &kernel.release, &report, whole));
    Ok(report)
}

/// Builds the appliance and the test binaries that go into the guests.
fn build(root: &Path) -> Result<image::Base> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["test", "--package", "tidegate", "--locked", "--release", "--no-run"]);
    for group in plan::TESTS {
        command.args(["--test", group.binary]);
    }
    let step = Step::new(root, "build for the guest").limit(BUILD_LIMIT);
    let outcome = step.attempt(&mut command)?;
    let text =
        std::fs::read_to_string(&outcome.log).with_context(|| format!("cannot read {}", outcome.log.display()))?;
    if !outcome.ok() {
        println!("{}", tail(&text, CONSOLE_LINES));
        bail!("the tests do not build");
    }
    image::Base::build(root, &text)
}

/// What ran, how it ended and how long it took, and where the guest's time went.
fn tabulate(line: Line, release: &str, report: &Report, whole: Duration) -> String {
    let row = |run: &serial::Run| {
        let counts = run.tests();
        vec![
            run.name.clone(),
            run.ending(),
            format!("{} passed, {} failed", counts.passed, counts.failed),
            elapsed(run.took),
        ]
    };
    let rows: Vec<_> = report.runs.iter().map(row).collect();
    let mut text = format!("\nLinux {release}\n");
    text.push_str(&table::render(&["in the guest", "result", "of which", "time"], &rows));
    for fact in report.facts() {
        text.push_str(&format!("\n  {fact}"));
    }
    let left_out = plan::left_out(line).count();
    text.push_str(&format!(
        "\n  left out: {left_out} tests, with the reason of each in xtask/src/vm/plan.rs"
    ));
    for what in report.unproven() {
        text.push_str(&format!("\n  not proven: {what}"));
    }
    text.push_str(&format!("\n  time: {}", times(report, whole)));
    text
}

/// Where a guest's time went, in one line. Its own clock starts with its kernel; what is before is the rest.
fn times(report: &Report, whole: Duration) -> String {
    let at = |time: Option<Duration>| time.unwrap_or_default();
    let (kernel, modules, end) = (at(report.started), at(report.booted), at(report.done));
    let parts = [
        ("before the kernel", whole.saturating_sub(end)),
        ("kernel", kernel),
        ("modules", modules.saturating_sub(kernel)),
        ("tests and load, two at a time", end.saturating_sub(modules)),
    ];
    let parts: Vec<String> = parts
        .iter()
        .map(|(name, time)| format!("{name} {}", elapsed(*time)))
        .collect();
    format!("{} in all: {}", elapsed(whole), parts.join(", "))
}

/// The closing line over all kernels, and the verdict.
fn conclude(reports: &[(Line, Result<Report>)]) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    for (_, report) in reports {
        match report {
            Ok(report) => {
                let (p, f) = report.totals();
                passed += p;
                failed += f;
            }
            // A guest that could not be had or did not come to its end is one failure, whatever it had printed by then.
            Err(_) => failed += 1,
        }
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        return Ok(());
    }
    let bad = |report: &Result<Report>| report.as_ref().map_or(true, |report| report.totals().1 > 0);
    let lines = reports
        .iter()
        .filter(|(_, report)| bad(report))
        .map(|(line, _)| line.name());
    bail!("failed on Linux {}", lines.collect::<Vec<_>>().join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_each_line_once() {
        assert_eq!(Choice::All.lines(), [Line::V6_1, Line::V6_12]);
        assert_eq!(Choice::V6_12.lines(), [Line::V6_12]);
    }

    #[test]
    fn a_guests_time_is_accounted_for() {
        let report = serial::parse("@@ kernel 3000\n@@ up 4000\n@@ done 30000\n");
        assert_eq!(
            times(&report, Duration::from_secs(33)),
            "33 s in all: before the kernel 3.0 s, kernel 3.0 s, modules 1.0 s, tests and load, two at a time 26 s"
        );
    }

    #[test]
    fn a_guest_that_could_not_be_had_is_a_failure_and_none_is_no_success() {
        let lost = vec![(Line::V6_1, Err(anyhow::anyhow!("no such package")))];
        assert_eq!(conclude(&lost).unwrap_err().to_string(), "failed on Linux 6.1");
        assert!(conclude(&[]).is_err());
        let nothing = vec![(Line::V6_12, Ok(Report::default()))];
        assert!(
            conclude(&nothing).is_err(),
            "a guest in which nothing ran proves nothing"
        );
    }
}
