//! Instructions that each part of the engine takes, counted under callgrind and held to a budget:
//! `cargo xtask instructions`.
//!
//! Nanoseconds move with a machine's neighbours, instructions do not. Each part of [`tidegate_fixtures::part`] is warmed up
//! and then runs thousands of operations inside one function, which alone is counted, with all that it calls; the sum over the
//! operations is a part's count. The process has fixed seeds, an empty environment and callgrind's own address space, so
//! the same binary always gives the same count.
//!
//! # What the counts depend on
//! On the compiler and the crates, both pinned; on the release profile; on the C library's `memcpy` and its kin, which choose
//! by processor. Valgrind shows every program one of a few fixed processors, the best that the machine can bear: wherever
//! there is AVX2 that is an Intel Haswell (seen so on an AMD EPYC too), with AES-NI and without AVX-512, VAES and SHA. So Intel and
//! AMD machines of the last ten years count alike. Without AVX, and so with another `memcpy`, `walk` counts 7 % more, `srt-clear/1`
//! 2.3 % and `rtp/1` 1.2 %: another C library may move the counts by as much. Newer processors execute fewer instructions for
//! `decipher-aes-*` than are counted. The budget is for x86-64; elsewhere the counts are told and held to nothing.
//!
//! # The budget
//! `budget.toml` has a `budget` for each part. More than 5 % above fails; more than 5 % below is told, for then the budget
//! should be lowered by `cargo xtask instructions --update`. A part may have a `ceiling` besides, which `--update` keeps
//! and never raises: what the product promises. To promise something, write `ceiling = 1000` under the part's `budget`;
//! from then on a count above it fails, whatever the budget says.

#![forbid(unsafe_code)]

mod budget;
mod count;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tidegate_fixtures::part::{self, Named};

use crate::budget::Budget;
use crate::count::Count;

/// The word by which this program is told to run one part, under callgrind.
const ONE_PART: &str = "part";

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [ONE_PART, name] => {
            count::run(part::named(name).context("no such part")?);
            Ok(ExitCode::SUCCESS)
        }
        [] => check(false, ""),
        ["--update"] => check(true, ""),
        ["--only", beginning] => check(false, beginning),
        _ => bail!("usage: instructions [--update | --only BEGINNING]"),
    }
}

/// Counts every part whose name begins so, and holds the counts to the budget or makes them the budget.
fn check(update: bool, beginning: &str) -> Result<ExitCode> {
    // Cargo tells where this package is now, which a moved checkout's old program would not know.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let path = Path::new(&package).join("budget.toml");
    let parts: Vec<&Named> = part::PARTS
        .iter()
        .filter(|part| part.name.starts_with(beginning))
        .collect();
    let counts = count::all(&parts)?;
    let mut budget = Budget::read(&path)?;
    if update {
        budget.update(&counts);
        budget.write(&path)?;
    }
    let binding = cfg!(target_arch = "x86_64");
    if !binding {
        println!("the budget is for x86-64: nothing is held to it here");
    }
    Ok(if report(&budget, &counts) || !binding {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a line for each part; whether all of them are within.
fn report(budget: &Budget, counts: &[Count]) -> bool {
    println!("{:<26} {:>12} {:>12} {:>8}", "instructions of", "counted", "budget", "");
    let mut within = true;
    for count in counts {
        let verdict = budget.judge(count.name, count.instructions);
        within &= !verdict.fails();
        let allowed = budget
            .of(count.name)
            .map_or("-".to_owned(), |budget| budget.to_string());
        println!("{:<26} {:>12} {allowed:>12} {verdict}", count.name, count.instructions);
    }
    let unknown: Vec<&str> = budget.names().filter(|name| part::named(name).is_none()).collect();
    if !unknown.is_empty() {
        println!("the budget names what is not measured: {}", unknown.join(", "));
    }
    within && unknown.is_empty() && !counts.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_budget_and_every_budget_a_part() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
        let budget = Budget::read(&path).expect("the budget is readable");
        let mut named: Vec<&str> = budget.names().collect();
        let mut measured: Vec<&str> = part::PARTS.iter().map(|part| part.name).collect();
        named.sort_unstable();
        measured.sort_unstable();
        assert_eq!(named, measured);
    }
}
