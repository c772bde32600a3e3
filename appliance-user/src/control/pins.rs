//! Where the program's link and maps are pinned, so that they outlive the process.
//!
//! `BASE/<interface>/link` is stable; the maps sit in `BASE/<interface>/v<layout hash>/`, because a pinned map is reused
//! without any check of its layout. Everything here is idempotent and needs no state but the file system's.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, statfs};
use rustix::mount::{MountFlags, mount};
use thiserror::Error;

/// Where pins live unless `--pins` says otherwise.
pub const DEFAULT_BASE: &str = "/sys/fs/bpf/tidegate";
/// Where bpffs is mounted by custom.
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: FsWord = 0xcafe_4a11_u32 as FsWord;

/// What may go wrong with the pins.
#[derive(Debug, Error)]
pub enum PinsError {
    /// A name that would leave the base directory.
    #[error("`{0}` cannot name a pin directory: an interface's name has 1 to 15 characters and no `/`")]
    Name(String),
    /// bpffs is neither there nor can it be mounted.
    #[error("{path} is not a bpffs and it cannot be mounted there: {source}; mount it: mount -t bpf bpf {BPFFS}")]
    Mount {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or directory could not be made or removed.
    #[error("cannot {action} {path}: {source}")]
    Path {
        /// `create`, `read` or `remove`.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The pins of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    base: PathBuf,
    interface: String,
}

impl Pins {
    /// Pins of `interface` under `base`.
    ///
    /// # Errors
    /// [`PinsError::Name`] if the interface's name cannot be a directory's.
    pub fn new(base: &Path, interface: &str) -> Result<Self, PinsError> {
        let named = !interface.is_empty() && interface.len() <= 15 && interface != "." && interface != "..";
        if !named || interface.bytes().any(|byte| byte == b'/' || byte == 0) {
            return Err(PinsError::Name(interface.to_owned()));
        }
        Ok(Pins {
            base: base.to_owned(),
            interface: interface.to_owned(),
        })
    }

    /// The interface's own directory.
    pub fn directory(&self) -> PathBuf {
        self.base.join(&self.interface)
    }

    /// The link, at a path that no version changes.
    pub fn link(&self) -> PathBuf {
        self.directory().join("link")
    }

    /// The maps of one layout.
    pub fn maps(&self, layout: u64) -> PathBuf {
        self.directory().join(format!("v{layout:016x}"))
    }

    /// Whether a link is pinned.
    pub fn has_link(&self) -> bool {
        self.link().exists()
    }

    /// Makes the directories of this layout, for root only, and mounts bpffs first if it is not there.
    ///
    /// # Errors
    /// [`PinsError::Mount`] and [`PinsError::Path`].
    pub fn prepare(&self, layout: u64) -> Result<(), PinsError> {
        ensure_bpffs(&self.base)?;
        let path = self.maps(layout);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| PinsError::Path {
                action: "create",
                path,
                source,
            })
    }

    /// Removes the pinned link. The program goes with it, unless a process holds the link open.
    ///
    /// # Errors
    /// [`PinsError::Path`].
    pub fn remove_link(&self) -> Result<(), PinsError> {
        remove_file(&self.link())
    }

    /// Removes the maps of one layout, and the directories that are empty then.
    ///
    /// # Errors
    /// [`PinsError::Path`].
    pub fn remove_layout(&self, layout: u64) -> Result<(), PinsError> {
        let layout = self.maps(layout);
        self.remove_layouts(|path| path == layout)?;
        // Not empty while a link or another layout is pinned, or another interface has pins.
        let _ = fs::remove_dir(self.directory());
        let _ = fs::remove_dir(&self.base);
        Ok(())
    }

    /// Removes the maps of every layout but `keep`; returns how many layouts went.
    ///
    /// # Errors
    /// [`PinsError::Path`].
    pub fn remove_other_layouts(&self, keep: u64) -> Result<usize, PinsError> {
        let keep = self.maps(keep);
        self.remove_layouts(|path| path != keep)
    }

    /// Removes the maps of every layout and the interface's directory. The link is not touched: while one is pinned the
    /// directory stays.
    ///
    /// # Errors
    /// [`PinsError::Path`].
    pub fn remove_all_maps(&self) -> Result<usize, PinsError> {
        let removed = self.remove_layouts(|_| true)?;
        if !self.has_link() {
            remove_directory(&self.directory())?;
            // The base is shared with other interfaces; it goes with the last of them.
            let _ = fs::remove_dir(&self.base);
        }
        Ok(removed)
    }

    fn remove_layouts(&self, select: impl Fn(&Path) -> bool) -> Result<usize, PinsError> {
        let mut removed = 0;
        for path in entries(&self.directory())? {
            let is_layout = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_layout_name);
            if !is_layout || !select(&path) {
                continue;
            }
            for map in entries(&path)? {
                remove_file(&map)?;
            }
            remove_directory(&path)?;
            removed += 1;
        }
        Ok(removed)
    }
}

