//! What is reported of a transport stream beyond its packets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cues::CueReport;
use super::rates::{bits_per_second, null_percent};
use super::slot::{Kind, Slot};
use super::tables::report::TablesReport;
use super::{Analyser, pcr};

/// The analysis of a transport stream. Bit rates are of TS packets, 188 bytes each.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TsAnalysis {
    /// Violations of ETSI TR 101 290 under ETSI's numbers, of every indicator that could be evaluated.
    #[serde(skip)]
    pub tr101290: BTreeMap<&'static str, u64>,
    /// Sections whose CRC-32 was wrong, of any table.
    #[serde(skip)]
    pub crc_errors: u64,
    /// Bits per second over the last second, null packets included.
    pub bitrate: Option<u64>,
    /// Bits per second from the first packet to the last.
    pub mean_bitrate: Option<u64>,
    /// Null packets in per cent of all over the last second.
    pub null_percent: Option<f64>,
    /// Null packets in per cent of all.
    pub mean_null_percent: Option<f64>,
    /// What the tables say.
    #[serde(flatten)]
    pub tables: TablesReport,
    /// Splice information.
    #[serde(skip)]
    pub cues: CueReport,
    /// PIDs that have sent, in ascending order.
    #[serde(skip)]
    pub pids: Vec<PidAnalysis>,
}

/// What was found of a PID.
#[derive(Clone, Debug, Serialize)]
pub struct PidAnalysis {
    /// The PID.
    #[serde(skip)]
    pub pid: u16,
    /// stream_type, where a PMT lists it.
    #[serde(skip)]
    pub stream_type: Option<u8>,
    /// Bits per second over the last whole second.
    pub bitrate: Option<u64>,
    /// Bits per second from the stream's first packet to its last.
    pub mean_bitrate: Option<u64>,
    /// Most of its packets are scrambled.
    pub scrambled: bool,
    /// Packets with transport_scrambling_control.
    pub scrambled_packets: u64,
    /// PES packets of it begin with a PTS; measured on video and audio alone.
    pub pts: bool,
    /// PES packets of it begin with a DTS, too.
    pub dts: bool,
    /// Its PCRs, where it carries any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcr: Option<PcrReport>,
}

/// The PCRs of a PID. Times are in microseconds unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PcrReport {
    /// Intervals that were measured, by the PCR's own values.
    pub intervals: u64,
    /// Their mean.
    pub mean_interval_us: u64,
    /// The longest.
    pub max_interval_us: u64,
    /// How far arrival strays from the PCR from one to the next, smoothed as RFC 3550 A.8 does; `None` in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u64>,
    /// The furthest that it strayed; `None` in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_jitter_us: Option<u64>,
    /// Jumps of the PCR, signalled or not.
    pub discontinuities: u64,
    /// PCRs whose accuracy could be checked by their place; `None` live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_checked: Option<u64>,
    /// The furthest that one of them was from what its place says, in nanoseconds; `None` where none was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_accuracy_ns: Option<u64>,
}

impl Analyser {
    /// Everything found so far.
    pub(in crate::engine) fn report(&self) -> TsAnalysis {
        let life = self
            .first
            .map_or(core::time::Duration::ZERO, |first| self.now.since(first));
        // Two programmes may share a component.
        let stream_types: BTreeMap<u16, u8> = self
            .tables
            .programmes()
            .flat_map(|programme| &programme.components)
            .map(|component| (component.pid, component.stream_type))
            .collect();
        let mut pids: Vec<PidAnalysis> = self
            .slots
            .iter()
            .filter(|slot| slot.packets > 0)
            .map(|slot| PidAnalysis {
                stream_type: stream_types.get(&slot.pid).copied(),
                mean_bitrate: bits_per_second(slot.packets, life),
                ..self.of_slot(slot)
            })
            .collect();
        pids.sort_unstable_by_key(|pid| pid.pid);
        let counted = self.counted();
        let now = self.now.max(self.latest);
        TsAnalysis {
            tr101290: self.monitor.ledger.report(),
            crc_errors: self.monitor.crc_errors,
            bitrate: self.second.bitrate(now, counted),
            mean_bitrate: bits_per_second(counted.all, life),
            null_percent: self.second.null_percent(now, counted),
            mean_null_percent: null_percent(counted),
            tables: self.tables.report(),
            cues: self.cues.report(),
            pids,
        }
    }

    fn of_slot(&self, slot: &Slot) -> PidAnalysis {
        let more = slot.more.as_deref();
        let stamps = more.map(|more| more.stamps).unwrap_or_default();
        let seconds_passed = self.measured;
        PidAnalysis {
            pid: slot.pid,
            stream_type: None,
            bitrate: seconds_passed
                .then(|| bits_per_second(slot.in_second.into(), self.second_lasted))
                .flatten(),
            mean_bitrate: None,
            scrambled: slot.scrambled,
            scrambled_packets: more.map_or(0, |more| more.scrambled),
            pts: slot.kind == Kind::Timed && stamps.pts > 0,
            dts: slot.kind == Kind::Timed && stamps.dts > 0,
            pcr: more
                .and_then(|more| more.pcr.as_ref())
                .map(|pcr| of_pcr(pcr, self.in_file)),
        }
    }
}

fn of_pcr(pcr: &pcr::Pcr, in_file: bool) -> PcrReport {
    let figures = pcr.figures;
    let measured = pcr.accuracy.as_ref().filter(|accuracy| accuracy.checked > 0);
    let live = |nanos: u64| (!in_file).then_some(nanos / 1000);
    PcrReport {
        intervals: figures.intervals,
        mean_interval_us: figures.sum.checked_div(figures.intervals).unwrap_or(0) / 1000,
        max_interval_us: figures.longest / 1000,
        jitter_us: live(figures.jitter),
        max_jitter_us: live(figures.worst),
        discontinuities: figures.discontinuities,
        accuracy_checked: pcr.accuracy.as_ref().map(|accuracy| accuracy.checked),
        max_accuracy_ns: measured.map(|accuracy| accuracy.worst),
    }
}
