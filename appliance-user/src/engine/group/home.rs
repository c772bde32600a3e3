//! The groups whose home is here.

use core::time::Duration;

use super::seamless::Seamless;
use super::solver::Solver;
use super::{GroupBody, GroupKey, GroupMessage, Member, Merged, Outcome, Post, RtcpNote};
use crate::engine::flow_table::{FlowIndex, FlowTable, Inserted, Sweep};
use crate::engine::time::Timestamp;

/// Groups that may meet here. Without companions a group is some 700 bytes.
const MAX_GROUPS: usize = 4096;
/// Groups with FEC or with two paths, of about 20 KiB each, that may meet here.
const MAX_HEAVY: usize = 1024;
/// Media streams of one group that are known: both sides of a change of SSRC, and a ST 2022-7 pair, with room to spare.
const MAX_MEMBERS: usize = 4;
/// RTCP that waits for its media to show itself, and for how long.
const MAX_WAITING: usize = 8;
const WAIT: Duration = Duration::from_secs(3);
/// A group this long without a message is forgotten.
const IDLE: Duration = Duration::from_secs(120);
/// A media stream this long without a message makes room for another.
const MEMBER_IDLE: Duration = Duration::from_secs(3);
/// The numbers of one stream are followed until it has been silent for this long and another one of its group comes.
const SUCCESSION: Duration = Duration::from_secs(1);
/// A change of the skew by less than this many nanoseconds is not worth a message.
const SKEW_GRAIN: u64 = 500_000;
/// How often FEC and paths are decided about.
const SETTLE_EVERY: Duration = Duration::from_millis(20);

/// The groups whose home is here.
pub(in crate::engine) struct Groups {
    table: FlowTable<Box<Group>, GroupKey>,
    heavy: usize,
    refused: u64,
    /// Times that messages for groups here were lost.
    misses: u32,
    /// Slots of the table whose groups do not know yet.
    to_tell_of_misses: usize,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<Enlisted>,
    waiting: Vec<(Timestamp, u32, RtcpNote)>,
    correction: Option<Box<Correction>>,
    seamless: Option<Box<Pair>>,
    settled: Timestamp,
    /// Of the times that messages were lost, the last one that this group knows of.
    misses: u32,
}

/// A member and the worker where it is.
#[derive(Clone, Copy, Debug)]
struct Enlisted {
    worker: usize,
    member: Member,
    seen: Timestamp,
    /// The stream's flow knows that media and companions are both here.
    paired: bool,
}

/// FEC and the media that it protects.
#[derive(Debug)]
struct Correction {
    solver: Solver,
    /// The media stream that the numbers are of.
    media: Option<Enlisted>,
    /// The FEC streams, columns and rows.
    fec: [Option<Enlisted>; 2],
}

/// The two paths of a pair.
#[derive(Debug)]
struct Pair {
    merge: Seamless,
    told: Merged,
}

impl Groups {
    /// No groups. `seed` is the worker's own.
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Groups {
            table: FlowTable::new(MAX_GROUPS, seed),
            heavy: 0,
            refused: 0,
            misses: 0,
            to_tell_of_misses: 0,
        }
    }

    /// Groups that there was no room for.
    pub(in crate::engine) fn refused(&self) -> u64 {
        self.refused
    }

    /// Messages for groups here were lost, nobody knows which.
    pub(in crate::engine) fn missed(&mut self) {
        self.misses = self.misses.wrapping_add(1);
        self.to_tell_of_misses = self.table.slots();
    }

    /// Heap bytes held by the groups.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.table.iter().map(|(_, group)| group.memory()).sum()
    }

    /// Takes a message for a group.
    pub(in crate::engine) fn take(&mut self, now: Timestamp, message: &GroupMessage, post: &mut Post) {
        if matches!(message.body, GroupBody::Result { .. }) {
            return;
        }
        let is_heavy = message.is_of_numbers();
        let Some(index) = self.enter(now, message.key) else {
            self.refused += 1;
            return;
        };
        let Some(group) = self.table.get_mut(index) else { return };
        group.catch_up(now, self.misses, &message.key, post);
        if is_heavy && !group.is_heavy() {
            if self.heavy >= MAX_HEAVY {
                self.refused += 1;
                return;
            }
            self.heavy += 1;
            group.become_heavy(&message.key);
            self.table.establish(index);
            self.table.wake(index);
        }
        if let Some(group) = self.table.get_mut(index) {
            group.take(now, message, post);
        }
    }

    /// Lets time pass for the next `budget` groups.
    pub(in crate::engine) fn tick(&mut self, now: Timestamp, budget: usize, post: &mut Post) {
        let (heavy, misses) = (&mut self.heavy, self.misses);
        let missed = self.to_tell_of_misses > 0;
        self.to_tell_of_misses = self.to_tell_of_misses.saturating_sub(budget);
        self.table.sweep(budget, now, missed, |key, seen, group| {
            group.catch_up(now, misses, key, post);
            group.settle(now, key, post, false);
            let is_over = seen.after(IDLE);
            if now <= is_over {
                return Sweep::Keep(group.next_turn().min(is_over));
            }
            *heavy -= usize::from(group.is_heavy());
            Sweep::Remove
        });
    }

    /// The input ends: what still waits is decided.
    pub(in crate::engine) fn finish(&mut self, now: Timestamp, post: &mut Post) {
        for (key, group) in self.table.iter_mut() {
            group.catch_up(now, self.misses, key, post);
            group.settle(now, key, post, true);
        }
    }

    fn enter(&mut self, now: Timestamp, key: GroupKey) -> Option<FlowIndex> {
        if let Some(index) = self.table.find(&key, now) {
            return Some(index);
        }
        let group = Group {
            misses: self.misses,
            ..Group::default()
        };
        match self.table.insert(key, now, Box::new(group)) {
            Inserted::Fresh(index) => Some(index),
            Inserted::Evicting(index, gone) => {
                self.heavy -= usize::from(gone.is_heavy());
                Some(index)
            }
            Inserted::Refused(_) => None,
        }
    }
}

