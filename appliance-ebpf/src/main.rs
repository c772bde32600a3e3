//! The XDP program: admits, steers, and returns traffic when no worker is alive.
//!
//! The order of decisions is fixed. (1) Not for us passes, malformed is dropped. (2) The whitelist; a miss takes the
//! policy's default action. (3) Only then the clock and the worker's heartbeat. (4) Fresh: into the worker's socket; else the
//! failure action. A packet is changed only when it is about to be returned.
//!
//! This file is the only one that names XDP actions. Each ending is counted once, here.
#![no_std]
#![no_main]

mod admit;
mod bypass;
mod counters;
mod cursor;
mod spans;
mod steer;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use tidegate_common::drop_reason::DropReason;
use tidegate_common::maps::{Counter, DefaultAction, FailureAction};

use crate::admit::Admission;
use crate::counters::Counting;

/// The entry point. `frags`: packets of several buffers are welcome (jumbo frames).
#[xdp(frags)]
pub fn tidegate(ctx: XdpContext) -> u32 {
    let Some(mut counting) = Counting::begin() else {
        return xdp_action::XDP_PASS;
    };
    let Some(settings) = steer::settings() else {
        counting.add(Counter::Passed);
        return xdp_action::XDP_PASS;
    };
    match admit::admit(&ctx, &settings, &mut counting) {
        Admission::NotForUs => {
            counting.add(Counter::Passed);
            xdp_action::XDP_PASS
        }
        Admission::Malformed { counter } => {
            counting.increment(counter);
            xdp_action::XDP_DROP
        }
        Admission::Miss { ipv4 } => by_default(&ctx, settings.default_action(), ipv4, &mut counting),
        Admission::Admitted { ipv4, admit } => {
            if steer::to_worker(&ctx, &settings, &mut counting) {
                counting.add(Counter::Redirected);
                return xdp_action::XDP_REDIRECT;
            }
            on_failure_of(&ctx, settings.on_failure(admit), ipv4, &mut counting)
        }
    }
}

#[inline(always)]
fn by_default(ctx: &XdpContext, action: DefaultAction, ipv4: usize, counting: &mut Counting) -> u32 {
    match action {
        DefaultAction::Return => returned(ctx, ipv4, Counter::Returned, counting),
        DefaultAction::Drop => {
            counting.drop(DropReason::SourceNotListed);
            xdp_action::XDP_DROP
        }
    }
}

#[inline(always)]
fn on_failure_of(ctx: &XdpContext, action: FailureAction, ipv4: usize, counting: &mut Counting) -> u32 {
    match action {
        FailureAction::Return => returned(ctx, ipv4, Counter::BypassReturned, counting),
        FailureAction::Drop => {
            counting.drop(DropReason::WorkerDead);
            xdp_action::XDP_DROP
        }
        FailureAction::Pass => {
            counting.add(Counter::BypassPassed);
            xdp_action::XDP_PASS
        }
    }
}

/// Sends the packet back. The headers were read before, so turning it around cannot fail but for a driver's fault; half a
/// header is then not sent to anyone.
#[inline(always)]
fn returned(ctx: &XdpContext, ipv4: usize, counter: Counter, counting: &mut Counting) -> u32 {
    if bypass::turn_around(ctx, ipv4) {
        counting.add(counter);
        xdp_action::XDP_TX
    } else {
        counting.drop(DropReason::Truncated);
        xdp_action::XDP_DROP
    }
}

/// Nothing here panics: there is no indexing, no arithmetic that is checked at run time, no `unwrap`.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence as the kernel reads it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
