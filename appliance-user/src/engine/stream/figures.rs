//! What is reported of a stream.

use std::collections::BTreeMap;

use super::Stream;
use crate::engine::flow::RtmpFigures;
use crate::engine::report::{ContinuityErrors, PidReport, StreamReport, TransportReport, TsReport};
use crate::engine::ts::TsAnalysis;
use crate::engine::watch::Cause;

impl Stream {
    /// Everything known of it.
    pub(in crate::engine) fn report(&self) -> StreamReport {
        let mut analysis = self.analysis();
        let tr101290 = analysis
            .as_mut()
            .map(|analysis| core::mem::take(&mut analysis.tr101290));
        let cues = analysis.as_mut().map(|analysis| core::mem::take(&mut analysis.cues));
        let mut splice = cues.filter(|cues| cues.sections > 0);
        let scte35 = splice.as_mut().map(|cues| core::mem::take(&mut cues.cues));
        StreamReport {
            ordinal: self.ordinal,
            identity: self.cold.identity.clone(),
            encryption: self.encryption,
            decrypted: self.decrypted,
            srt: self.srt.as_ref().map(|srt| srt.report()),
            state: self.cold.watch.state(),
            worst_state: self.cold.watch.worst(),
            conditions: self.cold.watch.standing().map(Cause::name).collect(),
            packets: self.packets,
            bytes: self.bytes,
            transport: self.transport(),
            ts: self.ts(analysis),
            tr101290: tr101290.unwrap_or_default(),
            findings: self.cold.findings.report(),
            scte35: scte35.unwrap_or_default(),
            splice,
            rtmp: self.rtmp.as_deref().map(RtmpFigures::report),
            rtp: self.rtp.as_ref().map(|rtp| rtp.report()),
        }
    }

    pub(super) fn transport(&self) -> TransportReport {
        self.judge.as_ref().map_or_else(TransportReport::default, |judge| {
            let counted = judge.transport();
            let rtp = self.rtp.as_ref();
            TransportReport {
                recoverable: rtp.and_then(|rtp| rtp.recoverable(counted.lost)),
                lost: counted.lost,
                reordered: counted.reordered,
                duplicated: counted.duplicated,
                retransmitted: counted.retransmitted,
                late: counted.late,
                resets: counted.resets,
            }
        })
    }

    fn analysis(&self) -> Option<TsAnalysis> {
        let judge = self.judge.as_ref().filter(|_| self.ts_visible)?;
        Some(judge.analyser()?.report())
    }

    fn ts(&self, mut analysis: Option<TsAnalysis>) -> Option<TsReport> {
        let judge = self.judge.as_ref().filter(|_| self.ts_visible)?;
        let counted = judge.ts();
        let of_pids = analysis.as_mut().map(|analysis| core::mem::take(&mut analysis.pids));
        let mut of_pids: BTreeMap<u16, _> = of_pids.into_iter().flatten().map(|pid| (pid.pid, pid)).collect();
        let mut pids: Vec<PidReport> = judge
            .pids()
            .map(|pid| {
                let analysis = of_pids.remove(&pid.pid);
                PidReport {
                    pid: pid.pid,
                    packets: pid.packets,
                    continuity_errors: pid.continuity_errors,
                    stream_type: analysis.as_ref().and_then(|analysis| analysis.stream_type),
                    analysis,
                }
            })
            .collect();
        pids.sort_unstable_by_key(|pid| pid.pid);
        Some(TsReport {
            packets: counted.packets,
            continuity_errors: ContinuityErrors {
                source: counted.continuity_errors.source,
                network: counted.continuity_errors.network,
                unknown: counted.continuity_errors.unknown,
            },
            duplicates: counted.duplicates,
            sync_byte_errors: counted.sync_byte_errors,
            transport_errors: counted.transport_errors,
            crc_errors: analysis.as_ref().map_or(0, |analysis| analysis.crc_errors),
            pids,
            analysed: analysis.is_some(),
            analysis,
        })
    }
}
