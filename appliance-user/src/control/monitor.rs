//! Watches the workers and the interface, in a thread of its own: every 20 ms for a bypass, every 100 ms for health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bypass::{BypassWatch, Note, Observation};
use super::clock;
use super::events::{ControlEvent, EventSender};
use super::expect::{ExpectWatch, Sight};
use super::figures::{Facts, Figures, KernelFigures, QueueFigures};
use super::health::{self, Board, Condition, Health, QueueCondition, TxWatch};
use super::http::Operator;
use super::program::{Attached, ProgramLog};
use super::streams::StreamList;
use super::tables::Tables;
use super::workers::Workers;
use super::{figures, metrics, netlink, status};
use crate::io::heartbeat::HeartbeatSlot;
use crate::worker::{MAX_REPORTS, Worker};

/// How often heartbeats are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Every so many ticks the interface and the workers' counters are looked at as well.
const HEALTH_TICKS: u32 = 5;
/// How often the program's log is fetched.
const LOG_TICK: Duration = Duration::from_millis(200);
/// How long one worker may be silent while it tells its streams.
const STREAMS_SILENCE: Duration = Duration::from_millis(250);
/// How long all of them may take together: who asked is still connected then.
const STREAMS_ALTOGETHER: Duration = Duration::from_secs(4);

/// What everybody in control looks at.
pub struct Watched {
    /// What does not change.
    pub facts: Facts,
    /// How the program was attached.
    pub attached: Attached,
    /// When.
    pub since: Instant,
    /// How long a worker may be silent.
    pub heartbeat: Duration,
    /// The beats of the queues served.
    pub beats: Vec<HeartbeatSlot>,
    /// The workers.
    pub workers: Workers,
    /// The kernel's tables.
    pub tables: Tables,
    /// The verdict that `/health` reads.
    pub board: Arc<Board>,
    /// The event log.
    pub events: EventSender,
    /// The appliance is stopping.
    pub draining: AtomicBool,
    /// Which of them are in bypass.
    pub dark: Dark,
    /// The streams that are waited for.
    pub expected: Mutex<ExpectWatch>,
}

/// Which of the queues served are in bypass, by their place.
#[derive(Debug, Default)]
pub struct Dark(Vec<AtomicBool>);

impl Dark {
    /// None of `queues` is.
    pub fn new(queues: usize) -> Self {
        Dark((0..queues).map(|_| AtomicBool::new(false)).collect())
    }

    fn set(&self, place: usize, dark: bool) {
        if let Some(flag) = self.0.get(place) {
            flag.store(dark, Ordering::Relaxed);
        }
    }

    fn get(&self, place: usize) -> bool {
        self.0.get(place).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Watched {
    fn kernel(&self) -> KernelFigures {
        self.tables.figures().unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's counters cannot be read");
            KernelFigures::zero()
        })
    }

    /// Everything at this moment.
    pub fn figures(&self) -> Figures {
        let now = clock::monotonic_nanos();
        let queues = self.workers.read(|workers| {
            let queue = |worker: &Worker| {
                let place = self.beats.iter().position(|beat| beat.queue() == worker.queue());
                QueueFigures {
                    queue: worker.queue(),
                    running: worker.is_running(),
                    heartbeat_age: place.map_or(Duration::MAX, |place| self.beats[place].age(now)),
                    dark: place.is_some_and(|place| self.dark.get(place)),
                    worker: worker.counters(),
                }
            };
            workers.iter().map(queue).collect()
        });
        let counters = self.events.counters();
        let events = [&counters.written, &counters.shed, &counters.failed].map(|count| count.load(Ordering::Relaxed));
        Figures {
            facts: self.facts.clone(),
            kernel: self.kernel(),
            queues,
            events,
            health: self.board.read(now),
            uptime: self.since.elapsed(),
            expected: self.expected.lock().unwrap_or_else(PoisonError::into_inner).rules(),
        }
    }

    /// Looks for streams that are waited for, and tells which went missing or came back.
    fn look_for_expected(&self) {
        let now = clock::monotonic_nanos();
        let beating = |beat: &HeartbeatSlot| beat.age(now) <= self.heartbeat;
        let dark = (0..self.beats.len()).any(|place| self.dark.get(place));
        let told = self.workers.read(|workers| {
            let sight = Sight {
                everywhere: !dark && self.beats.iter().all(beating) && workers.iter().all(Worker::is_running),
                stalls: workers.iter().map(|worker| worker.counters().stalls).sum(),
            };
            let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            expected.look(now, sight, |all| {
                workers.iter().for_each(|worker| worker.add_activity(all))
            })
        });
        told.into_iter().for_each(|event| self.events.send(event));
    }

