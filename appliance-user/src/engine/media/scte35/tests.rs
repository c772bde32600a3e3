//! Tests of splice sections: the sample messages of SCTE 35 with the values that `threefive` 3.1.5 decodes from them, and
//! random ones against the crate `scte35-reader`.

use std::cell::RefCell;

use mpeg2ts_reader::psi::{SectionCommonHeader, WholeCompactSyntaxPayloadParser};
use mpeg2ts_reader::{demultiplex, demux_context};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use scte35_reader::{Scte35SectionProcessor, SpliceCommand, SpliceDescriptors, SpliceInfoHeader, SpliceInfoProcessor};
use serde_json::{Value, json};

use super::*;
use crate::engine::media::mpegts::build;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A section with this command and these descriptors.
fn section(pts_adjustment: u64, kind: u8, command: &[u8], descriptors: &[u8]) -> Vec<u8> {
    let length = command.len() as u16;
    let mut body = vec![0];
    body.extend(&pts_adjustment.to_be_bytes()[3..]);
    body.extend([0xff, 0xff, 0xf0 | (length >> 8) as u8, length as u8, kind]);
    body.extend(command);
    body.extend((descriptors.len() as u16).to_be_bytes());
    body.extend(descriptors);
    build::short_with_crc(TABLE_ID, &body)
}

fn descriptor(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag, 4 + body.len() as u8][..], b"CUEI", body].concat()
}

/// Seconds as `threefive` prints them, from 90 kHz.
fn seconds(ticks: u64) -> f64 {
    (ticks as f64 / 90_000.0 * 1e6).round() / 1e6
}

#[test]
fn the_sample_time_signals_are_read() {
    // Section, time in seconds, and event, type, duration in seconds and airing id of each segmentation.
    type Expected = (&'static str, f64, &'static [(u32, u8, Option<f64>, u64)]);
    let samples: [Expected; 7] = [
        (
            "fc3034000000000000fffff00506fe72bd0050001e021c435545494800008e7fcf0001a599b00808000000002ca0a18a3402009ac9d17e",
            21388.766756,
            &[(0x4800_008e, 52, Some(307.0), 0x2ca0_a18a)],
        ),
        (
            "fc302f000000000000fffff00506fe746290a000190217435545494800008e7f9f0808000000002ca0a18a350200a9cc6758",
            21695.740089,
            &[(0x4800_008e, 53, None, 0x2ca0_a18a)],
        ),
        (
            "fc3048000000000000fffff00506fe7a4d88b60032021743554549480000187f9f0808000000002ccbc34411000002174355454948\
             0000197f9f0808000000002ca4dba01000009972e343",
            22798.906911,
            &[
                (0x4800_0018, 17, None, 0x2ccb_c344),
                (0x4800_0019, 16, None, 0x2ca4_dba0),
            ],
        ),
        (
            "fc302f000000000000fffff00506feaebfff640019021743554549480000087f9f0808000000002ca56cf5170000951db0a8",
            32575.759333,
            &[(0x4800_0008, 23, None, 0x2ca5_6cf5)],
        ),
        (
            "fc3048000000000000fffff00506fe932e380b00320217435545494800000a7f9f0808000000002ca0a1e318000002174355454948\
             0000097f9f0808000000002ca0a18a110000b4217eb0",
            27436.441722,
            &[
                (0x4800_000a, 24, None, 0x2ca0_a1e3),
                (0x4800_0009, 17, None, 0x2ca0_a18a),
            ],
        ),
        (
            "fc302f000000000000fffff00506feaef17c4c0019021743554549480000077f9f0808000000002ca56c97110000c4876a2e",
            32611.795333,
            &[(0x4800_0007, 17, None, 0x2ca5_6c97)],
        ),
        (
            "fc3061000000000000fffff00506fea8cd44ed004b021743554549480000ad7f9f0808000000002cb2d79d35020002174355454948\
             0000267f9f0808000000002cb2d79d110000021743554549480000277f9f0808000000002cb2d7b31000008a18869f",
            31466.942367,
            &[
                (0x4800_00ad, 53, None, 0x2cb2_d79d),
                (0x4800_0026, 17, None, 0x2cb2_d79d),
                (0x4800_0027, 16, None, 0x2cb2_d7b3),
            ],
        ),
    ];
    for (hex, time, segmentations) in samples {
        let info = SpliceInfo::read(&bytes(hex)).unwrap();
        let Command::TimeSignal(Some(pts)) = info.command else {
            panic!("{:?}", info.command)
        };
        assert_eq!((seconds(pts), info.tier, info.pts_adjustment), (time, 0xfff, 0));
        let read: Vec<_> = info
            .segmentations()
            .map(|segmentation| {
                let detail = segmentation.detail.as_ref().unwrap();
                assert_eq!((detail.upid_type, &detail.components), (8, &None));
                assert!(
                    detail
                        .delivery
                        .is_some_and(|d| d.no_regional_blackout && d.archive_allowed && d.device_restrictions == 3)
                );
                let airing = u64::from_be_bytes(detail.upid[..].try_into().unwrap());
                (
                    segmentation.event_id,
                    detail.type_id,
                    detail.duration.map(seconds),
                    airing,
                )
            })
            .collect();
        assert_eq!(read, segmentations);
    }
}

