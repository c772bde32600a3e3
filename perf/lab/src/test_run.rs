//! The kernel's test run of an XDP program (`BPF_PROG_TEST_RUN`): packets without a network.

use std::io;
use std::os::fd::BorrowedFd;

use crate::bpf::{self, TestRun};

/// `BPF_F_TEST_XDP_LIVE_FRAMES`: frames go where the program sends them.
const LIVE_FRAMES: u32 = 2;
/// What a program may put before a packet, the kernel's headroom.
const HEADROOM: usize = 256;

/// What a program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The XDP action.
    pub action: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// Nanoseconds of one run, the mean of all repeats.
    pub nanoseconds: u32,
}

/// Shows a program a packet whose linear part is its first `linear` bytes, `repeat` times.
///
/// # Errors
/// The kernel's: EINVAL for a packet or a linear part shorter than an Ethernet header.
pub fn show(program: BorrowedFd<'_>, packet: &[u8], linear: usize, repeat: u32) -> io::Result<Run> {
    let mut output = vec![0; packet.len() + HEADROOM];
    let wanted = TestRun {
        packet,
        linear,
        interface: 0,
        repeat,
        flags: 0,
        batch: 0,
    };
    let answer = bpf::test_run(program, &wanted, &mut output)?;
    output.truncate(answer.length);
    Ok(Run {
        action: answer.action,
        packet: output,
        nanoseconds: answer.nanoseconds,
    })
}

/// Runs a program `repeat` times over pages that begin as `template`, as if they came from the interface; what it sends back
/// leaves there.
///
/// # Errors
/// The kernel's: EINTR after a signal; EINVAL before Linux 5.18 or where the interface has no XDP program attached.
pub fn live_frames(
    program: BorrowedFd<'_>,
    template: &[u8],
    interface: u32,
    repeat: u32,
    batch: u32,
) -> io::Result<()> {
    let wanted = TestRun {
        packet: template,
        linear: template.len(),
        interface,
        repeat,
        flags: LIVE_FRAMES,
        batch,
    };
    bpf::test_run(program, &wanted, &mut []).map(drop)
}
