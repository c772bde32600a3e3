//! Counting: one process under callgrind for each part, and what callgrind wrote about it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use tidegate_fixtures::part::{Named, Part};

use crate::ONE_PART;

/// What one operation of a part takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// The part's name.
    pub(crate) name: &'static str,
    /// Instructions of one operation, rounded.
    pub(crate) instructions: u64,
}

/// Runs a part, for callgrind to count.
pub(crate) fn run(named: &Named) {
    let mut part = named.warm();
    part.prepare(named.operations);
    measured(&mut *part);
}

/// What callgrind counts, with all that it calls and nothing else: it is told to by this function's name, so the function
/// has to stay one.
#[inline(never)]
fn measured(part: &mut dyn Part) {
    part.run();
}

/// Counts so many parts, on as many processors as there are.
///
/// # Errors
/// When valgrind is missing, or a part did not run to its end.
pub(crate) fn all(parts: &[&'static Named]) -> Result<Vec<Count>> {
    let valgrind = on_path("valgrind").context("valgrind is not installed: apt-get install valgrind")?;
    let program = env::current_exe()?;
    let folder = program
        .parent()
        .context("a program without a folder")?
        .join("callgrind");
    fs::create_dir_all(&folder)?;
    let counts = Mutex::new(vec![None; parts.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(named) = parts.get(place) else { return };
            let count = one(&valgrind, &program, &folder, named);
            if let Ok(mut counts) = counts.lock() {
                counts[place] = Some(count.map_err(|error| format!("{error:#}")));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let counts = counts.into_inner().map_err(|_| anyhow!("a measurement panicked"))?;
    counts
        .into_iter()
        .map(|count| count.context("a part was not measured")?.map_err(anyhow::Error::msg))
        .collect()
}

fn one(valgrind: &Path, program: &Path, folder: &Path, named: &'static Named) -> Result<Count> {
    let output = folder.join(named.name.replace('/', "-"));
    // What an earlier run left behind must not be taken for this one's.
    let _ = fs::remove_file(&output);
    let name = program.file_name().context("a program without a name")?;
    let mut command = Command::new(valgrind);
    command
        .arg("--tool=callgrind")
        .arg("--toggle-collect=*count*measured*")
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(Path::new(".").join(name))
        .args([ONE_PART, named.name])
        // The stack begins behind the environment and the program's name: both are the same on every machine.
        .env_clear()
        .current_dir(program.parent().context("a program without a folder")?)
        .stdin(Stdio::null());
    let ended = command.output().context("cannot start valgrind")?;
    ensure!(
        ended.status.success(),
        "{}: {}\n{}",
        named.name,
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    let text = fs::read_to_string(&output).with_context(|| format!("no count in {}", output.display()))?;
    let total = total(&text).filter(|total| *total > 0);
    let total = total.with_context(|| format!("nothing was counted in {}", output.display()))?;
    let operations = named.operations as u64;
    Ok(Count {
        name: named.name,
        instructions: (total + operations / 2) / operations,
    })
}

/// The sum that callgrind writes at the end of a dump.
fn total(dump: &str) -> Option<u64> {
    let line = dump.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_one() {
        assert_eq!(total("events: Ir\nfn=(1) f\n1 5\ntotals: 7120\n"), Some(7120));
        assert_eq!(total("totals: 12 4\n"), Some(12));
        assert_eq!(total("summary: 12\n"), None);
    }
}
