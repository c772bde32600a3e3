//! The load lab's XDP programs: `generate` makes frames in the kernel's test run, `collect` checks those that come back,
//! `drop_all`, `reflect` and `spoil` stand in for an appliance.
//!
//! This file is the only one that names XDP actions. What a frame holds is the business of `tidegate-frames`.
#![no_std]
#![no_main]

mod collect;
mod generate;
mod hairpin;
mod media;
mod packet;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use tidegate_frames::Plan;
use tidegate_frames::mux::Datagram;
use tidegate_frames::plan::MAX_GROUP;

use crate::collect::Collected;
use crate::hairpin::Spoiled;

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static GROUP: Array<Datagram> = Array::with_max_entries(MAX_GROUP, 0);

/// What receiving costs at least.
#[xdp(frags)]
pub fn drop_all(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Sends IPv4 back with addresses swapped: the link's physical limit. Leaves ARP and the like to the kernel.
#[xdp(frags)]
pub fn reflect(ctx: XdpContext) -> u32 {
    match hairpin::turn_around(&ctx) {
        true => xdp_action::XDP_TX,
        false => xdp_action::XDP_PASS,
    }
}

/// As `reflect`, but every so many-th frame is damaged or dropped: proof that the collector's checks can fail.
#[xdp(frags)]
pub fn spoil(ctx: XdpContext) -> u32 {
    if !hairpin::turn_around(&ctx) {
        return xdp_action::XDP_PASS;
    }
    match hairpin::damage(&ctx) {
        Spoiled::Sent => xdp_action::XDP_TX,
        Spoiled::Dropped => xdp_action::XDP_DROP,
    }
}

/// Makes one frame if one is due. A frame that is dropped goes back to the test run's pool at once, so that waiting costs
/// nothing but this core's time.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    match generate::next(&ctx) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// Checks a frame and takes it; what is not GENEVE is the kernel's.
#[xdp(frags)]
pub fn collect(ctx: XdpContext) -> u32 {
    match collect::take(&ctx) {
        Collected::Taken => xdp_action::XDP_DROP,
        Collected::NotOurs => xdp_action::XDP_PASS,
    }
}

/// Nothing here panics: there is no indexing that is not constant, no arithmetic that is checked at run time, no `unwrap`.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence as the kernel reads it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
