//! The analyser against `dvb-conformance` on streams with one thing wrong in each, and the rest of its behaviour.
//!
//! Where the two differ it is on purpose, and the test says why.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::test_stream::*;
use super::*;
use crate::engine::media::mpegts::{self, PACKET_SIZE};
use crate::policy::rule::{BitrateLimit, NullPacketsLimit, OnExceed, PidsLimit, StreamTypesLimit, TsRule};
use crate::policy::set::PidSet;

/// Four seconds with an edit before the counters are numbered.
fn edited(edit: impl Fn(&mut Vec<Timed>)) -> Vec<Timed> {
    let mut packets = stream(4, true);
    edit(&mut packets);
    number(&mut packets);
    packets
}

/// Null packets in the place of others, so that the rate stays.
fn without(drop: impl Fn(&Timed) -> bool) -> Vec<Timed> {
    edited(|packets| {
        for packet in packets.iter_mut().filter(|packet| drop(packet)) {
            packet.bytes = payload(NULL_PID, 0xff);
        }
    })
}

/// What is told and when, in the order of what it is.
type Told = Vec<(String, u64)>;

/// What is told when absences are looked for ten times a second, known to be there or not, or when that is left to the analyser.
fn told(packets: &[Timed], with_foresight: bool) -> Told {
    let (mut analyser, mut feeder, mut told) = (Analyser::new(Axis::Live), Feeder::default(), Vec::new());
    let mut note = |at: Timestamp, event: TsEvent| told.push((format!("{event:?}"), at.nanos() / 1_000_000));
    for packet in packets {
        if !with_foresight {
            analyser.none_absent_until = Timestamp::default();
            analyser.next_tick = analyser.next_tick.min(analyser.last_tick.after(TICK));
        }
        feeder.feed(&mut analyser, packet, &mut note);
    }
    analyser.none_absent_until = Timestamp::default();
    let end = packets.last().map_or(Timestamp::default(), |last| timestamp(last.at));
    analyser.advance(end, &mut note);
    told.sort();
    told
}

proptest! {
    /// PIDs and a third of all packets stay away for a time: it is found whether a look is left out or not, and at most a tick
    /// and some packets later.
    #[test]
    fn no_absence_is_overlooked(
        pids in proptest::collection::vec(0_usize..40, 0..4),
        from in 0_u64..3000,
        length in 0_u64..3500,
        thinned in 0_u64..4000,
    ) {
        let mut known: Vec<u16> = stream(4, true).iter().map(Timed::pid).collect();
        known.sort_unstable();
        known.dedup();
        let gone: Vec<u16> = pids.iter().filter_map(|place| known.get(*place).copied()).collect();
        let packets = without(|packet| {
            let at = ms(packet);
            gone.contains(&packet.pid()) && (from..from + length).contains(&at)
                || at >= thinned && (at / 7).is_multiple_of(3)
        });
        let (some, all) = (told(&packets, true), told(&packets, false));
        let what = |told: &Told| told.iter().map(|(event, _)| event.clone()).collect::<Vec<_>>();
        prop_assert_eq!(what(&some), what(&all));
        for ((event, at), (_, also)) in some.iter().zip(&all) {
            prop_assert!(at.abs_diff(*also) <= 110, "{event} at {at} ms or {also} ms");
        }
    }
}

/// Two hundred PMTs at once, each with thirty other components: what the last one says is true ten milliseconds later, when
/// any packet comes.
#[test]
fn roles_that_changed_too_often_are_there_soon() {
    let mut packets: Vec<Timed> = (0..202_u16)
        .map(|n| {
            let components: Vec<_> = (0..30).map(|place| (6, 0x200 + n * 30 + place)).collect();
            Timed {
                at: Duration::ZERO,
                frame: 0,
                bytes: if n == 0 { pat() } else { pmt(&components) },
            }
        })
        .collect();
    let last = 0x200 + 201 * 30;
    for at in [9, 10] {
        let at = Duration::from_millis(at);
        let bytes = payload(0x100, 0);
        packets.push(Timed { at, frame: 0, bytes });
    }
    number(&mut packets);
    let (mut analyser, mut feeder) = (Analyser::new(Axis::Live), Feeder::default());
    let mut roles = Vec::new();
    for packet in &packets {
        feeder.feed(&mut analyser, packet, &mut |_, _| ());
        roles.push(analyser.tables.role(last));
    }
    let [.., before, there] = roles.as_slice() else {
        panic!("no packets")
    };
    assert_eq!(
        [*before, *there],
        [tables::Role::Unreferenced, tables::Role::Component(6)]
    );
}

