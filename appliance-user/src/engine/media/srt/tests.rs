//! Tests of the SRT parser: packets built field by field from the draft, the ways to break them, arbitrary bytes.

use core::time::Duration;

use proptest::prelude::*;

use super::*;

fn header(first: u32, second: u32, destination: u32) -> Vec<u8> {
    [first, second, 0x0102_0304, destination]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

fn control(kind: u16, subtype: u16, specific: u32, content: &[u8]) -> Vec<u8> {
    let first = CONTROL | u32::from(kind) << 16 | u32::from(subtype);
    [header(first, specific, 77), content.to_vec()].concat()
}

fn handshake(version: u32, fields: u32, kind: u32, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let fixed = [
        version,
        fields,
        0x1234_5678,
        1500,
        8192,
        kind,
        4711,
        0xc00c_1e00,
        0x0100_007f,
        0,
        0,
        0,
    ];
    let mut content: Vec<u8> = fixed.iter().flat_map(|word| word.to_be_bytes()).collect();
    for (kind, block) in extensions {
        content.extend(kind.to_be_bytes());
        content.extend(((block.len() / 4) as u16).to_be_bytes());
        content.extend(block);
    }
    control(0, 0, 0, &content)
}

fn stream_id_block(text: &[u8]) -> Vec<u8> {
    let mut padded = text.to_vec();
    padded.resize(text.len().next_multiple_of(4), 0);
    padded.chunks(4).flat_map(|word| word.iter().rev().copied()).collect()
}

fn latency_block(receiver: u16, sender: u16) -> Vec<u8> {
    let delays = u32::from(receiver) << 16 | u32::from(sender);
    [0x0001_0503_u32, 0xbf, delays]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

fn key_material_block(flags: u8, cipher: u8, key_words: u8) -> Vec<u8> {
    let mut block = vec![0x12, 0x20, 0x29, flags, 0, 0, 0, 0, cipher, 0, 2, 0, 0, 0, 4, key_words];
    block.extend([0xaa; 16]);
    let keys = usize::from(flags & 1) + usize::from(flags >> 1 & 1);
    block.extend(vec![0xbb; 8 + keys * usize::from(key_words) * 4]);
    block
}

fn parsed(bytes: &[u8]) -> Handshake<'_> {
    match Packet::parse(bytes) {
        Ok(Packet::Control(control)) => control.handshake().expect("a handshake").clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn data_fields_are_read() {
    // PP 3 (single), O 0, KK 2 (odd), R 1, message 5.
    let bytes = [header(0x7fff_fff0, 0b11_0101 << 26 | 5, 99), b"media".to_vec()].concat();
    let Ok(Packet::Data(data)) = Packet::parse(&bytes) else {
        panic!("no data packet")
    };
    assert_eq!(
        (
            data.sequence_number(),
            data.message_number(),
            data.destination_socket_id()
        ),
        (0x7fff_fff0, 5, 99)
    );
    assert_eq!(
        (data.position(), data.in_order(), data.key_flag()),
        (Position::Single, false, KeyFlag::Odd)
    );
    assert!(data.is_encrypted() && data.is_retransmitted());
    assert_eq!((data.timestamp(), data.payload()), (0x0102_0304, b"media".as_slice()));
}

#[test]
fn a_packet_filters_own_packets_are_told_from_media() {
    let bytes = header(9, 0b11_0000 << 26, 1);
    let Ok(Packet::Data(data)) = Packet::parse(&bytes) else {
        panic!("no data packet")
    };
    assert!(data.is_filter_control());
}

#[test]
fn control_types_are_recognised() {
    let cases = [
        (1, ControlType::KeepAlive),
        (2, ControlType::Ack),
        (3, ControlType::Nak),
        (4, ControlType::CongestionWarning),
        (5, ControlType::Shutdown),
        (6, ControlType::AckAck),
        (7, ControlType::DropRequest),
        (8, ControlType::PeerError),
        (0x7fff, ControlType::UserDefined(9)),
    ];
    for (number, expected) in cases {
        let bytes = control(number, 9, 3, &[0, 0, 0, 5, 0, 0, 0, 8]);
        let Ok(Packet::Control(control)) = Packet::parse(&bytes) else {
            panic!("type {number}")
        };
        assert_eq!(
            (control.control_type(), control.destination_socket_id()),
            (expected, 77)
        );
        let request = (number == 7).then_some(DropRequest {
            message_number: 3,
            first: 5,
            last: 8,
        });
        assert_eq!(control.drop_request(), request);
    }
    for number in [9, 10, 0x1000, 0x7ffe] {
        assert_eq!(
            Packet::parse(&control(number, 0, 0, &[])),
            Err(Error::ControlType(number))
        );
    }
}

#[test]
fn both_inductions_are_read() {
    let caller = handshake(4, 2, 1, &[]);
    assert_eq!(
        (parsed(&caller).version(), parsed(&caller).kind()),
        (4, HandshakeType::Induction)
    );
    assert_eq!(parsed(&caller).advertised_key_length(), None);
    let listener = handshake(5, 4 << 16 | 0x4a17, 1, &[]);
    let listener = parsed(&listener);
    assert_eq!(
        (listener.extension_field(), listener.syn_cookie()),
        (0x4a17, 0xc00c_1e00)
    );
    assert_eq!(listener.advertised_key_length(), Some(32));
}

#[test]
fn a_conclusion_carries_its_extensions() {
    let id = b"#!::r=live/ch1,m=publish";
    let blocks = [
        (1, latency_block(120, 250)),
        (3, key_material_block(1, 2, 4)),
        (6, stream_id_block(b"live")),
        (5, stream_id_block(id)),
    ];
    let bytes = handshake(5, 2 << 16 | 7, 0xffff_ffff, &blocks);
    let message = parsed(&bytes);
    assert_eq!((message.kind(), message.socket_id()), (HandshakeType::Conclusion, 4711));
    assert_eq!(message.initial_sequence_number(), 0x1234_5678);
    assert_eq!(message.stream_id().as_deref(), Some("#!::r=live/ch1,m=publish"));
    let request = message.request().unwrap();
    assert_eq!((request.version, request.flags), (0x0001_0503, 0xbf));
    assert_eq!(
        (request.receiver_delay.as_millis(), request.sender_delay.as_millis()),
        (120, 250)
    );
    assert_eq!(
        (message.request_latency(), message.response_latency()),
        (Some(Duration::from_millis(250)), None)
    );
    let keys = message.key_material().unwrap();
    assert_eq!(
        (keys.keys, keys.cipher, keys.key_length),
        (KeyFlag::Even, Cipher::AesCtr, 16)
    );
    assert_eq!((keys.salt.len(), keys.wrapped.len()), (16, 24));
}

#[test]
fn the_answer_repeats_the_keys() {
    let blocks = [(2, latency_block(300, 0)), (4, key_material_block(3, 4, 8))];
    let bytes = handshake(5, 3, 0xffff_ffff, &blocks);
    let message = parsed(&bytes);
    assert_eq!(message.response_latency(), Some(Duration::from_millis(300)));
    let keys = message.key_material().unwrap();
    assert_eq!(
        (keys.keys.keys(), keys.cipher, keys.key_length),
        (2, Cipher::AesGcm, 32)
    );
    let refused = handshake(5, 2, 0xffff_ffff, &[(4, vec![0, 0, 0, 4])]);
    assert_eq!(parsed(&refused).key_material(), None);
}

#[test]
fn a_key_refresh_is_read() {
    let bytes = control(0x7fff, 3, 0, &key_material_block(2, 2, 6));
    let Ok(Packet::Control(control)) = Packet::parse(&bytes) else {
        panic!("no control packet")
    };
    let keys = control.key_material().unwrap();
    assert_eq!((keys.keys, keys.key_length, keys.wrapped.len()), (KeyFlag::Odd, 24, 32));
}

#[test]
fn rejections_have_names() {
    for reason in 1000..=1017 {
        let kind = parsed(&handshake(5, 0, reason, &[])).kind();
        assert_eq!(kind, HandshakeType::Rejection(reason));
        assert!(kind.rejection_name().is_some(), "{reason}");
    }
    assert_eq!(HandshakeType::Rejection(2403).rejection_name(), Some("forbidden"));
    assert_eq!(HandshakeType::Rejection(3001).rejection_name(), Some("user-defined"));
    assert_eq!(HandshakeType::Rejection(1999).rejection_name(), None);
    assert_eq!(parsed(&handshake(5, 0, 2, &[])).kind(), HandshakeType::Other(2));
}

#[test]
fn blocks_that_are_not_announced_or_stand_after_the_end_do_not_count() {
    let blocks = [(5, stream_id_block(b"hidden"))];
    assert_eq!(parsed(&handshake(5, 1, 0xffff_ffff, &blocks)).stream_id(), None);
    let blocks = [(0, vec![]), (5, stream_id_block(b"hidden"))];
    assert_eq!(parsed(&handshake(5, 4, 0xffff_ffff, &blocks)).stream_id(), None);
    assert_eq!(
        parsed(&handshake(4, 4, 0xffff_ffff, &[(5, stream_id_block(b"v4"))])).stream_id(),
        None
    );
}

#[test]
fn what_receivers_could_read_differently_is_refused() {
    let twice = [(5, stream_id_block(b"one")), (5, stream_id_block(b"two"))];
    assert_eq!(
        Packet::parse(&handshake(5, 4, 0xffff_ffff, &twice)),
        Err(Error::ExtensionTwice(5))
    );
    let nul = [(5, stream_id_block(b"evil\0live"))];
    assert_eq!(Packet::parse(&handshake(5, 4, 0xffff_ffff, &nul)), Err(Error::StreamId));
    let long = [(5, stream_id_block(&[b'x'; 516]))];
    assert_eq!(
        Packet::parse(&handshake(5, 4, 0xffff_ffff, &long)),
        Err(Error::ExtensionLength(5))
    );
    let longest = handshake(5, 4, 0xffff_ffff, &[(5, stream_id_block(&[b'x'; 512]))]);
    assert_eq!(parsed(&longest).stream_id().map(|id| id.len()), Some(512));
}

#[test]
fn what_is_cut_short_or_foreign_is_named() {
    assert_eq!(Packet::parse(&[0; 15]), Err(Error::Truncated));
    assert_eq!(Packet::parse(&control(0, 0, 0, &[0; 47])), Err(Error::Truncated));
    assert_eq!(Packet::parse(&control(7, 0, 0, &[0; 7])), Err(Error::Truncated));
    assert_eq!(Packet::parse(&handshake(3, 0, 1, &[])), Err(Error::HandshakeVersion(3)));
    let mut cut = handshake(5, 1, 0xffff_ffff, &[(1, latency_block(1, 1))]);
    cut.truncate(cut.len() - 1);
    assert_eq!(Packet::parse(&cut), Err(Error::ExtensionLength(1)));
    assert_eq!(
        Packet::parse(&handshake(5, 1, 0xffff_ffff, &[(1, vec![0; 8])])),
        Err(Error::ExtensionLength(1))
    );
    for (place, value) in [(0, 0x11), (1, 0), (3, 0), (14, 3), (15, 5)] {
        let mut block = key_material_block(1, 2, 4);
        block[place] = value;
        let bytes = handshake(5, 2, 0xffff_ffff, &[(3, block)]);
        assert_eq!(Packet::parse(&bytes), Err(Error::KeyMaterial), "byte {place}");
    }
}

fn read(bytes: &[u8]) -> Control<'_> {
    match Packet::parse(bytes) {
        Ok(Packet::Control(control)) => control,
        other => panic!("{other:?}"),
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn filter_congestion_and_group_are_noted() {
    let blocks = [
        (6, stream_id_block(b"live")),
        (7, stream_id_block(b"fec,cols:10,rows:5")),
        (8, bytes(&[0x4000_0001, 0x0200_0007])),
    ];
    let packet = handshake(5, 4, 0xffff_ffff, &blocks);
    let message = parsed(&packet);
    assert_eq!(message.congestion().as_deref(), Some("live"));
    assert_eq!(message.filter().as_deref(), Some("fec,cols:10,rows:5"));
    let group = Group {
        id: 0x4000_0001,
        kind: 2,
        weight: 7,
    };
    assert_eq!(message.group(), Some(group));
    let short = handshake(5, 4, 0xffff_ffff, &[(8, vec![0; 4])]);
    assert_eq!(Packet::parse(&short), Err(Error::ExtensionLength(8)));
}

#[test]
fn acknowledgements_are_full_small_or_light() {
    let fields = [0x8000_0007, 1500, 250, 8000, 300, 1000, 400_000];
    let full = control(2, 0, 9, &bytes(&fields));
    let full = read(&full).acknowledgement().unwrap();
    let measured = full.measured.unwrap();
    assert_eq!((full.number, full.next_expected), (9, 7));
    assert_eq!(
        (
            measured.rtt.as_micros(),
            measured.rtt_variance.as_micros(),
            measured.available_buffer
        ),
        (1500, 250, 8000)
    );
    assert_eq!(
        (
            measured.receiving_rate,
            measured.link_capacity,
            measured.receiving_bytes
        ),
        (Some(300), Some(1000), Some(400_000))
    );
    let small = control(2, 0, 9, &bytes(&fields[..4]));
    let measured = read(&small).acknowledgement().unwrap().measured.unwrap();
    assert_eq!((measured.available_buffer, measured.link_capacity), (8000, None));
    let light = control(2, 0, 0, &bytes(&fields[..1]));
    assert_eq!(read(&light).acknowledgement().unwrap().measured, None);
    assert_eq!(read(&control(2, 0, 0, &[1, 2])).acknowledgement(), None);
}

#[test]
fn loss_reports_list_numbers_and_ranges() {
    let report = control(3, 0, 0, &bytes(&[5, 0x8000_0000 | 10, 12, 0x7fff_ffff, 0x8000_0014]));
    let ranges: Vec<_> = read(&report).loss_report().unwrap().ranges().collect();
    assert_eq!(ranges, [(5, 5), (10, 12), (0x7fff_ffff, 0x7fff_ffff)]);
}

#[test]
fn refused_keys_are_told_from_keys() {
    for (state, expected) in [
        (0, KeyRefusal::Unsecured),
        (3, KeyRefusal::NoSecret),
        (4, KeyRefusal::BadSecret),
        (5, KeyRefusal::BadCryptoMode),
        (9, KeyRefusal::Other(9)),
    ] {
        let packet = control(0x7fff, 4, 0, &bytes(&[state]));
        assert_eq!(
            (read(&packet).key_refusal(), read(&packet).key_material()),
            (Some(expected), None)
        );
        let answer = handshake(5, 2, 0xffff_ffff, &[(4, bytes(&[state]))]);
        assert_eq!(parsed(&answer).key_refusal(), Some(expected));
    }
}

proptest! {
    #[test]
    fn stream_ids_round_trip(id in "[a-zA-Z0-9#!:=,/._é-]{1,200}") {
        let bytes = handshake(5, 4, 0xffff_ffff, &[(5, stream_id_block(id.as_bytes()))]);
        prop_assert_eq!(parsed(&bytes).stream_id(), Some(id));
    }

    #[test]
    fn data_headers_round_trip(sequence in 0..=SEQUENCE_MASK, word in any::<u32>(), destination in any::<u32>()) {
        let bytes = header(sequence, word, destination);
        let Ok(Packet::Data(data)) = Packet::parse(&bytes) else { panic!("no data packet") };
        let position = match data.position() {
            Position::Middle => 0,
            Position::Last => 1,
            Position::First => 2,
            Position::Single => 3_u32,
        };
        let key = match data.key_flag() {
            KeyFlag::None => 0,
            KeyFlag::Even => 1,
            KeyFlag::Odd => 2,
            KeyFlag::Both => 3_u32,
        };
        let flags = u32::from(data.in_order()) << 29 | u32::from(data.is_retransmitted()) << 26;
        prop_assert_eq!(position << 30 | key << 27 | flags | data.message_number(), word);
        prop_assert_eq!((data.sequence_number(), data.destination_socket_id()), (sequence, destination));
    }

    #[test]
    fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Packet::parse(&bytes);
    }

    #[test]
    fn arbitrary_handshakes_are_harmless(
        fields in any::<u32>(),
        kind in prop_oneof![Just(0xffff_ffff_u32), Just(1), any::<u32>()],
        content in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = handshake(5, fields, kind, &[]);
        bytes.extend(content);
        if let Ok(Packet::Control(control)) = Packet::parse(&bytes) {
            let _ = control.handshake().and_then(Handshake::stream_id);
        }
    }

    #[test]
    fn arbitrary_extensions_are_harmless(kind in 0_u16..9, content in proptest::collection::vec(any::<u8>(), 0..600)) {
        let length = content.len() / 4 * 4;
        let bytes = handshake(5, 7, 0xffff_ffff, &[(kind, content[..length].to_vec())]);
        if let Ok(Packet::Control(control)) = Packet::parse(&bytes) {
            let _ = control.handshake().and_then(Handshake::stream_id);
        }
    }
}
