//! Tests of the tables: roles, changes, and what a hostile sender can do to them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::programme::{MAX_COMPONENTS, MAX_PROGRAMMES};
use super::*;
use crate::engine::media::mpegts::build::{long, packets, pat, pmt, short, short_with_crc};

const CUEI: &[u8] = b"\x05\x04CUEI";
/// A splice_null.
const NULL_BODY: [u8; 13] = [0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xf0, 0, 0, 0, 0];

/// Tables and the counters of the PIDs that feed them.
#[derive(Default)]
struct Feed {
    tables: Tables,
    counters: std::collections::HashMap<u16, u8>,
    now: Timestamp,
}

impl Feed {
    fn packets(&mut self, pid: u16, sections: &[&[u8]]) -> Vec<[u8; PACKET_SIZE]> {
        packets(pid, sections, self.counters.entry(pid).or_default())
    }

    /// Sends sections and gives everything that was told of them but that they came.
    fn send(&mut self, pid: u16, sections: &[&[u8]]) -> Vec<TableEvent> {
        let mut told = self.send_all(pid, sections);
        told.retain(|event| !matches!(event, TableEvent::Section { .. }));
        told
    }

    fn send_all(&mut self, pid: u16, sections: &[&[u8]]) -> Vec<TableEvent> {
        let mut told = Vec::new();
        for packet in self.packets(pid, sections) {
            self.now = self.now.after(core::time::Duration::from_millis(10));
            self.tables
                .section_packet(self.now, pid, &packet, false, &mut |event| told.push(event));
        }
        told
    }

    /// Components and heap bytes of the programmes, as they are kept.
    fn books(&self) -> (usize, usize) {
        (self.tables.components, self.tables.described)
    }

    /// The same, counted anew.
    fn recounted(&self) -> (usize, usize) {
        let programmes = || self.tables.programmes();
        let components = programmes().map(|programme| programme.components.len()).sum();
        (components, programmes().map(Programme::memory).sum())
    }

    /// A programme with video, audio, and splice information announced as such.
    fn programme() -> Self {
        let mut feed = Feed::default();
        feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000)])]);
        feed.send(
            0x1000,
            &[&pmt(
                1,
                0,
                0x100,
                CUEI,
                &[(0x1b, 0x100, &[]), (0x0f, 0x101, &[]), (0x86, 0x102, &[])],
            )],
        );
        feed
    }
}

fn added(pid: u16, stream_type: u8, initial: bool) -> TableEvent {
    TableEvent::ComponentAdded {
        programme: 1,
        pid,
        stream_type,
        initial,
    }
}

fn removed(pid: u16, stream_type: u8) -> TableEvent {
    TableEvent::ComponentRemoved {
        programme: 1,
        pid,
        stream_type,
    }
}

#[test]
fn roles_follow_pat_and_pmt() {
    let mut feed = Feed::default();
    assert_eq!(feed.tables.role(0x1000), Role::Unreferenced);
    let told = feed.send(0, &[&pat(5, (0, 0), &[(0, 0x1f0), (1, 0x1000)])]);
    assert_eq!(
        told,
        [TableEvent::PatChanged {
            version: 5,
            programmes: 1,
            initial: true
        }]
    );
    assert_eq!(
        (feed.tables.role(0x1000), feed.tables.role(0x1f0)),
        (Role::Pmt, Role::Table)
    );
    let descriptors = [0x09, 4, 0x06, 0x04, 0xe2, 0x00];
    let told = feed.send(
        0x1000,
        &[&pmt(
            1,
            0,
            0x1ff,
            &descriptors,
            &[(0x1b, 0x100, &[]), (0x86, 0x102, CUEI), (0x86, 0x103, &[])],
        )],
    );
    assert_eq!(
        told,
        [
            added(0x100, 0x1b, true),
            added(0x102, 0x86, true),
            added(0x103, 0x86, true)
        ]
    );
    let expected = [
        (0x100, Role::Component(0x1b)),
        (0x102, Role::Splice),
        (0x103, Role::Component(0x86)),
        (0x1ff, Role::PcrOnly),
        (0x200, Role::Ca),
        (0x1fff, Role::Null),
        (0, Role::Table),
        (0x12, Role::Table),
        (0x1234, Role::Unreferenced),
    ];
    for (pid, role) in expected {
        assert_eq!(feed.tables.role(pid), role, "{pid:#x}");
    }
    assert!(feed.tables.is_pcr_pid(0x1ff) && !feed.tables.is_pcr_pid(0x100));
}

