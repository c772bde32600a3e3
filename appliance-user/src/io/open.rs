//! Opening an AF_XDP socket: UMEM, binding with its fallbacks, and the options that make it faster.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, setrlimit};
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig as XskConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::config::{BindMode, Fallback, Feature, OpenError, Opened, SocketConfig};
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
    let _ = setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    );
    let (umem, descriptors, huge_pages) = create_umem(config, &mut fallbacks)?;
    let (rings, multi_buffer) = bind(config, &umem, patience, &mut fallbacks)?;
    let (tx, rx, fill, completion) = rings;
    let frames = descriptors.len() as u32;
    let bound = Bound {
        rx,
        tx,
        fill,
        completion,
        umem,
        descriptors,
    };
    let transmit_budget = tune(config, descriptor(&bound.rx), &mut fallbacks);
    let zero_copy = sockopt::xdp_options(descriptor(&bound.rx))
        .map_err(|e| OpenError::System {
            what: "read the options of the AF_XDP socket",
            source: e.into(),
        })?
        .contains(rustix::net::xdp::XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
    let opened = Opened {
        zero_copy,
        multi_buffer,
        huge_pages,
        need_wakeup: true,
        transmit_budget,
        frames,
        fallbacks,
    };
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
        e => OpenError::System {
            what: "create an AF_XDP socket",
            source: e.into(),
        },
    };
    rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).map_err(failed)?;
    match interface::query(interface) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Err(OpenError::NoInterface {
            interface: interface.to_owned(),
        }),
        Err(source) => Err(OpenError::System {
            what: "ask for the interface",
            source,
        }),
        Ok(_) => Ok(()),
    }
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
    let (umem, descriptors) = Umem::new(umem_config, frames, false).map_err(|e| OpenError::System {
        what: "create the UMEM",
        source: cause(&e),
    })?;
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
    OpenError::Config {
        setting: "frame size",
        value: config.frame_size,
        allowed: "2048 or 4096",
    }
}

/// The operating system's error inside one of xsk-rs.
fn cause(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let errno = error
        .source()
        .and_then(|e| e.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error);
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
    flags |= if zero_copy {
        BindFlags::XDP_ZEROCOPY
    } else {
        BindFlags::XDP_COPY
    };
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
        libc::EBUSY => OpenError::QueueTaken {
            interface,
            queue: config.queue,
            waited: started.elapsed(),
        },
        libc::ENETDOWN => OpenError::LinkDown { interface },
        libc::EPERM => OpenError::Permission,
        libc::ENODEV => OpenError::NoInterface { interface },
        libc::EINVAL if queue_missing(config) => {
            let queues = interface::query(&interface).map_or(0, |facts| facts.rx_queues);
            OpenError::MissingQueue {
                interface,
                queue: config.queue,
                queues,
            }
        }
        libc::EOPNOTSUPP if config.bind == BindMode::ZeroCopy => OpenError::NoZeroCopy { interface, source },
        _ => OpenError::System {
            what: "bind the AF_XDP socket",
            source,
        },
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
    let buffer = (config.ring_size as usize)
        .saturating_mul(config.frame_size as usize + 1024)
        .min(1 << 30);
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
