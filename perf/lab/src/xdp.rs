//! XDP programs of a few instructions, written out and loaded without a compiler.
//!
//! A test or a yardstick sometimes needs a program that does one thing: pass or drop everything, or redirect it into an
//! AF_XDP socket. These are its instructions; [`Program::load`] takes them.

use std::os::fd::{AsFd, AsRawFd};

pub use crate::bpf::{Link, Program, SocketMap};

/// `XDP_DROP`: the packet ends here.
pub const DROP: i32 = 1;
/// `XDP_PASS`: the kernel's network stack gets it.
pub const PASS: i32 = 2;

const BPF_FUNC_REDIRECT_MAP: i32 = 51;
const BPF_PSEUDO_MAP_FD: u8 = 1;
/// Where `struct xdp_md` has the receive queue's number.
const RX_QUEUE_INDEX: i16 = 16;

/// Opcodes of eBPF (linux/bpf.h, RFC 9669).
pub mod opcode {
    /// Loads a byte from a register's address and an offset.
    pub const LOAD_U8: u8 = 0x71;
    /// Loads two bytes.
    pub const LOAD_U16: u8 = 0x69;
    /// Loads four bytes.
    pub const LOAD_U32: u8 = 0x61;
    /// Sets a register to 64 bits, of which the next instruction's place holds the upper half.
    pub const LOAD_U64_IMMEDIATE: u8 = 0x18;
    /// Copies a register.
    pub const MOVE: u8 = 0xbf;
    /// Sets a register.
    pub const MOVE_IMMEDIATE: u8 = 0xb7;
    /// Adds to a register.
    pub const ADD_IMMEDIATE: u8 = 0x07;
    /// Jumps if one register is greater than another, unsigned.
    pub const JUMP_GREATER: u8 = 0x2d;
    /// Jumps unless a register has a value.
    pub const JUMP_NOT_EQUAL_IMMEDIATE: u8 = 0x55;
    /// Calls one of the kernel's helpers.
    pub const CALL: u8 = 0x85;
    /// Returns register 0.
    pub const EXIT: u8 = 0x95;
}

/// One instruction (`struct bpf_insn`, little-endian): opcode, destination and source register, offset, immediate.
pub fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(opcode)
        | u64::from(from << 4 | to) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// Returns this XDP action: a whole program, or the end of one.
pub fn returning(action: i32) -> [u64; 2] {
    [
        instruction(opcode::MOVE_IMMEDIATE, 0, 0, 0, action),
        instruction(opcode::EXIT, 0, 0, 0, 0),
    ]
}

/// Redirects the packet into the socket of its receive queue; what finds no socket there goes to the kernel. A whole
/// program, or the end of one in which r1 is still the context.
pub fn redirecting(map: &SocketMap) -> [u64; 6] {
    [
        instruction(opcode::LOAD_U32, 2, 1, RX_QUEUE_INDEX, 0),
        instruction(
            opcode::LOAD_U64_IMMEDIATE,
            1,
            BPF_PSEUDO_MAP_FD,
            0,
            map.as_fd().as_raw_fd(),
        ),
        // The second half of the 64-bit immediate.
        0,
        instruction(opcode::MOVE_IMMEDIATE, 3, 0, 0, PASS),
        instruction(opcode::CALL, 0, 0, 0, BPF_FUNC_REDIRECT_MAP),
        instruction(opcode::EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        // `r0 = 2; exit`, as `llvm-objdump` shows it: b7 00 00 00 02 00 00 00, 95 00 00 00 00 00 00 00.
        assert_eq!(returning(PASS), [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095]);
        // `if r4 != -1 goto -2`.
        let jump = instruction(opcode::JUMP_NOT_EQUAL_IMMEDIATE, 4, 0, -2, -1);
        assert_eq!(jump.to_le_bytes(), [0x55, 0x04, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
        // `r2 = *(u32 *)(r1 + 16)`.
        let load = instruction(opcode::LOAD_U32, 2, 1, 16, 0);
        assert_eq!(load.to_le_bytes(), [0x61, 0x12, 16, 0, 0, 0, 0, 0]);
    }
}
