//! Names of the values of `stream_type` that a PMT gives a component (ISO/IEC 13818-1 table 2-34; 0x80 and above: ATSC A/53,
//! SCTE 35 and the registered uses that receivers agree on). The same names serve policies and reports.
//!
//! DVB carries AC-3, subtitles and teletext as `private-pes` with a descriptor; their stream type does not tell them apart.

/// Every value that has a name, ascending; a value stands once.
const NAMES: &[(u8, &str)] = &[
    (0x01, "mpeg1-video"),
    (0x02, "mpeg2-video"),
    (0x03, "mpeg1-audio"),
    (0x04, "mpeg2-audio"),
    (0x05, "private-sections"),
    (0x06, "private-pes"),
    (0x07, "mheg"),
    (0x08, "dsmcc"),
    (0x09, "h222-1"),
    (0x0A, "dsmcc-a"),
    (0x0B, "dsmcc-b"),
    (0x0C, "dsmcc-c"),
    (0x0D, "dsmcc-d"),
    (0x0E, "auxiliary"),
    (0x0F, "aac"),
    (0x10, "mpeg4-video"),
    (0x11, "aac-latm"),
    (0x12, "sl-pes"),
    (0x13, "sl-sections"),
    (0x14, "dsmcc-download"),
    (0x15, "metadata-pes"),
    (0x16, "metadata-sections"),
    (0x17, "metadata-carousel"),
    (0x18, "metadata-object-carousel"),
    (0x19, "metadata-download"),
    (0x1A, "ipmp"),
    (0x1B, "h264"),
    (0x1C, "aac-raw"),
    (0x1D, "mpeg4-text"),
    (0x1E, "auxiliary-video"),
    (0x1F, "h264-svc"),
    (0x20, "h264-mvc"),
    (0x21, "jpeg2000"),
    (0x22, "mpeg2-stereo"),
    (0x23, "h264-stereo"),
    (0x24, "h265"),
    (0x25, "h265-temporal"),
    (0x26, "h264-mvcd"),
    (0x2D, "mpegh-audio"),
    (0x2E, "mpegh-audio-auxiliary"),
    (0x32, "jpeg-xs"),
    (0x33, "h266"),
    (0x34, "h266-temporal"),
    (0x35, "evc"),
    (0x42, "avs"),
    (0x80, "lpcm"),
    (0x81, "ac3"),
    (0x82, "dts"),
    (0x83, "truehd"),
    (0x86, "scte35"),
    (0x87, "eac3"),
    (0xD1, "dirac"),
    (0xD2, "avs2"),
    (0xEA, "vc1"),
];

/// Other names that people write.
const ALIASES: &[(&str, u8)] = &[
    ("avc", 0x1B),
    ("hevc", 0x24),
    ("vvc", 0x33),
    ("adts", 0x0F),
    ("latm", 0x11),
    ("mp2", 0x03),
    ("ac-3", 0x81),
    ("e-ac-3", 0x87),
    ("scte-35", 0x86),
];

/// The name of a stream type, if it has one.
pub fn name(stream_type: u8) -> Option<&'static str> {
    let at = NAMES.binary_search_by_key(&stream_type, |(value, _)| *value).ok()?;
    NAMES.get(at).map(|(_, name)| *name)
}

/// The stream type of a name or of another name for it.
pub fn by_name(text: &str) -> Option<u8> {
    let named = NAMES.iter().find(|(_, name)| *name == text).map(|(value, _)| *value);
    named.or_else(|| {
        ALIASES
            .iter()
            .find(|(alias, _)| *alias == text)
            .map(|(_, value)| *value)
    })
}

/// Every name that [`by_name`] knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .map(|(_, name)| *name)
        .chain(ALIASES.iter().map(|(alias, _)| *alias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_lead_to_their_value_and_back() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        for (value, text) in NAMES {
            assert_eq!((name(*value), by_name(text)), (Some(*text), Some(*value)));
        }
        let all: Vec<_> = names().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "no name twice");
        assert!(
            all.iter()
                .all(|text| by_name(text).is_some_and(|value| name(value).is_some()))
        );
        assert_eq!((name(0x00), name(0xFF), by_name("")), (None, None, None));
    }

    #[test]
    fn what_broadcasters_send_most() {
        for (text, value) in [
            ("mpeg2-video", 2),
            ("h264", 27),
            ("hevc", 36),
            ("aac", 15),
            ("ac3", 129),
            ("scte35", 134),
        ] {
            assert_eq!(by_name(text), Some(value), "{text}");
        }
    }
}
