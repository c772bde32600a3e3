//! A guest's file system: busybox, the tools and libraries that the tests use, the binaries under test, the kernel's modules and
//! what runs it all, packed as the archive from which the kernel starts.
//!
//! Two archives one after the other, which the kernel reads as one: what every guest has, and one kernel's modules and plan.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use super::{modules, plan};
use crate::process::ask;
use crate::step::Step;

/// Tools of this machine that the tests and the load's scripts call; what else they call is busybox's. The shell is this machine's too:
/// busybox's takes its own tools before those on the path.
const TOOLS: [&str; 4] = ["ip", "tc", "ethtool", "nsenter"];
/// Where busybox-static puts itself, by age of the distribution.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
/// Copying, stripping and packing some hundred megabytes.
const PACK_LIMIT: Duration = Duration::from_secs(3 * 60);

/// What runs first in the guest, and the load.
const SCRIPTS: [(&str, &str); 2] = [
    ("init", include_str!("guest/init.sh")),
    ("guest/load.sh", include_str!("guest/load.sh")),
];

/// The part of the file system that is the same for every kernel.
#[derive(Debug)]
pub(super) struct Base {
    archive: PathBuf,
}

impl Base {
    /// Packs it, given what `cargo test --no-run` printed.
    ///
    /// # Errors
    /// When a binary, a tool or a library is missing, or cannot be copied or packed.
    pub(super) fn build(root: &Path, cargo: &str) -> Result<Self> {
        let vm = root.join("target/vm");
        let stage = Stage::new(vm.join("base"))?;
        stage.folders(&[
            "bin", "dev", "proc", "sys", "tmp", "run", "etc", "tests", "tools", "modules", "guest",
        ])?;
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).is_file());
        stage.copy(Path::new(busybox.context("no busybox")?), "bin/busybox")?;
        let mut dynamic = Vec::new();
        let shell = which("sh").context("no sh")?;
        stage.copy(&shell, "bin/sh")?;
        dynamic.push(shell);
        for tool in TOOLS {
            let path = which(tool).with_context(|| format!("no {tool}"))?;
            stage.copy(&path, &format!("tools/{tool}"))?;
            dynamic.push(path);
        }
        for tests in plan::TESTS {
            let path = executable(cargo, tests.binary).with_context(|| format!("cargo built no {}", tests.binary))?;
            let path = root.join(path);
            stage.strip(&path, &format!("tests/{}", tests.binary))?;
            dynamic.push(path);
        }
        // The tests know the appliance by the path it was built at.
        let appliance = root.join("target/release/tidegate");
        stage.strip(&appliance, inside(&appliance)?)?;
        stage.write(
            "guest/tidegate",
            &format!("#!/bin/sh\nexec '{}' \"$@\"\n", appliance.display()),
            0o755,
        )?;
        dynamic.push(appliance);
        for library in libraries(&dynamic)? {
            stage.copy(&library, inside(&library)?)?;
        }
        let pktgen = root.join("perf/pktgen");
        for entry in fs::read_dir(&pktgen)
            .with_context(|| format!("no {}", pktgen.display()))?
            .flatten()
        {
            stage.copy(
                &entry.path(),
                &format!("pktgen/{}", entry.file_name().to_string_lossy()),
            )?;
        }
        for (name, text) in SCRIPTS {
            stage.write(name, text, 0o755)?;
        }
        let archive = vm.join("base.cpio");
        stage.pack(root, "pack the guest", &archive)?;
        Ok(Self { archive })
    }
}

/// The whole file system for one kernel.
///
/// # Errors
/// When a module that is needed is missing, or something cannot be packed.
pub(super) fn build(root: &Path, kernel: &Kernel, base: &Base, plan: &str) -> Result<PathBuf> {
    let vm = root.join("target/vm");
    let stage = Stage::new(vm.join("modules"))?;
    stage.folders(&["modules", "guest"])?;
    let mut order = String::new();
    for module in modules::in_order(&kernel.modules, modules::NEEDED)? {
        let name = format!("modules/{}.ko", module.name);
        stage.write_bytes(&name, &module.bytes, 0o644)?;
        order.push_str(&format!("/{name}\n"));
    }
    stage.write("modules/order", &order, 0o644)?;
    stage.write("guest/plan", plan, 0o644)?;
    let archive = vm.join("modules.cpio");
    stage.pack(root, &format!("pack modules of {}", kernel.release), &archive)?;
    let image = vm.join(format!("initrd-{}", kernel.release));
    let mut whole = File::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
    for part in [&base.archive, &archive] {
        io::copy(&mut File::open(part)?, &mut whole)?;
    }
    Ok(image)
}

