//! What this machine has: tools, headers, toolchains that can build BPF, and what its kernel can do. Looks, never changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::ask;
use crate::toolchain::{self, Core, LLVM, has_sources, llvm_major};

/// Result of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There, and where or which.
    There(String),
    /// Not there, and what was seen instead.
    Missing(String),
    /// Cannot be known without root.
    Unknown(String),
}

impl Finding {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// For the tables.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::There(what) => what.clone(),
            Self::Missing(what) if what.is_empty() => "MISSING".to_owned(),
            Self::Missing(what) => format!("MISSING ({what})"),
            Self::Unknown(why) => format!("not known ({why})"),
        }
    }
}

/// Where to look: the real machine, or in tests a made-up one.
pub(crate) struct Machine {
    /// `/`.
    system: PathBuf,
    /// The workspace.
    root: PathBuf,
    /// Folders searched for commands.
    path: Vec<PathBuf>,
}

impl Machine {
    /// The machine this runs on. System folders are searched even when a user's `PATH` lacks them.
    pub(crate) fn this(root: &Path) -> Self {
        let mut path: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|p| std::env::split_paths(&p).collect())
            .unwrap_or_default();
        path.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
        Self {
            system: PathBuf::from("/"),
            root: root.to_path_buf(),
            path,
        }
    }

    fn at(&self, absolute: &str) -> PathBuf {
        self.system.join(absolute.trim_start_matches('/'))
    }

    fn read(&self, absolute: &str) -> String {
        fs::read_to_string(self.at(absolute)).unwrap_or_default()
    }

    /// Where a command is.
    pub(crate) fn command(&self, name: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    }

    /// A command that has to be there.
    pub(crate) fn has_command(&self, name: &str) -> Finding {
        match self.command(name) {
            Some(file) => Finding::There(file.display().to_string()),
            None => Finding::Missing(String::new()),
        }
    }

    /// A C library's header, by its place or, where a distribution keeps headers elsewhere, by what pkg-config knows.
    pub(crate) fn has_library(&self, header: &str, module: &str) -> Finding {
        let file = self.at("/usr/include").join(header);
        if file.is_file() {
            return Finding::There(file.display().to_string());
        }
        match ask(Command::new("pkg-config").args(["--modversion", module])) {
            Some(version) => Finding::There(format!("{module} {}", version.trim())),
            None => Finding::Missing(String::new()),
        }
    }

    /// A plugin of GStreamer in one of the places where distributions keep them. `gst-inspect` would load them all to say so.
    pub(crate) fn has_gst_plugin(&self, file: &str) -> Finding {
        let libraries = self.at("/usr/lib");
        let mut places = vec![libraries.clone(), self.at("/usr/lib64")];
        let multiarch = fs::read_dir(&libraries).into_iter().flatten().flatten();
        places.extend(multiarch.map(|entry| entry.path()));
        let found = places
            .into_iter()
            .map(|place| place.join("gstreamer-1.0").join(file))
            .find(|plugin| plugin.is_file());
        match found {
            Some(plugin) => Finding::There(plugin.display().to_string()),
            None => Finding::Missing(String::new()),
        }
    }

    /// A Rust compiler with a BPF core, or with the sources to build one: in the order in which `build-ebpf` looks.
    pub(crate) fn ebpf_compiler(&self) -> Finding {
        if let Some(object) = self.prebuilt() {
            return object;
        }
        let sysroots = match std::env::var("EBPF_RUSTC") {
            // Whoever names a compiler wants that one or none.
            Ok(named) => sysroot(&named).into_iter().collect(),
            Err(_) => {
                let mut sysroots: Vec<PathBuf> = sysroot("rustc").into_iter().collect();
                sysroots.extend(nightly_sysroots());
                sysroots.push(self.at("/usr"));
                sysroots
            }
        };
        match sysroots
            .iter()
            .find_map(|sysroot| bpf_core(sysroot).filter(|_| has_fitting_llvm(sysroot)))
        {
            Some(text) => Finding::There(text),
            None => Finding::Missing("no toolchain has rust-src or a BPF core".to_owned()),
        }
    }

    /// The linker of BPF programs, or the LLVM to build it from.
    pub(crate) fn ebpf_linker(&self) -> Finding {
        if let Some(object) = self.prebuilt() {
            return object;
        }
        let built = self.root.join("target/tools/bin/bpf-linker");
        if built.is_file() && ask(Command::new(&built).arg("--version")).is_some() {
            return Finding::There("target/tools/bin/bpf-linker".to_owned());
        }
        let prefix = std::env::var_os("LLVM_PREFIX").map(PathBuf::from);
        let prefix = prefix.unwrap_or_else(|| self.at(&format!("/usr/lib/llvm-{LLVM}")));
        if prefix.join("bin/llvm-config").is_file() && prefix.join("include/llvm-c/Core.h").is_file() {
            return Finding::There(prefix.display().to_string());
        }
        Finding::Missing(match self.other_llvms().as_slice() {
            [] => String::new(),
            others => format!("has {}, needs {LLVM}", others.join(", ")),
        })
    }

    /// `EBPF_OBJECT`: a program built elsewhere, which makes compiler and linker needless.
    fn prebuilt(&self) -> Option<Finding> {
        let object = self.root.join(std::env::var_os("EBPF_OBJECT")?);
        object
            .is_file()
            .then(|| Finding::There(format!("EBPF_OBJECT {}", object.display())))
    }

    /// LLVM versions that are installed but not the one that is needed.
    fn other_llvms(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at("/usr/lib")) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut versions: Vec<u32> = names
            .filter_map(|name| name.strip_prefix("llvm-")?.parse().ok())
            .collect();
        versions.sort_unstable();
        versions
            .into_iter()
            .filter(|version| *version != LLVM)
            .map(|version| format!("LLVM {version}"))
            .collect()
    }

    /// The running kernel's release, and whether it is new enough.
    pub(crate) fn kernel_release(&self) -> Finding {
        let release = self.read("/proc/sys/kernel/osrelease").trim().to_owned();
        match kernel_version(&release) {
            Some(version) if version >= (6, 1) => Finding::There(format!("Linux {release}")),
            Some(_) => Finding::Missing(format!("Linux {release}, tested from 6.1 on")),
            None => Finding::Missing("not Linux".to_owned()),
        }
    }

    /// Whether the kernel has AF_XDP: its sockets are a protocol of their own.
    pub(crate) fn af_xdp(&self) -> Finding {
        let there = self
            .read("/proc/net/protocols")
            .lines()
            .any(|line| line.split_whitespace().next() == Some("XDP"));
        if there {
            Finding::There("AF_XDP".to_owned())
        } else {
            Finding::Missing("CONFIG_XDP_SOCKETS".to_owned())
        }
    }

    /// Whether the kernel has the bpf system call.
    pub(crate) fn bpf_syscall(&self) -> Finding {
        if self.at("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
            Finding::There("bpf()".to_owned())
        } else {
            Finding::Missing("CONFIG_BPF_SYSCALL".to_owned())
        }
    }

    /// The file system that pinned programs and maps live in: mounted, or at least known to the kernel.
    pub(crate) fn bpf_fs(&self) -> Finding {
        let mounts = self.read("/proc/self/mounts");
        if mounts.lines().any(|line| line.split(' ').nth(2) == Some("bpf")) {
            return Finding::There("mounted".to_owned());
        }
        if self
            .read("/proc/filesystems")
            .lines()
            .any(|line| line.split_whitespace().last() == Some("bpf"))
        {
            Finding::There("can be mounted".to_owned())
        } else {
            Finding::Missing("no bpf in /proc/filesystems".to_owned())
        }
    }

    /// Whether root here may do what the lab does; in a container it often may not.
    pub(crate) fn capabilities(&self, is_root: bool) -> Finding {
        if !is_root {
            return Finding::Unknown("not root".to_owned());
        }
        let lacking = lacking_capabilities(&self.read("/proc/self/status"));
        if lacking.is_empty() {
            Finding::There("all that are needed".to_owned())
        } else {
            Finding::Missing(format!("root without {}", lacking.join(", ")))
        }
    }

    /// Whether a namespace with a veth pair can be made, by making one that ends with the question.
    pub(crate) fn veth_in_namespace(&self, is_root: bool) -> Finding {
        if !is_root {
            return Finding::Unknown("not root".to_owned());
        }
        if self.command("ip").is_none() || self.command("unshare").is_none() {
            return Finding::Unknown("needs ip and unshare".to_owned());
        }
        let mut pair = Command::new("unshare");
        pair.args([
            "--net", "--", "ip", "link", "add", "tg0", "type", "veth", "peer", "name", "tg1",
        ]);
        match ask(&mut pair) {
            Some(_) => Finding::There("veth pair in a namespace".to_owned()),
            None => Finding::Missing("CONFIG_NET_NS, CONFIG_VETH".to_owned()),
        }
    }

    /// The distribution's identity file.
    pub(crate) fn os_release(&self) -> String {
        self.read("/etc/os-release")
    }
}

