//! What the figures were measured on: without it a figure says nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// The machine, the commit and the time of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name as the kernel tells it.
    pub cpu: String,
    /// Processors that are online.
    pub cores: usize,
    /// Whether the first two processors are one physical core's threads; figures of "two cores" mean less then.
    pub siblings: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The hypervisor or container that the run was in, `none` on bare metal, `unknown` if nothing tells.
    pub virtualised: String,
    /// Memory in MiB.
    pub memory: u64,
    /// The commit, `-dirty` behind it if files were changed; empty outside a checkout.
    pub commit: String,
    /// When the run began, UTC, ISO 8601.
    pub date: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        Machine {
            cpu: cpu_name(&cpuinfo),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            siblings: are_siblings(&read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            virtualised: virtualised(&cpuinfo),
            memory: memory_mib(&read("/proc/meminfo")),
            commit: commit(),
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap_or_default(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Standard output of a command that may not be there or fail.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu_name(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Whether a list such as `0-1` or `0,1` holds both of the first two processors.
fn are_siblings(list: &str) -> bool {
    let parts = list.trim().split(',');
    parts
        .flat_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            from.parse::<usize>().unwrap_or(0)..=to.parse().unwrap_or(0)
        })
        .any(|core| core == 1)
}

fn virtualised(cpuinfo: &str) -> String {
    // It exits with a failure where it finds nothing, and says `none` all the same.
    let detected = Command::new("systemd-detect-virt").stdin(Stdio::null()).output().ok();
    let name = detected.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let hypervisor = cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"));
    match name.filter(|name| !name.is_empty()) {
        Some(name) if hypervisor && name != "none" => format!("{name}, under a hypervisor"),
        Some(name) => name,
        None if hypervisor => "under a hypervisor".to_owned(),
        None if Path::new("/sys/hypervisor/type").exists() => read("/sys/hypervisor/type").trim().to_owned(),
        None => "unknown".to_owned(),
    }
}

fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return String::new();
    };
    match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit}-dirty"),
        _ => commit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(cpu_name("processor\t: 0\nmodel name\t: AMD EPYC\n"), "AMD EPYC");
        assert_eq!(cpu_name("processor\t: 0\n"), std::env::consts::ARCH);
    }

    #[test]
    fn siblings_by_list_and_by_range() {
        assert!(are_siblings("0-1\n"));
        assert!(are_siblings("0,1\n"));
        assert!(!are_siblings("0\n"));
        assert!(!are_siblings("0,32\n"));
        assert!(!are_siblings(""));
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = Machine::look();
        assert!(
            machine.cores > 0 && machine.memory > 0 && machine.kernel.contains('.'),
            "{machine:?}"
        );
        assert!(
            machine.date.ends_with('Z') && !machine.virtualised.is_empty(),
            "{machine:?}"
        );
        assert_eq!(memory_mib("MemTotal:       2097152 kB\n"), 2048);
    }
}
