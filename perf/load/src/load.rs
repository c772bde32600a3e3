//! What a load is: protocol, streams, rate; and the lane that it takes.

use std::net::Ipv4Addr;

use crate::error::{Error, Result};
use tidegate_frames::layout::MAX_TS_PACKETS;
use tidegate_frames::plan::MAX_STREAMS;

/// What carries the transport stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MPEG-TS in RTP with payload type 33 (RFC 2250).
    #[default]
    RtpTs,
    /// MPEG-TS in plain SRT data packets, as an appliance sees them that joins in the middle of a session: no handshake.
    SrtTs,
}

/// Frames from sources that no rule lists. They are RTP or SRT like the others, each from another source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    /// None.
    #[default]
    None,
    /// Nothing else.
    Alone,
    /// So many after each frame of a listed stream.
    Beside {
        /// At least 1.
        per_listed: u32,
    },
}

/// How fast frames leave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rate {
    /// As fast as the generator's core makes them.
    #[default]
    FlatOut,
    /// Evenly spaced, listed and unlisted ones together.
    PacketsPerSecond(f64),
}

/// Who makes the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GeneratorKind {
    /// An XDP program in the kernel's test run with live frames (Linux 5.18): millions a second.
    #[default]
    Kernel,
    /// User space over an AF_XDP socket, as an appliance sends: 0.5 to 1 million a second in copy mode. The sending interface
    /// has the collector's program, which is all the XDP that it needs.
    AfXdp,
}

/// Where in its streams a load begins or has stopped; the default is their beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Datagrams that every stream has had.
    pub round: u32,
    /// The stream whose turn it is.
    pub stream: u32,
}

/// A load. `Load::default()` is one RTP stream, flat out, from the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What carries the transport stream.
    pub protocol: Protocol,
    /// Listed streams, 1 to 65,536, which take turns.
    pub streams: u32,
    /// The flood.
    pub unlisted: Unlisted,
    /// How fast.
    pub rate: Rate,
    /// Packets a second with which it begins, until [`crate::Running::set_rate`] says otherwise; `None`: `rate`. What else
    /// follows from a rate, batches and the streams' own time, follows from `rate` all along.
    pub begin_rate: Option<f64>,
    /// Who makes it.
    pub generator: GeneratorKind,
    /// TS packets in a datagram, 1 to 7.
    pub ts_packets: u32,
    /// Datagrams that make up a second of a stream's own time. PCR, PTS and the spacing of tables follow from it, so this should
    /// be what a stream really gets, or tables come too seldom or PCRs run away from the clock. `None`: the rate divided by the
    /// streams, flat out 500,000 divided by them. PAT and PMT are within 100 ms and PCRs within 40 ms of stream time; below 75
    /// (at 7 TS packets) within 400 ms and 80 ms, which is as far apart as a sound stream may have them. Held to 25 and 25,600.
    pub stream_rate: Option<f64>,
    /// Frames after which the generator stops by itself.
    pub packets: Option<u64>,
    /// Seconds after which it does, counted from when all is loaded; never more than [`MAX_SECONDS`].
    pub seconds: Option<f64>,
    /// Hash all media at both ends, about 0.4 us each. A byte that somebody changed stays changed in the test run's page
    /// otherwise, and is noticed in headers, RTP or SRT, TS headers and marker only.
    pub whole: bool,
    /// Where in the streams to begin: [`Sent::next`] of the run before, so that an appliance sees streams that go on.
    pub from: Position,
    /// Frames of one batch of the test run. `None`: 1 up to 500,000 packets a second, 8 above, 64 flat out. A frame waits for the
    /// end of its batch before it is sent.
    pub batch: Option<u32>,
    /// First inner source address of the listed streams; stream n has the n-th after it.
    pub source: Ipv4Addr,
    /// A prefix of 12 bits from which unlisted sources are taken.
    pub unlisted_source: Ipv4Addr,
    /// Inner destination.
    pub destination: Ipv4Addr,
    /// Inner destination port; the source port is the same.
    pub port: u16,
    /// GENEVE endpoint id (the load balancer's option of type 1).
    pub endpoint: u64,
}

