//! Small helpers around child processes: asking a tool a question, and ending a whole tree of them.

use std::fs;
use std::process::{Command, Stdio};

/// Runs a short question to its end, without input, and returns what it printed; `None` when it could not be run or failed.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it, for printing before it runs.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Kills a process and everything it started. Only for steps that ran into their limit: killing cargo alone would leave
/// the test binary under it running.
pub(crate) fn kill_tree(root: u32) {
    let mut doomed = vec![root];
    let parents = parents();
    let mut next = 0;
    while let Some(&pid) = doomed.get(next) {
        doomed.extend(
            parents
                .iter()
                .filter(|(child, parent)| *parent == pid && *child != pid)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    let pids = doomed.iter().map(u32::to_string);
    let _ = Command::new("kill")
        .arg("-KILL")
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

/// Every process with its parent, as of now.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, parent_in_stat(&stat)?))
        })
        .collect()
}

/// The fourth field of `/proc/PID/stat`. The second is the command's name in parentheses and may hold anything.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_it_would_be_typed() {
        let mut command = Command::new("apt-get");
        command.args(["install", "-o", "DPkg::Lock::Timeout=300", "it's", ""]);
        assert_eq!(
            line(&command),
            r"apt-get install -o DPkg::Lock::Timeout=300 'it'\''s' ''"
        );
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("12 (a"), None);
        assert_eq!(parent_in_stat("12 (a)"), None);
    }

    #[test]
    fn a_question_that_fails_has_no_answer() {
        assert_eq!(
            ask(Command::new("sh").args(["-c", "echo yes"])).as_deref(),
            Some("yes\n")
        );
        assert_eq!(ask(Command::new("sh").args(["-c", "echo no; exit 3"])), None);
        assert_eq!(ask(&mut Command::new("/nonexistent/tool")), None);
    }

    #[test]
    fn a_tree_is_killed_with_its_grandchildren() {
        // The shell's child sleeps; killing the shell alone would leave it.
        let mut shell = Command::new("sh").args(["-c", "sleep 61.25 & wait"]).spawn().unwrap();
        let pause = || std::thread::sleep(std::time::Duration::from_millis(5));
        let child_of_shell = || parents().into_iter().find(|(_, parent)| *parent == shell.id());
        let (grandchild, _) = (0..400)
            .find_map(|_| {
                pause();
                child_of_shell()
            })
            .expect("the shell starts its child");
        kill_tree(shell.id());
        assert!(!shell.wait().unwrap().success());
        let gone = |pid: u32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
            // Killed but not yet reaped by whoever adopted it.
            Ok(stat) => stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
            Err(_) => true,
        };
        let ended = (0..400).any(|_| {
            pause();
            gone(grandchild)
        });
        assert!(ended, "process {grandchild} outlived its killed parent");
    }
}
