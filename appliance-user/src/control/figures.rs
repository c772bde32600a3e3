//! Everything that is counted or known, at one moment, and how it is shown as metrics.

use std::sync::Arc;
use std::time::Duration;

use tidegate_common::drop_reason::DropReason;

use super::events::BypassPackets;
use super::health::Health;
use super::metrics::{Family, Label};
use crate::worker::WorkerSnapshot;

/// What the kernel's program counted, over all processors, since its maps were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFigures {
    /// Packets the program was shown.
    pub seen: u64,
    /// Packets left to the kernel's stack because they are not the appliance's business.
    pub passed: u64,
    /// Packets given to workers.
    pub redirected: u64,
    /// Packets returned because no rule admits their source and the default action says so.
    pub returned: u64,
    /// Packets that took a failure action.
    pub bypass: BypassPackets,
    /// Packets dropped, by reason; those that took the failure action `drop` are under `worker-dead`.
    pub dropped: [u64; DropReason::COUNT],
    /// Further counts that do not add to `seen`, by name.
    pub notes: Vec<(&'static str, u64)>,
}

impl KernelFigures {
    /// Nothing counted.
    pub fn zero() -> Self {
        KernelFigures {
            seen: 0,
            passed: 0,
            redirected: 0,
            returned: 0,
            bypass: BypassPackets::default(),
            dropped: [0; DropReason::COUNT],
            notes: Vec::new(),
        }
    }

    /// Packets that the program itself sent back.
    pub fn returned_total(&self) -> u64 {
        self.returned + self.bypass.returned
    }

    /// Packets that the program left to the stack.
    pub fn passed_total(&self) -> u64 {
        self.passed + self.bypass.passed
    }

    /// Packets that the program dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// One queue and its worker.
#[derive(Clone, Debug)]
pub struct QueueFigures {
    /// The receive queue.
    pub queue: u32,
    /// The worker's thread runs.
    pub running: bool,
    /// How old its heartbeat is; the longest duration if nobody beats.
    pub heartbeat_age: Duration,
    /// Packets of this queue take the failure action, as far as was noticed.
    pub dark: bool,
    /// The worker's own figures.
    pub worker: WorkerSnapshot,
}

/// What does not change while the appliance runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The interface.
    pub interface: String,
    /// Its driver.
    pub driver: String,
    /// Its MTU at the start, in bytes.
    pub mtu: u32,
    /// `native`, `generic` or `other`.
    pub xdp_mode: &'static str,
    /// A pinned program of an earlier process was replaced.
    pub takeover: bool,
    /// `return`, `drop` or `pass`.
    pub on_failure: &'static str,
    /// `drop` or `return`.
    pub default_action: &'static str,
    /// The policy file.
    pub policy_file: String,
    /// How many rules it has.
    pub rules: usize,
    /// The policy's generation.
    pub generation: u64,
    /// What each queue's socket really is.
    pub queues: Vec<QueueFacts>,
    /// What was asked for and is not there: what, what instead, why.
    pub fallbacks: Vec<(&'static str, String, String)>,
}

/// What one queue's socket really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFacts {
    /// The receive queue.
    pub queue: u32,
    /// The core its worker is pinned to.
    pub core: Option<usize>,
    /// `zero-copy` or `copy`.
    pub bind: &'static str,
    /// Packets of several buffers are carried.
    pub multi_buffer: bool,
    /// The buffers lie on huge pages.
    pub huge_pages: bool,
    /// Buffers of the queue.
    pub frames: u32,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What does not change.
    pub facts: Facts,
    /// The kernel's program.
    pub kernel: KernelFigures,
    /// Every queue.
    pub queues: Vec<QueueFigures>,
    /// Events written, shed by control, and lost for want of a working file.
    pub events: [u64; 3],
    /// What `/health` answers.
    pub health: Health,
    /// Since the program was attached.
    pub uptime: Duration,
    /// The rules that are waited for, and whether their streams are missing.
    pub expected: Vec<(Arc<str>, bool)>,
}

/// A function that takes one number out of a worker's figures.
type Take = fn(&WorkerSnapshot) -> u64;

