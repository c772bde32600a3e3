//! Rules of the house that no compiler checks, over every Rust file of the tree: an opening that says what lives there,
//! `unsafe` only in named files, and a note on files that grow too long to read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::layers::LAYERS;
use crate::rust_text::{code_only, has_word, without_tests};

/// The files that may hold `unsafe`, and what for.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("appliance-ebpf/src/bypass.rs", "this CPU's word of the heartbeat map"),
    ("appliance-ebpf/src/counters.rs", "this CPU's copy of the counters"),
    (
        "appliance-ebpf/src/cursor.rs",
        "packet pointers, checked against the packet's end",
    ),
    ("appliance-ebpf/src/main.rs", "the licence's section"),
    ("appliance-ebpf/src/spans.rs", "the names of its two global functions"),
    (
        "appliance-ebpf/src/steer.rs",
        "volatile reads of what user space writes into maps",
    ),
    (
        "appliance-user/src/allocator.rs",
        "an option of the allocator's library",
    ),
    ("appliance-user/src/io/frame.rs", "bytes of a frame in UMEM"),
    (
        "appliance-user/src/io/frame_tests.rs",
        "frames that a test describes itself",
    ),
    (
        "appliance-user/src/io/heartbeat.rs",
        "the heartbeat's memory, shared with the kernel",
    ),
    ("appliance-user/src/io/open.rs", "making sockets over a shared UMEM"),
    ("appliance-user/src/io/sys.rs", "system calls without a safe wrapper"),
    ("appliance-user/src/io/xsk.rs", "frames of an AF_XDP socket"),
    ("appliance-user/src/io/xsk/rings.rs", "rings of an AF_XDP socket"),
    ("appliance-user/src/prefetch.rs", "the processor's prefetch instruction"),
    (
        "appliance-user/tests/bench/wire.rs",
        "a packet socket that tells of stripped VLAN tags",
    ),
    ("appliance-user/tests/xsk_lab/mod.rs", "a packet socket"),
    ("perf/ebpf/src/main.rs", "the licence's section"),
    (
        "perf/ebpf/src/packet.rs",
        "packet pointers, checked against the packet's end, and values of maps",
    ),
    ("perf/forward/src/forward.rs", "rings and frames without owners"),
    ("perf/gwlb/src/sys.rs", "packet sockets, TUN devices, the clock"),
    (
        "perf/lab/src/bpf.rs",
        "loading small BPF programs, the kernel's test run of any",
    ),
    ("perf/load/src/sys.rs", "a signal to one thread, values of maps"),
];

/// Lines of a file without its tests beyond which it is told that a reader would split it.
const LONG_FILE: usize = 500;

/// What the checks found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What has to be put right.
    pub(crate) errors: Vec<String>,
    /// What to think about.
    pub(crate) notes: Vec<String>,
}

/// Checks every Rust file of the tree.
///
/// # Errors
/// When a file cannot be read, or there are none.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no Rust file below {}", root.display());
    let mut findings = Findings::default();
    for file in files {
        let source = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        check_file(&name, &source, &mut findings);
    }
    Ok(findings)
}

/// Every Rust file below a folder, but not what is built or hidden.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn check_file(name: &str, source: &str, findings: &mut Findings) {
    if !source.starts_with("//!") {
        findings
            .errors
            .push(format!("{name}:1: does not open with //!: what lives here and why"));
    }
    let code = code_only(source);
    let named = UNSAFE_FILES.iter().any(|(file, _)| *file == name);
    let unsafe_line = code.lines().position(|line| has_word(line, "unsafe"));
    if let Some(index) = unsafe_line.filter(|_| !named) {
        findings.errors.push(format!(
            "{name}:{}: unsafe, but the file is not on xtask's list of those that may",
            index + 1
        ));
    }
    if named && unsafe_line.is_none() {
        findings
            .notes
            .push(format!("{name}: is on xtask's list of files with unsafe and has none"));
    }
    if !is_test_file(name) {
        let in_layer = |folder: &str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        for layer in LAYERS.iter().filter(|layer| in_layer(layer.folder)) {
            let found = layer.violations(source);
            findings.errors.extend(
                found
                    .iter()
                    .map(|what| format!("{name}:{what} has no place in {}", layer.folder)),
            );
        }
        let lines = without_tests(&code).trim_end().lines().count();
        if lines > LONG_FILE {
            findings.notes.push(format!(
                "{name}: {lines} lines without its tests; would a reader split it?"
            ));
        }
    }
}

/// A file that is compiled for tests alone, by the names the house gives them.
fn is_test_file(name: &str) -> bool {
    name.split('/')
        .any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, source: &str) -> Findings {
        let mut findings = Findings::default();
        check_file(name, source, &mut findings);
        findings
    }

    #[test]
    fn a_sound_file_has_no_findings() {
        assert_eq!(
            found("common/src/flow.rs", "//! Flows.\n#![forbid(unsafe_code)]\nfn f() {}\n"),
            Findings::default()
        );
    }

    #[test]
    fn each_rule_can_be_broken() {
        let opening = found("common/src/a.rs", "fn f() {}\n");
        assert_eq!(
            opening.errors,
            ["common/src/a.rs:1: does not open with //!: what lives here and why"]
        );

        let hidden = found("common/src/a.rs", "//! A.\nfn f() {\n    unsafe { g() }\n}\n");
        assert!(
            hidden
                .errors
                .iter()
                .any(|error| error.starts_with("common/src/a.rs:3: unsafe")),
            "{hidden:?}"
        );

        let clock = found("appliance-user/src/engine/a.rs", "//! A.\nfn f() { Instant::now(); }\n");
        assert_eq!(
            clock.errors,
            ["appliance-user/src/engine/a.rs:2: Instant::now has no place in appliance-user/src/engine"]
        );

        let long = found("common/src/a.rs", &format!("//! A.\n{}", "fn f() {}\n".repeat(500)));
        assert_eq!(
            long.notes,
            ["common/src/a.rs: 501 lines without its tests; would a reader split it?"]
        );
    }

    #[test]
    fn tests_of_a_pure_layer_and_other_layers_are_free() {
        let source = "//! A.\nuse std::fs;\n";
        for name in [
            "appliance-user/src/engine/tests.rs",
            "appliance-user/src/policy/tests/a.rs",
            "appliance-user/src/io/a.rs",
        ] {
            assert_eq!(found(name, source), Findings::default(), "{name}");
        }
    }

    #[test]
    fn a_named_file_may_hold_unsafe_and_is_noticed_when_it_no_longer_does() {
        let (name, _) = UNSAFE_FILES.first().unwrap();
        assert_eq!(found(name, "//! A.\nfn f() { unsafe { g() } }\n"), Findings::default());
        assert_eq!(found(name, "//! A.\n").notes.len(), 1);
    }

    #[test]
    fn the_real_tree_is_walked_without_what_is_built() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = Vec::new();
        collect(root, &mut files).unwrap();
        assert!(files.contains(&root.join("xtask/src/sources.rs")));
        assert!(files.iter().all(|file| !file.starts_with(root.join("target"))));
    }
}