/// Both count the same, and this.
fn agree(packets: &[Timed], expected: &[(&'static str, u64)]) {
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    assert_eq!(counted(packets), expected, "the analyser");
    assert_eq!(oracle(packets), expected, "the oracle");
}

/// They differ: what is counted here, and what the oracle counts.
fn differ(packets: &[Timed], ours: &[(&'static str, u64)], theirs: &[(&'static str, u64)]) {
    assert_eq!(counted(packets), ours.iter().copied().collect(), "the analyser");
    assert_eq!(oracle(packets), theirs.iter().copied().collect(), "the oracle");
}

fn ms(packet: &Timed) -> u64 {
    packet.at.as_millis() as u64
}

#[test]
fn a_sound_stream_violates_nothing() {
    agree(&edited(|_| ()), &[]);
    let mut plain = stream(4, false);
    number(&mut plain);
    agree(&plain, &[]);
}

#[test]
fn every_evaluated_key_is_reported_at_0_and_no_other() {
    let always = [
        "1.1", "1.2", "1.3.a", "1.4", "1.5.a", "1.6", "2.1", "2.2", "2.3.a", "2.3.b", "2.5", "2.6", "3.4.a",
    ];
    let si = ["3.1.a", "3.1.b", "3.2", "3.5.a", "3.5.b", "3.6.a", "3.6.b", "3.8"];
    for (axis, dvb, accuracy) in [
        (Axis::Live, false, false),
        (Axis::Live, true, false),
        (Axis::File, true, true),
    ] {
        let mut packets = stream(12, dvb);
        number(&mut packets);
        let expected = always
            .into_iter()
            .chain(si.into_iter().filter(|_| dvb))
            .chain(accuracy.then_some("2.4"))
            .map(|number| (number, 0))
            .collect();
        assert_eq!(analyse(axis, &packets).0.report().tr101290, expected, "{axis:?}");
    }
}

#[test]
fn a_pat_that_stays_away_for_a_second() {
    // PATs come every 80 ms; the last one before is at 0.988 s, the next one at 2.028 s.
    let packets = without(|packet| packet.pid() == 0 && (1_000..2_000).contains(&ms(packet)));
    // The oracle tells an absence once, however long; here it counts for each half second.
    differ(&packets, &[("1.3.a", 2)], &[("1.3.a", 1)]);
    let packets = without(|packet| packet.pid() == 0 && (1_000..1_600).contains(&ms(packet)));
    agree(&packets, &[("1.3.a", 1)]);
}

#[test]
fn no_pat_at_all() {
    let packets = without(|packet| packet.pid() == 0);
    // Eight half seconds of PAT, and seven of video, audio and PMT that nothing refers to.
    differ(&packets, &[("1.3.a", 8), ("3.4.a", 21)], &[("1.3.a", 1), ("3.4.a", 3)]);
}

#[test]
fn something_else_on_the_pid_of_the_pat() {
    let packets = edited(|packets| {
        let place = packets
            .iter()
            .position(|packet| packet.frame == 11 && packet.pid() == NULL_PID)
            .expect("one");
        packets[place].bytes = table(0, &section(0x40, 1, 0, 0, &[0xf0, 0, 0xf0, 0]));
    });
    agree(&packets, &[("1.3.a", 1)]);
}

#[test]
fn scrambled_pat_and_pmt() {
    let scrambled = |of: u16| {
        edited(|packets| {
            let packet = packets
                .iter_mut()
                .find(|packet| packet.frame == 20 && packet.pid() == of);
            packet.expect("one").bytes[3] |= 0x80;
        })
    };
    agree(&scrambled(0), &[("1.3.a", 1), ("2.6", 1)]);
    agree(&scrambled(PMT), &[("1.5.a", 1), ("2.6", 1)]);
}

#[test]
fn a_pmt_that_stays_away() {
    let packets = without(|packet| packet.pid() == PMT && (1_000..1_600).contains(&ms(packet)));
    agree(&packets, &[("1.5.a", 1)]);
    // Listed by the PAT and never there: what the PMT would refer to is unreferenced.
    let packets = without(|packet| packet.pid() == PMT);
    differ(&packets, &[("1.5.a", 7), ("3.4.a", 14)], &[("1.5.a", 1), ("3.4.a", 2)]);
}

#[test]
fn a_component_that_stays_away() {
    let mut packets = stream(14, false);
    packets.retain(|packet| packet.pid() != AUDIO || !(2_000..8_000).contains(&ms(packet)));
    number(&mut packets);
    // Without PTS too: the oracle looks at the next PTS only and tells it once, here each 700 ms count.
    differ(&packets, &[("1.6", 1), ("2.5", 8)], &[("1.6", 1), ("2.5", 1)]);
    let mut packets = stream(14, false);
    packets.retain(|packet| packet.pid() != AUDIO);
    number(&mut packets);
    differ(&packets, &[("1.6", 2)], &[("1.6", 1)]);
}

#[test]
fn data_may_stay_away_for_as_long_as_it_likes() {
    let mut packets = stream(7, false);
    for packet in packets.iter_mut().filter(|packet| packet.pid() == PMT) {
        packet.bytes = pmt(&[(0x1b, VIDEO), (0x0f, AUDIO), (0x06, 0x1ff)]);
    }
    number(&mut packets);
    // TSDuck waits for video and audio alone, as is done here: subtitles are silent while nobody speaks.
    differ(&packets, &[], &[("1.6", 1)]);
}

#[test]
fn transport_errors() {
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.pid() == VIDEO && packet.frame == 30 && !packet.starts())
        {
            packet.bytes[1] |= 0x80;
        }
    });
    agree(&packets, &[("2.1", 58)]);
    // A PMT with the indicator is not read (5.2.2: no other indications are derived from it); the oracle reads it.
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.pid() == PMT && (1_000..1_600).contains(&ms(packet)))
        {
            packet.bytes[1] |= 0x80;
        }
    });
    differ(&packets, &[("2.1", 7), ("1.5.a", 1)], &[("2.1", 7)]);
}