/// Whether the active toolchain has the sources of the standard library.
pub(crate) fn active_has_rust_src() -> bool {
    sysroot("rustc").is_some_and(|sysroot| has_sources(&sysroot))
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    // Asking a rustup proxy must not make it download a toolchain.
    let text = ask(Command::new(rustc)
        .args(["--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0"))?;
    Some(PathBuf::from(text.trim()))
}

/// The toolchain that rustup calls nightly, by its folder: starting its compiler would take longer than all other looks.
fn nightly_sysroots() -> Vec<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")));
    let Some(Ok(entries)) = home.map(|home| fs::read_dir(home.join("toolchains"))) else {
        return Vec::new();
    };
    let nightly = |path: &PathBuf| path.file_name().is_some_and(|name| is_nightly(&name.to_string_lossy()));
    entries.flatten().map(|entry| entry.path()).filter(nightly).collect()
}

/// Whether a toolchain's folder is that of plain `nightly`, not of one with a date.
fn is_nightly(name: &str) -> bool {
    let rest = name.strip_prefix("nightly-").unwrap_or_default();
    rest.starts_with(|c: char| !c.is_ascii_digit())
}

/// Whether the linker can read what a sysroot's compiler writes: bitcode of its own LLVM and of older ones.
fn has_fitting_llvm(sysroot: &Path) -> bool {
    let version = ask(Command::new(sysroot.join("bin/rustc")).arg("-vV"));
    version
        .and_then(|text| llvm_major(&text))
        .is_some_and(|llvm| llvm <= LLVM)
}

