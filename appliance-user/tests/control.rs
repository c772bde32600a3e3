//! `tidegate run` and `tidegate detach` from outside, on a veth link in namespaces of their own: what is attached and pinned
//! when, what survives a kill, and what is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::control::netlink::{XdpAttachment, link_state};
use tidegate_lab::{MacAddr, Namespace, Process, VethEnd, veth, wait_until};

const INTERFACE: &str = "tgc0";
const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy.toml");
const SOON: Duration = Duration::from_secs(5);

/// A link with the appliance's end in one namespace, and a pin directory of its own.
struct Bench {
    appliance: Namespace,
    gwlb: Namespace,
    pins: PathBuf,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// `None`, said aloud, where it cannot be had.
    fn new(name: &str) -> Option<Bench> {
        if tidegate::control::object::OBJECT.is_none() {
            println!("SKIPPED {name}: built without the XDP program (cargo xtask build-ebpf)");
            return None;
        }
        if let Err(error) = tidegate_lab::require_root() {
            println!("SKIPPED {name}: {error}");
            return None;
        }
        let appliance = Namespace::new("appliance").expect("a namespace");
        let gwlb = Namespace::new("gwlb").expect("a namespace");
        let near = VethEnd {
            namespace: &appliance,
            name: INTERFACE,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
        };
        let far = VethEnd {
            namespace: &gwlb,
            name: "tgc1",
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
        };
        veth(near, far, 2, 8568).expect("a link");
        let pins = PathBuf::from(format!("/sys/fs/bpf/tidegate-test-{}-{name}", std::process::id()));
        Some(Bench {
            appliance,
            gwlb,
            pins,
            scratch: tempfile::tempdir().expect("a directory"),
        })
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.appliance.command(TIDEGATE);
        command
            .args(arguments)
            .args(["--interface", INTERFACE])
            .arg("--pins")
            .arg(&self.pins);
        command
    }

    fn run(&self, more: &[&str]) -> Process {
        let mut command = self.command(&["run", "--policy", POLICY, "--health", "127.0.0.1:80"]);
        command
            .args(["--frames", "1024", "--ring-size", "512"])
            .arg("--events")
            .arg(self.events());
        command.args(more);
        let log = self.scratch.path().join("tidegate.log");
        let process = Process::spawn("tidegate", command, &log).expect("started");
        process
            .wait_until("health is ok", SOON, || self.health().starts_with("HTTP/1.1 200"))
            .expect("healthy");
        process
    }

    fn refused(&self, more: &[&str]) -> String {
        let mut command = self.command(&["run"]);
        if !more.contains(&"--policy") {
            command.args(["--policy", POLICY]);
        }
        let output = command
            .args(["--frames", "1024", "--ring-size", "512"])
            .args(more)
            .output()
            .expect("ran");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {said}");
        said
    }

    fn detach(&self) -> Output {
        self.command(&["detach"]).output().expect("ran")
    }

    fn events(&self) -> PathBuf {
        self.scratch.path().join("events.jsonl")
    }

    fn told(&self, event: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.events()).unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"));
        lines.filter(|line| line["event"] == event).collect()
    }

    fn get(&self, port: u16, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.appliance
            .run_in(ask)
            .expect("entered")
            .unwrap_or_else(|error| format!("{:?}", error.kind()))
    }

    fn health(&self) -> String {
        self.get(80, "/health")
    }

    fn program(&self) -> Option<(XdpAttachment, u32)> {
        self.appliance
            .run_in(|| link_state(INTERFACE))
            .expect("entered")
            .expect("the link is there")
            .xdp
    }

    /// The settings that the pinned program reads, policy slot included.
    fn settings(&self) -> Vec<u8> {
        let layout = format!("v{:016x}", tidegate_common::maps::LAYOUT_HASH);
        let path = self
            .pins
            .join(INTERFACE)
            .join(layout)
            .join(tidegate_common::maps::name::CONFIG);
        let map = aya::maps::MapData::from_pin(&path).expect("pinned");
        let map = aya::maps::Map::from_map_data(map).expect("an array");
        let array = aya::maps::Array::<_, [u8; 32]>::try_from(map).expect("of settings");
        array.get(&0, 0).expect("read").to_vec()
    }

    fn pinned(&self) -> bool {
        self.pins.join(INTERFACE).join("link").exists()
    }

    fn nothing_left(&self) {
        assert_eq!(self.program(), None, "a program is still attached");
        assert!(!self.pins.exists(), "pins are still there");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.detach();
    }
}