#[test]
fn the_sample_splice_insert_is_read() {
    let hex = "fc302f000000000000fffff014054800008f7feffe7369c02efe0052ccf500000000000a0008435545490000013562dba30a";
    let info = SpliceInfo::read(&bytes(hex)).unwrap();
    let Command::Insert(Insert {
        event_id,
        detail: Some(detail),
    }) = &info.command
    else {
        panic!("{:?}", info.command)
    };
    assert_eq!(*event_id, 1_207_959_695);
    assert!(detail.out_of_network && detail.whole_programme && !detail.immediate);
    let duration = detail.duration.unwrap();
    assert_eq!(
        (detail.time.map(seconds), seconds(duration.duration)),
        (Some(21514.559089), 60.293567)
    );
    assert!(duration.auto_return);
    assert_eq!(
        (detail.unique_program_id, detail.avail_num, detail.avails_expected),
        (0, 0, 0)
    );
    assert_eq!(info.descriptors, [Descriptor::Avail { provider_avail_id: 309 }]);
}

#[test]
fn a_splice_null_is_read() {
    let info = SpliceInfo::read(&bytes("fc301100000000000000fff0000000007a4fbfff")).unwrap();
    assert_eq!((info.command, info.descriptors.len()), (Command::Null, 0));
}

#[test]
fn every_bit_is_guarded() {
    let good = bytes("fc302500000000000000fff01405000000017feffe2d142b00fe0123d3080001010100007f157a49");
    assert!(SpliceInfo::read(&good).is_ok());
    for bit in 24..good.len() * 8 {
        let mut other = good.clone();
        other[bit / 8] ^= 0x80 >> (bit % 8);
        assert_eq!(SpliceInfo::read(&other), Err(Error::Section(SectionError::Crc)));
    }
    assert_eq!(SpliceInfo::read(&good[..30]), Err(Error::Section(SectionError::Length)));
}

#[test]
fn adjustment_wraps() {
    let info = SpliceInfo::read(&section((1 << 33) - 90_000, 6, &[0xfe, 0, 0x01, 0x5f, 0x90], &[])).unwrap();
    assert_eq!((info.pts_adjustment, info.adjusted(90_000)), ((1 << 33) - 90_000, 0));
    assert_eq!(info.adjusted(0), (1 << 33) - 90_000);
}

