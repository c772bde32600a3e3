//! The smallest XDP program that steers GENEVE into an AF_XDP socket, with its map.
//!
//! IPv4 without options, UDP, destination port 6081: `bpf_redirect_map` into the XSKMAP at the receive queue's number.
//! Everything else, and everything that finds no socket there, goes to the kernel.

use std::io;
use std::os::fd::BorrowedFd;

use tidegate_lab::interface_index;
use tidegate_lab::xdp::opcode::{
    ADD_IMMEDIATE, JUMP_GREATER, JUMP_NOT_EQUAL_IMMEDIATE, LOAD_U8, LOAD_U16, LOAD_U32, MOVE,
};
use tidegate_lab::xdp::{Link, PASS, Program, SocketMap, instruction, redirecting, returning};

/// Receive queues of an interface that there may be.
const QUEUES: u32 = 256;

/// The program: r1 is the context (`struct xdp_md`), r3 the packet, r2 its end.
fn program(map: &SocketMap) -> Vec<u64> {
    let unless = |value: i32, offset| instruction(JUMP_NOT_EQUAL_IMMEDIATE, 4, 0, offset, value);
    let ethertype = i32::from(0x0800_u16.to_be());
    let port = i32::from(6081_u16.to_be());
    // The jumps lead behind the redirect.
    let is_geneve = [
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
    ];
    [is_geneve.as_slice(), &redirecting(map), &returning(PASS)].concat()
}

/// The program on an interface; the kernel detaches it when this is dropped.
#[derive(Debug)]
pub(crate) struct Steering {
    _link: Link,
    _map: SocketMap,
}

impl Steering {
    /// Attaches the program in native mode and enters the socket for its queue.
    ///
    /// # Errors
    /// The kernel's: no such interface (ENODEV), another program is there (EBUSY), no driver support (EOPNOTSUPP).
    pub(crate) fn attach(interface: &str, queue: u32, socket: BorrowedFd<'_>) -> io::Result<Steering> {
        let index = interface_index(interface)?;
        let map = SocketMap::new(QUEUES)?;
        map.enter(queue, socket)?;
        let link = Program::load(&program(&map))?.attach(index)?;
        Ok(Steering { _link: link, _map: map })
    }
}
