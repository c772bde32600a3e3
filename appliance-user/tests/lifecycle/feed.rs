//! A steady RTP stream through the lab: who sends what when, what arrives, and what is missing.

use std::fmt;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_gwlb::{Config, Report, Simulator, Stop};
use tidegate_lab::{Topology, TopologyOptions};

use crate::bench::{Site, require_means};

pub(crate) const RATE: u64 = 2_000;
const PORT: u16 = 5004;
const TS: usize = 188;
const PER_DATAGRAM: usize = 7;
/// MPEG-TS over RTP (RFC 3551).
const PAYLOAD_TYPE: u8 = 33;
/// A packet that comes back after this was kept somewhere: it counts as late.
const RETURN_TIMEOUT: Duration = Duration::from_millis(350);

const TUN: [&str; 2] = [Topology::TUN_FORWARD, Topology::TUN_REVERSE];

/// How long nothing has to arrive before the last packet has: on a busy machine every part of the lab waits for its turn.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) const POLICY: &str = r#"version = 1
default_action = "drop"

[[rule]]
name = "studio"
protocol = "rtp"
source = ["10.10.0.2"]
destination = ["10.20.0.2"]
destination_port = [5004]
"#;

/// The lab with its load balancer running.
pub(crate) struct Lab {
    // Ends before its namespaces do.
    balancer: Option<(Stop, JoinHandle<Report>)>,
    topology: Topology,
    /// What its network had lost before anything was sent: links drop while they come up.
    before: Astray,
}

/// Packets that the lab's own network has lost, by where: neither given to the appliance nor kept by it. A link's ring holds
/// 256 packets, which veth lets nobody change, and on a busy machine the one who empties it may have to wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Astray(Vec<(String, u64)>);

impl Astray {
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// What of the topology's devices and sockets is not the appliance's doing.
    fn of(topology: &Topology) -> Astray {
        let mut all = Vec::new();
        let appliances = topology.appliances.iter().map(|appliance| &appliance.namespace);
        let edges = [&topology.source, &topology.gwlb, &topology.sink];
        for namespace in edges.into_iter().chain(appliances) {
            for device in namespace.devices().expect("counted") {
                let name = format!("{} {}", namespace.name(), device.interface);
                all.push(if TUN.contains(&device.interface.as_str()) {
                    // What its queue refused is in the load balancer's report.
                    (format!("{name} not received"), device.receive_dropped)
                } else {
                    // What an end drops on arrival is what its program could not hand to a worker, which is the appliance's
                    // loss, or the other end has counted it.
                    (format!("{name} not sent"), device.transmit_dropped)
                });
            }
        }
        // Not the load balancer's, which holds a port of which it reads nothing.
        for namespace in [&topology.source, &topology.sink] {
            let overflows = namespace.udp_overflows().expect("counted");
            all.push((format!("{} full sockets", namespace.name()), overflows));
        }
        Astray(all)
    }

    /// What was added since `before`, of the same topology.
    fn since(mut self, before: &Astray) -> Astray {
        for ((_, count), (_, then)) in self.0.iter_mut().zip(&before.0) {
            *count -= then;
        }
        self
    }

    /// The load balancer's part: what its sockets lost or did not take.
    fn with(mut self, report: &Report) -> Astray {
        let unread = report.targets.iter().map(|target| target.counters.socket_drops).sum();
        self.0.extend([
            ("load balancer's queues".to_owned(), report.unhandled.tun_drops),
            ("load balancer unread".to_owned(), unread),
            ("load balancer unsent".to_owned(), report.total.send_failed),
            ("load balancer undelivered".to_owned(), report.total.delivery_failed),
        ]);
        self
    }
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets lost by the lab's own network", self.total())?;
        let mut some = self.0.iter().filter(|(_, count)| *count > 0);
        some.try_for_each(|(place, count)| write!(f, ", {place}: {count}"))
    }
}