#[test]
fn an_encrypted_section_tells_its_header_only() {
    let mut body = vec![0, 0x80 | 2 << 1, 0, 0, 0, 9, 0x2a, 0xff, 0xf0, 0x05];
    body.extend([0xaa; 30]);
    let info = SpliceInfo::read(&build::short_with_crc(TABLE_ID, &body)).unwrap();
    assert_eq!(
        (info.encryption, info.cw_index, info.pts_adjustment),
        (Some(2), 0x2a, 9)
    );
    assert_eq!((info.command, info.descriptors), (Command::Encrypted, vec![]));
}

#[test]
fn other_protocols_and_tables_are_refused() {
    let mut body = section(0, 0, &[], &[])[3..17].to_vec();
    body[0] = 1;
    assert_eq!(
        SpliceInfo::read(&build::short_with_crc(TABLE_ID, &body)),
        Err(Error::ProtocolVersion(1))
    );
    assert_eq!(
        SpliceInfo::read(&build::short_with_crc(0x73, &body)),
        Err(Error::NotSplice)
    );
    assert_eq!(
        SpliceInfo::read(&build::long(TABLE_ID, 0, 0, (0, 0), &body)),
        Err(Error::NotSplice)
    );
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let immediate = [0, 0, 0, 1, 0x7f, 0xdf, 0, 1, 0, 0];
    assert!(SpliceInfo::read(&section(0, 5, &immediate, &[])).is_ok());
    let longer = [&immediate[..], &[0]].concat();
    let refused = SpliceInfo::read(&section(0, 5, &longer, &[]));
    assert_eq!(refused, Err(Error::CommandLength { said: 11, read: 10 }));
    for length in 0..immediate.len() {
        let refused = SpliceInfo::read(&section(0, 5, &immediate[..length], &[]));
        assert!(matches!(refused, Err(Error::CutShort(_))), "{length}: {refused:?}");
    }
    let segmentation = descriptor(2, &[0, 0, 0, 1, 0x7f, 0xbf, 0, 0, 0x30, 1, 1]);
    assert!(SpliceInfo::read(&section(0, 0, &[], &segmentation)).is_ok());
    for length in 1..segmentation.len() {
        let refused = SpliceInfo::read(&section(0, 0, &[], &segmentation[..length]));
        assert!(matches!(refused, Err(Error::CutShort(_))), "{length}: {refused:?}");
    }
}

#[test]
fn a_command_of_unknown_length_is_read_as_far_as_it_goes() {
    let mut good = section(0, 6, &[0xfe, 0, 0, 0, 1], &descriptor(0, &[0, 0, 0, 7]));
    (good[11], good[12]) = (0xff, 0xff);
    let end = good.len() - 4;
    let good = build::short_with_crc(TABLE_ID, &good[3..end]);
    let info = SpliceInfo::read(&good).unwrap();
    assert_eq!(info.command, Command::TimeSignal(Some(1)));
    assert_eq!(info.descriptors, [Descriptor::Avail { provider_avail_id: 7 }]);
}

#[test]
fn a_schedule_is_read() {
    let command = [
        &[2_u8, 0, 0, 0, 9, 0xff][..],
        &[
            0, 0, 0, 8, 0x7f, 0xaf, 2, 1, 0, 0, 0, 50, 2, 0, 0, 0, 60, 0x80, 0, 1, 0x5f, 0x90, 0, 3, 1, 2,
        ],
    ]
    .concat();
    let info = SpliceInfo::read(&section(0, 4, &command, &[])).unwrap();
    let detail = ScheduleDetail {
        out_of_network: true,
        time: ScheduleTime::Components(vec![(1, 50), (2, 60)]),
        duration: Some(BreakDuration {
            auto_return: true,
            duration: 90_000,
        }),
        unique_program_id: 3,
        avail_num: 1,
        avails_expected: 2,
    };
    let events = vec![
        Schedule {
            event_id: 9,
            detail: None,
        },
        Schedule {
            event_id: 8,
            detail: Some(detail),
        },
    ];
    assert_eq!(info.command, Command::Schedule(events));
}

