//! A live sender of our own: takes a transport stream as ffmpeg makes it and sends it in datagrams, as RTP or bare, unchanged
//! or with continuity faults put in on purpose.
//!
//! ffmpeg cannot make a stream with a known number of faults, and srt-live-transmit wants datagrams of whole TS packets.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::UdpSocket;
use std::path::Path;

use anyhow::Context as _;

/// Length of a TS packet.
const TS_PACKET: usize = 188;
/// TS packets in a datagram.
const PER_DATAGRAM: usize = 7;
/// RTP payload type MP2T (RFC 3551).
const PAYLOAD_TYPE_MP2T: u8 = 33;
/// ffmpeg's PID for the first elementary stream, here the video.
const VIDEO_PID: u16 = 0x100;
/// A fault is put in once in so many video packets.
const FAULT_EVERY: u64 = 500;

/// How datagrams are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// RTP (RFC 2250) with this SSRC.
    Rtp(u32),
    /// TS packets alone.
    Bare,
}

/// What a feeder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Datagrams sent.
    pub datagrams: u64,
    /// TS packets that were taken out of their PID, each followed by another packet of that PID: continuity errors that a
    /// sound judge finds.
    pub faults: u64,
}

/// Sends datagrams until the transport stream ends.
pub(crate) struct Feeder {
    framing: Framing,
    faulty: bool,
    sequence: u16,
    video_packets: u64,
    /// A packet was taken out and nothing of its PID was sent since.
    pending_fault: bool,
    fed: Fed,
}

impl Feeder {
    /// A feeder that sends what it reads, or, when `faulty`, takes a packet out now and then.
    pub(crate) fn new(framing: Framing, faulty: bool) -> Self {
        Feeder {
            framing,
            faulty,
            sequence: 65_000,
            video_packets: 0,
            pending_fault: false,
            fed: Fed::default(),
        }
    }

    /// Reads `stream` to its end, sends it through `socket` (which is connected), and writes what was sent to `record`.
    ///
    /// # Errors
    /// When the record cannot be written, or the stream cannot be read. A datagram that nobody takes is not an error.
    pub(crate) fn run(mut self, mut stream: impl Read, socket: &UdpSocket, record: &Path) -> anyhow::Result<Fed> {
        let file = File::create(record).with_context(|| format!("cannot create {}", record.display()))?;
        let mut record = BufWriter::new(file);
        let mut chunk = [0; TS_PACKET * PER_DATAGRAM];
        while read_whole(&mut stream, &mut chunk)? {
            if self.faulty {
                for packet in chunk.chunks_exact_mut(TS_PACKET) {
                    self.maybe_take_out(packet);
                }
            }
            record.write_all(&chunk)?;
            // The receiver may not be there (an unlisted source has none): ICMP says so on the next send.
            let _ = socket.send(&self.frame(&chunk));
            self.fed.datagrams += 1;
        }
        record.flush()?;
        Ok(self.fed)
    }

    fn frame(&mut self, chunk: &[u8]) -> Vec<u8> {
        let Framing::Rtp(ssrc) = self.framing else {
            return chunk.to_vec();
        };
        let mut datagram = Vec::with_capacity(12 + chunk.len());
        datagram.extend_from_slice(&[0x80, PAYLOAD_TYPE_MP2T]);
        datagram.extend_from_slice(&self.sequence.to_be_bytes());
        // The time stamp's clock is 90 kHz; receivers of TS go by the PCR, so its pace suffices here.
        datagram.extend_from_slice(&((self.fed.datagrams as u32).wrapping_mul(225)).to_be_bytes());
        datagram.extend_from_slice(&ssrc.to_be_bytes());
        datagram.extend_from_slice(chunk);
        self.sequence = self.sequence.wrapping_add(1);
        datagram
    }

    /// Turns a video packet into a null packet, so that its continuity counter is missing from the PID.
    fn maybe_take_out(&mut self, packet: &mut [u8]) {
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let (has_payload, discontinuity) = (
            packet[3] & 0x10 != 0,
            packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0,
        );
        if pid != VIDEO_PID || !has_payload || discontinuity {
            return;
        }
        self.video_packets += 1;
        if self.pending_fault {
            self.pending_fault = false;
            self.fed.faults += 1;
        } else if self.video_packets.is_multiple_of(FAULT_EVERY) {
            packet[1..4].copy_from_slice(&[0x1f, 0xff, 0x10]);
            packet[4..].fill(0xff);
            self.pending_fault = true;
        }
    }
}

/// Fills the buffer, or says that the stream ended before it was full.
fn read_whole(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
