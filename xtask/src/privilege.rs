//! Who runs this, and how to get root for single commands when it is not root.

use std::fs;
use std::io::IsTerminal as _;
use std::process::Command;

use crate::process::ask;

/// How root can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process is root.
    Root,
    /// Through `sudo`, now without asking.
    Sudo,
    /// Not at all.
    None,
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    effective_user(&fs::read_to_string("/proc/self/status").unwrap_or_default()) == Some(0)
}

fn effective_user(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Finds out how to get root. Lets sudo ask for a password only where somebody can type it.
pub(crate) fn acquire() -> Privilege {
    if is_root() {
        return Privilege::Root;
    }
    // The environment must survive: test binaries learn from it where they are.
    let works = || ask(Command::new("sudo").args(["-n", "-E", "true"])).is_some();
    if works() {
        return Privilege::Sudo;
    }
    let asked = std::io::stdin().is_terminal() && Command::new("sudo").arg("-v").status().is_ok_and(|s| s.success());
    if asked && works() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_counts() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"), Some(0));
        assert_eq!(effective_user("Uid:\t1000\t1000\t1000\t1000\n"), Some(1000));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }
}
