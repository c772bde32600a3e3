//! stream_type (ISO/IEC 13818-1 Table 2-34, and what ATSC, SCTE and Blu-ray put into the user private range): numbers and
//! the names by which policies and reports call them.

/// Names, and the stream_types that each stands for.
const NAMES: &[(&str, &[u8])] = &[
    ("mpeg1", &[0x01]),
    ("mpeg2", &[0x02]),
    // Layers I to III of both audio standards share these two.
    ("mp2", &[0x03, 0x04]),
    ("private-sections", &[0x05]),
    ("private", &[0x06]),
    ("mheg", &[0x07]),
    ("dsm-cc", &[0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x14]),
    ("h222.1", &[0x09]),
    ("auxiliary", &[0x0e]),
    ("aac", &[0x0f]),
    ("mpeg4", &[0x10]),
    ("aac-latm", &[0x11]),
    ("mpeg4-systems", &[0x12, 0x13]),
    ("metadata", &[0x15, 0x16, 0x17, 0x18, 0x19]),
    ("ipmp", &[0x1a, 0x7f]),
    ("h264", &[0x1b]),
    ("mpeg4-audio", &[0x1c]),
    ("mpeg4-text", &[0x1d]),
    ("auxiliary-video", &[0x1e]),
    ("h264-enhancement", &[0x1f, 0x20, 0x23, 0x26]),
    ("jpeg2000", &[0x21]),
    ("mpeg2-3d", &[0x22]),
    ("h265", &[0x24]),
    ("h265-enhancement", &[0x25, 0x28, 0x29, 0x2a, 0x2b, 0x31]),
    ("timeline", &[0x27]),
    ("mpeg-h-audio", &[0x2d, 0x2e]),
    ("jpeg-xs", &[0x32]),
    ("h266", &[0x33, 0x34]),
    ("evc", &[0x35]),
    ("avs", &[0x42]),
    ("ac3", &[0x81]),
    ("dts", &[0x82, 0x85, 0x8a]),
    ("truehd", &[0x83]),
    // 0x87 by ATSC A/52, 0x84 by Blu-ray.
    ("eac3", &[0x84, 0x87]),
    ("scte35", &[0x86]),
    ("dirac", &[0xd1]),
    ("avs2", &[0xd2]),
    ("avs3", &[0xd4]),
    ("vc1", &[0xea]),
];

/// The name of a stream_type; `user-private` from 0x80 on and `reserved` below, where it has none of its own.
pub fn name(stream_type: u8) -> &'static str {
    let named = NAMES.iter().find(|(_, types)| types.contains(&stream_type));
    match named {
        Some((name, _)) => name,
        None if stream_type >= 0x80 => "user-private",
        None => "reserved",
    }
}

/// The stream_types that a name stands for; `None` for an unknown name. Upper and lower case are the same.
pub fn by_name(name: &str) -> Option<&'static [u8]> {
    let named = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, types)| *types)
}

/// Every name, in the order of stream_types.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// Whether components of this stream_type are sections rather than PES packets.
pub const fn carries_sections(stream_type: u8) -> bool {
    matches!(stream_type, 0x05 | 0x0a..=0x0d | 0x13 | 0x14 | 0x16..=0x19 | 0x86)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_both_ways() {
        for stream_type in 0..=u8::MAX {
            if let Some(types) = by_name(name(stream_type)) {
                assert!(types.contains(&stream_type), "{stream_type:#04x}");
            }
        }
        let mut all: Vec<u8> = NAMES.iter().flat_map(|(_, types)| types.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a stream_type has two names");
    }

    #[test]
    fn the_common_ones_are_called_what_people_call_them() {
        let common = [
            (0x1b, "h264"),
            (0x24, "h265"),
            (0x02, "mpeg2"),
            (0x0f, "aac"),
            (0x11, "aac-latm"),
            (0x03, "mp2"),
            (0x04, "mp2"),
            (0x81, "ac3"),
            (0x87, "eac3"),
            (0x86, "scte35"),
            (0x06, "private"),
            (0xc0, "user-private"),
            (0x70, "reserved"),
        ];
        for (stream_type, expected) in common {
            assert_eq!(name(stream_type), expected);
        }
        assert_eq!(by_name("H264"), Some(&[0x1b][..]));
        assert_eq!(by_name("h.264"), None);
        assert_eq!(names().count(), NAMES.len());
    }
}
