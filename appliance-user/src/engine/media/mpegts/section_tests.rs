//! Tests of the assembler and of whole sections: what is handed out, what is void, what is refused.

use mpeg2ts_reader::mpegts_crc;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::build::{long, packets, short, short_with_crc};
use super::*;

/// Everything that an assembler hands out.
fn assemble(assembler: &mut Assembler, packets: &[[u8; PACKET_SIZE]]) -> Vec<Result<Vec<u8>, SectionError>> {
    let mut handed = Vec::new();
    for packet in packets {
        assembler.packet(packet, false, MAX_SECTION, &mut |section| {
            handed.push(section.map(<[u8]>::to_vec))
        });
    }
    handed
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7) as u8).collect()
}

#[test]
fn a_section_within_one_packet_is_handed_out_and_leaves_no_memory() {
    let section = long(0x00, 1, 0, (0, 0), &body(20));
    let mut assembler = Assembler::default();
    assert_eq!(
        assemble(&mut assembler, &packets(0, &[&section], &mut 0)),
        [Ok(section)]
    );
    assert!(assembler.is_idle());
    assert_eq!(assembler.memory(), 0);
}

#[test]
fn the_longest_section_takes_23_packets_and_its_memory_comes_back() {
    let section = long(0x80, 1, 0, (0, 0), &body(MAX_SECTION - 12));
    assert_eq!(section.len(), MAX_SECTION);
    let packets = packets(0x100, &[&section], &mut 9);
    assert_eq!(packets.len(), 23);
    let mut assembler = Assembler::default();
    assert_eq!(assemble(&mut assembler, &packets[..22]), []);
    assert_eq!(assembler.memory(), MAX_SECTION, "as much as its length says");
    assert_eq!(assemble(&mut assembler, &packets[22..]), [Ok(section)]);
    assert_eq!(assembler.memory(), 0);
}

#[test]
fn sections_share_packets() {
    let sections = [
        long(0x42, 1, 0, (0, 1), &body(300)),
        short(0x70, &[0; 5]),
        long(0x46, 2, 3, (1, 1), &body(170)),
        long(0x4a, 2, 3, (0, 0), &body(0)),
    ];
    let slices: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
    let handed = assemble(&mut Assembler::default(), &packets(0x11, &slices, &mut 3));
    assert_eq!(handed, sections.map(Ok));
}

#[test]
fn a_header_may_be_split_over_two_packets() {
    for split in 1..3 {
        let first = long(0x42, 1, 0, (0, 0), &body(183 - split - 12));
        let second = long(0x42, 1, 0, (0, 0), &body(30));
        let packets = packets(0x11, &[&first, &second], &mut 0);
        assert_eq!(packets.len(), 2);
        assert_eq!(assemble(&mut Assembler::default(), &packets), [Ok(first), Ok(second)]);
    }
}

#[test]
fn a_lost_packet_voids_the_section_and_nothing_else() {
    let (first, second) = (
        long(0x42, 1, 0, (0, 0), &body(500)),
        long(0x42, 1, 1, (0, 0), &body(10)),
    );
    let mut counter = 0;
    let mut all = packets(0x11, &[&first], &mut counter);
    all.remove(1);
    all.extend(packets(0x11, &[&second], &mut counter));
    assert_eq!(assemble(&mut Assembler::default(), &all), [Ok(second)]);
}

#[test]
fn a_gap_that_the_counter_does_not_show_voids_the_section() {
    let section = long(0x42, 1, 0, (0, 0), &body(300));
    let packets = packets(0x11, &[&section], &mut 0);
    let mut assembler = Assembler::default();
    let mut handed = 0;
    assembler.packet(&packets[0], false, MAX_SECTION, &mut |_| handed += 1);
    assert!(!assembler.is_idle());
    assembler.packet(&packets[1], true, MAX_SECTION, &mut |_| handed += 1);
    assert_eq!((handed, assembler.memory()), (0, 0));
}

#[test]
fn a_second_copy_of_a_packet_does_nothing() {
    let section = long(0x42, 1, 0, (0, 0), &body(400));
    let doubled: Vec<_> = packets(0x11, &[&section], &mut 15)
        .into_iter()
        .flat_map(|packet| [packet; 2])
        .collect();
    assert_eq!(assemble(&mut Assembler::default(), &doubled), [Ok(section)]);
}

#[test]
fn the_same_counter_with_other_bytes_is_no_copy() {
    let sections = [0, 1].map(|version| long(0x02, 1, version, (0, 0), &body(20)));
    let all = sections.each_ref().map(|section| packets(0x11, &[section], &mut 7)[0]);
    assert_eq!(assemble(&mut Assembler::default(), &all), sections.map(Ok));
}

#[test]
fn damaged_and_scrambled_packets_are_not_read() {
    let section = long(0x00, 1, 0, (0, 0), &body(20));
    let packet = packets(0, &[&section], &mut 0)[0];
    for (place, bits) in [(1, 0x80), (3, 0x80)] {
        let mut other = packet;
        other[place] |= bits;
        assert_eq!(assemble(&mut Assembler::default(), &[other]), []);
    }
}

#[test]
fn the_next_section_cuts_one_short() {
    let (first, second) = (
        long(0x42, 1, 0, (0, 0), &body(500)),
        long(0x42, 1, 1, (0, 0), &body(10)),
    );
    let mut all = packets(0x11, &[&first], &mut 0)[..1].to_vec();
    all.extend(packets(0x11, &[&second], &mut 1));
    assert_eq!(
        assemble(&mut Assembler::default(), &all),
        [Err(SectionError::CutShort), Ok(second)]
    );
}