impl Group {
    fn is_heavy(&self) -> bool {
        self.correction.is_some() || self.seamless.is_some()
    }

    fn become_heavy(&mut self, key: &GroupKey) {
        if key.destination.is_none() {
            self.seamless = Some(Box::new(Pair {
                merge: Seamless::new(),
                told: Merged::default(),
            }));
        } else {
            self.correction = Some(Box::new(Correction {
                solver: Solver::new(),
                media: None,
                fec: [None; 2],
            }));
        }
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
            + self.members.capacity() * size_of::<Enlisted>()
            + self.waiting.capacity() * size_of::<(Timestamp, u32, RtcpNote)>()
            + self
                .correction
                .as_ref()
                .map_or(0, |c| size_of::<Correction>() + c.solver.memory())
            + self
                .seamless
                .as_ref()
                .map_or(0, |p| size_of::<Pair>() + p.merge.memory())
    }

    /// Begins anew after messages were lost: a number that is not here may be in one of them, and so may the word that the
    /// numbers begin anew. Its streams are told that figures are incomplete.
    fn catch_up(&mut self, now: Timestamp, misses: u32, key: &GroupKey, post: &mut Post) {
        if self.misses == misses {
            return;
        }
        self.misses = misses;
        let mut fec = [None; 2];
        if let Some(correction) = &mut self.correction {
            correction.solver.rebase();
            fec = correction.fec;
        }
        if let Some(pair) = &mut self.seamless {
            (0..2).for_each(|path| pair.merge.rebase(path));
        }
        for stream in self.members.iter().chain(fec.iter().flatten()) {
            stream.tell(now, key, Outcome::Incomplete, post);
        }
    }

    fn take(&mut self, now: Timestamp, message: &GroupMessage, post: &mut Post) {
        let GroupMessage {
            from, key, at, body, ..
        } = message;
        let enlisted = |member| Enlisted {
            worker: *from,
            member,
            seen: now,
            paired: false,
        };
        match *body {
            GroupBody::Present(member) => {
                self.enlist(now, enlisted(member), key, post);
                if let Some(correction) = &mut self.correction {
                    correction.remind(*at, &member, key, post);
                }
            }
            GroupBody::Rtcp { ssrc, note } => self.rtcp(now, *at, ssrc, note, key, post),
            GroupBody::Media { member, path, batch } => {
                self.enlist(now, enlisted(member), key, post);
                if let Some(correction) = &mut self.correction
                    && correction.is_of(now, enlisted(member))
                {
                    batch.numbers().iter().for_each(|n| correction.solver.media(*n));
                    correction.introduce(*at, key, post);
                }
                if let Some(pair) = &mut self.seamless {
                    pair.merge.came(path, &batch);
                }
            }
            GroupBody::GivenUp {
                member,
                path,
                first,
                count,
            } => {
                if let Some(correction) = &mut self.correction
                    && correction.is_of(now, enlisted(member))
                {
                    correction.solver.given_up(first, count);
                }
                if let Some(pair) = &mut self.seamless {
                    pair.merge.given_up(path, *at, first, count);
                }
            }
            GroupBody::Rebased { member, path } => {
                if let Some(correction) = &mut self.correction
                    && correction.is_of(now, enlisted(member))
                {
                    correction.solver.rebase();
                }
                if let Some(pair) = &mut self.seamless {
                    pair.merge.rebase(path);
                }
            }
            GroupBody::Fec { member, protected } => {
                if let Some(correction) = &mut self.correction {
                    correction.enlist_fec(enlisted(member));
                    if correction.media.is_none() {
                        correction.media = self.members.iter().max_by_key(|m| m.seen).copied();
                    }
                    correction.introduce(*at, key, post);
                    correction.solver.fec(protected);
                }
            }
            GroupBody::Result { .. } => {}
        }
        self.settle(now, key, post, false);
    }

