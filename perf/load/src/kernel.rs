//! The kernel's generator: one call of the test run that lasts for the whole load, and a second thread that ends it.
//!
//! A call costs some 20 ms, in which nothing is sent, so there is one for as long as the number of runs allows. While it
//! lasts its thread is in the kernel; only a signal brings it back before its time.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aya::maps::{Array, MapData};
use aya::programs::ProgramFd;
use rustix::io::Errno;
use rustix::thread::Pid;
use tidegate_frames::maps::{Control, Progress, name};

use crate::error::{Error, Result};
use crate::generator::{Source, Started, control, locked, monotonic, pin, spawn};
use crate::load::{Lane, Load, Rate};
use crate::object::{Programs, fill, interface_index};
use crate::planned::Planned;
use crate::sys::{self, Value};

/// How often the second thread looks: a load ends so much later than it should, sending nothing.
const LOOK: Duration = Duration::from_millis(2);
/// A signal that means nothing to most programs, and that is ignored unless it is handled.
const SIGNAL: libc::c_int = libc::SIGURG;
/// Runs of the program in one call: as many as there can be. At 40 ns each that is three minutes, then comes the next call.
const REPEAT: u32 = u32::MAX;
/// Batches of paced and of fast loads, and of those flat out.
const BATCHES: [u32; 3] = [1, 8, 64];
/// From this rate on, packets a second, a batch of one costs too much.
const FAST: f64 = 500_000.0;

/// What the two threads and their owner share.
struct State {
    control: Mutex<(Array<MapData, Value<Control>>, Control)>,
    progress: Array<MapData, Value<Progress>>,
    stop: AtomicBool,
    /// The generator's thread; 0 before it has begun and after it has ended.
    thread: AtomicI32,
    ended: AtomicBool,
    deadline: u64,
}

impl State {
    /// Nothing more will be sent.
    fn is_over(&self) -> bool {
        // A map that cannot be read ends the load as well.
        self.stop.load(Ordering::Acquire)
            || monotonic() >= self.deadline
            || self.progress.get(&0, 0).map_or(true, |progress| progress.0.done != 0)
    }
}

struct KernelSource(Arc<State>);

impl Source for KernelSource {
    fn progress(&self) -> Result<Progress> {
        Ok(self.0.progress.get(&0, 0)?.0)
    }

    fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        let mut control = locked(&self.0.control);
        control.1.stop = 1;
        let value = Value(control.1);
        // Were this to fail, the signal still ends the run a little later.
        let _ = control.0.set(0, value, 0);
    }

    fn alter(&self, alter: &dyn Fn(&mut Control)) -> Result<u32> {
        let mut control = locked(&self.0.control);
        let old = control.1;
        let mut new = old;
        alter(&mut new);
        // The program may read a value while it is written. So the rate is there before the word that makes it count.
        let first = Control {
            held: old.held,
            change: old.change,
            ..new
        };
        control.0.set(0, Value(first), 0)?;
        control.1 = first;
        new.change = old.change.wrapping_add(1);
        control.0.set(0, Value(new), 0)?;
        control.1 = new;
        Ok(new.change)
    }
}

/// Loads the generator, fills its maps and starts it.
pub(crate) fn start(lane: &Lane, load: &Load, planned: &Planned, progress: Progress) -> Result<Started> {
    handle_signal()?;
    let interface = interface_index(&lane.interface)?;
    let mut programs = Programs::load()?;
    // First, for then the program holds the maps.
    let program = programs.verify(name::GENERATE)?;
    fill(&mut programs.array(name::PLAN)?, &[planned.plan])?;
    fill(&mut programs.array(name::GROUP)?, &planned.group)?;
    fill(&mut programs.array(name::SPECIALS)?, &planned.specials)?;
    let mut progresses = programs.array(name::PROGRESS)?;
    fill(&mut progresses, &[progress])?;
    let mut controls = programs.array(name::CONTROL)?;
    let control = control(load);
    fill(&mut controls, &[control])?;
    let state = Arc::new(State {
        control: Mutex::new((controls, control)),
        progress: progresses,
        stop: AtomicBool::new(false),
        thread: AtomicI32::new(0),
        ended: AtomicBool::new(false),
        deadline: control.deadline,
    });
    let batch = load.batch.unwrap_or(match load.rate {
        Rate::FlatOut => BATCHES[2],
        Rate::PacketsPerSecond(rate) if rate > FAST => BATCHES[1],
        Rate::PacketsPerSecond(_) => BATCHES[0],
    });
    let template = planned.template.clone();
    let core = lane.core;
    let (run, watch) = (Arc::clone(&state), Arc::clone(&state));
    let generator = spawn("generate", move || {
        let result = pin(core).and_then(|()| generate(&run, &program, &template, interface, batch));
        run.thread.store(0, Ordering::Release);
        run.ended.store(true, Ordering::Release);
        result
    })?;
    let watcher = spawn("generate-end", move || {
        watch_over(&watch);
        Ok(())
    });
    let source = Box::new(KernelSource(state));
    match watcher {
        Ok(watcher) => Ok((source, vec![generator, watcher])),
        Err(error) => {
            // Without a watcher the run would go on until its deadline.
            source.stop();
            Err(error)
        }
    }
}

fn generate(state: &State, program: &ProgramFd, template: &[u8], interface: u32, batch: u32) -> Result<()> {
    state
        .thread
        .store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
    while !state.is_over() {
        match sys::test_run(program.as_fd(), template, interface, REPEAT, batch) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            Err(error) => {
                return Err(Error::io(
                    "the kernel's test run with live frames (needs Linux 5.18 and an XDP program on the interface)",
                    error,
                ));
            }
        }
    }
    Ok(())
}

/// Brings the generator's thread back once the load is over; again and again, for a signal that comes just before the call has
/// no effect.
fn watch_over(state: &State) {
    while !state.ended.load(Ordering::Acquire) {
        std::thread::sleep(LOOK);
        if state.is_over()
            && let Some(thread) = Pid::from_raw(state.thread.load(Ordering::Acquire))
        {
            sys::signal_thread(thread, SIGNAL);
        }
    }
}

/// Gives the signal a handler, once for the process: an ignored signal would interrupt nothing.
fn handle_signal() -> Result<()> {
    static HANDLED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let nothing = Arc::new(AtomicBool::new(false));
    let handled = HANDLED.get_or_init(|| {
        signal_hook::flag::register(SIGNAL, nothing)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    handled
        .clone()
        .map_err(|error| Error::io("handling the signal that ends a run", std::io::Error::other(error)))
}
