//! What is wanted of an AF_XDP socket, what the machine gives instead, and why it may give nothing at all.
//!
//! Nothing falls back silently: everything that was asked for and is not there is a [`Fallback`] with the kernel's reason.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

/// How the socket moves bytes between the driver and the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy where the driver has it, else copy mode.
    #[default]
    Auto,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Copy mode, which every driver has, and which never bounces the link.
    Copy,
}

/// Busy polling: the worker drives the network device instead of waiting for interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one call may poll the device, in microseconds (`SO_BUSY_POLL`).
    pub micros: u32,
    /// Packets that one call may process (`SO_BUSY_POLL_BUDGET`).
    pub budget: u32,
}

/// What is wanted of one queue's socket.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Name of the interface, in the network namespace of the calling thread.
    pub interface: String,
    /// Queue of the interface, from 0.
    pub queue: u32,
    /// Copy or zero-copy.
    pub bind: BindMode,
    /// Bytes of one frame: 2048 or 4096. 256 of them are the XDP program's headroom.
    pub frame_size: u32,
    /// Frames of the UMEM; with huge pages rounded up to whole ones.
    pub frames: u32,
    /// Entries of each of the four rings; a power of two.
    pub ring_size: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
    /// Whether to receive and send packets of more than one frame (`XDP_USE_SG`). Without it the kernel drops jumbos.
    pub multi_buffer: bool,
    /// Busy polling, or interrupts.
    pub busy_poll: Option<BusyPoll>,
}

impl SocketConfig {
    /// A socket with the defaults: automatic bind mode, 16,384 frames of 4,096 bytes, rings of 8,192, multi-buffer.
    pub fn new(interface: impl Into<String>, queue: u32) -> Self {
        SocketConfig {
            interface: interface.into(),
            queue,
            bind: BindMode::Auto,
            frame_size: 4096,
            frames: 16_384,
            ring_size: 8_192,
            huge_pages: false,
            multi_buffer: true,
            busy_poll: None,
        }
    }

    pub(super) fn validate(&self) -> Result<(), OpenError> {
        if !matches!(self.frame_size, 2048 | 4096) {
            return Err(OpenError::Config {
                setting: "frame size",
                value: self.frame_size,
                allowed: "2048 or 4096",
            });
        }
        if !self.ring_size.is_power_of_two() || !(64..=65_536).contains(&self.ring_size) {
            let allowed = "a power of two from 64 to 65536";
            return Err(OpenError::Config {
                setting: "ring size",
                value: self.ring_size,
                allowed,
            });
        }
        if !(64..=1 << 20).contains(&self.frames) {
            return Err(OpenError::Config {
                setting: "frames",
                value: self.frames,
                allowed: "64 to 1048576",
            });
        }
        Ok(())
    }
}

/// Something that was asked for and that the machine may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Zero-copy between driver and UMEM.
    ZeroCopy,
    /// Huge pages under the UMEM.
    HugePages,
    /// Packets of more than one frame.
    MultiBuffer,
    /// More than 32 packets sent for one kick.
    TransmitBudget,
    /// A send buffer as large as the ring.
    SendBuffer,
    /// Busy polling.
    BusyPoll,
}

impl Feature {
    /// Name for metrics, in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            Feature::ZeroCopy => "zero-copy",
            Feature::HugePages => "huge-pages",
            Feature::MultiBuffer => "multi-buffer",
            Feature::TransmitBudget => "transmit-budget",
            Feature::SendBuffer => "send-buffer",
            Feature::BusyPoll => "busy-poll",
        }
    }
}

/// A feature that is done without, and the kernel's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// What is done without.
    pub feature: Feature,
    /// The kernel's error number.
    pub errno: i32,
}

impl Fallback {
    pub(super) fn new(feature: Feature, reason: &io::Error) -> Self {
        Fallback {
            feature,
            errno: reason.raw_os_error().unwrap_or(0),
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no {}: {}",
            self.feature.name(),
            io::Error::from_raw_os_error(self.errno)
        )
    }
}

/// What the socket really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Zero-copy is active (asked of the kernel, `XDP_OPTIONS`).
    pub zero_copy: bool,
    /// Packets of more than one frame arrive and can be sent.
    pub multi_buffer: bool,
    /// The UMEM lies in huge pages.
    pub huge_pages: bool,
    /// The kernel says when it has to be woken (`XDP_USE_NEED_WAKEUP`).
    pub need_wakeup: bool,
    /// Packets that one kick sends in copy mode.
    pub transmit_budget: u32,
    /// Frames of the UMEM.
    pub frames: u32,
    /// What was asked for and is not there.
    pub fallbacks: Vec<Fallback>,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its range.
    #[error("{setting} {value} is not possible: {allowed}")]
    Config {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        value: u32,
        /// What is possible.
        allowed: &'static str,
    },
    /// `ENODEV`: the namespace has no such interface.
    #[error("no interface {interface} in this network namespace")]
    NoInterface {
        /// Name that was looked for.
        interface: String,
    },
    /// `EINVAL`: the interface has fewer queues.
    #[error("{interface} has no queue {queue}: it has {queues}")]
    MissingQueue {
        /// The interface.
        interface: String,
        /// Queue that was asked for.
        queue: u32,
        /// Number of queues there are.
        queues: u32,
    },
    /// `EBUSY`: another socket is bound to the queue and did not go away.
    #[error("queue {queue} of {interface} is taken by another AF_XDP socket (waited {waited:?})")]
    QueueTaken {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long the queue was waited for.
        waited: Duration,
    },
    /// `EAFNOSUPPORT`: the kernel was built without `CONFIG_XDP_SOCKETS`.
    #[error("this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS)")]
    NoAfXdp,
    /// `EPERM`.
    #[error("AF_XDP sockets need root, or the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF")]
    Permission,
    /// `ENETDOWN`.
    #[error("{interface} is down")]
    LinkDown {
        /// The interface.
        interface: String,
    },
    /// Zero-copy was demanded and is not there.
    #[error("{interface} cannot do zero-copy")]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// The driver's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
