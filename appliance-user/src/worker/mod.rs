//! Workers: one pinned thread per receive queue, which alone owns its socket, its engine and its flows.
//!
//! This is the only place where io and engine meet. The control plane sees a worker through its handle: a snapshot of
//! counters, and a bounded mailbox that is read between bursts.

mod answers;
mod burst;
mod links;
mod residence;
pub mod warm;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{self, Sender};

use self::answers::{Answers, Asked};
pub use self::links::Link;
pub use self::residence::Residence;
use crate::engine::counters::Counters;
use crate::engine::event::StreamEvent;
use crate::engine::expect::Activity;
use crate::engine::report::StreamReport;
use crate::io::FrameAccount;
use crate::io::heartbeat::HeartbeatSlot;
use crate::io::xsk::{Socket, Statistics};
use crate::policy::Policy;

/// Questions a worker's mailbox holds; more are refused at the asker's side.
const MAILBOX: usize = 8;

/// Reports in one answer of a worker, at most: it makes them between bursts, a few at a time.
pub const MAX_REPORTS: usize = 4096;

/// A compiled policy and the number of its publication.
#[derive(Debug)]
pub struct Published {
    /// The policy, immutable.
    pub policy: Policy,
    /// Grows with every publication; flows admitted under another number are decided anew.
    pub generation: u64,
}

/// Where the control plane publishes the policy and workers read it, once per burst.
pub type PolicySlot = ArcSwap<Published>;

/// What a worker does when its ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Look again at once: lowest latency, a whole core.
    Spin,
    /// Look again for a short while, then sleep until a packet or the next heartbeat.
    Adaptive,
    /// Sleep until a packet or the next heartbeat.
    Sleep,
}

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Receive queue of the interface.
    pub queue: u32,
    /// Core to run on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// Packets taken from the ring at a time.
    pub batch: usize,
    /// What to do when there are none.
    pub wait: Wait,
    /// Age at which the XDP program takes the heartbeat for stale.
    pub heartbeat: Duration,
    /// Flows followed at a time.
    pub max_flows: usize,
    /// UDP destination port of GENEVE.
    pub geneve_port: u16,
}

/// A worker's figures at one moment; each figure by itself is exact, and all are of the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerSnapshot {
    /// What the engine counted.
    pub engine: Counters,
    /// Where the UMEM frames are.
    pub frames: FrameAccount,
    /// What the kernel counted at the socket.
    pub socket: Statistics,
    /// Frames that came back from the driver, sent.
    pub completed: u64,
    /// Packets dropped because the transmit ring was full.
    pub tx_full: u64,
    /// Times that the worker found its own heartbeat stale.
    pub stalls: u64,
    /// The last of those times: the beat before it and the beat after it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub last_stall: Option<(u64, u64)>,
    /// Events that nobody took from the channel.
    pub events_shed: u64,
    /// Messages about groups of flows that did not get to their worker.
    pub group_messages_shed: u64,
    /// Messages about groups that there was no room for.
    pub groups_refused: u64,
    /// Time with packets in hand, in nanoseconds.
    pub busy_ns: u64,
    /// Time without, in nanoseconds.
    pub idle_ns: u64,
    /// How long packets stayed with the worker; renewed every second.
    pub residence: Residence,
    /// Rounds in which the interface was down.
    pub link_down: u64,
    /// The worker ended by itself, because its socket failed.
    pub failed: bool,
}

/// What may be asked of a worker.
enum Question {
    Streams(Asked),
}

/// What a worker's thread and its handle share.
struct Shared {
    stop: AtomicBool,
    snapshot: Mutex<WorkerSnapshot>,
    activity: Mutex<Activity>,
}

impl Shared {
    /// The worker never waits for a reader: it publishes again a moment later.
    fn publish(&self, snapshot: &WorkerSnapshot) {
        if let Ok(mut place) = self.snapshot.try_lock() {
            *place = *snapshot;
        }
    }

    /// In the same way; at most some kilobytes, into memory that is kept.
    fn publish_activity(&self, activity: &Activity) {
        if let Ok(mut place) = self.activity.try_lock() {
            place.copy_from(activity);
        }
    }
}

/// What a worker has in common with the rest of the process.
pub struct Ties {
    /// Where the policy is published.
    pub policy: Arc<PolicySlot>,
    /// Where events of streams go.
    pub events: Sender<StreamEvent>,
    /// Its end of the links between workers.
    pub link: Link,
}

/// A running worker's handle.
pub struct Worker {
    queue: u32,
    shared: Arc<Shared>,
    questions: Sender<Question>,
    thread: JoinHandle<WorkerSnapshot>,
}

impl Worker {
    /// Starts a worker on its own thread. When this returns, the worker has beaten once and takes packets.
    ///
    /// # Errors
    /// When the thread cannot be made or bound to its core.
    pub fn spawn(config: WorkerConfig, socket: Socket, beat: HeartbeatSlot, ties: Ties) -> io::Result<Worker> {
        let (questions, mailbox) = channel::bounded(MAILBOX);
        let (ready, started) = channel::bounded(1);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            snapshot: Mutex::new(WorkerSnapshot::default()),
            activity: Mutex::new(Activity::default()),
        });
        let queue = config.queue;
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("worker-{queue}")).spawn(move || {
            let pinned = config.core.map_or(Ok(()), pin_to);
            let fine = pinned.is_ok();
            // The receiver is gone only when spawn() was abandoned.
            let _ = ready.send(pinned);
            if !fine {
                return WorkerSnapshot::default();
            }
            warm::first_streams();
            burst::Loop::new(config, socket, beat, ties, Answers::new(mailbox), theirs).run()
        })?;
        match started.recv() {
            Ok(Ok(())) => Ok(Worker {
                queue,
                shared,
                questions,
                thread,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the worker's thread ended before it began")),
        }
    }

    /// The receive queue it serves.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Its figures, at most some milliseconds old.
    pub fn counters(&self) -> WorkerSnapshot {
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds when media of each rule came last, at most some milliseconds old.
    pub fn add_activity(&self, to: &mut Activity) {
        to.merge(&self.shared.activity.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Hands over reports of its streams, and tells how many there were: at most [`MAX_REPORTS`], made over many rounds between
    /// packets. Each stream is told as it was at a moment of its own, and one that comes or goes meanwhile may be missing.
    ///
    /// `None` where the worker is silent for longer than `silence` or is not done at `until`: then what was handed over is not
    /// the whole.
    pub fn streams(&self, silence: Duration, until: Instant, each: impl FnMut(&StreamReport)) -> Option<usize> {
        answers::ask(&self.questions, silence, until, each)
    }

    /// Whether its thread runs.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends it after the burst under way and tells its final figures.
    pub fn stop(self) -> WorkerSnapshot {
        self.shared.stop.store(true, Ordering::Release);
        let last_known = *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        self.thread.join().unwrap_or(last_known)
    }
}

fn pin_to(core: usize) -> io::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no core {core}"),
        ));
    }
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).map_err(|error| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("cannot run on core {core}: {error}"),
        )
    })
}
