//! The judge before cases whose truth is known because they are made here.

use core::time::Duration;

use proptest::prelude::*;
use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest, TsDigest};

use super::*;

const WINDOW: Duration = Duration::from_millis(50);
/// One packet a millisecond.
const TICK: Duration = Duration::from_millis(1);

/// A sender of sound datagrams: seven TS packets, PIDs in turn, every counter right.
pub(super) struct Sender {
    sequence: u32,
    mask: u32,
    sent: u32,
    pids: u16,
    counters: Vec<u8>,
}

impl Sender {
    pub(super) fn new(sequence: u32, mask: u32, pids: u16) -> Self {
        Sender {
            sequence,
            mask,
            sent: 0,
            pids,
            counters: vec![0; pids.into()],
        }
    }

    pub(super) fn rtp(sequence: u16) -> Self {
        Self::new(sequence.into(), 0xffff, 2)
    }

    pub(super) fn next(&mut self) -> PacketDigest {
        let mut digest = PacketDigest {
            sequence: self.sequence,
            hash: 0x1000 + self.sent,
            ts_visible: true,
            ts_count: MAX_TS_PACKETS as u8,
            ..PacketDigest::default()
        };
        for (place, ts) in digest.ts.iter_mut().enumerate() {
            let pid = (self.sent as usize * MAX_TS_PACKETS + place) % usize::from(self.pids);
            let counter = self.counters[pid];
            self.counters[pid] = (counter + 1) % 16;
            let hash = self.sent * 7 + place as u32;
            *ts = TsDigest {
                head: 0x100 + pid as u16,
                control: 0x10 | counter,
                adaptation_flags: 0,
                hash,
            };
        }
        self.sequence = (self.sequence + 1) & self.mask;
        self.sent += 1;
        digest
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<PacketDigest> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// A judge with its clock and what it told.
pub(super) struct Rig {
    pub(super) judge: Judge,
    pub(super) now: Timestamp,
    events: Vec<Event>,
}

impl Rig {
    pub(super) fn new(ordering: Ordering) -> Self {
        let judge = Judge::new(ordering, WINDOW, UnsequencedFault::Unknown);
        Rig {
            judge,
            now: Timestamp::from_nanos(1_000_000_000),
            events: Vec::new(),
        }
    }

    pub(super) fn rtp() -> Self {
        Self::new(Ordering::Rtp)
    }

    /// One packet, now, without time passing.
    pub(super) fn drop_in(&mut self, digest: &PacketDigest) {
        self.is_new(digest);
    }

    /// The same; whether the judge took it for new.
    pub(super) fn is_new(&mut self, digest: &PacketDigest) -> bool {
        self.judge
            .offer_digest(self.now, digest, TsBytes::default(), &mut |event| {
                self.events.push(event)
            })
    }

    pub(super) fn rebase(&mut self) {
        self.judge.rebase(&mut |event| self.events.push(event));
    }

    pub(super) fn blind(&mut self) {
        self.judge.blind(&mut |event| self.events.push(event));
    }

    /// Packets, a tick apart.
    pub(super) fn feed<'a>(&mut self, digests: impl IntoIterator<Item = &'a PacketDigest>) {
        for digest in digests {
            self.now = self.now.after(TICK);
            self.drop_in(digest);
        }
    }

    pub(super) fn pause(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.judge.advance(self.now, &mut |event| self.events.push(event));
    }

    pub(super) fn finish(mut self) -> (Judge, Vec<Event>) {
        self.judge.flush(&mut |event| self.events.push(event));
        (self.judge, self.events)
    }
}

fn faults(judge: &Judge) -> (u64, u64, u64) {
    let errors = judge.ts().continuity_errors;
    (errors.source, errors.network, errors.unknown)
}

pub(super) fn transport(judge: &Judge) -> [u64; 6] {
    let t = judge.transport();
    [t.lost, t.reordered, t.duplicated, t.retransmitted, t.late, t.resets]
}

fn findings(events: &[Event]) -> (usize, usize) {
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    (
        count(|e| matches!(e, Event::SequenceConflict { .. })),
        count(|e| matches!(e, Event::OutOfWindow { .. })),
    )
}

#[test]
fn a_sound_stream_is_judged_at_once_and_found_sound() {
    let mut rig = Rig::rtp();
    for (n, digest) in Sender::rtp(65_000).take(2000).iter().enumerate() {
        rig.feed([digest]);
        assert_eq!(rig.judge.ts().packets, 7 * (n as u64 + 1));
    }
    let (judge, events) = rig.finish();
    assert_eq!((transport(&judge), faults(&judge), events), ([0; 6], (0, 0, 0), vec![]));
    assert_eq!(judge.pids().map(|pid| pid.packets).sum::<u64>(), 14_000);
}

#[test]
fn a_packet_is_waited_for_until_the_window_is_over() {
    for (ticks, lost, late) in [(48, 0, 0), (53, 1, 1)] {
        let mut rig = Rig::rtp();
        let mut sent = Sender::rtp(10).take(200);
        let missing = sent.remove(20);
        rig.feed(&sent[..20]);
        rig.feed(&sent[20..20 + ticks]);
        rig.feed([&missing]);
        rig.feed(&sent[20 + ticks..]);
        let (judge, events) = rig.finish();
        assert_eq!(transport(&judge), [lost, 1, 0, 0, late, 0], "after {ticks} ms");
        // Both PIDs have packets in the missing datagram.
        assert_eq!(faults(&judge), (0, lost * 2, 0));
        assert_eq!(
            events
                .iter()
                .filter(|event| matches!(event, Event::Late { .. }))
                .count() as u64,
            late
        );
    }
}

#[test]
fn the_window_runs_out_without_another_packet() {
    let mut rig = Rig::rtp();
    let mut sent = Sender::rtp(10).take(30);
    sent.remove(20);
    rig.feed(&sent);
    assert_eq!(rig.judge.ts().packets, 20 * 7);
    rig.pause(Duration::from_millis(51));
    assert_eq!((rig.judge.transport().lost, rig.judge.ts().packets), (1, 29 * 7));
}

#[test]
fn a_longer_window_waits_longer() {
    let mut rig = Rig::new(Ordering::Srt);
    rig.judge.set_window(Duration::from_secs(1));
    let mut sender = Sender::new(0x7fff_ff00, 0x7fff_ffff, 2);
    let mut sent = sender.take(1500);
    let mut missing = sent.remove(300);
    missing.retransmitted = true;
    rig.feed(&sent[..1290]);
    assert_eq!(rig.judge.ts().packets, 300 * 7);
    rig.feed([&missing]);
    rig.feed(&sent[1290..]);
    let (judge, events) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge), events.len()),
        ([0, 0, 0, 1, 0, 0], (0, 0, 0), 0)
    );
    assert_eq!(judge.ts().packets, 1500 * 7);
}

