//! Taking the program off and the pins away. Needs nothing but the interface's name, so that it works after a crash.

use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};

use super::netlink::{self, LinkState};
use super::pins::Pins;
use super::program::ProgramError;

/// How long the kernel may take to let a detached program go: it does so after a grace period.
const DETACH_PATIENCE: Duration = Duration::from_secs(2);

/// What [`detach`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// A pinned link was removed, and with it the program.
    pub link: bool,
    /// Directories of pinned maps that were removed.
    pub layouts: usize,
    /// The id of a program on the interface that is none of Tidegate's pins.
    pub foreign: Option<u32>,
}

/// Takes the program off and removes every pin of the interface, whoever left them. Doing it twice is no error, nor is an
/// interface that has gone.
///
/// # Errors
/// If pins cannot be removed, or the program stays all the same.
pub fn detach(pins: &Pins, interface: &str) -> Result<Detached, ProgramError> {
    let mut found = take_off(pins, interface)?;
    found.layouts = pins.remove_all_maps()?;
    Ok(found)
}

/// Takes the program off; the maps stay pinned. Packets go to the kernel's stack from then on.
///
/// # Errors
/// If the link's pin cannot be removed, or the program stays all the same.
pub fn take_off(pins: &Pins, interface: &str) -> Result<Detached, ProgramError> {
    let attached = netlink::link_state(interface)
        .ok()
        .and_then(|link| link.xdp)
        .map(|(_, id)| id);
    let mut found = Detached {
        link: pins.has_link(),
        ..Detached::default()
    };
    let ours = if found.link { unlink(pins)? } else { None };
    match (attached, ours) {
        (Some(attached), Some(ours)) if attached == ours => wait_gone(interface, ours)?,
        (Some(attached), _) => found.foreign = Some(attached),
        (None, _) => {}
    }
    Ok(found)
}

/// Removes the pinned link; returns the id of its program.
fn unlink(pins: &Pins) -> Result<Option<u32>, ProgramError> {
    let Ok(pinned) = PinnedLink::from_pin(pins.link()) else {
        // Not a link at all: still in the way of the next one.
        pins.remove_link()?;
        return Ok(None);
    };
    let link = FdLink::from(pinned);
    let program = link.info().ok().map(|info| info.program_id());
    pins.remove_link()?;
    drop(link);
    Ok(program)
}

fn wait_gone(interface: &str, program: u32) -> Result<(), ProgramError> {
    let deadline = Instant::now() + DETACH_PATIENCE;
    loop {
        match netlink::link_state(interface) {
            Ok(LinkState { xdp: Some((_, id)), .. }) if id == program => {}
            _ => return Ok(()),
        }
        if Instant::now() >= deadline {
            return Err(ProgramError::StillAttached {
                interface: interface.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