#[test]
fn the_other_descriptors_are_read() {
    let descriptors = [
        descriptor(1, &[177, 0x9f, b'1', b'2', b'1', b'*']),
        descriptor(3, &[0, 0, 0x61, 0x2e, 0, 0, 0, 0, 0, 5, 0, 37]),
        descriptor(4, &[0x1f, 7, b'e', b'n', b'g', 0b0100_0101]),
        descriptor(2, &[0, 0, 0, 1, 0xff]),
        b"\xf0\x06PRIVab".to_vec(),
    ]
    .concat();
    let info = SpliceInfo::read(&section(0, 0, &[], &descriptors)).unwrap();
    assert_eq!(
        info.descriptors,
        [
            Descriptor::Dtmf {
                preroll: 177,
                digits: b"121*"[..].into()
            },
            Descriptor::Time {
                tai_seconds: 0x612e_0000,
                tai_nanoseconds: 5,
                utc_offset: 37
            },
            Descriptor::Audio(vec![AudioComponent {
                tag: 7,
                language: *b"eng",
                bit_stream_mode: 2,
                channels: 2,
                full_service: true
            }]),
            Descriptor::Segmentation(Box::new(Segmentation {
                event_id: 1,
                detail: None
            })),
            Descriptor::Other {
                tag: 0xf0,
                identifier: *b"PRIV",
                bytes: b"ab"[..].into()
            },
        ]
    );
}

demux_context!(OracleContext, demultiplex::NullPacketFilter<OracleContext>);
impl OracleContext {
    fn do_construct(&mut self, _: demultiplex::FilterRequest<'_, '_>) -> demultiplex::NullPacketFilter<OracleContext> {
        demultiplex::NullPacketFilter::default()
    }
}

/// Command and descriptors as `scte35-reader` reads them.
struct Oracle<'a>(&'a RefCell<Option<(Value, Vec<Value>)>>);

impl SpliceInfoProcessor for Oracle<'_> {
    fn process(&self, _: SpliceInfoHeader<'_>, command: SpliceCommand, descriptors: SpliceDescriptors<'_>) {
        let descriptors = descriptors
            .into_iter()
            .map(|descriptor| serde_json::to_value(descriptor.ok()).unwrap());
        *self.0.borrow_mut() = Some((serde_json::to_value(command).unwrap(), descriptors.collect()));
    }
}

fn oracle(bytes: &[u8]) -> Option<(Value, Vec<Value>)> {
    let read = RefCell::new(None);
    let header = SectionCommonHeader::new(&bytes[..SectionCommonHeader::SIZE]);
    Scte35SectionProcessor::new(Oracle(&read)).section(&mut OracleContext::new(), &header, bytes);
    read.into_inner()
}

/// Ours in the oracle's words.
fn command_in_words(command: &Command) -> Value {
    let time = |immediate: bool, time: SpliceTime| {
        if immediate {
            json!("Immediate")
        } else {
            json!({ "Timed": time })
        }
    };
    match command {
        Command::Null => json!({ "SpliceNull": {} }),
        Command::BandwidthReservation => json!({ "BandwidthReservation": {} }),
        Command::TimeSignal(at) => json!({ "TimeSignal": { "splice_time": time(false, *at) } }),
        Command::Private { identifier, bytes } => {
            json!({ "PrivateCommand": { "identifier": identifier, "private_bytes": bytes.to_vec() } })
        }
        Command::Insert(insert) => {
            let detail = insert.detail.as_ref().map_or(json!("Cancel"), |detail| {
                let components = detail.components.iter().map(|component| {
                    json!({ "component_tag": component.tag, "splice_time": time(detail.immediate, component.time) })
                });
                let mode = match detail.whole_programme {
                    true => json!({ "Program": time(detail.immediate, detail.time) }),
                    false => json!({ "Components": components.collect::<Vec<_>>() }),
                };
                json!({ "Insert": {
                    "network_indicator": if detail.out_of_network { "Out" } else { "In" },
                    "splice_mode": mode,
                    "duration": detail.duration.map(|duration| json!({
                        "return_mode": if duration.auto_return { "Automatic" } else { "Manual" },
                        "duration": duration.duration,
                    })),
                    "unique_program_id": detail.unique_program_id,
                    "avail_num": detail.avail_num,
                    "avails_expected": detail.avails_expected,
                } })
            });
            json!({ "SpliceInsert": { "splice_event_id": insert.event_id, "reserved": 0x7f, "splice_detail": detail } })
        }
        other => panic!("the oracle does not know {other:?}"),
    }
}

