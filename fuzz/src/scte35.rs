//! Splice information sections, with the CRC as it is and put right.

use tidegate::engine::media::mpegts::section::crc32;
use tidegate::engine::media::scte35::SpliceInfo;

/// Reads the input as a section.
pub fn run(data: &[u8]) {
    for bytes in [data.to_vec(), [data, &crc32(data).to_be_bytes()].concat()] {
        if let Ok(info) = SpliceInfo::read(&bytes) {
            assert!(info.adjusted(u64::MAX >> 31) < 1 << 33, "times are modulo 2^33");
            let _ = (info.segmentations().count(), format!("{info:?}"));
        }
    }
}

/// splice_null, splice_insert and time_signal with a segmentation descriptor, without their CRCs.
pub fn seeds() -> Vec<Vec<u8>> {
    let section = |command: u8, body: &[u8], descriptors: &[u8]| {
        let length = 11 + body.len() + 2 + descriptors.len() + 4;
        let mut bytes = vec![
            0xfc,
            0x30,
            length as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0xff,
            0xf0,
            body.len() as u8,
            command,
        ];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&[0, descriptors.len() as u8]);
        bytes.extend_from_slice(descriptors);
        bytes
    };
    let insert = [
        0, 0, 0, 1, 0x7f, 0xef, 0xfe, 0, 0, 0, 9, 0xfe, 0, 0x29, 0x32, 0xe0, 0, 1, 0, 0,
    ];
    let segmentation = [2, 15, b'C', b'U', b'E', b'I', 0, 0, 0, 1, 0x7f, 0xbf, 0, 0, 0x30, 0, 0];
    vec![
        section(0, &[], &[]),
        section(5, &insert, &[]),
        section(6, &[0xfe, 0, 0, 0, 9], &segmentation),
    ]
}
