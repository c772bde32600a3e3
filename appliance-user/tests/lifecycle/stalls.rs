//! A process that is stopped and goes on: the kernel acts meanwhile, and nothing stale is sent afterwards.

use std::thread;
use std::time::Duration;

use tidegate_lab::{Signal, wait_until};

use crate::bench::{SOON, drops, number, over_queues};
use crate::ends::finish;
use crate::feed::Lab;

const STALL: Duration = Duration::from_millis(500);
/// Packets that may change places where the bypass is entered and left, and by how many numbers.
pub(crate) const SWAPPED: u64 = 64;

#[test]
fn a_stall_is_bypassed_and_its_backlog_discarded() {
    let mut lab = Lab::new();
    let (outcome, stale) = {
        let site = lab.site();
        let process = site.run(&[]);
        let stream = lab.stream();
        wait_until("the worker sees the stream", SOON, || {
            over_queues(&site.status(), "/packets/returned") > 500
        })
        .expect("sees");
        let stalls = over_queues(&site.status(), "/stalls");
        process.signal(Signal::STOP).expect("stopped");
        thread::sleep(STALL / 2);
        let arrived = stream.arrived();
        thread::sleep(STALL / 2);
        // While the worker is stopped. Waited for: on a busy machine the lab itself may not run for so long.
        wait_until("the stream flows without a worker", SOON, || stream.arrived() > arrived).expect("flows");
        process.signal(Signal::CONT).expect("continued");
        wait_until("the end of the bypass is told", SOON, || {
            !site.told("bypass-left").is_empty()
        })
        .expect("told");
        let returned = over_queues(&site.status(), "/packets/returned");
        wait_until("the worker is back", SOON, || {
            over_queues(&site.status(), "/packets/returned") > returned + 500
        })
        .expect("back");
        let outcome = stream.finish();
        let status = site.settled();
        let stale = drops(&status)
            .get("worker stale-after-stall")
            .copied()
            .unwrap_or_default();
        println!(
            "stopped for {STALL:?}: lost {}, discarded as stale {stale}, reordered {:?}, stalls {}",
            outcome.lost(),
            outcome.reordered(),
            over_queues(&status, "/stalls")
        );
        assert!(over_queues(&status, "/stalls") > stalls);
        // What arrived before the beat was stale.
        assert!(stale > 0 && stale <= 400, "{stale} packets were discarded");
        let (swapped, worst) = outcome.reordered();
        assert!(
            swapped <= SWAPPED && worst <= SWAPPED,
            "{swapped} packets up to {worst} numbers late"
        );
        outcome.assert_no_duplicates();
        // Also told when whoever watches was stopped with the rest and saw nothing of it.
        let all = site.told("bypass-left");
        let left = all.iter().max_by_key(|left| number(left, "/dark_ms")).expect("one");
        assert!(number(left, "/dark_ms") >= 400, "{left}");
        assert!(
            all.iter().map(|left| number(left, "/packets/returned")).sum::<u64>() > 200,
            "{all:?}"
        );
        assert!(
            site.told("bypass-entered")
                .iter()
                .all(|event| event["cause"] == "heartbeat-stale")
        );
        let streams = site.streams();
        assert_eq!(
            number(&streams[0], "/ts/continuity_errors/source"),
            0,
            "{:#}",
            streams[0]
        );
        finish(&site, process);
        (outcome, stale)
    };
    let (report, astray) = lab.report();
    // What was lost is what was discarded, no more and no less.
    outcome.assert_lost(stale, &astray);
    // Of what the lab lost, some was lost before the load balancer or behind it.
    let missing = report.total.missing;
    assert!(
        (stale..=outcome.lost()).contains(&missing),
        "{missing} missing; {astray}"
    );
    assert_eq!(report.total.late, 0, "{:?}", report.faults);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
}