#[test]
fn a_repeated_table_tells_nothing_and_changes_nothing() {
    let mut feed = Feed::programme();
    let generation = feed.tables.generation();
    let told = feed.send_all(0, &[&pat(0, (0, 0), &[(1, 0x1000)])]);
    let expected = TableEvent::Section {
        pid: 0,
        table_id: 0,
        extension: 1,
        version: 0,
        current: true,
        number: 0,
        last_number: 0,
    };
    assert_eq!(told, [expected]);
    let same = pmt(
        1,
        0,
        0x100,
        CUEI,
        &[(0x1b, 0x100, &[]), (0x0f, 0x101, &[]), (0x86, 0x102, &[])],
    );
    assert_eq!(feed.send(0x1000, &[&same]), []);
    assert_eq!(feed.tables.generation(), generation);
}

#[test]
fn a_new_version_tells_what_came_and_went() {
    let mut feed = Feed::programme();
    let told = feed.send(
        0x1000,
        &[&pmt(
            1,
            1,
            0x101,
            CUEI,
            &[(0x24, 0x100, &[]), (0x0f, 0x101, &[]), (0x06, 0x103, &[])],
        )],
    );
    assert_eq!(
        told,
        [
            TableEvent::TableVersion {
                pid: 0x1000,
                table_id: 2,
                extension: 1,
                version: 1
            },
            removed(0x100, 0x1b),
            removed(0x102, 0x86),
            added(0x100, 0x24, false),
            added(0x103, 0x06, false),
            TableEvent::PcrPidChanged {
                programme: 1,
                from: 0x100,
                to: 0x101
            },
        ]
    );
    assert_eq!(
        (feed.tables.role(0x100), feed.tables.role(0x102)),
        (Role::Component(0x24), Role::Unreferenced)
    );
    assert!(feed.tables.is_pcr_pid(0x101) && !feed.tables.is_pcr_pid(0x100));
}

#[test]
fn what_applies_next_does_not_apply_now() {
    let mut feed = Feed::programme();
    let mut next = pmt(1, 1, 0x100, &[], &[])[3..].to_vec();
    next[2] &= !1;
    let end = next.len() - 4;
    let mut section = vec![0x02, 0xb0, next.len() as u8];
    section.extend(&next[..end]);
    section.extend(crate::engine::media::mpegts::section::crc32(&section).to_be_bytes());
    let told = feed.send_all(0x1000, &[&section]);
    assert!(
        matches!(
            told.as_slice(),
            [TableEvent::Section {
                current: false,
                version: 1,
                ..
            }]
        ),
        "{told:?}"
    );
    assert_eq!(feed.tables.role(0x100), Role::Component(0x1b));
}

#[test]
fn a_programme_that_the_pat_drops_is_gone_with_its_components() {
    let mut feed = Feed::programme();
    let told = feed.send(0, &[&pat(1, (0, 0), &[(2, 0x1001)])]);
    assert_eq!(
        told,
        [
            removed(0x100, 0x1b),
            removed(0x101, 0x0f),
            removed(0x102, 0x86),
            TableEvent::ProgrammeRemoved { programme: 1 },
            TableEvent::PatChanged {
                version: 1,
                programmes: 1,
                initial: false
            },
        ]
    );
    assert_eq!(
        (feed.tables.role(0x100), feed.tables.role(0x1000)),
        (Role::Unreferenced, Role::Unreferenced)
    );
    assert_eq!(
        feed.send(0x1000, &[&pmt(1, 2, 0x100, &[], &[(0x1b, 0x100, &[])])]),
        [],
        "nobody's PMT"
    );
}

#[test]
fn a_pat_of_several_sections_changes_when_all_are_there() {
    let mut feed = Feed::default();
    let first = pat(0, (0, 1), &[(1, 0x1000), (2, 0x1001)]);
    assert_eq!(feed.send(0, &[&first]), []);
    assert_eq!(feed.tables.role(0x1001), Role::Pmt, "it is not waited for to be useful");
    let told = feed.send(0, &[&pat(0, (1, 1), &[(3, 0x1002)])]);
    assert_eq!(
        told,
        [TableEvent::PatChanged {
            version: 0,
            programmes: 3,
            initial: true
        }]
    );
    // Programme 2 moves to the other section: it was never away.
    assert_eq!(feed.send(0, &[&pat(1, (0, 1), &[(1, 0x1000)])]), []);
    let told = feed.send(0, &[&pat(1, (1, 1), &[(2, 0x1001)])]);
    assert_eq!(
        told,
        [
            TableEvent::ProgrammeRemoved { programme: 3 },
            TableEvent::PatChanged {
                version: 1,
                programmes: 2,
                initial: false
            },
        ]
    );
}

