//! Memory as the appliance's own allocator gives it to a worker: what it has at the start, what it needs, what it keeps.
//!
//! The other tests of memory count with the system's allocator. One test alone in its process: what the kernel tells is the
//! process', and only page faults are a thread's own.

mod busy;

use std::fs;
use std::time::Duration;

use mimalloc::MiMalloc;
use tidegate::allocator;
use tidegate::engine::{Config, Engine};
use tidegate::worker::warm;

use self::busy::{LOST, Load, ROUNDS, STATED_MIB, STREAMS, resident};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Streams that begin without fresh memory, each with so many datagrams of its own.
const FIRST: usize = 1000;
const FIRST_ROUNDS: u64 = 20;
/// What all else may take meanwhile, in KiB; without what is taken at the start it is 20 MiB.
const OTHERWISE: u64 = 2048;
/// Longer than the allocator would keep free memory if it gave any back.
const PURGE_DELAY: Duration = Duration::from_millis(1200);
/// What the allocator adds to a worker's peak, in MiB: what it rounds sizes up to, and what is left over in pages of each size.
const ALLOCATOR_MIB: u64 = 48;
/// Page faults that streams which come back may take. Had the memory of those before them been given back, they were some
/// thousands.
const FAULTS: u64 = 200;

#[test]
fn a_worker_takes_its_memory_once_and_no_more_than_stated() {
    allocator::keep_memory();
    let mut load = Load::new();
    // Writing 5 sets the peak back to what is resident now.
    fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    std::thread::scope(|scope| scope.spawn(|| live(&mut load)).join().expect("it ends"));
}

fn live(load: &mut Load) {
    let before = resident("VmRSS");
    warm::first_streams();
    let mut engine = Engine::new(Config::default());
    let (started, faults) = (resident("VmRSS"), minor_faults());
    load.rounds(&mut engine, 0..FIRST, 0..FIRST_ROUNDS);
    let first = resident("VmRSS").saturating_sub(started);
    let of_first = minor_faults() - faults;
    let all = 0..usize::from(STREAMS);
    load.others(&mut engine);
    // While a number is missing from every stream, and after.
    load.rounds(&mut engine, all.clone(), 0..LOST + 90);
    load.rounds(&mut engine, all.clone(), LOST + 90..ROUNDS);
    let peak = resident("VmHWM").saturating_sub(before) >> 10;
    let of_all = minor_faults() - faults;
    drop(engine);
    std::thread::sleep(PURGE_DELAY);
    let mut engine = Engine::new(Config::default());
    let faults = minor_faults();
    load.rounds(&mut engine, all, 0..FIRST_ROUNDS);
    let again = minor_faults() - faults;
    println!(
        "{} KiB at the start, {first} KiB more and {of_first} faults with the first {FIRST} streams, peak {peak} MiB and {of_all} \
         faults with all, {again} faults when they come back",
        started - before
    );
    assert!(first <= OTHERWISE, "{first} KiB for the first streams");
    assert!(peak <= STATED_MIB + ALLOCATOR_MIB, "{peak} MiB");
    assert!(again <= FAULTS, "{again} page faults of streams that come back");
}

/// Page faults of the calling thread without I/O: the tenth field, the eighth after the name.
fn minor_faults() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("the thread's figures");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields
        .split_whitespace()
        .nth(7)
        .and_then(|faults| faults.parse().ok())
        .expect("a number")
}
