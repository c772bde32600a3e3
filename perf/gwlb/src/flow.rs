//! Flows and stickiness: which target a packet goes to, and what is counted about it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::config::{Direction, Stickiness};
use crate::impair::mix;
use crate::inner::Tuple;

/// GWLB's idle time-outs: after them the next packet is a new flow's.
const UDP_IDLE: Duration = Duration::from_secs(120);
const TCP_IDLE: Duration = Duration::from_secs(350);
/// The ephemeral ports of RFC 6335, from which entropy is drawn.
const EPHEMERAL: u16 = 49_152;

/// What happened to one flow's packets. `sent` is always the sum of `returned_ok`, `altered`, `missing`, `late` and what
/// is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets and inner bytes that came from the TUN device.
    pub received: u64,
    /// Inner bytes of them.
    pub received_bytes: u64,
    /// Packets sent to a target.
    pub sent: u64,
    /// Inner bytes of them.
    pub sent_bytes: u64,
    /// Packets that the kernel would not take for sending.
    pub send_failed: u64,
    /// Packets that came back without a fault.
    pub returned_ok: u64,
    /// Inner bytes of them.
    pub returned_bytes: u64,
    /// Packets that came back with at least one fault.
    pub altered: u64,
    /// Packets that did not come back in time: dropped by the appliance, or lost on the way.
    pub missing: u64,
    /// Packets that came back after their time.
    pub late: u64,
    /// Packets handed to the other side.
    pub delivered: u64,
    /// Packets that the TUN device would not take.
    pub delivery_failed: u64,
}

/// One flow, one direction.
#[derive(Debug)]
pub struct Flow {
    /// The inner 5-tuple.
    pub tuple: Tuple,
    /// Which TUN device it came from.
    pub direction: Direction,
    /// The target of its latest packet.
    pub target: usize,
    /// UDP source port: one per flow and direction.
    pub entropy_port: u16,
    /// Flow cookie: one per flow, the same in both directions.
    pub cookie: u32,
    /// What is counted.
    pub counters: FlowCounters,
    /// Round-trip times, nanoseconds.
    pub round_trip: Histogram<u32>,
}

#[derive(Debug)]
struct Sticky {
    target: usize,
    last_seen: Instant,
}

/// All flows ever seen, up to a bound, and the targets they stick to.
#[derive(Debug)]
pub struct FlowTable {
    stickiness: Stickiness,
    rebalance: bool,
    max_flows: usize,
    index: HashMap<(Direction, Tuple), usize>,
    flows: Vec<Flow>,
    sticky: HashMap<Tuple, Sticky>,
}

impl FlowTable {
    /// An empty table.
    pub fn new(stickiness: Stickiness, rebalance: bool, max_flows: usize) -> FlowTable {
        let (index, flows, sticky) = (HashMap::new(), Vec::new(), HashMap::new());
        FlowTable {
            stickiness,
            rebalance,
            max_flows,
            index,
            flows,
            sticky,
        }
    }

    /// The flows in the order of their first packets.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// A flow by its number.
    pub fn get_mut(&mut self, flow: usize) -> Option<&mut Flow> {
        self.flows.get_mut(flow)
    }

    /// A flow by its number.
    pub fn get(&self, flow: usize) -> Option<&Flow> {
        self.flows.get(flow)
    }

    /// The number of a packet's flow, which is made if it is new; none if the table is full.
    pub fn find(&mut self, direction: Direction, tuple: Tuple) -> Option<usize> {
        if let Some(flow) = self.index.get(&(direction, tuple)) {
            return Some(*flow);
        }
        if self.flows.len() >= self.max_flows {
            return None;
        }
        // Two significant digits, 1%: at most a few kilobytes a flow. 2 is a legal number of digits.
        let round_trip = Histogram::new(2).ok()?;
        let number = self.flows.len();
        self.flows.push(Flow {
            tuple,
            direction,
            target: 0,
            entropy_port: EPHEMERAL + (hash(&tuple) % u64::from(u16::MAX - EPHEMERAL + 1)) as u16,
            cookie: hash(&tuple.canonical()) as u32,
            counters: FlowCounters::default(),
            round_trip,
        });
        self.index.insert((direction, tuple), number);
        Some(number)
    }

