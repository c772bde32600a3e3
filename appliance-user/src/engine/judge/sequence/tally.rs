//! How packets that are out of order, copies or missing count.

use super::Bench;
use crate::engine::judge::arrival::Arrival;

/// `count` numbers below `end` are lost.
pub(super) fn lose(end: u64, count: u64, bench: &mut impl Bench) {
    if count > 0 {
        bench.counters().lost += count;
        bench.lost(end - count, count);
    }
}

/// An equal copy of a number that was seen.
pub(super) fn count_copy(packet: &Arrival<'_>, bench: &mut impl Bench) {
    let counters = bench.counters();
    *(if packet.digest.retransmitted {
        &mut counters.retransmitted
    } else {
        &mut counters.duplicated
    }) += 1;
}

/// A number smaller than the one expected next.
pub(super) fn count_out_of_order(packet: &Arrival<'_>, bench: &mut impl Bench) {
    let counters = bench.counters();
    *(if packet.digest.retransmitted {
        &mut counters.retransmitted
    } else {
        &mut counters.reordered
    }) += 1;
}
