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
use crate::prefetch::{LINE, prefetch, prefetch_within};

/// How many packets ahead of its decision a packet is walked and its place in the flow table's index asked for.
const WALK_AHEAD: usize = 8;
/// How many packets ahead its flow is asked for, when the index has come: the step after the walk, so that nothing has to be
/// remembered of a packet in between but its hash.
const FLOW_AHEAD: usize = WALK_AHEAD - 1;
/// How many packets ahead its stream is asked for, when its flow has come.
const STREAM_AHEAD: usize = 5;
/// How many packets ahead what its stream points to is asked for, when the stream has come.
const FIGURES_AHEAD: usize = 4;
/// How many packets ahead what lies behind that is asked for. What lies behind that in turn few packets need: they ask for it
/// themselves.
const PIDS_AHEAD: usize = 2;
/// How many packets ahead of its walk a packet's bytes are asked for. The kernel wrote them on another core, most likely.
const BYTES_AHEAD: usize = 4;
/// Bytes that nearly every packet of media has, in whole cache lines: seven TS packets and what is around them. What is inspected
/// lies spread over them; a jumbo's first lines are enough to set the processor's own prefetching off.
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
    /// Where the flow is, if it was looked for and unless that changed; else nowhere.
    pub guess: FlowIndex,
}

/// Packets of a burst between their walk and their decision.
#[derive(Debug)]
pub(super) struct Ring {
    sightings: [Result<Sighting, Stop>; RING],
    /// Where their flows are, as far as they were looked for; nowhere before the burst's first packet and after its last. Apart
    /// from the sightings: this is all that the steps in between read.
    guesses: [FlowIndex; RING],
}

impl Default for Ring {
    fn default() -> Self {
        Ring {
            // One by one: a constant of all of them would be copied whole.
            sightings: core::array::from_fn(|_| Err(Stop::NotForUs)),
            guesses: [FlowIndex::NOWHERE; RING],
        }
    }
}

impl Ring {
    /// Where the flow of the packet is that will be decided about so many steps after the packet whose turn it is to be walked.
    /// The numbers wrap: before a burst's first packet there are as many as the ring has that are nowhere.
    #[inline(always)]
    fn guess(&self, step: usize, ahead: usize) -> FlowIndex {
        self.guesses[step.wrapping_sub(WALK_AHEAD - ahead) % RING]
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
        // The hash of the packet that was walked one step ago.
        let mut walked = None;
        for step in 0..frames.len() + WALK_AHEAD {
            let guess = walked.take().map_or(FlowIndex::NOWHERE, |hash| self.flows.guess(hash));
            ring.guesses[step.wrapping_sub(WALK_AHEAD - FLOW_AHEAD) % RING] = guess;
            if let Some(frame) = frames.get_mut(step + BYTES_AHEAD) {
                ask_for_bytes(bytes(frame));
            }
            if let Some(frame) = frames.get_mut(step) {
                let sighting = &mut ring.sightings[step % RING];
                self.sight(bytes(frame), sighting);
                if let Ok(seen) = sighting {
                    self.flows.ask(seen.hash);
                    walked = Some(seen.hash);
                }
            }
            self.ask(ring.guess(step, STREAM_AHEAD), Flow::prefetch);
            self.ask(ring.guess(step, FIGURES_AHEAD), Flow::prefetch_figures);
            self.ask(ring.guess(step, PIDS_AHEAD), Flow::prefetch_pids);
            let turn = step.checked_sub(WALK_AHEAD);
            if let Some((n, frame)) = turn.and_then(|n| Some((n, frames.get_mut(n)?))) {
                let sighting = &mut ring.sightings[n % RING];
                if let Ok(seen) = sighting {
                    seen.guess = ring.guesses[n % RING];
                }
                let verdict = self.process_foreseen(now, policy, bytes(frame), sighting);
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
            guess: FlowIndex::NOWHERE,
        }
    }

    #[inline(always)]
    fn ask(&self, guess: FlowIndex, ask: impl FnOnce(&Flow)) {
        if let Some(flow) = self.flows.at(guess) {
            ask(flow);
        }
    }
}

#[inline(always)]
fn ask_for_bytes(frame: &[u8]) {
    match frame.get(USUAL_BYTES..) {
        // Of a known number they are asked for without a loop: what goes beyond the usual bytes begins on one more line, and of
        // a frame of 1,514 bytes nothing is left then but the last one.
        Some([_, .., last]) => {
            prefetch_within(frame, 0..USUAL_BYTES + LINE);
            prefetch(last);
        }
        _ => prefetch(frame),
    }
}
