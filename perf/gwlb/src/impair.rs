//! A lossy network before the load balancer: loss, duplication, reordering and delay, with exact counts per flow.
//!
//! Each flow draws its own random numbers, three per packet whatever they decide, so that a flow's fate depends on the seed
//! and its packets' order alone, never on what other flows do meanwhile.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::ImpairConfig;

/// A held packet goes on after this time even if nothing overtook it: its flow may have ended.
pub const HOLD_LIMIT: Duration = Duration::from_millis(100);
/// Packets held back per flow at most; further ones are not chosen.
const MAX_HELD: usize = 64;
/// Packets delayed at most, over all flows; what comes beyond is dropped and counted as such.
const MAX_DELAYED: usize = 65_536;

/// What became of one flow's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Dropped on purpose.
    pub dropped: u64,
    /// Overtaken by at least one later packet of the flow.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Dropped because the delay line was full: the run is then not what was asked for.
    pub overflowed: u64,
}

/// A packet on its way, with the number of its flow.
pub type Packet = (usize, Vec<u8>);

#[derive(Debug)]
struct Held {
    packet: Vec<u8>,
    since: Instant,
    left: u32,
    overtaken: bool,
}

#[derive(Debug)]
struct FlowState {
    random: SplitMix64,
    counts: Counts,
    /// In order of arrival, so the first is always the first to be released.
    held: VecDeque<Held>,
}

/// The lossy network.
#[derive(Debug)]
pub struct Impairment {
    config: ImpairConfig,
    flows: HashMap<usize, FlowState>,
    delayed: VecDeque<(Instant, Packet)>,
}

impl Impairment {
    /// Percentages are taken as they are; [`crate::Config::validate`] checks them.
    pub fn new(config: ImpairConfig) -> Impairment {
        Impairment {
            config,
            flows: HashMap::new(),
            delayed: VecDeque::new(),
        }
    }

    /// A flow's counts so far.
    pub fn counts(&self, flow: usize) -> Counts {
        self.flows.get(&flow).map(|state| state.counts).unwrap_or_default()
    }

    /// Takes a packet; what may go on at once is appended to `out`.
    pub fn offer(&mut self, now: Instant, flow: usize, packet: Vec<u8>, out: &mut Vec<Packet>) {
        let mut passed = Vec::new();
        self.decide(now, flow, packet, &mut passed);
        for packet in passed {
            self.delay(now, (flow, packet), out);
        }
    }

    /// Appends what has become due to `out`.
    pub fn release(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let mut passed = Vec::new();
        for (flow, state) in &mut self.flows {
            while state
                .held
                .front()
                .is_some_and(|held| now.duration_since(held.since) >= HOLD_LIMIT)
            {
                passed.extend(state.release_first().map(|packet| (*flow, packet)));
            }
        }
        for packet in passed {
            self.delay(now, packet, out);
        }
        while self.delayed.front().is_some_and(|(due, _)| *due <= now) {
            out.extend(self.delayed.pop_front().map(|(_, packet)| packet));
        }
    }

    /// When [`Impairment::release`] next has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let delayed = self.delayed.front().map(|(due, _)| *due);
        let held = self
            .flows
            .values()
            .filter_map(|state| state.held.front())
            .map(|held| held.since + HOLD_LIMIT)
            .min();
        delayed.into_iter().chain(held).min()
    }

    fn decide(&mut self, now: Instant, flow: usize, packet: Vec<u8>, passed: &mut Vec<Vec<u8>>) {
        let config = &self.config;
        let state = self.flows.entry(flow).or_insert_with(|| FlowState {
            random: SplitMix64(config.seed ^ (flow as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            counts: Counts::default(),
            held: VecDeque::new(),
        });
        let [lost, held, twice] =
            [config.loss, config.reorder, config.duplicate].map(|percent| state.random.percent() < percent);
        if lost {
            state.counts.dropped += 1;
            return;
        }
        if held && state.held.len() < MAX_HELD {
            state.held.push_back(Held {
                packet,
                since: now,
                left: config.reorder_gap,
                overtaken: false,
            });
            return;
        }
        if twice {
            state.counts.duplicated += 1;
            passed.push(packet.clone());
        }
        passed.push(packet);
        for held in &mut state.held {
            held.overtaken = true;
            held.left = held.left.saturating_sub(1);
        }
        while state.held.front().is_some_and(|held| held.left == 0) {
            passed.extend(state.release_first());
        }
    }

    fn delay(&mut self, now: Instant, packet: Packet, out: &mut Vec<Packet>) {
        if self.config.delay.is_zero() {
            out.push(packet);
        } else if self.delayed.len() < MAX_DELAYED {
            self.delayed.push_back((now + self.config.delay, packet));
        } else if let Some(state) = self.flows.get_mut(&packet.0) {
            state.counts.overflowed += 1;
        }
    }
}

impl FlowState {
    fn release_first(&mut self) -> Option<Vec<u8>> {
        let held = self.held.pop_front()?;
        self.counts.reordered += u64::from(held.overtaken);
        Some(held.packet)
    }
}

/// Steele, Lea and Flood's generator: small, and the same everywhere.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly from 0 up to, not including, 100.
    fn percent(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 * 100.0
    }
}

