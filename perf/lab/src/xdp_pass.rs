//! A two-instruction XDP program that passes every packet, attached through a `bpf_link`.
//!
//! veth drops frames that a program on one end sends with XDP_TX or AF_XDP unless the other end carries a program too; this
//! is that program. It is loaded with raw `bpf(2)` so that the lab needs no loader and no compiler. The `unsafe` of this
//! crate lives here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};
use crate::namespace::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// The program may see multi-buffer packets; without it the kernel refuses it on links with jumbo MTU.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, as eBPF instructions of 8 bytes (opcode, registers, offset, immediate; little-endian).
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &std::ffi::CStr = c"GPL";

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

/// The passing program on one interface; detached when dropped.
#[derive(Debug)]
pub struct XdpPass {
    /// The kernel detaches the program when the link's last descriptor is closed.
    _link: OwnedFd,
}

impl XdpPass {
    /// Attaches the program in native mode.
    ///
    /// # Errors
    /// [`Error::Io`]: no such interface (ENODEV), another program is there (EBUSY), fewer receive queues than the peer
    /// has transmit queues (ENOSPC).
    pub fn attach(namespace: &Namespace, interface: &str) -> Result<XdpPass> {
        let link = namespace.run_in(|| attach(interface))?;
        let what = format!(
            "attaching the passing XDP program to {interface} in {}",
            namespace.name()
        );
        link.map(|link| XdpPass { _link: link })
            .map_err(|source| Error::io(what, source))
    }
}

/// Loads and attaches in the calling thread's network namespace.
fn attach(interface: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: `name` is a NUL-terminated string that lives through the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let load = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_flags: BPF_F_XDP_HAS_FRAGS,
        expected_attach_type: BPF_XDP,
        ..ProgLoad::default()
    };
    // SAFETY: `load` is laid out as the kernel's attribute for this command and names two statics, an array of as many
    // instructions as it says and a NUL-terminated licence; the kernel only reads them.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    let create = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: `create` is laid out as the kernel's attribute for this command and holds no pointers; the program's
    // descriptor is open.
    unsafe { bpf(BPF_LINK_CREATE, &create) }
}

/// `bpf(2)` for a command that returns a new descriptor.
///
/// # Safety
/// `attribute` must be laid out as the command's part of `union bpf_attr`, with every pointer in it valid for what the
/// command does with it, and the command must be one that returns a descriptor.
unsafe fn bpf<T>(command: libc::c_int, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `attribute`, which are all there; what they mean is the
    // caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
