//! The engine's peak memory under what a busy appliance follows, as the kernel counts it: 65,536 flows, 10,000 of them
//! whole RTP streams with tables, clocks and losses. What README states is what this test holds it to.
//!
//! Where the bytes are is printed: what a flow takes that nothing looks into, and what a stream takes besides.

mod busy;

use std::fs;

use allocation_counter::measure;
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate_fixtures::rtp::RtpSender;
use tidegate_fixtures::{INTERVAL, Sender, multiplex, policies};

use self::busy::{FLOWS, LOST, Load, OTHERS, ROUNDS, STATED_MIB, STREAMS, resident};

/// Streams that run for long, and their datagrams: 3.1 s.
const LASTING: u16 = 20;
const LASTING_ROUNDS: u64 = 6000;
/// Bytes of a flow that nothing looks into, and of the empty table, at most: the other test prints them.
const OTHER_FLOW: i64 = 1600;
const TABLE: i64 = 20 << 20;

#[test]
fn flows_and_streams_take_no_more_memory_than_stated() {
    let mut load = Load::new();
    let before = resident("VmRSS");
    // Writing 5 sets the peak back to what is resident now.
    fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    let mut engine = None;
    let empty = measure(|| engine = Some(Engine::new(Config::default()))).bytes_current;
    let mut engine = engine.expect("it was made");
    let flows = measure(|| load.others(&mut engine)).bytes_current;
    let all = 0..usize::from(STREAMS);
    // While a number is missing from every stream, and after.
    let waiting = measure(|| load.rounds(&mut engine, all.clone(), 0..LOST + 90)).bytes_current;
    let settled = waiting + measure(|| load.rounds(&mut engine, all, LOST + 90..ROUNDS)).bytes_current;
    let grown = resident("VmHWM").saturating_sub(before) >> 10;
    let counters = engine.counters();
    println!(
        "peak {grown} MiB: empty table {} MiB, {} bytes per other flow, {} bytes per stream and {} while it waits for what was lost; allowance used {} KiB",
        empty >> 20,
        flows / i64::from(OTHERS),
        settled / i64::from(STREAMS),
        waiting / i64::from(STREAMS),
        (Config::default().memory as u64 - counters.memory_left) >> 10
    );
    assert_eq!(
        (counters.flows, counters.flows_evicted, counters.streams_refused),
        (FLOWS.into(), 0, 0)
    );
    assert!(counters.reconciles());
    followed_whole(&engine);
    assert!(grown <= STATED_MIB, "{grown} MiB");
}

/// What a stream takes when it has run for long is more than in its first tenth of a second. So many of them for three
/// seconds, with a loss now and then, say what ten thousand would take.
#[test]
fn streams_that_ran_for_long_take_no_more_than_ten_thousand_may() {
    let noise = multiplex::noise();
    let mut senders: Vec<RtpSender> = (0..LASTING).map(|number| RtpSender::new(number, &noise)).collect();
    let mut frame = vec![0; senders.first().map_or(0, |sender| sender.length())];
    let policy = policies::streams();
    let published = Published {
        policy: &policy,
        generation: 1,
    };
    let mut engine = Engine::new(Config::default());
    let taken = measure(|| {
        for round in 0..LASTING_ROUNDS {
            let at = Timestamp::from_nanos(1_000_000_000 + round * INTERVAL);
            for (number, sender) in senders.iter_mut().enumerate() {
                sender.next(&mut frame);
                if (round + 97 * number as u64) % 1000 != 999 {
                    assert_eq!(engine.process(at, &published, &mut frame), Verdict::Return);
                }
            }
            engine.tick(at, 1);
            while engine.next_event().is_some() {}
        }
    });
    let (each, most) = (
        taken.bytes_current / i64::from(LASTING),
        taken.bytes_max / u64::from(LASTING),
    );
    let granted = (Config::default().memory as u64 - engine.counters().memory_left) / u64::from(LASTING);
    println!("{each} bytes per stream after 3 s, {most} at most, {granted} of them granted");
    let all = each * i64::from(STREAMS) + OTHER_FLOW * i64::from(OTHERS) + TABLE;
    assert!(all as u64 <= STATED_MIB << 20, "{} MiB", all >> 20);
    assert!(
        granted * u64::from(STREAMS) <= Config::default().memory as u64,
        "ten thousand sound streams need {} MiB granted",
        (granted * u64::from(STREAMS)) >> 20
    );
}

/// Memory that was saved by not looking would be no saving.
fn followed_whole(engine: &Engine) {
    let (mut streams, mut of_pids) = (0, Vec::new());
    for report in engine.streams() {
        let Some(ts) = report.ts else { continue };
        let analysis = ts.analysis.expect("it is analysed");
        assert_eq!(analysis.tables.programmes.len(), 1, "its programme is known");
        of_pids.push(ts.pids.len());
        assert_eq!(report.transport.reordered, 1);
        assert_eq!(report.transport.lost, 1);
        streams += 1;
    }
    let least = of_pids.iter().min();
    assert!(least.is_some_and(|least| *least >= 7), "{least:?} PIDs");
    assert_eq!(streams, STREAMS);
}
