//! `cargo xtask setup`: looks for everything that is needed, installs what is missing where it may, and never silently.
//!
//! The linker of BPF programs is not installed here: `build-ebpf` builds it when it is first needed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::machine::{Finding, Machine};
use crate::needs::{self, EVERYDAY, Group, KernelFact, NEEDS, Need};
use crate::platform::{self, Through};
use crate::privilege::{self, Privilege};
use crate::process;
use crate::step::{Step, elapsed};
use crate::table;

/// Some hundred megabytes over a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Flags of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only look and tell; install nothing. Exits with 1 when something is missing.
    #[arg(long)]
    check: bool,
}

/// Shows the whole table, then installs what is missing.
///
/// # Errors
/// When something is missing that could not be installed here; what to run instead has been printed.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let started = Instant::now();
    let machine = Machine::this(root);
    let survey = survey(&machine, EVERYDAY);
    print_needs(&survey);
    print_kernel(&kernel(&machine), true);
    finish(root, &machine, &survey, args.check, started)
}

/// For the tasks that need a ready machine: one line when it is ready, otherwise all that [`run`] does.
///
/// # Errors
/// As [`run`].
pub(crate) fn ensure(root: &Path) -> Result<()> {
    ensure_groups(root, EVERYDAY)
}

/// As [`ensure`], for a task that needs more than every task does.
///
/// # Errors
/// As [`run`].
pub(crate) fn ensure_with(root: &Path, more: &[Group]) -> Result<()> {
    ensure_groups(root, &[EVERYDAY, more].concat())
}

fn ensure_groups(root: &Path, groups: &[Group]) -> Result<()> {
    let started = Instant::now();
    let machine = Machine::this(root);
    let survey = survey(&machine, groups);
    if survey.iter().any(|(_, found)| found.is_missing()) {
        print_needs(&survey);
    }
    print_kernel(&kernel(&machine), false);
    finish(root, &machine, &survey, false, started)
}

/// What this machine's kernel cannot do, a line each: what depends on it cannot be proven here.
pub(crate) fn kernel_limits(root: &Path) -> Vec<String> {
    let facts = kernel(&Machine::this(root));
    let missing = facts.iter().filter(|fact| fact.found.is_missing());
    missing
        .map(|fact| format!("{}: {}; {}", fact.name, fact.found.text(), fact.without))
        .collect()
}

