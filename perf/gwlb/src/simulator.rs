//! The simulator itself: one thread, one `poll(2)`, no busy loop.
//!
//! TUN device -> lossy network -> GENEVE -> appliance -> judged -> TUN device of the same direction, which the kernel routes
//! on. Never blocks on anything but `poll`; health checks have threads of their own.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::config::{Config, Direction, TargetConfig};
use crate::error::{Error, Result};
use crate::flow::FlowTable;
use crate::health::{Checker, State};
use crate::impair::{HOLD_LIMIT, Impairment, Packet};
use crate::in_flight::Entry;
use crate::inner::Tuple;
use crate::ledger::Ledger;
use crate::pcap::PcapWriter;
use crate::report::{Counts, FlowReport, Report, RoundTrip, SCHEMA, TargetReport, Unhandled};
use crate::sys::{DeviceTable, PacketSocket, open_tun, realtime_nanos};
use crate::wire::{GENEVE_PORT, Outer};

/// Packets taken from one device before the others get their turn.
const BURST: usize = 64;
/// Packets still taken from each TUN device after the stop: what its queue holds in the lab.
const LAST_BURST: usize = 10_000;
/// The largest frame there can be, and some.
const BUFFER: usize = 65_600;

/// Tells a running simulator to stop. Write a byte to [`Stop::writer`], for instance from a signal handler, or call
/// [`Stop::stop`] on a clone.
#[derive(Debug)]
pub struct Stop {
    reader: UnixStream,
    writer: UnixStream,
}

impl Stop {
    /// A fresh one.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<Stop> {
        let (reader, writer) = UnixStream::pair()?;
        Ok(Stop { reader, writer })
    }

    /// Another handle on the same.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Stop> {
        Ok(Stop {
            reader: self.reader.try_clone()?,
            writer: self.writer.try_clone()?,
        })
    }

    /// Anything written here stops the simulator.
    pub fn writer(&self) -> &UnixStream {
        &self.writer
    }

    /// Stops the simulator: it drains and hands out its final report.
    pub fn stop(&self) {
        // Fails only if thousands of stops are already waiting to be read.
        let _ = (&self.writer).write_all(&[1]);
    }
}

#[derive(Debug)]
struct Target {
    config: TargetConfig,
    socket: PacketSocket,
    checker: Checker,
    socket_drops: u64,
}

/// The simulator, ready to run.
#[derive(Debug)]
pub struct Simulator {
    config: Config,
    start: Instant,
    tun: [File; 2],
    devices: DeviceTable,
    drops_before: [u64; 2],
    targets: Vec<Target>,
    /// Never read: without it the kernel would answer returned packets with "port unreachable".
    _port: UdpSocket,
    impairment: Impairment,
    ledger: Ledger,
    unhandled: Unhandled,
    pcap: Option<PcapWriter<BufWriter<File>>>,
    buffer: Vec<u8>,
}