/// The workers' counters with one value per queue: name, help, where the number is.
const WORKER_COUNTERS: &[(&str, &str, Take)] = &[
    ("worker_seen_packets", "Packets workers took from their rings", |w| {
        w.engine.seen
    }),
    (
        "worker_returned_packets",
        "Packets workers decided to return to the load balancer",
        |w| w.engine.returned,
    ),
    (
        "worker_passed_packets",
        "Packets that are not the appliance's business and reached a worker",
        |w| w.engine.passed,
    ),
    (
        "worker_returned_bytes",
        "Bytes of the packets workers returned, as on the wire",
        |w| w.engine.returned_bytes,
    ),
    ("flows_created", "Flows entered into the flow tables", |w| {
        w.engine.flows_created
    }),
    ("flows_evicted", "Flows that made room for another one", |w| {
        w.engine.flows_evicted
    }),
    (
        "flows_refused",
        "Packets decided without a flow because the table was full",
        |w| w.engine.flows_refused,
    ),
    (
        "shadow_dropped_packets",
        "Packets returned that their rule would drop if it said enforce = true",
        |w| w.engine.shadow_dropped_total(),
    ),
    ("streams_created", "Streams that appeared", |w| w.engine.streams_created),
    ("streams_refused", "Streams that could not be followed", |w| {
        w.engine.streams_refused
    }),
    (
        "stream_events_shed",
        "Stream events lost because nobody fetched them in time",
        |w| w.engine.events_shed + w.events_shed,
    ),
    (
        "group_messages_shed",
        "Messages about groups of flows (media, FEC, RTCP) that did not get to their worker",
        |w| w.group_messages_shed,
    ),
    (
        "groups_refused",
        "Messages about groups of flows that there was no room for",
        |w| w.groups_refused,
    ),
    (
        "link_down_rounds",
        "Rounds of a worker in which the interface was down",
        |w| w.link_down,
    ),
    (
        "socket_failures",
        "Workers that ended because their socket failed",
        |w| u64::from(w.failed),
    ),
    (
        "socket_rx_dropped_packets",
        "Packets the kernel dropped before the receive ring",
        |w| w.socket.rx_dropped,
    ),
    (
        "socket_rx_ring_full_packets",
        "Packets dropped because the receive ring was full",
        |w| w.socket.rx_ring_full,
    ),
    ("socket_fill_ring_empty", "Times the kernel found no free buffer", |w| {
        w.socket.rx_fill_ring_empty_descs
    }),
    (
        "socket_rx_invalid_descriptors",
        "Receive descriptors the kernel refused",
        |w| w.socket.rx_invalid_descs,
    ),
    (
        "socket_tx_invalid_descriptors",
        "Transmit descriptors the kernel refused",
        |w| w.socket.tx_invalid_descs,
    ),
    ("socket_tx_ring_empty", "Times the kernel found nothing to send", |w| {
        w.socket.tx_ring_empty_descs
    }),
    ("tx_completed_frames", "Buffers that came back from the driver", |w| {
        w.completed
    }),
    (
        "tx_full_packets",
        "Packets lost because the transmit ring was full",
        |w| w.tx_full,
    ),
    (
        "worker_stalls",
        "Times a worker found its own heartbeat stale and discarded its backlog",
        |w| w.stalls,
    ),
    ("worker_busy_nanoseconds", "Time workers had packets in hand", |w| {
        w.busy_ns
    }),
    ("worker_idle_nanoseconds", "Time workers waited for packets", |w| {
        w.idle_ns
    }),
];

/// The workers' gauges.
const WORKER_GAUGES: &[(&str, &str, Take)] = &[
    ("flows", "Flows in the flow tables", |w| w.engine.flows),
    ("streams", "Streams followed", |w| w.engine.streams),
    (
        "engine_memory_left_bytes",
        "What streams may still grow by; near 0 new streams are followed with little memory",
        |w| w.engine.memory_left,
    ),
    (
        "residence_p50_nanoseconds",
        "Median time of a packet in the worker",
        |w| w.residence.p50,
    ),
    (
        "residence_p99_nanoseconds",
        "Time in the worker below which 99% of packets stay",
        |w| w.residence.p99,
    ),
    (
        "residence_max_nanoseconds",
        "Longest time of a packet in the worker",
        |w| w.residence.max,
    ),
];

/// Where a frame may be: the label's value and where the number is.
const FRAME_PLACES: &[(&str, Take)] = &[
    ("pool", |w| w.frames.pool.into()),
    ("fill", |w| w.frames.fill.into()),
    ("receive", |w| w.frames.receive.into()),
    ("transmit", |w| w.frames.transmit.into()),
];

fn label(name: &'static str, value: impl ToString) -> Label {
    (name, value.to_string())
}

/// All metrics.
pub fn families(figures: &Figures) -> Vec<Family> {
    let mut families = kernel_families(&figures.kernel);
    families.extend(worker_families(&figures.queues));
    families.extend(mode_families(figures));
    families
}

fn kernel_families(kernel: &KernelFigures) -> Vec<Family> {
    let mut packets = Family::counter(
        "kernel_packets",
        "Packets the XDP program saw, by what it did with them",
    );
    packets.add(vec![label("outcome", "passed")], kernel.passed);
    packets.add(vec![label("outcome", "redirected")], kernel.redirected);
    packets.add(vec![label("outcome", "returned")], kernel.returned);
    packets.add(vec![label("outcome", "bypass-returned")], kernel.bypass.returned);
    packets.add(vec![label("outcome", "bypass-passed")], kernel.bypass.passed);
    packets.add(vec![label("outcome", "dropped")], kernel.dropped_total());
    let mut seen = Family::counter("kernel_seen_packets", "Packets the XDP program saw");
    seen.add(Vec::new(), kernel.seen);
    let mut bypass = Family::counter(
        "bypass_packets",
        "Packets that took a failure action because no worker was alive",
    );
    bypass.add(vec![label("action", "return")], kernel.bypass.returned);
    bypass.add(vec![label("action", "drop")], kernel.bypass.dropped);
    bypass.add(vec![label("action", "pass")], kernel.bypass.passed);
    let mut dropped = Family::counter("kernel_dropped_packets", "Packets the XDP program dropped, by reason");
    for reason in DropReason::ALL {
        dropped.add(vec![label("reason", reason.name())], kernel.dropped[reason.index()]);
    }
    let mut notes = Family::counter("kernel_notes", "What the XDP program noticed beside its decisions");
    for (name, value) in &kernel.notes {
        notes.add(vec![label("note", name)], *value);
    }
    vec![seen, packets, dropped, bypass, notes]
}

