//! The burst loop: take packets, let the engine decide, send or recycle, beat.
//!
//! Once per burst the clock and the policy are read; nothing here takes a lock, allocates or logs per packet.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::Cache;
use rustix::time::{ClockId, clock_gettime};
use tidegate_common::drop_reason::DropReason;

use super::answers::Answers;
use super::residence::ResidenceTimes;
use super::{Published, Shared, Ties, Wait, WorkerConfig, WorkerSnapshot};
use crate::engine::time::Timestamp;
use crate::engine::{self, Engine, Verdict};
use crate::io::heartbeat::HeartbeatSlot;
use crate::io::xsk::{FlushError, Socket};
use crate::io::{Burst, Fate, Packet};

/// How often the engine gets time to pass: often and little at a time, since packets wait meanwhile.
const TICK: Duration = Duration::from_micros(312);
/// In what time so many slots of the flow table get it: a table of 10,000 flows has its turn 2.5 times a second, the largest
/// one every two or three seconds.
const TICK_BUDGET: (usize, Duration) = (128, HOUSEKEEPING);
/// Slots in one step, between two looks at the clock, and as many as fall due from one tick to the next. Sixteen streams
/// whose memory is not cached take some 20 microseconds.
const TICK_STEP: usize = 16;
/// How long the steps of one tick may take together; what is left over is left out, and the table's turn comes later.
const TICK_TIME: Duration = Duration::from_micros(80);
/// How often somebody looks for questions and figures are published.
const HOUSEKEEPING: Duration = Duration::from_millis(5);
/// Events handed on at a time; each costs about as much as a packet.
const EVENTS_AT_A_TIME: usize = 64;
/// Beats in the time after which the worker is taken for dead. Every beat takes the line from the cores that run the XDP
/// program, which look at it for every packet: a worker that spins would keep it moving.
const BEATS: u32 = 64;
/// How often percentiles are worked out anew: it takes a walk over the whole histogram.
const SUMMARY: Duration = Duration::from_secs(1);
/// How long a worker that stops goes on with what is in its rings.
const LAST_BURSTS: Duration = Duration::from_millis(50);
/// How long an adaptive worker looks again before it sleeps.
const SPIN_BEFORE_SLEEP: Duration = Duration::from_micros(100);

/// How many slots of the flow table have their turn. Parts of a slot are kept for the next time: of a few flows none would ever
/// be due otherwise.
#[derive(Debug, Default)]
struct Turns {
    /// Microseconds times slots that are not worth a slot yet.
    left_over: u128,
}

impl Turns {
    fn due(&mut self, slots: usize, passed: Duration) -> usize {
        let (budget, period) = TICK_BUDGET;
        // Of a small table every flow has its turn once a period, not more often. An empty one counts as one
        // of a single flow: what passes besides flows, fragments and groups, has its turn with them.
        let slots = slots.clamp(1, budget);
        let worth = self.left_over + slots as u128 * passed.min(period).as_micros();
        self.left_over = worth % period.as_micros();
        (worth / period.as_micros()) as usize
    }
}

/// A worker's thread.
pub(super) struct Loop {
    config: WorkerConfig,
    socket: Socket,
    beat: HeartbeatSlot,
    ties: Ties,
    answers: Answers,
    shared: Arc<Shared>,
    engine: Engine,
    residence: ResidenceTimes,
    figures: WorkerSnapshot,
    /// Packets of too many buffers that are in the engine's count already.
    too_long: u64,
    /// A jumbo's bytes in one piece.
    whole: Vec<u8>,
    started: Timestamp,
    last_beat: Timestamp,
    last_packet: Timestamp,
    last_tick: Timestamp,
    turns: Turns,
    last_housekeeping: Timestamp,
    last_summary: Timestamp,
}

impl Loop {
    pub(super) fn new(
        config: WorkerConfig,
        socket: Socket,
        beat: HeartbeatSlot,
        ties: Ties,
        answers: Answers,
        shared: Arc<Shared>,
    ) -> Self {
        let engine = Engine::new(ties.link.place(engine::Config {
            geneve_port: config.geneve_port,
            max_flows: config.max_flows,
            seed: RandomState::new().hash_one(config.queue),
            ..engine::Config::default()
        }));
        let now = now();
        Loop {
            too_long: 0,
            whole: Vec::new(),
            residence: ResidenceTimes::new(),
            figures: WorkerSnapshot::default(),
            config,
            socket,
            beat,
            ties,
            answers,
            shared,
            engine,
            started: now,
            last_beat: now,
            last_packet: now,
            last_tick: now,
            turns: Turns::default(),
            last_housekeeping: now,
            last_summary: now,
        }
    }