#[test]
fn a_stop_leaves_nothing_and_a_summary() {
    let Some(bench) = Bench::new("stop") else { return };
    let mut process = bench.run(&[]);
    let (mode, id) = bench.program().expect("attached");
    assert_eq!(mode, XdpAttachment::Native);
    assert!(id > 0 && bench.pinned());
    let metrics = bench.get(9090, "/metrics");
    for expected in [
        "tidegate_healthy 1",
        "tidegate_kernel_seen_packets_total",
        "tidegate_xdp_mode{",
        "# EOF",
    ] {
        assert!(metrics.contains(expected), "{expected} is missing in {metrics}");
    }
    assert!(bench.get(9090, "/api/v1/streams").contains("\"streams\":["));
    let status = process.stop(SOON).expect("ended");
    assert!(status.success(), "{}", process.log());
    assert!(
        process
            .log()
            .contains("every packet and every frame accounted for: yes"),
        "{}",
        process.log()
    );
    bench.nothing_left();
    for event in ["policy-loaded", "started", "stopping"] {
        assert_eq!(bench.told(event).len(), 1, "{event}");
    }
}

#[test]
fn a_killed_process_leaves_its_program_and_the_next_one_takes_over() {
    let Some(bench) = Bench::new("kill") else { return };
    let mut first = bench.run(&[]);
    let (_, before) = bench.program().expect("attached");
    first.signal(Signal::KILL).expect("killed");
    first.wait(SOON).expect("dead");
    assert_eq!(
        bench.program().map(|(_, id)| id),
        Some(before),
        "the program went with its process"
    );
    assert!(bench.pinned());
    assert!(!bench.health().starts_with("HTTP"), "somebody still answers");
    // What a version with other maps would have left.
    let other_layout = bench.pins.join(INTERFACE).join("v00000000000000ff");
    fs::create_dir(&other_layout).expect("made");
    let mut second = bench.run(&[]);
    assert!(!other_layout.exists(), "maps of another layout stay pinned");
    let (_, after) = bench.program().expect("attached");
    assert_ne!(after, before, "the program was not replaced");
    wait_until("the bypass is told to be over", SOON, || {
        bench.told("bypass-left").len() == 2
    })
    .expect("told");
    assert!(bench.told("bypass-left").iter().all(|event| event["takeover"] == true));
    assert_eq!(bench.told("started").last().expect("told")["takeover"], true);
    assert!(second.stop(SOON).expect("ended").success());
    bench.nothing_left();
}

#[test]
fn a_handover_keeps_the_program_until_detach() {
    let Some(bench) = Bench::new("handover") else { return };
    let mut process = bench.run(&["--handover"]);
    let (_, id) = bench.program().expect("attached");
    assert!(process.stop(SOON).expect("ended").success());
    assert_eq!(bench.program().map(|(_, id)| id), Some(id));
    let in_force = bench.settings();
    let said = bench.refused(&["--xdp-mode", "generic", "--on-failure", "drop"]);
    assert!(
        said.contains("native mode") && said.contains("tidegate detach"),
        "{said}"
    );
    assert_eq!(
        bench.settings(),
        in_force,
        "a refused start changed what the pinned program does"
    );
    assert!(bench.detach().status.success());
    bench.nothing_left();
    let again = bench.detach();
    assert!(again.status.success(), "twice is no error");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to detach"));
}

#[test]
fn a_driver_that_refuses_native_mode_gets_generic_mode_and_it_is_said() {
    let Some(bench) = Bench::new("generic") else { return };
    // veth refuses native XDP where the peer could send on more queues than there are to receive on.
    let output = bench
        .appliance
        .command("ethtool")
        .args(["-L", INTERFACE, "rx", "1"])
        .output()
        .expect("ran");
    assert!(output.status.success(), "{output:?}");
    let said = bench.refused(&["--xdp-mode", "native"]);
    assert!(said.contains("native"), "{said}");
    bench.nothing_left();
    let mut process = bench.run(&[]);
    assert!(
        matches!(bench.program(), Some((XdpAttachment::Generic, _))),
        "{:?}",
        bench.program()
    );
    let started = bench.told("started");
    assert_eq!(started.last().expect("told")["xdp_mode"], "generic");
    let fallbacks = bench.told("fallback");
    assert!(
        fallbacks.iter().any(|event| event.to_string().contains("generic")),
        "{fallbacks:?}"
    );
    assert!(process.stop(SOON).expect("ended").success());
    bench.nothing_left();
}