/// The generator's finaliser, which also makes a fair hash of one word.
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered packets through and returns the numbers in the order of their arrival.
    fn pass(config: ImpairConfig, count: u32) -> (Vec<u32>, Counts) {
        let mut impairment = Impairment::new(config);
        let (start, mut out) = (Instant::now(), Vec::new());
        for number in 0..count {
            impairment.offer(start, 0, number.to_be_bytes().to_vec(), &mut out);
        }
        impairment.release(start + HOLD_LIMIT, &mut out);
        impairment.release(start + 2 * HOLD_LIMIT, &mut out);
        assert_eq!(impairment.next_due(), None);
        let numbers = out
            .iter()
            .map(|(_, packet)| u32::from_be_bytes(packet.as_slice().try_into().expect("4")))
            .collect();
        (numbers, impairment.counts(0))
    }

    /// RFC 4737: a packet is reordered if a later-sent one arrived before it.
    fn observed(arrived: &[u32], sent: u32) -> Counts {
        let (mut highest, mut reordered, mut seen) = (None, 0, vec![0u64; sent as usize]);
        for number in arrived {
            seen[*number as usize] += 1;
            if seen[*number as usize] == 1 && highest.is_some_and(|highest| *number < highest) {
                reordered += 1;
            }
            highest = highest.max(Some(*number));
        }
        let dropped = seen.iter().filter(|count| **count == 0).count() as u64;
        let duplicated = seen.iter().filter(|count| **count == 2).count() as u64;
        Counts {
            dropped,
            reordered,
            duplicated,
            overflowed: 0,
        }
    }

    #[test]
    fn counts_are_what_a_receiver_observes() {
        for (gap, seed) in [(1, 1), (3, 2), (7, 3)] {
            let config = ImpairConfig {
                loss: 5.0,
                reorder: 10.0,
                reorder_gap: gap,
                duplicate: 4.0,
                seed,
                ..ImpairConfig::default()
            };
            let (arrived, counts) = pass(config, 10_000);
            assert_eq!(observed(&arrived, 10_000), counts, "gap {gap}");
            assert!((350..650).contains(&counts.dropped), "{counts:?}");
            assert!((800..1100).contains(&counts.reordered), "{counts:?}");
            assert!((250..450).contains(&counts.duplicated), "{counts:?}");
        }
    }

    #[test]
    fn a_gap_of_one_swaps_neighbours() {
        let config = ImpairConfig {
            reorder: 5.0,
            ..ImpairConfig::default()
        };
        let (arrived, _) = pass(config, 1000);
        assert!(
            arrived
                .iter()
                .enumerate()
                .all(|(at, number)| (*number as usize).abs_diff(at) <= 4)
        );
    }

    #[test]
    fn the_seed_alone_decides() {
        let config = |seed| ImpairConfig {
            loss: 10.0,
            reorder: 10.0,
            seed,
            ..ImpairConfig::default()
        };
        assert_eq!(pass(config(7), 500), pass(config(7), 500));
        assert_ne!(pass(config(7), 500), pass(config(8), 500));
    }

    #[test]
    fn nothing_is_done_unless_asked_and_everything_if_so() {
        let (arrived, counts) = pass(ImpairConfig::default(), 100);
        assert_eq!((arrived.len(), counts), (100, Counts::default()));
        let (arrived, counts) = pass(
            ImpairConfig {
                loss: 100.0,
                ..ImpairConfig::default()
            },
            100,
        );
        assert_eq!((arrived.len(), counts.dropped), (0, 100));
        // The last held packets find nobody to overtake them: they arrive and are not counted.
        let (arrived, counts) = pass(
            ImpairConfig {
                reorder: 100.0,
                ..ImpairConfig::default()
            },
            10,
        );
        assert_eq!((arrived.len(), counts.reordered), (10, 0));
    }

    #[test]
    fn delay_keeps_order_and_time() {
        let delay = Duration::from_millis(30);
        let mut impairment = Impairment::new(ImpairConfig {
            delay,
            ..ImpairConfig::default()
        });
        let (start, mut out) = (Instant::now(), Vec::new());
        for number in 0..3 {
            impairment.offer(start, 0, vec![number], &mut out);
        }
        assert_eq!((out.len(), impairment.next_due()), (0, Some(start + delay)));
        impairment.release(start + delay - Duration::from_nanos(1), &mut out);
        assert!(out.is_empty());
        impairment.release(start + delay, &mut out);
        assert_eq!(out, [(0, vec![0]), (0, vec![1]), (0, vec![2])]);
    }
}
