//! The appliance as a host: ARP, ping and health are answered by its kernel while traffic flows.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate_common::wire::protocol;

use crate::bench::{get, number};
use crate::fixtures::*;
use crate::link::{Link, POLICY, RETURN, is_returned, stop};

/// An ARP request for the appliance's address (RFC 826).
fn arp_request() -> Vec<u8> {
    let mut frame = [[0xff; 6], GWLB_MAC].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GWLB_MAC);
    frame.extend(GWLB.octets());
    frame.extend([0; 6]);
    frame.extend(APPLIANCE.octets());
    frame
}

/// An ICMP echo request (8) or reply (0) between load balancer and appliance (RFC 792).
fn ping(kind: u8, number: u8, mac: [u8; 6], from: Ipv4Addr) -> Vec<u8> {
    let (mac_to, to) = if from == GWLB {
        (APPLIANCE_MAC, APPLIANCE)
    } else {
        (GWLB_MAC, GWLB)
    };
    let mut message = icmp(kind, &[number + 1; 32]);
    let sum = naive_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = v4(from, to, protocol::ICMP, &message);
    fix_checksum(&mut packet);
    [&mac_to[..], &mac, &[0x08, 0x00], &packet].concat()
}

fn is_arp_reply(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
        && frame.get(20..22) == Some(&[0, 2])
        && frame.get(22..28) == Some(&APPLIANCE_MAC)
}

/// Raises a flag when it goes out of scope.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn arp_ping_and_health_are_answered_while_traffic_flows() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let media = [wrapped(media_v4()).bytes(), wrapped(media_v6()).bytes()];
    let sender = link
        .gwlb
        .run_in(|| crate::bench::wire::Wire::open("tgd1"))
        .expect("entered")
        .expect("opened");
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                media.iter().for_each(|frame| sender.send(frame));
                sent.fetch_add(2, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        // Also when an assertion fails, or the sender would never end.
        let _end = Raise(&done);
        for number in 0..20 {
            link.wire.send(&arp_request());
            assert_eq!(link.wire.collect(1, RETURN, is_arp_reply).len(), 1, "no ARP reply");
            link.wire.send(&ping(8, number, GWLB_MAC, GWLB));
            let answer = ping(0, number, APPLIANCE_MAC, APPLIANCE);
            // What a kernel answers with has an identification and a TTL of its own: the message itself is compared.
            let is_answer =
                |frame: &[u8]| frame.get(6..12) == Some(&APPLIANCE_MAC) && frame.get(34..) == Some(&answer[34..]);
            assert_eq!(
                link.wire.collect(1, RETURN, is_answer).len(),
                1,
                "ping {number} is not answered"
            );
            let (status, body) = get(&link.gwlb, (APPLIANCE, 80).into(), "/health").expect("an answer");
            assert_eq!(status, 200, "{body}");
            assert!(body.contains("\"status\":\"ok\""), "{body}");
            thread::sleep(Duration::from_millis(20));
        }
    });
    let sent = sent.into_inner();
    assert!(sent > 100, "{sent} packets are no traffic");
    let status = site.settled();
    // What the kernel's own answers took the place of is not lost either.
    assert_eq!(number(&status, "/queues/0/packets/returned"), sent);
    let came = link
        .wire
        .collect(usize::MAX, Duration::from_millis(300), is_returned)
        .len() as u64;
    assert!(came <= sent && came > 0, "{came} of {sent}");
    stop(&site, process);
}
