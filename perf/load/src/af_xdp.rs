//! The generator over an AF_XDP socket: the same frames, written in user space.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::io::{Socket, SocketConfig};
use tidegate_frames::layout::UNLISTED;
use tidegate_frames::maps::{Control, Progress};
use tidegate_frames::pace;

use crate::error::{Error, Result};
use crate::generator::{Source, Started, control, locked, monotonic, pin, spawn};
use crate::load::{Lane, Load};
use crate::planned::Planned;

/// Frames between two kicks of the kernel, at most; what is due is sent at once.
const BURST: usize = 32;
/// How long to wait for a queue that somebody has just left.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State {
    progress: Mutex<Progress>,
    /// Read before every burst.
    control: Mutex<Control>,
}

struct UserSource(Arc<State>);

impl Source for UserSource {
    fn progress(&self) -> Result<Progress> {
        Ok(*locked(&self.0.progress))
    }

    fn stop(&self) {
        locked(&self.0.control).stop = 1;
    }

    fn alter(&self, alter: &dyn Fn(&mut Control)) -> Result<u32> {
        let mut control = locked(&self.0.control);
        alter(&mut control);
        control.change = control.change.wrapping_add(1);
        Ok(control.change)
    }
}

/// Opens a socket on the interface's first queue and starts sending.
pub(crate) fn start(lane: &Lane, load: &Load, planned: Planned, progress: Progress) -> Result<Started> {
    let config = SocketConfig {
        multi_buffer: false,
        ..SocketConfig::new(&lane.interface, 0)
    };
    let (socket, _) = Socket::open(&config, PATIENCE).map_err(|error| Error::Socket(error.to_string()))?;
    let state = Arc::new(State {
        progress: Mutex::new(progress),
        control: Mutex::new(control(load)),
    });
    let run = Arc::clone(&state);
    let core = lane.core;
    let thread = spawn("generate", move || {
        pin(core)?;
        generate(&run, socket, &planned)
    })?;
    Ok((Box::new(UserSource(state)), vec![thread]))
}

fn generate(state: &State, mut socket: Socket, planned: &Planned) -> Result<()> {
    let mut progress = *locked(&state.progress);
    let mut frame = planned.template.clone();
    while progress.done == 0 {
        let control = *locked(&state.control);
        let burst = burst(&mut socket, planned, &control, &mut progress, &mut frame);
        if burst > 0 || socket.frames().transmit > 0 {
            socket.flush().map_err(|error| Error::Socket(error.to_string()))?;
        }
        *locked(&state.progress) = progress;
    }
    Ok(())
}

/// Stages what is due, as long as there are free frames.
fn burst(
    socket: &mut Socket,
    planned: &Planned,
    control: &Control,
    progress: &mut Progress,
    frame: &mut [u8],
) -> usize {
    for count in 0..BURST {
        let before = *progress;
        let time = monotonic();
        if !pace::due(control, progress, time) {
            return count;
        }
        let turn = pace::turn(&planned.plan, control, progress);
        let listed = turn.marked & UNLISTED == 0;
        planned.write(frame, listed, turn.marked & !UNLISTED, turn.number, time);
        let sent = socket.allocate(frame).map(|packet| socket.send(packet));
        if let Some(Err(packet)) = sent {
            socket.recycle(packet);
        } else if sent.is_some() {
            continue;
        }
        // No frame or no room: it was not made, and is due again.
        *progress = before;
        return count;
    }
    BURST
}
