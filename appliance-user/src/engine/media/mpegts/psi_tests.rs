//! Tests of PAT, CAT and PMT, against the crate `mpeg2ts-reader`.

use mpeg2ts_reader::descriptor::CoreDescriptors;
use mpeg2ts_reader::psi::pat::{PatSection, ProgramDescriptor};
use mpeg2ts_reader::psi::pmt::PmtSection;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::build::{long, pat, pmt};
use super::*;

#[test]
fn a_pat_lists_programmes_and_the_network() {
    let bytes = pat(3, (0, 0), &[(0, 0x10), (1, 0x100), (0xffff, 0x1ffe)]);
    let pat = Pat::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!(pat.programmes().collect::<Vec<_>>(), [(1, 0x100), (0xffff, 0x1ffe)]);
    assert_eq!((pat.network_pid(), pat.transport_stream_id), (Some(0x10), 1));
}

#[test]
fn a_pmt_lists_components() {
    let bytes = pmt(
        7,
        2,
        0x1fff,
        b"\x05\x04CUEI",
        &[(0x1b, 0x100, &[]), (0x0f, 0x101, &[0x0a, 4, b'f', b'r', b'a', 0])],
    );
    let pmt = Pmt::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!((pmt.programme, pmt.version, pmt.pcr_pid), (7, 2, None));
    assert!(pmt.descriptors.register_splice_information() && pmt.has_sound_descriptors());
    let components: Vec<_> = pmt
        .components()
        .map(|c| (c.stream_type, c.pid, c.descriptors.language()))
        .collect();
    assert_eq!(components, [(0x1b, 0x100, None), (0x0f, 0x101, Some(*b"fra"))]);
}

#[test]
fn a_cat_names_emm_pids() {
    let bytes = long(0x01, 0xffff, 0, (0, 0), &[0x09, 4, 0x06, 0x04, 0xe1, 0x00]);
    let cat = Cat::read(&Section::read(&bytes).unwrap()).unwrap();
    assert_eq!(cat.descriptors.ca_pids().collect::<Vec<_>>(), [0x100]);
}

#[test]
fn what_is_no_such_table_is_named() {
    let refused = |bytes: Vec<u8>| Pmt::read(&Section::read(&bytes).unwrap()).map(|_| ());
    assert_eq!(refused(pat(0, (0, 0), &[])), Err(TableSyntaxError::TableId));
    assert_eq!(
        refused(long(0x02, 1, 0, (0, 0), &[0xe1, 0, 0xf0])),
        Err(TableSyntaxError::TooShort)
    );
    assert_eq!(
        refused(long(0x02, 1, 0, (0, 0), &[0xe1, 0, 0xf0, 1])),
        Err(TableSyntaxError::Loop)
    );
    assert_eq!(
        refused(long(0x02, 1, 0, (0, 0), &[0xe1, 0, 0xf0, 0, 0x1b])),
        Err(TableSyntaxError::Loop)
    );
    assert_eq!(
        refused(long(0x02, 1, 0, (0, 1), &[0xe1, 0, 0xf0, 0])),
        Err(TableSyntaxError::SectionNumber)
    );
    let short = super::super::build::short(0x02, &[0xe1, 0, 0xf0, 0]);
    assert_eq!(refused(short), Err(TableSyntaxError::Syntax));
    let odd = long(0x00, 1, 0, (0, 0), &[0, 1, 0xe1]);
    assert_eq!(
        Pat::read(&Section::read(&odd).unwrap()).map(|_| ()),
        Err(TableSyntaxError::Loop)
    );
}

/// The PMT as `mpeg2ts-reader` reads it: PCR PID, and stream_type, PID and descriptor tags of each component.
fn pmt_of_oracle(bytes: &[u8]) -> (u16, Vec<(u8, u16, usize)>) {
    let pmt = PmtSection::from_bytes(&bytes[8..bytes.len() - 4]).unwrap();
    let components = pmt.streams().map(|stream| {
        let descriptors = stream.descriptors::<CoreDescriptors<'_>>().count();
        (
            u8::from(stream.stream_type()),
            u16::from(stream.elementary_pid()),
            descriptors,
        )
    });
    (u16::from(pmt.pcr_pid()), components.collect())
}

proptest! {
    #[test]
    fn pats_are_read_as_the_oracle_reads_them(entries in vec((any::<u16>(), 0_u16..0x2000), 0..60)) {
        let bytes = pat(1, (0, 0), &entries);
        let section = Section::read(&bytes).unwrap();
        let pat = Pat::read(&section).unwrap();
        let oracle = PatSection::new(section.body());
        let expected = oracle.programs().filter_map(|entry| match entry {
            ProgramDescriptor::Program { program_number, pid } => Some((program_number, u16::from(pid))),
            ProgramDescriptor::Network { .. } => None,
        });
        prop_assert_eq!(pat.programmes().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn pmts_are_read_as_the_oracle_reads_them(
        pcr in 0_u16..0x1fff, components in vec((any::<u8>(), 0_u16..0x2000, vec((any::<u8>(), 0_u8..9), 0..4)), 0..30)
    ) {
        let loops: Vec<Vec<u8>> = components.iter().map(|(_, _, descriptors)| {
            descriptors.iter().flat_map(|(tag, length)| [vec![*tag, *length], vec![0x55; usize::from(*length)]].concat()).collect()
        }).collect();
        let listed: Vec<_> = components.iter().zip(&loops).map(|((kind, pid, _), bytes)| (*kind, *pid, bytes.as_slice())).collect();
        let bytes = pmt(1, 0, pcr, &[], &listed);
        let pmt = Pmt::read(&Section::read(&bytes).unwrap()).unwrap();
        let read: Vec<_> = pmt.components().map(|c| (c.stream_type, c.pid, c.descriptors.count())).collect();
        prop_assert_eq!((pmt.pcr_pid.unwrap(), read), pmt_of_oracle(&bytes));
    }

    #[test]
    fn arbitrary_bodies_are_harmless(table_id in 0_u8..3, numbers: (u8, u8), body in vec(any::<u8>(), 0..300)) {
        let bytes = long(table_id, 1, 0, numbers, &body);
        let section = Section::read(&bytes).unwrap();
        if let Ok(pmt) = Pmt::read(&section) {
            let read: usize = pmt.components().map(|_| 5).sum();
            prop_assert!(read <= body.len());
            let _ = pmt.has_sound_descriptors();
        }
        if let Ok(pat) = Pat::read(&section) {
            prop_assert!(pat.programmes().count() * 4 <= body.len());
        }
        let _ = Cat::read(&section).map(|cat| cat.descriptors.is_sound());
    }
}
