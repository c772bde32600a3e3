//! The smallest XDP program that steers GENEVE into an AF_XDP socket, with its map, loaded by plain `bpf(2)`.
//!
//! IPv4 without options, UDP, destination port 6081: `bpf_redirect_map` into the XSKMAP at the receive queue's number.
//! Everything else, and everything that finds no socket there, goes to the kernel. This file has `unsafe`: the system
//! calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// The program may see packets of several buffers; without it the kernel refuses it on links with a jumbo MTU.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_PASS: i32 = 2;
const BPF_FUNC_REDIRECT_MAP: i32 = 51;
const BPF_PSEUDO_MAP_FD: u8 = 1;

/// Receive queues of an interface that there may be.
const QUEUES: u32 = 256;
const LICENSE: &std::ffi::CStr = c"GPL";

// Instructions of eBPF that the program has (linux/bpf.h, RFC 9669).
const LOAD_U8: u8 = 0x71;
const LOAD_U16: u8 = 0x69;
const LOAD_U32: u8 = 0x61;
const LOAD_U64_IMMEDIATE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_NOT_EQUAL_IMMEDIATE: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// One instruction (`struct bpf_insn`, little-endian): opcode, source and destination register, offset, immediate.
fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(opcode)
        | u64::from(from << 4 | to) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// The program: r1 is the context (`struct xdp_md`), r3 the packet, r2 its end.
fn program(map: &OwnedFd) -> [u64; 21] {
    let unless = |value: i32, offset| instruction(JUMP_NOT_EQUAL_IMMEDIATE, 4, 0, offset, value);
    let ethertype = i32::from(0x0800_u16.to_be());
    let port = i32::from(6081_u16.to_be());
    [
        instruction(LOAD_U32, 2, 1, 4, 0),
        instruction(LOAD_U32, 3, 1, 0, 0),
        instruction(MOVE, 4, 3, 0, 0),
        instruction(ADD_IMMEDIATE, 4, 0, 0, 42),
        instruction(JUMP_GREATER, 4, 2, 14, 0),
        instruction(LOAD_U16, 4, 3, 12, 0),
        unless(ethertype, 12),
        instruction(LOAD_U8, 4, 3, 14, 0),
        unless(0x45, 10),
        instruction(LOAD_U8, 4, 3, 23, 0),
        unless(libc::IPPROTO_UDP, 8),
        instruction(LOAD_U16, 4, 3, 36, 0),
        unless(port, 6),
        instruction(LOAD_U32, 2, 1, 16, 0),
        instruction(LOAD_U64_IMMEDIATE, 1, BPF_PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        // The second half of the 64-bit immediate.
        0,
        instruction(MOVE_IMMEDIATE, 3, 0, 0, XDP_PASS),
        instruction(CALL, 0, 0, 0, BPF_FUNC_REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(MOVE_IMMEDIATE, 0, 0, 0, XDP_PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

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

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
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

/// The program on an interface; the kernel detaches it when this is dropped.
#[derive(Debug)]
pub(crate) struct Steering {
    _link: OwnedFd,
    _map: OwnedFd,
}

impl Steering {
    /// Attaches the program in native mode and enters the socket for its queue.
    ///
    /// # Errors
    /// The kernel's: no such interface (ENODEV), another program is there (EBUSY), no driver support (EOPNOTSUPP).
    pub(crate) fn attach(interface: &str, queue: u32, socket: BorrowedFd<'_>) -> io::Result<Steering> {
        // AF_XDP sockets know no interface ioctls.
        let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        let index = rustix::net::netdevice::name_to_index(any, interface)?;
        let map = create_map()?;
        let value = socket.as_raw_fd().cast_unsigned();
        let update = MapUpdate {
            map_fd: map.as_raw_fd().cast_unsigned(),
            _padding: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: holds because `update` is the command's attribute and points to a key and a value of four bytes each, as
        // the map was made for, which live across the call.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &update) }?;
        let program = load(&map)?;
        let create = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: index,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        // SAFETY: holds because `create` is the command's attribute and holds no pointers.
        let link = owned(unsafe { bpf(BPF_LINK_CREATE, &create) }?);
        Ok(Steering { _link: link, _map: map })
    }
}

fn create_map() -> io::Result<OwnedFd> {
    let create = MapCreate {
        map_type: BPF_MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: QUEUES,
    };
    // SAFETY: holds because `create` is the command's attribute and holds no pointers.
    Ok(owned(unsafe { bpf(BPF_MAP_CREATE, &create) }?))
}

fn load(map: &OwnedFd) -> io::Result<OwnedFd> {
    let instructions = program(map);
    let load = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_flags: BPF_F_XDP_HAS_FRAGS,
        expected_attach_type: BPF_XDP,
        ..ProgLoad::default()
    };
    // SAFETY: holds because `load` is the command's attribute and points to as many instructions as it says and to a
    // NUL-terminated licence, which live across the call.
    Ok(owned(unsafe { bpf(BPF_PROG_LOAD, &load) }?))
}

/// The descriptor that a command has just made.
fn owned(descriptor: libc::c_int) -> OwnedFd {
    // SAFETY: holds because only results of commands that make a descriptor come here, and nobody else knows them.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// `bpf(2)`.
///
/// # Safety
/// `attribute` must be laid out as the command's part of `union bpf_attr`, with every pointer in it valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_int, attribute: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `attribute`, which are all there; what they mean is the caller's
    // promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