impl Lab {
    pub(crate) fn new() -> Lab {
        require_means();
        let topology = Topology::build(&TopologyOptions::default()).expect("the lab");
        let arguments = topology.gwlb_arguments();
        let pairs = arguments.chunks(2).filter(|pair| pair[0] == "--target");
        let targets = pairs
            .map(|pair| pair[1].parse())
            .collect::<Result<_, _>>()
            .expect("targets");
        let config = Config {
            return_timeout: RETURN_TIMEOUT,
            ..Config::new(Topology::TUN_FORWARD, Topology::TUN_REVERSE, targets)
        };
        let simulator = topology
            .gwlb
            .run_in(|| Simulator::new(config))
            .expect("entered")
            .expect("a simulator");
        let stop = Stop::new().expect("a stop");
        let theirs = stop.try_clone().expect("another");
        let thread = thread::spawn(move || simulator.run(&theirs, |_| ()).expect("runs"));
        Lab {
            balancer: Some((stop, thread)),
            before: Astray::of(&topology),
            topology,
        }
    }

    /// A site in the lab's appliance.
    pub(crate) fn site(&self) -> Site<'_> {
        Site::new(
            &self.topology.appliances[0].namespace,
            Topology::APPLIANCE_INTERFACE,
            POLICY,
        )
    }

    /// Begins the stream from the source that is listed.
    pub(crate) fn stream(&self) -> Stream {
        Stream::start(&self.topology, Topology::SOURCE_V4, PORT)
    }

    /// Begins a stream from a source that no rule lists.
    pub(crate) fn unlisted(&self) -> Stream {
        Stream::start(&self.topology, Topology::SOURCE_V4_SECOND, PORT + 2)
    }

    /// Packets that the appliance's interface has been given so far.
    pub(crate) fn offered(&self) -> u64 {
        let devices = self.topology.appliances[0].namespace.devices().expect("counted");
        let mut devices = devices.into_iter();
        let device = devices.find(|device| device.interface == Topology::APPLIANCE_INTERFACE);
        device.expect("the appliance's interface").received
    }

    /// Stops the load balancer; what it says of every packet, and what the lab has lost since it began.
    pub(crate) fn report(&mut self) -> (Report, Astray) {
        let (stop, thread) = self.balancer.take().expect("asked once");
        stop.stop();
        let report = thread.join().expect("the simulator");
        let astray = Astray::of(&self.topology).since(&self.before).with(&report);
        println!("the load balancer: {:?}; {astray}", report.total);
        (report, astray)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.balancer.take() {
            stop.stop();
            let _ = thread.join();
        }
    }
}

/// A stream under way, both ends of it.
pub(crate) struct Stream {
    /// The sender is to end.
    done: Arc<AtomicBool>,
    /// Nothing is sent any more: the receiver is to end with the last packet.
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<Vec<u64>>>,
}

/// What arrived of how many.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Numbers in the order of arrival.
    numbers: Vec<u64>,
}

impl Outcome {
    pub(crate) fn arrived(&self) -> u64 {
        self.numbers.len() as u64
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sent - self.arrived()
    }

    /// Every packet that is missing is among the `counted`, which the appliance says it discarded, or the lab lost it.
    pub(crate) fn assert_lost(&self, counted: u64, astray: &Astray) {
        let lost = self.lost();
        assert!(
            (counted..=counted + astray.total()).contains(&lost),
            "lost {lost}, of which the appliance counted {counted}; {astray}"
        );
    }

    /// Packets that came behind one that was sent later, and by how many numbers the worst of them.
    pub(crate) fn reordered(&self) -> (u64, u64) {
        let (mut count, mut worst, mut highest) = (0, 0, 0);
        for number in &self.numbers {
            if *number < highest {
                count += 1;
                worst = worst.max(highest - number);
            }
            highest = highest.max(*number);
        }
        (count, worst)
    }

    /// Packets lost between two numbers.
    pub(crate) fn lost_between(&self, from: u64, to: u64) -> u64 {
        let arrived = self.numbers.iter().filter(|number| (from..to).contains(number)).count() as u64;
        (to - from) - arrived
    }

    /// The numbers that are missing, in runs from the first to behind the last.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        let mut gaps = Vec::new();
        let mut next = 0;
        for number in numbers.into_iter().chain([self.sent]) {
            if number > next {
                gaps.push((next, number));
            }
            next = next.max(number + 1);
        }
        gaps
    }

    /// No packet came twice.
    pub(crate) fn assert_no_duplicates(&self) {
        let distinct: std::collections::BTreeSet<_> = self.numbers.iter().collect();
        assert_eq!(distinct.len(), self.numbers.len(), "a packet came twice");
    }
}