    /// Runs until it is told to stop or the socket is gone; the figures it returns are final.
    pub(super) fn run(mut self) -> WorkerSnapshot {
        let mut burst = Burst::with_capacity(self.config.batch);
        let mut policy = Cache::new(Arc::clone(&self.ties.policy));
        let mut clock = now();
        // The time before the first beat is start-up, not a stall.
        self.beat(clock);
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = self.beat_or_discard(clock);
            let messages = self.ties.link.receive(now, &mut self.engine);
            let packets = self.socket.receive(&mut burst);
            if packets > 0 {
                self.last_packet = now;
                self.work(now, &mut burst, policy.load());
            }
            if self.flush().is_err() {
                self.figures.failed = true;
                break;
            }
            if packets > 0 {
                clock = self::now();
                // A stale burst too: it stayed as long, only in vain.
                self.residence.record(clock.since(now), packets as u64);
            }
            // After the packets, which must not wait for it.
            self.ties.link.send(&mut self.engine);
            let kept_house = self.keep_house(now);
            let answered = self.answers.go_on(now, &self.engine);
            if packets == 0 && messages == 0 && !answered {
                self.rest(now);
            }
            if packets == 0 || kept_house || answered {
                clock = self::now();
            }
        }
        self.finish(burst, policy.load())
    }

    /// Beats, if it is time to; but when its own heartbeat is stale, what has queued up meanwhile is discarded first. XDP
    /// has been sending newer packets of the same flows around the worker: old ones must not follow them.
    fn beat_or_discard(&mut self, mut now: Timestamp) -> Timestamp {
        let age = now.since(self.last_beat);
        if age > self.config.heartbeat {
            let discarded = self.socket.discard_backlog();
            self.engine
                .driver_dropped(DropReason::StaleAfterStall, discarded.received);
            self.engine.blind();
            now = self::now();
            self.figures.stalls += 1;
            self.figures.last_stall = Some((self.last_beat.nanos(), now.nanos()));
            // Before the beat: whoever sees the beat sees what it ended.
            self.shared.publish(&self.figures);
            self.beat(now);
        } else if age >= self.config.heartbeat / BEATS {
            self.beat(now);
        }
        now
    }

    fn beat(&mut self, now: Timestamp) {
        self.beat.beat(now.nanos());
        self.last_beat = now;
    }

    fn work(&mut self, now: Timestamp, burst: &mut Burst, published: &Published) {
        let policy = engine::Published {
            policy: &published.policy,
            generation: published.generation,
        };
        let (engine, whole) = (&mut self.engine, &mut self.whole);
        // XDP leaves to the kernel what is not for us; what comes here all the same can only be dropped.
        let settle = |packet: &mut Packet, verdict| {
            if verdict == Verdict::Return {
                packet.decide(Fate::Send);
            }
        };
        // A jumbo is by itself.
        for run in burst.runs_mut(|packet| !packet.is_multi_buffer()) {
            match run {
                [jumbo] if jumbo.is_multi_buffer() => {
                    let verdict = process_jumbo(engine, now, &policy, jumbo, whole);
                    settle(jumbo, verdict);
                }
                run => engine.process_burst(now, &policy, run, Packet::head_mut, settle),
            }
        }
        let done = self::now();
        self.figures.busy_ns += done.since(now).as_nanos() as u64;
        if done.since(self.last_beat) > self.config.heartbeat {
            self.revoke(burst);
        }
        let (engine, figures) = (&mut self.engine, &mut self.figures);
        self.socket.settle(burst, |packet| {
            figures.tx_full += 1;
            engine.revoke(DropReason::TransmitFull, 1, packet.len() as u64);
        });
    }

    /// The thread was stopped in the middle of a burst for longer than the heartbeat allows: the burst is stale too.
    fn revoke(&mut self, burst: &mut Burst) {
        let (mut packets, mut bytes) = (0, 0);
        for packet in burst.iter_mut().filter(|packet| packet.fate() == Fate::Send) {
            packets += 1;
            bytes += packet.len() as u64;
            packet.decide(Fate::Recycle);
        }
        self.engine.revoke(DropReason::StaleAfterStall, packets, bytes);
        self.engine.blind();
    }

    /// Sends what was decided. A link that is down comes back; anything else the kernel refuses is the worker's end.
    fn flush(&mut self) -> Result<(), FlushError> {
        match self.socket.flush() {
            Ok(flushed) => {
                self.figures.completed += u64::from(flushed.completed);
                Ok(())
            }
            Err(FlushError::LinkDown) => {
                self.figures.link_down += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Does what is due besides packets; tells whether anything was.
    fn keep_house(&mut self, now: Timestamp) -> bool {
        let passed = now.since(self.last_tick);
        if passed < TICK {
            return false;
        }
        self.last_tick = now;
        self.tick(now, passed);
        self.hand_on_events(EVENTS_AT_A_TIME);
        if now.since(self.last_housekeeping) >= HOUSEKEEPING {
            self.housekeeping(now);
        }
        true
    }

    /// Lets time pass for the part of the flow table whose turn it is after this time.
    fn tick(&mut self, now: Timestamp, passed: Duration) {
        let mut due = self.turns.due(self.engine.slots(), passed);
        let began = self::now();
        while due > 0 {
            let step = due.min(TICK_STEP);
            self.engine.tick(now, step);
            due -= step;
            if self::now().since(began) > TICK_TIME {
                return;
            }
        }
    }

    fn hand_on_events(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(event) = self.engine.next_event() else { return };
            if self.ties.events.try_send(event).is_err() {
                self.figures.events_shed += 1;
            }
        }
    }

    fn housekeeping(&mut self, now: Timestamp) {
        self.last_housekeeping = now;
        self.answers.look(now);
        if now.since(self.last_summary) >= SUMMARY {
            self.last_summary = now;
            self.figures.residence = self.residence.summary();
        }
        self.gather(now);
        self.shared.publish(&self.figures);
        self.shared.publish_activity(self.engine.activity());
    }

    fn gather(&mut self, now: Timestamp) {
        let too_long = self.socket.too_long();
        self.engine
            .driver_dropped(DropReason::TooLarge, too_long - self.too_long);
        self.too_long = too_long;
        self.figures.engine = self.engine.counters();
        let (shed, refused) = self.engine.group_losses();
        self.figures.group_messages_shed = shed + self.ties.link.shed();
        self.figures.groups_refused = refused;
        self.figures.frames = self.socket.frames();
        if let Ok(socket) = self.socket.statistics() {
            if socket.received_lost() > self.figures.socket.received_lost() {
                // Lost here, not on the network.
                self.engine.blind();
            }
            self.figures.socket = socket;
        }
        self.figures.idle_ns = (now.since(self.started).as_nanos() as u64).saturating_sub(self.figures.busy_ns);
    }

    fn rest(&mut self, now: Timestamp) {
        let sleep = match self.config.wait {
            Wait::Spin => false,
            Wait::Adaptive => now.since(self.last_packet) >= SPIN_BEFORE_SLEEP,
            Wait::Sleep => true,
        };
        if !sleep {
            std::hint::spin_loop();
            return;
        }
        // What a nap takes is missing from the time that a busy machine may let the worker wait for its core before XDP takes it
        // for dead: measured on two cores with eight busy loops beside it, a nap of 20 ms and 36 to 61 ms of waiting.
        let nap = (self.config.heartbeat / 16).clamp(Duration::from_millis(1), Duration::from_millis(5));
        // A failure to wait is a failure of the socket, and the next flush tells which.
        let _ = self.socket.wait(nap);
    }

    fn finish(mut self, mut burst: Burst, published: &Published) -> WorkerSnapshot {
        // From now on XDP takes the failure action, or is detached already: what it gave to this worker before that is
        // still sent, for nobody else can.
        self.beat.retire();
        self.last_beat = now();
        let deadline = self.last_beat.after(LAST_BURSTS);
        while now() < deadline && self.socket.receive(&mut burst) > 0 {
            let now = now();
            self.work(now, &mut burst, published);
            if self.flush().is_err() {
                break;
            }
        }
        let left = self.socket.discard_backlog();
        self.engine.driver_dropped(DropReason::ShuttingDown, left.received);
        while self.socket.frames().transmit > 0 && now() < deadline && self.flush().is_ok() {
            std::thread::yield_now();
        }
        self.hand_on_events(usize::MAX);
        self.figures.residence = self.residence.summary();
        self.gather(now());
        self.figures
    }
}

/// A packet in several buffers is judged from a copy in one piece; the headers, which alone are changed, go back.
fn process_jumbo(
    engine: &mut Engine,
    now: Timestamp,
    policy: &engine::Published<'_>,
    packet: &mut Packet,
    whole: &mut Vec<u8>,
) -> Verdict {
    packet.copy_into(whole);
    let verdict = engine.process(now, policy, whole);
    if verdict == Verdict::Return {
        let head = packet.head_mut();
        let length = head.len();
        if let Some(turned) = whole.get(..length) {
            head.copy_from_slice(turned);
        }
    }
    verdict
}

fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    Timestamp::from_nanos((time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots that have their turn in a second of ticks this far apart.
    fn in_a_second(slots: usize, apart: Duration) -> usize {
        let mut turns = Turns::default();
        let ticks = (Duration::from_secs(1).as_nanos() / apart.as_nanos()) as usize;
        (0..ticks).map(|_| turns.due(slots, apart)).sum()
    }

    #[test]
    fn each_of_a_few_flows_has_its_turn_once_a_period() {
        for slots in [1, 3, 15, 16, 50, 128] {
            let turns = in_a_second(slots, TICK);
            assert!((slots * 199..=slots * 200).contains(&turns), "{slots}: {turns}");
            assert_eq!(in_a_second(slots, HOUSEKEEPING), slots * 200, "a worker that naps");
        }
        assert_eq!(in_a_second(0, HOUSEKEEPING), 200, "fragments and groups without a flow");
        assert!((25_400..=25_600).contains(&in_a_second(10_000, TICK)));
    }
}