fn worker_families(queues: &[QueueFigures]) -> Vec<Family> {
    let per_queue = |mut family: Family, take: Take| {
        for queue in queues {
            family.add(vec![label("queue", queue.queue)], take(&queue.worker));
        }
        family
    };
    let mut families: Vec<Family> = WORKER_COUNTERS
        .iter()
        .map(|(name, help, take)| per_queue(Family::counter(name, help), *take))
        .collect();
    families.extend(
        WORKER_GAUGES
            .iter()
            .map(|(name, help, take)| per_queue(Family::gauge(name, help), *take)),
    );
    let mut dropped = Family::counter("worker_dropped_packets", "Packets workers dropped, by reason");
    let mut shadow = Family::counter(
        "shadow_dropped_packets_by_reason",
        "Packets returned that their rule would drop if it said enforce = true, by reason",
    );
    let mut frames = Family::gauge("frames", "Packet buffers by where they are");
    let mut up = Family::gauge("worker_running", "1 while the queue's worker runs");
    let mut dark = Family::gauge("bypass_active", "1 while the queue's packets take the failure action");
    let mut age = Family::gauge(
        "heartbeat_age_seconds",
        "How old the worker's heartbeat is; infinite if it never beat",
    );
    for queue in queues {
        let number = label("queue", queue.queue);
        for reason in DropReason::ALL {
            let labels = vec![number.clone(), label("reason", reason.name())];
            dropped.add(labels.clone(), queue.worker.engine.dropped[reason.index()]);
            shadow.add(labels, queue.worker.engine.shadow_dropped[reason.index()]);
        }
        for (place, take) in FRAME_PLACES {
            frames.add(vec![number.clone(), label("place", place)], take(&queue.worker));
        }
        up.add(vec![number.clone()], queue.running.into());
        dark.add(vec![number.clone()], queue.dark.into());
        let seconds = if queue.heartbeat_age == Duration::MAX {
            f64::INFINITY
        } else {
            queue.heartbeat_age.as_secs_f64()
        };
        age.samples.push((vec![number], seconds));
    }
    families.extend([dropped, shadow, frames, up, dark, age]);
    families
}

fn mode_families(figures: &Figures) -> Vec<Family> {
    let facts = &figures.facts;
    let [written, shed, failed] = figures.events;
    let mut events = Family::counter("events", "Events for the event log, by what became of them");
    for (outcome, value) in [("written", written), ("shed", shed), ("failed", failed)] {
        events.add(vec![label("outcome", outcome)], value);
    }
    let mut sockets = Family::gauge("socket_mode", "What each queue's socket really is; always 1");
    for queue in &facts.queues {
        let labels = vec![
            label("queue", queue.queue),
            label("bind", queue.bind),
            label("multi_buffer", queue.multi_buffer),
            label("huge_pages", queue.huge_pages),
        ];
        sockets.add(labels, 1);
    }
    let mut fallbacks = Family::gauge("fallback", "What was asked for and is not there; always 1");
    for (what, instead, _) in &facts.fallbacks {
        let labels = vec![label("what", what), label("instead", instead)];
        if !fallbacks.samples.iter().any(|(known, _)| *known == labels) {
            fallbacks.add(labels, 1);
        }
    }
    let mut silent = Family::gauge(
        "rule_silent",
        "1 while no media of the rule comes, of rules that expect it",
    );
    for (rule, missing) in &figures.expected {
        silent.add(vec![label("rule", rule)], (*missing).into());
    }
    let build = vec![label("version", env!("CARGO_PKG_VERSION"))];
    let mode = vec![
        label("interface", &facts.interface),
        label("mode", facts.xdp_mode),
        label("on_failure", facts.on_failure),
        label("default_action", facts.default_action),
    ];
    let healthy = u8::from(figures.health == Health::Ok);
    vec![
        Family::gauge("build", "Tidegate's version; always 1").with(build, 1.0),
        Family::gauge("xdp_mode", "How the XDP program is attached; always 1").with(mode, 1.0),
        Family::gauge("healthy", "1 while /health answers 200").with(Vec::new(), healthy.into()),
        Family::gauge("uptime_seconds", "Since the program was attached")
            .with(Vec::new(), figures.uptime.as_secs_f64()),
        Family::gauge("policy_generation", "The policy in force").with(Vec::new(), facts.generation as f64),
        Family::gauge("policy_rules", "Rules of the policy in force").with(Vec::new(), facts.rules as f64),
        sockets,
        fallbacks,
        events,
        silent,
    ]
}
