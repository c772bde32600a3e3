//! The system underneath: the kernel's test run, signals to one thread, values of BPF maps. The `unsafe` of this crate.
#![allow(unsafe_code)]

use rustix::thread::Pid;
use tidegate_frames::Plan;
use tidegate_frames::layout::TS_WORDS;
use tidegate_frames::maps::{Control, Damage, Progress, Tally};
use tidegate_frames::mux::Datagram;
use tidegate_frames::sequence::Sequence;
pub(crate) use tidegate_lab::test_run::live_frames as test_run;

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

/// Sends a signal to one thread of this process; one that has ended meanwhile is none.
pub(crate) fn signal_thread(thread: Pid, signal: libc::c_int) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: three numbers; the signal has a handler, which the caller has installed.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}