#[test]
fn wrong_crcs() {
    let packets = edited(|packets| {
        for pid in [0, PMT, 0x11] {
            let packet = packets
                .iter_mut()
                .find(|packet| packet.frame >= 50 && packet.pid() == pid);
            packet.expect("one").bytes[10] ^= 1;
        }
    });
    agree(&packets, &[("2.2", 3)]);
}

#[test]
fn a_pcr_gap() {
    // PCRs every 40 ms; 4 are missing.
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.has_pcr() && (50..54).contains(&packet.frame))
        {
            packet.bytes[5] = 0;
        }
    });
    agree(&packets, &[("2.3.a", 1), ("2.3.b", 1)]);
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.has_pcr() && packet.frame >= 50)
        {
            packet.bytes[5] = 0;
        }
    });
    // They never come again: the oracle waits for the next one.
    let mut ours = counted(&packets);
    assert!(ours.remove("2.3.a").is_some_and(|count| count == 20), "2 s without PCR");
    assert_eq!((ours, oracle(&packets)), Default::default());
}

#[test]
fn a_pcr_jump() {
    let jumped = |by: i64, announced: bool| {
        edited(|packets| {
            let mut first = true;
            for packet in packets
                .iter_mut()
                .filter(|packet| packet.has_pcr() && packet.frame >= 50)
            {
                let value = packet.pcr().wrapping_add_signed(by) % pcr::MODULUS;
                packet.set_pcr(value);
                if core::mem::take(&mut first) && announced {
                    packet.bytes[5] |= 0x80;
                }
            }
        })
    };
    agree(&jumped(27_000_000, false), &[("2.3.b", 1)]);
    agree(&jumped(-27_000_000, false), &[("2.3.b", 1)]);
    agree(&jumped(27_000_000, true), &[]);
    agree(&jumped(-27_000_000, true), &[]);
}

#[test]
fn the_wrap_of_the_pcr_is_no_jump() {
    let packets = edited(|packets| {
        for packet in packets.iter_mut().filter(|packet| packet.has_pcr()) {
            let value = (packet.pcr() + pcr::MODULUS - 2 * 27_000_000) % pcr::MODULUS;
            packet.set_pcr(value);
        }
    });
    agree(&packets, &[]);
}