fn is_layout_name(name: &str) -> bool {
    name.strip_prefix('v')
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let failed = |source| PinsError::Path {
        action: "read",
        path: directory.to_owned(),
        source,
    };
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn remove_file(path: &Path) -> Result<(), PinsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PinsError::Path {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn remove_directory(path: &Path) -> Result<(), PinsError> {
    match fs::remove_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PinsError::Path {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Whether the nearest directory above `path` that exists is on a bpffs.
fn on_bpffs(path: &Path) -> io::Result<bool> {
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match statfs(ancestor) {
            Ok(status) => return Ok(status.f_type == BPF_FS_MAGIC),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn ensure_bpffs(base: &Path) -> Result<(), PinsError> {
    let failed = |source| PinsError::Mount {
        path: base.to_owned(),
        source,
    };
    if on_bpffs(base).map_err(failed)? {
        return Ok(());
    }
    if !base.starts_with(BPFFS) {
        return Err(failed(io::Error::new(
            io::ErrorKind::Unsupported,
            "only the usual place is mounted unasked",
        )));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", BPFFS, "bpf", flags, Some(c"mode=0700")).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stable_for_the_link_and_per_layout_for_maps() {
        let pins = Pins::new(Path::new(DEFAULT_BASE), "ens5").expect("a name");
        assert_eq!(pins.link(), Path::new("/sys/fs/bpf/tidegate/ens5/link"));
        assert_eq!(
            pins.maps(0xab),
            Path::new("/sys/fs/bpf/tidegate/ens5/v00000000000000ab")
        );
    }

    #[test]
    fn names_that_leave_the_base_are_refused() {
        for name in ["", ".", "..", "a/b", "../x", "sixteen-long-nam"] {
            assert!(Pins::new(Path::new("/x"), name).is_err(), "{name}");
        }
    }

    #[test]
    fn removal_takes_layouts_only_and_twice_is_no_error() {
        let scratch = tempfile::tempdir().expect("a directory");
        let pins = Pins::new(&scratch.path().join("base"), "if0").expect("a name");
        for layout in [1, 2] {
            fs::create_dir_all(pins.maps(layout)).expect("made");
            fs::write(pins.maps(layout).join("CONFIG"), b"").expect("made");
        }
        fs::write(pins.link(), b"").expect("made");
        assert_eq!(pins.remove_other_layouts(1).expect("removed"), 1);
        assert!(pins.maps(1).exists() && !pins.maps(2).exists());
        assert_eq!(pins.remove_all_maps().expect("removed"), 1);
        assert!(pins.has_link(), "the link is not this function's");
        fs::remove_file(pins.link()).expect("removed");
        assert_eq!(pins.remove_all_maps().expect("removed"), 0);
        assert!(!pins.directory().exists());
        assert_eq!(pins.remove_all_maps().expect("nothing to do"), 0);
    }

    #[test]
    fn a_directory_elsewhere_is_not_taken_for_a_bpffs() {
        let scratch = tempfile::tempdir().expect("a directory");
        assert!(!on_bpffs(&scratch.path().join("not/yet")).expect("asked"));
        let pins = Pins::new(scratch.path(), "if0").expect("a name");
        assert!(matches!(pins.prepare(1), Err(PinsError::Mount { .. })));
    }
}