    /// Judges the appliance's health and publishes it.
    pub fn judge(&self, tx: &mut [TxWatch]) {
        let now = clock::monotonic_nanos();
        let queues = self.workers.read(|workers| self.conditions(workers, tx, now));
        let link = netlink::link_state(&self.facts.interface);
        let condition = Condition {
            draining: self.draining.load(Ordering::Relaxed),
            link: link.as_ref().map_err(ToString::to_string),
            attached_to: self.attached.interface,
            program: Some(self.attached.program),
            heartbeat: self.heartbeat,
            queues: &queues,
        };
        self.publish(health::judge(&condition), now);
    }

    fn conditions(&self, workers: &[Worker], tx: &mut [TxWatch], now: u64) -> Vec<QueueCondition> {
        let mut conditions = Vec::with_capacity(self.beats.len());
        for (beat, watch) in self.beats.iter().zip(tx) {
            let worker = workers.iter().find(|worker| worker.queue() == beat.queue());
            let figures = worker.map(Worker::counters);
            conditions.push(QueueCondition {
                queue: beat.queue(),
                heartbeat_age: beat.age(now),
                running: worker.is_some_and(Worker::is_running),
                tx_waiting: figures.map_or(Duration::ZERO, |figures| {
                    watch.observe(now, figures.frames.transmit.into(), figures.completed)
                }),
            });
        }
        conditions
    }

    /// Publishes a verdict, and tells when it changed.
    pub fn publish(&self, health: Health, now: u64) {
        let (status, reason) = (health.status(), health.reason().map(str::to_owned));
        let before = self.board.publish(health, now);
        // A figure in the reason that moves on is no news.
        if before.is_some_and(|before| before.status() != status) {
            self.events.send(ControlEvent::HealthChanged { status, reason });
        }
    }

    fn look_for_bypass(&self, watches: &mut [BypassWatch]) {
        let Ok(totals) = self.tables.bypass() else { return };
        let now = clock::monotonic_nanos();
        for (place, (watch, beat)) in watches.iter_mut().zip(&self.beats).enumerate() {
            let last = beat.last();
            let worker = self.workers.read(|workers| {
                let worker = workers.iter().find(|worker| worker.queue() == beat.queue());
                worker.map(|worker| (worker.is_running(), worker.counters().last_stall))
            });
            let (running, last_stall) = worker.unwrap_or_default();
            // Before the observation: what the kernel did during that stall is part of it.
            let over = last_stall.filter(|(_, to)| last.is_some_and(|beat| beat >= *to));
            if let Some(events) = over.and_then(|stall| watch.missed(stall, totals)) {
                events.into_iter().for_each(|event| self.events.send(event));
            }
            let stale = beat.age(now) > self.heartbeat;
            let seen = Observation {
                now,
                beat: last,
                running: !stale || running,
                totals,
            };
            if let Some(event) = watch.observe(seen) {
                self.events.send(event);
            }
            self.dark.set(place, watch.is_dark());
            if !watch.is_dark() {
                beat.leave_note(Note { totals, at: now }.to_words());
            }
        }
    }
}

impl Operator for Watched {
    fn metrics(&self) -> String {
        metrics::render(figures::families(&self.figures()))
    }

    fn streams(&self) -> Vec<u8> {
        let until = Instant::now() + STREAMS_ALTOGETHER;
        let mut list = StreamList::default();
        self.workers.read(|workers| {
            for worker in workers {
                let (queue, before) = (worker.queue(), list.mark());
                match worker.streams(STREAMS_SILENCE, until, |report| list.add(queue, report)) {
                    Some(reports) if reports >= MAX_REPORTS => list.truncated(),
                    Some(_) => {}
                    None => list.silent(queue, before),
                }
            }
        });
        list.into_json()
    }

    fn status(&self) -> serde_json::Value {
        status::status(&self.figures())
    }
}

/// The watching threads.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Monitor {
    /// Watches from now on. `watches` are one per queue, in the order of `watched.beats`; `log` is fetched in a thread of its
    /// own, whose failure is nobody else's.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(
        watched: Arc<Watched>,
        mut watches: Vec<BypassWatch>,
        log: Option<ProgramLog>,
    ) -> std::io::Result<Self> {
        let mut monitor = Monitor {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        let mut tx = vec![TxWatch::default(); watches.len()];
        let mut tick = 0_u32;
        monitor.every("tg-monitor", TICK, move || {
            watched.look_for_bypass(&mut watches);
            if tick.is_multiple_of(HEALTH_TICKS) {
                watched.judge(&mut tx);
                watched.look_for_expected();
            }
            tick = tick.wrapping_add(1);
        })?;
        if let Some(fetch) = log {
            monitor.every("tg-kernel-log", LOG_TICK, fetch)?;
        }
        Ok(monitor)
    }

    fn every(
        &mut self,
        name: &str,
        interval: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                work();
                std::thread::sleep(interval);
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends them.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a watching thread failed");
            }
        }
    }
}