#[test]
fn programmes_may_share_the_pid_of_their_pmts() {
    let mut feed = Feed::default();
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000), (2, 0x1000)])]);
    let (one, two) = (
        pmt(1, 0, 0x100, &[], &[(0x1b, 0x100, &[])]),
        pmt(2, 0, 0x200, &[], &[(0x1b, 0x200, &[])]),
    );
    for _ in 0..2 {
        feed.send(0x1000, &[&one, &two]);
    }
    let components: Vec<_> = feed
        .tables
        .programmes()
        .map(|programme| programme.components.len())
        .collect();
    assert_eq!(components, [1, 1]);
    assert_eq!(feed.send(0x1000, &[&one, &two]), []);
}

#[test]
fn no_pmt_claims_what_the_pat_says() {
    let mut feed = Feed::default();
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000), (2, 0x1001)])]);
    feed.send(
        0x1000,
        &[&pmt(
            1,
            0,
            0,
            &[],
            &[
                (0x1b, 0, &[]),
                (0x1b, 0x1001, &[]),
                (0x1b, 0x11, &[]),
                (0x02, 0x1fff, &[]),
            ],
        )],
    );
    assert_eq!(
        (feed.tables.role(0), feed.tables.role(0x1001)),
        (Role::Table, Role::Pmt)
    );
    assert_eq!(
        feed.tables.role(0x11),
        Role::Component(0x1b),
        "outside DVB a PID of service information is free"
    );
    assert_eq!(feed.tables.role(0x1fff), Role::Null);
}

#[test]
fn errors_are_told_and_change_nothing() {
    let mut feed = Feed::programme();
    let mut broken = pat(1, (0, 0), &[(2, 0x1001)]);
    broken[9] ^= 1;
    assert_eq!(
        feed.send_all(0, &[&broken]),
        [TableEvent::CrcError { pid: 0, table_id: 0 }]
    );
    let odd = long(0x02, 1, 1, (0, 0), &[0xe1, 0, 0xf0, 0, 0x1b]);
    let error = TableError::Syntax(TableSyntaxError::Loop);
    assert_eq!(
        feed.send(0x1000, &[&odd]),
        [TableEvent::Malformed {
            pid: 0x1000,
            table_id: Some(2),
            error
        }]
    );
    let mut packet = feed.packets(0, &[&broken])[0];
    packet[4] = 200;
    let mut told = Vec::new();
    feed.tables
        .section_packet(feed.now, 0, &packet, false, &mut |event| told.push(event));
    let error = TableError::Section(SectionError::Pointer);
    assert_eq!(
        told,
        [TableEvent::Malformed {
            pid: 0,
            table_id: None,
            error
        }]
    );
    assert_eq!(feed.tables.role(0x100), Role::Component(0x1b));
}

#[test]
fn bad_descriptors_do_not_hide_the_components() {
    let mut feed = Feed::default();
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000)])]);
    let told = feed.send(0x1000, &[&pmt(1, 0, 0x100, &[], &[(0x1b, 0x100, &[0x05, 9, 0])])]);
    let error = TableError::Descriptors;
    assert_eq!(
        told,
        [
            added(0x100, 0x1b, true),
            TableEvent::Malformed {
                pid: 0x1000,
                table_id: Some(2),
                error
            }
        ]
    );
}

