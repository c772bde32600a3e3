//! Files that hold secrets: passphrases and stream keys. One that others than its owner can read, or that somebody else could
//! have put there, is refused; what is read is overwritten when it is dropped, and no message shows any of it.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::policy::Unreadable;

/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Permissions within a file's mode.
const PERMISSIONS: u32 = 0o7777;

/// Why a secret is not taken from a file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be opened or read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is a folder, a pipe, a socket or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Its group or everybody may do something with it.
    #[error("others than its owner may use it (mode {mode:o})")]
    Exposed {
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to neither root nor the user that reads it.
    #[error("it belongs to user {owner}, who is neither root nor the user that reads it ({reader})")]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// The effective user of this process.
        reader: u32,
    },
    /// It has more bytes than such a secret can have.
    #[error("it is longer than {bound} bytes")]
    TooLong {
        /// The most that it may have.
        bound: usize,
    },
}

impl SecretError {
    /// The error with the file's name and what to do about it, for the place of the policy that names it.
    pub fn told(&self, path: &Path) -> Unreadable {
        let remedy = match self {
            SecretError::Unreadable(error) => match error.kind() {
                io::ErrorKind::NotFound => "make it, or correct the path".to_owned(),
                io::ErrorKind::PermissionDenied => "run as its owner, or as root".to_owned(),
                _ => "make it a regular file of mode 600".to_owned(),
            },
            SecretError::NotAFile => "name a regular file".to_owned(),
            SecretError::Exposed { .. } => format!("chmod 600 {path:?}"),
            SecretError::Foreign { .. } => format!("chown root {path:?}"),
            SecretError::TooLong { .. } => "check that it is the right file".to_owned(),
        };
        Unreadable {
            message: format!("cannot take a secret from {path:?}: {self}"),
            remedy,
        }
    }
}

/// Reads a secret of at most `bound` bytes.
///
/// # Errors
/// [`SecretError`] says why the file is not trusted or cannot be read.
pub fn read(path: &Path, bound: usize) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    examine(&file)?;
    // Of its full size from the start: a buffer that grows leaves copies behind.
    let mut content = Zeroizing::new(vec![0; bound.saturating_add(1)]);
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if length > bound {
        return Err(SecretError::TooLong { bound });
    }
    content.truncate(length);
    Ok(content)
}

/// Whether the open file, not what its path may lead to by now, is one to trust.
fn examine(file: &File) -> Result<(), SecretError> {
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(SecretError::NotAFile);
    }
    let (owner, reader) = (facts.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != reader {
        return Err(SecretError::Foreign { owner, reader });
    }
    if facts.mode() & OTHERS != 0 {
        return Err(SecretError::Exposed {
            mode: facts.mode() & PERMISSIONS,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(dir: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_of_its_owner_alone_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400, 0o700] {
            let path = file(&dir, b"ten letters", mode);
            assert_eq!(read(&path, 11).unwrap().as_slice(), b"ten letters");
            assert!(matches!(read(&path, 10), Err(SecretError::TooLong { bound: 10 })));
            fs::remove_file(path).unwrap();
        }
        assert_eq!(read(&file(&dir, b"", 0o600), 10).unwrap().len(), 0);
    }

    #[test]
    fn what_others_can_use_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            let path = file(&dir, b"ten letters", mode);
            let error = read(&path, 99).unwrap_err();
            assert!(
                matches!(error, SecretError::Exposed { mode: found } if found == mode),
                "{mode:o}: {error}"
            );
            let told = error.told(&path);
            assert_eq!(told.remedy, format!("chmod 600 {path:?}"));
            assert!(
                told.message
                    .ends_with(&format!("others than its owner may use it (mode {mode:o})")),
                "{told:?}"
            );
        }
    }

    #[test]
    fn what_somebody_else_owns_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, b"ten letters", 0o600);
        // Only root can give a file away; then it reads it in spite of the mode, and must not trust it.
        if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
            assert!(matches!(
                read(&path, 99),
                Err(SecretError::Foreign { owner: 65_534, .. })
            ));
        }
    }

    #[test]
    fn only_regular_files_are_read_and_none_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path(), 99), Err(SecretError::NotAFile)));
        assert!(matches!(read(Path::new("/dev/zero"), 99), Err(SecretError::NotAFile)));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        assert!(matches!(read(&pipe, 99), Err(SecretError::NotAFile)));
        let missing = read(&dir.path().join("missing"), 99).unwrap_err();
        assert_eq!(
            missing.told(Path::new("missing")).remedy,
            "make it, or correct the path"
        );
        // A link leads to the file whose owner and mode count.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(file(&dir, b"ten letters", 0o600), &link).unwrap();
        assert_eq!(read(&link, 99).unwrap().as_slice(), b"ten letters");
    }
}
