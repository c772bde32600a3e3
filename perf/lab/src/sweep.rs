//! Removing what labs left behind whose owner was killed before it could.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::command::{require_root, run};
use crate::error::Result;
use crate::namespace::{DIRECTORY, PREFIX};

/// Removes the namespaces of labs whose owner no longer lives, and ends the processes that still run inside them.
/// Returns the names removed. Labs of living processes are left alone.
///
/// # Errors
/// [`crate::Error::NotRoot`]. What cannot be removed is told on standard error and left for the next sweep.
pub fn sweep() -> Result<Vec<String>> {
    require_root()?;
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        // No directory: no namespace was ever named on this machine.
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !owner(&name).is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH)) {
            continue;
        }
        end_processes(&name);
        match run(Command::new("ip").args(["netns", "del", &name])) {
            Ok(_) => removed.push(name),
            // A lab in another process may sweep at the same time.
            Err(_) if !Path::new(DIRECTORY).join(&name).exists() => {}
            Err(error) => eprintln!("lab: cannot remove the old namespace {name}: {error}"),
        }
    }
    Ok(removed)
}

/// The process that made a namespace, if its name is a lab's.
fn owner(name: &str) -> Option<Pid> {
    let pid = name.strip_prefix(PREFIX)?.split('-').next()?;
    pid.parse().ok().and_then(Pid::from_raw)
}

/// Kills whatever still lives in a namespace that has no owner.
fn end_processes(name: &str) {
    let Ok(list) = run(Command::new("ip").args(["netns", "pids", name])) else {
        return;
    };
    for pid in list
        .split_whitespace()
        .filter_map(|text| text.parse().ok())
        .filter_map(Pid::from_raw)
    {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lab_names_have_an_owner() {
        assert_eq!(owner("tg-4711-3-source"), Pid::from_raw(4711));
        assert_eq!(owner("tg-x-3-source"), None);
        assert_eq!(owner("other-4711-3"), None);
        assert_eq!(owner("tg-0-1-a"), None);
    }
}
