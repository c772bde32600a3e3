//! Starting: what is checked, made, filled and attached, in this order.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;
use tidegate_common::maps;

use super::bypass::{BypassWatch, Note};
use super::clock;
use super::events::{BypassPackets, ControlEvent, EventLog, EventSender};
use super::expect::ExpectWatch;
use super::figures::{Facts, KernelFigures};
use super::health::Board;
use super::http::Ports;
use super::monitor::{Dark, Watched};
use super::options::{self, Options};
use super::pins::Pins;
use super::program::{Attached, Loaded};
use super::sockets::{self, Bound};
use super::start_error::StartError;
use super::tables::{Settings, Tables};
use super::workers::Workers;
use crate::io::heartbeat::{HeartbeatSlot, Heartbeats};
use crate::io::{interface, policy_file};
use crate::policy::Policy;
use crate::worker::{Link, PolicySlot, Published, Ties, Worker, WorkerConfig};

/// How long a queue, or another process' workers, may take to go away: a killed process leaves its queue bound for some
/// 20 ms.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long workers may take to beat for the first time.
const FIRST_BEAT: Duration = Duration::from_secs(2);
/// Long enough for a live worker to beat at least once at the default heartbeat.
const BEAT_INTERVAL: Duration = Duration::from_millis(40);
/// Flows in each worker's table.
const MAX_FLOWS: usize = 65_536;

/// What is checked before anything is touched.
struct Checked {
    policy: Policy,
    facts: interface::Facts,
    queues: Vec<u32>,
    cores: Vec<Option<usize>>,
    pins: Pins,
}

/// Attached and alive, but not watched yet.
pub(super) struct Up {
    pub(super) watched: Watched,
    pub(super) watches: Vec<BypassWatch>,
    pub(super) pins: Pins,
    /// The kernel's counts before this process' share of them.
    pub(super) before: KernelFigures,
    pub(super) policy: Arc<PolicySlot>,
}

/// Starts everything but the watching and answering.
///
/// # Errors
/// [`StartError`]; what was made until then is taken back.
pub(super) fn start(options: &Options, log: &EventLog) -> Result<(Up, Loaded, Ports), StartError> {
    let events = log.sender();
    check_privilege()?;
    let checked = check(options, &events)?;
    let ports = Ports::bind(options.health, options.admin)?;
    let mut program = Loaded::load(checked.pins.clone(), &options.interface)?;
    match bring_up(options, log, checked, &mut program) {
        Ok(up) => Ok((up, program, ports)),
        Err(error) => {
            program.undo();
            Err(error)
        }
    }
}

fn check_privilege() -> Result<(), StartError> {
    let Ok(sets) = rustix::thread::capabilities(None) else {
        return Ok(());
    };
    let has = sets.effective;
    let needed = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::BPF | CapabilitySet::SYS_ADMIN, "CAP_BPF"),
        (CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN, "CAP_PERFMON"),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(any, _)| !has.intersects(*any))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StartError::Privilege {
            missing: missing.join(", "),
        })
    }
}

/// Everything that can be refused without touching anything.
fn check(options: &Options, events: &EventSender) -> Result<Checked, StartError> {
    let policy = load_policy(&options.policy, events)?;
    let name = &options.interface;
    let facts = interface::query(name).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV | libc::EINVAL) => StartError::NoInterface {
            interface: name.clone(),
        },
        _ => StartError::Interface {
            interface: name.clone(),
            source,
        },
    })?;
    let queues = options.queues.resolve(name, facts.rx_queues, maps::MAX_QUEUES)?;
    let cores = options.cores.resolve(queues.len(), &options::allowed_cores())?;
    let pins = Pins::new(&options.pins, name)?;
    Ok(Checked {
        policy,
        facts,
        queues,
        cores,
        pins,
    })
}

fn load_policy(file: &Path, events: &EventSender) -> Result<Policy, StartError> {
    policy_file::load(file).map_err(|error| {
        events.send(ControlEvent::PolicyRefused {
            file: file.display().to_string(),
            errors: error.each(),
        });
        StartError::Policy(error)
    })
}

