//! Stand-ins for an appliance on the other end of the link: what the bench can do at best, and what must be noticed.

use tidegate_frames::maps::{DROPPED, Damage, name};

use crate::error::Result;
use crate::object::{Programs, fill};

/// What is done with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerProgram {
    /// XDP_DROP, whatever it is.
    Drop,
    /// XDP_TX with outer MAC and IPv4 addresses swapped; what is not IPv4 goes to the kernel.
    Reflect,
    /// As `Reflect`, but of every so many-th frame the lowest bit of one byte is turned.
    Spoil {
        /// At least 1.
        every: u32,
        /// Bytes from the frame's start.
        offset: u32,
    },
    /// As `Reflect`, but every so many-th frame is dropped.
    Lose {
        /// At least 1.
        every: u32,
    },
}

/// A program on an interface; detached when dropped.
#[derive(Debug)]
pub struct Peer {
    _programs: Programs,
}

impl Peer {
    /// Attaches a program in native mode to an interface of the caller's network namespace. On veth, XDP_TX needs an XDP program
    /// on the other end too, such as the collector's.
    ///
    /// # Errors
    /// [`crate::Error`]: no XDP programs, another program on the interface.
    pub fn attach(interface: &str, program: PeerProgram) -> Result<Peer> {
        let mut programs = Programs::load()?;
        let (name, damage) = match program {
            PeerProgram::Drop => (name::DROP, None),
            PeerProgram::Reflect => (name::REFLECT, None),
            PeerProgram::Spoil { every, offset } => (name::SPOIL, Some((every, offset))),
            PeerProgram::Lose { every } => (name::SPOIL, Some((every, DROPPED))),
        };
        // Held until the program is loaded, which then holds it.
        let mut map = programs.array(name::DAMAGE)?;
        if let Some((every, offset)) = damage {
            let damage = Damage {
                every,
                offset,
                ..Damage::default()
            };
            fill(&mut map, &[damage])?;
        }
        programs.attach(name, interface)?;
        Ok(Peer { _programs: programs })
    }
}
