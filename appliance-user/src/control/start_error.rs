//! Why the appliance does not start: what, where, and what to do about it. All of it is for the operator to put right.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::events::EventsError;
use super::http::HttpError;
use super::options::ChoiceError;
use super::pins::PinsError;
use super::program::ProgramError;
use crate::io::OpenError;
use crate::io::policy_file::LoadError;

/// Why the appliance does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Missing capabilities.
    #[error("tidegate run needs root, or the capabilities {missing}: run it with sudo, or see deploy/tidegate.service")]
    Privilege {
        /// Those that are missing.
        missing: String,
    },
    /// The policy cannot be read or is wrong; one line per error, each with its place and remedy.
    #[error("{0}")]
    Policy(LoadError),
    /// The interface is not there.
    #[error("no interface {interface} in this network namespace; see: ip -brief link")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The interface cannot be asked.
    #[error("cannot ask the kernel about {interface}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A queue or core that is not there.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// Frames larger than a buffer where packets of several buffers cannot be had.
    #[error(
        "{interface} has an MTU of {mtu}: a frame may have {needed} bytes, a buffer holds {room}, and packets of several buffers \
         cannot be had here ({why}); lower the MTU (ip link set dev {interface} mtu {most}){hint}"
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest frame.
        needed: u32,
        /// What one buffer holds.
        room: u32,
        /// Why not several.
        why: String,
        /// The largest MTU that fits.
        most: u32,
        /// Another way out, if there is one.
        hint: &'static str,
    },
    /// A socket could not be opened.
    #[error("{source}{}{}", cause(source), remedy(source))]
    Socket {
        /// Why.
        source: OpenError,
    },
    /// Another process serves this interface.
    #[error(
        "another tidegate process serves {interface}: its workers still beat after {waited:?}; stop it first (it may hand over: \
         tidegate run --handover)"
    )]
    Served {
        /// The interface.
        interface: String,
        /// How long was waited for it to stop.
        waited: Duration,
    },
    /// The XDP program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A worker could not be started.
    #[error("cannot start the worker of queue {queue}: {source}")]
    Worker {
        /// Its queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker started and does not beat.
    #[error("the worker of queue {queue} did not come to life within {waited:?}; nothing was attached")]
    Lifeless {
        /// Its queue.
        queue: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// A port is taken.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The event file.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The monitor could not be started.
    #[error("cannot start the monitor: {0}")]
    Monitor(io::Error),
}

impl From<PinsError> for StartError {
    fn from(error: PinsError) -> Self {
        StartError::Program(error.into())
    }
}

fn cause(error: &OpenError) -> String {
    std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default()
}

fn remedy(error: &OpenError) -> &'static str {
    match error {
        OpenError::QueueTaken { .. } => "; stop the process that holds it, or serve other queues with --queues",
        OpenError::LinkDown { .. } => "; bring it up: ip link set dev IF up",
        OpenError::NoZeroCopy { .. } => "; use --bind auto",
        OpenError::MissingQueue { .. } => "; see ethtool -l",
        OpenError::NoAfXdp => "; use a kernel that has them, such as those of Amazon Linux 2023 or Debian",
        OpenError::Config { .. } | OpenError::NoInterface { .. } | OpenError::Permission | OpenError::System { .. } => {
            ""
        }
    }
}
