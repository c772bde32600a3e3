//! How fast the engine's parts are, each alone: `cargo bench -p tidegate --bench parts`.
//!
//! Nanoseconds of this thread's processor time per operation. Flags and words after `--` are criterion's; `--gate` instead
//! measures what a release must keep, and fails where it does not: see `gate`.
//!
//! # Warm and cold
//! *Warm*: a burst's frames were written just before, and lie in the second-level cache. *Cold*: frames lie in a pool of
//! 256 MiB, several times the last-level cache, each in 2 KiB of its own; the pool is written whole and then gone through in
//! the order in which it was written, an order without any stride, so that a frame's 1.4 KB have been pushed out of every
//! cache since, and of the TLB, and no prefetcher can guess the next. What the engine knows of its streams is warm in both.

mod gate;
#[expect(dead_code, reason = "the time on the wall is what the other benchmark tells")]
#[path = "../inspect/measure.rs"]
mod measure;

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use mimalloc::MiMalloc;
use tidegate_fixtures::part::{Inspection, PARTS, Part};

/// The appliance's own: memory on huge pages, as far as the kernel has them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Operations made ready at a time: their frames fit into the second-level cache.
const WARM: usize = 256;
/// Frames of the cold pool: 256 MiB.
const POOL: usize = 1 << 17;

/// Time that this thread's processor spent.
struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        measure::processor_time()
    }

    fn end(&self, start: Duration) -> Duration {
        measure::processor_time().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Does so many operations, making them ready outside of what is measured.
fn run(part: &mut dyn Part, mut operations: u64) -> Duration {
    let mut spent = Duration::ZERO;
    while operations > 0 {
        let some = operations.min(WARM as u64) as usize;
        part.prepare(some);
        spent += measure::cost(|| part.run()).1.processor;
        operations -= some as u64;
    }
    spent
}

/// Fifty streams whose frames are cold.
struct Cold {
    inspection: Inspection,
    left: usize,
}

impl Cold {
    fn new() -> Self {
        let mut inspection = Inspection::backlog(50);
        inspection.scatter(POOL);
        Cold { inspection, left: 0 }
    }

    fn run(&mut self, mut operations: u64) -> Duration {
        let mut spent = Duration::ZERO;
        while operations > 0 {
            if self.left == 0 {
                self.inspection.prepare(POOL);
                self.left = POOL;
            }
            let some = self.left.min(operations.min(WARM as u64) as usize);
            spent += measure::cost(|| self.inspection.run_some(some)).1.processor;
            self.left -= some;
            operations -= some as u64;
        }
        spent
    }
}

fn benches(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("parts");
    group.throughput(Throughput::Elements(1));
    for named in PARTS {
        // Each new stream stays in the table, so there is no going on with them for long.
        if named.name == "new-stream" {
            continue;
        }
        let mut part = None;
        group.bench_function(named.name, |bencher| {
            let part = part.get_or_insert_with(|| named.warm());
            bencher.iter_custom(|operations| run(&mut **part, operations));
        });
    }
    let mut cold = None;
    group.bench_function("rtp/50, cold", |bencher| {
        let cold = cold.get_or_insert_with(Cold::new);
        bencher.iter_custom(|operations| cold.run(operations));
    });
    group.finish();
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().any(|word| word == "--gate") {
        return Ok(if gate::run()? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut criterion = Criterion::default()
        .with_measurement(ProcessorTime)
        .configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
    Ok(ExitCode::SUCCESS)
}