#[test]
fn lost_packets_are_a_gap_and_no_jump() {
    let mut packets = stream(4, true);
    number(&mut packets);
    packets.retain(|packet| !(1_000..1_200).contains(&ms(packet)));
    // The PCRs are 240 ms apart, and so is their arrival: nothing jumped. The oracle knows nothing of the loss.
    differ(&packets, &[("2.3.a", 2)], &[("2.3.a", 1), ("2.3.b", 1)]);
}

#[test]
fn a_gap_of_time_stamps() {
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.pid() == AUDIO && packet.starts())
        {
            if (1_000..1_800).contains(&ms(packet)) {
                packet.bytes[1] &= !0x40;
            }
        }
    });
    agree(&packets, &[("2.5", 1)]);
}

#[test]
fn scrambled_components_without_and_with_a_cat() {
    let scramble = |packets: &mut Vec<Timed>| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.pid() == AUDIO && !packet.starts())
        {
            packet.bytes[3] |= 0x80;
        }
    };
    // The oracle tells at once and once; here a CAT has half a second to come, and each further one counts.
    differ(&edited(scramble), &[("2.6", 7)], &[("2.6", 1)]);
    let with_cat = edited(|packets| {
        scramble(packets);
        packets[1].bytes = table(1, &section(1, 0xffff, 0, 0, &[]));
        packets[10].bytes = table(1, &section(1, 0xffff, 0, 0, &[]));
    });
    agree(&with_cat, &[]);
    let wrong = edited(|packets| packets[10].bytes = table(1, &section(0x40, 1, 0, 0, &[0xf0, 0, 0xf0, 0])));
    agree(&wrong, &[("2.6", 1)]);
}

#[test]
fn time_stamps_are_measured_where_they_can_be_read() {
    let packets = edited(|packets| {
        packets[10].bytes = table(1, &section(1, 0xffff, 0, 0, &[]));
        for packet in packets.iter_mut().filter(|packet| packet.pid() == AUDIO) {
            if (1_000..3_000).contains(&ms(packet)) {
                packet.bytes[3] |= 0x80;
            }
        }
    });
    // The oracle measures from the last that it could read to the next one.
    differ(&packets, &[], &[("2.5", 1)]);
}

#[test]
fn a_pid_that_nothing_refers_to() {
    let ghosts = |from: u64, to: u64| {
        edited(|packets| {
            for packet in packets.iter_mut().filter(|packet| packet.pid() == NULL_PID) {
                if packet.at.as_micros() % 10_000 == 0 && (from..=to).contains(&ms(packet)) {
                    packet.bytes = payload(0x777, 0xaa);
                }
            }
        })
    };
    let count = |packets: &[Timed]| packets.iter().filter(|packet| packet.pid() == 0x777).count();
    assert!(count(&ghosts(1_000, 1_000)) == 1 && count(&ghosts(1_000, 1_900)) > 20);
    // Once is enough: half a second later nothing refers to it.
    agree(&ghosts(1_000, 1_000), &[("3.4.a", 1)]);
    agree(&ghosts(1_000, 1_900), &[("3.4.a", 1)]);
    differ(&ghosts(1_000, 3_900), &[("3.4.a", 5)], &[("3.4.a", 1)]);
}

#[test]
fn service_information_too_seldom() {
    let mut packets = stream(8, true);
    packets.retain(|packet| !(0x11..=0x12).contains(&packet.pid()) || !(1_500..4_500).contains(&ms(packet)));
    number(&mut packets);
    // 3.6.a waits for both sections of EIT present/following, as ETSI has it; the oracle for either.
    differ(
        &packets,
        &[("3.2", 3), ("3.5.a", 1), ("3.6.a", 2)],
        &[("3.2", 2), ("3.5.a", 1), ("3.6.a", 1)],
    );
}

#[test]
fn service_information_too_often() {
    let twice = |pid: u16, after: usize| {
        edited(|packets| {
            let first = packets.iter().position(|packet| packet.pid() == pid).expect("one");
            let bytes = packets[first].bytes;
            let place = (first + after..)
                .find(|place| packets[*place].pid() == NULL_PID)
                .expect("one");
            packets[place].bytes = bytes;
        })
    };
    for (pid, number) in [(0x10, "3.1.a"), (0x11, "3.5.a"), (0x12, "3.6.a"), (0x14, "3.8")] {
        agree(&twice(pid, 1), &[(number, 1), ("3.2", 1)]);
    }
    // The following event's EIT comes 40 ms after the present one's.
    for pid in [0x10, 0x11, 0x14] {
        agree(&twice(pid, 70), &[]);
    }
}

