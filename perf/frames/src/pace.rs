//! When the next frame is due and whose turn it is: the same for every generator.

use crate::layout::UNLISTED;
use crate::maps::{Control, Progress};
use crate::plan::Plan;
use crate::stream::Stream;

/// A frame to be made.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Whose it is.
    pub stream: Stream,
    /// As in [`crate::layout::Marker::stream`].
    pub marked: u32,
    /// Running number.
    pub number: u32,
}

/// Whether a frame is due at that time (CLOCK_MONOTONIC, nanoseconds), which then counts as made.
#[inline(always)]
pub fn due(control: &Control, progress: &mut Progress, time: u64) -> bool {
    if progress.change != control.change {
        // Another rate has a schedule of its own, which begins now: nothing is late in it.
        progress.change = control.change;
        progress.due = 0;
        progress.due_fraction = 0;
    }
    let sent = progress.listed.wrapping_add(progress.unlisted);
    if control.stop != 0 || time >= control.deadline || sent >= control.limit {
        progress.done = 1;
        return false;
    }
    if control.held != 0 {
        return false;
    }
    if control.interval == 0 {
        return true;
    }
    if progress.due == 0 {
        progress.due = time;
    }
    if time < progress.due {
        return false;
    }
    let late = time.wrapping_sub(progress.due);
    if late > control.patience {
        // Too late for these. Counted and passed over exactly, so that what is sent and what is left out stay the wanted rate.
        let left_out = (late.wrapping_sub(control.patience) << 16) / ((control.interval >> 16) | 1);
        progress.left_out = progress.left_out.wrapping_add(left_out);
        pass(control, progress, left_out);
    }
    pass(control, progress, 1);
    true
}

/// Moves the time at which the next frame is due by that many frames, fewer than 2^32.
#[inline(always)]
fn pass(control: &Control, progress: &mut Progress, frames: u64) {
    let fraction =
        (progress.due_fraction & 0xffff_ffff).wrapping_add((control.interval & 0xffff_ffff).wrapping_mul(frames));
    progress.due_fraction = fraction & 0xffff_ffff;
    progress.due = progress
        .due
        .wrapping_add((control.interval >> 32).wrapping_mul(frames))
        .wrapping_add(fraction >> 32);
}

/// Whose turn it is. Streams take turns, and between any two of them come as many unlisted sources as were asked for.
#[inline(always)]
pub fn turn(plan: &Plan, control: &Control, progress: &mut Progress) -> Turn {
    if control.listed == 0 || progress.unlisted_left > 0 {
        let number = progress.unlisted as u32;
        progress.unlisted = progress.unlisted.wrapping_add(1);
        progress.unlisted_left = progress.unlisted_left.saturating_sub(1);
        return Turn {
            stream: Stream::unlisted(plan, number),
            marked: number | UNLISTED,
            number,
        };
    }
    let index = progress.stream;
    progress.listed = progress.listed.wrapping_add(1);
    progress.unlisted_left = control.unlisted_each;
    let stream = Stream::listed(plan, index);
    let number = progress.round.wrapping_add(stream.phase);
    if index.wrapping_add(1) >= plan.streams {
        progress.stream = 0;
        progress.round = progress.round.wrapping_add(1);
    } else {
        progress.stream = index.wrapping_add(1);
    }
    Turn {
        stream,
        marked: index,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 us and a third, a rate that no whole number of nanoseconds makes.
    const INTERVAL: u64 = (10_000 << 32) / 3;
    const PATIENCE: u64 = 106_667;

    fn paced() -> Control {
        Control {
            interval: INTERVAL,
            deadline: u64::MAX,
            limit: u64::MAX,
            patience: PATIENCE,
            listed: 1,
            ..Control::default()
        }
    }

    /// Frames that are made at one and the same time, one after the other.
    fn burst(control: &Control, progress: &mut Progress, time: u64) -> u64 {
        let mut made = 0;
        while due(control, progress, time) {
            made += 1;
            assert!(made < 1000, "without an end");
        }
        made
    }

    #[test]
    fn what_a_late_generator_makes_up_for_is_bounded_and_the_rest_is_counted() {
        let (control, mut progress) = (paced(), Progress::default());
        assert_eq!(burst(&control, &mut progress, 1_000), 1);
        // Ten milliseconds away: 3,000 frames were due, of which 32 are sent.
        let made = burst(&control, &mut progress, 10_001_000);
        assert!((32..=34).contains(&made), "{made}");
        assert!((made + progress.left_out).abs_diff(3_000) <= 1, "{progress:?}");
        // And on it goes at the old pace, without a debt.
        let more = burst(&control, &mut progress, 10_001_000 + 33_334);
        assert!((9..=11).contains(&more), "ten more: {more}");
    }

    #[test]
    fn a_change_of_rate_owes_nothing_and_a_hold_sends_nothing() {
        let (mut control, mut progress) = (paced(), Progress::default());
        control.interval = 1_000_000 << 32;
        assert_eq!(burst(&control, &mut progress, 1_000), 1);
        // 300 times as fast: from the moment at which it is seen, and not since the last frame.
        control = Control { change: 1, ..paced() };
        assert_eq!(burst(&control, &mut progress, 900_000), 1);
        assert_eq!(burst(&control, &mut progress, 900_000 + 33_334), 10);
        control = Control {
            held: 1,
            change: 2,
            ..control
        };
        assert_eq!(burst(&control, &mut progress, 50_000_000), 0);
        assert_eq!((progress.change, progress.done), (2, 0), "seen, and not the end");
        control = Control {
            held: 0,
            change: 3,
            ..control
        };
        assert_eq!(burst(&control, &mut progress, 90_000_000), 1);
        assert_eq!(burst(&control, &mut progress, 90_000_000 + 33_334), 10);
        assert_eq!(progress.left_out, 0);
        // Held or not, the end is the end.
        control.held = 1;
        control.stop = 1;
        assert_eq!((burst(&control, &mut progress, 91_000_000), progress.done), (0, 1));
    }

    #[test]
    fn a_slower_rate_does_not_wait_for_what_the_faster_one_owes() {
        let (mut control, mut progress) = (paced(), Progress::default());
        burst(&control, &mut progress, 1_000);
        control.interval = 1_000_000 << 32;
        control.change = 1;
        let made: u64 = (0..=10)
            .map(|turn| burst(&control, &mut progress, 5_000_000 + turn * 1_000_000))
            .sum();
        assert_eq!((made, progress.left_out), (11, 0));
    }

    #[test]
    fn a_delay_within_the_patience_leaves_nothing_out() {
        let (control, mut progress) = (paced(), Progress::default());
        burst(&control, &mut progress, 1_000);
        let made: u64 = (1..=100)
            .map(|turn| burst(&control, &mut progress, 1_000 + turn * 100_000))
            .sum();
        assert_eq!((made, progress.left_out), (3_000, 0));
    }

    #[test]
    fn sent_and_left_out_together_are_the_wanted_rate_however_often_it_is_late() {
        let (control, mut progress) = (paced(), Progress::default());
        let mut made = burst(&control, &mut progress, 1);
        let mut time = 1;
        for turn in 0..1_000_u64 {
            time += 50_000 + turn * 7_919 % 900_000;
            made += burst(&control, &mut progress, time);
        }
        let wanted = (time - 1) * 3 / 10_000 + 1;
        assert!(
            (made + progress.left_out).abs_diff(wanted) <= 1,
            "{made} {progress:?} {wanted}"
        );
        assert!(progress.left_out > wanted / 2 && made > 30_000);
    }
}
