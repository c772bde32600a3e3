//! The report as a video operator reads it: is it sound, what was lost, whose fault was it; then the details. What is zero
//! and says nothing takes no line.

use std::io::{self, Write};

use super::{EXIT_CLEAN, EXIT_FINDINGS};
use crate::engine::report::{InputReport, PacketTotals, PidReport, StreamProtocol, StreamReport, TsReport};

/// Columns that a list of PIDs may take before it goes on in the next line.
const WIDTH: usize = 100;

/// Writes one input's report; `verdict` is the exit code that it alone would give.
pub(super) fn write(out: &mut impl Write, report: &InputReport, verdict: u8) -> io::Result<()> {
    let word = match verdict {
        EXIT_CLEAN => "CLEAN",
        EXIT_FINDINGS => "FINDINGS",
        _ => "INCOMPLETE",
    };
    writeln!(out, "{}: {word}", report.input)?;
    if let Some(error) = &report.error {
        writeln!(out, "  {error}")?;
    }
    let is_file = |stream: &StreamReport| stream.identity.protocol == StreamProtocol::File;
    if let [file] = report.streams.as_slice()
        && is_file(file)
    {
        return write_stream(out, file);
    }
    if report.packets.seen > 0 {
        write_totals(out, report)?;
    }
    for stream in &report.streams {
        writeln!(out)?;
        write_identity(out, stream)?;
        write_stream(out, stream)?;
    }
    Ok(())
}

fn write_totals(out: &mut impl Write, report: &InputReport) -> io::Result<()> {
    let PacketTotals {
        seen,
        returned,
        dropped,
        passed,
    } = report.packets;
    write!(out, "  {}: {returned} returned", plural(seen, "packet"))?;
    if dropped > 0 {
        let reasons: Vec<String> = report
            .drop_reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        write!(out, ", {dropped} dropped ({})", reasons.join(", "))?;
    }
    if passed > 0 {
        write!(out, ", {passed} not for the appliance")?;
    }
    writeln!(out)?;
    if report.flows_refused > 0 {
        writeln!(
            out,
            "  {} not followed: the flow table is full",
            plural(report.flows_refused, "packet")
        )?;
    }
    if report.shadow_drops > 0 {
        writeln!(
            out,
            "  {} would have been dropped but for enforce = false",
            plural(report.shadow_drops, "packet")
        )?;
    }
    Ok(())
}

fn write_stream(out: &mut impl Write, stream: &StreamReport) -> io::Result<()> {
    let judged = stream.identity.protocol.is_judged();
    if judged {
        write_state(out, stream)?;
    }
    for (finding, count) in &stream.findings {
        writeln!(out, "    finding     {finding}: {count}")?;
    }
    if stream.identity.protocol != StreamProtocol::File {
        write!(out, "    packets     {}, {} bytes", stream.packets, stream.bytes)?;
        let t = &stream.transport;
        for (count, what) in [
            (t.reordered, "reordered"),
            (t.duplicated, "duplicated"),
            (t.retransmitted, "retransmitted"),
            (t.late, "late"),
        ] {
            if count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        if t.resets > 0 {
            write!(out, ", {}", plural(t.resets, "reset"))?;
        }
        writeln!(out)?;
    }
    match &stream.ts {
        Some(ts) => write_ts(out, ts),
        None if judged => writeln!(out, "    ts          not visible"),
        None => Ok(()),
    }
}

fn write_identity(out: &mut impl Write, stream: &StreamReport) -> io::Result<()> {
    let identity = &stream.identity;
    write!(out, "  {}", identity.protocol.name())?;
    if let (Some(source), Some(destination)) = (identity.source, identity.destination) {
        write!(out, "  {source} -> {destination}")?;
    }
    if let Some(ssrc) = identity.ssrc {
        write!(out, "  ssrc 0x{ssrc:08x}")?;
    }
    if let Some(id) = &identity.stream_id {
        write!(out, "  stream id {id:?}")?;
    }
    if stream.encryption != "none" {
        write!(out, "  {}", stream.encryption)?;
    }
    if let Some(endpoint) = identity.endpoint {
        write!(out, "  endpoint 0x{endpoint:016x}")?;
    }
    if let Some(rule) = &identity.rule {
        write!(out, "  rule {rule:?}")?;
    }
    writeln!(out)
}

/// The line that decides whether anyone reads on.
fn write_state(out: &mut impl Write, stream: &StreamReport) -> io::Result<()> {
    write!(out, "    {:<12}", stream.state.name())?;
    if stream.worst_state > stream.state {
        write!(out, "was {}; ", stream.worst_state.name())?;
    }
    let lost = stream.transport.lost;
    let sequenced = stream.identity.protocol.is_sequenced();
    if lost > 0 {
        let sent = (stream.packets + lost) as f64;
        write!(
            out,
            "{} lost ({:.3}%)",
            plural(lost, "packet"),
            lost as f64 * 100.0 / sent
        )?;
    } else if sequenced {
        write!(out, "nothing lost")?;
    }
    if let Some(ts) = &stream.ts {
        if sequenced {
            write!(out, "; ")?;
        }
        write_continuity(out, ts)?;
    }
    writeln!(out)
}

fn write_continuity(out: &mut impl Write, ts: &TsReport) -> io::Result<()> {
    let errors = ts.continuity_errors;
    if errors.source + errors.network + errors.unknown == 0 {
        return write!(out, "no continuity errors");
    }
    write!(out, "continuity errors:")?;
    let mut separator = " ";
    for (count, whose) in [
        (errors.source, "made by the source"),
        (errors.network, "by the network"),
        (errors.unknown, "of unknown origin"),
    ] {
        if count > 0 {
            write!(out, "{separator}{count} {whose}")?;
            separator = ", ";
        }
    }
    Ok(())
}

fn write_ts(out: &mut impl Write, ts: &TsReport) -> io::Result<()> {
    write!(out, "    ts          {} packets", ts.packets)?;
    for (count, what) in [
        (ts.duplicates, "duplicate"),
        (ts.sync_byte_errors, "sync byte error"),
        (ts.transport_errors, "transport error"),
        (ts.crc_errors, "CRC error"),
    ] {
        if count > 0 {
            write!(out, ", {}", plural(count, what))?;
        }
    }
    writeln!(out)?;
    let mut line = "    pids      ".to_owned();
    for item in ts.pids.iter().map(pid_item) {
        if line.len() + item.len() > WIDTH {
            writeln!(out, "{line}")?;
            line = " ".repeat(14);
        }
        line.push_str("  ");
        line.push_str(&item);
    }
    writeln!(out, "{line}")
}

fn pid_item(pid: &PidReport) -> String {
    match pid.continuity_errors {
        0 => format!("0x{:04x} {}", pid.pid, pid.packets),
        errors => format!("0x{:04x} {} ({})", pid.pid, pid.packets, plural(errors, "error")),
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
