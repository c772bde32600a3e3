//! All access to packet bytes and to map values: half-words through direct pointers, whole pieces through the kernel's
//! copying helpers, which need no alignment and take words from the stack.
//!
//! This file has the pointer `unsafe`; the verifier proves the same bounds again.

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::EbpfContext;
use aya_ebpf::programs::XdpContext;

/// One packet.
pub struct Packet<'a> {
    ctx: &'a XdpContext,
    data: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    /// The packet of this call.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Packet {
            ctx,
            data: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Bytes of the packet in all its buffers.
    #[inline(always)]
    pub fn len(&self) -> usize {
        // SAFETY: holds because the context is this call's own.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize }
    }

    /// A big-endian half-word at a constant, even offset of the linear part.
    #[inline(always)]
    pub fn get16(&self, offset: usize) -> Option<u16> {
        let at = self.data + offset;
        if at + 2 > self.end {
            return None;
        }
        // SAFETY: holds because the two bytes lie between the packet's data and data_end; drivers put a packet's first byte at an
        // even address, and offsets are even.
        Some(unsafe { (at as *const u16).read() }.swap_bytes())
    }

    /// Overwrites a half-word at a constant, even offset. Returns whether it is in the linear part.
    #[inline(always)]
    pub fn put16(&self, offset: usize, value: u16) -> bool {
        let at = self.data + offset;
        if at + 2 > self.end {
            return false;
        }
        // SAFETY: holds because the two bytes lie between the packet's data and data_end, which belong to this program until it
        // returns; the address is even, as for `get16`.
        unsafe { (at as *mut u16).write(value.swap_bytes()) };
        true
    }

    /// Turns the lowest bit of a byte anywhere in the packet. Returns whether there is one.
    #[inline(always)]
    pub fn turn_bit(&self, offset: u32) -> bool {
        let mut byte = [0u8; 1];
        self.load(offset as usize, &mut byte, 1) && {
            byte[0] ^= 1;
            self.store(offset as usize, &byte, 1)
        }
    }

    /// Copies the first `length` bytes of `piece` into the packet. Returns whether it reaches that far.
    #[inline(always)]
    pub fn store<T>(&self, offset: usize, piece: &T, length: usize) -> bool {
        if length > size_of::<T>() {
            return false;
        }
        let from = (&raw const *piece).cast_mut().cast();
        // SAFETY: holds because the helper reads `length` bytes at `piece`, which are there, and checks the packet's bounds itself.
        unsafe { bpf_xdp_store_bytes(self.ctx.ctx, offset as u32, from, length as u32) == 0 }
    }

    /// Copies `length` bytes of the packet to the start of `piece`. Returns whether it reaches that far. `T` is made of plain
    /// numbers.
    #[inline(always)]
    pub fn load<T: Copy>(&self, offset: usize, piece: &mut T, length: usize) -> bool {
        if length > size_of::<T>() {
            return false;
        }
        let to = (&raw mut *piece).cast();
        // SAFETY: holds because the helper writes `length` bytes at `piece`, which are there and may hold any bits, being numbers,
        // and checks the packet's bounds itself.
        unsafe { bpf_xdp_load_bytes(self.ctx.ctx, offset as u32, to, length as u32) == 0 }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: holds because the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}

/// A map's value for this program alone.
#[inline(always)]
pub fn exclusive<'a, T>(value: Option<*mut T>) -> Option<&'a mut T> {
    // SAFETY: holds because every value here is looked up once in a call, comes from a map of values of this type, made of plain
    // numbers and aligned to 8, and lives as long as the program. What other CPUs or user space write meanwhile are single
    // words that no decision for memory depends on.
    value.map(|value| unsafe { &mut *value })
}

/// A map's value that nobody writes while the program runs, but for single words.
#[inline(always)]
pub fn shared<'a, T>(value: Option<*const T>) -> Option<&'a T> {
    // SAFETY: holds for the reasons of `exclusive`.
    value.map(|value| unsafe { &*value })
}