/// A folder that becomes an archive.
struct Stage {
    folder: PathBuf,
}

impl Stage {
    fn new(folder: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn folders(&self, names: &[&str]) -> Result<()> {
        names
            .iter()
            .try_for_each(|name| fs::create_dir_all(self.folder.join(name)))?;
        Ok(())
    }

    /// The place of a file, its folder made.
    fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.folder.join(name);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(place)
    }

    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let place = self.place(name)?;
        fs::copy(from, place)
            .map(drop)
            .with_context(|| format!("cannot copy {}", from.display()))
    }

    /// Copies a binary without its debug information, which is nine tenths of it; with it where nothing can strip.
    fn strip(&self, from: &Path, name: &str) -> Result<()> {
        let place = self.place(name)?;
        let stripped = ask(Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&place)
            .arg(from));
        stripped.map_or_else(|| self.copy(from, name), |_| Ok(()))
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        self.write_bytes(name, text.as_bytes(), mode)
    }

    fn write_bytes(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let place = self.place(name)?;
        fs::write(&place, bytes).with_context(|| format!("cannot write {}", place.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Packs the folder and removes it.
    fn pack(self, root: &Path, name: &str, archive: &Path) -> Result<()> {
        let mut pack = Command::new("sh");
        pack.current_dir(&self.folder).arg("-c");
        // Everything belongs to root in there, whoever packs it.
        pack.arg(r#"find . | cpio --quiet -o -H newc -R 0:0 > "$0""#)
            .arg(archive);
        Step::new(root, name).limit(PACK_LIMIT).run(&mut pack)?;
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

/// A path of this machine as one inside the stage.
fn inside(path: &Path) -> Result<&str> {
    path.strip_prefix("/")
        .ok()
        .and_then(Path::to_str)
        .with_context(|| format!("odd path {}", path.display()))
}

/// A tool's own file, links followed.
fn which(tool: &str) -> Option<PathBuf> {
    let found = ask(Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin:/sbin command -v \"$0\"", tool]))?;
    fs::canonicalize(found.trim()).ok()
}

/// The test binary that cargo says it built, relative to the workspace.
fn executable(cargo: &str, binary: &str) -> Option<PathBuf> {
    let file = |line: &str| {
        let (_, path) = line.trim().strip_prefix("Executable tests/")?.split_once(" (")?;
        Some(PathBuf::from(path.trim_end_matches(')')))
    };
    cargo.lines().filter_map(file).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.rsplit_once('-').is_some_and(|(name, _)| name == binary)
    })
}

/// Every library that the binaries load, the loader included.
fn libraries(binaries: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for binary in binaries {
        let listed = ask(Command::new("ldd").arg(binary));
        let listed = listed.with_context(|| format!("ldd cannot read {}", binary.display()))?;
        if let Some(missing) = listed.lines().find(|line| line.contains("not found")) {
            bail!("{} lacks a library: {}", binary.display(), missing.trim());
        }
        all.extend(library_paths(&listed));
    }
    Ok(all)
}

/// The paths in what `ldd` prints: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
fn library_paths(listed: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let path = line.split(" => ").last()?.split(" (").next()?.trim();
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    listed.lines().filter_map(path).collect()
}

/// Reads a module, unpacked.
pub(super) fn read_module(file: &Path) -> Result<Vec<u8>> {
    let unpack = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let mut child = Command::new(unpack)
        .arg("-dc")
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .with_context(|| format!("{unpack} is needed to unpack {}", file.display()))?;
    let mut bytes = Vec::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_end(&mut bytes)?;
    }
    anyhow::ensure!(child.wait()?.success(), "{unpack} cannot unpack {}", file.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_by_what_cargo_prints() {
        let cargo = "   Compiling tidegate v0.1.0\n    Finished `dev` profile\n\
                     \x20 Executable tests/xsk.rs (target/debug/deps/xsk-32e78d1afa550881)\n\
                     \x20 Executable tests/datapath/main.rs (target/debug/deps/datapath-645fe302749aa2f8)\n";
        assert_eq!(
            executable(cargo, "datapath").unwrap(),
            Path::new("target/debug/deps/datapath-645fe302749aa2f8")
        );
        assert!(executable(cargo, "xsk").is_some());
        assert!(executable(cargo, "data").is_none() && executable("", "xsk").is_none());
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f01)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        let found = library_paths(listed);
        assert_eq!(
            found,
            ["/lib/x86_64-linux-gnu/libelf.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert!(library_paths("\tnot a dynamic executable\n").is_empty());
    }
}
