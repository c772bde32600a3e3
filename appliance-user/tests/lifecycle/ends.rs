//! Killed, taken over, handed over, stopped, detached: what the stream and the kernel's whitelist do meanwhile.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use tidegate_lab::{Process, Signal, wait_until};

use crate::bench::{SOON, Site, drops, number, over_queues};
use crate::feed::{Lab, Stream};
use crate::stalls::SWAPPED;

/// SIGKILL; returns when it is dead.
fn kill(process: &mut Process) {
    process.signal(Signal::KILL).expect("killed");
    process.wait(SOON).expect("dead");
}

/// What a process that was killed took with it.
#[derive(Debug)]
struct Taken {
    /// Packets that it had discarded by its last books, after stalls of its own: nobody tells of them any more.
    discarded: u64,
    /// Packets at most that it held, or that came to it, between those books and its death: its rings and its last counts
    /// went with it.
    unsettled: u64,
}

/// SIGKILL right behind a last look at the process's books. On a busy machine the process has stalls of its own before, and
/// time may pass and a queue in front of the appliance may empty itself between look and death: no fixed number of packets
/// bounds what is in the rings, what was offered and not decided on does.
fn kill_after_a_look(lab: &Lab, site: &Site<'_>, process: &mut Process) -> Taken {
    // Before the look, so that no packet is between the two counts.
    let offered = lab.offered();
    let status = site.status();
    kill(process);
    let kernel = [
        "packets/passed",
        "packets/returned",
        "packets/dropped",
        "bypass/returned",
        "bypass/passed",
    ];
    let kernel: u64 = kernel
        .iter()
        .map(|name| number(&status, &format!("/kernel/{name}")))
        .sum();
    let workers = ["returned", "passed", "dropped"];
    let workers: u64 = workers
        .iter()
        .map(|name| over_queues(&status, &format!("/packets/{name}")))
        .sum();
    // Decided to be returned, but not gone yet.
    let leaving = over_queues(&status, "/frames/transmit");
    let came = number(&status, "/kernel/packets/seen") + lab.offered() - offered;
    Taken {
        discarded: stale(&status),
        unsettled: came.checked_sub(kernel + workers).expect("more decided than came") + leaving,
    }
}

/// Packets that the worker of this status discarded after a stall of its own.
fn stale(status: &Value) -> u64 {
    drops(status)
        .get("worker stale-after-stall")
        .copied()
        .unwrap_or_default()
}

/// Waits until the worker of the present process has decided on the stream.
fn inspected(site: &Site<'_>) {
    wait_until("the worker sees the stream", SOON, || {
        over_queues(&site.status(), "/packets/returned") > 200
    })
    .expect("sees");
}

/// The one stream's report; no fault of the source may ever be in it, since the test makes none.
fn sound_stream(site: &Site<'_>) -> Value {
    let streams = site.streams();
    assert_eq!(streams.len(), 1, "{streams:#?}");
    let stream = streams.into_iter().next().expect("one");
    assert_eq!(number(&stream, "/ts/continuity_errors/source"), 0, "{stream:#}");
    assert!(number(&stream, "/ts/packets") > 0, "{stream:#}");
    stream
}

/// Waits until so many starts were told, and tells whether the last of them was a takeover. What is told is written by a thread
/// of its own, which may lag behind the health and the packets of the same process.
fn took_over(site: &Site<'_>, starts: usize) -> bool {
    wait_until("the start is told", SOON, || site.told("started").len() >= starts).expect("told");
    site.told("started").last().expect("told")["takeover"] == true
}

