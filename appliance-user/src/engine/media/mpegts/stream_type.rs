//! stream_type (ISO/IEC 13818-1 table 2-34): what a report calls it, and what its packets carry.

use crate::policy::stream_type;

/// The name by which policies know a stream_type; `user-private` from 0x80 on and `reserved` below, where it has none.
pub fn name(value: u8) -> &'static str {
    let other = if value >= 0x80 { "user-private" } else { "reserved" };
    stream_type::name(value).unwrap_or(other)
}

/// Whether components of this stream_type are sections rather than PES packets.
pub const fn carries_sections(stream_type: u8) -> bool {
    matches!(stream_type, 0x05 | 0x0a..=0x0d | 0x13 | 0x14 | 0x16..=0x19 | 0x86)
}
