//! TS packets, sections put together from them, the tables in the sections, and PES headers.

use tidegate::engine::media::mpegts::psi::{Cat, Pat, Pmt};
use tidegate::engine::media::mpegts::section::{Assembler, Section, crc32};
use tidegate::engine::media::mpegts::si::{self, Eit, Nit, Sdt};
use tidegate::engine::media::mpegts::{self, Content, pes};
use tidegate_common::digest::PacketDigest;

use super::{Take, packets};

/// The longest section of all (ISO/IEC 13818-1 2.4.4.11), and so the most that one PID may make an assembler hold.
const LONGEST: usize = 3 + 4093;

/// The input as a datagram, as TS packets cut short and filled up, and as a section whose CRC is put right.
pub fn run(data: &[u8]) {
    let mut digest = PacketDigest::default();
    let _ = mpegts::digest_datagram(data, Content::Full, &mut digest);
    assert!(usize::from(digest.ts_count) <= digest.ts.len());
    let _ = (mpegts::looks_like_ts(data), pes::read(data));
    table(data);
    let mut sound = data.to_vec();
    sound.extend_from_slice(&crc32(data).to_be_bytes());
    table(&sound);
    packets_of(data);
}

/// Each packet is a byte of flags, a length, and its first bytes; the counter goes on by itself unless a flag says no.
fn packets_of(data: &[u8]) {
    let mut input = Take(data);
    let mut assembler = Assembler::default();
    let mut counter = 0u8;
    while !input.0.is_empty() {
        let flags = input.byte();
        let length = usize::from(input.byte());
        counter = counter.wrapping_add(u8::from(flags & 2 == 0));
        let mut packet = packets::ts_packet(17, flags & 1 != 0, counter, input.bytes(length));
        if flags & 4 != 0 {
            packet[3] |= 0x20;
        }
        let _ = mpegts::digest_packet(&packet, Content::Sampled);
        let _ = (mpegts::pcr(&packet), pes::header(&packet));
        let room = if flags & 8 != 0 { 100 } else { usize::MAX };
        assembler.packet(&packet, flags & 16 != 0, room, &mut |section| {
            if let Ok(section) = section {
                assert!((3..=LONGEST).contains(&section.len()));
                table(section);
            }
        });
        assert!(assembler.memory() <= 2 * LONGEST, "{}", assembler.memory());
    }
}

fn table(bytes: &[u8]) {
    let Ok(section) = Section::read(bytes) else { return };
    if let Ok(pat) = Pat::read(&section) {
        assert!(pat.programmes().count() <= bytes.len() / 4);
        let _ = pat.network_pid();
    }
    if let Ok(pmt) = Pmt::read(&section) {
        let _ = pmt.has_sound_descriptors();
        for component in pmt.components() {
            let _ = format!("{component:?}");
        }
    }
    let _ = Cat::read(&section).map(|cat| format!("{cat:?}"));
    let _ = Nit::read(&section).map(|nit| nit.name());
    let _ = Eit::read(&section).map(|eit| eit.events().count());
    let _ = si::time(&section);
    if let Ok(sdt) = Sdt::read(&section) {
        sdt.services().for_each(|service| drop(service.name()));
    }
}

/// A PAT and a PMT in packets, as bare sections, and a datagram of null packets.
pub fn seeds() -> Vec<Vec<u8>> {
    let pat = [0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0x00];
    let pmt = [
        0x02, 0xb0, 24, 0, 1, 0xc1, 0, 0, 0xe1, 0x01, 0xf0, 6, 5, 4, b'C', b'U', b'E', b'I', 0x1b, 0xe1, 0x01, 0xf0, 0,
    ];
    let sdt = [
        0x42, 0xf0, 28, 0, 1, 0xc1, 0, 0, 0, 1, 0xff, 0, 1, 0xfc, 0x80, 11, 0x48, 9, 1, 2, b'h', b'i', 4, b'n', b'a',
        b'm', b'e',
    ];
    let whole = |section: &[u8]| [section, &crc32(section).to_be_bytes()].concat();
    let packet = |section: &[u8]| {
        let section = whole(section);
        [&[1, section.len() as u8 + 1, 0][..], &section].concat()
    };
    vec![
        [packet(&pat), packet(&pmt), packet(&sdt)].concat(),
        pat.to_vec(),
        pmt.to_vec(),
        sdt.to_vec(),
        packets::ts_packet(0x1fff, false, 0, b"").repeat(7),
        b"\x00\x00\x01\xe0\x00\x00\x80\xc0\x0a\x31\x00\x01\x00\x01\x11\x00\x01\x00\x01".to_vec(),
    ]
}
