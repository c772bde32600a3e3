//! The report as a video operator reads it: is it sound, what was lost, whose fault was it; then the details. What is zero
//! and says nothing takes no line. Text from the wire is quoted and escaped.

mod transport;
mod ts;

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{EXIT_CLEAN, EXIT_FINDINGS};
use crate::engine::report::{ExpectationReport, InputReport, PacketTotals, StreamProtocol, StreamReport, TsReport};

/// Columns that a list may take before it goes on in the next line.
const WIDTH: usize = 110;
/// Columns before what a line says: the indentation and its label.
const LABEL: usize = 16;

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
    for expected in &report.expectations {
        write_expected(out, expected)?;
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
        write!(out, ", {dropped} dropped ({})", listed(&report.drop_reasons))?;
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
            "  {} would have been dropped but for enforce = false ({})",
            plural(report.shadow_drops, "packet"),
            listed(&report.shadow_drop_reasons)
        )?;
    }
    Ok(())
}

/// Reasons with their counts.
fn listed(reasons: &BTreeMap<&'static str, u64>) -> String {
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.join(", ")
}

/// A rule whose stream stayed away; what was there takes no line.
fn write_expected(out: &mut impl Write, expected: &ExpectationReport) -> io::Result<()> {
    let rule = &expected.rule;
    match (expected.state, expected.times_missing) {
        (_, 0) => Ok(()),
        ("missing", _) if !expected.ever => writeln!(out, "  expected    rule {rule:?}: nothing of it ever came"),
        ("missing", _) => writeln!(out, "  expected    rule {rule:?}: it stopped"),
        (_, 1) => writeln!(out, "  expected    rule {rule:?}: it was missing for a time"),
        (_, times) => writeln!(out, "  expected    rule {rule:?}: it was missing {times} times"),
    }
}

fn write_stream(out: &mut impl Write, stream: &StreamReport) -> io::Result<()> {
    let judged = stream.identity.protocol.is_judged();
    if judged {
        write_state(out, stream)?;
    }
    if !stream.conditions.is_empty() {
        line(out, "exceeded", &stream.conditions.join(", "))?;
    }
    let cues = stream.splice.iter().flat_map(|splice| &splice.findings);
    let findings = stream.findings.iter().map(|(name, count)| format!("{name}: {count}"));
    let findings: Vec<String> = findings
        .chain(cues.map(|(name, count)| format!("cue {name}: {count}")))
        .collect();
    list(out, "findings", &findings, ", ")?;
    transport::write(out, stream)?;
    match &stream.ts {
        Some(figures) => ts::write(out, stream, figures),
        None if judged => line(out, "ts", "not visible"),
        None => Ok(()),
    }
}

/// One labelled line; none where there is nothing to say.
fn line(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(out, "    {label:<12}{text}")
}

/// A labelled list over as many lines as it takes.
fn list(out: &mut impl Write, label: &str, items: &[String], separator: &str) -> io::Result<()> {
    let mut row = format!("    {label:<12}");
    let mut empty = true;
    for item in items {
        if !empty {
            row.push_str(separator);
            if row.chars().count() + item.chars().count() > WIDTH {
                writeln!(out, "{}", row.trim_end())?;
                row = " ".repeat(LABEL);
            }
        }
        row.push_str(item);
        empty = false;
    }
    if empty { Ok(()) } else { writeln!(out, "{row}") }
}

/// Adds a count of something to a sentence, where it is not zero.
fn tally(parts: &mut Vec<String>, count: u64, what: &str) {
    if count > 0 {
        parts.push(plural(count, what));
    }
}

/// Bits per second as people say them.
fn rate(bits: u64) -> String {
    match bits {
        0..10_000 => format!("{bits} b/s"),
        10_000..1_000_000 => format!("{:.1} kb/s", bits as f64 / 1e3),
        _ => format!("{:.3} Mb/s", bits as f64 / 1e6),
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
    match (stream.encryption, stream.decrypted) {
        ("none", _) => {}
        (cipher, true) => write!(out, "  {cipher} decrypted")?,
        (cipher, false) => write!(out, "  {cipher}")?,
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
        if let Some(recoverable) = stream.transport.recoverable {
            write!(out, ", {recoverable} of them recoverable")?;
        }
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

fn plural(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
