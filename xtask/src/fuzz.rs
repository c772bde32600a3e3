//! `cargo xtask fuzz`: every fuzz target for some time, from cargo-fuzz built on first use to a table of what each did.
//!
//! A corpus grows in `fuzz/corpus/` from run to run and is not committed. What makes a target panic is: its input belongs into
//! `fuzz/regressions/TARGET/`, where `cargo xtask test` runs it for ever.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::ask;
use crate::step::Step;
use crate::table;

/// The tool's version.
const TOOL: &str = "cargo-fuzz@0.13.2";
/// What every command of it is told. The code under test has no `unsafe`, so panics and broken promises are looked for, and
/// no sanitizer: it would cost two thirds of the executions, and a nightly compiler.
const CARGO_FUZZ: [&str; 4] = ["--fuzz-dir", "fuzz", "--sanitizer", "none"];
/// Building the targets from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);
/// What a target may take beyond its time, to read its corpus and to write its figures.
const GRACE: Duration = Duration::from_secs(120);
/// Megabytes that a target may hold: more is a finding.
const MEMORY_MB: u32 = 1024;
/// Seconds that one input may take: more is a finding.
const SLOW_SECONDS: u32 = 10;
/// Bytes of the longest input: a handshake of RTMP and what follows fits.
const LONGEST_INPUT: u32 = 8192;

/// Flags of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Builds and runs the targets one after the other, then prints the table.
///
/// # Errors
/// When the machine lacks a tool, a build fails, or a target found something.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let all = targets(root)?;
    let chosen = choose(&all, &args.targets)?;
    let tool = tool(root)?;
    seeds(root)?;
    Step::new(root, "build the fuzz targets")
        .limit(BUILD_LIMIT)
        .remedy("see the first error in the log; libFuzzer itself needs a C++ compiler: apt-get install g++")
        .run(command(root, &tool).arg("build").args(CARGO_FUZZ))?;
    let mut rows = Vec::new();
    let mut found = Vec::new();
    for target in chosen {
        let outcome = fuzz(root, &tool, target, args.seconds)?;
        rows.push(outcome.row(target));
        found.extend(outcome.finding.map(|finding| format!("{target}: {finding}")));
    }
    println!(
        "\n{}",
        table::render(&["target", "executions", "per second", "coverage", "found"], &rows)
    );
    if found.is_empty() {
        return Ok(());
    }
    println!("{}\n", found.join("\n"));
    println!("Copy each input into fuzz/regressions/TARGET/ and run `cargo test -p tidegate --test fuzz_regressions`:");
    println!("it shows the panic, and keeps the input from being forgotten once it is mended.");
    bail!("{} of the targets found something", found.len());
}

/// The names in `fuzz/fuzz_targets`, sorted.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn choose<'a>(all: &'a [String], wanted: &'a [String]) -> Result<Vec<&'a str>> {
    for name in wanted {
        ensure!(
            all.contains(name),
            "no fuzz target {name}; there are {}",
            all.join(", ")
        );
    }
    let chosen = if wanted.is_empty() { all } else { wanted };
    Ok(chosen.iter().map(String::as_str).collect())
}

/// A command with nothing in its environment that steers other builds: the pinned toolchain, its own target folder.
fn command(root: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// cargo-fuzz under `target/tools`, built if it is not there.
fn tool(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let tool = tools.join("bin/cargo-fuzz");
    if ask(Command::new(&tool).arg("--version")).is_some() {
        return Ok(tool);
    }
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["install", "--locked", TOOL]);
    let build = tools.join("build-cargo-fuzz");
    command.arg("--root").arg(&tools).arg("--target-dir").arg(&build);
    Step::new(root, "build cargo-fuzz")
        .remedy(format!("cargo install --locked {TOOL} --root target/tools"))
        .run(&mut command)?;
    // What was compiled on the way is large and not needed again; a remnant does no harm.
    let _ = fs::remove_dir_all(build);
    Ok(tool)
}

/// Puts every target's seeds into its corpus.
fn seeds(root: &Path) -> Result<()> {
    let mut command = command(root, Path::new("cargo"));
    command.args([
        "run",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--example",
        "seeds",
    ]);
    command.args(["--", "fuzz/corpus"]);
    Step::new(root, "write the seeds").run(&mut command)
}