#[test]
fn tables_where_they_do_not_belong() {
    for (pid, number) in [
        (0x10u16, "3.1.a"),
        (0x11, "3.5.a"),
        (0x12, "3.6.a"),
        (0x13, "3.7"),
        (0x14, "3.8"),
    ] {
        let packets = edited(|packets| packets[100].bytes = table(pid, &section(0xc0, 9, 0, 0, &[])));
        agree(&packets, &[(number, 1)]);
    }
}

#[test]
fn loss_of_synchronisation() {
    let damaged = |places: &[usize]| edited(|packets| places.iter().for_each(|place| packets[*place].bytes[0] = 0x48));
    // Null packets, so that nothing else is damaged.
    agree(&damaged(&[1_100, 1_102]), &[("1.2", 2)]);
    agree(&damaged(&[1_100, 1_101, 1_102]), &[("1.1", 1), ("1.2", 3)]);
    let mut analyser = Analyser::new(Axis::Live);
    let mut feeder = Feeder::default();
    for (n, packet) in edited(|_| ()).iter().enumerate() {
        if [1_000, 1_500].contains(&n) {
            analyser.sync_lost(timestamp(packet.at), &mut |_, _| ());
            analyser.sync_lost(timestamp(packet.at), &mut |_, _| ());
        }
        feeder.feed(&mut analyser, packet, &mut |_, _| ());
    }
    assert_eq!(analyser.report().tr101290.get("1.1"), Some(&2));
}

#[test]
fn what_goes_by_unseen_is_no_absence() {
    let mut packets = stream(12, true);
    packets.retain(|packet| !(2_000..9_000).contains(&ms(packet)));
    number(&mut packets);
    let (mut analyser, mut feeder) = (Analyser::new(Axis::Live), Feeder::default());
    let mut before = Duration::ZERO;
    for packet in &packets {
        if packet.at - before > Duration::from_secs(1) {
            analyser.rebase();
        }
        before = packet.at;
        feeder.feed(&mut analyser, packet, &mut |_, event| {
            assert!(
                !matches!(event, TsEvent::Tr101290 { .. }),
                "{event:?} at {:?}",
                packet.at
            );
        });
    }
    assert_eq!(analyser.report().pids.len(), 9, "tables and PIDs stay");
    assert_eq!(analyser.report().tables.programmes.len(), 1);
}

#[test]
fn silence_is_no_absence_while_it_lasts() {
    let packets = edited(|_| ());
    let (mut analyser, mut told) = analyse(Axis::Live, &packets);
    told.clear();
    for seconds in 5..60 {
        analyser.advance(timestamp(Duration::from_secs(seconds)), &mut |_, event| {
            told.push(event)
        });
    }
    assert_eq!(told, []);
    assert_eq!(analyser.report().bitrate, Some(0));
}

#[test]
fn a_file_is_measured_by_its_own_clock() {
    for (axis, edit) in [
        (Axis::File, edited(|_| ())),
        (
            Axis::File,
            without(|packet| packet.pid() == 0 && (1_000..1_600).contains(&ms(packet))),
        ),
        (
            Axis::File,
            without(|packet| packet.pid() == PMT && (1_000..2_700).contains(&ms(packet))),
        ),
    ] {
        let live = counted(&edit);
        let file: BTreeMap<_, _> = analyse(axis, &edit)
            .0
            .report()
            .tr101290
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(file, live);
    }
}

#[test]
fn one_inaccurate_pcr_of_a_file() {
    // 27 periods are a microsecond.
    for (periods, count, nanos) in [(0, 0, 0), (13, 0, 482), (14, 1, 519), (27_000, 1, 1_000_000)] {
        let mut packets = stream(4, false);
        let packet = packets
            .iter_mut()
            .find(|packet| packet.frame == 60 && packet.has_pcr())
            .expect("one");
        let value = packet.pcr() + periods;
        packet.set_pcr(value);
        number(&mut packets);
        let report = analyse(Axis::File, &packets).0.report();
        assert_eq!(report.tr101290.get("2.4"), Some(&count), "{periods}");
        let pcr = report.pids.iter().find_map(|pid| pid.pcr).expect("PCRs");
        assert!(
            pcr.accuracy_checked.is_some_and(|checked| (70..100).contains(&checked)),
            "{pcr:?}"
        );
        assert_eq!(pcr.max_accuracy_ns, Some(nanos), "{periods}");
    }
}

