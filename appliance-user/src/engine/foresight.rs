//! Looking ahead: what is known of a packet before it is decided about, so that its burst waits for memory once.
//!
//! A flow, its stream and what the stream points to lie in different places, each of which is known only when the one before
//! it has been read. Within a burst the packets take these steps in a chain: while one is decided about, the next ones' flows
//! and streams come into the cache. Nothing is decided ahead: what was foreseen is looked at again in turn, for packets in
//! between may have changed it.

use tidegate_common::walk::{self, Stop, UserLimits, Walk};

use super::flow::Flow;
use super::flow_table::FlowIndex;
use super::time::Timestamp;
use super::{Engine, Published, Verdict};
use crate::prefetch::prefetch;

/// How many packets ahead of its decision a packet is walked and its place in the flow table's index asked for.
const WALK_AHEAD: usize = 8;
/// How many packets ahead its flow is asked for, when the index has come.
const FLOW_AHEAD: usize = 7;
/// How many packets ahead its stream is asked for, when its flow has come.
const STREAM_AHEAD: usize = 5;
/// How many packets ahead what its stream points to is asked for, when the stream has come.
const FIGURES_AHEAD: usize = 4;
/// How many packets ahead what lies behind that is asked for.
const PIDS_AHEAD: usize = 2;
/// How many packets ahead what lies behind that in turn is asked for: the last step before the decision.
const CLOCKS_AHEAD: usize = 1;
/// How many packets ahead of its walk a packet's bytes are asked for. The kernel wrote them on another core, most likely.
const BYTES_AHEAD: usize = 4;
/// Bytes of a packet that are asked for at most: those of an Ethernet frame of 1,500 bytes. What is inspected lies spread over
/// it; a jumbo's first lines are enough to set the processor's own prefetching off.
const BYTES: usize = 1536;
/// Bytes that nearly every packet of media has, in whole cache lines: seven TS packets and what is around them.
const USUAL_BYTES: usize = 1408;
/// Packets on their way between their walk and their decision; a power of two.
const RING: usize = (WALK_AHEAD + 1).next_power_of_two();

/// What a packet is by itself, and where its flow was when it was looked for.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// The packet's headers.
    pub walk: Walk,
    /// Its key's hash in the flow table.
    pub hash: u64,
    /// Where the flow is, if it was looked for and unless that changed.
    pub guess: Option<FlowIndex>,
}

/// Packets of a burst between their walk and their decision.
#[derive(Debug)]
pub(super) struct Ring([Result<Sighting, Stop>; RING]);

impl Default for Ring {
    fn default() -> Self {
        // One by one: a constant of all of them would be copied whole.
        Ring(core::array::from_fn(|_| Err(Stop::NotForUs)))
    }
}

impl Ring {
    /// Of the burst's packet with that number.
    #[inline(always)]
    fn of(&self, number: usize) -> &Result<Sighting, Stop> {
        &self.0[number % RING]
    }
}

impl Engine {
    /// Decides about the frames of a burst as [`Engine::process`] does, one by one and with the same results, but with less
    /// waiting for memory. `bytes` gives a frame's bytes; `decided` is given each frame with its verdict, in order.
    pub fn process_burst<F>(
        &mut self,
        now: Timestamp,
        policy: &Published<'_>,
        frames: &mut [F],
        bytes: impl Fn(&mut F) -> &mut [u8],
        mut decided: impl FnMut(&mut F, Verdict),
    ) {
        let mut ring = Ring::default();
        for frame in frames.iter_mut().take(BYTES_AHEAD) {
            ask_for_bytes(bytes(frame));
        }
        for step in 0..frames.len() + WALK_AHEAD {
            if let Some(frame) = frames.get_mut(step + BYTES_AHEAD) {
                ask_for_bytes(bytes(frame));
            }
            if let Some(frame) = frames.get_mut(step) {
                let sighting = &mut ring.0[step % RING];
                self.sight(bytes(frame), sighting);
                if let Ok(seen) = sighting {
                    self.flows.ask(seen.hash);
                }
            }
            let ahead = |of: usize| step.checked_sub(WALK_AHEAD - of).filter(|n| *n < frames.len());
            if let Some(Ok(seen)) = ahead(FLOW_AHEAD).map(|n| &mut ring.0[n % RING]) {
                seen.guess = self.flows.guess(seen.hash);
            }
            if let Some(Ok(seen)) = ahead(STREAM_AHEAD).map(|n| ring.of(n)) {
                self.ask(seen, Flow::prefetch);
            }
            if let Some(Ok(seen)) = ahead(FIGURES_AHEAD).map(|n| ring.of(n)) {
                self.ask(seen, Flow::prefetch_figures);
            }
            if let Some(Ok(seen)) = ahead(PIDS_AHEAD).map(|n| ring.of(n)) {
                self.ask(seen, Flow::prefetch_pids);
            }
            if let Some(Ok(seen)) = ahead(CLOCKS_AHEAD).map(|n| ring.of(n)) {
                self.ask(seen, Flow::prefetch_clocks);
            }
            let turn = step.checked_sub(WALK_AHEAD);
            if let Some((n, frame)) = turn.and_then(|n| Some((n, frames.get_mut(n)?))) {
                let verdict = self.process_foreseen(now, policy, bytes(frame), ring.of(n));
                decided(frame, verdict);
            }
        }
    }

    /// [`Engine::process_sighted`] apart from the walk: both at once need more registers than there are.
    #[inline(never)]
    fn process_foreseen(
        &mut self,
        now: Timestamp,
        policy: &Published<'_>,
        frame: &mut [u8],
        sighting: &Result<Sighting, Stop>,
    ) -> Verdict {
        self.process_sighted(now, policy, frame, sighting)
    }

    /// What an Ethernet frame from the load balancer is by itself, written where it is to stand: it is too large to be moved
    /// about for every packet.
    #[inline(always)]
    fn sight(&self, frame: &[u8], sighting: &mut Result<Sighting, Stop>) {
        match walk::usual_frame(frame, self.config.geneve_port) {
            Some(walk) => *sighting = Ok(self.sighting(walk)),
            None => self.sight_any(frame, sighting),
        }
    }

    #[inline(never)]
    pub(super) fn sight_any(&self, frame: &[u8], sighting: &mut Result<Sighting, Stop>) {
        *sighting = walk::any_frame::<UserLimits>(frame, self.config.geneve_port).map(|walk| self.sighting(walk));
    }

    /// What a walked packet is by itself.
    #[inline(always)]
    pub(super) fn sighting(&self, walk: Walk) -> Sighting {
        Sighting {
            hash: self.flows.hash(&walk.key),
            walk,
            guess: None,
        }
    }

    #[inline(always)]
    fn ask(&self, seen: &Sighting, ask: impl FnOnce(&Flow)) {
        if let Some(flow) = seen.guess.and_then(|guess| self.flows.at(guess)) {
            ask(flow);
        }
    }
}

#[inline(always)]
fn ask_for_bytes(frame: &[u8]) {
    let frame = frame.get(..BYTES).unwrap_or(frame);
    match frame.split_first_chunk::<USUAL_BYTES>() {
        // Of a known number they are asked for without a loop. What is left is two lines at most.
        Some((usual, rest)) => {
            prefetch(usual);
            rest.first().into_iter().chain(rest.last()).for_each(prefetch);
        }
        None => prefetch(frame),
    }
}
