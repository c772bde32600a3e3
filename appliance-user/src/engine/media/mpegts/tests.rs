//! Tests of the TS packet digest: which bytes count, which do not, and that arbitrary bytes are harmless.

use proptest::prelude::*;

use super::*;
use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest};

fn packet(pid: u16, control: u8) -> [u8; PACKET_SIZE] {
    let mut packet = [0; PACKET_SIZE];
    for (place, byte) in packet.iter_mut().enumerate() {
        *byte = (place as u8).wrapping_mul(37) ^ 0x5a;
    }
    packet[0] = SYNC_BYTE;
    packet[1..3].copy_from_slice(&pid.to_be_bytes());
    packet[3] = control;
    packet
}

fn packet_with_pcr(pcr: u64) -> [u8; PACKET_SIZE] {
    let mut packet = packet(0x100, 0x35);
    packet[4] = 7;
    packet[5] = 0x10;
    let bits = (pcr / 300) << 15 | 0x7e00 | (pcr % 300);
    packet[6..12].copy_from_slice(&bits.to_be_bytes()[2..]);
    packet
}

#[test]
fn header_fields_are_read() {
    let mut bytes = packet(0x4000 | 0x1234, 0xb9);
    bytes[4] = 1;
    bytes[5] = 0x80;
    let digest = digest_packet(&bytes, Content::Sampled);
    assert_eq!(digest.pid(), 0x1234);
    assert!(digest.payload_unit_start() && !digest.transport_error());
    assert_eq!(
        (digest.scrambling(), digest.has_payload(), digest.continuity_counter()),
        (2, true, 9)
    );
    assert!(digest.discontinuity());
}

#[test]
fn an_adaptation_field_of_length_zero_has_no_flags() {
    let mut bytes = packet(0x100, 0x30);
    bytes[4] = 0;
    bytes[5] = 0xff;
    assert_eq!(digest_packet(&bytes, Content::Full).adaptation_flags, 0);
}

#[test]
fn without_an_adaptation_field_the_same_bytes_are_payload() {
    let mut bytes = packet(0x100, 0x10);
    bytes[4] = 7;
    bytes[5] = 0x90;
    assert_eq!(digest_packet(&bytes, Content::Full).adaptation_flags, 0);
    let mut other = bytes;
    other[8] ^= 1;
    assert_ne!(
        digest_packet(&bytes, Content::Full).hash,
        digest_packet(&other, Content::Full).hash
    );
}

#[test]
fn every_byte_counts_in_a_file_but_sync_and_pcr() {
    let bytes = packet_with_pcr(123_456_789);
    let hash = digest_packet(&bytes, Content::Full).hash;
    for place in 0..PACKET_SIZE {
        let mut other = bytes;
        other[place] ^= 0x04;
        let equal = digest_packet(&other, Content::Full).hash == hash;
        assert_eq!(equal, place == 0 || (6..12).contains(&place), "byte {place}");
    }
}

#[test]
fn the_opcr_is_content() {
    // 2.4.3.3 exempts the program clock reference fields alone; an original PCR must not be changed (2.4.3.5).
    let mut bytes = packet_with_pcr(1);
    bytes[4] = 13;
    bytes[5] = 0x18;
    let mut other = bytes;
    other[13] ^= 1;
    assert_ne!(
        digest_packet(&bytes, Content::Full).hash,
        digest_packet(&other, Content::Full).hash
    );
}

#[test]
fn samples_are_at_least_24_bytes_spread_over_the_packet() {
    let bytes = packet_with_pcr(5);
    let hash = digest_packet(&bytes, Content::Sampled).hash;
    let counted: Vec<usize> = (4..PACKET_SIZE)
        .filter(|place| {
            let mut other = bytes;
            other[*place] ^= 0x01;
            digest_packet(&other, Content::Sampled).hash != hash
        })
        .collect();
    assert!(counted.len() >= 24, "{counted:?}");
    assert!(!counted.iter().any(|place| (6..12).contains(place)));
    for third in 0..3 {
        let range = 4 + third * 61..4 + (third + 1) * 61;
        assert!(
            counted.iter().any(|place| range.contains(place)),
            "nothing of {range:?}"
        );
    }
}

