//! What makes a Rust toolchain one that can build BPF, from what its folder holds and its compiler says. `setup` looks for one
//! by this, and `build-ebpf` takes one.

use std::fs;
use std::path::Path;

/// The major LLVM version that the linker of BPF programs is built against. Compilers whose LLVM is newer write bitcode that
/// it cannot read.
pub(crate) const LLVM: u32 = 22;
/// The target: BPF with the byte order of every machine that this runs on.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Where a toolchain's `core` for BPF comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// It is there.
    Prebuilt,
    /// The sources are there to build it from.
    Sources,
}

/// Where the `core` of the toolchain with this sysroot comes from; `None` if it has neither.
pub(crate) fn core(sysroot: &Path) -> Option<Core> {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let prebuilt = fs::read_dir(libraries).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            file.starts_with("libcore-") && file.ends_with(".rlib")
        })
    });
    if prebuilt {
        return Some(Core::Prebuilt);
    }
    has_sources(sysroot).then_some(Core::Sources)
}

/// Whether the toolchain has the sources of the standard library.
pub(crate) fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

/// The major LLVM version in `rustc -vV`.
pub(crate) fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_is_read_from_what_a_compiler_says() {
        assert_eq!(llvm_major("rustc 1.95.0\nhost: x\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }
}
