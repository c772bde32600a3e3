//! The XDP program in the kernel's test run: loaded with maps of its own, shown one packet at a time.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::maps::{Array, Map, PerCpuArray, RingBuf, XskMap};
use aya::programs::{ProgramFd, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tidegate::control::{object, spans};
use tidegate_common::maps::{
    self, Admit, Config, Counters, FailureAction, Family, Heartbeat, SLOTS, Screen, Span4, Span6, name, spans_begin,
};
pub(crate) use tidegate_lab::test_run::Run;
use tidegate_lab::{test_run, xdp};

/// A loaded program with empty maps.
pub(crate) struct Bench {
    ebpf: Ebpf,
    program: ProgramFd,
    info: ProgramInfo,
    listed: [Vec<(IpNet, Admit)>; SLOTS],
    _socket: Option<OwnedFd>,
}

impl Bench {
    /// Loads the embedded program. Panics with what is missing: these tests are not skipped.
    pub(crate) fn load() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests load an XDP program into the kernel and need root: run them with sudo"
        );
        let object = object::OBJECT.unwrap_or_else(|| panic!("{}", object::MISSING));
        let mut ebpf = EbpfLoader::new().load(object).expect("the object's maps can be made");
        let program: &mut Xdp = ebpf
            .program_mut(maps::PROGRAM)
            .expect("the object has the program")
            .try_into()
            .expect("the program is an XDP program");
        program.load().expect("the verifier accepts the program");
        let info = program.info().expect("the kernel tells about the program");
        let program = program
            .fd()
            .expect("a loaded program has a descriptor")
            .try_clone()
            .expect("a spare descriptor");
        Bench {
            ebpf,
            program,
            info,
            listed: Default::default(),
            _socket: None,
        }
    }

    /// How many instructions the verifier looked at.
    pub(crate) fn verified_instructions(&self) -> Option<u32> {
        self.info.verified_instruction_count()
    }

    /// Key size, value size and entries of a map, as the kernel made it.
    pub(crate) fn layout(&self, name: &str) -> Option<(u32, u32, u32)> {
        let (Map::Array(data) | Map::PerCpuArray(data) | Map::XskMap(data) | Map::RingBuf(data)) =
            self.ebpf.map(name)?
        else {
            return None;
        };
        let info = data.info().ok()?;
        Some((info.key_size(), info.value_size(), info.max_entries()))
    }

    /// Writes the settings.
    pub(crate) fn configure(&mut self, config: &Config) {
        let map = self.ebpf.map_mut(name::CONFIG).expect("the map is there");
        let mut map: Array<_, [u8; Config::SIZE]> = map.try_into().expect("an array of settings");
        map.set(0, config.to_bytes(), 0).expect("settings can be written");
    }

    /// Lists a prefix in a policy slot.
    pub(crate) fn list(&mut self, slot: usize, address: IpAddr, length: u8, on_failure: Option<FailureAction>) {
        let prefix = IpNet::new(address, length).expect("a prefix");
        self.list_all(slot, &[(prefix, on_failure)]);
    }

    /// Lists prefixes in a policy slot, beside those that are listed there already.
    pub(crate) fn list_all(&mut self, slot: usize, prefixes: &[(IpNet, Option<FailureAction>)]) {
        let more = prefixes.iter().map(|(prefix, action)| (*prefix, Admit::new(*action)));
        self.listed[slot].extend(more);
        let v4 = spans::v4(&self.listed[slot]);
        let v6 = spans::v6(&self.listed[slot]);
        self.fill(
            name::SPANS_V4,
            spans_begin(slot),
            v4.spans.into_iter().map(Span4::to_bytes),
        );
        self.fill(
            name::SPANS_V6,
            spans_begin(slot),
            v6.spans.into_iter().map(Span6::to_bytes),
        );
        for (family, screen) in [(Family::V4, v4.screen), (Family::V6, v6.screen)] {
            self.fill(
                name::SCREENS,
                Screen::index(slot, family),
                [screen.to_bytes()].into_iter(),
            );
        }
    }

    /// Unlists everything in a policy slot.
    pub(crate) fn unlist(&mut self, slot: usize) {
        self.listed[slot].clear();
        self.list_all(slot, &[]);
    }

    fn fill<const N: usize>(&mut self, map: &str, from: u32, values: impl Iterator<Item = [u8; N]>) {
        let map = self.ebpf.map_mut(map).expect("the map is there");
        let mut map: Array<_, [u8; N]> = map.try_into().expect("an array of these values");
        for (index, value) in (from..).zip(values) {
            map.set(index, value, 0).expect("a value can be written");
        }
    }

    /// Sets the beat of queue 0, nothing else.
    pub(crate) fn beat(&mut self, at: u64) {
        let map = self.ebpf.map_mut(name::HEARTBEATS).expect("the map is there");
        let mut map: Array<_, [u8; Heartbeat::SIZE]> = map.try_into().expect("an array of heartbeats");
        let mut line = map.get(&0, 0).expect("a heartbeat can be read");
        line[Heartbeat::BEAT_OFFSET..8].copy_from_slice(&at.to_ne_bytes());
        map.set(0, line, 0).expect("a heartbeat can be written");
    }

    /// Whether queue 0 is marked as dark.
    pub(crate) fn is_dark(&self) -> bool {
        let map = self.ebpf.map(name::HEARTBEATS).expect("the map is there");
        let map: Array<_, [u8; Heartbeat::SIZE]> = map.try_into().expect("an array of heartbeats");
        let line = map.get(&0, 0).expect("a heartbeat can be read");
        line[Heartbeat::DARK_OFFSET] != 0
    }

    /// Enters an AF_XDP socket for queue 0. It is bound to nothing: a test run decides and delivers nowhere.
    pub(crate) fn open_socket(&mut self) {
        let family = AddressFamily::from_raw(libc::AF_XDP as u16);
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let socket = socket.expect("an AF_XDP socket can be made");
        let map = self.ebpf.map_mut(name::SOCKETS).expect("the map is there");
        let mut map: XskMap<_> = map.try_into().expect("a map of sockets");
        map.set(0, socket.as_raw_fd(), 0).expect("a socket can be entered");
        self._socket = Some(socket);
    }

    /// Takes the records that the program has logged since the last time, and counts them.
    pub(crate) fn log_records(&mut self) -> usize {
        let map = self.ebpf.map_mut("AYA_LOGS").expect("the map is there");
        let mut records: RingBuf<_> = map.try_into().expect("a ring buffer");
        let mut count = 0;
        while records.next().is_some() {
            count += 1;
        }
        count
    }

    /// The counters, summed over all CPUs.
    pub(crate) fn counters(&self) -> Counters {
        let map = self.ebpf.map(name::COUNTERS).expect("the map is there");
        let map: PerCpuArray<_, [u64; maps::COUNTERS]> = map.try_into().expect("per-CPU counters");
        let mut sum = Counters::default();
        for cpu in map.get(&0, 0).expect("counters can be read").iter() {
            sum.add(cpu);
        }
        sum
    }

    /// Shows the program a packet whose linear part is its first `linear` bytes, `repeat` times.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for a packet or a linear part shorter than an Ethernet header.
    pub(crate) fn try_run(&self, packet: &[u8], linear: usize, repeat: u32) -> io::Result<Run> {
        test_run::show(self.program.as_fd(), packet, linear, repeat)
    }

    /// Shows the program a packet in one piece, once.
    pub(crate) fn run(&self, packet: &[u8]) -> Run {
        self.try_run(packet, packet.len(), 1)
            .expect("the kernel runs the program")
    }
}

/// The shortest program there is: it drops whatever it is shown.
pub(crate) struct BareDrop(xdp::Program);

impl BareDrop {
    /// Loads it.
    pub(crate) fn load() -> Self {
        let program = xdp::Program::load(&xdp::returning(xdp::DROP));
        BareDrop(program.expect("the kernel takes a program of two instructions"))
    }

    /// Shows it a packet.
    pub(crate) fn run(&self, packet: &[u8], repeat: u32) -> Run {
        test_run::show(self.0.as_fd(), packet, packet.len(), repeat).expect("the kernel runs the program")
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