    /// The target for a flow's next packet, given which targets are healthy. New flows go to healthy ones, to any if none
    /// is; known flows stay, unless they may be rebalanced and there is a healthy target to go to.
    pub fn target(&mut self, flow: usize, now: Instant, healthy: &[bool]) -> usize {
        let Some(flow) = self.flows.get_mut(flow) else { return 0 };
        let key = sticky_key(self.stickiness, &flow.tuple);
        let idle = if flow.tuple.is_tcp() { TCP_IDLE } else { UDP_IDLE };
        let any_healthy = healthy.contains(&true);
        if let Some(sticky) = self.sticky.get_mut(&key) {
            let must_leave = self.rebalance && any_healthy && !healthy.get(sticky.target).copied().unwrap_or(false);
            if now.duration_since(sticky.last_seen) < idle && !must_leave {
                sticky.last_seen = now;
                flow.target = sticky.target;
                return sticky.target;
            }
        }
        let target = pick(hash(&key), healthy);
        // One entry at most per flow, so the flows' bound is this map's too.
        self.sticky.insert(key, Sticky { target, last_seen: now });
        flow.target = target;
        target
    }
}

/// What both directions of all flows that must stay together have in common.
fn sticky_key(stickiness: Stickiness, tuple: &Tuple) -> Tuple {
    let mut key = *tuple;
    if stickiness != Stickiness::FiveTuple {
        (key.source_port, key.destination_port) = (0, 0);
    }
    if stickiness == Stickiness::TwoTuple {
        key.protocol = 0;
    }
    key.canonical()
}

fn pick(hash: u64, healthy: &[bool]) -> usize {
    let well: Vec<usize> = healthy
        .iter()
        .enumerate()
        .filter(|(_, well)| **well)
        .map(|(number, _)| number)
        .collect();
    // All unhealthy: fail open to all of them.
    let choices = if well.is_empty() {
        (0..healthy.len()).collect()
    } else {
        well
    };
    let at = hash.checked_rem(choices.len() as u64).unwrap_or(0);
    choices.get(at as usize).copied().unwrap_or(0)
}

/// Not keyed, unlike the maps' own: entropy ports and cookies are the same in every run.
fn hash(tuple: &Tuple) -> u64 {
    let word = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let ports =
        u64::from(tuple.source_port) << 32 | u64::from(tuple.destination_port) << 16 | u64::from(tuple.protocol);
    let (source, destination) = (word(tuple.source), word(tuple.destination));
    [
        source as u64,
        (source >> 64) as u64,
        destination as u64,
        (destination >> 64) as u64,
        ports,
    ]
    .into_iter()
    .fold(0x7469_6465_6761_7465, |state, word| {
        mix(state ^ mix(word.wrapping_add(state)))
    })
}

impl Default for Tuple {
    fn default() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Tuple {
            protocol: 0,
            source: nowhere,
            source_port: 0,
            destination: nowhere,
            destination_port: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple {
            protocol: 17,
            source: "10.10.0.2".parse().expect("address"),
            source_port: port,
            destination: "10.20.0.2".parse().expect("address"),
            destination_port: 5000,
        }
    }

    fn back(tuple: Tuple) -> Tuple {
        Tuple {
            source: tuple.destination,
            source_port: tuple.destination_port,
            destination: tuple.source,
            destination_port: tuple.source_port,
            ..tuple
        }
    }

    fn targets(table: &mut FlowTable, now: Instant, healthy: &[bool]) -> Vec<usize> {
        (0..100)
            .map(|port| {
                let flow = table.find(Direction::Forward, tuple(port)).expect("room");
                table.target(flow, now, healthy)
            })
            .collect()
    }