type Survey = Vec<(&'static Need, Finding)>;

fn survey(machine: &Machine, groups: &[Group]) -> Survey {
    let wanted = NEEDS.iter().filter(|need| groups.contains(&need.group));
    wanted.map(|need| (need, need.look(machine))).collect()
}

fn kernel(machine: &Machine) -> Vec<KernelFact> {
    needs::kernel_facts(machine, privilege::is_root())
}

fn print_needs(survey: &Survey) {
    let row = |(need, found): &(&Need, Finding)| {
        let cells = [
            need.group.name(),
            need.name,
            &need.packages.join(" "),
            need.why,
            &found.text(),
        ];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = survey.iter().map(row).collect();
    println!(
        "{}",
        table::render(&["part", "needs", "Debian packages", "what for", "found"], &rows)
    );
}

fn print_kernel(facts: &[KernelFact], all: bool) {
    let shown: Vec<_> = facts.iter().filter(|fact| all || fact.found.is_missing()).collect();
    if shown.is_empty() {
        return;
    }
    let row = |fact: &&KernelFact| {
        [fact.name, fact.without, &fact.found.text()]
            .map(str::to_owned)
            .to_vec()
    };
    let rows: Vec<_> = shown.iter().map(row).collect();
    println!("{}", table::render(&["kernel", "without it", "found"], &rows));
}

fn missing(survey: &Survey) -> Vec<&'static Need> {
    survey
        .iter()
        .filter(|(_, found)| found.is_missing())
        .map(|(need, _)| *need)
        .collect()
}

fn finish(root: &Path, machine: &Machine, survey: &Survey, only_look: bool, started: Instant) -> Result<()> {
    let lacking = missing(survey);
    if lacking.is_empty() {
        println!(
            "setup: nothing is missing, {} of {} ({})",
            survey.len(),
            survey.len(),
            elapsed(started.elapsed())
        );
        return Ok(());
    }
    let os_release = machine.os_release();
    if !platform::is_debian_like(&os_release) {
        println!(
            "{} has no apt that this knows. Install what these Debian packages bring:",
            platform::pretty_name(&os_release)
        );
        lacking.iter().for_each(|need| println!("  {}", by_hand(need)));
        bail!("missing: {}", names(&lacking));
    }
    if only_look {
        print_commands(&packages(&lacking));
        bail!("missing: {}", names(&lacking));
    }
    install(root, &lacking)?;
    let groups: Vec<Group> = survey.iter().map(|(need, _)| need.group).collect();
    let still = missing(&self::survey(machine, &groups));
    if still.is_empty() {
        println!(
            "setup: all {} needs are there ({})",
            survey.len(),
            elapsed(started.elapsed())
        );
        return Ok(());
    }
    still
        .iter()
        .for_each(|need| println!("still missing: {}", by_hand(need)));
    bail!("still missing: {}", names(&still));
}

fn by_hand(need: &Need) -> String {
    let packages = need.packages.join(" ");
    match need.otherwise {
        "" => format!("{}: {packages}", need.name),
        otherwise => format!("{}: {packages}; or: {otherwise}", need.name),
    }
}

fn packages(needs: &[&'static Need]) -> Vec<&'static str> {
    let mut names: Vec<_> = needs.iter().flat_map(|need| need.packages).copied().collect();
    names.dedup();
    names
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| need.name).collect::<Vec<_>>().join(", ")
}

/// Prints what somebody at the keyboard would run.
fn print_commands(packages: &[&str]) {
    let through = if privilege::is_root() {
        Through::Nothing
    } else {
        Through::Sudo
    };
    let commands = platform::apt_commands(packages, through);
    println!(
        "  {}\n  {}",
        process::line(&commands.update),
        process::line(&commands.install)
    );
}

/// Installs through apt what apt has, and through rustup what it can bring instead.
fn install(root: &Path, lacking: &[&'static Need]) -> Result<()> {
    let all = packages(lacking);
    let through = match privilege::acquire() {
        Privilege::Root => Through::Nothing,
        Privilege::Sudo => Through::SilentSudo,
        Privilege::None => {
            println!("Not root, and sudo does not give root without asking. Run this, then again what you ran:");
            print_commands(&all);
            bail!("missing: {}", names(lacking));
        }
    };
    let mut update = platform::apt_commands(&all, through).update;
    println!("+ {}", process::line(&update));
    Step::new(root, "apt-get update")
        .remedy("is there a network, and does apt know where its packages are?")
        .run(&mut update)?;

    let there = platform::installable(&all);
    let (by_apt, by_other): (Vec<&Need>, Vec<&Need>) = lacking
        .iter()
        .copied()
        .partition(|need| need.packages.iter().all(|package| there.contains(package)));
    if !by_apt.is_empty() {
        let by_name: Vec<_> = by_apt.iter().flat_map(|need| need.packages).copied().collect();
        let mut install = platform::apt_commands(&by_name, through).install;
        println!("+ {}", process::line(&install));
        Step::new(root, "apt-get install")
            .limit(INSTALL_LIMIT)
            .remedy("run the command above by hand and answer what it says")
            .run(&mut install)?;
    }
    for need in by_other {
        println!("apt has no {} here", need.packages.join(" "));
        if need.rustup_brings_it() {
            let mut rustup = Command::new("rustup");
            rustup.args(["component", "add", "rust-src"]);
            println!("+ {}", process::line(&rustup));
            Step::new(root, "rustup component add")
                .remedy(need.otherwise)
                .run(&mut rustup)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let survey: Survey = NEEDS
            .iter()
            .map(|need| {
                let found = match need.name {
                    "m4" | "tshark" => Finding::Missing(String::new()),
                    "ip" => Finding::Unknown("a reason".to_owned()),
                    _ => Finding::There(String::new()),
                };
                (need, found)
            })
            .collect();
        assert_eq!(packages(&missing(&survey)), ["m4", "tshark"]);
    }

    #[test]
    fn what_to_do_by_hand_names_packages_and_other_ways() {
        let need = |name| NEEDS.iter().find(|need| need.name == name).unwrap();
        assert_eq!(by_hand(need("m4")), "m4: m4");
        assert_eq!(
            by_hand(need("Rust for BPF")),
            "Rust for BPF: rustc-web libstd-rust-web-dev-bpf; or: rustup component add rust-src"
        );
    }
}
