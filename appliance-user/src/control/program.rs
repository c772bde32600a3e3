//! The XDP program's life: load it with its pinned maps, fill them, attach it or replace the one that is attached, and
//! take it off again.
//!
//! Once pinned, the pin alone owns the link: no process keeps a descriptor of it, so that a killed process changes nothing
//! and removing the pin detaches the program, whoever does it.

use std::io;
use std::os::fd::BorrowedFd;

use aya::maps::{Map, MapError, XskMap};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError as AyaProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use thiserror::Error;

use super::netlink::{self, LinkState, XdpAttachment};
use super::object;
use super::pins::{Pins, PinsError};
use super::tables::Tables;
use crate::io::heartbeat::Heartbeats;
use tidegate_common::maps;

/// Where the program is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpChoice {
    /// In the driver, else in the network stack.
    Auto,
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

/// What may go wrong with the program.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// This binary was built without the XDP program.
    #[error("{}", object::MISSING)]
    NoObject,
    /// Loading failed for want of privileges.
    #[error(
        "the kernel refuses to load BPF programs: {0}; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Permission(String),
    /// Loading failed.
    #[error("cannot load the XDP program: {0}")]
    Load(String),
    /// A map that the program should have is not there or of another type.
    #[error("the XDP program has no map {0} of the kind expected: program and binary are of different versions")]
    Map(&'static str),
    /// A map could not be written or read.
    #[error("map {map}: {source}")]
    Access {
        /// Which one.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// A map could not be mapped into memory.
    #[error("cannot map {map} into memory: {source}")]
    Mmap {
        /// Which one.
        map: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The interface could not be asked.
    #[error("cannot ask the kernel about {interface}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else's program sits there.
    #[error(
        "another XDP program (id {id}) is attached to {interface} and is not pinned under {pins}; remove it first: ip link set \
         dev {interface} xdp off"
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The program's id.
        id: u32,
        /// Where Tidegate's would be pinned.
        pins: String,
    },
    /// The pinned program runs elsewhere than asked for.
    #[error(
        "the program on {interface} is attached in {is} mode and cannot change to {wanted} while attached; detach it first: \
         tidegate detach --interface {interface}"
    )]
    OtherMode {
        /// The interface.
        interface: String,
        /// Its mode.
        is: &'static str,
        /// The mode asked for.
        wanted: &'static str,
    },
    /// The kernel refused to attach.
    #[error("cannot attach the XDP program to {interface} in {mode} mode: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode tried.
        mode: &'static str,
        /// The kernel's answer, and what to do about it.
        reason: String,
    },
    /// The program did not go away.
    #[error("the program on {interface} is still attached: another process holds its link; stop that process")]
    StillAttached {
        /// The interface.
        interface: String,
    },
}

/// Called now and then, fetches the program's log entries and hands them to the process' own log.
pub type ProgramLog = Box<dyn FnMut() + Send>;

/// A program loaded into the kernel with its maps, not attached by this process yet.
pub struct Loaded {
    ebpf: Ebpf,
    pins: Pins,
    interface: String,
    /// The maps were made by this process, not found pinned.
    fresh_maps: bool,
}

/// How the program was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: XdpAttachment,
    /// Its kernel-wide id.
    pub program: u32,
    /// The index of the interface.
    pub interface: u32,
    /// It replaced the pinned program of an earlier process.
    pub replaced: bool,
    /// Why it does not run in the driver, where that was tried first.
    pub fallback: Option<String>,
}

impl XdpAttachment {
    /// `native`, `generic` or `other`.
    pub const fn name(self) -> &'static str {
        match self {
            XdpAttachment::Native => "native",
            XdpAttachment::Generic => "generic",
            XdpAttachment::Other => "other",
        }
    }
}

impl Loaded {
    /// Loads the program. Maps of this layout that are pinned already are used as they are; nothing is written to them.
    ///
    /// # Errors
    /// Whatever keeps the program from being loaded.
    pub fn load(pins: Pins, interface: &str) -> Result<Self, ProgramError> {
        let object = object::OBJECT.ok_or(ProgramError::NoObject)?;
        let directory = pins.maps(maps::LAYOUT_HASH);
        let fresh_maps = !directory.exists();
        pins.prepare(maps::LAYOUT_HASH)?;
        let ebpf = load_object(object, &directory);
        let mut loaded = match ebpf {
            Ok(ebpf) => Loaded {
                ebpf,
                pins,
                interface: interface.to_owned(),
                fresh_maps,
            },
            Err(error) => {
                if fresh_maps {
                    let _ = pins.remove_layout(maps::LAYOUT_HASH);
                }
                return Err(error);
            }
        };
        if let Err(error) = loaded.program().and_then(|program| program.load().map_err(load_error)) {
            loaded.undo();
            return Err(error);
        }
        Ok(loaded)
    }

