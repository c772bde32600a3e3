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
    let first = u64::from(spans_begin(slot));
    let answer = match source {
        IpAddr::V4(address) => {
            let address = address.to_bits();
            let spans = screened(slot, Family::V4, (address >> 16) as u16)?;
            find_v4(first, spans, u64::from(address))
        }
        IpAddr::V6(address) => {
            let address = address.to_bits();
            let (high, low) = ((address >> 64) as u64, address as u64);
            let spans = screened(slot, Family::V6, (high >> 48) as u16)?;
            find_v6(first, spans, high, low)
        }
    };
    Admit::from_answer(answer as u32)
}

/// How many spans there are to search for an address that begins so; `None` if none of those is listed.
#[inline(always)]
fn screened(slot: usize, family: Family, start: u16) -> Option<u64> {
    let screen = SCREENS.get(Screen::index(slot, family))?;
    let word = screen.bits.get(usize::from(start >> 6))?;
    if word >> (start & 63) & 1 == 0 {
        return None;
    }
    Some(u64::from(screen.spans))
}

/// The answer of the last of `spans` spans from `first` on that does not begin after the address.
///
/// A global function (hence the name as it stands, which no other has): the verifier follows it once, for whatever numbers, and not again at every place that calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_v4(first: u64, spans: u64, address: u64) -> u64 {
    let (mut at, mut left) = (first, spans);
    for _ in 0..u64::from(Screen::SEARCH_STEPS) {
        if left <= 1 {
            break;
        }
        let half = left >> 1;
        let Some(span) = SPANS_V4.get(at.wrapping_add(half) as u32) else {
            return 0;
        };
        if u64::from(span.start) <= address {
            at = at.wrapping_add(half);
        }
        left = left.wrapping_sub(half);
    }
    match SPANS_V4.get(at as u32) {
        Some(span) => u64::from(span.answer),
        None => 0,
    }
}

/// [`find_v4`] for an address of two halves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_v6(first: u64, spans: u64, high: u64, low: u64) -> u64 {
    let (mut at, mut left) = (first, spans);
    for _ in 0..u64::from(Screen::SEARCH_STEPS) {
        if left <= 1 {
            break;
        }
        let half = left >> 1;
        let Some(span) = SPANS_V6.get(at.wrapping_add(half) as u32) else {
            return 0;
        };
        if span.high < high || span.high == high && span.low <= low {
            at = at.wrapping_add(half);
        }
        left = left.wrapping_sub(half);
    }
    match SPANS_V6.get(at as u32) {
        Some(span) => u64::from(span.answer),
        None => 0,
    }
}
