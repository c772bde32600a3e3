//! Puts the load lab's XDP programs where the crate can embed them, if they have been built: `EBPF_LAB_OBJECT`, else what
//! `cargo xtask build-ebpf` leaves under `target/`. Missing programs are told of by whoever needs them.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(lab_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EBPF_LAB_OBJECT");
    let Some(object) = find() else { return };
    println!("cargo::rerun-if-changed={}", object.display());
    let target = directory("OUT_DIR").join("lab.bpf.o");
    if let Err(error) = fs::copy(&object, &target) {
        println!("cargo::error=cannot copy the XDP programs {}: {error}", object.display());
        return;
    }
    println!("cargo::rustc-cfg=lab_object");
}

fn find() -> Option<PathBuf> {
    let manifest = directory("CARGO_MANIFEST_DIR");
    let root = manifest.ancestors().nth(2).map_or(manifest.clone(), Path::to_path_buf);
    if let Some(named) = env::var_os("EBPF_LAB_OBJECT") {
        // A relative name is meant from the workspace's root.
        return Some(root.join(named));
    }
    let built = root.join("target").join("ebpf");
    let object = built.join("lab.bpf.o");
    if object.is_file() {
        return Some(object);
    }
    // Watching a file that does not exist would build the crate anew every time: watch its directory.
    if fs::create_dir_all(&built).is_ok() {
        println!("cargo::rerun-if-changed={}", built.display());
    }
    None
}

fn directory(variable: &str) -> PathBuf {
    env::var_os(variable).map(PathBuf::from).unwrap_or_default()
}
