//! The table of what Tidegate needs: each row a way to look for it, the Debian packages that bring it, and why.

use crate::machine::{Finding, Machine};
use crate::toolchain::LLVM;

/// What a need is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Compiling the workspace.
    Build,
    /// Compiling the XDP program.
    Ebpf,
    /// Network namespaces.
    Lab,
    /// Real streams and independent judges of them.
    Media,
    /// Counting and measuring; only the tasks that measure ask for it.
    Measure,
    /// Virtual machines with other kernels; only `cargo xtask vm` asks for it.
    Vm,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Ebpf => "ebpf",
            Self::Lab => "lab",
            Self::Media => "media",
            Self::Measure => "measure",
            Self::Vm => "vm",
        }
    }
}

/// How to look for a need.
#[derive(Clone, Copy, Debug)]
enum Look {
    Command(&'static str),
    Library {
        header: &'static str,
        module: &'static str,
    },
    EbpfCompiler,
    EbpfLinker,
    /// A plugin of GStreamer, by its file.
    GstPlugin(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    look: Look,
    /// Debian and Ubuntu packages that bring it.
    pub(crate) packages: &'static [&'static str],
    pub(crate) why: &'static str,
    /// What else brings it, where those packages do not exist.
    pub(crate) otherwise: &'static str,
}

impl Need {
    const fn command(group: Group, name: &'static str, packages: &'static [&'static str], why: &'static str) -> Self {
        Self {
            group,
            name,
            look: Look::Command(name),
            packages,
            why,
            otherwise: "",
        }
    }

    const fn library(name: &'static str, header: &'static str, package: &'static [&'static str]) -> Self {
        let look = Look::Library { header, module: name };
        Self {
            group: Group::Build,
            name,
            look,
            packages: package,
            why: "libxdp links to it",
            otherwise: "",
        }
    }

    const fn gst_plugin(
        name: &'static str,
        file: &'static str,
        package: &'static [&'static str],
        why: &'static str,
    ) -> Self {
        Self {
            group: Group::Media,
            name,
            look: Look::GstPlugin(file),
            packages: package,
            why,
            otherwise: "",
        }
    }

    /// Looks for it.
    pub(crate) fn look(&self, machine: &Machine) -> Finding {
        match self.look {
            Look::Command(name) => machine.has_command(name),
            Look::Library { header, module } => machine.has_library(header, module),
            Look::EbpfCompiler => machine.ebpf_compiler(),
            Look::EbpfLinker => machine.ebpf_linker(),
            Look::GstPlugin(file) => machine.has_gst_plugin(file),
        }
    }

    /// Whether rustup can bring it, without root.
    pub(crate) fn rustup_brings_it(&self) -> bool {
        matches!(self.look, Look::EbpfCompiler)
    }
}