/// Nobody answers health checks: the connection is refused.
fn assert_health_refuses(site: &Site<'_>) {
    let error = site.health().expect_err("somebody answers");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_killed_appliance_lets_the_stream_flow_and_the_next_one_takes_over() {
    let mut lab = Lab::new();
    let (outcome, taken, stale, takeover_at) = {
        let site = lab.site();
        let mut first = site.run(&[]);
        let stream = lab.stream();
        inspected(&site);
        let (_, program) = site.program().expect("attached");
        let killed_at = stream.sent();
        let taken = kill_after_a_look(&lab, &site, &mut first);
        assert!(site.is_pinned());
        assert_eq!(
            site.program().map(|(_, id)| id),
            Some(program),
            "the program went with its process"
        );
        assert_health_refuses(&site);
        let unlisted = lab.unlisted();
        let arrived = stream.arrived();
        stream.flow(1500);
        unlisted.flow(500);
        let unlisted = unlisted.finish();
        assert_eq!(unlisted.arrived(), 0, "the kernel let an unlisted source through");
        // Waited for: on a busy machine the lab itself lags.
        wait_until("the stream flows without a worker", SOON, || {
            stream.arrived() > arrived + 1000
        })
        .expect("flows");
        let takeover_at = stream.sent();
        let second = site.run(&[]);
        inspected(&site);
        stream.flow(1000);
        assert!(took_over(&site, 2));
        // On a busy machine either process may also have been bypassed for a moment of its own.
        let taken_over = || {
            let mut left = site.told("bypass-left").into_iter();
            left.find(|left| left["takeover"] == true)
        };
        wait_until("the bypass is told to be over", SOON, || taken_over().is_some()).expect("told");
        let left = &taken_over().expect("told");
        assert!(number(left, "/packets/returned") > 1000, "{left}");
        let outcome = stream.finish();
        sound_stream(&site);
        let status = site.settled_after_takeover();
        // The maps were pinned all the while: what the kernel dropped while nobody lived is counted.
        assert_eq!(drops(&status).get("kernel source-not-listed"), Some(&unlisted.sent));
        // What a busy machine cost the second process: discarded by the worker itself after a stall of its own, and counted. Its
        // last word counts: a status may be of a moment before the worker found out that it had been stalled.
        let said = finish(&site, second);
        let stale = discarded(&said);
        println!("{said}");
        println!("killed at {killed_at}, taken over at {takeover_at}");
        (outcome, taken, stale, takeover_at)
    };
    let (report, astray) = lab.report();
    let (lost, later) = (outcome.lost(), outcome.lost_between(takeover_at, outcome.sent));
    let told = format!(
        "lost {lost} of {}, {later} of them after the takeover began: {:?}; {taken:?}, {stale} discarded by the second process; {astray}",
        outcome.sent,
        outcome.gaps()
    );
    println!("{told}, reordered {:?}", outcome.reordered());
    // Every packet that is missing was discarded and counted, was with the process when it died, or was lost by the lab.
    let accounted = taken.discarded + taken.unsettled + stale + astray.total();
    assert!(lost <= accounted && later <= stale + astray.total(), "{told}");
    outcome.assert_no_duplicates();
    assert_eq!(report.total.altered, 0, "{:?}", report.faults);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    // What was kept while the kernel returned newer packets comes behind them. Late by the clock alone is also what merely
    // waited its turn on a busy machine.
    let (swapped, worst) = outcome.reordered();
    assert!(
        swapped <= SWAPPED && worst <= SWAPPED,
        "{swapped} packets up to {worst} numbers behind newer ones"
    );
    assert!(outcome.arrived() > 0);
}

/// Kills an appliance with this failure action and returns what arrived and how the kernel counted while it was dead.
fn dead_under(action: &str) -> (u64, u64, Value) {
    let lab = Lab::new();
    let site = lab.site();
    let mut first = site.run(&["--on-failure", action]);
    let stream = lab.stream();
    inspected(&site);
    kill(&mut first);
    // What was on its way arrives.
    stream.flow(400);
    let (from, arrived) = (stream.sent(), stream.arrived());
    stream.flow(1000);
    let (dead_for, came) = (stream.sent() - from, stream.arrived() - arrived);
    let second = site.run(&["--on-failure", action]);
    inspected(&site);
    let resumed = stream.arrived();
    stream.flow(500);
    wait_until("the stream comes back", SOON, || stream.arrived() > resumed).expect("back");
    stream.finish();
    sound_stream(&site);
    let status = site.settled_after_takeover();
    finish(&site, second);
    (dead_for, came, status)
}

#[test]
fn on_failure_drop_lets_nothing_through() {
    let (dead_for, came, status) = dead_under("drop");
    assert_eq!(came, 0, "of {dead_for}");
    let dropped = drops(&status).get("kernel worker-dead").copied().unwrap_or_default();
    assert!(dropped >= dead_for, "{dropped} of {dead_for}");
    assert_eq!(number(&status, "/kernel/bypass/dropped"), dropped);
}

#[test]
fn on_failure_pass_leaves_it_to_the_stack() {
    let (dead_for, came, status) = dead_under("pass");
    assert_eq!(came, 0, "of {dead_for}");
    assert!(number(&status, "/kernel/bypass/passed") >= dead_for, "{status:#}");
    assert_eq!(drops(&status).get("kernel worker-dead"), None);
}

#[test]
fn a_handover_costs_nothing_but_the_order_of_a_few() {
    let mut lab = Lab::new();
    let (outcome, discarded) = {
        let site = lab.site();
        let mut first = site.run(&["--handover"]);
        let stream = lab.stream();
        inspected(&site);
        let (_, program) = site.program().expect("attached");
        assert!(first.stop(SOON).expect("ended").success(), "{}", first.log());
        assert_eq!(site.program().map(|(_, id)| id), Some(program), "the program stays");
        stream.flow(300);
        let second = site.run(&[]);
        inspected(&site);
        stream.flow(300);
        let outcome = stream.finish();
        println!(
            "handed over: lost {} of {}, reordered {:?}",
            outcome.lost(),
            outcome.sent,
            outcome.reordered()
        );
        site.settled_after_takeover();
        outcome.assert_no_duplicates();
        sound_stream(&site);
        assert!(took_over(&site, 2));
        (outcome, discarded(&first.log()) + discarded(&finish(&site, second)))
    };
    let (report, astray) = lab.report();
    outcome.assert_lost(discarded, &astray);
    assert!(report.faults.is_empty());
}

#[test]
fn a_stop_in_full_flow_leaves_nothing_behind() {
    let lab = Lab::new();
    let site = lab.site();
    let process = site.run(&[]);
    let stream = lab.stream();
    inspected(&site);
    finish(&site, process);
    let arrived = settle(&stream);
    stream.flow(300);
    assert_eq!(stream.arrived(), arrived, "somebody still returns packets");
    assert!(!site.told("stopping").is_empty());
}

#[test]
fn detach_cleans_up_after_a_kill_and_does_no_harm_twice() {
    let lab = Lab::new();
    let site = lab.site();
    let mut process = site.run(&[]);
    let stream = lab.stream();
    inspected(&site);
    kill(&mut process);
    assert!(site.is_pinned() && site.program().is_some());
    let detached = site.detach();
    assert!(
        detached.status.success(),
        "{}",
        String::from_utf8_lossy(&detached.stderr)
    );
    site.nothing_is_left();
    let again = site.detach();
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing to detach"));
    let arrived = settle(&stream);
    stream.flow(200);
    assert_eq!(stream.arrived(), arrived, "somebody still returns packets");
    // And a fresh start is a fresh start.
    let process = site.run(&[]);
    inspected(&site);
    assert!(!took_over(&site, 2));
    stream.finish();
    finish(&site, process);
}

/// Packets that a process, by its summary, discarded after a stall of its own, as it must on a machine that is too busy.
fn discarded(log: &str) -> u64 {
    let line = log
        .lines()
        .find_map(|line| line.trim().strip_prefix("stale-after-stall"));
    line.and_then(|counts| counts.split_whitespace().last())
        .map_or(0, |count| count.parse().expect("a number"))
}

/// Waits until nothing arrives any more; how many did.
fn settle(stream: &Stream) -> u64 {
    let mut before = u64::MAX;
    wait_until("the last packets arrive", SOON, || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, stream.arrived()) == stream.arrived()
    })
    .expect("settled");
    before
}

/// SIGTERM: exit 0, a summary whose books balance, no program, no pins. What the process said.
pub(crate) fn finish(site: &Site<'_>, mut process: Process) -> String {
    let status = process.stop(SOON).expect("ended");
    let log = process.log();
    assert!(status.success(), "{log}");
    assert!(log.contains("every packet and every frame accounted for: yes"), "{log}");
    site.nothing_is_left();
    log
}
