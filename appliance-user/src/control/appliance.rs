//! The appliance from start to stop, in the one order that never leaves a packet to chance.
//!
//! Start: everything that can be refused is checked before anything is touched; sockets are in the map and workers beat
//! before the program is attached. Stop is the reverse: the program goes first (or stays, on a handover), then the workers,
//! then the pins.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;
use tidegate_common::maps;

use super::bypass::BypassWatch;
use super::clock;
use super::events::{BypassPackets, ControlEvent, EventLog, EventSender};
use super::figures::{Facts, KernelFigures, QueueFacts};
use super::health::{Board, Health};
use super::http::{Ports, Servers};
use super::monitor::{Dark, Monitor, Watched};
use super::options::{self, Options};
use super::pins::Pins;
use super::program::{self, Attached, Loaded};
use super::start_error::StartError;
use super::summary::Summary;
use super::tables::Settings;
use super::workers::Workers;
use crate::io::heartbeat::{HeartbeatSlot, Heartbeats};
use crate::io::{self, Feature, Opened, Socket, interface};
use crate::policy::{self, Policy};
use crate::worker::{PolicySlot, Published, Worker, WorkerConfig};

/// How long a queue, or another process' workers, may take to go away: a killed process leaves its queue bound for some
/// 20 ms.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long workers may take to beat for the first time.
const FIRST_BEAT: Duration = Duration::from_secs(2);
/// Long enough for a live worker to beat at least once at the default heartbeat.
const BEAT_INTERVAL: Duration = Duration::from_millis(40);
/// What the XDP program's headroom takes of every buffer.
const HEADROOM: u32 = 256;
/// Ethernet header and one 802.1Q tag, beyond the MTU.
const ETHERNET: u32 = 18;
/// Flows in each worker's table.
const MAX_FLOWS: usize = 65_536;
/// How long the last events may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running appliance.
pub struct Appliance {
    watched: Arc<Watched>,
    monitor: Monitor,
    servers: Servers,
    log: EventLog,
    pins: Pins,
    /// The kernel's counts before this process' share of them.
    before: KernelFigures,
    handover: bool,
    _program: Loaded,
    _policy: Arc<PolicySlot>,
}

/// What a stop leaves to be told.
pub struct Stopped {
    /// What became of every packet.
    pub summary: Summary,
    /// Why something could not be taken down.
    pub faults: Vec<String>,
}

/// One queue, opened.
struct Bound {
    queue: u32,
    core: Option<usize>,
    socket: Socket,
    opened: Opened,
}

/// What is checked before anything is touched.
struct Checked {
    policy: Policy,
    facts: interface::Facts,
    queues: Vec<u32>,
    cores: Vec<Option<usize>>,
    pins: Pins,
}

impl Appliance {
    /// Starts everything; the program is attached and every worker beats when this returns.
    ///
    /// # Errors
    /// [`StartError`]; what was made until then is taken back.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let log = EventLog::start(&options.events)?;
        match start(options, &log) {
            Ok((started, ports)) => started.serve(options, log, ports),
            Err(error) => {
                log.finish(FAREWELL);
                Err(error)
            }
        }
    }

    /// The address of health and admin as bound, the interface, the mode, for the log.
    pub fn describe(&self) -> String {
        let facts = &self.watched.facts;
        format!(
            "{} in {} mode, {} queues",
            facts.interface,
            facts.xdp_mode,
            facts.queues.len()
        )
    }

    /// Stops: program off (unless it is handed over), workers, pins, servers.
    pub fn stop(self, cause: &str) -> Stopped {
        let Appliance {
            watched,
            monitor,
            servers,
            log,
            pins,
            before,
            handover,
            ..
        } = self;
        let mut faults = Vec::new();
        watched.draining.store(true, Ordering::Relaxed);
        watched.events.send(ControlEvent::Stopping {
            cause: cause.to_owned(),
            handover,
        });
        watched.publish(Health::Draining, clock::monotonic_nanos());
        monitor.stop();
        let interface = watched.facts.interface.clone();
        if !handover && let Err(error) = program::take_off(&pins, &interface) {
            faults.push(error.to_string());
        }
        let workers = watched
            .workers
            .take()
            .into_iter()
            .map(|worker| (worker.queue(), worker.stop()))
            .collect();
        for beat in &watched.beats {
            beat.retire();
        }
        let after = watched.tables.figures().unwrap_or_else(|error| {
            faults.push(error.to_string());
            before.clone()
        });
        if handover {
            let note = after.bypass.to_note();
            watched.beats.iter().for_each(|beat| beat.leave_note(note));
        } else if let Err(error) = pins.remove_all_maps() {
            faults.push(error.to_string());
        }
        let summary = Summary::new(&interface, watched.since.elapsed(), &before, &after, workers);
        servers.stop();
        drop(watched);
        if !log.finish(FAREWELL) {
            faults.push("not every event could be written".to_owned());
        }
        Stopped { summary, faults }
    }
}