/// Everything that packages bring.
pub(crate) const NEEDS: &[Need] = &[
    Need::command(Group::Build, "cc", &["gcc", "libc6-dev"], "compiles and links"),
    Need::command(
        Group::Build,
        "clang",
        &["clang"],
        "libxdp's BPF programs, bindings to its headers",
    ),
    Need::command(Group::Build, "m4", &["m4"], "libxdp's generated sources"),
    Need::command(Group::Build, "pkg-config", &["pkg-config"], "finds the libraries"),
    Need::library("libelf", "libelf.h", &["libelf-dev"]),
    Need::library("zlib", "zlib.h", &["zlib1g-dev"]),
    Need {
        group: Group::Ebpf,
        name: "Rust for BPF",
        look: Look::EbpfCompiler,
        packages: &["rustc-web", "libstd-rust-web-dev-bpf"],
        why: "compiles the XDP program",
        otherwise: "rustup component add rust-src",
    },
    Need {
        group: Group::Ebpf,
        name: "LLVM 22",
        look: Look::EbpfLinker,
        packages: &["llvm-22-dev"],
        why: "builds bpf-linker (once, by build-ebpf)",
        otherwise: "install LLVM 22 with its headers from its own package archive and set LLVM_PREFIX to it, \
                    or set EBPF_OBJECT to an XDP program built elsewhere",
    },
    Need::command(Group::Lab, "ip", &["iproute2"], "makes namespaces and veth pairs"),
    Need::command(
        Group::Lab,
        "ethtool",
        &["ethtool"],
        "sets offloads and channels of veth",
    ),
    Need::command(
        Group::Lab,
        "iptables",
        &["iptables"],
        "the kernel's hairpin that the bench compares with",
    ),
    Need::command(Group::Media, "ffmpeg", &["ffmpeg"], "makes and receives live streams"),
    Need::command(
        Group::Media,
        "srt-live-transmit",
        &["srt-tools"],
        "sends and receives SRT",
    ),
    Need::command(Group::Media, "tshark", &["tshark"], "an independent judge of captures"),
    Need::command(
        Group::Media,
        "gst-launch-1.0",
        &["gstreamer1.0-tools"],
        "sends as GStreamer does",
    ),
    Need::gst_plugin(
        "GStreamer base",
        "libgstvideotestsrc.so",
        &["gstreamer1.0-plugins-base"],
        "a picture to send",
    ),
    Need::gst_plugin(
        "GStreamer good",
        "libgstrtpmanager.so",
        &["gstreamer1.0-plugins-good"],
        "RTP and SMPTE 2022-1 FEC",
    ),
    Need::gst_plugin(
        "GStreamer bad",
        "libgstrist.so",
        &["gstreamer1.0-plugins-bad"],
        "MPEG-2, MPEG-TS, SRT and RIST",
    ),
    Need::command(Group::Media, "ristsender", &["rist-tools"], "sends and receives RIST"),
    Need::command(
        Group::Media,
        "dvbinfo",
        &["dvbpsi-utils"],
        "an independent judge of tables",
    ),
    Need::command(
        Group::Media,
        "tsinfo",
        &["tstools"],
        "another independent judge of tables",
    ),
    Need::command(
        Group::Measure,
        "valgrind",
        &["valgrind"],
        "counts instructions for their budget",
    ),
    Need::command(
        Group::Vm,
        "qemu-system-x86_64",
        &["qemu-system-x86"],
        "boots other kernels",
    ),
    Need::command(Group::Vm, "busybox", &["busybox-static"], "the guests' shell and tools"),
    Need::command(Group::Vm, "cpio", &["cpio"], "packs the guests' file system"),
    Need::command(Group::Vm, "xz", &["xz-utils"], "unpacks the guests' modules"),
];

/// The groups that every task needs but those that name more.
pub(crate) const EVERYDAY: &[Group] = &[Group::Build, Group::Ebpf, Group::Lab, Group::Media];

const _: () = assert!(LLVM == 22, "the table above names LLVM 22");

/// Something only another kernel, or more rights, can bring.
pub(crate) struct KernelFact {
    pub(crate) name: &'static str,
    pub(crate) found: Finding,
    /// What cannot be done without it.
    pub(crate) without: &'static str,
}

/// What the kernel offers of what the datapath and the lab use.
pub(crate) fn kernel_facts(machine: &Machine, is_root: bool) -> Vec<KernelFact> {
    let fact = |name, found, without| KernelFact { name, found, without };
    vec![
        fact(
            "kernel",
            machine.kernel_release(),
            "an older kernel may refuse the XDP program",
        ),
        fact("bpf system call", machine.bpf_syscall(), "no XDP program can be loaded"),
        fact(
            "bpf file system",
            machine.bpf_fs(),
            "nothing can be pinned, so no bypass after a crash",
        ),
        fact("AF_XDP sockets", machine.af_xdp(), "no packet reaches user space"),
        fact(
            "namespaces",
            machine.veth_in_namespace(is_root),
            "no lab, so no test of the datapath",
        ),
        fact(
            "capabilities",
            machine.capabilities(is_root),
            "run the container with --privileged",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_package_and_a_reason_and_appears_once() {
        let mut names = Vec::new();
        for need in NEEDS {
            assert!(!need.packages.is_empty() && !need.why.is_empty(), "{}", need.name);
            for package in need.packages {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
                assert!(package.chars().all(fits), "{package} is no Debian package name");
            }
            names.push(need.name);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn groups_are_not_torn_apart() {
        let mut seen = Vec::new();
        for need in NEEDS {
            if seen.last() != Some(&need.group) {
                assert!(!seen.contains(&need.group), "{} is torn apart", need.group.name());
                seen.push(need.group);
            }
        }
        assert_eq!(seen.len(), EVERYDAY.len() + 2);
    }
}
