//! Opening an AF_XDP socket: what is wanted, what the machine gives instead, and why it gives nothing at all.
//!
//! Nothing falls back silently: everything that was asked for and is not there is a [`Fallback`] with the kernel's reason.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, setrlimit};
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig as XskConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::interface;
use super::sys;

/// `XDP_MAX_TX_SKB_BUDGET` (linux/if_xdp.h): packets that copy mode sends for one kick; 32 unless raised.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
const TX_BUDGET: u32 = 256;

/// asm-generic/socket.h.
const SO_BUSY_POLL: i32 = 46;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;

const HUGE_PAGE: u32 = 2 << 20;
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

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

    fn validate(&self) -> Result<(), OpenError> {
        if !matches!(self.frame_size, 2048 | 4096) {
            return Err(OpenError::Config { setting: "frame size", value: self.frame_size, allowed: "2048 or 4096" });
        }
        if !self.ring_size.is_power_of_two() || !(64..=65_536).contains(&self.ring_size) {
            let allowed = "a power of two from 64 to 65536";
            return Err(OpenError::Config { setting: "ring size", value: self.ring_size, allowed });
        }
        if !(64..=1 << 20).contains(&self.frames) {
            return Err(OpenError::Config { setting: "frames", value: self.frames, allowed: "64 to 1048576" });
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
    fn new(feature: Feature, reason: &io::Error) -> Self {
        Fallback { feature, errno: reason.raw_os_error().unwrap_or(0) }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}", self.feature.name(), io::Error::from_raw_os_error(self.errno))
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

/// The rings of a bound socket, its UMEM and its frames.
pub(super) struct Bound {
    pub(super) rx: RxQueue,
    pub(super) tx: TxQueue,
    pub(super) fill: FillQueue,
    pub(super) completion: CompQueue,
    pub(super) umem: Umem,
    pub(super) descriptors: Vec<FrameDesc>,
}

/// Creates UMEM and socket and binds them, waiting up to `patience` for a queue that is taken.
pub(super) fn open(config: &SocketConfig, patience: Duration) -> Result<(Bound, Opened), OpenError> {
    config.validate()?;
    probe(&config.interface)?;
    let mut fallbacks = Vec::new();
    // Needed only without CAP_IPC_LOCK and on kernels before 5.11, and refused without CAP_SYS_RESOURCE: worth no error.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let (umem, descriptors, huge_pages) = create_umem(config, &mut fallbacks)?;
    let (rings, multi_buffer) = bind(config, &umem, patience, &mut fallbacks)?;
    let (tx, rx, fill, completion) = rings;
    let frames = descriptors.len() as u32;
    let bound = Bound { rx, tx, fill, completion, umem, descriptors };
    let transmit_budget = tune(config, descriptor(&bound.rx), &mut fallbacks);
    let zero_copy = sockopt::xdp_options(descriptor(&bound.rx))
        .map_err(|e| OpenError::System { what: "read the options of the AF_XDP socket", source: e.into() })?
        .contains(rustix::net::xdp::XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
    let opened =
        Opened { zero_copy, multi_buffer, huge_pages, need_wakeup: true, transmit_budget, frames, fallbacks };
    Ok((bound, opened))
}

/// The socket behind a ring.
pub(super) fn descriptor(rx: &RxQueue) -> BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: holds because the queue keeps the socket, and with it the descriptor, open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(rx.fd().as_raw_fd()) }
}

/// Finds out what would make any attempt useless, to name it plainly.
fn probe(interface: &str) -> Result<(), OpenError> {
    let failed = |e: rustix::io::Errno| match e {
        rustix::io::Errno::AFNOSUPPORT => OpenError::NoAfXdp,
        rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => OpenError::Permission,
        e => OpenError::System { what: "create an AF_XDP socket", source: e.into() },
    };
    let socket = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(failed)?;
    let missing = || OpenError::NoInterface { interface: interface.to_owned() };
    if sys::request(interface).is_none() {
        return Err(missing());
    }
    rustix::net::netdevice::name_to_index(socket, interface).map_err(|_| missing())?;
    Ok(())
}

fn create_umem(
    config: &SocketConfig,
    fallbacks: &mut Vec<Fallback>,
) -> Result<(Umem, Vec<FrameDesc>, bool), OpenError> {
    let queue_size = ring(config)?;
    let frame_size = FrameSize::new(config.frame_size).map_err(|_| frame_size_error(config))?;
    let umem_config = UmemConfig::builder()
        .frame_size(frame_size)
        .fill_queue_size(queue_size)
        .comp_queue_size(queue_size)
        .build()
        .map_err(|_| frame_size_error(config))?;
    if config.huge_pages {
        // A mapping of huge pages must be unmapped in whole ones.
        let frames = config.frames.next_multiple_of(HUGE_PAGE / config.frame_size);
        match Umem::new(umem_config, NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN), true) {
            Ok((umem, descriptors)) => return Ok((umem, descriptors, true)),
            Err(e) => fallbacks.push(Fallback::new(Feature::HugePages, &cause(&e))),
        }
    }
    let frames = NonZeroU32::new(config.frames).unwrap_or(NonZeroU32::MIN);
    let (umem, descriptors) = Umem::new(umem_config, frames, false)
        .map_err(|e| OpenError::System { what: "create the UMEM", source: cause(&e) })?;
    Ok((umem, descriptors, false))
}

fn ring(config: &SocketConfig) -> Result<QueueSize, OpenError> {
    let allowed = "a power of two";
    QueueSize::new(config.ring_size).map_err(|_| OpenError::Config {
        setting: "ring size",
        value: config.ring_size,
        allowed,
    })
}