#[test]
fn packets_lost_before_a_file_was_written_make_no_pcr_inaccurate() {
    let mut packets = stream(8, false);
    number(&mut packets);
    packets.retain(|packet| !(2_000..2_050).contains(&ms(packet)) && !(3_001..3_010).contains(&ms(packet)));
    let report = analyse(Axis::File, &packets).0.report();
    assert_eq!(report.tr101290.get("2.4"), Some(&0));
}

#[test]
fn rates_scrambling_and_time_stamps_are_reported() {
    let packets = edited(|packets| {
        for packet in packets
            .iter_mut()
            .filter(|packet| packet.pid() == AUDIO && packet.frame >= 25 && !packet.starts())
        {
            packet.bytes[3] |= 0xc0;
        }
    });
    let (analyser, told) = analyse(Axis::Live, &packets);
    let report = analyser.report();
    // 2500 packets a second.
    let near = |rate: Option<u64>, expected: u64| rate.is_some_and(|rate| rate.abs_diff(expected) <= expected / 100);
    assert!(
        near(report.bitrate, 2_500 * 1_504) && near(report.mean_bitrate, 2_500 * 1_504),
        "{report:?}"
    );
    let video = report.pids.iter().find(|pid| pid.pid == VIDEO).expect("video");
    assert!(
        near(video.bitrate, 59 * 25 * 1_504) && near(video.mean_bitrate, 59 * 25 * 1_504),
        "{video:?}"
    );
    assert_eq!(
        (video.stream_type, video.pts, video.dts, video.scrambled),
        (Some(0x1b), true, false, false)
    );
    let pcr = video.pcr.expect("PCRs");
    assert_eq!(
        (
            pcr.intervals,
            pcr.mean_interval_us,
            pcr.max_interval_us,
            pcr.max_jitter_us
        ),
        (99, 40_000, 40_000, Some(0))
    );
    let audio = report.pids.iter().find(|pid| pid.pid == AUDIO).expect("audio");
    assert_eq!(
        (audio.scrambled, audio.scrambled_packets, audio.pcr),
        (true, 75 * 9, None)
    );
    let scrambling = told
        .iter()
        .filter(|event| matches!(event, TsEvent::Scrambling { .. }))
        .collect::<Vec<_>>();
    assert_eq!(
        scrambling,
        [&TsEvent::Scrambling {
            pid: AUDIO,
            scrambled: true
        }]
    );
    let nulls = packets.iter().filter(|packet| packet.pid() == NULL_PID).count() as f64 * 100.0 / packets.len() as f64;
    assert!(
        report
            .mean_null_percent
            .is_some_and(|percent| (percent - nulls).abs() < 0.01)
    );
    assert!(report.null_percent.is_some_and(|percent| (percent - nulls).abs() < 1.0));
}

/// What a rule is told of a sound stream, without repeats.
fn checked(rule: &TsRule, packets: &[Timed]) -> Vec<TsEvent> {
    let (mut analyser, mut feeder, mut told) = (Analyser::new(Axis::Live), Feeder::default(), Vec::new());
    for packet in packets {
        feeder.feed(&mut analyser, packet, &mut |_, _| ());
        analyser.check(timestamp(packet.at), rule, &mut |_, event| {
            if !told.contains(&event) {
                told.push(event);
            }
        });
    }
    told
}

