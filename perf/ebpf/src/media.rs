//! The hash of a frame's media, for both ends.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use tidegate_frames::layout::{HASH_SEED, MARKER, MAX_TS_PACKETS, TS_PACKET, TS_WORDS, hash_packet};

use crate::packet::{Packet, exclusive};

/// One TS packet at a time: the stack has no room for it.
#[map]
static SCRATCH: PerCpuArray<[u64; TS_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// The hash of all media in front of the marker.
#[inline(always)]
pub fn hash(packet: &Packet<'_>, media: usize, packets: usize) -> Option<u64> {
    let words = exclusive(SCRATCH.get_ptr_mut(0))?;
    words[TS_WORDS - 1] = 0;
    let mut hash = HASH_SEED;
    let mut index = 0;
    while index < MAX_TS_PACKETS && index < packets {
        let at = media + index * TS_PACKET;
        let read = if index + 1 == packets {
            // What is left of the packet in front of it lies where the marker is.
            words[TS_WORDS - 4] = 0;
            words[TS_WORDS - 3] = 0;
            words[TS_WORDS - 2] = 0;
            words[TS_WORDS - 1] = 0;
            packet.load(at, words, TS_PACKET - MARKER)
        } else {
            packet.load(at, words, TS_PACKET)
        };
        if !read {
            return None;
        }
        hash = hash_packet(hash, words);
        index += 1;
    }
    Some(hash)
}
