//! Making a load: a generator on a thread of its own, pinned, that always ends.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};
use tidegate_frames::maps::{Control, Progress};

use crate::error::{Error, Result};
use crate::interface::{Interface, Refused};
use crate::load::{GeneratorKind, Lane, Load, MAX_SECONDS, Position, Rate, Sent, Unlisted};
use crate::planned::Planned;
use crate::{af_xdp, kernel};

/// Frames that a late generator makes up for at once, unless [`CATCH_UP`] has more. What was due before is left out: a long
/// burst queues wherever it is sent, and its round trips would tell of the generator's delay and of nothing else.
const CATCH_UP_FRAMES: f64 = 32.0;
/// The same as time, for high rates, at which a core is often away for some ten frames.
const CATCH_UP: Duration = Duration::from_micros(50);
/// How long a generator may take to notice a change: it looks before every frame, but may have to share its core.
const NOTICE: Duration = Duration::from_secs(5);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_micros(200);

/// Makes loads.
#[derive(Debug)]
pub struct Generator;

impl Generator {
    /// Starts a load on the lane's core. The lane's interface must have an XDP program, which the collector's is, before the
    /// kernel's generator starts.
    ///
    /// # Errors
    /// [`Error`]: a load that cannot be, no XDP programs, no such interface.
    pub fn start(lane: &Lane, load: &Load) -> Result<Running> {
        let planned = Planned::new(lane, load)?;
        let mut interface = Interface::open(&lane.interface)?;
        let before = interface.refused()?;
        let progress = Progress {
            round: load.from.round,
            stream: load.from.stream,
            ..Progress::default()
        };
        let frame_len = planned.plan.frame_len() as u64;
        let (source, threads): (Box<dyn Source>, _) = match load.generator {
            GeneratorKind::Kernel => kernel::start(lane, load, &planned, progress)?,
            GeneratorKind::AfXdp => af_xdp::start(lane, load, planned, progress)?,
        };
        Ok(Running {
            source,
            threads,
            frame_len,
            interface: Mutex::new(interface),
            before,
        })
    }
}

/// Where a generator's state is.
pub(crate) trait Source: Send + Sync {
    /// How far it is.
    fn progress(&self) -> Result<Progress>;
    /// Asks it to end soon.
    fn stop(&self);
    /// Makes it do something else, that it ends included if that was asked for before; returns the number of the change.
    fn alter(&self, alter: &dyn Fn(&mut Control)) -> Result<u32>;
}

/// A generator at work; stopped when dropped.
pub struct Running {
    source: Box<dyn Source>,
    threads: Vec<JoinHandle<Result<()>>>,
    frame_len: u64,
    interface: Mutex<Interface>,
    before: Refused,
}

