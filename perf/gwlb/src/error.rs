//! What keeps the simulator from running.

use std::io;

/// Result of a simulator operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the simulator cannot start or go on. What goes wrong with single packets is counted, not raised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            what: what.into(),
            source: source.into(),
        }
    }
}