    #[test]
    fn five_tuples_spread_stay_and_bring_their_replies() {
        let (mut table, now) = (FlowTable::new(Stickiness::FiveTuple, false, 1000), Instant::now());
        let first = targets(&mut table, now, &[true; 3]);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3);
        assert_eq!(targets(&mut table, now, &[true; 3]), first);
        for (port, target) in first.iter().enumerate() {
            let flow = table.find(Direction::Reverse, back(tuple(port as u16))).expect("room");
            assert_eq!(table.target(flow, now, &[true; 3]), *target);
        }
    }

    #[test]
    fn fewer_fields_keep_companions_together() {
        for stickiness in [Stickiness::ThreeTuple, Stickiness::TwoTuple] {
            let mut table = FlowTable::new(stickiness, false, 1000);
            let all = targets(&mut table, Instant::now(), &[true; 3]);
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1, "{stickiness:?}");
        }
        let tcp = Tuple {
            protocol: 6,
            ..tuple(1)
        };
        assert_eq!(
            sticky_key(Stickiness::TwoTuple, &tcp),
            sticky_key(Stickiness::TwoTuple, &tuple(1))
        );
        assert_ne!(
            sticky_key(Stickiness::ThreeTuple, &tcp),
            sticky_key(Stickiness::ThreeTuple, &tuple(1))
        );
    }

    #[test]
    fn flows_stay_on_a_dead_target_unless_rebalanced() {
        let now = Instant::now();
        for (rebalance, moves) in [(false, false), (true, true)] {
            let mut table = FlowTable::new(Stickiness::FiveTuple, rebalance, 1000);
            let before = targets(&mut table, now, &[true, true]);
            let after = targets(&mut table, now, &[true, false]);
            assert_eq!(before != after, moves, "rebalance {rebalance}");
            assert_eq!(after.iter().all(|target| *target == 0), moves);
            // Back again: nothing moves by itself.
            assert_eq!(targets(&mut table, now, &[true, true]), after);
            // All dead: everything stays where it is.
            assert_eq!(targets(&mut table, now, &[false, false]), after);
        }
    }

    #[test]
    fn new_flows_avoid_the_sick_and_fail_open() {
        let now = Instant::now();
        let mut table = FlowTable::new(Stickiness::FiveTuple, false, 1000);
        assert!(
            targets(&mut table, now, &[false, true, false])
                .iter()
                .all(|target| *target == 1)
        );
        let mut table = FlowTable::new(Stickiness::FiveTuple, false, 1000);
        let open = targets(&mut table, now, &[false, false, false]);
        assert_eq!(open.iter().collect::<HashSet<_>>().len(), 3);
    }

    #[test]
    fn an_idle_flow_is_new_again() {
        let mut table = FlowTable::new(Stickiness::FiveTuple, false, 1000);
        let now = Instant::now();
        targets(&mut table, now, &[false, true]);
        let almost = targets(&mut table, now + UDP_IDLE - Duration::from_secs(1), &[true, false]);
        assert!(almost.iter().all(|target| *target == 1));
        let later = targets(&mut table, now + 2 * UDP_IDLE, &[true, false]);
        assert!(later.iter().all(|target| *target == 0));
    }

    #[test]
    fn entropy_is_per_direction_and_the_cookie_per_flow() {
        let mut table = FlowTable::new(Stickiness::FiveTuple, false, 2);
        let there = table.find(Direction::Forward, tuple(1)).expect("room");
        let return_flow = table.find(Direction::Reverse, back(tuple(1))).expect("room");
        assert_eq!(table.find(Direction::Forward, tuple(1)), Some(there));
        assert_eq!(table.find(Direction::Forward, tuple(2)), None, "full");
        let [there, back] = [there, return_flow].map(|flow| table.get(flow).expect("flow"));
        assert_ne!(there.entropy_port, back.entropy_port);
        assert_eq!(there.cookie, back.cookie);
        assert!(there.entropy_port >= EPHEMERAL);
    }
}