#[test]
fn reordering_across_both_wraps_is_only_reordering() {
    let cases = [(Ordering::Rtp, 0xffff), (Ordering::Srt, 0x7fff_ffff)];
    for (ordering, mask) in cases {
        for shift in 0..24 {
            let mut rig = Rig::new(ordering);
            let mut sent = Sender::new(mask - 20 - shift, mask, 3).take(60);
            sent[15..45].reverse();
            rig.feed(&sent);
            let (judge, events) = rig.finish();
            assert_eq!(
                (transport(&judge), faults(&judge)),
                ([0, 29, 0, 0, 0, 0], (0, 0, 0)),
                "{ordering:?} {shift}"
            );
            assert_eq!((judge.ts().packets, events.len()), (60 * 7, 0));
        }
    }
}

#[test]
fn one_spoofed_packet_far_ahead_costs_nothing() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(60_000);
    rig.feed(&sender.take(500));
    let spoofed = PacketDigest {
        sequence: (sender.sequence + 1000) & 0xffff,
        hash: 1,
        ..sender.clone_next()
    };
    rig.drop_in(&spoofed);
    rig.feed(&sender.take(2000));
    let (judge, events) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge), findings(&events)),
        ([0; 6], (0, 0, 0), (0, 1))
    );
    assert_eq!(judge.ts().packets, 2500 * 7);
}

