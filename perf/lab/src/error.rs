//! What can go wrong while a lab is set up or torn down.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Result of a lab operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a lab operation failed. Each message says what was tried, so that a test's failure is readable as it stands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Network namespaces, TUN and XDP need root.
    #[error("the lab needs root: it makes network namespaces, TUN devices and XDP programs; run it through sudo")]
    NotRoot,
    /// A tool that ought to be there could not be started.
    #[error("cannot start `{command}`: {source}")]
    Spawn {
        /// The command line.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tool ran and reported a failure.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, trimmed.
        output: String,
    },
    /// A system call or file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A condition did not come true in time.
    #[error("gave up after {after:?} waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// A process ended although it was still needed.
    #[error("{name} ended early while waiting for {what}; the end of its log:\n{log}")]
    Ended {
        /// The process's name in the lab.
        name: String,
        /// What was waited for.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// [`crate::teardown_all`] has begun: nothing new is made.
    #[error("the lab is being torn down")]
    TornDown,
}

impl Error {
    /// An [`Error::Io`] from what was being done and anything that converts to an I/O error.
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            what: what.into(),
            source: source.into(),
        }
    }
}