/// What the oracle says of a segmentation, without the fields that it puts into words of its own.
fn segmentation_in_numbers(value: &Value) -> Value {
    let descriptor = &value["SegmentationDescriptor"];
    let detail = &descriptor["descriptor_detail"]["Insert"];
    let restrictions = &detail["delivery_restrictions"]["DeliveryRestrictions"];
    let components = detail["segmentation_mode"]["Component"]["components"]
        .as_array()
        .map(|components| {
            components
                .iter()
                .map(|component| json!([component["component_tag"], component["pts_offset"]]))
                .collect::<Vec<_>>()
        });
    json!([
        descriptor["segmentation_event_id"],
        restrictions["web_delivery_allowed_flag"],
        components,
        detail["segmentation_duration"],
        detail["segment_num"],
        detail["segments_expected"],
        detail["sub_segments"]["sub_segment_num"],
        detail["sub_segments"]["sub_segments_expected"],
        detail["segmentation_upid"]["Reserved"][1],
    ])
}

fn in_numbers(segmentation: &Segmentation) -> Value {
    let detail = segmentation.detail.as_ref();
    let upid = detail
        .map(|detail| detail.upid.to_vec())
        .filter(|upid| !upid.is_empty());
    json!([
        segmentation.event_id,
        detail.and_then(|d| d.delivery).map(|d| d.web_allowed),
        detail.and_then(|d| d.components.clone()),
        detail.and_then(|d| d.duration),
        detail.map(|d| d.segment),
        detail.map(|d| d.segments_expected),
        detail.and_then(|d| d.sub_segment).map(|sub| sub.0),
        detail.and_then(|d| d.sub_segment).map(|sub| sub.1),
        upid,
    ])
}

fn time_bytes(time: Option<u64>) -> Vec<u8> {
    time.map_or(vec![0x7f], |time| (0xfe << 32 | time).to_be_bytes()[3..].to_vec())
}

prop_compose! {
    fn insert_bytes()(
        event: u32, cancel in prop::bool::weighted(0.1), out: bool, immediate: bool, time in option::of(0..1_u64 << 33),
        components in option::of(vec((any::<u8>(), option::of(0..1_u64 << 33)), 0..5)),
        duration in option::of((any::<bool>(), 0..1_u64 << 33)), program: u16, avail: (u8, u8),
    ) -> Vec<u8> {
        let mut bytes = event.to_be_bytes().to_vec();
        bytes.push(if cancel { 0xff } else { 0x7f });
        if cancel {
            return bytes;
        }
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        bytes.push(flag(out, 0x80) | flag(components.is_none(), 0x40) | flag(duration.is_some(), 0x20) | flag(immediate, 0x10) | 0x0f);
        match components {
            None if !immediate => bytes.extend(time_bytes(time)),
            None => {}
            Some(components) => {
                bytes.push(components.len() as u8);
                for (tag, time) in components {
                    bytes.push(tag);
                    if !immediate {
                        bytes.extend(time_bytes(time));
                    }
                }
            }
        }
        if let Some((auto_return, duration)) = duration {
            bytes.extend(&(u64::from(flag(auto_return, 0x80) | 0x7e) << 32 | duration).to_be_bytes()[3..]);
        }
        bytes.extend(program.to_be_bytes());
        bytes.extend([avail.0, avail.1]);
        bytes
    }
}