fn frame_size_error(config: &SocketConfig) -> OpenError {
    OpenError::Config { setting: "frame size", value: config.frame_size, allowed: "2048 or 4096" }
}

/// The operating system's error inside one of xsk-rs.
fn cause(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let errno = error.source().and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    errno.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

type Rings = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds, giving up one wish at a time, and tells whether multi-buffer is on.
fn bind(
    config: &SocketConfig,
    umem: &Umem,
    patience: Duration,
    fallbacks: &mut Vec<Fallback>,
) -> Result<(Rings, bool), OpenError> {
    let started = Instant::now();
    let mut zero_copy = config.bind != BindMode::Copy;
    let mut multi_buffer = config.multi_buffer;
    // Bounded: every turn but those that wait gives up a wish for good, and there are two.
    loop {
        let error = match try_bind(config, umem, zero_copy, multi_buffer) {
            Ok(rings) => return Ok((rings, multi_buffer)),
            Err(error) => error,
        };
        match error.raw_os_error().unwrap_or(0) {
            libc::EBUSY if started.elapsed() < patience => {
                std::thread::sleep(RETRY_INTERVAL);
                continue;
            }
            libc::EINVAL if multi_buffer && !queue_missing(config) => {
                // A kernel before 6.6 does not know the flag. Zero-copy without it is no gain for jumbos: start over.
                multi_buffer = false;
                fallbacks.push(Fallback::new(Feature::MultiBuffer, &error));
            }
            libc::EBUSY | libc::ENETDOWN | libc::EPERM | libc::ENODEV => return Err(refused(config, error, started)),
            libc::EINVAL if queue_missing(config) => return Err(refused(config, error, started)),
            _ if zero_copy && config.bind == BindMode::Auto => {
                zero_copy = false;
                fallbacks.push(Fallback::new(Feature::ZeroCopy, &error));
            }
            _ => return Err(refused(config, error, started)),
        }
    }
}

fn try_bind(config: &SocketConfig, umem: &Umem, zero_copy: bool, multi_buffer: bool) -> Result<Rings, io::Error> {
    let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
    flags |= if zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    if multi_buffer {
        flags |= BindFlags::XDP_USE_SG;
    }
    let size = ring(config).map_err(io::Error::other)?;
    let socket_config = XskConfig::builder()
        .rx_queue_size(size)
        .tx_queue_size(size)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build();
    let interface: Interface = config.interface.parse().map_err(io::Error::other)?;
    // SAFETY: holds because the contract concerns a UMEM with several sockets on one queue: this UMEM was made for this
    // socket, its binding happens once (a failed attempt leaves nothing bound), and no program is loaded by libxdp.
    let created = unsafe { xsk_rs::Socket::new(socket_config, umem, &interface, config.queue) };
    let (tx, rx, others) = created.map_err(|e| cause(&e))?;
    let (fill, completion) = others.ok_or_else(|| io::Error::other("the UMEM is already in use"))?;
    Ok((tx, rx, fill, completion))
}

/// Queues the kernel would bind to: it takes the larger number of receive and transmit queues.
fn queue_missing(config: &SocketConfig) -> bool {
    interface::query(&config.interface).is_ok_and(|facts| config.queue >= facts.rx_queues.max(facts.tx_queues))
}

fn refused(config: &SocketConfig, source: io::Error, started: Instant) -> OpenError {
    let interface = config.interface.clone();
    match source.raw_os_error().unwrap_or(0) {
        libc::EBUSY => OpenError::QueueTaken { interface, queue: config.queue, waited: started.elapsed() },
        libc::ENETDOWN => OpenError::LinkDown { interface },
        libc::EPERM => OpenError::Permission,
        libc::ENODEV => OpenError::NoInterface { interface },
        libc::EINVAL if queue_missing(config) => {
            let queues = interface::query(&interface).map_or(0, |facts| facts.rx_queues);
            OpenError::MissingQueue { interface, queue: config.queue, queues }
        }
        libc::EOPNOTSUPP if config.bind == BindMode::ZeroCopy => OpenError::NoZeroCopy { interface, source },
        _ => OpenError::System { what: "bind the AF_XDP socket", source },
    }
}

/// Sets what makes the socket faster, and returns the packets that one kick sends.
fn tune(config: &SocketConfig, socket: BorrowedFd<'_>, fallbacks: &mut Vec<Fallback>) -> u32 {
    let mut note = |feature, result: io::Result<()>| {
        let reason = result.err();
        fallbacks.extend(reason.map(|e| Fallback::new(feature, &e)));
    };
    let wanted = TX_BUDGET.min(config.ring_size);
    let raised = sys::set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, wanted as i32);
    let budget = if raised.is_ok() { wanted } else { 32 };
    note(Feature::TransmitBudget, raised);
    // Copy mode charges every packet in flight to the socket's send buffer, whose default holds about 90 of them.
    let buffer = (config.ring_size as usize).saturating_mul(config.frame_size as usize + 1024).min(1 << 30);
    let grown = sockopt::set_socket_send_buffer_size_force(socket, buffer).map_err(io::Error::from);
    note(Feature::SendBuffer, grown);
    if let Some(busy_poll) = config.busy_poll {
        let value = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let set = sys::set_option(socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)
            .and_then(|()| sys::set_option(socket, libc::SOL_SOCKET, SO_BUSY_POLL, value(busy_poll.micros)))
            .and_then(|()| sys::set_option(socket, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, value(busy_poll.budget)));
        note(Feature::BusyPoll, set);
    }
    budget
}
