//! Tests of the continuity rule against a plain restatement of it, and of the PID table.

use proptest::prelude::*;

use super::*;
use crate::engine::memory::Allowance;

/// The verdict on the next packet, with memory enough.
fn judge(continuity: &mut Continuity, packet: &TsDigest, now_ms: u32, duplicates: &mut u64) -> Option<Error> {
    let mut grant = Allowance::unlimited().grant();
    continuity.judge(packet, now_ms, duplicates, &mut grant)?.error
}

fn packet(pid: u16, counter: u8, hash: u32) -> TsDigest {
    TsDigest {
        head: pid,
        control: 0x10 | counter,
        adaptation_flags: 0,
        hash,
    }
}

fn errors(packets: &[TsDigest]) -> (usize, u64) {
    let (mut continuity, mut duplicates) = (Continuity::default(), 0);
    let errors = packets
        .iter()
        .filter(|packet| judge(&mut continuity, packet, 0, &mut duplicates).is_some())
        .count();
    (errors, duplicates)
}

#[test]
fn a_counter_wraps_without_an_error() {
    let packets: Vec<_> = (0..40).map(|n| packet(0x100, n % 16, n.into())).collect();
    assert_eq!(errors(&packets), (0, 0));
}

#[test]
fn copies() {
    let one = packet(0x100, 4, 1);
    assert_eq!(errors(&[one, one]), (0, 1), "a legal duplicate");
    assert_eq!(errors(&[one, one, one]), (1, 1), "three copies");
    assert_eq!(
        errors(&[one, one, one, one]),
        (2, 1),
        "each further copy is an error of its own"
    );
    assert_eq!(
        errors(&[one, packet(0x100, 4, 2), packet(0x100, 5, 3)]),
        (1, 0),
        "other bytes, then in order"
    );
}

#[test]
fn packets_without_payload_stand_still() {
    let adaptation = |counter: u8| TsDigest {
        control: 0x20 | counter,
        ..packet(0x100, 0, 9)
    };
    assert_eq!(
        errors(&[packet(0x100, 4, 1), adaptation(4), adaptation(4), packet(0x100, 5, 2)]),
        (0, 0)
    );
    assert_eq!(
        errors(&[packet(0x100, 4, 1), adaptation(5), packet(0x100, 5, 2)]),
        (2, 0)
    );
}

#[test]
fn a_discontinuity_indicator_allows_any_counter() {
    let marked = TsDigest {
        control: 0x30 | 9,
        adaptation_flags: 0x80,
        ..packet(0x100, 0, 3)
    };
    assert_eq!(errors(&[packet(0x100, 4, 1), marked, packet(0x100, 10, 2)]), (0, 0));
}

#[test]
fn null_packets_are_counted_and_exempt() {
    let (mut continuity, mut duplicates) = (Continuity::default(), 0);
    for counter in [3, 3, 3, 9, 1] {
        assert_eq!(
            judge(&mut continuity, &packet(NULL_PID, counter, 0), 0, &mut duplicates),
            None
        );
    }
    assert_eq!(
        (continuity.pids().next().map(|pid| pid.packets), duplicates),
        (Some(5), 0)
    );
}

#[test]
fn nothing_is_a_duplicate_across_a_missing_number() {
    let (mut continuity, mut duplicates) = (Continuity::default(), 0);
    let table = packet(0, 4, 1);
    assert_eq!(judge(&mut continuity, &table, 0, &mut duplicates), None);
    continuity.numbers_missing();
    let error = judge(&mut continuity, &table, 30, &mut duplicates).unwrap();
    assert_eq!(
        (error.gap, error.expected, error.since_previous),
        (Gap::NumbersMissing, 5, 30 << GRAIN)
    );
    assert_eq!(
        judge(&mut continuity, &packet(0, 5, 1), 60, &mut duplicates),
        None,
        "resynchronised"
    );
    assert_eq!(duplicates, 0);
}

#[test]
fn a_rebase_forgives_every_pid_once() {
    let (mut continuity, mut duplicates) = (Continuity::default(), 0);
    for pid in 0..100 {
        judge(&mut continuity, &packet(pid, 4, 0), 0, &mut duplicates);
    }
    continuity.rebase();
    let jump = |continuity: &mut Continuity, counter| {
        (0..100)
            .filter(|pid| judge(continuity, &packet(*pid, counter, 0), 0, &mut 0).is_some())
            .count()
    };
    assert_eq!(jump(&mut continuity, 11), 0);
    assert_eq!(jump(&mut continuity, 2), 100);
}

#[test]
fn every_pid_there_can_be_has_its_state() {
    let (mut continuity, mut duplicates) = (Continuity::default(), 0);
    for round in 0..3 {
        for pid in (0..MAX_PIDS as u16).rev() {
            assert_eq!(
                judge(
                    &mut continuity,
                    &packet(pid, round, u32::from(round)),
                    0,
                    &mut duplicates
                ),
                None
            );
        }
    }
    assert_eq!(continuity.pids().count(), MAX_PIDS);
    assert!(
        continuity
            .pids()
            .all(|pid| pid.packets == 3 && pid.continuity_errors == 0)
    );
}

/// The rule restated without tables and hashes, after its own reading of 2.4.3.3.
#[derive(Default)]
struct Naive {
    last: std::collections::HashMap<u16, (TsDigest, u32)>,
}

impl Naive {
    fn is_error(&mut self, packet: &TsDigest) -> bool {
        let pid = packet.pid();
        let previous = self.last.get(&pid).copied();
        let Some((last, copies)) = previous.filter(|_| pid != NULL_PID) else {
            self.last.insert(pid, (*packet, 1));
            return false;
        };
        let payload = packet.control & 0x10 != 0;
        let (copies, error) = if packet.adaptation_flags & 0x80 != 0 {
            (1, false)
        } else if payload && last == *packet {
            (copies + 1, copies >= 2)
        } else {
            let step = u8::from(payload);
            (1, ((last.control & 0x0f) + step) & 0x0f != packet.control & 0x0f)
        };
        self.last.insert(pid, (*packet, copies));
        error
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_rule(
        packets in proptest::collection::vec((0_u16..4, 0_u8..3, 0_u8..4, any::<bool>(), 0_u32..2), 0..300)
    ) {
        let (mut continuity, mut naive) = (Continuity::default(), Naive::default());
        for (pid, afc, counter, marked, hash) in packets {
            let pid = if pid == 3 { NULL_PID } else { pid };
            let marked = marked && afc != 0 && counter == 0;
            let control = (afc + 1) << 4 | counter;
            let packet = TsDigest { head: pid, control, adaptation_flags: u8::from(marked) << 7, hash };
            prop_assert_eq!(judge(&mut continuity, &packet, 0, &mut 0).is_some(), naive.is_error(&packet), "{:?}", packet);
        }
    }
}
