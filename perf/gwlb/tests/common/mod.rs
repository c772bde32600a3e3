//! What the simulator's tests share: a trivial appliance, a health server, and a simulator on a thread.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidegate_gwlb::sys::PacketSocket;
use tidegate_gwlb::{Config, Report, Simulator, Stop};
use tidegate_lab::{Appliance, Topology, TopologyOptions};

pub const SOON: Duration = Duration::from_secs(5);

pub fn topology(appliances: u8) -> Topology {
    Topology::build(&TopologyOptions {
        appliances,
        ..TopologyOptions::default()
    })
    .expect("the lab (needs root)")
}

pub fn config(topology: &Topology) -> Config {
    let arguments = topology.gwlb_arguments();
    let targets = arguments
        .chunks(2)
        .filter(|pair| pair[0] == "--target")
        .map(|pair| pair[1].parse());
    let targets = targets.collect::<Result<_, _>>().expect("targets");
    Config::new(Topology::TUN_FORWARD, Topology::TUN_REVERSE, targets)
}

/// Starts a simulator on a thread; what it returns stops it and gives its report.
pub fn start(topology: &Topology, config: Config) -> impl FnOnce() -> Report + use<> {
    let simulator = topology
        .gwlb
        .run_in(|| Simulator::new(config))
        .expect("enter")
        .expect("simulator");
    let stop = Stop::new().expect("stop");
    let other = stop.try_clone().expect("clone");
    let thread = thread::spawn(move || simulator.run(&other, |_| ()).expect("run"));
    move || {
        stop.stop();
        thread.join().expect("simulator thread")
    }
}

/// Swaps MACs and addresses and sets the TTL, as a correct appliance does; written without the simulator's code.
pub fn turn_around(frame: &mut [u8]) {
    frame[0..12].rotate_left(6);
    frame[26..34].rotate_left(4);
    set_ttl(frame, 64);
}

/// Sets the outer TTL and recomputes the header checksum.
pub fn set_ttl(frame: &mut [u8], ttl: u8) {
    frame[22] = ttl;
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// An appliance in a thread that returns every GENEVE frame after `edit` has had its way with it, as often as `edit` says.
pub struct Echo {
    stop: Arc<AtomicBool>,
    pub seen: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(appliance: &Appliance, mut edit: impl FnMut(&mut Vec<u8>) -> usize + Send + 'static) -> Echo {
        let (socket, port) = appliance
            .namespace
            .run_in(|| {
                let port = UdpSocket::bind("0.0.0.0:6081").expect("else the kernel answers port unreachable");
                (
                    PacketSocket::open(Topology::APPLIANCE_INTERFACE).expect("packet socket"),
                    port,
                )
            })
            .expect("enter");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let _port = port;
            let mut buffer = vec![0; 65_600];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(received) = socket.receive(&mut buffer) else {
                    thread::sleep(Duration::from_micros(200));
                    continue;
                };
                let mut frame = buffer[..received.length].to_vec();
                if frame[23] != 17 || frame[36..38] != 6081u16.to_be_bytes() {
                    continue;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                turn_around(&mut frame);
                for _ in 0..edit(&mut frame) {
                    socket.send(&frame).expect("send back");
                }
            }
        });
        Echo {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    pub fn honest(appliance: &Appliance) -> Echo {
        Echo::start(appliance, |_| 1)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the echo appliance panicked");
        }
    }
}

/// A health server whose answer can be set.
pub struct HealthServer {
    stop: Arc<AtomicBool>,
    pub status: Arc<AtomicU16>,
    thread: Option<JoinHandle<()>>,
}

impl HealthServer {
    pub fn start(appliance: &Appliance) -> HealthServer {
        let address = (appliance.ip, 80);
        let listener = appliance
            .namespace
            .run_in(|| TcpListener::bind(address).expect("bind"))
            .expect("enter");
        listener.set_nonblocking(true).expect("non-blocking");
        let (stop, status) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(200)));
        let (stopped, answer) = (Arc::clone(&stop), Arc::clone(&status));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).expect("blocking");
                stream.set_read_timeout(Some(SOON)).expect("timeout");
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                assert!(
                    request[..length].starts_with(b"GET /health HTTP/1.1\r\n"),
                    "a GWLB health check"
                );
                let status = answer.load(Ordering::Relaxed);
                let _ = write!(stream, "HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
            }
        });
        HealthServer {
            stop,
            status,
            thread: Some(thread),
        }
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends so many numbered datagrams from source to sink and returns the numbers in the order in which they arrived.
pub fn send_numbered(topology: &Topology, from: &str, to: &str, count: u32) -> Vec<u32> {
    let receiver = topology
        .sink
        .run_in(|| UdpSocket::bind(to).expect("bind"))
        .expect("enter");
    let sender = topology
        .source
        .run_in(|| UdpSocket::bind(from).expect("bind"))
        .expect("enter");
    sender.connect(to).expect("connect");
    receiver
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("timeout");
    let receiving = thread::spawn(move || {
        let (mut numbers, mut buffer) = (Vec::new(), [0; 2000]);
        while let Ok(length) = receiver.recv(&mut buffer) {
            assert!(length >= 4);
            numbers.push(u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
        }
        numbers
    });
    for number in 0..count {
        let mut payload = [number as u8; 400];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        sender.send(&payload).expect("send");
        if number % 10 == 9 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    receiving.join().expect("receiver")
}
