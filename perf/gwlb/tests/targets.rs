//! Proves stickiness and health checks with several appliances, and the program's life as a process.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use common::{Echo, HealthServer, SOON, config, send_numbered, start, topology};
use tidegate_gwlb::health::State;
use tidegate_gwlb::{Config, HealthConfig, Report, Stickiness};
use tidegate_lab::{Process, Topology, wait_until};

const INTERVAL: Duration = Duration::from_millis(50);

fn quick_health() -> HealthConfig {
    HealthConfig {
        interval: INTERVAL,
        timeout: Duration::from_millis(500),
        healthy_threshold: 3,
        ..HealthConfig::default()
    }
}

/// Takes what the flows below send, so that the sink does not answer with ICMP errors, which would be flows too.
fn listen(topology: &Topology) -> UdpSocket {
    topology
        .sink
        .run_in(|| UdpSocket::bind("10.20.0.2:5000").expect("bind"))
        .expect("enter")
}

/// One short flow from each of these source ports.
fn send_from(topology: &Topology, ports: std::ops::Range<u16>) {
    for port in ports {
        let sender = topology
            .source
            .run_in(|| UdpSocket::bind(("10.10.0.2", port)).expect("bind"))
            .expect("enter");
        for _ in 0..5 {
            sender.send_to(&port.to_be_bytes(), "10.20.0.2:5000").expect("send");
        }
    }
}

/// The targets that flows from these source ports were last sent to.
fn targets_of(report: &Report, ports: std::ops::Range<u16>) -> BTreeSet<String> {
    let of_port = |port: u16| {
        report
            .flows
            .iter()
            .find(move |flow| flow.source == format!("10.10.0.2:{port}"))
    };
    ports.map(|port| of_port(port).expect("flow").target.clone()).collect()
}

#[test]
fn flows_stick_to_one_target_each_and_spread_over_all() {
    for (stickiness, used) in [
        (Stickiness::FiveTuple, 2),
        (Stickiness::ThreeTuple, 1),
        (Stickiness::TwoTuple, 1),
    ] {
        let topology = topology(2);
        let stop = start(
            &topology,
            Config {
                stickiness,
                ..config(&topology)
            },
        );
        let echoes: Vec<Echo> = topology.appliances.iter().map(Echo::honest).collect();
        let _sink = listen(&topology);
        send_from(&topology, 4000..4020);
        wait_until("the packets", SOON, || {
            echoes.iter().map(|echo| echo.seen.load(Ordering::Relaxed)).sum::<u64>() == 100
        })
        .expect("all seen");
        let report = stop();
        assert_eq!((report.flows.len(), report.total.returned_ok), (20, 100));
        assert_eq!(targets_of(&report, 4000..4020).len(), used, "{stickiness:?}");
        // What a target got is what its sticky flows sent: no flow was split.
        for target in &report.targets {
            let flows = report.flows.iter().filter(|flow| flow.target == target.ip);
            assert_eq!(flows.map(|flow| flow.counts.sent).sum::<u64>(), target.counters.sent);
        }
    }
}

/// Runs old flows, makes the first appliance sick, runs old and new flows; targets of the old ones before and after, and of
/// the new ones.
fn with_a_sick_target(rebalance: bool) -> (Report, [BTreeSet<String>; 2]) {
    let topology = topology(2);
    let stop = start(
        &topology,
        Config {
            rebalance,
            health: Some(quick_health()),
            ..config(&topology)
        },
    );
    let _echoes: Vec<Echo> = topology.appliances.iter().map(Echo::honest).collect();
    let _sink = listen(&topology);
    let servers: Vec<HealthServer> = topology.appliances.iter().map(HealthServer::start).collect();
    thread::sleep(INTERVAL * 8);
    send_from(&topology, 4000..4020);
    servers[0].status.store(503, Ordering::Relaxed);
    thread::sleep(INTERVAL * 8);
    send_from(&topology, 4000..4020);
    send_from(&topology, 4100..4120);
    servers[0].status.store(200, Ordering::Relaxed);
    thread::sleep(INTERVAL * 10);
    let report = stop();
    let targets = [targets_of(&report, 4000..4020), targets_of(&report, 4100..4120)];
    (report, targets)
}

#[test]
fn new_flows_leave_a_sick_target_and_known_ones_stay_unless_rebalanced() {
    for (rebalance, known) in [(false, vec!["10.254.0.2", "10.254.1.2"]), (true, vec!["10.254.1.2"])] {
        let (report, targets) = with_a_sick_target(rebalance);
        let as_set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(
            targets,
            [as_set(&known), as_set(&["10.254.1.2"])],
            "rebalance {rebalance}"
        );
        assert!(report.targets[0].counters.sent > 0, "it had flows before it fell sick");
        assert_eq!(report.total.returned_ok, report.total.sent);
        let [sick, well] = report.targets.as_slice() else {
            panic!("two targets")
        };
        let changes = |target: &tidegate_gwlb::report::TargetReport| {
            target.transitions.iter().map(|change| change.to).collect::<Vec<_>>()
        };
        assert_eq!(changes(sick), [State::Healthy, State::Unhealthy, State::Healthy]);
        assert_eq!(changes(well), [State::Healthy]);
        assert_eq!(sick.transitions[1].reason, "HTTP 503");
        assert!(
            sick.checks_failed >= 2 && well.checks_failed <= 1,
            "the server may start after the first check"
        );
    }
}

