//! Groups of flows: media, its FEC, its RTCP, and the two paths of a SMPTE ST 2022-7 pair.
//!
//! The flows of a group have 5-tuples of their own, so they may reach other workers than their media, or another
//! appliance. What must be judged together meets at one home worker, which a keyed hash of the group's key names, as
//! small messages: numbers that came, numbers that were given up, what FEC packets protect, what RTCP says. The home
//! sends what it found back to the workers of the media. Within one worker the same messages are handled at once.
//!
//! A message that gets lost, and a flow that is somewhere else, make figures incomplete (`partial`), never wrong.

mod home;
mod membership;
mod note;
mod numbers;
mod seamless;
mod solver;
#[cfg(test)]
pub(crate) mod tests;

use core::hash::BuildHasher;
use std::collections::VecDeque;
use std::net::SocketAddr;

use rapidhash::fast::SeedableState;
use tidegate_common::flow::{Direction, FlowKey};

pub(super) use self::home::Groups;
pub(super) use self::membership::{Address, Membership};
pub(super) use self::note::for_each as for_each_note;
pub use self::note::{RtcpNote, Text};
use super::media::fec::Protected;
use super::time::Timestamp;
use crate::policy::RuleId;

/// Messages that wait for the driver, and as many for the engine itself; more are shed and counted. A worker at a million
/// packets a second makes some 30,000 messages a second, and its driver fetches them after every burst.
pub const MESSAGE_CAPACITY: usize = 4096;
/// Sequence numbers in one message: few enough that a message is some cache lines, enough that messages are rare.
pub const NUMBERS: usize = 32;

/// What the flows of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The rule that admitted them; `None` without a policy.
    pub rule: Option<RuleId>,
    /// GWLB endpoint; `None` for the paths of a ST 2022-7 pair, which may cross different ones.
    pub endpoint: Option<u64>,
    /// Where the media goes; `None` for the paths of a ST 2022-7 pair.
    pub destination: Option<SocketAddr>,
    /// The SSRC that both paths of a ST 2022-7 pair carry; 0 otherwise.
    pub ssrc: u32,
}

/// Which stream a message is of or for, within its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its flow.
    pub flow: FlowKey,
    /// Which way of the flow it goes.
    pub direction: Direction,
    /// Its SSRC, 0 for FEC and RTCP.
    pub ssrc: u32,
}

/// One message between workers of an appliance.
#[derive(Clone, Copy, Debug)]
pub struct GroupMessage {
    /// The worker that it is for.
    pub to: usize,
    /// The worker that sent it.
    pub from: usize,
    /// The group.
    pub key: GroupKey,
    /// When what it tells of happened.
    pub at: Timestamp,
    /// What it tells.
    pub body: GroupBody,
}

impl GroupMessage {
    /// Whether it is of sequence numbers, which mean something only beside all others of the group.
    pub fn is_of_numbers(&self) -> bool {
        match self.body {
            GroupBody::Media { .. } | GroupBody::GivenUp { .. } | GroupBody::Rebased { .. } | GroupBody::Fec { .. } => {
                true
            }
            GroupBody::Present(_) | GroupBody::Rtcp { .. } | GroupBody::Result { .. } => false,
        }
    }
}

/// What a message tells.
#[derive(Clone, Copy, Debug)]
pub enum GroupBody {
    /// To the home: a media stream is here.
    Present(Member),
    /// To the home: media packets that came.
    Media {
        /// The stream.
        member: Member,
        /// Which path of a ST 2022-7 pair it is.
        path: u8,
        /// Their numbers.
        batch: Batch,
    },
    /// To the home: consecutive numbers that the stream's judge counted as lost.
    GivenUp {
        /// The stream.
        member: Member,
        /// Which path of a ST 2022-7 pair it is.
        path: u8,
        /// The first number.
        first: u16,
        /// How many.
        count: u16,
    },
    /// To the home: the numbers begin anew somewhere else.
    Rebased {
        /// The stream.
        member: Member,
        /// Which path of a ST 2022-7 pair it is.
        path: u8,
    },
    /// To the home: an FEC packet came.
    Fec {
        /// The FEC stream.
        member: Member,
        /// What it protects.
        protected: Protected,
    },
    /// To the home: RTCP about the stream of an SSRC.
    Rtcp {
        /// The media's SSRC.
        ssrc: u32,
        /// What was said.
        note: RtcpNote,
    },
    /// From the home: what was found about a stream.
    Result {
        /// The stream.
        member: Member,
        /// What was found.
        outcome: Outcome,
    },
}