#[test]
fn a_long_pmt_survives_interleaving_and_not_a_gap() {
    let mut feed = Feed::default();
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000), (2, 0x1001)])]);
    let components: Vec<_> = (0..60)
        .map(|index| (0x0f, 0x100 + index, &[0x0a, 4, b'e', b'n', b'g', 0][..]))
        .collect();
    let (one, two) = (pmt(1, 0, 0x100, &[], &components), pmt(2, 0, 0x100, &[], &components));
    let (one, two) = (feed.packets(0x1000, &[&one]), feed.packets(0x1001, &[&two]));
    let mut told = Vec::new();
    for (place, (one, two)) in one.iter().zip(&two).enumerate() {
        feed.tables
            .section_packet(feed.now, 0x1000, one, false, &mut |event| told.push(event));
        feed.tables
            .section_packet(feed.now, 0x1001, two, place == 2, &mut |event| told.push(event));
    }
    let count = |number| {
        told.iter()
            .filter(|e| matches!(e, TableEvent::ComponentAdded { programme, .. } if *programme == number))
            .count()
    };
    assert_eq!((count(1), count(2)), (60, 0));
    assert_eq!(feed.tables.held, 0);
}

#[test]
fn nothing_is_put_together_across_packets_that_went_by_unseen() {
    let mut feed = Feed::programme();
    let long = pmt(1, 1, 0x100, &[0; 200], &[(0x1b, 0x100, &[])]);
    let packets = feed.packets(0x1000, &[&long]);
    let mut told = Vec::new();
    feed.tables
        .section_packet(feed.now, 0x1000, &packets[0], false, &mut |event| told.push(event));
    assert!(feed.tables.held > 0);
    feed.tables.rebase();
    feed.tables
        .section_packet(feed.now, 0x1000, &packets[1], false, &mut |event| told.push(event));
    assert_eq!((told, feed.tables.held), (vec![], 0));
    assert_eq!(feed.tables.role(0x101), Role::Component(0x0f), "what is known stays");
}

#[test]
fn splice_sections_are_told_announced_or_not() {
    let mut feed = Feed::programme();
    let section = short_with_crc(0xfc, &NULL_BODY);
    let announced = |told: Vec<TableEvent>| match told.as_slice() {
        [
            TableEvent::Splice {
                announced,
                section: Ok(_),
                ..
            },
        ] => *announced,
        other => panic!("{other:?}"),
    };
    assert!(announced(feed.send(0x102, &[&section])));
    for pid in [0x101, 0x1000, 0x1abc] {
        assert!(!announced(feed.send(pid, &[&section])), "{pid:#x}");
    }
    let mut broken = section.clone();
    broken[8] ^= 1;
    let told = feed.send(0x102, &[&broken]);
    let error = || Err(scte35::Error::Section(SectionError::Crc));
    let splice = |pid, announced| TableEvent::Splice {
        pid,
        announced,
        section: error(),
    };
    assert_eq!(
        told,
        [
            TableEvent::CrcError {
                pid: 0x102,
                table_id: 0xfc
            },
            splice(0x102, true)
        ]
    );
    assert_eq!(feed.send(0x101, &[&broken]), [splice(0x101, false)]);
}

#[test]
fn a_long_splice_section_of_a_pid_without_registration_is_put_together() {
    let mut feed = Feed::default();
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000)])]);
    feed.send(0x1000, &[&pmt(1, 0, 0x100, &[], &[(0x86, 0x102, &[])])]);
    let private = [&NULL_BODY[..11], &[0, 200, 0xf0, 198], b"PRIV", &[7; 194]].concat();
    let section = short_with_crc(0xfc, &private);
    let told = feed.send(0x102, &[&section]);
    assert!(
        matches!(
            told.as_slice(),
            [TableEvent::Splice {
                announced: false,
                section: Ok(_),
                ..
            }]
        ),
        "{told:?}"
    );
    let told = feed.send(0x1abc, &[&section]);
    let expected = TableEvent::Splice {
        pid: 0x1abc,
        announced: false,
        section: Err(scte35::Error::NotFollowed),
    };
    assert_eq!(told, [expected]);
    assert_eq!(
        feed.send(0x102, &[&long(0x40, 1, 0, (0, 0), &[7; 300])]),
        [],
        "something else altogether"
    );
}

#[test]
fn a_pes_packet_never_starts_splice_information() {
    let mut packet = [0xfc; PACKET_SIZE];
    packet[..8].copy_from_slice(&[0x47, 0x41, 0x00, 0x10, 0, 0, 1, 0xe0]);
    assert!(!starts_splice(&packet));
    let splice = packets(0x100, &[&short_with_crc(0xfc, &NULL_BODY)], &mut 0)[0];
    assert!(starts_splice(&splice));
    for (place, bits) in [(1, 0x80), (1, 0x40), (3, 0x80), (6, 0x80)] {
        let mut other = splice;
        other[place] ^= bits;
        assert!(!starts_splice(&other), "byte {place}");
    }
}