fn bring_up(options: &Options, log: &EventLog, checked: Checked, program: &mut Loaded) -> Result<Up, StartError> {
    let events = log.sender();
    let Checked {
        policy,
        facts,
        queues,
        cores,
        pins,
    } = checked;
    let heartbeats = program.heartbeats()?;
    let takeover = pins.has_link();
    if takeover {
        wait_unattended(options, &heartbeats)?;
    }
    let bound = sockets::open(options, &facts, &queues, &cores)?;
    sockets::check_mtu(options, &facts, &bound)?;
    let mut tables = program.tables()?;
    let before = tables.figures()?;
    let former = tables.in_force()?;
    let mut known = describe(options, &facts, &policy, &bound);
    known.takeover = takeover;
    let live = go_live(
        options,
        log,
        program,
        &mut tables,
        Ready {
            policy,
            bound,
            heartbeats,
            known,
            before: before.bypass,
        },
    );
    let live = match live {
        Ok(live) => live,
        Err(error) => {
            // Whatever was pinned here goes on as before this start.
            if let Err(error) = tables.put_in_force(former) {
                tracing::error!(%error, "the former settings could not be restored");
            }
            return Err(error);
        }
    };
    tell_started(&events, &live.known);
    let watched = Watched {
        facts: live.known,
        attached: live.attached,
        since: Instant::now(),
        heartbeat: options.heartbeat,
        dark: Dark::new(live.beats.len()),
        expected: Mutex::new(ExpectWatch::new(Arc::clone(&live.policy), clock::monotonic_nanos())),
        beats: live.beats,
        workers: Workers::new(live.workers),
        tables,
        board: Arc::new(Board::new(clock::monotonic_nanos())),
        events,
        draining: AtomicBool::new(false),
    };
    Ok(Up {
        watched,
        watches: live.watches,
        pins,
        before,
        policy: live.policy,
    })
}

/// Everything that going live needs and that touches no map yet.
struct Ready {
    policy: Policy,
    bound: Vec<Bound>,
    heartbeats: Heartbeats,
    known: Facts,
    before: BypassPackets,
}

/// Attached, with workers that beat.
struct Live {
    known: Facts,
    attached: Attached,
    beats: Vec<HeartbeatSlot>,
    watches: Vec<BypassWatch>,
    workers: Vec<Worker>,
    policy: Arc<PolicySlot>,
}

/// From the first change of a map that a pinned program may be reading to the program's attachment.
fn go_live(
    options: &Options,
    log: &EventLog,
    program: &mut Loaded,
    tables: &mut Tables,
    ready: Ready,
) -> Result<Live, StartError> {
    let Ready {
        policy,
        bound,
        heartbeats,
        mut known,
        before,
    } = ready;
    tables.configure(Settings::new(options))?;
    let generation = tables.publish(&policy.kernel_prefixes(), policy.default_action(), options.on_failure)?;
    known.generation = generation;
    let beats: Vec<HeartbeatSlot> = bound.iter().filter_map(|queue| heartbeats.slot(queue.queue)).collect();
    let watches = watches(options, &beats, known.takeover, before, &log.sender());
    for queue in &bound {
        program.set_socket(queue.queue, queue.socket.fd())?;
    }
    tell_policy(&log.sender(), &known, &policy);
    let policy = Arc::new(PolicySlot::from_pointee(Published { policy, generation }));
    let begun = clock::monotonic_nanos();
    let workers = spawn(options, bound, &beats, &policy, log)?;
    let attached = match wait_for_beats(&beats, begun).and_then(|()| Ok(program.attach(options.xdp)?)) {
        Ok(attached) => attached,
        Err(error) => {
            stop_all(workers);
            return Err(error);
        }
    };
    finish_facts(&mut known, &attached);
    Ok(Live {
        known,
        attached,
        beats,
        watches,
        workers,
        policy,
    })
}

/// Waits until the workers of the process that was here before are silent. Two processes on one interface would write
/// the same maps.
fn wait_unattended(options: &Options, heartbeats: &Heartbeats) -> Result<(), StartError> {
    let begun = Instant::now();
    let beats = || {
        (0..heartbeats.slots())
            .map(|queue| heartbeats.slot(queue)?.last())
            .collect::<Vec<Option<u64>>>()
    };
    let mut before = beats();
    loop {
        std::thread::sleep(BEAT_INTERVAL);
        let now = beats();
        let alive = before
            .iter()
            .zip(&now)
            .any(|(before, now)| before != now && now.is_some());
        if !alive {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Err(StartError::Served {
                interface: options.interface.clone(),
                waited: PATIENCE,
            });
        }
        before = now;
    }
}

