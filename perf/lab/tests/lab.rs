//! Proves that labs come up, carry packets, and leave nothing behind: after a drop, a panic, a teardown and a kill.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tidegate_lab::{
    MacAddr, Namespace, Process, Topology, TopologyOptions, VethEnd, XdpPass, run, sweep, veth, wait_until,
};

const SOON: Duration = Duration::from_secs(5);

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

fn alive(pid: u32) -> bool {
    // A zombie that its new parent has not reaped yet is dead enough.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Starts a shell with a child of its own and returns both process ids.
fn tree(namespace: &Namespace, directory: &Path) -> (Process, u32) {
    let log = directory.join("tree.log");
    let mut command = namespace.command("sh");
    command.args(["-c", "trap '' TERM; sleep 600 & echo $!; wait; wait; wait"]);
    let process = Process::spawn("tree", command, &log).expect("spawn");
    process
        .wait_until("the child's pid", SOON, || process.log().ends_with('\n'))
        .expect("child");
    let child = process.log().trim().parse().expect("pid");
    (process, child)
}

#[test]
fn a_namespace_is_gone_after_its_drop_and_after_a_panic() {
    let name = {
        let namespace = Namespace::new("drop").expect("namespace");
        assert!(exists(namespace.name()));
        namespace.name().to_owned()
    };
    assert!(!exists(&name));
    let name = std::sync::Mutex::new(String::new());
    let outcome = std::panic::catch_unwind(|| {
        let namespace = Namespace::new("panic").expect("namespace");
        *name.lock().expect("name") = namespace.name().to_owned();
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    let name = name.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(name.starts_with("tg-") && !exists(&name), "{name}");
}

#[test]
fn commands_and_closures_run_inside() {
    let namespace = Namespace::new("inside").expect("namespace");
    let inside = run(namespace.command("readlink").arg("/proc/self/ns/net")).expect("readlink");
    let thread = namespace
        .run_in(|| std::fs::read_link("/proc/thread-self/ns/net"))
        .expect("enter")
        .expect("readlink");
    let outside = std::fs::read_link("/proc/thread-self/ns/net").expect("readlink");
    assert_eq!(inside.trim(), thread.to_string_lossy());
    assert_ne!(thread, outside);
    assert!(namespace.ip(&["link", "show", "lo"]).expect("ip").contains("UP"));
    let error = namespace
        .ip(&["link", "set", "none-such", "up"])
        .expect_err("no such link")
        .to_string();
    assert!(error.contains("none-such"), "{error}");
}

#[test]
fn a_whole_process_tree_dies_with_its_owner() {
    let directory = tempfile::tempdir().expect("tempdir");
    let namespace = Namespace::new("tree").expect("namespace");
    let (process, child) = tree(&namespace, directory.path());
    let leader = process.pid();
    assert!(alive(leader) && alive(child));
    drop(process);
    wait_until("the tree to die", SOON, || !alive(leader) && !alive(child)).expect("dead");
}

#[test]
fn a_process_that_ends_early_is_told_with_its_log() {
    let directory = tempfile::tempdir().expect("tempdir");
    let namespace = Namespace::new("early").expect("namespace");
    let mut command = namespace.command("sh");
    command.args(["-c", "echo cannot find the thing; exit 3"]);
    let mut process = Process::spawn("early", command, &directory.path().join("early.log")).expect("spawn");
    let error = process
        .wait_until("readiness", SOON, || false)
        .expect_err("it ended")
        .to_string();
    assert!(error.contains("cannot find the thing"), "{error}");
    assert_eq!(process.wait(SOON).expect("status").code(), Some(3));
}

#[test]
fn jumbo_frames_cross_a_link_with_the_passing_program_and_several_queues() {
    let (a, b) = (
        Namespace::new("a").expect("namespace"),
        Namespace::new("b").expect("namespace"),
    );
    let ends = [(&a, MacAddr::local(1)), (&b, MacAddr::local(2))].map(|(namespace, mac)| VethEnd {
        namespace,
        name: "eth0",
        mac,
    });
    veth(ends[0], ends[1], 4, 8600).expect("veth");
    a.add_address("eth0", "10.0.0.1/24").expect("address");
    b.add_address("eth0", "10.0.0.2/24").expect("address");
    let _pass = XdpPass::attach(&b, "eth0").expect("passing program");
    assert!(
        b.ip(&["link", "show", "eth0"]).expect("ip").contains("xdp"),
        "native XDP is attached"
    );
    let receiver = b
        .run_in(|| UdpSocket::bind("10.0.0.2:5000").expect("bind"))
        .expect("enter");
    receiver.set_read_timeout(Some(SOON)).expect("timeout");
    let sender = a
        .run_in(|| UdpSocket::bind("10.0.0.1:0").expect("bind"))
        .expect("enter");
    sender.send_to(&[7; 8500], "10.0.0.2:5000").expect("send");
    let mut buffer = [0; 9000];
    assert_eq!(receiver.recv(&mut buffer).expect("receive"), 8500);
}

#[test]
fn what_a_link_carries_and_what_a_full_socket_loses_is_counted() {
    let (a, b) = (
        Namespace::new("from").expect("namespace"),
        Namespace::new("to").expect("namespace"),
    );
    let ends = [(&a, MacAddr::local(3)), (&b, MacAddr::local(4))].map(|(namespace, mac)| VethEnd {
        namespace,
        name: "eth0",
        mac,
    });
    veth(ends[0], ends[1], 1, 1500).expect("veth");
    a.add_address("eth0", "10.0.0.1/24").expect("address");
    b.add_address("eth0", "10.0.0.2/24").expect("address");
    // Else the first datagrams would wait for ARP, which holds a hundred and counts none of the others.
    a.add_neighbour("eth0", "10.0.0.2", MacAddr::local(4))
        .expect("neighbour");
    let counted = |namespace: &Namespace| {
        let devices = namespace.devices().expect("devices");
        devices
            .into_iter()
            .find(|device| device.interface == "eth0")
            .expect("eth0")
    };
    let socket = |namespace: &Namespace, address: &str| {
        let bound = namespace.run_in(|| UdpSocket::bind(address)).expect("enter");
        bound.expect("bound")
    };
    let (receiver, sender) = (socket(&b, "10.0.0.2:5000"), socket(&a, "10.0.0.1:0"));
    // Nobody reads: its buffer of a few kilobytes is full after a few datagrams.
    rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 1).expect("a small buffer");
    let (before, overflows) = (counted(&b), b.udp_overflows().expect("counted"));
    for _ in 0..200 {
        sender.send_to(&[7; 1000], "10.0.0.2:5000").expect("sent");
    }
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("timeout");
    let mut buffer = [0; 1000];
    let mut arrived = 0;
    while receiver.recv(&mut buffer).is_ok() {
        arrived += 1;
    }
    let (after, lost) = (counted(&b), b.udp_overflows().expect("counted") - overflows);
    assert!(arrived > 0 && lost > 0, "{arrived} arrived, {lost} lost");
    assert_eq!(arrived + lost + counted(&a).transmit_dropped, 200);
    assert!(
        after.received - before.received >= arrived + lost,
        "{before:?} {after:?}"
    );
}

#[test]
fn the_topology_has_both_families_and_needs_the_simulator_in_between() {
    let topology = Topology::build(&TopologyOptions {
        appliances: 2,
        queues: 2,
        ..TopologyOptions::default()
    })
    .expect("build");
    let names: Vec<String> = [&topology.source, &topology.gwlb, &topology.sink]
        .into_iter()
        .chain(topology.appliances.iter().map(|appliance| &appliance.namespace))
        .map(|namespace| namespace.name().to_owned())
        .collect();
    for (address, target) in [("0.0.0.0:0", Topology::SINK_V4), ("[::]:0", Topology::SINK_V6)] {
        let sent = topology
            .source
            .run_in(|| UdpSocket::bind(address).and_then(|s| s.send_to(b"x", (target, 9))))
            .expect("enter");
        sent.expect("there is a route to the sink");
    }
    let counters = topology
        .gwlb
        .ip(&["-s", "link", "show", Topology::TUN_FORWARD])
        .expect("ip");
    assert!(
        counters.contains("NO-CARRIER"),
        "nobody holds the TUN device yet: {counters}"
    );
    let arguments = topology.gwlb_arguments();
    assert_eq!(arguments.iter().filter(|argument| *argument == "--target").count(), 2);
    drop(topology);
    assert!(names.iter().all(|name| !exists(name)), "{names:?}");
}

/// What the two tests below run in a child process: makes a lab, says what is in it, then waits as told.
#[test]
#[ignore = "run by the tests beside it, in a process of its own"]
fn child_lab() {
    let directory = tempfile::tempdir().expect("tempdir");
    let namespace = Namespace::new("child").expect("namespace");
    let (process, child) = tree(&namespace, directory.path());
    println!("lab {} {} {}", namespace.name(), process.pid(), child);
    if std::env::var_os("LAB_TEARDOWN").is_some() {
        tidegate_lab::teardown_all();
        assert!(matches!(Namespace::new("late"), Err(tidegate_lab::Error::TornDown)));
        // As a signal handler's thread would: no destructor runs.
        std::process::exit(0);
    }
    std::thread::sleep(Duration::from_secs(60));
}

fn start_child_lab(teardown: bool) -> (std::process::Child, String, [u32; 2]) {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command
        .args(["--exact", "child_lab", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped());
    if teardown {
        command.env("LAB_TEARDOWN", "1");
    }
    let mut child = command.spawn().expect("spawn");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("lab tg-"))
        .expect("the lab's line");
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "lab")
        .skip(1)
        .map(str::to_owned);
    let name = words.next().expect("name");
    let mut pid = || words.next().expect("pid").parse().expect("pid");
    (child, name, [pid(), pid()])
}

#[test]
fn teardown_removes_everything_while_the_owners_still_live() {
    let (mut child, name, pids) = start_child_lab(true);
    assert!(child.wait().expect("wait").success());
    assert!(!exists(&name), "{name}");
    wait_until("the tree to die", SOON, || pids.iter().all(|pid| !alive(*pid))).expect("dead");
}

#[test]
fn a_sweep_removes_what_a_killed_lab_left_and_nothing_else() {
    let ours = Namespace::new("ours").expect("namespace");
    let (mut child, name, pids) = start_child_lab(false);
    let left = sweep().expect("sweep");
    assert!(exists(&name) && !left.contains(&name), "its owner lives");
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(exists(&name), "nobody was left to remove it");
    assert!(test_kill_process(Pid::from_raw(pids[0].cast_signed()).expect("pid")).is_ok());
    let removed = sweep().expect("sweep");
    assert!(removed.contains(&name) || !exists(&name), "{removed:?}");
    assert!(exists(ours.name()));
    wait_until("the tree to die", SOON, || pids.iter().all(|pid| !alive(*pid))).expect("dead");
}