/// What of a sysroot can build BPF.
fn bpf_core(sysroot: &Path) -> Option<String> {
    let what = match toolchain::core(sysroot)? {
        Core::Prebuilt => "BPF core",
        Core::Sources => "rust-src",
    };
    Some(format!("{} ({what})", sysroot.display()))
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Which of the capabilities that the lab and the appliance use are not in `CapEff` of a `/proc/PID/status`.
fn lacking_capabilities(status: &str) -> Vec<&'static str> {
    const NEEDED: [(&str, u32); 5] = [
        ("CAP_NET_ADMIN", 12),
        ("CAP_NET_RAW", 13),
        ("CAP_IPC_LOCK", 14),
        ("CAP_SYS_ADMIN", 21),
        ("CAP_BPF", 39),
    ];
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED
        .iter()
        .filter(|(_, bit)| bits & (1 << bit) == 0)
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up machine in a folder of its own, removed at the end.
    struct Fake(Machine);

    impl Fake {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let system = std::env::temp_dir().join(format!("xtask-machine-{}-{name}", std::process::id()));
            for (path, text) in files {
                let file = system.join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            let path = vec![system.join("bin")];
            Self(Machine {
                root: system.join("work"),
                system,
                path,
            })
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.system);
        }
    }

    #[test]
    fn an_empty_machine_lacks_everything_and_says_so() {
        let fake = Fake::new("empty", &[]);
        let machine = &fake.0;
        assert!(machine.has_command("ffmpeg").is_missing());
        assert!(machine.has_library("no-such.h", "no-such-module").is_missing());
        assert!(machine.has_gst_plugin("libgstrist.so").is_missing());
        assert!(machine.ebpf_linker().is_missing());
        for finding in [
            machine.kernel_release(),
            machine.af_xdp(),
            machine.bpf_syscall(),
            machine.bpf_fs(),
        ] {
            assert!(finding.is_missing(), "{finding:?}");
        }
        assert!(machine.capabilities(true).is_missing());
        assert_eq!(machine.capabilities(false), Finding::Unknown("not root".to_owned()));
        assert!(matches!(machine.veth_in_namespace(true), Finding::Unknown(_)));
    }

    #[test]
    fn what_is_there_is_found() {
        let fake = Fake::new(
            "full",
            &[
                ("bin/ffmpeg", ""),
                ("usr/include/zlib.h", ""),
                ("usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstrist.so", ""),
                ("usr/lib/llvm-22/bin/llvm-config", ""),
                ("usr/lib/llvm-22/include/llvm-c/Core.h", ""),
                ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
                ("proc/net/protocols", "protocol  size sockets\nPACKET 1 2\nXDP 960 0\n"),
                ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
                ("proc/filesystems", "nodev\tsysfs\nnodev\tbpf\n"),
                ("proc/self/status", "Name:\tx\nCapEff:\t000001fffeffffff\n"),
            ],
        );
        let machine = &fake.0;
        let all = [
            machine.has_command("ffmpeg"),
            machine.has_library("zlib.h", "zlib"),
            machine.has_gst_plugin("libgstrist.so"),
            machine.ebpf_linker(),
            machine.kernel_release(),
            machine.af_xdp(),
            machine.bpf_syscall(),
            machine.capabilities(true),
        ];
        for finding in all {
            assert!(matches!(finding, Finding::There(_)), "{finding:?}");
        }
        assert_eq!(machine.bpf_fs(), Finding::There("can be mounted".to_owned()));
    }

    #[test]
    fn another_llvm_is_named() {
        let fake = Fake::new("llvm", &[("usr/lib/llvm-19/lib/x", ""), ("usr/lib/llvm-14/lib/x", "")]);
        assert_eq!(
            fake.0.ebpf_linker(),
            Finding::Missing("has LLVM 14, LLVM 19, needs 22".to_owned())
        );
    }

    #[test]
    fn a_sysroot_is_judged_by_what_it_holds() {
        let core = Fake::new("core", &[("lib/rustlib/bpfel-unknown-none/lib/libcore-0.rlib", "")]);
        assert!(bpf_core(&core.0.system).unwrap().ends_with("(BPF core)"));
        let source = Fake::new("src", &[("lib/rustlib/src/rust/library/core/Cargo.toml", "")]);
        assert!(bpf_core(&source.0.system).unwrap().ends_with("(rust-src)"));
        // rustup's rustc-src leftovers: a lock file alone builds nothing.
        let neither = Fake::new("lock", &[("lib/rustlib/src/rust/library/Cargo.lock", "")]);
        assert_eq!(bpf_core(&neither.0.system), None);
    }

    #[test]
    fn toolchains_by_folder() {
        assert!(is_nightly("nightly-x86_64-unknown-linux-gnu"));
        assert!(!is_nightly("nightly-2026-01-01-x86_64-unknown-linux-gnu"));
        assert!(!is_nightly("1.95.0-x86_64-unknown-linux-gnu"));
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-custom"), Some((6, 18)));
        assert_eq!(kernel_version("none"), None);
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert!(lacking_capabilities("CapPrm:\t0\nCapEff:\t000001ffffffffff\n").is_empty());
        // A container's usual set has CAP_NET_RAW alone of the five.
        let container = lacking_capabilities("CapEff:\t00000000a80425fb\n");
        assert_eq!(container, ["CAP_NET_ADMIN", "CAP_IPC_LOCK", "CAP_SYS_ADMIN", "CAP_BPF"]);
    }
}