fn watches(
    options: &Options,
    beats: &[HeartbeatSlot],
    takeover: bool,
    totals: BypassPackets,
    events: &EventSender,
) -> Vec<BypassWatch> {
    let now = clock::monotonic_nanos();
    let watch = |beat: &HeartbeatSlot| {
        if !takeover {
            return BypassWatch::fresh(beat.queue(), options.heartbeat, totals);
        }
        let note = Note::from_words(beat.note(), now, totals);
        let since = beat.last().unwrap_or(note.at);
        let (watch, event) = BypassWatch::taken_over(beat.queue(), options.heartbeat, now, since, note.totals);
        events.send(event);
        watch
    };
    beats.iter().map(watch).collect()
}

fn spawn(
    options: &Options,
    bound: Vec<Bound>,
    beats: &[HeartbeatSlot],
    policy: &Arc<PolicySlot>,
    log: &EventLog,
) -> Result<Vec<Worker>, StartError> {
    let mut workers: Vec<Worker> = Vec::with_capacity(bound.len());
    let links = Link::between(bound.len());
    for ((bound, beat), link) in bound.into_iter().zip(beats).zip(links) {
        let Bound {
            queue, core, socket, ..
        } = bound;
        let config = WorkerConfig {
            queue,
            core,
            batch: options.batch,
            wait: options.wait,
            heartbeat: options.heartbeat,
            max_flows: MAX_FLOWS,
            geneve_port: options.geneve_port,
        };
        let ties = Ties {
            policy: Arc::clone(policy),
            events: log.streams(),
            link,
        };
        match Worker::spawn(config, socket, beat.clone(), ties) {
            Ok(worker) => workers.push(worker),
            Err(source) => {
                stop_all(workers);
                return Err(StartError::Worker { queue, source });
            }
        }
    }
    Ok(workers)
}

/// Ends workers whose figures nobody wants.
pub(super) fn stop_all(workers: Vec<Worker>) {
    for worker in workers {
        let _ = worker.stop();
    }
}

fn wait_for_beats(beats: &[HeartbeatSlot], begun: u64) -> Result<(), StartError> {
    let since = |beat: &HeartbeatSlot| beat.last().is_some_and(|last| last >= begun);
    let deadline = Instant::now() + FIRST_BEAT;
    loop {
        let Some(silent) = beats.iter().find(|beat| !since(beat)) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(StartError::Lifeless {
                queue: silent.queue(),
                waited: FIRST_BEAT,
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn describe(options: &Options, facts: &interface::Facts, policy: &Policy, bound: &[Bound]) -> Facts {
    let mut known = Facts {
        interface: facts.name.clone(),
        driver: facts.driver.clone(),
        mtu: facts.mtu,
        on_failure: super::tables::failure_name(options.on_failure),
        default_action: super::tables::default_name(policy.default_action()),
        policy_file: options.policy.display().to_string(),
        rules: policy.rules().len(),
        queues: bound.iter().map(Bound::facts).collect(),
        ..Facts::default()
    };
    for fallback in bound.iter().flat_map(|bound| &bound.opened.fallbacks) {
        // The same on every queue: said once.
        if !known
            .fallbacks
            .iter()
            .any(|(what, ..)| *what == fallback.feature.name())
        {
            known.fallbacks.push(sockets::told(fallback));
        }
    }
    known
}

fn finish_facts(known: &mut Facts, attached: &Attached) {
    known.xdp_mode = attached.mode.name();
    known.takeover = attached.replaced;
    if let Some(why) = &attached.fallback {
        known
            .fallbacks
            .push(("xdp-mode", attached.mode.name().to_owned(), why.clone()));
    }
}

fn tell_policy(events: &EventSender, known: &Facts, policy: &Policy) {
    events.send(ControlEvent::PolicyLoaded {
        file: known.policy_file.clone(),
        generation: known.generation,
        rules: known.rules,
        warnings: policy.warnings().iter().map(ToString::to_string).collect(),
    });
}

fn tell_started(events: &EventSender, known: &Facts) {
    for (what, instead, why) in &known.fallbacks {
        events.send(ControlEvent::Fallback {
            what,
            instead: instead.clone(),
            why: why.clone(),
        });
    }
    events.send(ControlEvent::Started {
        interface: known.interface.clone(),
        queues: known.queues.iter().map(|queue| queue.queue).collect(),
        xdp_mode: known.xdp_mode,
        bind_mode: known.queues.iter().map(|queue| queue.bind).collect(),
        takeover: known.takeover,
        version: env!("CARGO_PKG_VERSION"),
    });
}
