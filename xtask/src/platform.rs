//! The distribution: whether it has apt, what apt knows, and the exact commands that install packages.

use std::process::Command;

use crate::process::ask;

/// How apt gets root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// It is root already.
    Nothing,
    /// sudo, which must not ask: nobody sees the question behind a log.
    SilentSudo,
    /// sudo as somebody types it.
    Sudo,
}

/// The two commands of an installation.
pub(crate) struct AptCommands {
    pub(crate) update: Command,
    pub(crate) install: Command,
}

/// Whether an `/etc/os-release` is Debian's, Ubuntu's or that of something made from them.
pub(crate) fn is_debian_like(os_release: &str) -> bool {
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default()
            .trim_matches('"')
    };
    let id = value("ID=");
    let like = value("ID_LIKE=");
    [id].into_iter()
        .chain(like.split_whitespace())
        .any(|name| name == "debian" || name == "ubuntu")
}

/// The distribution's name for people.
pub(crate) fn pretty_name(os_release: &str) -> &str {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("this system", |name| name.trim_matches('"'))
}

/// What to run. The packages may not ask: tshark's has a question, and nobody is there to answer.
pub(crate) fn apt_commands(packages: &[&str], through: Through) -> AptCommands {
    let apt = |verb: &[&str]| {
        let (program, words): (&str, &[&str]) = match through {
            Through::Nothing => ("env", &[]),
            Through::SilentSudo => ("sudo", &["-n", "env"]),
            Through::Sudo => ("sudo", &["env"]),
        };
        let mut command = Command::new(program);
        command.args(words);
        command
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "-o",
                "DPkg::Lock::Timeout=300",
            ])
            .args(verb);
        command
    };
    let mut install = apt(&["install", "-y", "--no-install-recommends"]);
    install.args(packages);
    AptCommands {
        update: apt(&["update"]),
        install,
    }
}

/// Which of the packages apt can install, as of its lists now.
pub(crate) fn installable<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let policy = ask(Command::new("apt-cache").arg("policy").args(packages)).unwrap_or_default();
    packages
        .iter()
        .copied()
        .filter(|package| has_candidate(&policy, package))
        .collect()
}

/// Reads `apt-cache policy`: a block per package it has heard of, headed by its name, with the version it would install.
fn has_candidate(policy: &str, package: &str) -> bool {
    let mut lines = policy
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(package))
        .skip(1);
    let block = lines.by_ref().take_while(|line| line.starts_with(' '));
    block
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::line;

    const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nID=debian\n";

    #[test]
    fn distributions() {
        assert!(is_debian_like(DEBIAN));
        assert!(is_debian_like("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian_like("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian_like("ID=\"amzn\"\nID_LIKE=\"fedora\"\n"));
        assert!(!is_debian_like(""));
        assert_eq!(pretty_name(DEBIAN), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(pretty_name(""), "this system");
    }

    #[test]
    fn policy_tells_a_candidate_from_a_name_once_heard() {
        let policy = "m4:\n  Installed: 1.4.19-3\n  Candidate: 1.4.19-3\n  Version table:\n *** 1.4.19-3 500\n\
                      rustc-web:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                      llvm-22-dev:\n  Installed: (none)\n  Candidate: 1:22.1.8-1\n  Version table:\n";
        assert!(has_candidate(policy, "m4"));
        assert!(!has_candidate(policy, "rustc-web"));
        assert!(has_candidate(policy, "llvm-22-dev"));
        assert!(!has_candidate(policy, "llvm-22"));
        assert!(!has_candidate("", "m4"));
    }

    #[test]
    fn commands_never_ask() {
        let root = apt_commands(&["m4", "tshark"], Through::Nothing);
        assert_eq!(
            line(&root.update),
            "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update"
        );
        let sudo = apt_commands(&["m4", "tshark"], Through::SilentSudo);
        assert_eq!(
            line(&sudo.install),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
             install -y --no-install-recommends m4 tshark"
        );
        assert!(line(&apt_commands(&["m4"], Through::Sudo).update).starts_with("sudo env DEBIAN_FRONTEND"));
    }
}
