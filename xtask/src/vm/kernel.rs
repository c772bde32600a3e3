//! A guest's kernel: the newest package of its line, downloaded and unpacked below `target/vm/`, never installed.
//!
//! One package by its full name: a pattern in `apt-get install` or `download` would take every flavour, gigabytes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::packages;
use crate::process::ask;
use crate::step::Step;

/// A hundred megabytes over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How many of a line's packages are tried: apt's lists may name one that its archive has dropped since.
const MOST_TRIED: usize = 3;
/// What of a kernel package the guests use: all else is drivers for hardware that they do not have.
const UNPACKED: [&str; 4] = [
    "*/boot/vmlinuz-*",
    "*/kernel/drivers/net/*.ko*",
    "*/kernel/drivers/virtio/*.ko*",
    "*/kernel/net/*.ko*",
];

/// A line of kernels that Amazon Linux 2023 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    V6_1,
    V6_12,
}

impl Line {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The packages of the line, as `apt-cache search --names-only` takes it: Debian 12 numbers 6.1 by its interface and 6.12,
    /// which comes from its backports and security archives, by its release. Neither `cloud` nor `rt`.
    fn pattern(self) -> &'static str {
        match self {
            Self::V6_1 => r"^linux-image-6\.1\.0-[0-9]+-amd64(-unsigned)?$",
            Self::V6_12 => r"^linux-image-6\.12\.[0-9]+\+(deb|bpo)[0-9.]*-amd64(-unsigned)?$",
        }
    }

    /// What to do where apt knows none.
    fn remedy(self) -> &'static str {
        match self {
            Self::V6_1 => {
                "Debian 12 (bookworm) has it: apt-get update there, or run this on Debian 12 or in its container"
            }
            Self::V6_12 => {
                "on Debian 12 it comes from bookworm-security or bookworm-backports, which apt does not know here: add \
                 'deb http://deb.debian.org/debian bookworm-backports main' to /etc/apt/sources.list.d and apt-get update"
            }
        }
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// What `uname -r` says in the guest.
    pub(super) release: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// Where its modules lie.
    pub(super) modules: PathBuf,
}

/// The line's newest kernel, from what is below `target/vm/` already or through apt.
///
/// # Errors
/// When apt knows none or cannot fetch it and none was unpacked before; the message says what to do.
pub(super) fn fetch(root: &Path, line: Line) -> Result<Kernel> {
    let home = root.join("target/vm").join(line.name());
    let listed = ask(Command::new("apt-cache").args(["search", "--names-only", line.pattern()])).unwrap_or_default();
    let newest = packages::newest_first(&listed);
    for package in newest.iter().take(MOST_TRIED) {
        let folder = home.join(package);
        if let Ok(kernel) = unpacked(&folder) {
            return Ok(kernel);
        }
        match download(root, package, &folder) {
            Ok(kernel) => {
                println!("kernel: {package}");
                return Ok(kernel);
            }
            Err(error) => println!("{package} cannot be had: {error:#}"),
        }
    }
    // Without a network, or where apt's lists were removed: any that was fetched before.
    let before = fs::read_dir(&home).into_iter().flatten().flatten();
    if let Some(kernel) = before.filter_map(|entry| unpacked(&entry.path()).ok()).next() {
        println!(
            "note: apt has no kernel of {} now; taking {}, fetched before",
            line.name(),
            kernel.release
        );
        return Ok(kernel);
    }
    if newest.is_empty() {
        bail!("apt knows no kernel package of {}; {}", line.name(), line.remedy());
    }
    bail!(
        "no kernel package of {} could be downloaded; is there a network?",
        line.name()
    )
}

/// Fetches one package and unpacks what the guests use of it.
fn download(root: &Path, package: &str, folder: &Path) -> Result<Kernel> {
    // Unpacked elsewhere first: a run that was interrupted must not leave half a kernel that looks whole.
    let scratch = root.join("target/vm/scratch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut fetch = Command::new("apt-get");
    // As the caller: apt's own user may not be able to write here.
    fetch
        .current_dir(&scratch)
        .args(["-o", "APT::Sandbox::User=root", "download", package]);
    Step::new(root, &format!("download {package}"))
        .limit(DOWNLOAD_LIMIT)
        .remedy("is there a network, and are apt's lists fresh? apt-get update")
        .run(&mut fetch)?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let archive = fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(is_package);
    let archive = archive.context("apt-get download left no package")?;
    let mut unpack = Command::new("sh");
    unpack.current_dir(&scratch).arg("-c");
    // The patterns reach tar as arguments, unread by the shell.
    unpack.arg(r#"dpkg-deb --fsys-tarfile "$0" | tar -x -f - --wildcards "$@""#);
    unpack.arg(&archive).args(UNPACKED);
    Step::new(root, &format!("unpack {package}")).run(&mut unpack)?;
    fs::remove_file(&archive)?;
    unpacked(&scratch)?;
    let parent = folder.parent().context("a folder without a parent")?;
    fs::create_dir_all(parent)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&scratch, folder).with_context(|| format!("cannot move to {}", folder.display()))?;
    unpacked(folder)
}

/// The kernel in a folder into which a package was unpacked.
fn unpacked(folder: &Path) -> Result<Kernel> {
    let boot = folder.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("no {}", boot.display()))?;
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let release = names
        .filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .next();
    let release = release.context("no vmlinuz in the package")?;
    // Debian 12 packages say /lib, later ones /usr/lib.
    let places = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(&release));
    let modules = places.into_iter().find(|place| place.is_dir());
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        modules: modules.context("no modules in the package")?,
        release,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_unpacked_is_recognised_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        let make = |file: &str| {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        };
        assert!(unpacked(&folder).is_err());
        make("boot/vmlinuz-6.12.117+deb12-amd64");
        assert!(unpacked(&folder).unwrap_err().to_string().contains("no modules"));
        make("usr/lib/modules/6.12.117+deb12-amd64/kernel/drivers/net/veth.ko.xz");
        let kernel = unpacked(&folder).unwrap();
        assert_eq!(kernel.release, "6.12.117+deb12-amd64");
        assert!(kernel.image.is_file() && kernel.modules.is_dir());
        fs::remove_dir_all(&folder).unwrap();
    }
}