impl Sender {
    /// What would come next, without sending it.
    pub(super) fn clone_next(&self) -> PacketDigest {
        let counters = self.counters.clone();
        Sender {
            sequence: self.sequence,
            mask: self.mask,
            sent: self.sent,
            pids: self.pids,
            counters,
        }
        .next()
    }
}

#[test]
fn a_restart_is_confirmed_by_its_second_packet() {
    for offset in [20_000_u32, 45_000, 150, 65_536 - 300] {
        let mut rig = Rig::rtp();
        let mut sender = Sender::rtp(1000);
        rig.feed(&sender.take(500));
        let mut restarted = Sender::new((sender.sequence + offset) & 0xffff, 0xffff, 2);
        restarted.counters = vec![9, 3];
        restarted.sent = 5000;
        rig.feed(&restarted.take(500));
        let (judge, events) = rig.finish();
        assert_eq!(
            (transport(&judge), faults(&judge)),
            ([0, 0, 0, 0, 0, 1], (0, 0, 0)),
            "offset {offset}"
        );
        assert_eq!(judge.ts().packets, 7000, "the candidate is judged too");
        assert!(
            matches!(
                events[..],
                [Event::Reset {
                    cause: ResetCause::Restart,
                    lost: 0,
                    ..
                }]
            ),
            "{events:?}"
        );
    }
}

#[test]
fn a_restart_a_little_way_back_is_confirmed_too() {
    for back in [20_u32, 50, 100, 500, 1200] {
        // The sender's null-only datagrams are those that it sent before.
        for null_every in [u32::MAX, 2, 3] {
            let null = |digest: &mut PacketDigest| {
                if digest.sequence.is_multiple_of(null_every) {
                    digest.hash = 0;
                    digest.ts = [TsDigest {
                        head: 0x1fff,
                        control: 0x10,
                        ..TsDigest::default()
                    }; MAX_TS_PACKETS];
                }
            };
            let mut rig = Rig::rtp();
            let mut sender = Sender::new(1001, 0xffff, 2);
            let mut sent = sender.take(1500);
            let first = (sender.sequence - back) | 1;
            let mut restarted = Sender::new(first, 0xffff, 2);
            restarted.sent = 5000;
            let mut again = restarted.take(1000);
            if null_every != u32::MAX {
                // What the null packets replace is not sent, so no counter counts it.
                for digest in sent.iter_mut().chain(&mut again) {
                    null(digest);
                    digest.ts_count = 0;
                }
            }
            rig.feed(&sent);
            rig.feed(&again);
            let (judge, events) = rig.finish();
            assert_eq!(findings(&events), (0, 0), "{back} {null_every}");
            let [lost, .., late, resets] = transport(&judge);
            assert_eq!((lost, late, resets), (0, 0, 1), "{back} {null_every}");
            assert_eq!(faults(&judge), (0, 0, 0));
        }
    }
}

#[test]
fn an_outage_counts_its_losses_and_no_continuity_error() {
    for missing in [60_usize, 1000, 5000] {
        let mut rig = Rig::rtp();
        let mut sender = Sender::rtp(62_000);
        rig.feed(&sender.take(500));
        sender.take(missing);
        rig.pause(TICK * missing as u32);
        rig.feed(&sender.take(500));
        let (judge, events) = rig.finish();
        assert_eq!(transport(&judge), [missing as u64, 0, 0, 0, 0, 1], "{missing} ms");
        assert_eq!((faults(&judge), judge.ts().packets), ((0, 0, 0), 7000));
        let told: u64 = events
            .iter()
            .map(|e| if let Event::Lost { count, .. } = e { *count } else { 0 })
            .sum();
        assert_eq!(told, missing as u64);
        assert!(events.iter().any(|event| matches!(
            event,
            Event::Reset {
                cause: ResetCause::Outage,
                ..
            }
        )));
    }
}

#[test]
fn a_jump_that_the_silence_cannot_explain_is_a_restart() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(100);
    rig.feed(&sender.take(500));
    rig.pause(Duration::from_secs(1));
    sender.take(20_000);
    rig.feed(&sender.take(500));
    let (judge, _) = rig.finish();
    assert_eq!((transport(&judge), faults(&judge)), ([0, 0, 0, 0, 0, 1], (0, 0, 0)));
}

