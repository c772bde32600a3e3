//! Tests of service information; the dates are those of EN 300 468 Annex C.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::build::{long, short, short_with_crc};
use super::*;

#[test]
fn the_time_of_the_standards_example_is_read() {
    // Annex C: 93/10/13 12:45:00 is 0xC079124500.
    let bytes = short(TDT, &[0xc0, 0x79, 0x12, 0x45, 0x00]);
    assert_eq!(time(&Section::read(&bytes).unwrap()), Ok(750_516_300));
    let bytes = short_with_crc(TOT, &[0xc0, 0x79, 0x12, 0x45, 0x00, 0xf0, 0x02, 0x58, 0x00]);
    assert_eq!(time(&Section::read(&bytes).unwrap()), Ok(750_516_300));
}

#[test]
fn digits_that_are_no_time_are_refused() {
    for digits in [[0x24, 0x00, 0x00], [0x12, 0x60, 0x00], [0x1a, 0x00, 0x00], [0xff; 3]] {
        let bytes = short(TDT, &[&[0xc0, 0x79][..], &digits].concat());
        assert_eq!(time(&Section::read(&bytes).unwrap()), Err(TableSyntaxError::Value));
    }
    let bytes = short(TDT, &[0xc0, 0x79, 0x12, 0x45]);
    assert_eq!(time(&Section::read(&bytes).unwrap()), Err(TableSyntaxError::TooShort));
    let bytes = short_with_crc(TOT, &[0xc0, 0x79, 0x12, 0x45, 0x00, 0xf0, 0x03, 0x58, 0x00]);
    assert_eq!(time(&Section::read(&bytes).unwrap()), Err(TableSyntaxError::Loop));
}

#[test]
fn services_and_their_names_are_read() {
    let descriptor = [&[0x48, 13, 0x01, 3][..], b"BBC", &[7], b"\x15N\xc3\xa9ws1"].concat();
    let mut body = vec![0x23, 0x3a, 0xff, 0x12, 0x34, 0xfd, 0x90, descriptor.len() as u8];
    body.extend(&descriptor);
    let bytes = long(0x42, 0x1000, 0, (0, 0), &body);
    let sdt = Sdt::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!((sdt.transport_stream_id, sdt.original_network_id), (0x1000, 0x233a));
    let services: Vec<_> = sdt.services().collect();
    let [service] = services.as_slice() else {
        panic!("{services:?}")
    };
    assert_eq!(
        (
            service.id,
            service.running_status,
            service.scrambled,
            service.present_following
        ),
        (0x1234, 4, true, true)
    );
    assert_eq!(service.name().as_deref(), Some("Néws1"));
    assert!(Sdt::read(&Section::read(&long(0x42, 1, 0, (0, 0), &body[..20])).unwrap()).is_err());
}

#[test]
fn text_of_other_tables_keeps_its_plain_part() {
    assert_eq!(text(b"Caf\xe9 \x861\x87"), "Caf? 1");
    assert_eq!(text(b"\x05Kanal\xf6"), "Kanal?");
    assert_eq!(text(b"\x10\x00\x02abc"), "abc");
    assert_eq!(text(b""), "");
}

#[test]
fn the_network_is_named() {
    let bytes = long(0x40, 0x3001, 0, (0, 0), &[0xf0, 5, 0x40, 3, b'N', b'e', b't', 0xf0, 0]);
    let nit = Nit::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!((nit.network_id, nit.name().as_deref()), (0x3001, Some("Net")));
    let bytes = long(0x40, 0x3001, 0, (0, 0), &[0xf0, 0, 0xf0, 1]);
    assert_eq!(
        Nit::read(&Section::read(&bytes).unwrap()).map(|_| ()),
        Err(TableSyntaxError::Loop)
    );
}

#[test]
fn present_and_following_events_are_read() {
    let event = [0x00, 0x2a, 0xc0, 0x79, 0x12, 0x45, 0x00, 0x01, 0x30, 0x15, 0x80, 0x00];
    let undefined = [0x00, 0x2b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10, 0x00];
    let body = [&[0, 1, 0, 2, 0, 0x4e][..], &event, &undefined].concat();
    let bytes = long(0x4e, 9, 0, (0, 1), &body);
    let eit = Eit::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!(
        (eit.service_id, eit.transport_stream_id, eit.original_network_id),
        (9, 1, 2)
    );
    let events: Vec<_> = eit.events().collect();
    assert_eq!(
        events,
        [
            Event {
                id: 42,
                start: Some(750_516_300),
                duration: Some(5_415),
                running_status: 4,
                scrambled: false
            },
            Event {
                id: 43,
                start: None,
                duration: None,
                running_status: 0,
                scrambled: true
            },
        ]
    );
}

proptest! {
    #[test]
    fn arbitrary_bodies_are_harmless(
        table_id in prop::sample::select(vec![0x40_u8, 0x41, 0x42, 0x46, 0x4e, 0x70, 0x73]), body in vec(any::<u8>(), 0..200)
    ) {
        let long = long(table_id, 1, 0, (0, 0), &body);
        let section = Section::read(&long).unwrap();
        let _ = Nit::read(&section).map(|nit| nit.name());
        let services = Sdt::read(&section).map_or(0, |sdt| sdt.services().inspect(|service| drop(service.name())).count());
        let events = Eit::read(&section).map_or(0, |eit| eit.events().count());
        prop_assert!(services * 5 <= body.len() && events * 12 <= body.len());
        let short = if table_id == TDT { short(table_id, &body) } else { short_with_crc(TOT, &body) };
        let _ = time(&Section::read(&short).unwrap());
    }

    #[test]
    fn every_second_of_a_day_is_read(day in 40_587_i64..65_536, second in 0_u32..86_400) {
        let bcd = |value: u32| ((value / 10) << 4 | (value % 10)) as u8;
        let [m0, m1] = (day as u16).to_be_bytes();
        let field = [m0, m1, bcd(second / 3600), bcd(second / 60 % 60), bcd(second % 60)];
        prop_assert_eq!(utc(field), Some((day - 40_587) * 86_400 + i64::from(second)));
    }
}