#[test]
fn service_information_is_reported() {
    let mut feed = Feed::default();
    let sdt = [&[0, 1, 0xff, 0, 1, 0xfd, 0x80, 8, 0x48, 6, 1, 0, 3][..], b"One"].concat();
    feed.send(0x11, &[&long(0x42, 1, 0, (0, 0), &sdt)]);
    feed.send(0, &[&pat(0, (0, 0), &[(1, 0x1000)])]);
    feed.send(
        0x1000,
        &[&pmt(
            1,
            3,
            0x100,
            &[],
            &[(0x06, 0x100, &[0x6a, 1, 0, 0x0a, 4, b'f', b'r', b'a', 0])],
        )],
    );
    feed.send(0x11, &[&long(0x42, 1, 0, (0, 0), &sdt)]);
    feed.send(
        0x10,
        &[&long(
            0x40,
            0x3001,
            0,
            (0, 0),
            &[0xf0, 5, 0x40, 3, b'N', b'e', b't', 0xf0, 0],
        )],
    );
    feed.send(0x14, &[&short(0x70, &[0xc0, 0x79, 0x12, 0x45, 0x00])]);
    let event = [0x00, 0x2a, 0xc0, 0x79, 0x12, 0x45, 0x00, 0x01, 0x30, 0x15, 0x80, 0x00];
    feed.send(
        0x12,
        &[&long(
            0x4e,
            1,
            0,
            (0, 1),
            &[&[0, 1, 0, 2, 0, 0x4e][..], &event].concat(),
        )],
    );
    let report = feed.tables.report();
    assert_eq!(
        (report.transport_stream_id, report.network_id, report.utc),
        (Some(1), Some(0x3001), Some(750_516_300))
    );
    assert_eq!(report.network_name.as_deref(), Some("Net"));
    let [programme] = report.programmes.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(
        (programme.name.as_deref(), programme.version, programme.present_event),
        (Some("One"), Some(3), Some(42))
    );
    let [component] = programme.components.as_slice() else {
        panic!("{programme:?}")
    };
    assert_eq!((component.kind, component.language.as_deref()), ("ac3", Some("fra")));
    let told = feed.send(0x11, &[&long(0x42, 1, 1, (0, 0), &sdt)]);
    assert_eq!(
        told,
        [TableEvent::TableVersion {
            pid: 0x11,
            table_id: 0x42,
            extension: 1,
            version: 1
        }]
    );
}

#[test]
fn emm_pids_of_the_cat_are_conditional_access() {
    let mut feed = Feed::default();
    feed.send(1, &[&long(0x01, 0xffff, 0, (0, 0), &[0x09, 4, 6, 4, 0xe1, 0x00])]);
    assert_eq!(feed.tables.role(0x100), Role::Ca);
    feed.send(1, &[&long(0x01, 0xffff, 1, (0, 0), &[])]);
    assert_eq!(feed.tables.role(0x100), Role::Unreferenced);
}