    fn program(&mut self) -> Result<&mut Xdp, ProgramError> {
        let program = self
            .ebpf
            .program_mut(maps::PROGRAM)
            .ok_or(ProgramError::Map(maps::PROGRAM))?;
        program.try_into().map_err(|_| ProgramError::Map(maps::PROGRAM))
    }

    /// The heartbeats, mapped.
    ///
    /// # Errors
    /// [`ProgramError::Mmap`].
    pub fn heartbeats(&self) -> Result<Heartbeats, ProgramError> {
        let Some(Map::Array(data)) = self.ebpf.map(maps::name::HEARTBEATS) else {
            return Err(ProgramError::Map(maps::name::HEARTBEATS));
        };
        Heartbeats::map(data.fd(), maps::MAX_QUEUES).map_err(|source| ProgramError::Mmap {
            map: maps::name::HEARTBEATS,
            source,
        })
    }

    /// The program's own log of rare events; `None` for a program that keeps none. Its entries wait in the kernel until they
    /// are fetched, and those that do not fit are lost.
    pub fn log(&mut self) -> Option<ProgramLog> {
        match EbpfLogger::init(&mut self.ebpf) {
            Ok(mut log) => Some(Box::new(move || log.flush())),
            Err(error) => {
                tracing::debug!(%error, "the program keeps no log");
                None
            }
        }
    }

    /// The tables that control fills and reads. They live on without this value.
    ///
    /// # Errors
    /// [`ProgramError::Map`] if program and binary do not fit.
    pub fn tables(&mut self) -> Result<Tables, ProgramError> {
        Tables::take(&mut self.ebpf)
    }