prop_compose! {
    // A upid_type that is reserved, so that the oracle keeps the bytes as they are.
    fn segmentation_bytes()(
        event: u32, delivery in option::of(0_u8..32), components in option::of(vec((any::<u8>(), 0..1_u64 << 33), 0..4)),
        duration in option::of(0..1_u64 << 40), upid in vec(any::<u8>(), 0..30),
        type_id in prop::sample::select(vec![0x10_u8, 0x22, 0x30, 0x34, 0x36, 0x44]), numbers: [u8; 2], sub in option::of(any::<[u8; 2]>()),
    ) -> Vec<u8> {
        let mut bytes = event.to_be_bytes().to_vec();
        bytes.push(0x7f);
        let program = if components.is_none() { 0x80 } else { 0 };
        bytes.push(program | if duration.is_some() { 0x40 } else { 0 } | delivery.unwrap_or(0x3f));
        if let Some(components) = components {
            bytes.push(components.len() as u8);
            for (tag, offset) in components {
                bytes.push(tag);
                bytes.extend(&(0xfe << 32 | offset).to_be_bytes()[3..]);
            }
        }
        bytes.extend(duration.iter().flat_map(|duration| duration.to_be_bytes()[3..].to_vec()));
        bytes.extend([0x40, upid.len() as u8]);
        bytes.extend(upid);
        bytes.push(type_id);
        bytes.extend(numbers);
        bytes.extend(sub.iter().flatten().filter(|_| type_id >= 0x30));
        descriptor(2, &bytes)
    }
}

proptest! {
    #[test]
    fn splice_inserts_are_read_as_the_oracle_reads_them(command in insert_bytes(), adjustment in 0..1_u64 << 33) {
        let bytes = section(adjustment, 5, &command, &[]);
        let info = SpliceInfo::read(&bytes).unwrap();
        let (expected, _) = oracle(&bytes).unwrap();
        prop_assert_eq!(command_in_words(&info.command), expected);
        prop_assert_eq!(info.pts_adjustment, adjustment);
    }

    #[test]
    fn segmentations_are_read_as_the_oracle_reads_them(
        time in option::of(0..1_u64 << 33), descriptors in vec(segmentation_bytes(), 0..6)
    ) {
        let bytes = section(0, 6, &time_bytes(time), &descriptors.concat());
        let info = SpliceInfo::read(&bytes).unwrap();
        let (expected, segmentations) = oracle(&bytes).unwrap();
        prop_assert_eq!(command_in_words(&info.command), expected);
        let read: Vec<_> = info.segmentations().map(in_numbers).collect();
        prop_assert_eq!(read, segmentations.iter().map(segmentation_in_numbers).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_the_oracle_reads_whole_is_read_alike(
        kind in prop::sample::select(vec![0_u8, 5, 6, 7, 0xff]), command in vec(any::<u8>(), 0..30)
    ) {
        let bytes = section(0, kind, &command, &[]);
        match (SpliceInfo::read(&bytes), oracle(&bytes)) {
            (Ok(info), Some((mut expected, _))) => {
                // It keeps these bits, which mean nothing.
                if let Some(reserved) = expected.pointer_mut("/SpliceInsert/reserved") {
                    *reserved = json!(0x7f);
                }
                prop_assert_eq!(command_in_words(&info.command), expected);
            }
            // The oracle only logs bytes left over.
            (Err(Error::CommandLength { .. }), _) | (Err(_), None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} but {theirs:?}"),
        }
    }

    #[test]
    fn arbitrary_bytes_are_harmless(kind: u8, command in vec(any::<u8>(), 0..80), descriptors in vec(any::<u8>(), 0..80)) {
        let _ = SpliceInfo::read(&section(0, kind, &command, &descriptors));
        let _ = SpliceInfo::read(&section(0, 0, &[], &[&[2, descriptors.len() as u8][..], b"CUEI", &descriptors].concat()));
        let _ = SpliceInfo::read(&build::short_with_crc(TABLE_ID, &command));
        let _ = SpliceInfo::read(&command);
    }
}