/// Everything that a hostile sender can make grow, at its worst.
#[test]
fn a_hostile_multiplex_is_bounded() {
    let mut feed = Feed::default();
    let mut bounds = 0;
    for number in 0..=255_u8 {
        let programmes: Vec<(u16, u16)> = (0..250)
            .map(|index| (u16::from(number) * 250 + index + 1, 0x1000 + index))
            .collect();
        let told = feed.send(0, &[&pat(0, (number, 255), &programmes)]);
        bounds += told
            .iter()
            .filter(|e| {
                matches!(
                    e,
                    TableEvent::Malformed {
                        error: TableError::Bound,
                        ..
                    }
                )
            })
            .count();
    }
    assert_eq!((feed.tables.programmes().count(), bounds), (MAX_PROGRAMMES, 255));
    let ca = [0x09, 4, 0, 0, 0xe1, 0x00].repeat(20);
    for index in 0..250_u16 {
        let components: Vec<_> = (0..700)
            .map(|place| (0x86, (index * 37 + place) & 0x1fff, &[][..]))
            .collect();
        feed.send(0x1000 + index, &[&pmt(index + 1, 0, 0x100, &ca, &components)]);
    }
    let components: usize = feed
        .tables
        .programmes()
        .map(|programme| programme.components.len())
        .sum();
    assert_eq!(components, MAX_COMPONENTS);
    let name = [
        &[0, 1, 0xff][..],
        &(1..=15_u16)
            .flat_map(|id| {
                let [i0, i1] = id.to_be_bytes();
                [&[i0, i1, 0, 0xf0, 255, 0x48, 253, 1, 0, 250][..], &[b'x'; 250]].concat()
            })
            .collect::<Vec<_>>(),
    ]
    .concat();
    feed.send(0x11, &[&long(0x42, 1, 0, (0, 0), &name)]);
    // A section begun on every PID and finished on none.
    for pid in 0..0x1fff {
        if feed.tables.role(pid).carries_sections() {
            let packet = feed.packets(pid, &[&long(0xfc, 1, 0, (0, 0), &[0; 4000])])[0];
            feed.tables.section_packet(feed.now, pid, &packet, false, &mut |_| {});
        }
    }
    assert!(
        feed.tables.held <= MAX_HELD && feed.tables.held > MAX_HELD / 2,
        "{}",
        feed.tables.held
    );
    assert_eq!(feed.tables.assemblers.len(), MAX_ASSEMBLED);
    assert!(feed.tables.memory() < 320 * 1024, "{}", feed.tables.memory());
    assert_eq!(feed.books(), feed.recounted());
    // And it all goes when the multiplex becomes an honest one.
    feed.send(0, &[&pat(1, (0, 0), &[(1, 0x1000)])]);
    feed.send(0x1000, &[&pmt(1, 1, 0x100, &[], &[(0x1b, 0x100, &[])])]);
    assert_eq!(feed.tables.programmes().count(), 1);
    let held: usize = feed
        .tables
        .assemblers
        .iter()
        .map(|(_, assembler)| assembler.memory())
        .sum();
    assert_eq!(feed.tables.held, held);
    assert_eq!(feed.books(), feed.recounted());
}

/// A multiplex of 2,040 components and ten programmes without any, of which the PMTs change with every section.
#[test]
fn changes_by_the_hundred_sort_the_roles_twice() {
    let mut feed = Feed::default();
    let small = 10..20_u16;
    let programmes: Vec<(u16, u16)> = (1..=3).chain(small.clone()).map(|number| (number, 0x1f00)).collect();
    feed.send(0, &[&pat(0, (0, 0), &programmes)]);
    for number in 1..=3_u16 {
        let components: Vec<_> = (0..680).map(|n| (6, 0x20 + number * 700 + n, &[][..])).collect();
        feed.send(0x1f00, &[&pmt(number, 0, 0x1fff, &[], &components)]);
    }
    assert!(!feed.tables.is_behind());
    let before = feed.tables.generation();
    feed.now = feed.now.after(core::time::Duration::from_millis(10));
    for round in 0..7_u16 {
        let sections: Vec<_> = small
            .clone()
            .map(|n| pmt(n, 0, 0x1800 + round * 10 + n, &[], &[]))
            .collect();
        for section in &sections {
            for packet in feed.packets(0x1f00, &[section]) {
                feed.tables
                    .section_packet(feed.now, 0x1f00, &packet, false, &mut |_| {});
            }
        }
    }
    assert_eq!(feed.tables.generation().wrapping_sub(before), 2, "70 sections were new");
    assert!(feed.tables.is_behind() && feed.tables.role(0x1800 + 79) == Role::Unreferenced);
    feed.tables.renew(feed.now.after(core::time::Duration::from_millis(9)));
    assert!(feed.tables.is_behind());
    feed.tables.renew(feed.now.after(core::time::Duration::from_millis(10)));
    assert!(!feed.tables.is_behind() && feed.tables.role(0x1800 + 79) == Role::PcrOnly);
    assert_eq!(feed.tables.generation().wrapping_sub(before), 3);
}

#[test]
fn an_ordinary_stream_may_change_as_often_as_it_likes() {
    let mut feed = Feed::programme();
    for n in 0..200_u16 {
        for packet in feed.packets(0x1000, &[&pmt(1, n as u8, 0x100, &[], &[(0x1b, 0x200 + n, &[])])]) {
            feed.tables
                .section_packet(feed.now, 0x1000, &packet, false, &mut |_| {});
        }
        assert_eq!(feed.tables.role(0x200 + n), Role::Component(0x1b), "at once");
    }
}

