//! Puts the XDP program where the crate can embed it, if it has been built.
//!
//! A missing program is not an error here: the engine, the policy checker and `inspect` need none, and the binary says
//! what to do when one is needed. A program that was named by `EBPF_OBJECT` and is not there is one.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(tidegate_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EBPF_OBJECT");
    if env::var_os("CARGO_FEATURE_APPLIANCE").is_none() {
        return;
    }
    let Some(object) = find() else { return };
    println!("cargo::rerun-if-changed={}", object.display());
    let target = directory("OUT_DIR").join("tidegate.bpf.o");
    // Under a name of its own first: a target directory that was seeded with hard links shares the old file with others.
    let fresh = target.with_extension("fresh");
    if let Err(error) = fs::copy(&object, &fresh).and_then(|_| fs::rename(&fresh, &target)) {
        println!("cargo::error=cannot copy the XDP program {}: {error}", object.display());
        return;
    }
    println!("cargo::rustc-cfg=tidegate_object");
}

/// The object to embed, or `None` where it has not been built.
fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("EBPF_OBJECT") {
        let named = PathBuf::from(named);
        // Cargo runs build scripts in the package's directory; a relative name is meant from the workspace's root.
        return Some(workspace_root().join(named));
    }
    let built = workspace_root().join("target").join("ebpf");
    let object = built.join("tidegate.bpf.o");
    if object.is_file() {
        return Some(object);
    }
    // Watching a file that does not exist would run this script, and build the crate anew, every time: watch its directory.
    if fs::create_dir_all(&built).is_ok() {
        println!("cargo::rerun-if-changed={}", built.display());
    }
    None
}

fn workspace_root() -> PathBuf {
    let manifest = directory("CARGO_MANIFEST_DIR");
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

fn directory(variable: &str) -> PathBuf {
    env::var_os(variable).map(PathBuf::from).unwrap_or_default()
}