#[test]
fn a_pause_without_missing_numbers_is_nothing() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(100);
    rig.feed(&sender.take(500));
    rig.pause(Duration::from_secs(7));
    rig.feed(&sender.take(500));
    let (judge, events) = rig.finish();
    assert_eq!((transport(&judge), faults(&judge), events), ([0; 6], (0, 0, 0), vec![]));
}

#[test]
fn copies_are_counted_by_what_they_are() {
    let mut rig = Rig::rtp();
    let sent = Sender::rtp(65_500).take(300);
    rig.feed(&sent[..100]);
    rig.feed(&sent[60..100]);
    let again: Vec<_> = sent[90..100]
        .iter()
        .map(|d| PacketDigest {
            retransmitted: true,
            ..*d
        })
        .collect();
    rig.feed(&again);
    rig.feed(&sent[100..]);
    let (judge, events) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge), events),
        ([0, 0, 40, 10, 0, 0], (0, 0, 0), vec![])
    );
    assert_eq!(judge.ts().packets, 2100);
}

#[test]
fn what_is_new_is_neither_a_copy_nor_late_nor_alone() {
    let mut rig = Rig::rtp();
    let sent = Sender::rtp(100).take(400);
    assert!(sent[..100].iter().all(|digest| rig.is_new(digest)));
    assert!(!sent[..100].iter().any(|digest| rig.is_new(digest)), "copies");
    assert!(rig.is_new(&sent[102]), "behind a gap");
    assert!(rig.is_new(&sent[101]), "reordered");
    rig.pause(WINDOW * 2);
    assert!(!rig.is_new(&sent[100]), "late");
    let mut restarted = Sender::rtp(30_000).take(3);
    assert!(!rig.is_new(&restarted[0]), "alone");
    assert!(rig.is_new(&restarted[1]), "a new sequence");
    restarted[2].hash = 1;
    restarted[2].sequence = 30_000;
    assert!(!rig.is_new(&restarted[2]), "a conflict");
}

#[test]
fn copies_of_a_whole_path_far_behind_are_no_restart() {
    // The second path of a 2022-7 pair may lag by far more than the reorder window.
    let mut rig = Rig::rtp();
    let sent = Sender::rtp(0).take(3000);
    for n in 0..2000 {
        rig.feed([&sent[n + 1000]]);
        if n >= 400 {
            rig.drop_in(&sent[n + 600]);
        }
    }
    let (judge, events) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge), events.len()),
        ([0, 0, 1600, 0, 0, 0], (0, 0, 0), 0)
    );
}

#[test]
fn another_content_under_a_known_number_is_a_conflict() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(7);
    rig.feed(&sender.take(200));
    let forged = PacketDigest {
        hash: 1,
        sequence: 150,
        ..sender.clone_next()
    };
    rig.drop_in(&forged);
    rig.feed(&sender.take(200));
    let (judge, events) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge), findings(&events)),
        ([0; 6], (0, 0, 0), (1, 0))
    );
}

#[test]
fn events_beside_a_conflict_are_tainted_even_when_the_forgery_came_first() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(7);
    rig.feed(&sender.take(300));
    // Six forged packets, each a moment before the genuine one with its number, each with its own idea of the counters.
    for _ in 0..6 {
        let mut forged = sender.clone_next();
        forged.hash = 1;
        for ts in &mut forged.ts {
            ts.control ^= 0x07;
        }
        rig.drop_in(&forged);
        rig.feed(&sender.take(20));
    }
    rig.feed(&sender.take(1000));
    let (judge, events) = rig.finish();
    assert_eq!(findings(&events).0, 6);
    assert!(faults(&judge).0 > 0, "the forged packets were judged");
    let untainted = events
        .iter()
        .filter(|event| matches!(event, Event::ContinuityError { tainted: false, .. }));
    assert_eq!(untainted.count(), 0);
}

