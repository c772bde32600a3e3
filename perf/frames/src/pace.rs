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
    let sent = progress.listed.wrapping_add(progress.unlisted);
    if control.stop != 0 || time >= control.deadline || sent >= control.limit {
        progress.done = 1;
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
        let left_out = (late << 16) / ((control.interval >> 16) | 1);
        progress.left_out = progress.left_out.wrapping_add(left_out);
        progress.due = time;
    }
    let fraction = (progress.due_fraction & 0xffff_ffff).wrapping_add(control.interval & 0xffff_ffff);
    progress.due_fraction = fraction & 0xffff_ffff;
    progress.due = progress
        .due
        .wrapping_add(control.interval >> 32)
        .wrapping_add(fraction >> 32);
    true
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