impl Stream {
    fn start(topology: &Topology, source: &str, port: u16) -> Stream {
        let receiver = topology
            .sink
            .run_in(|| UdpSocket::bind((Topology::SINK_V4, port)))
            .expect("entered")
            .expect("bound");
        let sender = topology
            .source
            .run_in(|| UdpSocket::bind((source, port)))
            .expect("entered")
            .expect("bound");
        sender.connect((Topology::SINK_V4, port)).expect("connected");
        receiver.set_read_timeout(Some(QUIET)).expect("set");
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 32 << 20).expect("a large buffer");
        let (done, over, sent, arrived) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let (ending, counter) = (Arc::clone(&done), Arc::clone(&sent));
        let send = move || {
            let (begun, mut packets) = (Instant::now(), Packets::new());
            while !ending.load(Ordering::Relaxed) {
                let due = begun.elapsed().as_micros() as u64 * RATE / 1_000_000;
                for _ in counter.load(Ordering::Relaxed)..due {
                    sender.send(&packets.next_packet()).expect("sent");
                    counter.fetch_add(1, Ordering::Release);
                }
                thread::sleep(Duration::from_micros(500));
            }
        };
        let (ending, counter) = (Arc::clone(&over), Arc::clone(&arrived));
        let receive = move || {
            let (mut numbers, mut buffer) = (Vec::new(), [0; 2000]);
            loop {
                match receiver.recv(&mut buffer) {
                    Ok(length) => {
                        numbers.push(number_of(&buffer[..length]));
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) if ending.load(Ordering::Relaxed) => return numbers,
                    Err(_) => {}
                }
            }
        };
        Stream {
            done,
            over,
            sent,
            arrived,
            sender: Some(thread::spawn(send)),
            receiver: Some(thread::spawn(receive)),
        }
    }

    /// The number that is sent next.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// How many arrived so far.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Waits until so many more were sent.
    pub(crate) fn flow(&self, packets: u64) {
        let target = self.sent() + packets;
        let within = Duration::from_secs(20);
        tidegate_lab::wait_until("the stream flows", within, || self.sent() >= target).expect("flows");
    }

    /// Ends it: the sender at once, the receiver when nothing comes any more.
    pub(crate) fn finish(mut self) -> Outcome {
        let numbers = self.end().expect("the threads");
        Outcome {
            sent: self.sent(),
            numbers,
        }
    }

    /// Ends the sender and only then, whose last packets may be a burst that it owed, the receiver.
    fn end(&mut self) -> thread::Result<Vec<u64>> {
        self.done.store(true, Ordering::Relaxed);
        let sent = self.sender.take().map_or(Ok(()), JoinHandle::join);
        self.over.store(true, Ordering::Relaxed);
        let received = self.receiver.take().map_or(Ok(Vec::new()), JoinHandle::join);
        sent.and(received)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Makes RTP packets with seven packets of one elementary stream each, continuity counters right.
struct Packets {
    number: u64,
    counter: u8,
    random: u64,
}

impl Packets {
    fn new() -> Packets {
        Packets {
            number: 0,
            counter: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn next_packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0x80, PAYLOAD_TYPE];
        packet.extend((self.number as u16).to_be_bytes());
        packet.extend(((self.number * 90_000 / RATE) as u32).to_be_bytes());
        packet.extend(0x7469_6465_u32.to_be_bytes());
        for _ in 0..PER_DATAGRAM {
            packet.extend([0x47, 0x01, 0x00, 0x10 | self.counter]);
            packet.extend(self.number.to_be_bytes());
            for _ in 0..(TS - 12) / 8 {
                // xorshift64: the same bytes in every run.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                packet.extend(self.random.to_be_bytes());
            }
            self.counter = (self.counter + 1) & 0x0f;
        }
        self.number += 1;
        packet
    }
}

fn number_of(packet: &[u8]) -> u64 {
    assert_eq!(packet.len(), 12 + PER_DATAGRAM * TS, "a packet of another length");
    u64::from_be_bytes(packet[16..24].try_into().expect("eight bytes"))
}