#[test]
fn a_pointer_beyond_the_packet_is_told() {
    let mut packet = packets(0, &[&long(0, 1, 0, (0, 0), &[])], &mut 0)[0];
    packet[4] = 184;
    assert_eq!(
        assemble(&mut Assembler::default(), &[packet]),
        [Err(SectionError::Pointer)]
    );
    packet[4] = 183;
    assert_eq!(
        assemble(&mut Assembler::default(), &[packet]),
        [],
        "it points at the packet's end"
    );
}

#[test]
fn lengths_beyond_the_longest_are_refused() {
    let mut packet = packets(0, &[&short(0x80, &body(100))], &mut 0)[0];
    packet[6] |= 0x0f;
    packet[7] = 0xfe;
    assert_eq!(
        assemble(&mut Assembler::default(), &[packet]),
        [Err(SectionError::TooLong)]
    );
}

#[test]
fn no_more_room_is_taken_than_is_given() {
    let packet = packets(0, &[&short(0x80, &body(1000))], &mut 0)[0];
    let mut assembler = Assembler::default();
    let mut handed = Vec::new();
    assembler.packet(&packet, false, 1000, &mut |section| {
        handed.push(section.map(<[u8]>::len))
    });
    assert_eq!((handed, assembler.memory()), (vec![Err(SectionError::NoRoom)], 0));
}

#[test]
fn the_crc_is_that_of_an_independent_implementation() {
    for length in [0, 1, 15, 16, 17, 183, 1021, 4000] {
        assert_eq!(crc32(&body(length)), mpegts_crc::sum32(&body(length)));
    }
}

#[test]
fn every_bit_of_a_section_with_a_crc_is_guarded() {
    for section in [
        long(0x02, 1, 5, (0, 0), &body(13)),
        short_with_crc(0xfc, &body(20)),
        short_with_crc(0x73, &body(7)),
    ] {
        assert!(Section::read(&section).is_ok());
        // The table_id's own bits decide whether there is a CRC, so from the length on.
        for bit in 24..section.len() * 8 {
            let mut other = section.clone();
            other[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(Section::read(&other), Err(SectionError::Crc), "bit {bit}");
        }
    }
}

#[test]
fn time_and_date_has_no_crc() {
    let section = short(0x70, &[0xc0, 0x79, 0x12, 0x45, 0x00]);
    let read = Section::read(&section).unwrap();
    assert_eq!((read.crc, read.long, read.body()), (None, None, &section[3..]));
}

#[test]
fn the_long_form_is_read() {
    let section = long(0x4e, 0x1234, 21, (3, 7), &body(9));
    let read = Section::read(&section).unwrap();
    let expected = LongHeader {
        extension: 0x1234,
        version: 21,
        current: true,
        number: 3,
        last_number: 7,
    };
    assert_eq!(
        (read.table_id, read.long, read.body()),
        (0x4e, Some(expected), body(9).as_slice())
    );
    assert_eq!(read.bytes(), section);
    assert_eq!(
        Section::read(&[0x00, 0xb0, 0x08, 0, 1, 0xc1, 0, 0, 0, 0, 0]),
        Err(SectionError::Length)
    );
    assert_eq!(Section::read(&section[..20]), Err(SectionError::Length));
}

/// Something to be carried.
fn section() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..0xff, any::<u16>(), 0_u8..32, vec(any::<u8>(), 0..600))
        .prop_map(|(table_id, extension, version, body)| long(table_id, extension, version, (0, 0), &body))
}

proptest! {
    #[test]
    fn what_is_carried_arrives(sections in vec(section(), 1..20), start: u8) {
        let slices: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
        let mut assembler = Assembler::default();
        let handed = assemble(&mut assembler, &packets(0x30, &slices, &mut start.clone()));
        prop_assert_eq!(handed, sections.into_iter().map(Ok).collect::<Vec<_>>());
        prop_assert_eq!(assembler.memory(), 0);
    }

    #[test]
    fn what_is_lost_harms_no_section_that_came_whole(
        sections in vec(section(), 1..20), lost in vec(any::<proptest::sample::Index>(), 0..6)
    ) {
        let slices: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
        let mut packets = packets(0x30, &slices, &mut 0);
        for index in lost {
            if packets.len() > 1 {
                let place = index.index(packets.len());
                packets.remove(place);
            }
        }
        let whole = assemble(&mut Assembler::default(), &packets).into_iter().filter_map(Result::ok);
        // Sixteen packets lost in a row aside, which these cannot be, every section is one that was sent, in order.
        let mut sent = sections.iter();
        for section in whole {
            prop_assert!(sent.any(|other| *other == section));
        }
    }

    #[test]
    fn random_packets_are_harmless(
        bytes in vec((any::<[u8; 32]>(), any::<u8>(), any::<bool>(), 0_u8..20), 0..60), room in 0..MAX_SECTION
    ) {
        let mut assembler = Assembler::default();
        for (bytes, fill, gap, control) in bytes {
            let mut packet = [fill; PACKET_SIZE];
            packet[..32].copy_from_slice(&bytes);
            packet[3] = 0x10 | control & 0x0f | (control & 0x10) << 1;
            assembler.packet(&packet, gap, room, &mut |section| {
                let _ = section.map(Section::read);
            });
            prop_assert!(assembler.memory() <= room.max(8));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_section_but_by_chance(bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(section) = Section::read(&bytes) {
            prop_assert_eq!(section.bytes(), &bytes);
            prop_assert!(section.body().len() <= bytes.len());
        }
    }
}
