//! A link between a load balancer's hands and an appliance, and what a returned frame must look like.

use std::net::UdpSocket;
use std::time::Duration;

use tidegate_lab::{MacAddr, Namespace, Process, VethEnd, XdpPass, veth};

use crate::bench::wire::Wire;
use crate::bench::{Site, require_means};
use crate::fixtures::{APPLIANCE, APPLIANCE_MAC, GWLB, GWLB_MAC, naive_checksum};

/// Admits whatever the fixtures' sources send to their destinations, and from a second network one port only. The destinations
/// are named because these rules admit answers too: open destinations would open the kernel's whitelist.
pub(crate) const POLICY: &str = r#"version = 1
default_action = "drop"

[[rule]]
name = "media"
protocol = "any"
source = ["10.1.2.0/24", "2001:db8:1::/48"]
destination = ["10.9.0.0/16", "2001:db8:9::/48"]

[[rule]]
name = "one-port"
protocol = "any"
source = ["10.1.3.0/24"]
destination = ["10.9.0.0/16"]
destination_port = [5000]
"#;
/// The appliance's interface, and the other end's.
const INTERFACE: &str = "tgd0";
const FAR: &str = "tgd1";
/// Long enough for a frame to come back on a machine that has other things to do.
pub(crate) const RETURN: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);
/// Lenient, since the tests count every packet of a worker and share two cores: no stall of the machine may cause a bypass.
const HEARTBEAT: [&str; 2] = ["--heartbeat", "5s"];

/// The link.
pub(crate) struct Link {
    pub(crate) appliance: Namespace,
    pub(crate) gwlb: Namespace,
    pub(crate) wire: Wire,
    _pass: XdpPass,
    /// Never read: without it the load balancer's kernel would answer what comes back with "port unreachable".
    _port: UdpSocket,
}

impl Link {
    pub(crate) fn new(queues: u32, mtu: u32) -> Link {
        require_means();
        let (appliance, gwlb) = (
            Namespace::new("appliance").expect("made"),
            Namespace::new("gwlb").expect("made"),
        );
        for namespace in [&appliance, &gwlb] {
            namespace
                .set_sysctl("ipv6/conf/default/disable_ipv6", "1")
                .expect("set");
        }
        let near = VethEnd {
            namespace: &appliance,
            name: INTERFACE,
            mac: MacAddr(APPLIANCE_MAC),
        };
        let far = VethEnd {
            namespace: &gwlb,
            name: FAR,
            mac: MacAddr(GWLB_MAC),
        };
        veth(near, far, queues, mtu).expect("a link");
        appliance
            .add_address(INTERFACE, &format!("{APPLIANCE}/24"))
            .expect("added");
        gwlb.add_address(FAR, &format!("{GWLB}/24")).expect("added");
        let pass = XdpPass::attach(&gwlb, FAR).expect("attached");
        let wire = gwlb
            .run_in(|| Wire::open(FAR))
            .expect("entered")
            .expect("a packet socket");
        let port = gwlb
            .run_in(|| UdpSocket::bind((GWLB, 6081)))
            .expect("entered")
            .expect("bound");
        Link {
            appliance,
            gwlb,
            wire,
            _pass: pass,
            _port: port,
        }
    }

    /// An appliance that serves this link with that policy.
    pub(crate) fn serve(&self, policy: &str, more: &[&str]) -> (Site<'_>, Process) {
        let site = Site::new(&self.appliance, INTERFACE, policy);
        let process = site.run(&[&HEARTBEAT, more].concat());
        (site, process)
    }

    /// Sends frames and returns what came back of them.
    pub(crate) fn round_trip(&self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().for_each(|frame| self.wire.send(frame));
        self.wire.collect(frames.len(), RETURN, is_returned)
    }

    /// Sends one frame and returns what came back.
    pub(crate) fn send(&self, frame: &[u8]) -> Option<Vec<u8>> {
        self.wire.send(frame);
        self.wire.collect(1, RETURN, is_returned).pop()
    }

    /// Fails if anything came back.
    pub(crate) fn silent(&self) {
        let came = self.wire.collect(1, SILENCE, is_returned);
        assert!(came.is_empty(), "came back: {:02x?}", came[0]);
    }

    /// Packets that arrived at a receive queue of the load balancer's end, by the driver's count.
    pub(crate) fn arrived_at(&self, queue: u32) -> u64 {
        let output = self.gwlb.command("ethtool").args(["-S", FAR]).output().expect("ran");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = format!("rx_queue_{queue}_xdp_packets:");
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(&name))
            .expect("veth counts by queue");
        line.trim().parse().expect("a number")
    }
}

/// Stops an appliance as an operator does; its own books must balance too.
pub(crate) fn stop(site: &Site<'_>, mut process: Process) {
    let status = process.stop(crate::bench::SOON).expect("ended");
    let log = process.log();
    assert!(status.success(), "{log}");
    assert!(log.contains("every packet and every frame accounted for: yes"), "{log}");
    site.nothing_is_left();
}

/// Whether a frame is GENEVE from the appliance, or at least UDP: the appliance's kernel sends none by itself.
pub(crate) fn is_returned(frame: &[u8]) -> bool {
    let at = if frame.get(12..14) == Some(&[0x81, 0x00]) {
        18
    } else {
        14
    };
    frame.get(6..12) == Some(&APPLIANCE_MAC)
        && frame.get(at - 2..at) == Some(&[0x08, 0x00])
        && frame.get(at + 9) == Some(&17)
}

/// The sum over a UDP datagram and its pseudo header (RFC 768); 0 for a right checksum.
pub(crate) fn udp_sum(frame: &[u8], ipv4_at: usize, udp_at: usize) -> u16 {
    let length = usize::from(u16::from_be_bytes([frame[udp_at + 4], frame[udp_at + 5]]));
    let mut covered = frame[ipv4_at + 12..ipv4_at + 20].to_vec();
    covered.extend([0, 17]);
    covered.extend(&frame[udp_at + 4..udp_at + 6]);
    covered.extend(&frame[udp_at..udp_at + length]);
    naive_checksum(&covered)
}

/// Gives a frame the outer UDP checksum that the fixtures leave out.
pub(crate) fn with_udp_checksum(mut frame: Vec<u8>, ipv4_at: usize, udp_at: usize) -> Vec<u8> {
    let sum = udp_sum(&frame, ipv4_at, udp_at);
    frame[udp_at + 6..udp_at + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}