/// Attached and alive, but not watched yet.
struct Started {
    watched: Watched,
    watches: Vec<BypassWatch>,
    pins: Pins,
    before: KernelFigures,
    program: Loaded,
    policy: Arc<PolicySlot>,
}

impl Started {
    fn serve(self, options: &Options, log: EventLog, ports: Ports) -> Result<Appliance, StartError> {
        let Started {
            watched,
            watches,
            pins,
            before,
            program,
            policy,
        } = self;
        let watched = Arc::new(watched);
        // Health is true from the first answer on.
        watched.judge(&mut vec![super::health::TxWatch::default(); watches.len()]);
        let board = Arc::clone(&watched.board);
        let operator = Arc::clone(&watched);
        let begun = Servers::start(ports, board, operator)
            .map_err(StartError::from)
            .and_then(|servers| {
                let monitor = Monitor::start(Arc::clone(&watched), watches).map_err(StartError::Monitor)?;
                Ok((servers, monitor))
            });
        match begun {
            Ok((servers, monitor)) => {
                let handover = options.handover;
                Ok(Appliance {
                    watched,
                    monitor,
                    servers,
                    log,
                    pins,
                    before,
                    handover,
                    _program: program,
                    _policy: policy,
                })
            }
            Err(error) => {
                let undone = program::detach(&pins, &options.interface);
                undone
                    .err()
                    .into_iter()
                    .for_each(|error| tracing::error!(%error, "the program stays attached"));
                stop_all(watched.workers.take());
                Err(error)
            }
        }
    }
}

fn start(options: &Options, log: &EventLog) -> Result<(Started, Ports), StartError> {
    let events = log.sender();
    check_privilege()?;
    let checked = check(options, &events)?;
    let ports = Ports::bind(options.health, options.admin)?;
    let mut program = Loaded::load(checked.pins.clone(), &options.interface)?;
    match bring_up(options, log, checked, &mut program) {
        Ok(up) => Ok((up.into_started(program), ports)),
        Err(error) => {
            program.undo();
            Err(error)
        }
    }
}

/// [`Started`] without the program, which its maker borrows.
struct Up {
    watched: Watched,
    watches: Vec<BypassWatch>,
    pins: Pins,
    before: KernelFigures,
    policy: Arc<PolicySlot>,
}

