//! What can go wrong while a load is made or collected.

use std::io;

/// Result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The load asks for what cannot be made.
    #[error("{0}")]
    Load(&'static str),
    /// The XDP programs were not there when this was built.
    #[error("built without the load lab's XDP programs: run cargo xtask build-ebpf and build again")]
    NoObject,
    /// The object lacks a program or a map: it is of another version.
    #[error("the load lab's XDP object has no {0}")]
    Missing(&'static str),
    /// The object cannot be loaded.
    #[error("loading the load lab's XDP programs: {0}")]
    Ebpf(#[from] aya::EbpfError),
    /// A program is refused or cannot be attached.
    #[error("{what}: {source}")]
    Program {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: aya::programs::ProgramError,
    },
    /// A map cannot be read or written.
    #[error("a map of the load lab's XDP programs: {0}")]
    Map(#[from] aya::maps::MapError),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An AF_XDP socket cannot be had.
    #[error("{0}")]
    Socket(String),
    /// The generator has not noticed a change in time.
    #[error("the generator did not notice in time that it shall do something else")]
    Unmoved,
    /// The generator's thread panicked.
    #[error("the generator's thread panicked")]
    Panicked,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            what: what.into(),
            source: source.into(),
        }
    }
}