#[test]
fn with_no_server_at_all_it_fails_open() {
    let topology = topology(2);
    let stop = start(
        &topology,
        Config {
            health: Some(quick_health()),
            ..config(&topology)
        },
    );
    let _echoes: Vec<Echo> = topology.appliances.iter().map(Echo::honest).collect();
    let _sink = listen(&topology);
    thread::sleep(INTERVAL * 6);
    send_from(&topology, 4000..4020);
    thread::sleep(Duration::from_millis(100));
    let report = stop();
    assert!(
        report
            .targets
            .iter()
            .all(|target| target.state == State::Unhealthy && target.checks_passed == 0)
    );
    assert!(
        report.targets[0].transitions[0].reason.contains("refused"),
        "{:?}",
        report.targets[0].transitions
    );
    assert_eq!(
        (report.total.returned_ok, targets_of(&report, 4000..4020).len()),
        (100, 2)
    );
}

#[test]
fn the_program_reports_at_intervals_and_when_told_to_end() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (log, file) = (directory.path().join("gwlb.log"), directory.path().join("report.json"));
    let topology = topology(1);
    let _echo = Echo::honest(&topology.appliances[0]);
    let mut command = topology.gwlb.command(env!("CARGO_BIN_EXE_gwlb"));
    command
        .args(topology.gwlb_arguments())
        .args(["--interval", "100ms", "--endpoint", "0x1234", "--report"])
        .arg(&file);
    let (mut process, output) = Process::spawn_piped("gwlb", command, &log).expect("spawn");
    process
        .wait_until("ready", SOON, || process.log().contains("gwlb: ready"))
        .expect("ready");
    assert_eq!(
        send_numbered(&topology, "10.10.0.2:4000", "10.20.0.2:5000", 100).len(),
        100
    );
    assert!(process.stop(SOON).expect("stop").success(), "{}", process.log());
    let lines: Vec<Report> = BufReader::new(output)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("line")).expect("a report a line"))
        .collect();
    let (last, earlier) = lines.split_last().expect("lines");
    assert!(last.is_final && earlier.len() >= 3 && earlier.iter().all(|report| !report.is_final));
    assert!(earlier.windows(2).all(|pair| pair[0].total.sent <= pair[1].total.sent));
    let written: Report = serde_json::from_slice(&std::fs::read(&file).expect("report")).expect("JSON");
    assert_eq!(&written, last);
    assert_eq!((written.total.sent, written.total.returned_ok), (100, 100));
    assert_eq!(written.flows[0].endpoint, "0x0000000000001234");
}

/// Processor time that a process has used, in clock ticks of 10 ms (fields 14 and 15 of its stat file, proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    // The name before the last parenthesis may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("fields");
    fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("number"))
        .sum()
}

#[test]
fn it_sleeps_when_there_is_nothing_to_do() {
    let directory = tempfile::tempdir().expect("tempdir");
    let topology = topology(1);
    let mut command = topology.gwlb.command(env!("CARGO_BIN_EXE_gwlb"));
    command.args(topology.gwlb_arguments()).args([
        "--interval",
        "100ms",
        "--health-port",
        "80",
        "--health-interval",
        "100ms",
    ]);
    let (process, _output) = Process::spawn_piped("gwlb", command, &directory.path().join("gwlb.log")).expect("spawn");
    process
        .wait_until("ready", SOON, || process.log().contains("gwlb: ready"))
        .expect("ready");
    let before = ticks(process.pid());
    thread::sleep(Duration::from_secs(1));
    let used = ticks(process.pid()) - before;
    assert!(used <= 5, "{used} ticks of 10 ms in an idle second");
}

#[test]
fn the_program_says_what_is_wrong_and_ends_with_2() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gwlb"))
            .args(arguments)
            .output()
            .expect("run");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let names = ["--tun-forward", "tgnone0", "--tun-reverse", "tgnone1", "--target"];
    let with = |rest: &[&'static str]| run(&[&names[..], rest].concat());
    let good = "if=none-such0,local=10.0.0.1,ip=10.0.0.2,mac=02:00:00:00:00:01";
    for (arguments, complaint) in [
        (vec!["if=a"], "no `local`"),
        (vec![good, "--loss", "101"], "loss 101 is not a percentage"),
        (vec![good, "--timeout", "5"], "want a whole number with ms or s"),
        (vec![good], "TUN device tgnone0: No such device"),
    ] {
        let (code, text) = with(&arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(complaint), "{text}");
    }
}

#[test]
fn a_panicking_test_leaves_neither_processes_nor_namespaces() {
    let seen = std::sync::Mutex::new((0, Vec::new()));
    let outcome = std::panic::catch_unwind(|| {
        let directory = tempfile::tempdir().expect("tempdir");
        let topology = topology(1);
        let mut command = topology.gwlb.command(env!("CARGO_BIN_EXE_gwlb"));
        command.args(topology.gwlb_arguments());
        let process = Process::spawn("gwlb", command, &directory.path().join("gwlb.log")).expect("spawn");
        process
            .wait_until("ready", SOON, || process.log().contains("gwlb: ready"))
            .expect("ready");
        let names = [
            &topology.source,
            &topology.sink,
            &topology.gwlb,
            &topology.appliances[0].namespace,
        ];
        *seen.lock().expect("lock") = (process.pid(), names.map(|namespace| namespace.path()).to_vec());
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    let (pid, paths) = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert_eq!(paths.len(), 4, "it got as far as to panic on purpose");
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
}