#[test]
fn a_flag_without_room_for_a_pcr_exempts_nothing() {
    let mut bytes = packet_with_pcr(9);
    bytes[4] = 6;
    let mut other = bytes;
    other[7] ^= 1;
    assert_ne!(
        digest_packet(&bytes, Content::Full).hash,
        digest_packet(&other, Content::Full).hash
    );
    assert_eq!(pcr(&bytes), None);
}

#[test]
fn datagrams_of_one_to_seven_packets_are_whole() {
    for count in 1..=MAX_TS_PACKETS {
        let payload = packet(0x100, 0x10).repeat(count);
        let mut digest = PacketDigest::default();
        assert_eq!(digest_datagram(&payload, Content::Sampled, &mut digest), Ok(()));
        assert_eq!(
            (usize::from(digest.ts_count), digest.bad_sync, digest.ts_visible),
            (count, 0, true)
        );
        assert_eq!(
            digest.ts[count - 1],
            digest_packet(&packet(0x100, 0x10), Content::Sampled)
        );
    }
}

#[test]
fn bad_sync_bytes_are_marked_one_by_one() {
    let mut payload = packet(0x100, 0x10).repeat(7);
    payload[188] = 0;
    payload[188 * 6] = 0x46;
    let mut digest = PacketDigest::default();
    assert_eq!(digest_datagram(&payload, Content::Sampled, &mut digest), Ok(()));
    assert_eq!(digest.bad_sync, 0b100_0010);
    assert!(looks_like_ts(&payload));
}

#[test]
fn odd_shapes_are_told() {
    let mut digest = PacketDigest::default();
    let wrong = [packet(0x100, 0x10).as_slice(), &[0; 5]].concat();
    assert_eq!(
        digest_datagram(&wrong, Content::Full, &mut digest),
        Err(ShapeError::WrongLength)
    );
    assert_eq!((digest.ts_count, digest.ts_visible), (1, true));
    assert_eq!(
        digest_datagram(&[], Content::Full, &mut digest),
        Err(ShapeError::WrongLength)
    );
    assert_eq!((digest.ts_count, digest.ts_visible), (0, false));
    let many = packet(0x100, 0x10).repeat(8);
    assert_eq!(
        digest_datagram(&many, Content::Full, &mut digest),
        Err(ShapeError::TooMany)
    );
    assert!(!digest.ts_visible);
}

#[test]
fn a_copy_that_differs_in_its_pcr_alone_is_another_datagram() {
    let (one, other) = (packet_with_pcr(1000).repeat(7), packet_with_pcr(2000).repeat(7));
    let (mut a, mut b) = (PacketDigest::default(), PacketDigest::default());
    digest_datagram(&one, Content::Sampled, &mut a).unwrap();
    digest_datagram(&other, Content::Sampled, &mut b).unwrap();
    assert_eq!(a.ts, b.ts);
    assert_ne!(a.hash, b.hash);
}

#[test]
fn ts_is_recognised() {
    assert!(looks_like_ts(&packet(0, 0x10)));
    assert!(!looks_like_ts(&[]));
    assert!(!looks_like_ts(&[SYNC_BYTE; 187]));
    assert!(!looks_like_ts(&[0; 1316]));
    assert!(!looks_like_ts(&[packet(0, 0x10).as_slice(), &[1, 2, 3]].concat()));
    assert!(looks_like_ts(
        &[packet(0, 0x10).repeat(2).as_slice(), &[1, 2, 3]].concat()
    ));
}

proptest! {
    #[test]
    fn a_pcr_round_trips(value in 0..(1_u64 << 33) * 300) {
        prop_assert_eq!(pcr(&packet_with_pcr(value)), Some((0x100, value)));
    }

    #[test]
    fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for content in [Content::Sampled, Content::Full] {
            let mut digest = PacketDigest::default();
            let shape = digest_datagram(&bytes, content, &mut digest);
            let whole = bytes.len() / PACKET_SIZE;
            prop_assert_eq!(usize::from(digest.ts_count), whole.min(MAX_TS_PACKETS));
            prop_assert_eq!(shape.is_ok(), bytes.len() % PACKET_SIZE == 0 && (1..=MAX_TS_PACKETS).contains(&whole));
        }
        let _ = looks_like_ts(&bytes);
    }
}
