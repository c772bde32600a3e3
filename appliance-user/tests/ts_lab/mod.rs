//! An encoder made by hand: a transport stream at a constant rate that is sound by ETSI TR 101 290, one frame of 40 ms after
//! the other, into which tests put tables, cues and faults; and the captures and files that it becomes.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::inspect_support::{Timed, Told, address, ethernet, inspect, inspect_by, inspect_json, pcap, put, rtp, udp};

pub(crate) type Packet = [u8; 188];

pub(crate) const PMT_PID: u16 = 0x1000;
pub(crate) const VIDEO: u16 = 0x100;
/// The first of five audio components on PIDs in a row.
pub(crate) const AUDIO: u16 = 0x101;
pub(crate) const CUES: u16 = 0x1f0;
pub(crate) const NULL: u16 = 0x1fff;

/// stream_type of H.264, AAC in ADTS and splice information (ISO/IEC 13818-1 table 2-34, ANSI/SCTE 35 8.1).
pub(crate) const H264: u8 = 0x1b;
pub(crate) const AAC: u8 = 0x0f;
pub(crate) const SPLICE: u8 = 0x86;

/// Packets in a frame: four datagrams of seven.
pub(crate) const FRAME: u64 = 28;
/// Bits per second of the TS packets.
pub(crate) const BITRATE: u64 = 25 * FRAME * 188 * 8;
/// A datagram comes every 10 ms.
pub(crate) const DATAGRAM_US: u64 = 10_000;

/// How far a picture's PTS is ahead of the PCR that comes with it: half a second.
pub(crate) const PTS_AHEAD: u64 = 45_000;
const PTS_MASK: u64 = (1 << 33) - 1;

/// CRC-32 of ISO/IEC 13818-1 annex A.
pub(crate) fn crc32(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    });
    crc.to_be_bytes()
}

/// A section of the long form, sound.
pub(crate) fn long_section(table_id: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = extension.to_be_bytes();
    let length = 0xb000 | (body.len() as u16 + 9);
    let mut bytes = vec![table_id];
    bytes.extend(length.to_be_bytes());
    bytes.extend([high, low, 0xc1 | version << 1, 0, 0]);
    bytes.extend(body);
    bytes.extend(crc32(&bytes));
    bytes
}

/// One programme from one encoder.
#[derive(Clone)]
pub(crate) struct Encoder {
    /// Counter of each PID, of the next packet.
    counters: BTreeMap<u16, u8>,
    /// TS packets so far.
    place: u64,
    /// The clock at its first packet, 90 kHz.
    pub(crate) epoch: u64,
    /// stream_type and PID of each component; the first is the picture and carries the PCR.
    pub(crate) components: Vec<(u8, u16)>,
    /// version_number of the PMT.
    pub(crate) version: u8,
    /// Null packets in each frame, 13 at most; video has the rest.
    pub(crate) nulls: u64,
    /// A component whose packets are scrambled.
    pub(crate) scrambled: Option<u16>,
    /// Payloads that wait for their turn: PID, whether a section begins in it, bytes.
    waiting: VecDeque<(u16, bool, Vec<u8>)>,
}

impl Encoder {
    /// H.264 and five times AAC: with PAT and PMT eight PIDs.
    pub(crate) fn new() -> Self {
        let audio = (AUDIO..AUDIO + 5).map(|pid| (AAC, pid));
        Encoder {
            counters: BTreeMap::new(),
            place: 0,
            epoch: 9_000_000,
            components: [(H264, VIDEO)].into_iter().chain(audio).collect(),
            version: 0,
            nulls: 0,
            scrambled: None,
            waiting: VecDeque::new(),
        }
    }

    /// The same with splice information.
    pub(crate) fn with_cues() -> Self {
        let mut encoder = Encoder::new();
        encoder.components.push((SPLICE, CUES));
        encoder
    }

    /// Another encoder of the same programme, as it runs beside this one: other counters, another clock.
    pub(crate) fn spare(&self) -> Self {
        let counters = self.counters.iter().map(|(pid, counter)| (*pid, counter + 5));
        Encoder {
            counters: counters.collect(),
            epoch: self.epoch + 777_777,
            ..self.clone()
        }
    }

    /// The PTS of the last picture, which is the current one until the next frame.
    pub(crate) fn pts(&self) -> u64 {
        let frame = self.place.saturating_sub(1) / FRAME;
        (self.epoch + frame * 3600 + PTS_AHEAD) & PTS_MASK
    }

    /// A section is to be sent in the next free packets of a PID.
    pub(crate) fn send_section(&mut self, pid: u16, section: &[u8]) {
        let first = section.len().min(183);
        self.waiting.push_back((pid, true, [&[0], &section[..first]].concat()));
        for part in section[first..].chunks(184) {
            self.waiting.push_back((pid, false, part.to_vec()));
        }
    }