/// What the home found about a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Media and FEC are both here. The media's worker sends its numbers from now on.
    Paired,
    /// So many more of the numbers that the stream lost could be rebuilt from FEC.
    Recovered {
        /// How many more.
        count: u64,
    },
    /// RTCP about the stream.
    Rtcp {
        /// When it went by.
        at: Timestamp,
        /// What was said.
        note: RtcpNote,
    },
    /// The merged figures of a ST 2022-7 pair.
    Seamless(Merged),
    /// Messages of the group were lost: what its home finds says too little.
    Incomplete,
}

/// The merged figures of a ST 2022-7 pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Merged {
    /// Both paths were seen here.
    pub complete: bool,
    /// Numbers that neither path brought, so far.
    pub lost: u64,
    /// Numbers that each path lost, so far.
    pub path_lost: [u64; 2],
    /// How much later the second path is than the first, in nanoseconds.
    pub skew: Option<i64>,
}

/// Sequence numbers that came, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    numbers: [u16; NUMBERS],
    length: u8,
    /// When one of them came: the same one on both paths, if it is there.
    sample: Option<(u16, Timestamp)>,
}

impl Batch {
    /// None.
    const EMPTY: Batch = Batch {
        numbers: [0; NUMBERS],
        length: 0,
        sample: None,
    };

    /// The numbers.
    pub fn numbers(&self) -> &[u16] {
        self.numbers.get(..self.length.into()).unwrap_or_default()
    }

    /// Adds a number; `false` where there is no room.
    fn push(&mut self, number: u16, at: Timestamp) -> bool {
        let Some(place) = self.numbers.get_mut(usize::from(self.length)) else {
            return false;
        };
        *place = number;
        self.length += 1;
        if number.is_multiple_of(NUMBERS as u16) {
            self.sample = Some((number, at));
        }
        true
    }
}

/// Where messages go: to the engine itself, or to the driver for other workers.
pub(super) struct Post {
    worker: usize,
    workers: usize,
    hasher: SeedableState<'static>,
    own: VecDeque<GroupMessage>,
    others: VecDeque<GroupMessage>,
    shed: u64,
}

impl Post {
    /// The post of one of `workers` workers, all of which must have the same `seed`.
    pub(super) fn new(worker: usize, workers: usize, seed: u64) -> Self {
        Post {
            worker,
            workers: workers.max(1),
            hasher: SeedableState::new(seed),
            own: VecDeque::new(),
            others: VecDeque::new(),
            shed: 0,
        }
    }

    /// The worker where a group meets.
    pub(super) fn home(&self, key: &GroupKey) -> usize {
        (self.hasher.hash_one(key) % self.workers as u64) as usize
    }

    /// Sends something to a group's home.
    pub(super) fn send_home(&mut self, at: Timestamp, key: GroupKey, body: GroupBody) {
        self.send(self.home(&key), at, key, body);
    }

    /// Sends something to a worker.
    pub(super) fn send(&mut self, to: usize, at: Timestamp, key: GroupKey, body: GroupBody) {
        let queue = if to == self.worker {
            &mut self.own
        } else {
            &mut self.others
        };
        if queue.len() >= MESSAGE_CAPACITY {
            self.shed += 1;
            return;
        }
        queue.push_back(GroupMessage {
            to,
            from: self.worker,
            key,
            at,
            body,
        });
    }

    /// The oldest message for the engine itself.
    #[inline]
    pub(super) fn fetch_own(&mut self) -> Option<GroupMessage> {
        self.own.pop_front()
    }

    /// The oldest message for another worker.
    pub(super) fn fetch(&mut self) -> Option<GroupMessage> {
        self.others.pop_front()
    }

    /// Messages shed so far.
    pub(super) fn shed(&self) -> u64 {
        self.shed
    }
}