    /// Enters a queue's socket. The slot empties itself when the socket is closed.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), ProgramError> {
        let map = self
            .ebpf
            .map_mut(maps::name::SOCKETS)
            .ok_or(ProgramError::Map(maps::name::SOCKETS))?;
        let mut sockets = XskMap::try_from(map).map_err(|_| ProgramError::Map(maps::name::SOCKETS))?;
        sockets.set(queue, socket, 0).map_err(|source| ProgramError::Access {
            map: maps::name::SOCKETS,
            source,
        })
    }

    /// Attaches the program: atomically in place of a pinned one, else anew. Afterwards maps of other layouts are gone.
    ///
    /// # Errors
    /// Whatever keeps the program from being attached; a pinned program of an earlier process then stays as it was.
    pub fn attach(&mut self, choice: XdpChoice) -> Result<Attached, ProgramError> {
        let link = state(&self.interface)?;
        let replaced = match self.existing_link(&link, choice)? {
            Some(pinned) => self.replace(pinned)?,
            None => false,
        };
        let fallback = if replaced {
            None
        } else {
            self.attach_new(&link, choice)?
        };
        let (mode, program, index) = match self.confirm() {
            Ok(confirmed) => confirmed,
            Err(error) => {
                if !replaced {
                    self.pins.remove_link()?;
                }
                return Err(error);
            }
        };
        if let Err(error) = self.pins.remove_other_layouts(maps::LAYOUT_HASH) {
            tracing::warn!(%error, "maps of another version stay pinned");
        }
        Ok(Attached {
            mode,
            program,
            interface: index,
            replaced,
            fallback,
        })
    }

    /// Asks the kernel whether this very program sits on the interface: where, its id, the interface's index.
    fn confirm(&mut self) -> Result<(XdpAttachment, u32, u32), ProgramError> {
        let id = self.program()?.info().map_err(load_error)?.id();
        let link = state(&self.interface)?;
        match link.xdp {
            Some((mode, attached)) if attached == id => Ok((mode, id, link.index)),
            _ => Err(self.refused("the chosen", "the kernel does not show it on the interface".to_owned())),
        }
    }

    /// The pinned link of an earlier process, if there is one and it can be used as it is.
    fn existing_link(&self, link: &LinkState, choice: XdpChoice) -> Result<Option<PinnedLink>, ProgramError> {
        if !self.pins.has_link() {
            return match link.xdp {
                Some((_, id)) => Err(self.foreign(id)),
                None => Ok(None),
            };
        }
        let pinned = PinnedLink::from_pin(self.pins.link()).map_err(|error| self.link_error(&error))?;
        let wanted = match choice {
            XdpChoice::Auto => return Ok(Some(pinned)),
            XdpChoice::Native => XdpAttachment::Native,
            XdpChoice::Generic => XdpAttachment::Generic,
        };
        match link.xdp {
            Some((is, _)) if is != wanted => Err(ProgramError::OtherMode {
                interface: self.interface.clone(),
                is: is.name(),
                wanted: wanted.name(),
            }),
            _ => Ok(Some(pinned)),
        }
    }

    /// Puts this program in place of the link's; false if the link is dead, which is then removed.
    fn replace(&mut self, pinned: PinnedLink) -> Result<bool, ProgramError> {
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| self.link_error(&error))?;
        let program = self.program()?;
        match program.attach_to_link(link) {
            Ok(id) => {
                // Only the pin is to own the link.
                drop(program.take_link(id));
                Ok(true)
            }
            // The interface that it was attached to is gone.
            Err(AyaProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
                tracing::warn!("the pinned link belongs to an interface that is gone; attaching anew");
                self.pins.remove_link()?;
                Ok(false)
            }
            Err(error) => Err(self.refused("its present", chain(&error))),
        }
    }

    /// Attaches where nothing is; returns why not in the driver, if it was tried in vain.
    fn attach_new(&mut self, link: &LinkState, choice: XdpChoice) -> Result<Option<String>, ProgramError> {
        let native = match choice {
            XdpChoice::Generic => return self.attach_in(link, XdpMode::Skb).map(|()| None),
            XdpChoice::Native => return self.attach_in(link, XdpMode::Driver).map(|()| None),
            XdpChoice::Auto => self.attach_in(link, XdpMode::Driver),
        };
        match native {
            Ok(()) => Ok(None),
            Err(refusal @ ProgramError::Attach { .. }) => {
                self.attach_in(link, XdpMode::Skb)?;
                Ok(Some(refusal.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn attach_in(&mut self, link: &LinkState, mode: XdpMode) -> Result<(), ProgramError> {
        let name = if mode == XdpMode::Driver { "native" } else { "generic" };
        let path = self.pins.link();
        let program = self.program()?;
        let id = match program.attach_to_if_index(link.index, mode) {
            Ok(id) => id,
            Err(error) => return Err(self.refused(name, attach_advice(&error, link.mtu))),
        };
        let link = program.take_link(id).map_err(load_error)?;
        let link = FdLink::try_from(link).map_err(|error| self.link_error(&error))?;
        // Without a link of its own the program could not be pinned, and nothing would hold when the process dies.
        let pinned = link
            .pin(path)
            .map_err(|error| self.refused(name, format!("cannot pin the link: {error}")))?;
        drop(pinned);
        Ok(())
    }

    /// Takes back what loading made, when this process did not get as far as attaching.
    pub fn undo(self) {
        let Loaded {
            ebpf, pins, fresh_maps, ..
        } = self;
        drop(ebpf);
        if fresh_maps && let Err(error) = pins.remove_layout(maps::LAYOUT_HASH) {
            tracing::warn!(%error, "pinned maps stay behind");
        }
    }

    fn foreign(&self, id: u32) -> ProgramError {
        let pins = self.pins.directory().display().to_string();
        ProgramError::Foreign {
            interface: self.interface.clone(),
            id,
            pins,
        }
    }

    fn refused(&self, mode: &'static str, reason: String) -> ProgramError {
        ProgramError::Attach {
            interface: self.interface.clone(),
            mode,
            reason,
        }
    }

    fn link_error(&self, error: &LinkError) -> ProgramError {
        self.refused(
            "its present",
            format!("the pinned link cannot be used: {}", chain(error)),
        )
    }
}

fn load_object(object: &[u8], directory: &std::path::Path) -> Result<Ebpf, ProgramError> {
    let mut loader = EbpfLoader::new();
    for map in &maps::MAPS {
        loader.map_pin_path(map.name, directory.join(map.name));
    }
    loader.load(object).map_err(|error| {
        let text = chain(&error);
        if is_permission(&error) {
            ProgramError::Permission(text)
        } else {
            ProgramError::Load(text)
        }
    })
}

fn load_error(error: AyaProgramError) -> ProgramError {
    let text = chain(&error);
    if is_permission(&error) {
        ProgramError::Permission(text)
    } else {
        ProgramError::Load(text)
    }
}

/// Whether somewhere below there is an `EPERM`.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// An error with everything below it, for one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What the kernel's refusal to attach means.
fn attach_advice(error: &AyaProgramError, mtu: u32) -> String {
    let errno = match error {
        AyaProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match errno {
        Some(libc::ERANGE) => {
            format!("the driver cannot carry the interface's MTU of {mtu} with XDP; lower it: ip link set dev IF mtu N")
        }
        Some(libc::ENOSPC) => {
            "too few receive queues for the peer's or the driver's transmit queues; see ethtool -L".to_owned()
        }
        Some(libc::EOPNOTSUPP) => "the driver has no XDP".to_owned(),
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program is attached".to_owned(),
        Some(libc::EPERM) => "not permitted; run as root, or with CAP_NET_ADMIN".to_owned(),
        _ => chain(error),
    }
}

fn state(interface: &str) -> Result<LinkState, ProgramError> {
    netlink::link_state(interface).map_err(|source| ProgramError::Interface {
        interface: interface.to_owned(),
        source,
    })
}

impl From<EbpfError> for ProgramError {
    fn from(error: EbpfError) -> Self {
        ProgramError::Load(chain(&error))
    }
}