#[test]
fn a_rule_is_held_against_the_stream() {
    let hold = Duration::from_secs(10);
    let window = Duration::from_secs(1);
    let mut packets = stream(8, false);
    number(&mut packets);
    let bitrate = |min, max| TsRule {
        bitrate: Some(BitrateLimit {
            min,
            max,
            window,
            on_exceed: OnExceed::Alert,
            hold,
        }),
        ..TsRule::default()
    };
    assert_eq!(checked(&TsRule::default(), &packets), []);
    assert_eq!(checked(&bitrate(Some(3_700_000), Some(3_800_000)), &packets), []);
    let high = checked(&bitrate(None, Some(3_000_000)), &packets);
    assert!(
        matches!(
            high[0],
            TsEvent::BitrateHigh {
                bitrate: 3_750_000..3_770_000,
                limit: 3_000_000
            }
        ),
        "{high:?}"
    );
    let low = checked(&bitrate(Some(4_000_000), None), &packets);
    assert!(
        matches!(
            low[0],
            TsEvent::BitrateLow {
                bitrate: 3_750_000..3_770_000,
                limit: 4_000_000
            }
        ),
        "{low:?}"
    );
    let nulls = |max_percent| TsRule {
        null_packets: Some(NullPacketsLimit {
            max_percent,
            window,
            on_exceed: OnExceed::Alert,
            hold,
        }),
        ..TsRule::default()
    };
    assert_eq!(checked(&nulls(31), &packets), []);
    let many = checked(&nulls(20), &packets);
    assert!(
        matches!(
            many[0],
            TsEvent::NullShare {
                percent: 30 | 31,
                limit: 20
            }
        ),
        "{many:?}"
    );
    let types = TsRule {
        stream_types: Some(StreamTypesLimit {
            allowed: [0x1b].into_iter().collect(),
            on_exceed: OnExceed::Alert,
            hold,
        }),
        ..TsRule::default()
    };
    assert_eq!(
        checked(&types, &packets),
        [TsEvent::UnlistedStreamType {
            pid: AUDIO,
            stream_type: 0x0f
        }]
    );
    let pids = TsRule {
        pids: Some(PidsLimit {
            allowed: Some(PidSet::from_iter([0, VIDEO, PMT, 0x200])),
            required: PidSet::from_iter([VIDEO, 0x200]),
            on_exceed: OnExceed::Alert,
            hold,
        }),
        ..TsRule::default()
    };
    assert_eq!(
        checked(&pids, &packets),
        [TsEvent::UnlistedPid { pid: AUDIO }, TsEvent::MissingPid { pid: 0x200 }]
    );
}

#[test]
fn a_condition_is_told_once_a_second() {
    let mut packets = stream(4, false);
    number(&mut packets);
    let rule = TsRule {
        pids: Some(PidsLimit {
            allowed: Some(PidSet::from_iter([0])),
            required: PidSet::default(),
            on_exceed: OnExceed::Alert,
            hold: Duration::from_secs(10),
        }),
        ..TsRule::default()
    };
    let (mut analyser, mut feeder, mut told, mut looked) = (Analyser::new(Axis::Live), Feeder::default(), 0, 0);
    for packet in &packets {
        feeder.feed(&mut analyser, packet, &mut |_, _| ());
        looked += u32::from(analyser.check(timestamp(packet.at), &rule, &mut |_, _| told += 1));
    }
    // Nothing but null packets has come at the first look, then video, audio and PMT.
    assert_eq!((looked, told), (5, 12));
}

/// A splice_insert out of the network at that PTS.
fn splice_insert(pts: u64) -> Vec<u8> {
    let mut section = vec![
        0xfc, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, 15, 5, 0, 0, 0, 9, 0x7f, 0xcf,
    ];
    section.push(0xfe | (pts >> 32) as u8);
    section.extend((pts as u32).to_be_bytes());
    section.extend([0, 1, 0, 0, 0, 0]);
    section[2] = section.len() as u8 + 1;
    section.extend(
        crc::Crc::<u32>::new(&crc::CRC_32_MPEG_2)
            .checksum(&section)
            .to_be_bytes(),
    );
    section
}

#[test]
fn a_cue_has_its_preroll_from_the_time_stamps_of_the_video() {
    // Frame 50 presents at 2500 ms; the splice point is 4 s later.
    let packets = edited(|packets| {
        let place = packets
            .iter()
            .position(|packet| packet.frame == 50 && packet.pid() == NULL_PID && packet.at.as_millis() > 2_020);
        packets[place.expect("one")].bytes = table(0x300, &splice_insert(6_500 * 90));
    });
    for (limit, short) in [(3, false), (5, true)] {
        let mut rule = TsRule::default();
        rule.scte35.min_preroll = Some(Duration::from_secs(limit));
        let (mut analyser, mut feeder, mut told) = (Analyser::new(Axis::Live), Feeder::default(), Vec::new());
        analyser.set_rule(&rule);
        for packet in &packets {
            feeder.feed(&mut analyser, packet, &mut |_, event| {
                if let TsEvent::Cue(event) = event {
                    told.push(event);
                }
            });
        }
        let cues = analyser.report().cues;
        assert_eq!(cues.cues.len(), 1, "{told:?}");
        assert_eq!((cues.cues[0].preroll_ms, cues.cues[0].event_id), (Some(4_000), 9));
        let expected: Vec<_> = ["short-preroll", "unannounced"][usize::from(!short)..].to_vec();
        assert_eq!(cues.findings.keys().copied().collect::<Vec<_>>(), expected);
        assert_eq!(told.len(), 1 + expected.len());
    }
}

