//! What the simulator says: one JSON object at every interval and at the end. Keys may be added, never renamed.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use crate::config::Direction;
use crate::flow::FlowCounters;
use crate::health::{State, Transition};
use crate::impair;
use crate::wire::Fault;

/// Version of the layout.
pub const SCHEMA: u32 = 1;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether this is the last one, after the drain.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Seconds since the start.
    pub elapsed_seconds: f64,
    /// Sums over all flows.
    pub total: Counts,
    /// Round-trip times over all flows.
    pub rtt_us: RoundTrip,
    /// In the order of their first packets.
    pub flows: Vec<FlowReport>,
    /// In the order of the configuration.
    pub targets: Vec<TargetReport>,
    /// Everything that was wrong with returned packets; one packet may have several faults.
    pub faults: BTreeMap<Fault, FaultReport>,
    /// Packets that never became a flow's.
    pub unhandled: Unhandled,
}

/// Packets by fate. `sent` = `returned_ok` + `altered` + `missing` + `late` + `in_flight`, and `received` = `dropped` (with
/// `overflowed`) + `sent` + `send_failed` - `duplicated`, once nothing is held or delayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Came from the TUN device.
    pub received: u64,
    /// Inner bytes of them.
    pub received_bytes: u64,
    /// By the lossy network in front.
    pub impaired: impair::Counts,
    /// Went to a target.
    pub sent: u64,
    /// Inner bytes of them.
    pub sent_bytes: u64,
    /// The kernel would not take them, or they do not fit into an outer packet.
    pub send_failed: u64,
    /// Came back as they must.
    pub returned_ok: u64,
    /// Inner bytes of them.
    pub returned_bytes: u64,
    /// Came back with a fault; not delivered.
    pub altered: u64,
    /// Did not come back in time.
    pub missing: u64,
    /// Came back after their time; delivered.
    pub late: u64,
    /// Not back yet.
    pub in_flight: u64,
    /// Handed to the other side.
    pub delivered: u64,
    /// The TUN device would not take them.
    pub delivery_failed: u64,
}

impl Counts {
    pub(crate) fn new(counters: &FlowCounters, impaired: impair::Counts, in_flight: u64) -> Counts {
        let FlowCounters {
            received,
            received_bytes,
            sent,
            sent_bytes,
            send_failed,
            ..
        } = *counters;
        let FlowCounters {
            returned_ok,
            returned_bytes,
            altered,
            missing,
            late,
            delivered,
            delivery_failed,
            ..
        } = *counters;
        Counts {
            received,
            received_bytes,
            impaired,
            sent,
            sent_bytes,
            send_failed,
            returned_ok,
            returned_bytes,
            altered,
            missing,
            late,
            in_flight,
            delivered,
            delivery_failed,
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.impaired.dropped += other.impaired.dropped;
        self.impaired.reordered += other.impaired.reordered;
        self.impaired.duplicated += other.impaired.duplicated;
        self.impaired.overflowed += other.impaired.overflowed;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.send_failed += other.send_failed;
        self.returned_ok += other.returned_ok;
        self.returned_bytes += other.returned_bytes;
        self.altered += other.altered;
        self.missing += other.missing;
        self.late += other.late;
        self.in_flight += other.in_flight;
        self.delivered += other.delivered;
        self.delivery_failed += other.delivery_failed;
    }
}

/// One flow, one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Which way.
    pub direction: Direction,
    /// GWLB endpoint id, `0x` and 16 digits.
    pub endpoint: String,
    /// `udp`, `tcp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// Address and port.
    pub source: String,
    /// Address and port.
    pub destination: String,
    /// The target of its latest packet: its address.
    pub target: String,
    /// Outer UDP source port.
    pub entropy_port: u16,
    /// Flow cookie, `0x` and 8 digits.
    pub cookie: String,
    /// Its packets.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its round-trip times.
    pub rtt_us: RoundTrip,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its address.
    pub ip: String,
    /// The interface of its link.
    pub interface: String,
    /// What the health checks say now.
    pub state: State,
    /// Health checks passed.
    pub checks_passed: u64,
    /// Health checks failed.
    pub checks_failed: u64,
    /// How the state changed, at most 100 times.
    pub transitions: Vec<Transition>,
    /// Its packets.
    #[serde(flatten)]
    pub counters: TargetCounters,
}

/// What is counted per target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetCounters {
    /// Went there.
    pub sent: u64,
    /// Came back as they must.
    pub returned_ok: u64,
    /// Came back with a fault.
    pub altered: u64,
    /// Did not come back in time.
    pub missing: u64,
    /// Came back after their time.
    pub late: u64,
    /// Came back without having been sent, or a second time.
    pub not_sent: u64,
    /// Lost by the simulator's own socket: counted as missing although the appliance may have returned them.
    pub socket_drops: u64,
}

/// One kind of fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Packets that had it.
    pub count: u64,
    /// The first of them.
    pub example: Example,
}

/// A returned packet beside what had been sent. Frames are in hex, from the Ethernet header, at most 256 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Inner source and destination of what was sent, or what is known.
    pub flow: String,
    /// The frame sent, if it is known.
    pub sent: Option<String>,
    /// The frame that came back.
    pub returned: String,
    /// First differing byte, counted from the start of the GENEVE header.
    pub differs_at: Option<usize>,
}

/// Packets that never became a flow's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unhandled {
    /// From the TUN device, but with no readable inner 5-tuple.
    pub not_ip: u64,
    /// Of a scope that no router forwards.
    pub link_local: u64,
    /// Dropped because there were too many flows.
    pub flow_table_full: u64,
    /// Lost in the TUN devices because the simulator was not fast enough.
    pub tun_drops: u64,
    /// Frames that could not be written to the capture.
    pub pcap_failed: u64,
}

/// Round-trip times in microseconds, from the send call to the kernel's receive time stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl RoundTrip {
    pub(crate) fn new<C: Counter>(nanoseconds: &Histogram<C>) -> RoundTrip {
        let at = |percentile| nanoseconds.value_at_percentile(percentile) as f64 / 1000.0;
        RoundTrip {
            count: nanoseconds.len(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: nanoseconds.max() as f64 / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::<u64>::new(3).expect("histogram");
        (1..=1000u64).for_each(|microseconds| histogram.record(microseconds * 1000).expect("record"));
        let times = RoundTrip::new(&histogram);
        assert_eq!(times.count, 1000);
        for (value, expected) in [
            (times.p50, 500.0),
            (times.p90, 900.0),
            (times.p99, 990.0),
            (times.max, 1000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} {expected}");
        }
        assert_eq!(
            RoundTrip::new(&Histogram::<u64>::new(3).expect("histogram")),
            RoundTrip::default()
        );
    }
}