    /// A media stream is here.
    fn enlist(&mut self, now: Timestamp, newcomer: Enlisted, key: &GroupKey, post: &mut Post) {
        let is_same = |known: &Enlisted| known.member == newcomer.member;
        match self.members.iter_mut().find(|known| is_same(known)) {
            Some(known) => {
                known.seen = now;
                known.worker = newcomer.worker;
            }
            None => {
                self.members.retain(|known| now.since(known.seen) < MEMBER_IDLE);
                if self.members.len() >= MAX_MEMBERS {
                    return;
                }
                self.members.push(newcomer);
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        let ssrc = newcomer.member.ssrc;
        for (at, of, note) in core::mem::take(&mut self.waiting) {
            if of == ssrc {
                newcomer.tell(now, key, Outcome::Rtcp { at, note }, post);
            } else if now.since(at) < WAIT {
                self.waiting.push((at, of, note));
            }
        }
    }

    /// RTCP goes to the streams of its SSRC, or waits until one shows itself. RIST repeats under the SSRC with its lowest bit
    /// set, and may name either.
    fn rtcp(&mut self, now: Timestamp, at: Timestamp, ssrc: u32, note: RtcpNote, key: &GroupKey, post: &mut Post) {
        let exact = self.members.iter().any(|known| known.member.ssrc == ssrc);
        let wanted = if exact { ssrc } else { ssrc & !1 };
        let mut found = false;
        for known in self.members.iter().filter(|known| known.member.ssrc == wanted) {
            found = true;
            known.tell(now, key, Outcome::Rtcp { at, note }, post);
        }
        if !found && self.waiting.len() < MAX_WAITING {
            self.waiting.push((at, ssrc, note));
        }
        self.waiting.retain(|(at, _, _)| now.since(*at) < WAIT);
    }

    /// Until when time does nothing about it.
    fn next_turn(&self) -> Timestamp {
        if self.is_heavy() {
            self.settled.after(SETTLE_EVERY)
        } else {
            Timestamp::from_nanos(u64::MAX)
        }
    }

    fn settle(&mut self, now: Timestamp, key: &GroupKey, post: &mut Post, finish: bool) {
        if !self.is_heavy() || !finish && now.since(self.settled) < SETTLE_EVERY {
            return;
        }
        self.settled = now;
        if let Some(correction) = &mut self.correction {
            let solver = &mut correction.solver;
            let count = if finish { solver.finish() } else { solver.settle() };
            if let Some(media) = correction.media.filter(|_| count > 0) {
                media.tell(now, key, Outcome::Recovered { count }, post);
            }
        }
        if let Some(pair) = &mut self.seamless {
            if finish {
                pair.merge.finish();
            } else {
                pair.merge.settle(now);
            }
            let merged = pair.merge.merged();
            if finish || is_news(&merged, &pair.told) {
                pair.told = merged;
                for known in &self.members {
                    known.tell(now, key, Outcome::Seamless(merged), post);
                }
            }
        }
    }
}

fn is_news(merged: &Merged, told: &Merged) -> bool {
    let same_skew = match (merged.skew, told.skew) {
        (Some(skew), Some(told)) => skew.abs_diff(told) < SKEW_GRAIN,
        (skew, told) => skew == told,
    };
    !same_skew || Merged { skew: None, ..*merged } != Merged { skew: None, ..*told }
}

impl Enlisted {
    fn tell(&self, now: Timestamp, key: &GroupKey, outcome: Outcome, post: &mut Post) {
        let body = GroupBody::Result {
            member: self.member,
            outcome,
        };
        post.send(self.worker, now, *key, body);
    }
}

impl Correction {
    /// Whether the numbers are those of this stream: they are until it fell silent and another one comes.
    fn is_of(&mut self, now: Timestamp, stream: Enlisted) -> bool {
        match &mut self.media {
            Some(media) if media.member == stream.member => {
                media.seen = now;
                media.worker = stream.worker;
                true
            }
            Some(media) if now.since(media.seen) < SUCCESSION => false,
            media => {
                *media = Some(stream);
                self.solver.rebase();
                true
            }
        }
    }

    fn enlist_fec(&mut self, newcomer: Enlisted) {
        let known = self
            .fec
            .iter_mut()
            .find(|known| known.is_none_or(|known| known.member == newcomer.member));
        match known {
            Some(Some(known)) => known.worker = newcomer.worker,
            Some(free) => *free = Some(newcomer),
            None => self.fec = [Some(newcomer), None],
        }
    }

    /// Tells the media again, now and then, that its FEC is here: the first time may have been lost.
    fn remind(&mut self, at: Timestamp, member: &Member, key: &GroupKey, post: &mut Post) {
        if let Some(media) = self.media.as_mut().filter(|media| media.member == *member) {
            media.paired = false;
            self.introduce(at, key, post);
        }
    }

    /// Tells media and FEC, once, that both are here.
    fn introduce(&mut self, at: Timestamp, key: &GroupKey, post: &mut Post) {
        if self.media.is_none() || self.fec.iter().all(Option::is_none) {
            return;
        }
        for stream in self.fec.iter_mut().chain([&mut self.media]).flatten() {
            if !core::mem::replace(&mut stream.paired, true) {
                stream.tell(at, key, Outcome::Paired, post);
            }
        }
    }
}
