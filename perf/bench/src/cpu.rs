//! Who used which core, from `/proc`: the process under test by nanoseconds, the cores by the kernel's ticks.
//!
//! A process' time is the sum over its threads of the first field of `/proc/PID/task/*/schedstat`, nanoseconds on a core,
//! system calls included, so also the kernel's copying in an AF_XDP transmit kick. What the kernel does in a softirq on
//! the generator's core, such as the copy into the receive ring, is not in it; that is part of the core's busy time in
//! `/proc/stat`, which comes in ticks of 10 ms.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Ticks a second in `/proc/stat`: fixed by the kernel's interface to user space, whatever its own timer does.
const TICKS_PER_SECOND: u64 = 100;

/// One core's time by what it was used for, since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTimes {
    /// Running something: user, nice, system, interrupts, softirqs.
    pub busy: Duration,
    /// Doing nothing.
    pub idle: Duration,
    /// Taken away by the hypervisor.
    pub steal: Duration,
}

/// A process' time, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessTimes {
    /// On a core.
    pub running: Duration,
    /// Ready, but waiting for a core: of the thread that ran most, the one that does the work. Others may wait behind it.
    pub waiting: Duration,
}

/// All clocks at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    cores: Vec<CoreTimes>,
    process: Option<ProcessTimes>,
}

/// What happened between two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time between them.
    pub elapsed: Duration,
    /// Per core.
    pub cores: Vec<CoreTimes>,
    /// Of the process that was asked about.
    pub process: Option<ProcessTimes>,
}

impl Sample {
    /// Reads the clocks of all cores and, if there is one, of a process.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or the process is gone.
    pub fn take(process: Option<u32>) -> Result<Sample> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Ok(Sample {
            at: Instant::now(),
            cores: cores(&stat),
            process: process.map(process_times).transpose()?,
        })
    }

    /// What happened since an earlier sample.
    pub fn since(&self, earlier: &Sample) -> Usage {
        let cores = self.cores.iter().zip(&earlier.cores);
        Usage {
            elapsed: self.at.saturating_duration_since(earlier.at),
            cores: cores
                .map(|(now, then)| CoreTimes {
                    busy: now.busy.saturating_sub(then.busy),
                    idle: now.idle.saturating_sub(then.idle),
                    steal: now.steal.saturating_sub(then.steal),
                })
                .collect(),
            process: self.process.zip(earlier.process).map(|(now, then)| ProcessTimes {
                running: now.running.saturating_sub(then.running),
                waiting: now.waiting.saturating_sub(then.waiting),
            }),
        }
    }
}

impl Usage {
    /// Share of the time of these cores that the hypervisor took.
    pub fn steal(&self, cores: &[usize]) -> f64 {
        let of = |take: fn(&CoreTimes) -> Duration| -> f64 {
            cores
                .iter()
                .filter_map(|core| self.cores.get(*core))
                .map(|times| take(times).as_secs_f64())
                .sum()
        };
        let all = of(|times| times.busy + times.idle + times.steal);
        if all > 0.0 { of(|times| times.steal) / all } else { 0.0 }
    }

    /// Share of the time that the process waited for a core; 0 without a process.
    pub fn waiting(&self) -> f64 {
        let elapsed = self.elapsed.as_secs_f64();
        match self.process {
            Some(process) if elapsed > 0.0 => process.waiting.as_secs_f64() / elapsed,
            _ => 0.0,
        }
    }

    /// Nanoseconds that a core was busy for each of `packets`.
    pub fn core_ns_per_packet(&self, core: usize, packets: u64) -> Option<f64> {
        let busy = self.cores.get(core)?.busy;
        (packets > 0).then(|| busy.as_nanos() as f64 / packets as f64)
    }

    /// Nanoseconds of the process for each of `packets`.
    pub fn process_ns_per_packet(&self, packets: u64) -> Option<f64> {
        let running = self.process?.running;
        (packets > 0).then(|| running.as_nanos() as f64 / packets as f64)
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now, the buffers shared with the kernel included.
    pub resident: u64,
    /// The most that ever was.
    pub peak: u64,
}

/// Reads a process' memory.
///
/// # Errors
/// When the process is gone.
pub fn memory(process: u32) -> Result<Memory> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        let kib = status.lines().find_map(|line| line.strip_prefix(name))?;
        kib.split_whitespace().next()?.parse::<u64>().ok()
    };
    Ok(Memory {
        resident: field("VmRSS:").unwrap_or(0) * 1024,
        peak: field("VmHWM:").unwrap_or(0) * 1024,
    })
}