/// What became of one target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: Option<u64>,
    per_second: Option<u64>,
    coverage: Option<u64>,
    /// The file with the input, or the log where there is none.
    finding: Option<String>,
}

impl Outcome {
    /// Reads what libFuzzer printed.
    fn read(log: &str, ok: bool, otherwise: &str) -> Outcome {
        let figure = |key: &str| {
            let line = log.lines().rfind(|line| line.contains(key))?;
            line.split_once(key)?.1.split_whitespace().next()?.parse().ok()
        };
        let written = || Some(log.lines().rfind(|line| line.contains(WRITTEN))?.split_once(WRITTEN)?.1);
        Outcome {
            executions: figure("stat::number_of_executed_units:"),
            per_second: figure("stat::average_exec_per_sec:"),
            coverage: figure(" cov:"),
            finding: (!ok).then(|| written().unwrap_or(otherwise).trim().to_owned()),
        }
    }

    fn row(&self, target: &str) -> Vec<String> {
        let shown = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        vec![
            target.to_owned(),
            shown(self.executions),
            shown(self.per_second),
            shown(self.coverage),
            self.finding.clone().unwrap_or_else(|| "nothing".to_owned()),
        ]
    }
}

/// What libFuzzer says before the name of a file with an input.
const WRITTEN: &str = "Test unit written to ";

fn fuzz(root: &Path, tool: &Path, target: &str, seconds: u32) -> Result<Outcome> {
    let mut command = command(root, tool);
    command.arg("run").args(CARGO_FUZZ).args([target, "--"]).args([
        format!("-max_total_time={seconds}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-timeout={SLOW_SECONDS}"),
        format!("-max_len={LONGEST_INPUT}"),
        "-print_final_stats=1".to_owned(),
    ]);
    let limit = Duration::from_secs(seconds.into()) + GRACE;
    let outcome = Step::new(root, &format!("fuzz {target}"))
        .limit(limit)
        .attempt(&mut command)?;
    let text = fs::read(&outcome.log).with_context(|| format!("cannot read {}", outcome.log.display()))?;
    let log = outcome.log.display().to_string();
    Ok(Outcome::read(&String::from_utf8_lossy(&text), outcome.ok(), &log))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = "#2\tINITED cov: 90 ft: 91 corp: 1/1b exec/s: 0 rss: 40Mb\n\
        #12345\tDONE   cov: 321 ft: 900 corp: 40/2Kb lim: 80 exec/s: 205 rss: 60Mb\nDone 12345 runs in 60 second(s)\n\
        stat::number_of_executed_units: 12345\nstat::average_exec_per_sec:     205\n";

    #[test]
    fn the_last_figures_are_read() {
        let expected = Outcome {
            executions: Some(12_345),
            per_second: Some(205),
            coverage: Some(321),
            finding: None,
        };
        assert_eq!(Outcome::read(DONE, true, "log"), expected);
        assert_eq!(expected.row("rtmp"), ["rtmp", "12345", "205", "321", "nothing"]);
    }

    #[test]
    fn a_finding_names_its_input_or_else_the_log() {
        let crash = "==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='fuzz/artifacts/srt/'; \
            Test unit written to fuzz/artifacts/srt/crash-ab12\nBase64: AAA=\n";
        assert_eq!(
            Outcome::read(crash, false, "log").finding.as_deref(),
            Some("fuzz/artifacts/srt/crash-ab12")
        );
        assert_eq!(Outcome::read("killed", false, "log").finding.as_deref(), Some("log"));
        // A slow input is written too, without being a finding.
        assert_eq!(Outcome::read(crash, true, "log").finding, None);
    }

    #[test]
    fn unknown_targets_are_refused_with_the_names_there_are() {
        let all = ["rtmp".to_owned(), "srt".to_owned()];
        assert_eq!(choose(&all, &[]).unwrap(), ["rtmp", "srt"]);
        assert_eq!(choose(&all, &["srt".to_owned()]).unwrap(), ["srt"]);
        let error = choose(&all, &["rtp".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("rtp") && error.contains("rtmp, srt"), "{error}");
    }
}
