//! What the tests of the whole datapath share: a real `tidegate run` in a namespace of its own, what it says about itself,
//! and the books that must balance whatever a test did.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::control::netlink::{XdpAttachment, link_state};
use tidegate_lab::{Namespace, Process};

pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
/// For what takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Tells aloud, and fails, where these tests cannot run: none of them is skipped silently.
pub fn require_means() {
    assert!(
        tidegate::control::object::OBJECT.is_some(),
        "built without the XDP program: run `cargo xtask build-ebpf` and build again"
    );
    tidegate_lab::require_root().expect("the datapath's tests need root");
}

/// Where an appliance runs: a namespace, an interface, a policy, and pins of its own. Dropped, nothing of it is left.
pub struct Site<'a> {
    namespace: &'a Namespace,
    interface: &'static str,
    pins: PathBuf,
    scratch: tempfile::TempDir,
}

impl<'a> Site<'a> {
    /// A site with this policy; nothing runs yet.
    pub fn new(namespace: &'a Namespace, interface: &'static str, policy: &str) -> Site<'a> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let site = Site {
            namespace,
            interface,
            pins: PathBuf::from(format!("/sys/fs/bpf/tidegate-datapath-{}-{number}", std::process::id())),
            scratch: tempfile::tempdir().expect("a directory"),
        };
        fs::write(site.policy(), policy).expect("the policy is written");
        site
    }

    pub fn policy(&self) -> PathBuf {
        self.scratch.path().join("policy.toml")
    }

    fn events(&self) -> PathBuf {
        self.scratch.path().join("events.jsonl")
    }

    /// `tidegate` in the namespace with interface and pins given.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = self.namespace.command(TIDEGATE);
        command
            .args([subcommand, "--interface", self.interface])
            .arg("--pins")
            .arg(&self.pins);
        command
    }

    /// `tidegate run`, not started yet.
    pub fn run_command(&self, more: &[&str]) -> Command {
        let mut command = self.command("run");
        command
            .arg("--policy")
            .arg(self.policy())
            .arg("--events")
            .arg(self.events());
        command
            .args(["--frames", "4096", "--ring-size", "2048", "--cores", "none"])
            .args(more);
        command
    }

    /// Starts `tidegate run` and returns when it says that it is healthy.
    pub fn run(&self, more: &[&str]) -> Process {
        let log = self
            .scratch
            .path()
            .join(format!("tidegate-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)));
        let process = Process::spawn("tidegate", self.run_command(more), &log).expect("started");
        process
            .wait_until("health is ok", SOON, || self.is_healthy())
            .expect("healthy");
        process
    }

    /// Runs `tidegate run` to its refusal; what it said.
    pub fn refused(&self, more: &[&str]) -> String {
        let output = self.run_command(more).output().expect("ran");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {said}");
        said
    }

    pub fn detach(&self) -> Output {
        self.command("detach").output().expect("ran")
    }

    /// Everything told under this name.
    pub fn told(&self, event: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.events()).unwrap_or_default();
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    pub fn is_healthy(&self) -> bool {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        get(self.namespace, (local, 80).into(), "/health").is_ok_and(|(status, _)| status == 200)
    }

    pub fn health(&self) -> io::Result<(u16, String)> {
        get(self.namespace, (Ipv4Addr::LOCALHOST, 80).into(), "/health")
    }

    fn api(&self, path: &str) -> Value {
        let (status, body) = get(self.namespace, (Ipv4Addr::LOCALHOST, 9090).into(), path).expect("an answer");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub fn status(&self) -> Value {
        self.api("/api/v1/status")
    }

    pub fn streams(&self) -> Vec<Value> {
        self.api("/api/v1/streams")["streams"]
            .as_array()
            .cloned()
            .expect("a list of streams")
    }

    /// The program on the interface.
    pub fn program(&self) -> Option<(XdpAttachment, u32)> {
        self.namespace
            .run_in(|| link_state(self.interface))
            .expect("entered")
            .expect("the link is there")
            .xdp
    }

    pub fn is_pinned(&self) -> bool {
        self.pins.join(self.interface).join("link").exists()
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(self.program(), None, "a program is still attached");
        assert!(!self.pins.exists(), "pins are still there");
    }

    /// The status once nothing moves any more and every packet and frame is accounted for; fails with the books otherwise.
    pub fn settled(&self) -> Value {
        self.settles(true)
    }

    /// The same for a process that took over: the kernel has counted since before it, the workers have not.
    pub fn settled_after_takeover(&self) -> Value {
        self.settles(false)
    }

    fn settles(&self, fresh: bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            match imbalance(&status, fresh) {
                None => return status,
                Some(what) if begun.elapsed() > SOON => panic!("{what}: {status:#}"),
                Some(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let _ = self.detach();
    }
}

/// An HTTP GET from within a namespace: status and body.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    tidegate_lab::http::get(namespace, address, path, SOON)
}

/// A number in a status.
pub fn number(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no number at {path} in {value:#}"))
}

/// The sum of a number over all queues.
pub fn over_queues(status: &Value, path: &str) -> u64 {
    status["queues"]
        .as_array()
        .expect("queues")
        .iter()
        .map(|queue| number(queue, path))
        .sum()
}

/// Packets dropped so far, by who dropped them and why: `kernel source-not-listed`, `worker no-rule`.
pub fn drops(status: &Value) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut take = |who: &str, reasons: &Value| {
        for (reason, count) in reasons.as_object().expect("reasons") {
            *all.entry(format!("{who} {reason}")).or_default() += count.as_u64().expect("a count");
        }
    };
    take("kernel", &status["kernel"]["drop_reasons"]);
    for queue in status["queues"].as_array().expect("queues") {
        take("worker", &queue["drop_reasons"]);
    }
    all
}

/// What does not add up; `fresh`: the program was attached anew, so that kernel and workers count from the same moment.
fn imbalance(status: &Value, fresh: bool) -> Option<&'static str> {
    let kernel = |name: &str| number(status, &format!("/kernel/{name}"));
    let decided: u64 = ["passed", "redirected", "returned", "dropped"]
        .iter()
        .map(|name| kernel(&format!("packets/{name}")))
        .sum();
    let bypassed = kernel("bypass/returned") + kernel("bypass/passed");
    if kernel("packets/seen") != decided + bypassed {
        return Some("the kernel saw packets that it neither passed, redirected, returned nor dropped");
    }
    if fresh && kernel("packets/redirected") != over_queues(status, "/packets/seen") {
        return Some("packets were redirected that no worker saw");
    }
    for queue in status["queues"].as_array().expect("queues") {
        let packets = |name: &str| number(queue, &format!("/packets/{name}"));
        if packets("seen") != packets("returned") + packets("passed") + packets("dropped") {
            return Some("a worker saw packets that it neither returned, passed nor dropped");
        }
        let frames = |name: &str| number(queue, &format!("/frames/{name}"));
        let homes = frames("pool") + frames("fill") + frames("receive") + frames("transmit");
        if frames("total") != homes {
            return Some("a frame is nowhere");
        }
        if frames("transmit") + frames("receive") != 0 {
            return Some("a frame is still on its way");
        }
    }
    None
}