    /// The next datagram's packets.
    pub(crate) fn datagram(&mut self) -> Vec<Packet> {
        (0..7).map(|_| self.packet()).collect()
    }

    /// Packets of so many frames of 40 ms.
    pub(crate) fn frames(&mut self, count: u64) -> Vec<Packet> {
        (0..count * FRAME).map(|_| self.packet()).collect()
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> Packet {
        let (frame, place) = (self.place / FRAME, self.place % FRAME);
        let clock = self.epoch + frame * 3600;
        let pts = (clock + PTS_AHEAD) & PTS_MASK;
        self.place += 1;
        let fill = (frame * 31 + place) as u8;
        match place {
            0 => {
                let mut payload = pes(0xe0, 0, pts);
                payload.resize(176, fill);
                self.carry(VIDEO, true, Some(clock), &payload)
            }
            9..14 => match self.components.iter().find(|(_, pid)| *pid == AUDIO + place as u16 - 9) {
                Some((_, pid)) => {
                    let mut payload = pes(0xc0, 178, pts);
                    payload.resize(184, fill);
                    self.carry(*pid, true, None, &payload)
                }
                None => self.carry(VIDEO, false, None, &[fill; 184]),
            },
            14 if frame % 2 == 0 => {
                let [high, low] = (0xe000 | PMT_PID).to_be_bytes();
                self.table(0, &long_section(0, 1, 0, &[0, 1, high, low]))
            }
            14 => {
                let pmt = self.pmt();
                self.table(PMT_PID, &pmt)
            }
            15.. if !self.waiting.is_empty() => {
                let (pid, starts, mut payload) = self.waiting.pop_front().expect("it waits");
                payload.resize(184, 0xff);
                self.carry(pid, starts, None, &payload)
            }
            15.. if place - 15 < self.nulls => self.carry(NULL, false, None, &[0xff; 184]),
            _ => self.carry(VIDEO, false, None, &[fill; 184]),
        }
    }

    fn pmt(&self) -> Vec<u8> {
        let has_cues = self.components.iter().any(|(kind, _)| *kind == SPLICE);
        // A registration descriptor where there is splice information (ANSI/SCTE 35 8.1).
        let registration: &[u8] = if has_cues { b"\x05\x04CUEI" } else { b"" };
        let [high, low] = (0xe000 | VIDEO).to_be_bytes();
        let mut body = vec![high, low, 0xf0, registration.len() as u8];
        body.extend(registration);
        for (kind, pid) in &self.components {
            let [high, low] = (0xe000 | pid).to_be_bytes();
            body.extend([*kind, high, low, 0xf0, 0]);
        }
        long_section(2, 1, self.version, &body)
    }

    fn table(&mut self, pid: u16, section: &[u8]) -> Packet {
        let mut payload = [&[0], section].concat();
        payload.resize(184, 0xff);
        self.carry(pid, true, None, &payload)
    }

    /// A packet with payload, and a PCR of `clock` in an adaptation field if there is one.
    fn carry(&mut self, pid: u16, starts: bool, clock: Option<u64>, payload: &[u8]) -> Packet {
        let counter = self.counters.entry(pid).or_default();
        let scrambling = if self.scrambled == Some(pid) { 0xc0 } else { 0 };
        let adaptation = if clock.is_some() { 0x20 } else { 0 };
        let mut bytes = vec![
            0x47,
            u8::from(starts) << 6 | (pid >> 8) as u8,
            pid as u8,
            scrambling | adaptation | 0x10 | *counter & 0x0f,
        ];
        *counter = counter.wrapping_add(1);
        if let Some(base) = clock {
            bytes.extend([7, 0x10]);
            bytes.extend(&((base & PTS_MASK) << 15 | 0x7e00).to_be_bytes()[2..]);
        }
        bytes.extend(payload);
        bytes.try_into().expect("184 bytes of adaptation field and payload")
    }
}

/// The first bytes of a PES packet with a PTS (ISO/IEC 13818-1 2.4.3.6).
fn pes(stream_id: u8, length: u16, pts: u64) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut bytes = vec![0, 0, 1, stream_id, high, low, 0x80, 0x80, 5];
    bytes.extend([
        0x21 | (pts >> 29) as u8 & 0x0e,
        (pts >> 22) as u8,
        (pts >> 14) as u8 | 1,
        (pts >> 7) as u8,
        (pts << 1) as u8 | 1,
    ]);
    bytes
}

/// UDP payloads on their way from one host to another.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    packets: Vec<Timed>,
    /// When the next datagram comes.
    pub(crate) now_us: u64,
    /// The next RTP sequence number.
    pub(crate) sequence: u16,
    /// The SSRC.
    pub(crate) ssrc: u32,
}

impl Wire {
    pub(crate) const SENDER: &'static str = "10.0.0.1:5004";
    pub(crate) const RECEIVER: &'static str = "10.0.0.2:5000";

    pub(crate) fn new() -> Self {
        Wire {
            ssrc: 7,
            ..Wire::default()
        }
    }

