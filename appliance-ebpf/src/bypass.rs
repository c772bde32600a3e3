//! Life without a worker: turning packets around in place, and telling once when a queue goes dark.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use tidegate_common::cursor::Cursor;
use tidegate_common::hairpin;
use tidegate_common::maps::{Counter, Heartbeat};

use crate::counters::Counting;
use crate::cursor::{ColdCursor, XdpCursor};

/// Sends a packet's addresses the other way. Returns whether both headers were there.
#[inline(always)]
pub fn turn_around(ctx: &XdpContext, ipv4: usize) -> bool {
    let packet = XdpCursor::new(ctx);
    let tail_at = ipv4 + hairpin::IPV4_AT;
    // The later header first: where it is in the linear part, the other is too, and nothing is written by halves.
    let Some(tail) = packet.read(tail_at) else {
        return turn_around_cold(ctx.ctx, tail_at);
    };
    let Some(macs) = packet.read(0) else { return false };
    packet.write(tail_at, hairpin::ipv4(tail)) && packet.write(0, hairpin::macs(macs))
}

#[inline(never)]
fn turn_around_cold(ctx: *mut xdp_md, tail_at: usize) -> bool {
    let ctx = XdpContext::new(ctx);
    let packet = ColdCursor::new(&ctx);
    let Some(tail) = packet.read(tail_at) else { return false };
    let Some(macs) = packet.read(0) else { return false };
    packet.write(tail_at, hairpin::ipv4(tail)) && packet.write(0, hairpin::macs(macs))
}

/// Notes that the queue is dark and, when it was not before, counts and logs that: once a transition, never a packet. A
/// queue is served by one CPU at a time, so nobody else is writing.
#[inline(always)]
pub fn enter(ctx: &XdpContext, line: *mut Heartbeat, fresh: bool, counting: &mut Counting) {
    // SAFETY: holds because the caller's pointer comes from a lookup of the map of such lines, whose last word only this
    // program writes.
    let dark = unsafe { &mut (*line).dark };
    if *dark != 0 {
        return;
    }
    *dark = 1;
    counting.add(Counter::BypassEntered);
    tell(ctx.ctx, fresh);
}

/// A function of its own: writing a log record takes many instructions, which the verifier then follows once.
#[inline(never)]
fn tell(ctx: *mut xdp_md, fresh: bool) {
    let ctx = &XdpContext::new(ctx);
    let queue = ctx.rx_queue_index();
    let cause = if fresh {
        "it beats but has no socket here"
    } else {
        "its heartbeat is too old"
    };
    warn!(
        ctx,
        "queue {} is without its worker and takes the failure action: {}", queue, cause
    );
}

/// Notes that the queue has a worker again.
#[inline(always)]
pub fn leave(line: *mut Heartbeat, counting: &mut Counting) {
    // SAFETY: holds for the same reason as in `enter`.
    let dark = unsafe { &mut (*line).dark };
    if *dark != 0 {
        *dark = 0;
        counting.add(Counter::BypassLeft);
    }
}
