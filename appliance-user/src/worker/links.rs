//! Links between workers: how the messages of groups of flows get from one engine to another.
//!
//! Every worker has one bounded inbox. Nobody waits for anybody: what does not fit, or is for a worker that has ended, is
//! shed and counted, and both sides' engines are told, so that figures become incomplete and never wrong. Messages of one
//! sender to one receiver keep their order.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::{self, Receiver, Sender};

use crate::engine::group::GroupMessage;
use crate::engine::time::Timestamp;
use crate::engine::{self, Engine};

/// Messages that an inbox holds: what ten busy workers send in the 10 ms or so that a busy machine may let one wait for its
/// core. About a megabyte.
const INBOX: usize = 4096;
/// Messages taken in one round of a worker's loop: packets wait meanwhile, and each takes about as long as one packet.
const AT_A_TIME: usize = 64;

/// An inbox as everybody else sees it.
#[derive(Debug)]
struct Inbox {
    sender: Sender<GroupMessage>,
    /// Messages for it that were shed.
    missed: AtomicU64,
}

/// One worker's end of the links.
#[derive(Debug)]
pub struct Link {
    worker: usize,
    seed: u64,
    inboxes: Arc<[Inbox]>,
    inbox: Receiver<GroupMessage>,
    /// Of the messages for it that were shed, how many its engine was told of.
    told: u64,
    /// Messages in the inbox that were sent before one that was shed.
    before_gap: usize,
    /// Messages that were shed from here, and in the inbox.
    shed: u64,
    /// Messages that its engine shed by itself, as far as was seen.
    engine_shed: u64,
}

impl Link {
    /// The ends for so many workers of one process, in their order.
    pub fn between(workers: usize) -> Vec<Link> {
        Self::with(workers, INBOX, RandomState::new().hash_one(workers))
    }

    fn with(workers: usize, capacity: usize, seed: u64) -> Vec<Link> {
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (sender, receiver) = channel::bounded(capacity);
                let missed = AtomicU64::new(0);
                (Inbox { sender, missed }, receiver)
            })
            .unzip();
        let inboxes: Arc<[Inbox]> = inboxes.into();
        let end = |(worker, inbox)| Link {
            worker,
            seed,
            inboxes: Arc::clone(&inboxes),
            inbox,
            told: 0,
            before_gap: 0,
            shed: 0,
            engine_shed: 0,
        };
        receivers.into_iter().enumerate().map(end).collect()
    }

    /// The configuration with this worker's place among all.
    pub fn place(&self, config: engine::Config) -> engine::Config {
        engine::Config {
            worker: self.worker,
            workers: self.inboxes.len(),
            group_seed: self.seed,
            ..config
        }
    }

    /// Gives the engine what others sent, a bounded number of messages; how many were taken out of the inbox.
    pub fn receive(&mut self, now: Timestamp, engine: &mut Engine) -> usize {
        self.look_for_gap(engine);
        // A look costs two loads where an attempt costs a barrier, and nearly always there is nothing.
        if self.inbox.is_empty() {
            return 0;
        }
        let mut taken = 0;
        while taken < AT_A_TIME
            && let Ok(message) = self.inbox.try_recv()
        {
            taken += 1;
            // Of several senders each has its gap at another place. Until all of them are passed one side's losses would be
            // compared with numbers of the other that were shed.
            if self.before_gap == 0 || !message.is_of_numbers() {
                engine.take_message(now, &message);
            } else {
                self.shed += 1;
            }
            if self.before_gap > 0 {
                self.before_gap -= 1;
                if self.before_gap == 0 {
                    engine.messages_missed();
                }
            }
            self.look_for_gap(engine);
        }
        taken
    }

    /// Sends what the engine has for others; it never holds more than [`engine::group::MESSAGE_CAPACITY`].
    pub fn send(&mut self, engine: &mut Engine) {
        while let Some(message) = engine.next_message() {
            let Some(inbox) = self.inboxes.get(message.to) else {
                continue;
            };
            if inbox.sender.try_send(message).is_err() {
                self.shed += 1;
                inbox.missed.fetch_add(1, Ordering::Release);
                engine.message_shed(&message);
            }
        }
        let (shed, _) = engine.group_losses();
        if shed != self.engine_shed {
            // Nobody knows whom those were for.
            let missed = shed - self.engine_shed;
            self.engine_shed = shed;
            for inbox in &*self.inboxes {
                inbox.missed.fetch_add(missed, Ordering::Release);
            }
        }
    }

    /// Messages that were shed on their way from here, or in the inbox; not those that the engine shed by itself.
    pub fn shed(&self) -> u64 {
        self.shed
    }

    /// Finds out whether messages for here were shed since the last look. The gap is behind what is in the inbox now.
    fn look_for_gap(&mut self, engine: &mut Engine) {
        let own = self.inboxes.get(self.worker);
        let missed = own.map_or(0, |inbox| inbox.missed.load(Ordering::Acquire));
        if missed != self.told {
            self.told = missed;
            self.before_gap = self.inbox.len();
            engine.messages_missed();
        }
    }
}

#[cfg(test)]
mod tests;
