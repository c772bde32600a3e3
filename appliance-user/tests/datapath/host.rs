//! The appliance as a host: ARP, ping and health are answered by its kernel while traffic flows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate_lab::run;

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

fn is_arp_reply(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(20..22) == Some(&[0, 2]) && frame.get(22..28) == Some(&APPLIANCE_MAC)
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
    let sender = link.gwlb.run_in(|| crate::bench::wire::Wire::open("tgd1")).expect("entered").expect("opened");
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
        for _ in 0..5 {
            link.wire.send(&arp_request());
            assert_eq!(link.wire.collect(1, RETURN, is_arp_reply).len(), 1, "no ARP reply");
        }
        let ping = ["-c", "5", "-i", "0.1", "-W", "2", &APPLIANCE.to_string()].map(str::to_owned);
        let said = run(link.gwlb.command("ping").args(ping)).expect("ping");
        assert!(said.contains(" 0% packet loss"), "{said}");
        for _ in 0..5 {
            let (status, body) = get(&link.gwlb, (APPLIANCE, 80).into(), "/health").expect("an answer");
            assert_eq!(status, 200, "{body}");
            assert!(body.contains("\"status\":\"ok\""), "{body}");
        }
    });
    let sent = sent.into_inner();
    assert!(sent > 100, "{sent} packets are no traffic");
    let status = site.settled();
    // What the kernel's own answers took the place of is not lost either.
    assert_eq!(number(&status, "/queues/0/packets/returned"), sent);
    let came = link.wire.collect(usize::MAX, Duration::from_millis(300), is_returned).len() as u64;
    assert!(came <= sent && came > 0, "{came} of {sent}");
    stop(&site, process);
}