impl Simulator {
    /// Opens everything in the network namespace of the calling thread; [`Simulator::run`] may then be called anywhere.
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Io`] with what could not be opened.
    pub fn new(config: Config) -> Result<Simulator> {
        config.validate()?;
        let start = Instant::now();
        let tun = |name: &String| open_tun(name).map_err(|error| Error::io(format!("TUN device {name}"), error));
        let [forward, reverse] = &config.tun;
        let tun = [tun(forward)?, tun(reverse)?];
        let devices = DeviceTable::open().map_err(|error| Error::io("device counters", error))?;
        let drops_before = [forward, reverse].map(|name| devices.transmit_drops(name).unwrap_or(0));
        let targets = config
            .targets
            .iter()
            .map(|target| open_target(target, &config, start))
            .collect::<Result<_>>()?;
        let pcap = match &config.pcap {
            Some(path) => Some(
                PcapWriter::create(path, config.pcap_limit)
                    .map_err(|error| Error::io(format!("capture {}", path.display()), error))?,
            ),
            None => None,
        };
        let round_trip = Histogram::new(3).map_err(|error| Error::Config(error.to_string()))?;
        let flows = FlowTable::new(config.stickiness, config.rebalance, config.max_flows);
        Ok(Simulator {
            start,
            tun,
            devices,
            drops_before,
            _port: reserve_port()?,
            impairment: Impairment::new(config.impair.clone()),
            ledger: Ledger::new(flows, config.targets.len(), round_trip),
            targets,
            unhandled: Unhandled::default(),
            pcap,
            buffer: vec![0; BUFFER],
            config,
        })
    }

    /// Runs until told to stop, handing out a report at every interval; then takes what still waits in the TUN devices, waits for
    /// what is in flight, and returns the final report.
    ///
    /// # Errors
    /// [`Error::Io`] if a device fails for good. Single packets never end the run.
    pub fn run(mut self, stop: &Stop, mut on_interval: impl FnMut(&Report)) -> Result<Report> {
        let mut next_report = self.config.interval.map(|interval| self.start + interval);
        let mut drain_until = None;
        loop {
            let wake = [
                next_report,
                self.impairment.next_due(),
                self.ledger.in_flight.next_expiry(self.config.return_timeout),
            ];
            let stopped = self.wait(stop, drain_until.is_some(), wake.into_iter().flatten().min())?;
            if stopped && drain_until.is_none() {
                self.read_tuns(LAST_BURST)?;
                let longest = self.config.return_timeout + self.config.impair.delay + HOLD_LIMIT;
                drain_until = Some(Instant::now() + longest + longest);
            } else if drain_until.is_none() {
                self.read_tuns(BURST)?;
            }
            self.release();
            for number in 0..self.targets.len() {
                self.receive(number)?;
            }
            let now = Instant::now();
            self.ledger.expire(now, self.config.return_timeout);
            if let Some((due, interval)) = next_report.zip(self.config.interval)
                && now >= due
            {
                on_interval(&self.report(false));
                // The next multiple that lies ahead, however late this one was.
                let missed = now.duration_since(due).as_nanos() / interval.as_nanos().max(1);
                next_report = Some(due + interval.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX)));
            }
            let idle = self.ledger.in_flight.is_empty() && self.impairment.next_due().is_none();
            if drain_until.is_some_and(|until| idle || now >= until) {
                break;
            }
        }
        if let Some(pcap) = &mut self.pcap
            && pcap.flush().is_err()
        {
            self.unhandled.pcap_failed += 1;
        }
        Ok(self.report(true))
    }

    /// Sleeps until a packet, the stop or `wake` comes; whether the stop has come.
    fn wait(&self, stop: &Stop, draining: bool, wake: Option<Instant>) -> Result<bool> {
        let mut descriptors: Vec<PollFd<'_>> = self
            .targets
            .iter()
            .map(|target| PollFd::from_borrowed_fd(target.socket.as_fd(), PollFlags::IN))
            .collect();
        if !draining {
            descriptors.push(PollFd::new(&stop.reader, PollFlags::IN));
            descriptors.extend(self.tun.iter().map(|tun| PollFd::new(tun, PollFlags::IN)));
        }
        let timeout = wake.map(|wake| timespec(wake.saturating_duration_since(Instant::now())));
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io("poll", error)),
        }
        let stop_at = self.targets.len();
        Ok(!draining && descriptors.get(stop_at).is_some_and(|stop| !stop.revents().is_empty()))
    }

    fn read_tuns(&mut self, burst: usize) -> Result<()> {
        for direction in Direction::ALL {
            for _ in 0..burst {
                let [forward, reverse] = &self.tun;
                let mut tun = if direction == Direction::Forward {
                    forward
                } else {
                    reverse
                };
                let length = match tun.read(&mut self.buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Error::io("reading a TUN device", error)),
                };
                let packet = self.buffer.get(..length).unwrap_or_default().to_vec();
                self.accept(direction, packet);
            }
        }
        Ok(())
    }

    /// A packet from one of the networks: finds its flow and lets the lossy network have it.
    fn accept(&mut self, direction: Direction, packet: Vec<u8>) {
        let Some(tuple) = Tuple::of(&packet) else {
            self.unhandled.not_ip += 1;
            return;
        };
        if tuple.is_link_local() {
            self.unhandled.link_local += 1;
            return;
        }
        let Some(number) = self.ledger.flows.find(direction, tuple) else {
            self.unhandled.flow_table_full += 1;
            return;
        };
        if let Some(flow) = self.ledger.flows.get_mut(number) {
            flow.counters.received += 1;
            flow.counters.received_bytes += packet.len() as u64;
        }
        let impair = &self.config.impair;
        let chosen = impair.ports.is_empty()
            || impair
                .ports
                .iter()
                .any(|port| [tuple.source_port, tuple.destination_port].contains(port));
        if chosen && impair.directions.contains(&direction) {
            let mut out = Vec::new();
            self.impairment.offer(Instant::now(), number, packet, &mut out);
            self.transmit_all(out);
        } else {
            self.transmit(number, &packet);
        }
    }

    fn release(&mut self) {
        let mut out = Vec::new();
        self.impairment.release(Instant::now(), &mut out);
        self.transmit_all(out);
    }

    fn transmit_all(&mut self, packets: Vec<Packet>) {
        for (flow, packet) in packets {
            self.transmit(flow, &packet);
        }
    }

    fn transmit(&mut self, number: usize, packet: &[u8]) {
        let now = Instant::now();
        let healthy: Vec<bool> = self
            .targets
            .iter()
            .map(|target| target.checker.health().state() == State::Healthy)
            .collect();
        let chosen = self.ledger.flows.target(number, now, &healthy);
        let (Some(target), Some(flow)) = (self.targets.get(chosen), self.ledger.flows.get_mut(number)) else {
            return;
        };
        let [forward, reverse] = self.config.endpoint;
        let outer = Outer {
            local_mac: target.socket.mac(),
            remote_mac: target.config.mac,
            local_ip: target.config.local_ip,
            remote_ip: target.config.ip,
            entropy_port: flow.entropy_port,
            endpoint: if flow.direction == Direction::Forward {
                forward
            } else {
                reverse
            },
            attachment: self.config.attachment,
            cookie: flow.cookie,
            zero_udp_checksum: self.config.zero_udp_checksum,
        };
        let mut frame = Vec::with_capacity(packet.len() + 128);
        let wrapped = outer.wrap(packet, &mut frame);
        // Only now, so that our own wrapping is not part of the round trip.
        let sent_nanos = realtime_nanos();
        if wrapped.is_err() || target.socket.send(&frame).is_err() {
            flow.counters.send_failed += 1;
            return;
        }
        if let Some(pcap) = &mut self.pcap
            && pcap.write(sent_nanos, &frame).is_err()
        {
            self.unhandled.pcap_failed += 1;
        }
        self.ledger.sent(
            Entry {
                flow: number,
                target: chosen,
                sent_at: now,
                sent_nanos,
                frame,
            },
            packet.len(),
        );
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        for _ in 0..BURST {
            let Some(target) = self.targets.get(number) else { break };
            let received = match target.socket.receive(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The link is down for the moment: the appliance's side decides when it comes back.
                Err(error) if error.kind() == ErrorKind::NetworkDown => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(format!("receiving from {}", target.config.ip), error)),
            };
            let frame = self.buffer.get(..received.length.min(BUFFER)).unwrap_or_default();
            let Some(delivery) = self.ledger.returned(number, frame, received.nanos) else {
                continue;
            };
            let Some(flow) = self.ledger.flows.get_mut(delivery.flow) else {
                continue;
            };
            let [forward, reverse] = &self.tun;
            let mut tun = if flow.direction == Direction::Forward {
                forward
            } else {
                reverse
            };
            match tun.write_all(delivery.inner) {
                Ok(()) => flow.counters.delivered += 1,
                Err(_) => flow.counters.delivery_failed += 1,
            }
        }
        Ok(())
    }

    fn report(&mut self, is_final: bool) -> Report {
        self.collect_drops();
        let in_flight = self.ledger.in_flight.per_flow();
        let mut total = Counts::default();
        let flows = self.ledger.flows.flows().iter().enumerate().map(|(number, flow)| {
            let waiting = in_flight.get(&number).copied().unwrap_or(0);
            let counts = Counts::new(&flow.counters, self.impairment.counts(number), waiting);
            total.add(&counts);
            let [forward, reverse] = self.config.endpoint;
            let endpoint = if flow.direction == Direction::Forward {
                forward
            } else {
                reverse
            };
            FlowReport {
                direction: flow.direction,
                endpoint: format!("0x{endpoint:016x}"),
                protocol: flow.tuple.protocol_name(),
                source: SocketAddr::new(flow.tuple.source, flow.tuple.source_port).to_string(),
                destination: SocketAddr::new(flow.tuple.destination, flow.tuple.destination_port).to_string(),
                target: self
                    .targets
                    .get(flow.target)
                    .map(|target| target.config.ip.to_string())
                    .unwrap_or_default(),
                entropy_port: flow.entropy_port,
                cookie: format!("0x{:08x}", flow.cookie),
                counts,
                rtt_us: RoundTrip::new(&flow.round_trip),
            }
        });
        Report {
            schema: SCHEMA,
            is_final,
            elapsed_seconds: self.start.elapsed().as_secs_f64(),
            flows: flows.collect(),
            total,
            rtt_us: RoundTrip::new(&self.ledger.round_trip),
            targets: self
                .targets
                .iter()
                .zip(&self.ledger.targets)
                .map(|(target, counters)| target.report(*counters))
                .collect(),
            faults: self.ledger.faults.clone(),
            unhandled: self.unhandled,
        }
    }

    /// Asks the kernel what it lost on our behalf: it must not be charged to the appliance unseen.
    fn collect_drops(&mut self) {
        for target in &mut self.targets {
            target.socket_drops += target.socket.take_drops().unwrap_or(0);
        }
        let drops = self.config.tun.iter().zip(self.drops_before).map(|(name, before)| {
            self.devices
                .transmit_drops(name)
                .unwrap_or(before)
                .saturating_sub(before)
        });
        self.unhandled.tun_drops = drops.sum();
    }
}

impl Target {
    fn report(&self, counters: crate::report::TargetCounters) -> TargetReport {
        let health = self.checker.health();
        let (checks_passed, checks_failed) = health.checks();
        TargetReport {
            ip: self.config.ip.to_string(),
            interface: self.config.interface.clone(),
            state: health.state(),
            checks_passed,
            checks_failed,
            transitions: health.transitions(),
            counters: crate::report::TargetCounters {
                socket_drops: self.socket_drops,
                ..counters
            },
        }
    }
}

fn open_target(target: &TargetConfig, config: &Config, start: Instant) -> Result<Target> {
    let socket = PacketSocket::open(&target.interface)
        .map_err(|error| Error::io(format!("packet socket on {}", target.interface), error))?;
    let checker = match &config.health {
        Some(health) => Checker::start(SocketAddr::new(target.ip.into(), health.port), health, start)
            .map_err(|error| Error::io("health check thread", error))?,
        None => Checker::unchecked(),
    };
    Ok(Target {
        config: target.clone(),
        socket,
        checker,
        socket_drops: 0,
    })
}

/// Takes port 6081 so that the kernel stays silent, with as small a buffer as it allows.
fn reserve_port() -> Result<UdpSocket> {
    let what = || format!("UDP port {GENEVE_PORT}");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GENEVE_PORT)).map_err(|error| Error::io(what(), error))?;
    set_socket_recv_buffer_size(&socket, 1).map_err(|error| Error::io(what(), error))?;
    Ok(socket)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
