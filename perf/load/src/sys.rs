//! The system underneath: the kernel's test run, signals to one thread, values of BPF maps. The `unsafe` of this crate.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::Pid;
use tidegate_frames::Plan;
use tidegate_frames::layout::TS_WORDS;
use tidegate_frames::maps::{Control, Damage, Progress, Tally};
use tidegate_frames::mux::Datagram;
use tidegate_frames::sequence::Sequence;

/// `BPF_PROG_TEST_RUN`.
const TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`: frames go where the program sends them.
const LIVE_FRAMES: u32 = 2;

/// A value of a BPF map.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Value<T>(pub(crate) T);

// SAFETY: for each of these: `repr(C)` or an array, made of integers of which any bits are a value, and without padding, so that
// all bytes may be read by the kernel and written by it.
unsafe impl aya::Pod for Value<Plan> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Datagram> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Control> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Progress> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Sequence> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Tally> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Damage> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<[u64; TS_WORDS]> {}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// The `test` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs the program `repeat` times over pages that begin as `template`, as if they came from the interface; what it sends back
/// leaves there.
///
/// # Errors
/// The kernel's: EINTR after a signal; EINVAL before Linux 5.18 or where the interface has no XDP program attached.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    template: &[u8],
    interface: u32,
    repeat: u32,
    batch: u32,
) -> io::Result<()> {
    let length = u32::try_from(template.len()).map_err(io::Error::other)?;
    let context = XdpMd {
        data_end: length,
        ingress_ifindex: interface,
        ..XdpMd::default()
    };
    let mut attributes = Attributes {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        data_size_in: length,
        data_in: template.as_ptr() as u64,
        repeat,
        ctx_size_in: size_of::<XdpMd>() as u32,
        ctx_in: (&raw const context) as u64,
        flags: LIVE_FRAMES,
        batch_size: batch,
        ..Attributes::default()
    };
    // SAFETY: the attributes are those of this command; the pointers in them are to memory that outlives the call, with its right
    // size beside it, which the kernel only reads; it writes into `attributes`, which is exclusively borrowed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, TEST_RUN, &raw mut attributes, size_of::<Attributes>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to one thread of this process; one that has ended meanwhile is none.
pub(crate) fn signal_thread(thread: Pid, signal: libc::c_int) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: three numbers; the signal has a handler, which the caller has installed.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}