/// A run's end when no other is given: nothing runs for ever, whoever dies.
pub const MAX_SECONDS: f64 = 3600.0;

impl Default for Load {
    fn default() -> Self {
        Load {
            protocol: Protocol::RtpTs,
            streams: 1,
            unlisted: Unlisted::None,
            rate: Rate::FlatOut,
            begin_rate: None,
            generator: GeneratorKind::Kernel,
            ts_packets: 7,
            stream_rate: None,
            packets: None,
            seconds: None,
            whole: false,
            from: Position::default(),
            batch: None,
            source: Ipv4Addr::new(10, 64, 0, 0),
            unlisted_source: Ipv4Addr::new(172, 16, 0, 0),
            destination: Ipv4Addr::new(10, 128, 0, 10),
            port: 5000,
            endpoint: 0x0102_0304_0506_0708,
        }
    }
}

impl Rate {
    /// Whether it can be had.
    ///
    /// # Errors
    /// [`Error::Load`] says what cannot.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Rate::FlatOut => Ok(()),
            Rate::PacketsPerSecond(rate) if rate.is_finite() && rate > 0.0 && rate <= 1e8 => Ok(()),
            Rate::PacketsPerSecond(_) => Err(Error::Load("a rate above 0 and up to 100 million packets a second")),
        }
    }
}

impl Load {
    /// The rate with which it begins.
    pub(crate) fn begins_with(&self) -> Rate {
        self.begin_rate.map_or(self.rate, Rate::PacketsPerSecond)
    }

    /// Whether it can be made.
    ///
    /// # Errors
    /// [`Error::Load`] says what cannot.
    pub fn validate(&self) -> Result<()> {
        let sound = |rate: f64| rate.is_finite() && rate > 0.0;
        if self.streams == 0 || self.streams > MAX_STREAMS {
            return Err(Error::Load("1 to 65,536 streams"));
        }
        if self.ts_packets == 0 || self.ts_packets as usize > MAX_TS_PACKETS {
            return Err(Error::Load("1 to 7 TS packets in a datagram"));
        }
        self.rate.validate()?;
        self.begins_with().validate()?;
        if self.stream_rate.is_some_and(|rate| !sound(rate)) || self.seconds.is_some_and(|seconds| !sound(seconds)) {
            return Err(Error::Load("a stream's rate and a run's seconds are above 0"));
        }
        if matches!(self.unlisted, Unlisted::Beside { per_listed: 0 }) {
            return Err(Error::Load("at least one unlisted frame beside each listed one"));
        }
        if self.batch.is_some_and(|batch| batch == 0 || batch > 256) {
            return Err(Error::Load("1 to 256 frames in a batch"));
        }
        if self.from.stream >= self.streams {
            return Err(Error::Load("a position within the streams"));
        }
        Ok(())
    }
}

/// The way that frames take: from this interface to the appliance behind its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The sending interface in the caller's network namespace. What the appliance returns arrives here.
    pub interface: String,
    /// Its Ethernet address.
    pub local_mac: [u8; 6],
    /// The appliance's.
    pub peer_mac: [u8; 6],
    /// The outer source: the load balancer's address.
    pub local_ip: Ipv4Addr,
    /// The outer destination: the appliance's address.
    pub peer_ip: Ipv4Addr,
    /// The core on which frames are made. On veth the receiver's NAPI runs there too, unless it is threaded.
    pub core: usize,
}

/// What a generator has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames made, listed and unlisted.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames of listed streams.
    pub listed: u64,
    /// Frames of unlisted sources.
    pub unlisted: u64,
    /// Of all these: refused by the link before the appliance saw them (on veth: the peer's ring was full; frames to a peer with
    /// neither XDP nor GRO are refused without being counted anywhere). Listed and unlisted
    /// ones cannot be told apart here; the collector misses the listed ones.
    pub not_delivered: u64,
    /// Frames sent back that this end's link refused before the collector saw them.
    pub not_collected: u64,
    /// Frames that were due and left out, since the generator was late by more than it makes up for at once: 32 frames or 50 us,
    /// whichever is more. A change of rate and a hold leave nothing out. Streams do not miss them: the next frame has the next number.
    pub left_out: u64,
    /// Where a load goes on from here.
    pub next: Position,
}
