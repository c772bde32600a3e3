//! The signatures of the worker that control is written against.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;

use crate::engine::counters::Counters;
use crate::engine::event::StreamEvent;
use crate::engine::report::StreamReport;
use crate::io::heartbeat::HeartbeatSlot;
use crate::io::{FrameAccount, Socket};
use crate::policy::Policy;

/// A policy with the number that cached verdicts carry.
#[derive(Debug)]
pub struct Published {
    /// The policy.
    pub policy: Policy,
    /// Grows by one with each policy published.
    pub generation: u64,
}

/// Where workers read the policy from, once per burst.
pub type PolicySlot = arc_swap::ArcSwap<Published>;

/// What a worker does when its ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Ask again.
    Spin,
    /// Ask again for a moment, then sleep.
    Adaptive,
    /// Sleep.
    Sleep,
}

/// How one worker is to work.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its receive queue.
    pub queue: u32,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Packets per burst.
    pub batch: usize,
    /// What to do when the ring is empty.
    pub wait: Wait,
    /// How long it may be silent.
    pub heartbeat: Duration,
    /// Flows in its table.
    pub max_flows: usize,
    /// UDP port of GENEVE.
    pub geneve_port: u16,
}

/// How long packets stay in the worker, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    /// Packets measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99 of 100 are below.
    pub p99: u64,
    /// 999 of 1,000 are below.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

/// What the kernel counts for a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStatistics {
    /// Dropped for other reasons.
    pub rx_dropped: u64,
    /// Descriptors the kernel could not use for receiving.
    pub rx_invalid_descs: u64,
    /// Descriptors the kernel could not use for sending.
    pub tx_invalid_descs: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the transmit ring was empty.
    pub tx_ring_empty_descs: u64,
}

/// A worker's figures at one moment.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSnapshot {
    /// What the engine counted.
    pub engine: Counters,
    /// Where the frames are.
    pub frames: FrameAccount,
    /// What the kernel counted.
    pub socket: SocketStatistics,
    /// Frames that came back from the driver, sent.
    pub completed: u64,
    /// Packets dropped because the transmit ring was full.
    pub tx_full: u64,
    /// Times the worker found its own heartbeat stale.
    pub stalls: u64,
    /// Time with packets in hand, in nanoseconds.
    pub busy_ns: u64,
    /// Time without, in nanoseconds.
    pub idle_ns: u64,
    /// How long packets stayed.
    pub residence: Residence,
}

/// A running worker.
pub struct Worker {
    queue: u32,
    snapshot: WorkerSnapshot,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the worker's thread.
    pub fn spawn(
        config: WorkerConfig,
        socket: Socket,
        beat: HeartbeatSlot,
        _policy: Arc<PolicySlot>,
        _events: Sender<StreamEvent>,
    ) -> std::io::Result<Worker> {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let frames = socket.frames();
        let interval = config.heartbeat / 8;
        let thread = std::thread::Builder::new()
            .name(format!("tg-worker-{}", config.queue))
            .spawn(move || {
                while !stopping.load(std::sync::atomic::Ordering::Relaxed) {
                    beat.beat(crate::control::clock::monotonic_nanos());
                    std::thread::sleep(interval);
                }
                beat.retire();
                drop(socket);
            })?;
        let snapshot = WorkerSnapshot {
            engine: Counters::default(),
            frames,
            socket: SocketStatistics::default(),
            completed: 0,
            tx_full: 0,
            stalls: 0,
            busy_ns: 0,
            idle_ns: 0,
            residence: Residence::default(),
        };
        Ok(Worker {
            queue: config.queue,
            snapshot,
            stop,
            thread: Some(thread),
        })
    }

    /// Its receive queue.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Its figures now.
    pub fn counters(&self) -> WorkerSnapshot {
        self.snapshot
    }

    /// Its streams, if it answers in time.
    pub fn streams(&self, _within: Duration) -> Option<Vec<StreamReport>> {
        Some(Vec::new())
    }

    /// Whether its thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends it.
    pub fn stop(mut self) -> WorkerSnapshot {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.snapshot
    }
}
