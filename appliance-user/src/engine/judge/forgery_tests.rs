//! Somebody else's packets in a sound stream, and the appliance's own blindness: neither may make the stream look guilty.

use super::tests::{Rig, Sender, transport};
use super::*;

/// Events that would feed a block.
fn accusations(events: &[Event]) -> usize {
    let accuses = |event: &&Event| {
        matches!(
            event,
            Event::ContinuityError { tainted: false, .. } | Event::Lost { tainted: false, .. }
        )
    };
    events.iter().filter(accuses).count()
}

#[test]
fn forged_pairs_that_move_the_sequence_never_feed_a_block() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    rig.feed(&sender.take(1000));
    for pair in 0..6 {
        let mut forged = Sender::new(30_000 + pair * 2000, 0xffff, 2).take(2);
        forged[1].ts[0].control = 0x1d;
        forged[1].hash = 7;
        rig.feed(&forged);
        rig.feed(&sender.take(400));
    }
    let (judge, events) = rig.finish();
    assert_eq!(accusations(&events), 0, "{events:?}");
    assert!(judge.transport().resets >= 6);
}

#[test]
fn a_number_forged_ahead_of_a_slow_stream_never_feeds_a_block() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    let interval = Duration::from_millis(50);
    for digest in sender.take(400) {
        rig.pause(interval);
        rig.drop_in(&digest);
    }
    for ahead in [20, 38, 100] {
        let mut forged = sender.clone_next();
        forged.sequence += ahead;
        forged.hash = 99;
        rig.drop_in(&forged);
        for digest in sender.take(200) {
            rig.pause(interval);
            rig.drop_in(&digest);
        }
    }
    let (_, events) = rig.finish();
    assert_eq!(accusations(&events), 0, "{events:?}");
}

#[test]
fn a_finding_from_outside_taints_what_stands_beside_it() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    rig.feed(&sender.take(300));
    sender.next();
    rig.feed(&sender.take(20));
    rig.judge.taint(rig.now);
    rig.feed(&sender.take(300));
    let (judge, events) = rig.finish();
    assert_eq!(judge.transport().lost, 1);
    assert_eq!(accusations(&events), 0, "{events:?}");
}

#[test]
fn what_the_appliance_did_not_see_is_nobodys_loss() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(65_000));
    rig.feed(&sender.take(1000));
    sender.next();
    rig.feed(&sender.take(5));
    sender.take(700);
    rig.blind();
    rig.feed(&sender.take(1000));
    let (judge, events) = rig.finish();
    assert_eq!(transport(&judge), [0, 0, 0, 0, 0, 1]);
    let errors = judge.ts().continuity_errors;
    assert_eq!((errors.source, errors.network), (0, 0));
    assert_eq!(accusations(&events), 0);
}

#[test]
fn a_wide_jump_takes_the_room_of_what_came_only() {
    let mut rig = Rig::new(Ordering::Srt);
    for sequence in [1, 2, 16_000] {
        let mut digest = Sender::new(sequence, 0x7fff_ffff, 2).next();
        digest.hash = sequence;
        rig.now = rig.now.after(Duration::from_micros(1));
        rig.drop_in(&digest);
    }
    let sequencer = &rig.judge.sequencer;
    assert!(sequencer.waiting_room() <= 8, "{}", sequencer.waiting_room());
    assert!(sequencer.remembered() <= 1024, "{}", sequencer.remembered());
}

/// Numbers from `sequence` on, with other bytes and other counters than any sender here has.
fn forged(sequence: u32, count: usize) -> Vec<tidegate_common::digest::PacketDigest> {
    let mut packets = Sender::new(sequence & 0xffff, 0xffff, 2).take(count);
    for (n, digest) in packets.iter_mut().enumerate() {
        digest.hash = 0xf000_0000 + sequence + n as u32;
        digest.ts[0].control = 0x1d;
    }
    packets
}

fn conflicts(events: &[Event]) -> usize {
    let conflict = |event: &&Event| matches!(event, Event::SequenceConflict { .. });
    events.iter().filter(conflict).count()
}

#[test]
fn consecutive_forgeries_between_genuine_packets_stay_conflicts() {
    for (back, step) in [(60, 1), (60, 0), (100, 2), (30, 3), (5, 1)] {
        let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
        rig.feed(&sender.take(1000));
        for n in 0..6 {
            rig.drop_in(&forged(1000 - back + n * step, 1)[0]);
            rig.feed(&sender.take(1));
        }
        rig.feed(&sender.take(1000));
        let (judge, events) = rig.finish();
        assert_eq!(conflicts(&events), 6, "{back} {step}");
        assert_eq!((transport(&judge), accusations(&events)), ([0; 6], 0));
        assert_eq!(judge.ts().packets, 2006 * 7);
    }
}

#[test]
fn two_forgeries_in_a_row_move_nothing_and_are_told_without_another_packet() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    rig.feed(&sender.take(1000));
    rig.feed(&forged(950, 2));
    rig.pause(Duration::from_secs(3));
    rig.feed(&sender.take(1000));
    let (judge, events) = rig.finish();
    assert_eq!((conflicts(&events), transport(&judge)), (2, [0; 6]));
}

#[test]
fn forgeries_ahead_of_the_genuine_packets_stay_conflicts() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    rig.feed(&sender.take(1000));
    rig.feed(&forged(1000, 6));
    rig.feed(&sender.take(1000));
    let (judge, events) = rig.finish();
    assert_eq!((conflicts(&events), judge.transport().resets), (6, 0));
    assert_eq!(accusations(&events), 0, "{events:?}");
}

#[test]
fn forged_runs_that_move_the_sequence_back_never_feed_a_block() {
    let (mut rig, mut sender) = (Rig::rtp(), Sender::rtp(0));
    rig.feed(&sender.take(1000));
    for run in 0..6 {
        rig.feed(&forged(1000 + run * 400 - 50, 4));
        rig.feed(&sender.take(400));
    }
    let (judge, events) = rig.finish();
    assert_eq!(accusations(&events), 0, "{events:?}");
    assert!(judge.transport().resets >= 6);
}
