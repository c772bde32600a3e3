//! Looking a source up in the spans of the policy slot in force: first the screen, then, where that is open, the search.
//!
//! Two slots let user space fill one while the other is in force. Nothing writes to a slot that a packet may be reading.

use core::net::IpAddr;

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use tidegate_common::maps::{Admit, Family, MAX_SPANS, SLOTS, Screen, Span4, Span6, spans_begin};

#[map]
static SCREENS: Array<Screen> = Array::with_max_entries(Screen::ENTRIES, 0);
#[map]
static SPANS_V4: Array<Span4> = Array::with_max_entries(SLOTS as u32 * MAX_SPANS, 0);
#[map]
static SPANS_V6: Array<Span6> = Array::with_max_entries(SLOTS as u32 * MAX_SPANS, 0);

/// What the policy slot says of a source; `None` for one that no rule lists.
#[inline(always)]
pub fn listed(source: IpAddr, slot: usize) -> Option<Admit> {
    let answer = match source {
        IpAddr::V4(address) => {
            let address = address.to_bits();
            let spans = screened(slot, Family::V4, (address >> 16) as u16)?;
            find_v4(spans_begin(slot), spans, address)
        }
        IpAddr::V6(address) => {
            let address = address.to_bits();
            let (high, low) = ((address >> 64) as u64, address as u64);
            let spans = screened(slot, Family::V6, (high >> 48) as u16)?;
            find_v6(spans_begin(slot), spans, high, low)
        }
    };
    Admit::from_answer(answer)
}

/// How many spans there are to search for an address that begins so; `None` if none of those is listed.
#[inline(always)]
fn screened(slot: usize, family: Family, start: u16) -> Option<u32> {
    let screen = SCREENS.get(Screen::index(slot, family))?;
    let word = screen.bits.get(usize::from(start >> 6))?;
    if word >> (start & 63) & 1 == 0 {
        return None;
    }
    Some(screen.spans)
}

/// The answer of the last of `spans` spans from `first` on that does not begin after the address. A function of its own, so
/// that its code is there once. The way of each step is computed and not branched on: no processor could guess it.
#[inline(never)]
fn find_v4(first: u32, spans: u32, address: u32) -> u32 {
    let (mut at, mut left) = (first, spans);
    for _ in 0..Screen::SEARCH_STEPS {
        if left <= 1 {
            break;
        }
        let half = left >> 1;
        let Some(span) = SPANS_V4.get(at.wrapping_add(half)) else {
            return 0;
        };
        let begun = (u64::from(span.start).wrapping_sub(u64::from(address) + 1) >> 63) as u32;
        at = at.wrapping_add(half & begun.wrapping_neg());
        left = left.wrapping_sub(half);
    }
    match SPANS_V4.get(at) {
        Some(span) => span.answer,
        None => 0,
    }
}

/// [`find_v4`] for an address of two halves.
#[inline(never)]
fn find_v6(first: u32, spans: u32, high: u64, low: u64) -> u32 {
    let (mut at, mut left) = (first, spans);
    for _ in 0..Screen::SEARCH_STEPS {
        if left <= 1 {
            break;
        }
        let half = left >> 1;
        let Some(span) = SPANS_V6.get(at.wrapping_add(half)) else {
            return 0;
        };
        if span.high < high || span.high == high && span.low <= low {
            at = at.wrapping_add(half);
        }
        left = left.wrapping_sub(half);
    }
    match SPANS_V6.get(at) {
        Some(span) => span.answer,
        None => 0,
    }
}