impl Up {
    fn into_started(self, program: Loaded) -> Started {
        let Up {
            watched,
            watches,
            pins,
            before,
            policy,
        } = self;
        Started {
            watched,
            watches,
            pins,
            before,
            program,
            policy,
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
    let refuse = |errors| {
        events.send(ControlEvent::PolicyRefused {
            file: file.display().to_string(),
            errors,
        })
    };
    let mut bytes = Vec::new();
    let bound = policy::MAX_TEXT as u64 + 1;
    if let Err(source) = fs::File::open(file).and_then(|opened| opened.take(bound).read_to_end(&mut bytes)) {
        refuse(vec![source.to_string()]);
        return Err(StartError::PolicyFile {
            file: file.to_owned(),
            source,
        });
    }
    policy::parse_bytes(&file.display().to_string(), &bytes).map_err(|errors| {
        refuse(errors.iter().map(ToString::to_string).collect());
        StartError::Policy(errors)
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
    let bound = open_sockets(options, &facts, &queues, &cores)?;
    check_mtu(options, &facts, &bound)?;
    let mut tables = program.tables()?;
    let before = tables.figures()?;
    tables.configure(&Settings::new(options, &policy))?;
    let generation = tables.publish(&policy.kernel_prefixes(), options.on_failure)?;
    let beats = queues
        .iter()
        .filter_map(|queue| heartbeats.slot(*queue))
        .collect::<Vec<_>>();
    let watches = watches(options, &beats, takeover, before.bypass, &events);
    let mut known = describe(options, &facts, &policy, generation, &bound);
    known.takeover = takeover;
    tell_policy(&events, &known, &policy);
    for queue in &bound {
        program.set_socket(queue.queue, queue.socket.fd())?;
    }
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
    tell_started(&events, &known);
    let watched = Watched {
        facts: known,
        attached,
        since: Instant::now(),
        heartbeat: options.heartbeat,
        dark: Dark::new(beats.len()),
        beats,
        workers: Workers::new(workers),
        tables,
        board: Arc::new(Board::new(clock::monotonic_nanos())),
        events,
        draining: AtomicBool::new(false),
    };
    Ok(Up {
        watched,
        watches,
        pins,
        before,
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

fn open_sockets(
    options: &Options,
    facts: &interface::Facts,
    queues: &[u32],
    cores: &[Option<usize>],
) -> Result<Vec<Bound>, StartError> {
    let open = |(queue, core): (&u32, &Option<usize>)| {
        let opened = Socket::open(&options.socket(*queue, facts), PATIENCE);
        let (socket, opened) = opened.map_err(|source| StartError::Socket { source })?;
        Ok(Bound {
            queue: *queue,
            core: *core,
            socket,
            opened,
        })
    };
    queues.iter().zip(cores).map(open).collect()
}

fn check_mtu(options: &Options, facts: &interface::Facts, bound: &[Bound]) -> Result<(), StartError> {
    let room = options.frame_size.saturating_sub(HEADROOM);
    let needed = facts.mtu.saturating_add(ETHERNET);
    let Some(single) = bound.iter().find(|queue| !queue.opened.multi_buffer) else {
        return Ok(());
    };
    if needed <= room {
        return Ok(());
    }
    let why = single
        .opened
        .fallbacks
        .iter()
        .find(|fallback| fallback.feature == Feature::MultiBuffer);
    Err(StartError::Mtu {
        interface: facts.name.clone(),
        mtu: facts.mtu,
        needed,
        room,
        why: why.map_or_else(|| "not asked for".to_owned(), ToString::to_string),
        most: room.saturating_sub(ETHERNET),
        hint: if options.frame_size < 4096 {
            ", or use --frame-size 4096"
        } else {
            ""
        },
    })
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
        let before = BypassPackets::from_note(beat.note(), totals);
        let (watch, event) = BypassWatch::taken_over(beat.queue(), options.heartbeat, now, beat.last(), before);
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
    for (
        Bound {
            queue, core, socket, ..
        },
        beat,
    ) in bound.into_iter().zip(beats)
    {
        let config = WorkerConfig {
            queue,
            core,
            batch: options.batch,
            wait: options.wait,
            heartbeat: options.heartbeat,
            max_flows: MAX_FLOWS,
            geneve_port: options.geneve_port,
        };
        match Worker::spawn(config, socket, beat.clone(), Arc::clone(policy), log.streams()) {
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
fn stop_all(workers: Vec<Worker>) {
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

fn describe(options: &Options, facts: &interface::Facts, policy: &Policy, generation: u64, bound: &[Bound]) -> Facts {
    let queue = |bound: &Bound| QueueFacts {
        queue: bound.queue,
        core: bound.core,
        bind: if bound.opened.zero_copy { "zero-copy" } else { "copy" },
        multi_buffer: bound.opened.multi_buffer,
        huge_pages: bound.opened.huge_pages,
        frames: bound.opened.frames,
    };
    let mut known = Facts {
        interface: facts.name.clone(),
        driver: facts.driver.clone(),
        mtu: facts.mtu,
        on_failure: super::tables::failure_name(options.on_failure),
        default_action: super::tables::default_name(policy.default_action()),
        policy_file: options.policy.display().to_string(),
        rules: policy.rules().len(),
        generation,
        queues: bound.iter().map(queue).collect(),
        ..Facts::default()
    };
    for fallback in bound.iter().flat_map(|bound| &bound.opened.fallbacks) {
        // The same on every queue: said once.
        if !known
            .fallbacks
            .iter()
            .any(|(what, ..)| *what == fallback.feature.name())
        {
            known.fallbacks.push(told(fallback));
        }
    }
    known
}

/// A socket's fallback as what, instead, why.
fn told(fallback: &io::Fallback) -> (&'static str, String, String) {
    let instead = match fallback.feature {
        Feature::ZeroCopy => "copy mode",
        Feature::HugePages => "ordinary pages",
        Feature::MultiBuffer => "packets of one buffer",
        Feature::TransmitBudget => "the kernel's 32 packets per kick",
        Feature::SendBuffer => "the kernel's send buffer",
        Feature::BusyPoll => "interrupts",
    };
    (
        fallback.feature.name(),
        instead.to_owned(),
        std::io::Error::from_raw_os_error(fallback.errno).to_string(),
    )
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
