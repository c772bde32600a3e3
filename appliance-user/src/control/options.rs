//! What the operator asked for, and what it means on this machine: queues, cores, sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::events::Destination;
use super::program::XdpChoice;
use crate::io::interface::Facts;
use crate::io::{BindMode, BusyPoll, SocketConfig};
use crate::policy::FailureAction;
use crate::worker::Wait;

/// Packets that one busy poll may process: the kernel's default NAPI weight.
const BUSY_POLL_BUDGET: u32 = 64;
/// A driver that resets the link whenever a zero-copy socket comes or goes.
const RESETS_LINK: &str = "ena";

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interface.
    pub interface: String,
    /// The policy file.
    pub policy: PathBuf,
    /// Which receive queues to serve.
    pub queues: QueueChoice,
    /// Which cores to pin workers to.
    pub cores: CoreChoice,
    /// Where the XDP program is to run.
    pub xdp: XdpChoice,
    /// How sockets are bound.
    pub bind: BindMode,
    /// Bytes of a buffer.
    pub frame_size: u32,
    /// Buffers per queue.
    pub frames: u32,
    /// Entries of each ring.
    pub ring_size: u32,
    /// Packets per burst.
    pub batch: usize,
    /// What a worker does when its ring is empty.
    pub wait: Wait,
    /// Busy polling, and for how long at a time.
    pub busy_poll: Option<Duration>,
    /// Buffers on huge pages.
    pub huge_pages: bool,
    /// What the kernel does with admitted packets while no worker is alive.
    pub on_failure: FailureAction,
    /// How long a worker may be silent.
    pub heartbeat: Duration,
    /// Address of `/health`.
    pub health: SocketAddr,
    /// Address of `/metrics` and the API.
    pub admin: SocketAddr,
    /// Where events go.
    pub events: Destination,
    /// UDP port of GENEVE.
    pub geneve_port: u16,
    /// On stop leave the pinned program to the next process.
    pub handover: bool,
    /// Directory of pins.
    pub pins: PathBuf,
}

/// Which receive queues to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChoice {
    /// Every one the interface has.
    All,
    /// The first so many.
    First(u32),
    /// These.
    List(Vec<u32>),
}

/// Which cores to pin workers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreChoice {
    /// Those this process may use, in order, and again from the first if there are more queues.
    Auto,
    /// Do not pin.
    None,
    /// These, one per queue.
    List(Vec<usize>),
}

/// A choice that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Too many queues, or one that is not there.
    #[error("{interface} has {has} receive queues (0 to {last}) and not queue {asked}; see ethtool -l {interface}", last = has - 1)]
    Queue {
        /// The interface.
        interface: String,
        /// How many it has.
        has: u32,
        /// The first that it does not have.
        asked: u32,
    },
    /// More queues than the program has room for.
    #[error("{asked} queues are too many: the XDP program has room for queues 0 to {last}", last = most - 1)]
    TooMany {
        /// The highest queue asked for, and one.
        asked: u32,
        /// Room in the program's maps.
        most: u32,
    },
    /// Fewer cores than queues.
    #[error("{cores} cores for {queues} queues: list one core per queue, or use --cores auto")]
    Cores {
        /// How many are listed.
        cores: usize,
        /// How many are needed.
        queues: usize,
    },
    /// A core that this process may not use.
    #[error("core {0} does not exist or this process may not use it; see taskset -p")]
    Core(usize),
}

impl QueueChoice {
    /// The queues to serve, of an interface with `has`, in ascending order.
    ///
    /// # Errors
    /// [`ChoiceError`] for a queue that the interface or the program (room for `most`) does not have.
    pub fn resolve(&self, interface: &str, has: u32, most: u32) -> Result<Vec<u32>, ChoiceError> {
        let mut queues: Vec<u32> = match self {
            QueueChoice::All => (0..has).collect(),
            QueueChoice::First(count) => (0..*count).collect(),
            QueueChoice::List(list) => list.clone(),
        };
        queues.sort_unstable();
        if let Some(asked) = queues.iter().copied().find(|queue| *queue >= has) {
            return Err(ChoiceError::Queue {
                interface: interface.to_owned(),
                has,
                asked,
            });
        }
        match queues.last() {
            Some(last) if *last >= most => Err(ChoiceError::TooMany { asked: last + 1, most }),
            _ => Ok(queues),
        }
    }
}