#[test]
fn what_changes_too_often_is_told_once_and_read_later() {
    let mut feed = Feed::programme();
    let mut told = Vec::new();
    let mut send = |feed: &mut Feed, n: u16| {
        for packet in feed.packets(0x1000, &[&pmt(1, 1, 0x100, &[], &[(0x1b, 0x200 + n, &[])])]) {
            let out = &mut |event| told.push(event);
            feed.tables.section_packet(feed.now, 0x1000, &packet, false, out);
        }
    };
    (0..1000).for_each(|n| send(&mut feed, n));
    let read = u16::try_from(budget::MAX_CHANGES).unwrap() - 2;
    assert_eq!(
        feed.tables.report().unread_sections,
        u64::from(1000 - read),
        "after a PAT and a PMT"
    );
    assert_eq!(feed.tables.role(0x200 + read - 1), Role::Component(0x1b));
    send(&mut feed, read - 1);
    assert_eq!(
        feed.tables.report().unread_sections,
        u64::from(1000 - read),
        "a repeat costs nothing"
    );
    feed.now = feed.now.after(core::time::Duration::from_secs(1));
    send(&mut feed, 999);
    assert_eq!(feed.tables.role(0x200 + 999), Role::Component(0x1b));
    let refusals = told.iter().filter(|event| {
        let error = TableError::TooMany;
        matches!(event, TableEvent::Malformed { error: e, .. } if *e == error)
    });
    assert_eq!(refusals.count(), 1);
    let sections = told.iter().filter(|event| matches!(event, TableEvent::Section { .. }));
    assert_eq!(sections.count(), 1002, "that they came counts for the timing");
}

proptest! {
    #[test]
    fn random_sections_leave_the_books_in_order(
        sections in vec((prop::sample::select(vec![0_u16, 1, 0x10, 0x11, 0x12, 0x14, 0x100, 0x101]),
            prop::sample::select(vec![0_u8, 1, 2, 0x40, 0x42, 0x4a, 0x4e, 0x70, 0x73, 0xfc]), 0_u16..4, 0_u8..3,
            vec(prop::sample::select(vec![0_u8, 1, 2, 0xe1, 0xf0, 0x86, 9, 5]), 0..80), any::<bool>()), 0..60)
    ) {
        let mut feed = Feed::default();
        feed.send(0, &[&pat(0, (0, 0), &[(1, 0x100), (2, 0x101)])]);
        let mut known = std::collections::HashSet::new();
        for (pid, table_id, extension, version, body, lost) in sections {
            let section = long(table_id, extension, version, (0, 0), &body);
            let mut packets = feed.packets(pid, &[&section]);
            if lost {
                packets.truncate(1);
            }
            for packet in packets {
                let mut told = Vec::new();
                feed.tables.section_packet(feed.now, pid, &packet, false, &mut |event| told.push(event));
                for event in told {
                    match event {
                        TableEvent::ComponentAdded { programme, pid, stream_type, .. } => {
                            prop_assert!(known.insert((programme, pid, stream_type)));
                        }
                        TableEvent::ComponentRemoved { programme, pid, stream_type } => {
                            prop_assert!(known.remove(&(programme, pid, stream_type)));
                        }
                        _ => {}
                    }
                }
            }
        }
        // What was told adds up to what is known.
        let listed = feed.tables.programmes().flat_map(|p| p.components.iter().map(|c| (p.number, c.pid, c.stream_type)));
        prop_assert_eq!(listed.collect::<std::collections::HashSet<_>>(), known);
        let held: usize = feed.tables.assemblers.iter().map(|(_, assembler)| assembler.memory()).sum();
        prop_assert_eq!(feed.tables.held, held);
        prop_assert_eq!(feed.books(), feed.recounted());
    }

    #[test]
    fn random_packets_are_harmless(bytes in vec((0_u16..0x20, any::<[u8; 24]>(), any::<u8>(), any::<bool>()), 0..200)) {
        let mut tables = Tables::new();
        for (pid, head, fill, gap) in bytes {
            let mut packet = [fill; PACKET_SIZE];
            packet[4..28].copy_from_slice(&head);
            packet[..4].copy_from_slice(&[0x47, 0x40, pid as u8, 0x10 | fill & 0x0f]);
            tables.section_packet(Timestamp::default(), pid, &packet, gap, &mut |_| {});
            tables.section_packet(Timestamp::default(), 0x300, &packet, gap, &mut |_| {});
        }
        prop_assert!(tables.held <= MAX_HELD);
    }
}
