//! The bare forwarder on a real link: what it gets it sends back, jumbos too, and what is not GENEVE it leaves to the
//! kernel. The peer is the kernel's own UDP. Needs root.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;
use tidegate_lab::{MacAddr, Namespace, Process, VethEnd, XdpPass, veth};

const MINE: &str = "10.99.0.1";
const PEERS: &str = "10.99.0.2";
const GENEVE: u16 = 6081;
const WITHIN: Duration = Duration::from_secs(10);

struct Link {
    appliance: Namespace,
    peer: Namespace,
    _pass: XdpPass,
}

fn link() -> Link {
    let (appliance, peer) = (
        Namespace::new("fwd").expect("root"),
        Namespace::new("fwd-peer").expect("root"),
    );
    let end = |namespace, mac| VethEnd {
        namespace,
        name: "eth0",
        mac: MacAddr::local(mac),
    };
    veth(end(&appliance, 1), end(&peer, 2), 1, 9000).expect("linked");
    appliance.add_address("eth0", &format!("{MINE}/30")).expect("address");
    peer.add_address("eth0", &format!("{PEERS}/30")).expect("address");
    appliance
        .add_neighbour("eth0", PEERS, MacAddr::local(2))
        .expect("neighbour");
    peer.add_neighbour("eth0", MINE, MacAddr::local(1)).expect("neighbour");
    let pass = XdpPass::attach(&peer, "eth0").expect("passing program");
    Link {
        appliance,
        peer,
        _pass: pass,
    }
}

fn udp(namespace: &Namespace, address: &str, port: u16) -> UdpSocket {
    let socket = namespace
        .run_in(|| UdpSocket::bind((address, port)))
        .expect("entered")
        .expect("bound");
    socket.set_read_timeout(Some(WITHIN)).expect("set");
    socket
}

fn start(link: &Link, log: &std::path::Path, arguments: &[&str]) -> Process {
    let mut command = link.appliance.command(env!("CARGO_BIN_EXE_tidegate-forward"));
    command
        .args(["--interface", "eth0", "--ring-size", "2048"])
        .args(arguments);
    let process = Process::spawn("tidegate-forward", command, log).expect("started");
    process
        .wait_until("the forwarder to be ready", WITHIN, || process.log().contains("ready "))
        .expect("ready");
    process
}

/// The number behind `name=` in the final counts.
fn count(log: &str, name: &str) -> u64 {
    let line = log.lines().last().expect("counts");
    let value = line
        .split(' ')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("no {name} in {line}"))
        .parse()
        .expect("a number")
}

fn there_and_back(arguments: &[&str]) {
    let link = link();
    let folder = tempfile::tempdir().expect("folder");
    let mut forwarder = start(&link, &folder.path().join("log"), arguments);
    let peer = udp(&link.peer, PEERS, GENEVE);
    let other = udp(&link.appliance, MINE, GENEVE + 1);
    // From less than a frame to a jumbo of three buffers.
    let sizes = [1, 18, 64, 1_400, 3_700, 3_900, 8_500];
    let mut buffer = [0; 9_000];
    for number in 0..700_usize {
        let size = sizes[number % sizes.len()];
        let sent: Vec<u8> = (0..size).map(|index| (index * 7 + number) as u8).collect();
        peer.send_to(&sent, (MINE, GENEVE)).expect("sent");
        let (length, from) = peer.recv_from(&mut buffer).expect("it came back");
        assert!(buffer[..length] == sent, "packet {number} of {size} bytes has changed");
        // The addresses are swapped: it comes from where it was sent to.
        assert_eq!((from.ip().to_string().as_str(), from.port()), (MINE, GENEVE));
    }
    peer.send_to(b"to the kernel", (MINE, GENEVE + 1)).expect("sent");
    let (length, _) = other.recv_from(&mut buffer).expect("left to the kernel");
    assert_eq!(&buffer[..length], b"to the kernel");
    forwarder.signal(Signal::TERM).expect("told to stop");
    let status = forwarder.wait(WITHIN).expect("it stops");
    let log = forwarder.log();
    assert!(status.success(), "{log}");
    assert_eq!((count(&log, "received"), count(&log, "sent")), (700, 700), "{log}");
    assert_eq!(count(&log, "transmit_full"), 0, "{log}");
}

#[test]
fn every_geneve_packet_comes_back_and_the_rest_goes_to_the_kernel() {
    there_and_back(&["--wait", "sleep"]);
}

#[test]
fn so_it_is_when_it_burns_its_core() {
    there_and_back(&["--wait", "spin", "--batch", "1"]);
}

#[test]
fn it_stops_by_itself_when_its_time_is_over() {
    let link = link();
    let folder = tempfile::tempdir().expect("folder");
    let mut forwarder = start(
        &link,
        &folder.path().join("log"),
        &["--seconds", "1", "--wait", "sleep"],
    );
    assert!(
        forwarder.wait(WITHIN).expect("it stops").success(),
        "{}",
        forwarder.log()
    );
    assert_eq!(count(&forwarder.log(), "received"), 0);
}
