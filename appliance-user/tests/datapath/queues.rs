//! Two receive queues, two workers: both get their share, and every packet goes back on the queue it came by.

use std::collections::BTreeMap;

use tidegate_common::wire::protocol;

use crate::bench::{drops, number};
use crate::fixtures::*;
use crate::link::{Link, POLICY, stop};

/// Flows, told apart by their entropy port as the load balancer sets it.
const FLOWS: u16 = 32;
const PACKETS: u16 = 60;

#[test]
fn both_workers_return_on_the_queue_the_packet_came_by() {
    let link = Link::new(2, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    assert_eq!(site.told("started")[0]["queues"], serde_json::json!([0, 1]));
    let before = [0, 1].map(|queue| link.arrived_at(queue));
    let mut sent = Vec::new();
    for number in 0..PACKETS {
        for flow in 0..FLOWS {
            let payload = [flow.to_be_bytes(), number.to_be_bytes()].concat();
            let mut datagram = udp(5004 + flow, 5000, 4);
            datagram[8..].copy_from_slice(&payload);
            let mut frame = wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &datagram)).bytes();
            frame[34..36].copy_from_slice(&(50_000 + flow).to_be_bytes());
            sent.push(frame);
        }
    }
    let came = link.round_trip(&sent);
    assert_eq!(came.len(), sent.len(), "{:?}", drops(&site.status()));
    let mut next = BTreeMap::<u16, u16>::new();
    for frame in &came {
        let [.., f0, f1, n0, n1] = frame.as_slice() else {
            panic!("too short")
        };
        let expected = next.entry(u16::from_be_bytes([*f0, *f1])).or_default();
        assert_eq!(u16::from_be_bytes([*n0, *n1]), *expected, "out of order within a flow");
        *expected += 1;
    }
    assert_eq!(next.len(), usize::from(FLOWS));
    let status = site.settled();
    for queue in [0, 1] {
        let returned = number(&status, &format!("/queues/{queue}/packets/returned"));
        assert!(returned >= u64::from(PACKETS), "queue {queue} got {returned} packets");
        let arrived = link.arrived_at(queue) - before[queue as usize];
        // The kernel's own answers (health, closed connections) stay inside the appliance; nothing else is on this link.
        assert_eq!(
            arrived, returned,
            "returned by worker {queue}, and arrived at queue {queue}"
        );
    }
    stop(&site, process);
}