#[test]
fn packets_that_must_wait_are_wanted_for_what_they_carry() {
    let packets = edited(|_| ());
    let (analyser, _) = analyse(Axis::Live, &packets);
    let wanted = |pick: &dyn Fn(&Timed) -> bool| {
        let packet = packets.iter().find(|packet| pick(packet)).expect("one");
        analyser.wants(&mpegts::digest_packet(&packet.bytes, mpegts::Content::Sampled))
    };
    assert!(wanted(&|packet| packet.has_pcr()));
    assert!(wanted(&|packet| packet.pid() == PMT));
    assert!(wanted(&|packet| packet.pid() == AUDIO && packet.starts()));
    assert!(!wanted(&|packet| packet.pid() == AUDIO && !packet.starts()));
    assert!(!wanted(&|packet| packet.pid() == NULL_PID));
}

#[test]
fn a_stream_whose_packets_are_not_kept_is_still_sound() {
    // Every third datagram of seven waits; what it carried beyond `wants` is gone, and what it wanted is there.
    let packets = edited(|_| ());
    let (mut analyser, mut feeder) = (Analyser::new(Axis::Live), Feeder::default());
    for (n, packet) in packets.iter().enumerate() {
        let (slot, digest, gap) = feeder.judge(packet);
        let kept = n / 7 % 3 != 0 || analyser.wants(&digest);
        let bytes = kept.then_some(&packet.bytes);
        analyser.packet(timestamp(packet.at), slot, &digest, bytes, gap, &mut |_, event| {
            assert!(
                !matches!(event, TsEvent::Tr101290 { .. }),
                "{event:?} at {:?}",
                packet.at
            );
        });
    }
}

#[test]
fn eight_thousand_pids_with_everything_on_hold_little() {
    let (mut analyser, mut feeder) = (Analyser::new(Axis::Live), Feeder::default());
    for n in 0..40_000u64 {
        let pid = (n * 7 % 8191) as u16;
        let mut bytes = payload(pid, n as u8);
        bytes[1] |= 0x40;
        bytes[3] = 0xf0 | n as u8 & 0x0f;
        bytes[4..6].copy_from_slice(&[7, 0x90]);
        let packet = Timed {
            at: Duration::from_micros(n * 400),
            frame: 0,
            bytes,
        };
        feeder.feed(&mut analyser, &packet, &mut |_, _| ());
    }
    let tables = analyser.tables.memory();
    assert!(
        analyser.memory() - tables < 16_384 * 72 + 256 * 512,
        "{} bytes",
        analyser.memory() - tables
    );
}

proptest! {
    #[test]
    fn arbitrary_packets_are_harmless(
        packets in prop::collection::vec((any::<[u8; 32]>(), any::<u32>(), 0usize..40, any::<[bool; 4]>()), 0..400),
        in_file in any::<bool>(),
    ) {
        let mut analyser = Analyser::new(if in_file { Axis::File } else { Axis::Live });
        let mut now = 0u64;
        for (head, step, slot, [keep, gap, rebase, bad]) in packets {
            let mut bytes = [0x5a; PACKET_SIZE];
            bytes[..32].copy_from_slice(&head);
            // The judge gives each PID its own place.
            bytes[1] &= 0xe0;
            bytes[2] = slot as u8;
            // A capture's clock may step back.
            now = if step % 16 == 0 { now / 2 } else { now + u64::from(step) };
            let at = Timestamp::from_nanos(now);
            let digest = mpegts::digest_packet(&bytes, mpegts::Content::Full);
            if rebase && step % 3 == 0 { analyser.rebase() }
            if bad && gap { analyser.bad_sync(at, &mut |_, _| ()) }
            analyser.packet(at, slot, &digest, keep.then_some(&bytes), gap, &mut |_, _| ());
            analyser.check(at, &TsRule::default(), &mut |_, _| ());
            analyser.advance(at, &mut |_, _| ());
        }
        let report = analyser.report();
        prop_assert!(report.pids.len() <= 40);
    }
}