    /// Any datagram, now.
    pub(crate) fn put(&mut self, payload: &[u8]) {
        let frame = ethernet(&udp(address(Self::SENDER), address(Self::RECEIVER), payload));
        self.packets.push((self.now_us, frame));
    }

    /// The next RTP packet, with this payload; its time stamp is that of its sending.
    pub(crate) fn rtp_packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = rtp(33, self.sequence, self.ssrc, payload);
        let stamp = self.now_us * 9 / 100;
        packet[4..8].copy_from_slice(&(stamp as u32).to_be_bytes());
        packet
    }

    /// What an encoder sends in so many milliseconds, as RTP.
    pub(crate) fn send(&mut self, encoder: &mut Encoder, ms: u64) {
        self.send_edited(encoder, ms, |_, packets| packets);
    }

    /// The same; each datagram's packets are edited on their way, by the time in milliseconds since the first.
    pub(crate) fn send_edited(
        &mut self,
        encoder: &mut Encoder,
        ms: u64,
        mut edit: impl FnMut(u64, Vec<Packet>) -> Vec<Packet>,
    ) {
        for n in 0..ms * 1000 / DATAGRAM_US {
            let packets = edit(n * DATAGRAM_US / 1000, encoder.datagram());
            let packet = self.rtp_packet(packets.as_flattened());
            self.put(&packet);
            self.pass();
        }
    }

    /// The sender goes on, nothing arrives.
    pub(crate) fn lose(&mut self, encoder: &mut Encoder, ms: u64) {
        for _ in 0..ms * 1000 / DATAGRAM_US {
            encoder.datagram();
            self.pass();
        }
    }

    /// Somebody else's packet comes now, as if of this stream, so many numbers ahead.
    pub(crate) fn forge(&mut self, ahead: u16) {
        self.forge_with(ahead, &Encoder::new().datagram());
    }

    /// The same, with these TS packets.
    pub(crate) fn forge_with(&mut self, ahead: u16, packets: &[Packet]) {
        let mut packet = self.rtp_packet(packets.as_flattened());
        packet[2..4].copy_from_slice(&self.sequence.wrapping_add(ahead).to_be_bytes());
        self.put(&packet);
    }

    /// A datagram's time and number pass.
    pub(crate) fn pass(&mut self) {
        self.now_us += DATAGRAM_US;
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The capture, in order of time.
    pub(crate) fn capture(&self) -> Vec<u8> {
        let mut packets = self.packets.clone();
        packets.sort_by_key(|(time, _)| *time);
        pcap(&packets)
    }

    /// How many datagrams it has.
    pub(crate) fn len(&self) -> u64 {
        self.packets.len() as u64
    }

    /// What inspect says of the capture under a rule for RTP to the receiver's port, with these keys.
    pub(crate) fn judged_by(&self, keys: &str) -> Told {
        let directory = tempfile::TempDir::new().expect("a directory");
        let capture = put(directory.path(), "x.pcap", &self.capture());
        inspect_by(
            &put(directory.path(), "policy.toml", rule("rtp", keys).as_bytes()),
            &capture,
        )
    }

    /// What inspect says of the capture without a policy.
    pub(crate) fn observed(&self) -> Told {
        let directory = tempfile::TempDir::new().expect("a directory");
        inspect_json(&put(directory.path(), "x.pcap", &self.capture()))
    }

    /// The events of the capture under a rule, and what else inspect says.
    pub(crate) fn events_by(&self, keys: &str) -> (Told, Vec<serde_json::Value>) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let capture = put(directory.path(), "x.pcap", &self.capture());
        let policy = put(directory.path(), "policy.toml", rule("rtp", keys).as_bytes());
        extracted(directory.path(), &capture, Some(&policy))
    }
}

/// What inspect says of an input, and the events that it extracts.
pub(crate) fn extracted(directory: &Path, input: &Path, policy: Option<&PathBuf>) -> (Told, Vec<serde_json::Value>) {
    let folder = directory.join("evidence");
    let mut arguments = vec![
        "--format".as_ref(),
        "json".as_ref(),
        "--extract".as_ref(),
        folder.as_os_str(),
    ];
    if let Some(policy) = policy {
        arguments.extend(["--policy".as_ref(), policy.as_os_str()]);
    }
    arguments.push(input.as_os_str());
    let told = inspect(arguments);
    let name = input.file_name().expect("a file").to_string_lossy();
    let lines = std::fs::read_to_string(folder.join(format!("{name}-events.jsonl"))).expect("events");
    let events = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    (told, events.collect())
}

/// A policy with one rule, for what goes to the receiver of [`Wire`].
pub(crate) fn rule(protocol: &str, keys: &str) -> String {
    format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"{protocol}\"\n\
         source = [\"10.0.0.0/24\"]\ndestination = [\"10.0.0.2\"]\ndestination_port = [5000]\n{keys}"
    )
}