fn process_times(process: u32) -> Result<ProcessTimes> {
    let folder = format!("/proc/{process}/task");
    let tasks = fs::read_dir(&folder).with_context(|| format!("process {process} is gone"))?;
    // A thread may end between the listing and the look.
    let threads = tasks
        .flatten()
        .filter_map(|task| schedstat(&fs::read_to_string(task.path().join("schedstat")).ok()?));
    Ok(of_process(threads))
}

fn of_process(threads: impl Iterator<Item = ProcessTimes>) -> ProcessTimes {
    let (mut sum, mut most) = (ProcessTimes::default(), Duration::ZERO);
    for thread in threads {
        sum.running += thread.running;
        if thread.running > most {
            (most, sum.waiting) = (thread.running, thread.waiting);
        }
    }
    sum
}

/// The three numbers of a `schedstat`: nanoseconds running, nanoseconds waiting, slices.
fn schedstat(text: &str) -> Option<ProcessTimes> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok().map(Duration::from_nanos);
    Some(ProcessTimes {
        running: next()?,
        waiting: next()?,
    })
}

/// The lines `cpuN` of `/proc/stat`, in order.
fn cores(stat: &str) -> Vec<CoreTimes> {
    let lines = stat.lines().filter_map(|line| line.strip_prefix("cpu"));
    lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| {
            let ticks: Vec<u64> = line
                .split_whitespace()
                .skip(1)
                .map(|t| t.parse().unwrap_or(0))
                .collect();
            let sum = |fields: &[usize]| {
                let ticks: u64 = fields.iter().filter_map(|field| ticks.get(*field)).sum();
                Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
            };
            // user nice system idle iowait irq softirq steal
            CoreTimes {
                busy: sum(&[0, 1, 2, 5, 6]),
                idle: sum(&[3, 4]),
                steal: sum(&[7]),
            }
        })
        .collect()
}

/// Whether a path under `/proc` still stands for a living process.
pub fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  30 0 30 200 0 0 0 10 0 0\ncpu0 10 5 15 100 20 1 9 40 0 0\ncpu1 20 0 15 100 0 0 0 0 0 0\nintr 1\n";

    #[test]
    fn ticks_become_busy_idle_and_stolen_time() {
        let cores = cores(STAT);
        assert_eq!(cores.len(), 2);
        assert_eq!(cores[0].busy, Duration::from_millis(400));
        assert_eq!(cores[0].idle, Duration::from_millis(1200));
        assert_eq!(cores[0].steal, Duration::from_millis(400));
    }

    #[test]
    fn shares_and_costs_are_those_of_the_difference() {
        let at = Instant::now();
        let sample = |seconds: u64, stat: &str, running: u64| Sample {
            at: at + Duration::from_secs(seconds),
            cores: cores(stat),
            process: Some(ProcessTimes {
                running: Duration::from_millis(running),
                waiting: Duration::from_millis(running / 10),
            }),
        };
        let later = STAT.replace("cpu0 10 5 15 100 20 1 9 40", "cpu0 60 5 15 140 20 1 9 50");
        let usage = sample(3, &later, 1500).since(&sample(1, STAT, 500));
        assert_eq!(usage.elapsed, Duration::from_secs(2));
        assert_eq!(usage.steal(&[0]), 0.1);
        assert_eq!(usage.steal(&[0, 1]), 0.1);
        assert_eq!(usage.waiting(), 0.05);
        assert_eq!(usage.core_ns_per_packet(0, 1000), Some(500_000.0));
        assert_eq!(usage.process_ns_per_packet(1000), Some(1_000_000.0));
        assert_eq!(usage.process_ns_per_packet(0), None);
        assert_eq!(usage.core_ns_per_packet(9, 1), None);
    }

    #[test]
    fn the_thread_that_works_is_the_one_that_must_not_wait() {
        let thread = |running, waiting| ProcessTimes {
            running: Duration::from_millis(running),
            waiting: Duration::from_millis(waiting),
        };
        let process = of_process([thread(1, 50), thread(900, 2), thread(3, 70)].into_iter());
        assert_eq!(process, thread(904, 2));
    }

    #[test]
    fn this_process_is_seen_working() {
        let before = Sample::take(Some(std::process::id())).unwrap();
        let end = Instant::now() + Duration::from_millis(30);
        while Instant::now() < end {}
        let usage = Sample::take(Some(std::process::id())).unwrap().since(&before);
        assert!(usage.process.unwrap().running > Duration::from_millis(1), "{usage:?}");
        assert!(memory(std::process::id()).unwrap().peak > 1 << 20);
        assert!(is_alive(std::process::id()));
    }
}
