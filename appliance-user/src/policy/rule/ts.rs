//! What a rule says of the transport stream: limits, each with what is to happen where it is exceeded.
//!
//! A limit of *violations* counts each of them; the continuity limit alone counts incidents. What is exceeded by "more than"
//! bears the number itself.

use std::time::Duration;

use crate::policy::set::{PidSet, StreamTypes};

/// How long a block lasts where a limit does not say.
pub const HOLD: Duration = Duration::from_secs(10);
/// What a limit's window is where it does not say.
const WINDOW: Duration = Duration::from_secs(10);

/// Whether a limit that is exceeded is only told, or also blocks the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnExceed {
    /// Tell.
    #[default]
    Alert,
    /// Tell, and drop the stream's packets for the hold time.
    Block,
}

/// The limit on continuity incidents: exceeded by more than `max_incidents` within any `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinuityLimit {
    /// Incidents within the window that are still borne. All events of all PIDs within 500 ms are one incident.
    pub max_incidents: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
    /// PIDs whose continuity is not judged.
    pub ignore_pids: PidSet,
}

impl Default for ContinuityLimit {
    fn default() -> Self {
        ContinuityLimit {
            max_incidents: 0,
            window: WINDOW,
            on_exceed: OnExceed::Alert,
            hold: HOLD,
            ignore_pids: PidSet::default(),
        }
    }
}

/// The limit on packets lost by the network: exceeded by more than `max_packets` within any `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossLimit {
    /// Lost packets within the window that are still borne.
    pub max_packets: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

impl Default for LossLimit {
    fn default() -> Self {
        LossLimit {
            max_packets: 100,
            window: Duration::from_secs(1),
            on_exceed: OnExceed::Alert,
            hold: HOLD,
        }
    }
}

/// What happens to a cleartext TS datagram with bad sync, length or transport error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MalformedTs {
    /// Tell, and forward it.
    #[default]
    Alert,
    /// Tell, and drop the datagram.
    Drop,
}

/// The limit on violations of TR 101 290: exceeded by more than `max_violations` within any `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tr101290Limit {
    /// Priorities 1 up to this one count, 0 for none. The counters of the others are kept all the same.
    pub priority: u8,
    /// Violations within the window that are still borne.
    pub max_violations: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
    /// What a violation is.
    pub thresholds: Tr101290Thresholds,
}

impl Default for Tr101290Limit {
    fn default() -> Self {
        Tr101290Limit {
            priority: 2,
            max_violations: 0,
            window: WINDOW,
            on_exceed: OnExceed::Alert,
            hold: HOLD,
            thresholds: Tr101290Thresholds::default(),
        }
    }
}

/// The thresholds of TR 101 290 (ETSI TR 101 290 5.2): beyond each, and not at it, lies a violation. The default is the
/// document's own figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tr101290Thresholds {
    /// 1.3.a: longest time between two PATs.
    pub pat: Duration,
    /// 1.5.a: longest time between two PMTs of a programme.
    pub pmt: Duration,
    /// 1.6: longest absence of a PID that a PMT refers to.
    pub pid: Duration,
    /// 2.3.a: longest time between two PCRs of a programme.
    pub pcr_repetition: Duration,
    /// 2.3.b: largest step between two PCRs that needs no discontinuity indicator.
    pub pcr_discontinuity: Duration,
    /// 2.4: largest error of a PCR against its place in the stream.
    pub pcr_accuracy: Duration,
    /// 2.5: longest time between two PTSs of a component.
    pub pts: Duration,
    /// 3.1.a: longest time between two NITs of the actual network.
    pub nit: Duration,
    /// 3.5.a: longest time between two SDTs of the actual stream.
    pub sdt: Duration,
    /// 3.6.a: longest time between two EITs present/following of the actual stream.
    pub eit: Duration,
    /// 3.8: longest time between two TDTs.
    pub tdt: Duration,
    /// 3.1.b, 3.5.b, 3.6.b, 3.8: shortest time between two sections of a table.
    pub section_gap: Duration,
    /// 3.4.a: how long a PID may go on that nothing refers to.
    pub unreferenced_pid: Duration,
}

impl Default for Tr101290Thresholds {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Tr101290Thresholds {
            pat: ms(500),
            pmt: ms(500),
            pid: ms(5_000),
            pcr_repetition: ms(100),
            pcr_discontinuity: ms(100),
            pcr_accuracy: Duration::from_nanos(500),
            pts: ms(700),
            nit: ms(10_000),
            sdt: ms(2_000),
            eit: ms(2_000),
            tdt: ms(30_000),
            section_gap: ms(25),
            unreferenced_pid: ms(500),
        }
    }
}

/// The limit on what the components of programmes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTypesLimit {
    /// Values of `stream_type` that a PMT may name (ISO/IEC 13818-1 table 2-34).
    pub allowed: StreamTypes,
    /// What to do about another one.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

/// The limit on which PIDs there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidsLimit {
    /// PIDs that may come, or `None` for every one. Null packets (0x1FFF) are always allowed.
    pub allowed: Option<PidSet>,
    /// PIDs that must come; each within `allowed`. How long one may stay away is TR 101 290's threshold `pid`.
    pub required: PidSet,
    /// What to do about a PID too many or too few.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

/// The limit on the bit rate of the TS packets, null packets included, averaged over each `window`. At least one of the
/// bounds is there, and `min` is not above `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitrateLimit {
    /// The least, in bits per second.
    pub min: Option<u64>,
    /// The most, in bits per second.
    pub max: Option<u64>,
    /// What the rate is averaged over.
    pub window: Duration,
    /// What to do beyond either.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

/// The limit on null packets: exceeded where more than `max_percent` of the TS packets of a `window` are null packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NullPacketsLimit {
    /// The most, in per cent of all TS packets.
    pub max_percent: u8,
    /// What the share is taken over.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

/// What is judged of splice information (ANSI/SCTE 35).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scte35Rule {
    /// A section whose CRC-32 is wrong is a finding.
    pub bad_crc: bool,
    /// A section on a PID that no PMT announces is a finding.
    pub unannounced: bool,
    /// The shortest time between a cue's arrival and its splice point, or `None` where none is asked for. Immediate splices
    /// have no splice point and are not bound by it.
    pub min_preroll: Option<Duration>,
    /// What to do about a finding.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

impl Default for Scte35Rule {
    fn default() -> Self {
        Scte35Rule {
            bad_crc: true,
            unannounced: true,
            min_preroll: None,
            on_exceed: OnExceed::Alert,
            hold: HOLD,
        }
    }
}

/// What a rule says of the transport stream. The default is what holds where it says nothing: alerts only.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TsRule {
    /// Limit on continuity incidents.
    pub continuity: ContinuityLimit,
    /// Limit on packets lost by the network.
    pub network_loss: LossLimit,
    /// What happens to malformed TS datagrams; never `Drop` on SRT or RIST.
    pub malformed_ts: MalformedTs,
    /// Limit on violations of TR 101 290.
    pub tr101290: Tr101290Limit,
    /// Limit on what components are; `None` where everything may come.
    pub stream_types: Option<StreamTypesLimit>,
    /// Limit on PIDs; `None` where every PID may come or stay away.
    pub pids: Option<PidsLimit>,
    /// Limit on the bit rate; `None` where every rate will do.
    pub bitrate: Option<BitrateLimit>,
    /// Limit on null packets; `None` where any share will do.
    pub null_packets: Option<NullPacketsLimit>,
    /// What is judged of splice information.
    pub scte35: Scte35Rule,
}
