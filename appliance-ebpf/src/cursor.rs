//! All access to packet bytes: direct pointers, and the load helper for what lies outside the linear part.
//!
//! This file has the packet-pointer `unsafe`; the verifier proves the same bounds again.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
use tidegate_common::cursor::Cursor;

/// No header that the kernel's limits allow begins later: Ethernet 18, IPv4 60, UDP 8, GENEVE 260, IPv6 40, four extension
/// headers of up to 2,048, an ICMP error 8. The verifier wants a bound that it can see.
const MAX_OFFSET: usize = 0x3fff;

/// The linear part of a packet through direct pointers.
pub struct XdpCursor<'a> {
    ctx: &'a XdpContext,
    data: usize,
    end: usize,
}

impl<'a> XdpCursor<'a> {
    /// A cursor over the packet's linear part.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        XdpCursor {
            ctx,
            data: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Where `N` bytes at `offset` lie, if they are in the linear part.
    #[inline(always)]
    fn locate<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.data + offset;
        if at + N > self.end {
            return None;
        }
        Some(at as *mut [u8; N])
    }

    /// Overwrites bytes of the linear part. Returns whether they are in it.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> bool {
        let Some(place) = self.locate::<N>(offset) else {
            return false;
        };
        // SAFETY: holds because `locate` proved that the N bytes lie between the packet's data and data_end, which belong to this
        // program until it returns; byte arrays need no alignment.
        unsafe { *place = bytes };
        true
    }

    /// Whether the packet goes on behind the linear part.
    #[inline(always)]
    pub fn is_partial(&self) -> bool {
        length(self.ctx) > self.end - self.data
    }
}

impl Cursor for XdpCursor<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let place = self.locate::<N>(offset)?;
        // SAFETY: holds because `locate` proved that the N bytes lie between the packet's data and data_end.
        Some(unsafe { *place })
    }

    /// Asks for the whole length only where the linear part is not enough: a helper call less for nearly every packet.
    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        end <= self.end - self.data || end <= length(self.ctx)
    }

    #[inline(always)]
    fn settle(&self, offset: usize) -> usize {
        blur(offset)
    }
}

/// The whole packet through the kernel's copying helpers, eight times slower: for headers outside the linear part.
pub struct ColdCursor<'a> {
    ctx: &'a XdpContext,
}

impl<'a> ColdCursor<'a> {
    /// A cursor over all buffers of the packet.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        ColdCursor { ctx }
    }

    /// Overwrites bytes anywhere in the packet. Returns whether they are in it.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, mut bytes: [u8; N]) -> bool {
        if offset > MAX_OFFSET {
            return false;
        }
        // SAFETY: holds because the context is this call's own and the buffer is N initialised bytes on the stack; the helper
        // checks the packet's bounds itself.
        let result = unsafe { bpf_xdp_store_bytes(self.ctx.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32) };
        result == 0
    }
}

impl Cursor for ColdCursor<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: holds because the context is this call's own and the buffer is N bytes on the stack; the helper checks the
        // packet's bounds itself and fails without them.
        let result = unsafe { bpf_xdp_load_bytes(self.ctx.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32) };
        if result != 0 {
            return None;
        }
        // SAFETY: holds because the helper has filled all N bytes when it returns 0.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        end <= length(self.ctx)
    }

    #[inline(always)]
    fn settle(&self, offset: usize) -> usize {
        blur(offset)
    }
}

/// A half-word on the stack that is written byte by byte and read at once: the verifier follows what is read as it was
/// written, and calls anything else unknown.
#[repr(align(2))]
struct Blur([u8; 2]);

/// The same offset as a number of which the verifier knows no more than that it has 16 bits.
#[inline(always)]
fn blur(offset: usize) -> usize {
    if offset > MAX_OFFSET {
        return usize::MAX;
    }
    let [low, high] = (offset as u16).to_ne_bytes();
    let mut blur = Blur([0; 2]);
    let place = &raw mut blur.0;
    // SAFETY: holds because the pointers are to the two bytes of a local value that is aligned for a half-word.
    let offset = unsafe {
        place.cast::<u8>().write_volatile(low);
        place.cast::<u8>().add(1).write_volatile(high);
        place.cast::<u16>().read_volatile()
    };
    usize::from(offset)
}

/// Bytes of the packet in all its buffers.
#[inline(always)]
fn length(ctx: &XdpContext) -> usize {
    // SAFETY: holds because the context is this call's own.
    unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) as usize }
}
