//! A media stream's part in its group: the numbers that its home must know, gathered into few messages.

use core::time::Duration;

use super::{Batch, GroupBody, GroupKey, Member, Post};
use crate::engine::media::fec::MAX_SPAN;
use crate::engine::time::Timestamp;

/// A stream shows itself to its home this often, so that RTCP finds it.
const PRESENT_EVERY: Duration = Duration::from_secs(1);
/// Numbers wait for more of them this long: a small part of any window that they are judged in.
const GATHER: Duration = Duration::from_millis(5);
/// Runs of losses that wait for the next packet or tick, at most: what one call of the judge may give up in a burst.
const MAX_LOSSES: usize = 512;
/// Things to tell that wait for the next packet or tick, at most: the losses, and batches and restarts, of which one packet
/// makes three.
const MAX_NOTES: usize = MAX_LOSSES + 16;
/// Room that is kept when nothing waits.
const KEPT_NOTES: usize = 4;

/// A media stream's part in its group.
#[derive(Debug)]
#[repr(C)]
pub(in crate::engine) struct Membership {
    /// When there is something to send next; every packet asks.
    due: Timestamp,
    /// Which path of a ST 2022-7 pair it is.
    pub path: Option<u8>,
    /// Its numbers are needed for FEC.
    pub fec: bool,
    batch: Batch,
    since: Timestamp,
    /// Full batches, losses and restarts in the order in which they happened.
    notes: Vec<Note>,
    /// Losses that are told after the packet that showed them, for the home judges numbers behind the highest.
    losses: Vec<(u16, u16)>,
    presented: Option<Timestamp>,
    /// The first number that FEC can use, while numbers are near it, where FEC was found to be there only then.
    begun: Option<u16>,
    /// Numbers counted as lost.
    lost: u64,
    /// Something was lost that FEC may have protected before it was found to be there.
    unprotected: bool,
    /// Something was not told, so what the home finds may be too little.
    pub shed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Note {
    Came(Batch),
    GivenUp { first: u16, count: u16 },
    Rebased,
}

/// Where a stream's messages go.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Address {
    /// The stream.
    pub member: Member,
    /// Its group.
    pub key: GroupKey,
}

impl Default for Membership {
    fn default() -> Self {
        Membership {
            due: Timestamp::default(),
            path: None,
            fec: false,
            batch: Batch::EMPTY,
            since: Timestamp::default(),
            notes: Vec::new(),
            losses: Vec::new(),
            presented: None,
            begun: None,
            lost: 0,
            unprotected: false,
            shed: 0,
        }
    }
}

impl Membership {
    /// Whether anybody needs the stream's numbers.
    #[inline]
    pub(in crate::engine) fn is_followed(&self) -> bool {
        self.fec || self.path.is_some()
    }

    /// FEC was found to be there: numbers from `next` on will be told. What was lost before, or is in one matrix with it,
    /// cannot be rebuilt here whatever FEC says.
    pub(in crate::engine) fn fec_found(&mut self, next: Option<u16>) {
        if !core::mem::replace(&mut self.fec, true) {
            self.begun = next;
            self.unprotected |= self.lost > 0;
        }
    }

    /// Whether FEC may have protected some of what was lost before it was found to be there, while only `recovered` of the
    /// lost numbers could be rebuilt.
    pub(in crate::engine) fn fec_came_late(&self, recovered: u64) -> bool {
        self.unprotected && recovered < self.lost
    }

    /// A media packet came.
    #[inline]
    pub(in crate::engine) fn came(&mut self, at: Timestamp, number: u16) {
        if !self.is_followed() {
            return;
        }
        if self.batch.length == 0 {
            self.since = at;
        }
        if !self.batch.push(number, at) {
            self.close_batch();
            self.since = at;
            self.batch.push(number, at);
        }
        self.due = self.due.min(self.since.after(GATHER));
    }

    /// Consecutive numbers were counted as lost.
    pub(in crate::engine) fn given_up(&mut self, first: u16, count: u64) {
        self.lost += count;
        if !self.is_followed() {
            return;
        }
        if let Some(begun) = self.begun {
            let ahead = first.wrapping_sub(begun) as i16;
            let is_near = ahead < MAX_SPAN as i16;
            self.unprotected |= is_near;
            self.begun = self.begun.filter(|_| is_near);
        }
        if self.losses.len() >= MAX_LOSSES {
            self.shed += 1;
        } else {
            self.losses.push((first, u16::try_from(count).unwrap_or(u16::MAX)));
            self.due = Timestamp::default();
        }
    }

    /// The numbers begin anew.
    pub(in crate::engine) fn rebased(&mut self) {
        self.begun = None;
        if self.is_followed() {
            self.close_batch();
            self.note(Note::Rebased);
        }
    }

    /// The stream goes on under another SSRC.
    pub(in crate::engine) fn renamed(&mut self) {
        (self.presented, self.begun) = (None, None);
        self.due = Timestamp::default();
    }

    /// Whether there is something to send.
    #[inline]
    pub(in crate::engine) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }

    /// Sends what there is.
    pub(in crate::engine) fn send(&mut self, now: Timestamp, to: &Address, post: &mut Post) {
        let member = to.member;
        if self.presented.is_none_or(|at| now.since(at) >= PRESENT_EVERY) {
            self.presented = Some(now);
            post.send_home(now, to.key, GroupBody::Present(member));
        }
        self.close_batch();
        for note in self.notes.drain(..) {
            let body = |path| match note {
                Note::Came(batch) => GroupBody::Media { member, path, batch },
                Note::GivenUp { first, count } => GroupBody::GivenUp {
                    member,
                    path,
                    first,
                    count,
                },
                Note::Rebased => GroupBody::Rebased { member, path },
            };
            if self.fec {
                post.send_home(now, to.key, body(0));
            }
            if let Some(path) = self.path {
                post.send_home(now, pair_key(to), body(path));
            }
        }
        self.notes.shrink_to(KEPT_NOTES);
        self.due = self.presented.map_or(now, |at| at.after(PRESENT_EVERY));
    }

    /// Heap bytes held.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.notes.capacity() * size_of::<Note>() + self.losses.capacity() * 4
    }

    /// Nothing more of what is gathered comes: the numbers, and after them the losses that they showed.
    fn close_batch(&mut self) {
        if self.batch.length > 0 {
            let batch = core::mem::replace(&mut self.batch, Batch::EMPTY);
            self.note(Note::Came(batch));
        }
        for (first, count) in core::mem::take(&mut self.losses) {
            self.note(Note::GivenUp { first, count });
        }
    }

    fn note(&mut self, note: Note) {
        if self.notes.len() >= MAX_NOTES {
            self.shed += 1;
        } else {
            self.notes.push(note);
            self.due = Timestamp::default();
        }
    }
}

/// The group of both paths of a ST 2022-7 pair: whatever their addresses are, rule and SSRC are the same.
fn pair_key(to: &Address) -> GroupKey {
    GroupKey {
        endpoint: None,
        destination: None,
        ssrc: to.member.ssrc,
        ..to.key
    }
}