#[test]
fn health_follows_carrier_program_and_worker() {
    let Some(bench) = Bench::new("health") else { return };
    let process = bench.run(&[]);
    let turns = |what: &str| {
        wait_until(what, SOON, || {
            let said = bench.health();
            said.starts_with("HTTP/1.1 503") && said.contains(what)
        })
        .expect("unsound");
    };
    bench.gwlb.ip(&["link", "set", "tgc1", "down"]).expect("down");
    turns("no carrier");
    bench.gwlb.ip(&["link", "set", "tgc1", "up"]).expect("up");
    wait_until("health is back", SOON, || bench.health().starts_with("HTTP/1.1 200")).expect("healthy");
    process.signal(Signal::STOP).expect("stopped");
    std::thread::sleep(Duration::from_millis(300));
    process.signal(Signal::CONT).expect("continued");
    wait_until("the stall is told", SOON, || !bench.told("bypass-left").is_empty()).expect("told");
    assert!(
        bench
            .told("bypass-entered")
            .iter()
            .all(|event| event["cause"] == "heartbeat-stale")
    );
    // Somebody else takes the program off.
    assert!(bench.detach().status.success());
    turns("not attached any more");
}

#[test]
fn what_cannot_work_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::new("refused") else { return };
    let taken = bench
        .appliance
        .run_in(|| std::net::TcpListener::bind("127.0.0.1:9090"))
        .expect("entered");
    let said = bench.refused(&[]);
    assert!(said.contains("127.0.0.1:9090") && said.contains("--admin"), "{said}");
    drop(taken);
    let bad = bench.scratch.path().join("bad.toml");
    fs::write(&bad, "version = 1\ndefault_action = \"maybe\"\n").expect("written");
    let bad = bad.to_str().expect("UTF-8").to_owned();
    for (more, expected) in [
        (&["--queues", "3"][..], "2 receive queues"),
        (&["--cores", "0"], "1 cores for 2 queues"),
        (&["--bind", "zero-copy"], "zero-copy"),
        (&["--policy", "/nonexistent.toml"], "/nonexistent.toml"),
        (&["--policy", &bad], "bad.toml:2:"),
    ] {
        let said = bench.refused(more);
        assert!(said.contains(expected), "{more:?}: {said}");
        bench.nothing_left();
    }
    let mut command = bench.appliance.command(TIDEGATE);
    let output = command
        .args(["run", "--interface", "tg-none", "--policy", POLICY])
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no interface tg-none"));
}

#[test]
fn a_second_process_is_refused_and_disturbs_nothing() {
    let Some(bench) = Bench::new("second") else { return };
    let first = bench.run(&[]);
    let program = bench.program();
    let said = bench.refused(&["--health", "127.0.0.1:81", "--admin", "127.0.0.1:9091"]);
    assert!(said.contains("another tidegate process serves"), "{said}");
    assert_eq!(bench.program(), program);
    assert!(bench.health().starts_with("HTTP/1.1 200"), "{}", first.log());
}

#[test]
fn without_root_it_says_what_is_missing() {
    let Some(bench) = Bench::new("root") else { return };
    let program = Path::new(TIDEGATE);
    // The build directory may be closed to others: a copy that anybody can run.
    let copy = std::env::temp_dir().join(format!("tidegate-test-{}", std::process::id()));
    fs::copy(program, &copy).expect("copied");
    let policy = std::env::temp_dir().join(format!("tidegate-test-{}.toml", std::process::id()));
    fs::copy(POLICY, &policy).expect("copied");
    let mut command = bench.appliance.command("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy);
    let output = command
        .args(["run", "--interface", INTERFACE, "--policy"])
        .arg(&policy)
        .output()
        .expect("ran");
    let _ = (fs::remove_file(&copy), fs::remove_file(&policy));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("CAP_NET_ADMIN") && said.contains("sudo"), "{said}");
}