impl CoreChoice {
    /// The core of each of `queues` workers, out of those `allowed`.
    ///
    /// # Errors
    /// [`ChoiceError`] for too short a list or a core that is not allowed.
    pub fn resolve(&self, queues: usize, allowed: &[usize]) -> Result<Vec<Option<usize>>, ChoiceError> {
        match self {
            CoreChoice::None => Ok(vec![None; queues]),
            CoreChoice::Auto if allowed.is_empty() => Ok(vec![None; queues]),
            CoreChoice::Auto => Ok(allowed.iter().copied().cycle().take(queues).map(Some).collect()),
            CoreChoice::List(cores) if cores.len() < queues => Err(ChoiceError::Cores {
                cores: cores.len(),
                queues,
            }),
            CoreChoice::List(cores) => match cores.iter().find(|core| !allowed.contains(core)) {
                Some(core) => Err(ChoiceError::Core(*core)),
                None => Ok(cores.iter().copied().take(queues).map(Some).collect()),
            },
        }
    }
}

/// The cores that this process may use.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

impl Options {
    /// What is wanted of one queue's socket on this interface.
    pub fn socket(&self, queue: u32, facts: &Facts) -> SocketConfig {
        let bind = match self.bind {
            BindMode::Auto if facts.driver == RESETS_LINK => BindMode::Copy,
            bind => bind,
        };
        SocketConfig {
            interface: self.interface.clone(),
            queue,
            bind,
            frame_size: self.frame_size,
            frames: self.frames,
            ring_size: self.ring_size,
            huge_pages: self.huge_pages,
            multi_buffer: true,
            busy_poll: self.busy_poll.map(|time| BusyPoll {
                micros: u32::try_from(time.as_micros()).unwrap_or(u32::MAX),
                budget: BUSY_POLL_BUDGET,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_resolved_against_what_there_is() {
        assert_eq!(QueueChoice::All.resolve("if0", 3, 64), Ok(vec![0, 1, 2]));
        assert_eq!(QueueChoice::First(2).resolve("if0", 3, 64), Ok(vec![0, 1]));
        assert_eq!(QueueChoice::List(vec![2, 0]).resolve("if0", 3, 64), Ok(vec![0, 2]));
        let error = QueueChoice::First(4)
            .resolve("if0", 3, 64)
            .expect_err("there is no queue 3");
        assert_eq!(
            error,
            ChoiceError::Queue {
                interface: "if0".to_owned(),
                has: 3,
                asked: 3
            }
        );
        assert!(error.to_string().contains("0 to 2"), "{error}");
        assert_eq!(
            QueueChoice::All.resolve("if0", 65, 64),
            Err(ChoiceError::TooMany { asked: 65, most: 64 })
        );
    }

    #[test]
    fn cores_are_used_in_order_and_again() {
        assert_eq!(
            CoreChoice::Auto.resolve(3, &[1, 3]),
            Ok(vec![Some(1), Some(3), Some(1)])
        );
        assert_eq!(CoreChoice::None.resolve(2, &[1]), Ok(vec![None, None]));
        assert_eq!(CoreChoice::List(vec![3]).resolve(1, &[1, 3]), Ok(vec![Some(3)]));
        assert_eq!(
            CoreChoice::List(vec![3]).resolve(2, &[3]),
            Err(ChoiceError::Cores { cores: 1, queues: 2 })
        );
        assert_eq!(CoreChoice::List(vec![9]).resolve(1, &[3]), Err(ChoiceError::Core(9)));
        assert!(!allowed_cores().is_empty());
    }
}
