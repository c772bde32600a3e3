//! The appliance from start to stop, in the one order that never leaves a packet to chance.
//!
//! Start: everything that can be refused is checked before anything is touched; sockets are in the map and workers beat
//! before the program is attached. Stop is the reverse: the program goes first (or stays, on a handover), then the workers,
//! then the pins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bypass::Note;
use super::clock;
use super::detach;
use super::events::{ControlEvent, EventLog};
use super::figures::KernelFigures;
use super::health::{Health, TxWatch};
use super::http::{Ports, Servers};
use super::monitor::{Monitor, Watched};
use super::options::Options;
use super::pins::Pins;
use super::program::Loaded;
use super::start::{self, Up};
use super::start_error::StartError;
use super::summary::Summary;
use crate::worker::PolicySlot;

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

impl Appliance {
    /// Starts everything; the program is attached and every worker beats when this returns.
    ///
    /// # Errors
    /// [`StartError`]; what was made until then is taken back.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let log = EventLog::start(&options.events)?;
        match start::start(options, &log) {
            Ok((up, program, ports)) => serve(up, program, options, log, ports),
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
        if !handover && let Err(error) = detach::take_off(&pins, &interface) {
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
            let note = Note {
                totals: after.bypass,
                at: clock::monotonic_nanos(),
            }
            .to_words();
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

/// Begins to answer and to watch.
fn serve(up: Up, mut program: Loaded, options: &Options, log: EventLog, ports: Ports) -> Result<Appliance, StartError> {
    let Up {
        watched,
        watches,
        pins,
        before,
        policy,
    } = up;
    let watched = Arc::new(watched);
    // Health is true from the first answer on.
    watched.judge(&mut vec![TxWatch::default(); watches.len()]);
    let board = Arc::clone(&watched.board);
    let operator = Arc::clone(&watched);
    let begun = Servers::start(ports, board, operator)
        .map_err(StartError::from)
        .and_then(|servers| {
            let monitor = Monitor::start(Arc::clone(&watched), watches, program.log()).map_err(StartError::Monitor)?;
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
            let undone = detach::detach(&pins, &options.interface);
            undone
                .err()
                .into_iter()
                .for_each(|error| tracing::error!(%error, "the program stays attached"));
            start::stop_all(watched.workers.take());
            Err(error)
        }
    }
}