impl Running {
    /// What was sent so far. From any thread.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn sent(&self) -> Result<Sent> {
        let progress = self.source.progress()?;
        let refused = locked(&self.interface).refused()?;
        let packets = progress.listed + progress.unlisted;
        Ok(Sent {
            packets,
            bytes: packets * self.frame_len,
            listed: progress.listed,
            unlisted: progress.unlisted,
            not_delivered: refused.out.saturating_sub(self.before.out),
            not_collected: refused.back.saturating_sub(self.before.back),
            left_out: progress.left_out,
            next: Position {
                round: progress.round,
                stream: progress.stream,
            },
        })
    }

    /// Goes on at another rate, also after a hold. The new schedule begins when the generator notices, which it has on return:
    /// nothing is late in it, nothing is made up for, and nothing is counted as left out.
    ///
    /// # Errors
    /// A rate that cannot be had, or a generator that does not notice.
    pub fn set_rate(&self, rate: Rate) -> Result<()> {
        rate.validate()?;
        self.alter(&|control: &mut Control| {
            (control.interval, control.patience) = (interval(rate), patience(rate).as_nanos() as u64);
            control.held = 0;
        })
    }

    /// Sends nothing until [`Running::set_rate`]. On return nothing more is made, so that what [`Running::sent`] says stays true;
    /// frames may still be on their way.
    ///
    /// # Errors
    /// A generator that does not notice.
    pub fn hold(&self) -> Result<()> {
        self.alter(&|control: &mut Control| control.held = 1)
    }

    /// Changes what is done and waits until the generator has noticed, or has ended.
    fn alter(&self, alter: &dyn Fn(&mut Control)) -> Result<()> {
        let change = self.source.alter(alter)?;
        let begin = Instant::now();
        while self.source.progress()?.change != change && !self.is_finished() {
            if begin.elapsed() > NOTICE {
                return Err(Error::Unmoved);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whether it has ended by itself: packets or seconds are used up, or it failed.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends it and returns what was sent in all.
    ///
    /// # Errors
    /// Why the generator failed, if it did.
    pub fn stop(mut self) -> Result<Sent> {
        self.source.stop();
        self.end()?;
        self.sent()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Why the generator failed, if it did.
    pub fn wait(mut self) -> Result<Sent> {
        self.end()?;
        self.sent()
    }

    fn end(&mut self) -> Result<()> {
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.into_iter().try_for_each(|end| end.map_err(|_| Error::Panicked)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.source.stop();
        // Nobody is left to be told of a failure.
        let _ = self.end();
    }
}

/// What the generator is to do, its end counted from now: to be called when all else is ready.
pub(crate) fn control(load: &Load) -> Control {
    let (unlisted_each, listed) = match load.unlisted {
        Unlisted::None => (0, 1),
        Unlisted::Alone => (0, 0),
        Unlisted::Beside { per_listed } => (per_listed, 1),
    };
    let seconds = load.seconds.unwrap_or(MAX_SECONDS).min(MAX_SECONDS);
    Control {
        interval: interval(load.begins_with()),
        deadline: monotonic().saturating_add(Duration::from_secs_f64(seconds).as_nanos() as u64),
        limit: load.packets.unwrap_or(u64::MAX),
        patience: patience(load.begins_with()).as_nanos() as u64,
        unlisted_each,
        listed,
        ..Control::default()
    }
}

/// Time between two frames, as [`Control::interval`]. Rates of less than one in four seconds are that.
fn interval(rate: Rate) -> u64 {
    match rate {
        Rate::FlatOut => 0,
        // At least one part: 0 would be flat out.
        Rate::PacketsPerSecond(rate) => ((1e9 / rate * 4_294_967_296.0) as u64).max(1),
    }
}

/// How late a generator may be without leaving anything out.
fn patience(rate: Rate) -> Duration {
    match rate {
        Rate::FlatOut => CATCH_UP,
        // A rate of almost nothing would have a patience of years.
        Rate::PacketsPerSecond(rate) => CATCH_UP.max(Duration::from_secs_f64(
            (CATCH_UP_FRAMES / rate).clamp(0.0, MAX_SECONDS),
        )),
    }
}

/// CLOCK_MONOTONIC, nanoseconds: the clock of markers and deadlines.
pub(crate) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(Error::Load("a core of this machine"));
    }
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|source| Error::io(format!("pinning to core {core}"), source))
}

/// What is behind a lock, whoever panicked while holding it: counters are whole in themselves.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a generator's parts are: its state, its threads.
pub(crate) type Started = (Box<dyn Source>, Vec<JoinHandle<Result<()>>>);

/// Starts a named thread.
pub(crate) fn spawn(name: &str, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<JoinHandle<Result<()>>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| Error::io("starting a thread", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_generator_makes_up_for_a_few_frames_or_microseconds_whichever_is_more() {
        let of = |rate| patience(Rate::PacketsPerSecond(rate)).as_micros();
        assert_eq!((of(1_000_000.0), of(640_000.0)), (50, 50));
        assert_eq!((of(100_000.0), of(1_000.0)), (320, 32_000));
        assert!(of(1e-9) > 0 && of(f64::INFINITY) == 50);
    }
}
