//! Stand-ins for an appliance: the outer addresses are swapped and nothing else is looked at.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use tidegate_frames::layout::OUTER_IP;
use tidegate_frames::maps::{DROPPED, Damage};

use crate::packet::{Packet, exclusive};

#[map]
static DAMAGE: Array<Damage> = Array::with_max_entries(1, 0);

/// EtherType of IPv4.
const IPV4: u16 = 0x0800;

/// What became of a frame.
pub enum Spoiled {
    /// It goes back, whole or not.
    Sent,
    /// It does not.
    Dropped,
}

/// Swaps MAC and IPv4 addresses; both checksums stay right. Returns whether it was IPv4.
#[inline(always)]
pub fn turn_around(ctx: &XdpContext) -> bool {
    let packet = Packet::new(ctx);
    if packet.get16(12) != Some(IPV4) {
        return false;
    }
    swap(&packet, 0, 6)
        & swap(&packet, 2, 8)
        & swap(&packet, 4, 10)
        & swap(&packet, OUTER_IP + 12, OUTER_IP + 16)
        & swap(&packet, OUTER_IP + 14, OUTER_IP + 18)
}

#[inline(always)]
fn swap(packet: &Packet<'_>, a: usize, b: usize) -> bool {
    match (packet.get16(a), packet.get16(b)) {
        (Some(first), Some(second)) => packet.put16(a, second) && packet.put16(b, first),
        _ => false,
    }
}

/// Damages the frame if it is its turn.
#[inline(always)]
pub fn damage(ctx: &XdpContext) -> Spoiled {
    let Some(damage) = exclusive(DAMAGE.get_ptr_mut(0)) else {
        return Spoiled::Sent;
    };
    damage.count = damage.count.wrapping_add(1);
    if damage.every == 0 || damage.count < damage.every {
        return Spoiled::Sent;
    }
    damage.count = 0;
    if damage.offset == DROPPED {
        return Spoiled::Dropped;
    }
    Packet::new(ctx).turn_bit(damage.offset);
    Spoiled::Sent
}