#[test]
fn losses_behind_a_number_forged_ahead_are_tainted() {
    for interval in [1_u32, 20] {
        let mut rig = Rig::rtp();
        let mut sender = Sender::rtp(7);
        let send = |rig: &mut Rig, digest: &PacketDigest| {
            rig.now = rig.now.after(TICK * interval);
            rig.drop_in(digest);
        };
        for digest in sender.take(300) {
            send(&mut rig, &digest);
        }
        let forged = PacketDigest {
            sequence: sender.sequence + 99,
            hash: 1,
            ..sender.clone_next()
        };
        rig.drop_in(&forged);
        for digest in sender.take(1000) {
            send(&mut rig, &digest);
        }
        let (judge, events) = rig.finish();
        assert!(judge.transport().lost > 0, "what came after the window was given up");
        assert_eq!(findings(&events).0, 1);
        assert!(
            events
                .iter()
                .all(|event| !matches!(event, Event::Lost { tainted: false, .. })),
            "every {interval} ms"
        );
    }
}

#[test]
fn a_real_error_long_after_a_finding_is_not_tainted() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::rtp(7);
    rig.feed(&sender.take(300));
    rig.drop_in(&PacketDigest {
        hash: 1,
        sequence: 250,
        ..sender.clone_next()
    });
    rig.feed(&sender.take(1000));
    sender.counters[0] += 1;
    rig.feed(&sender.take(1000));
    let (_, events) = rig.finish();
    let tainted: Vec<bool> = events
        .iter()
        .filter_map(|e| {
            if let Event::ContinuityError { tainted, .. } = e {
                Some(*tainted)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(tainted, [false]);
}

#[test]
fn a_sender_of_bursts_is_not_away_between_them() {
    // Bursts of 20 packets every 110 ms, longer than the window; the first two of every third are in the wrong order.
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(65_400));
    let bursts = 60;
    for burst in 0..bursts {
        let mut packets = sender.take(20);
        if burst % 3 == 2 {
            packets.swap(0, 1);
        }
        rig.pause(Duration::from_millis(110));
        packets.iter().for_each(|packet| rig.drop_in(packet));
    }
    let (judge, _) = rig.finish();
    assert_eq!(
        (transport(&judge), faults(&judge)),
        ([0, bursts / 3, 0, 0, 0, 0], (0, 0, 0))
    );
}

#[test]
fn a_burst_of_losses_is_charged_to_the_network_once_per_pid() {
    let mut rig = Rig::rtp();
    let mut sent = Sender::new(65_500, 0xffff, 3).take(400);
    sent.drain(100..110);
    rig.feed(&sent);
    let (judge, events) = rig.finish();
    assert_eq!((transport(&judge), faults(&judge)), ([10, 0, 0, 0, 0, 0], (0, 3, 0)));
    assert!(events.iter().any(|event| matches!(
        event,
        Event::Lost {
            count: 10,
            tainted: false,
            ..
        }
    )));
}

#[test]
fn fifteen_lost_tables_are_no_duplicate() {
    // A static table: equal bytes but for the counter. Sixteen datagrams of which fifteen are lost.
    let table = |n: u32| {
        let mut digest = PacketDigest {
            sequence: n,
            hash: n,
            ts_visible: true,
            ts_count: 1,
            ..PacketDigest::default()
        };
        let control = 0x10 | (n % 15) as u8;
        digest.ts[0] = TsDigest {
            head: 0,
            control,
            adaptation_flags: 0,
            hash: 0x7ab1e,
        };
        digest
    };
    let mut rig = Rig::rtp();
    rig.feed([
        &table(15),
        &PacketDigest {
            ts: table(30).ts,
            ..table(31)
        },
    ]);
    let (judge, _) = rig.finish();
    assert_eq!((faults(&judge), judge.ts().duplicates), ((0, 1, 0), 0));
    assert_eq!(judge.transport().lost, 15);
}

#[test]
fn a_source_switch_on_eight_pids_is_one_incident() {
    let mut rig = Rig::rtp();
    let mut sender = Sender::new(500, 0xffff, 8);
    rig.feed(&sender.take(200));
    for counter in &mut sender.counters {
        *counter = (*counter + 5) % 16;
    }
    rig.feed(&sender.take(200));
    let (judge, events) = rig.finish();
    assert_eq!((faults(&judge), transport(&judge)), ((8, 0, 0), [0; 6]));
    let mut incidents = incidents::Incidents::new();
    for event in &events {
        let Event::ContinuityError {
            at,
            fault: Fault::Source,
            tainted: false,
            ..
        } = event
        else {
            panic!("{event:?}")
        };
        incidents.event(*at);
    }
    assert_eq!((events.len(), incidents.count()), (8, 1));
}

#[test]
fn a_new_source_rebases() {
    let mut rig = Rig::rtp();
    rig.feed(&Sender::rtp(500).take(200));
    rig.rebase();
    let mut other = Sender::rtp(40_000);
    other.counters = vec![7, 7];
    rig.feed(&other.take(200));
    let (judge, events) = rig.finish();
    assert_eq!((transport(&judge), faults(&judge)), ([0, 0, 0, 0, 0, 1], (0, 0, 0)));
    assert!(
        matches!(
            events[..],
            [Event::Reset {
                cause: ResetCause::NewSource,
                ..
            }]
        ),
        "{events:?}"
    );
}

#[test]
fn without_numbers_nobody_knows_whose_fault_it_was_but_in_a_file() {
    for (unsequenced, expected) in [
        (UnsequencedFault::Unknown, (0, 0, 2)),
        (UnsequencedFault::Source, (2, 0, 0)),
    ] {
        let mut judge = Judge::new(Ordering::Arrival, Duration::ZERO, unsequenced);
        let mut events = Vec::new();
        let mut sent = Sender::rtp(0).take(20);
        sent.remove(10);
        for digest in &sent {
            judge.offer_digest(Timestamp::default(), digest, TsBytes::default(), &mut |event| {
                events.push(event)
            });
        }
        assert_eq!((faults(&judge), events.len()), (expected, 2), "told at once");
    }
}

#[test]
fn bad_sync_is_left_out_and_shows_in_the_next_packet() {
    let mut sent = Sender::rtp(0).take(20);
    sent[10].bad_sync = 0b1;
    sent[12].ts[3].head |= 0x8000;
    let mut rig = Rig::rtp();
    rig.feed(&sent);
    let (judge, _) = rig.finish();
    assert_eq!((judge.ts().sync_byte_errors, judge.ts().transport_errors), (1, 1));
    assert_eq!((faults(&judge), judge.ts().packets), ((1, 0, 0), 140));
}

#[test]
fn what_went_by_unseen_is_not_guessed() {
    let mut sent = Sender::rtp(0).take(40);
    for digest in &mut sent[10..20] {
        digest.ts_visible = false;
    }
    let mut rig = Rig::rtp();
    rig.feed(&sent);
    let (judge, _) = rig.finish();
    assert_eq!((faults(&judge), judge.ts().packets), ((0, 0, 0), 30 * 7));
}

#[test]
fn a_quiet_stream_takes_little_memory_and_gives_the_rest_back() {
    assert!(size_of::<Judge>() < 700, "{}", size_of::<Judge>());
    let mut rig = Rig::new(Ordering::Srt);
    rig.judge.set_window(Duration::from_secs(1));
    let mut sent = Sender::new(5, 0x7fff_ffff, 2).take(3000);
    sent.remove(400);
    rig.feed(&sent[..1]);
    assert_eq!(rig.judge.sequencer.remembered(), 128, "half a KiB for a lone packet");
    rig.feed(&sent[1..]);
    assert_eq!(rig.judge.sequencer.remembered(), 2048, "8 KiB for a stream");
    assert!(rig.judge.sequencer.waiting_room() >= 1000);
    rig.pause(Duration::from_secs(11));
    assert_eq!(rig.judge.sequencer.waiting_room(), 0);
}

#[test]
fn a_slow_stream_remembers_two_seconds() {
    let mut rig = Rig::rtp();
    for packet in &Sender::rtp(0).take(2000) {
        rig.feed(core::slice::from_ref(packet));
        rig.pause(Duration::from_millis(4));
    }
    assert_eq!(rig.judge.sequencer.remembered(), 512, "200 packets a second or so");
}

/// Reorders within a distance: each packet is held up by as much as `reach` places, so that a missing one comes at most
/// twice as many places after the packet that shows it missing.
fn shuffled(count: usize, reach: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..=reach, count).prop_map(|delays| {
        let mut order: Vec<usize> = (0..delays.len()).collect();
        // The first packet opens the sequence: what precedes it was never expected.
        order.sort_by_key(|n| if *n == 0 { 0 } else { n + delays[*n] });
        order
    })
}

