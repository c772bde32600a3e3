//! `bpf(2)` by hand: a program of a few instructions, a map of AF_XDP sockets, a link, the kernel's test run.
//!
//! What the lab loads is too small to want a compiler and an object file, and loaders have no test run. The `unsafe` of this
//! crate lives here: everything above it is safe.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_MAP_TYPE_XSKMAP`.
const XSKMAP: u32 = 17;
/// `BPF_PROG_TYPE_XDP`.
const PROGRAM_XDP: u32 = 6;
/// `BPF_XDP`, where a program is attached.
const ATTACH_XDP: u32 = 37;
/// `BPF_F_XDP_HAS_FRAGS`: the program may see packets of several buffers; without it the kernel refuses it on links with a
/// jumbo MTU.
const HAS_FRAGS: u32 = 1 << 5;
/// `XDP_FLAGS_DRV_MODE`: in the driver, or not at all.
const DRIVER_MODE: u32 = 1 << 2;
const LICENSE: &std::ffi::CStr = c"GPL";

/// The first fields of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `union bpf_attr` for BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD, up to the last one that is used.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The first fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct ProgTestRun {
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
    _padding: u32,
}

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

/// A map from receive queues to AF_XDP sockets (`BPF_MAP_TYPE_XSKMAP`).
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// An empty map for the receive queues from 0 to below `queues`.
    ///
    /// # Errors
    /// The kernel's: no root (EPERM), no queue (EINVAL).
    pub fn new(queues: u32) -> io::Result<SocketMap> {
        let mut create = MapCreate {
            map_type: XSKMAP,
            key_size: size_of::<u32>() as u32,
            value_size: size_of::<u32>() as u32,
            max_entries: queues,
        };
        // SAFETY: holds because `create` is the command's attribute and holds no pointers.
        unsafe { created(MAP_CREATE, &mut create) }.map(SocketMap)
    }

    /// Enters the socket for a queue.
    ///
    /// # Errors
    /// The kernel's: no such queue in the map (E2BIG), not an AF_XDP socket (EOPNOTSUPP).
    pub fn enter(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = number(socket);
        let mut update = MapUpdate {
            map_fd: number(self.as_fd()),
            _padding: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: holds because `update` is the command's attribute and points to a key and a value of four bytes each, as
        // the map was made for, which live across the call and are only read.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut update) }.map(drop)
    }
}

impl AsFd for SocketMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An XDP program in the kernel.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program from its instructions, eight bytes each (`struct bpf_insn`).
    ///
    /// # Errors
    /// The kernel's: no root (EPERM), the verifier refuses it (EINVAL, EACCES).
    pub fn load(instructions: &[u64]) -> io::Result<Program> {
        let mut load = ProgLoad {
            prog_type: PROGRAM_XDP,
            insn_cnt: length(instructions.len())?,
            insns: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            prog_flags: HAS_FRAGS,
            expected_attach_type: ATTACH_XDP,
            ..ProgLoad::default()
        };
        // SAFETY: holds because `load` is the command's attribute and points to as many instructions as it says and to a
        // NUL-terminated licence, which live across the call and are only read.
        unsafe { created(PROG_LOAD, &mut load) }.map(Program)
    }

    /// Attaches the program in native mode to the interface of this index in the caller's network namespace.
    ///
    /// # Errors
    /// The kernel's: no such interface (ENODEV), another program is there (EBUSY), fewer receive queues than the peer has
    /// transmit queues (ENOSPC), no driver support (EOPNOTSUPP).
    pub fn attach(&self, interface: u32) -> io::Result<Link> {
        let mut create = LinkCreate {
            prog_fd: number(self.as_fd()),
            target_ifindex: interface,
            attach_type: ATTACH_XDP,
            flags: DRIVER_MODE,
        };
        // SAFETY: holds because `create` is the command's attribute and holds no pointers.
        unsafe { created(LINK_CREATE, &mut create) }.map(Link)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A program on an interface. The kernel detaches it when this, the link's only descriptor, is dropped.
#[derive(Debug)]
pub struct Link(#[expect(dead_code, reason = "it is kept for what its end does")] OwnedFd);

/// What a test run is asked for.
pub(crate) struct TestRun<'a> {
    /// The packet, from its Ethernet header on.
    pub(crate) packet: &'a [u8],
    /// So many of its bytes are in the first buffer, which alone a program sees without asking.
    pub(crate) linear: usize,
    /// Index of the interface that the packet seems to come from; 0: none that exists.
    pub(crate) interface: u32,
    /// Runs in this one call.
    pub(crate) repeat: u32,
    /// `BPF_F_TEST_…`.
    pub(crate) flags: u32,
    /// Runs in a batch, with live frames alone.
    pub(crate) batch: u32,
}

/// What a test run answers.
pub(crate) struct Answer {
    /// The last run's XDP action.
    pub(crate) action: u32,
    /// Bytes of the packet afterwards.
    pub(crate) length: usize,
    /// Nanoseconds of one run, the mean of all.
    pub(crate) nanoseconds: u32,
}

/// Runs a program over a packet and writes what has become of it to `output`; nowhere, if that is empty.
pub(crate) fn test_run(program: BorrowedFd<'_>, wanted: &TestRun<'_>, output: &mut [u8]) -> io::Result<Answer> {
    let context = XdpMd {
        data_end: length(wanted.linear)?,
        ingress_ifindex: wanted.interface,
        ..XdpMd::default()
    };
    let mut attributes = ProgTestRun {
        prog_fd: number(program),
        data_size_in: length(wanted.packet.len())?,
        data_size_out: length(output.len())?,
        data_in: wanted.packet.as_ptr() as u64,
        // A size of 0 bounds nothing for the kernel, so there must be no place either.
        data_out: if output.is_empty() {
            0
        } else {
            output.as_mut_ptr() as u64
        },
        repeat: wanted.repeat,
        ctx_size_in: size_of::<XdpMd>() as u32,
        ctx_in: (&raw const context) as u64,
        flags: wanted.flags,
        batch_size: wanted.batch,
        ..ProgTestRun::default()
    };
    // SAFETY: holds because `attributes` is the command's attribute and every pointer in it is to memory that outlives the call,
    // with its right size beside it; the kernel writes to `output` and `attributes` only, which are exclusively borrowed.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    Ok(Answer {
        action: attributes.retval,
        length: attributes.data_size_out as usize,
        nanoseconds: attributes.duration,
    })
}

/// A descriptor as attributes hold it.
fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// A length as attributes hold it.
fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// `bpf(2)` for a command that makes a descriptor.
///
/// # Safety
/// As [`bpf`], and the command must be one that returns a new descriptor.
unsafe fn created<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let descriptor = unsafe { bpf(command, attribute) }?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `bpf(2)`.
///
/// # Safety
/// `attribute` must be laid out as the command's part of `union bpf_attr`, with every pointer in it valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes no more than `size_of::<T>()` bytes at `attribute`, which are all there; what they
    // mean is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
