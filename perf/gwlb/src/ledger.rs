//! The books: every packet sent ends in exactly one column, and every fault has an example.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::flow::FlowTable;
use crate::in_flight::{Entry, InFlight, Match};
use crate::report::{Example, FaultReport, TargetCounters};
use crate::wire::{Fault, View, first_difference};

/// Bytes of a frame that an example shows.
const SHOWN: usize = 256;

/// Flows, packets in flight, and what became of the others.
#[derive(Debug)]
pub struct Ledger {
    /// All flows.
    pub flows: FlowTable,
    /// What is with the appliances.
    pub in_flight: InFlight,
    /// Counters by number of target.
    pub targets: Vec<TargetCounters>,
    /// What was wrong, with the first example of each.
    pub faults: BTreeMap<Fault, FaultReport>,
    /// Round-trip times of all flows, nanoseconds.
    pub round_trip: Histogram<u64>,
}

/// What to do with a returned packet: deliver its inner part in this flow's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The flow.
    pub flow: usize,
    /// The inner packet.
    pub inner: &'a [u8],
}

impl Ledger {
    /// Empty books for so many targets.
    pub fn new(flows: FlowTable, targets: usize, round_trip: Histogram<u64>) -> Ledger {
        let targets = vec![TargetCounters::default(); targets];
        Ledger {
            flows,
            in_flight: InFlight::default(),
            targets,
            faults: BTreeMap::new(),
            round_trip,
        }
    }

    /// Books a packet as sent.
    pub fn sent(&mut self, entry: Entry, inner_bytes: usize) {
        if let Some(flow) = self.flows.get_mut(entry.flow) {
            flow.counters.sent += 1;
            flow.counters.sent_bytes += inner_bytes as u64;
        }
        self.target(entry.target, |target| target.sent += 1);
        if let Some(evicted) = self.in_flight.insert(entry) {
            self.missing(&evicted);
        }
    }

    /// Judges a frame that came from a target at `nanos` since 1970. What is neither GENEVE nor could be is ignored: health
    /// checks and ARP live on the same link.
    pub fn returned<'a>(&mut self, target: usize, frame: &'a [u8], nanos: u64) -> Option<Delivery<'a>> {
        let view = View::parse(frame)?;
        match self.in_flight.take(&view) {
            Match::Same(entry) => self.judge(&entry, &view, frame, nanos),
            Match::Altered(entry) => {
                self.judge(&entry, &view, frame, nanos);
                None
            }
            Match::Late(flow, sent_to) => {
                self.target(sent_to, |target| {
                    target.missing = target.missing.saturating_sub(1);
                    target.late += 1;
                });
                let counters = &mut self.flows.get_mut(flow)?.counters;
                counters.missing = counters.missing.saturating_sub(1);
                counters.late += 1;
                view.inner().map(|inner| Delivery { flow, inner })
            }
            Match::Unknown => {
                self.target(target, |target| target.not_sent += 1);
                self.fault(Fault::NotSent, || Example {
                    flow: "unknown".to_owned(),
                    sent: None,
                    returned: hex(frame),
                    differs_at: None,
                });
                None
            }
        }
    }

    /// Gives up what has not returned in time.
    pub fn expire(&mut self, now: Instant, timeout: Duration) {
        while let Some(entry) = self.in_flight.expire(now, timeout) {
            self.missing(&entry);
        }
    }

    fn judge<'a>(&mut self, entry: &Entry, view: &View<'a>, frame: &[u8], nanos: u64) -> Option<Delivery<'a>> {
        // Our own frames always have a view.
        let sent = View::parse(&entry.frame)?;
        let faults = view.faults(&sent);
        let flow = self.flows.get_mut(entry.flow)?;
        if faults.is_empty() {
            let inner = view.inner()?;
            flow.counters.returned_ok += 1;
            flow.counters.returned_bytes += inner.len() as u64;
            let took = nanos.saturating_sub(entry.sent_nanos);
            // Both grow to what they are given (which saturating_record would prevent); every u64 has a place.
            let _ = flow.round_trip.record(took);
            let _ = self.round_trip.record(took);
            self.target(entry.target, |target| target.returned_ok += 1);
            return Some(Delivery {
                flow: entry.flow,
                inner,
            });
        }
        flow.counters.altered += 1;
        let tuple = flow.tuple;
        self.target(entry.target, |target| target.altered += 1);
        for fault in faults {
            self.fault(fault, || Example {
                flow: format!(
                    "{} {}:{} -> {}:{}",
                    tuple.protocol_name(),
                    tuple.source,
                    tuple.source_port,
                    tuple.destination,
                    tuple.destination_port
                ),
                sent: Some(hex(&entry.frame)),
                returned: hex(frame),
                differs_at: first_difference(sent.payload, view.payload),
            });
        }
        None
    }

    fn fault(&mut self, fault: Fault, example: impl FnOnce() -> Example) {
        self.faults
            .entry(fault)
            .or_insert_with(|| FaultReport {
                count: 0,
                example: example(),
            })
            .count += 1;
    }

    fn missing(&mut self, entry: &Entry) {
        if let Some(flow) = self.flows.get_mut(entry.flow) {
            flow.counters.missing += 1;
        }
        self.target(entry.target, |target| target.missing += 1);
    }

    fn target(&mut self, number: usize, count: impl FnOnce(&mut TargetCounters)) {
        if let Some(target) = self.targets.get_mut(number) {
            count(target);
        }
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()
}