proptest! {
    /// Any permutation within the window gives what the sorted stream gives, errors of the source included.
    #[test]
    fn order_within_the_window_does_not_matter(
        order in shuffled(400, 24),
        start in prop_oneof![Just(0_u32), Just(65_300), Just(65_535), 0_u32..65_536],
        faults_at in proptest::collection::btree_set(1_usize..400, 0..10),
        srt in any::<bool>(),
    ) {
        let (ordering, mask) = if srt { (Ordering::Srt, 0x7fff_ffff) } else { (Ordering::Rtp, 0xffff) };
        let mut sender = Sender::new(if srt { mask - 65_536 + start } else { start }, mask, 3);
        let sent: Vec<_> = (0..400)
            .map(|n| {
                if faults_at.contains(&n) {
                    sender.counters[n % 3] = (sender.counters[n % 3] + 3) % 16;
                }
                sender.next()
            })
            .collect();
        let (mut sorted, mut permuted) = (Rig::new(ordering), Rig::new(ordering));
        sorted.feed(&sent);
        permuted.feed(order.iter().map(|n| &sent[*n]));
        let highest = |position: usize| order[..position].iter().max().copied().unwrap_or(0);
        let expected = order.iter().enumerate().filter(|(place, n)| **n < highest(*place)).count();
        let (sorted, permuted) = (sorted.finish().0, permuted.finish().0);
        prop_assert_eq!(sorted.ts(), permuted.ts());
        prop_assert_eq!(sorted.pids().collect::<Vec<_>>(), permuted.pids().collect::<Vec<_>>());
        prop_assert_eq!(transport(&permuted), [0, expected as u64, 0, 0, 0, 0]);
    }

    /// Whatever comes, whenever it comes: no panic, and every digest is judged once at most.
    #[test]
    fn arbitrary_sequences_are_harmless(
        steps in proptest::collection::vec(
            (prop_oneof![0_u32..40, 65_500_u32..65_536, any::<u32>()], 0_u64..200, 0_u32..3, any::<bool>()), 1..600),
        srt in any::<bool>(),
    ) {
        let mut rig = Rig::new(if srt { Ordering::Srt } else { Ordering::Rtp });
        let mut sender = Sender::rtp(0);
        let count = steps.len() as u64;
        for (sequence, pause, hash, retransmitted) in steps {
            rig.now = rig.now.after(Duration::from_millis(pause));
            let digest = PacketDigest { sequence, hash, retransmitted, ..sender.next() };
            rig.drop_in(&digest);
        }
        let (judge, _) = rig.finish();
        prop_assert!(judge.ts().packets <= count * 7);
    }

    /// Loss, reordering and copies at random: what came in time is judged, and lost is what did not.
    #[test]
    fn every_number_is_judged_or_lost(
        order in shuffled(300, 24),
        lost in proptest::collection::btree_set(1_usize..299, 0..60),
        doubled in proptest::collection::btree_set(1_usize..299, 0..20),
    ) {
        let sent = Sender::rtp(65_400).take(300);
        let mut rig = Rig::rtp();
        for n in order.iter().filter(|n| !lost.contains(n)) {
            rig.feed([&sent[*n]]);
            if doubled.contains(n) {
                rig.drop_in(&sent[*n]);
            }
        }
        let (judge, _) = rig.finish();
        let copies = doubled.difference(&lost).count() as u64;
        prop_assert_eq!(judge.transport().lost, lost.len() as u64);
        prop_assert_eq!(judge.transport().duplicated, copies);
        prop_assert_eq!(judge.ts().packets, 7 * (300 - lost.len() as u64));
        prop_assert_eq!(judge.ts().continuity_errors.source, 0, "nothing was wrong at the source");
    }
}

/// What a packet of a sound stream touches of its judge lies within four cache lines, the PIDs' own apart.
#[test]
fn what_every_packet_needs_lies_together() {
    assert!(Judge::HOT.len() <= 4 * 64, "{:?}", Judge::HOT);
    assert!(size_of::<Judge>() <= 576, "{}", size_of::<Judge>());
}
