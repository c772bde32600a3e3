//! `tidegate inspect`: captures and `.ts` files through the same engine as live traffic, at the capture's own times.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::engine::report::{InputReport, PacketTotals, SCHEMA, StreamReport};
use crate::engine::time::Timestamp;
use crate::engine::{self, Content, Engine, Published, file};
use crate::io::capture::{CaptureReader, LinkType};
use crate::io::input::{Input, InputError};
use crate::io::ts_file::TsReader;
use crate::policy::{self, Policy};

/// Slots of the flow table that get time to pass per packet: enough to sweep a busy table within a second of capture.
const TICK_BUDGET: usize = 4;

/// Packets looked at to tell whether a capture is of GENEVE.
const PACKETS_TO_TELL: usize = 10_000;

/// Judge captures (pcap, pcapng; GENEVE-wrapped or bare) and .ts files.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Policy to judge by; without it everything is observed and admitted.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// UDP destination port of GENEVE.
    #[arg(long, value_name = "PORT", default_value_t = 6081)]
    geneve_port: u16,
    /// Captures or .ts files.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object per input.
    Json,
}

/// Runs the command: 0 clean, 1 findings, 2 an input that could not be read to its end.
///
/// # Errors
/// When the policy cannot be read or is wrong, or standard output is closed.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let policy = match &args.policy {
        None => Policy::observe_all(),
        Some(path) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).with_context(|| format!("cannot read the policy {name}"))?;
            policy::parse_bytes(&name, &bytes)?
        }
    };
    let (mut findings, mut unreadable) = (false, false);
    let mut out = std::io::stdout().lock();
    for input in &args.inputs {
        let report = inspect(input, &policy, args.geneve_port);
        findings |= report.streams.iter().any(has_findings);
        if let Some(error) = &report.error {
            unreadable = true;
            eprintln!("{}: {error}", report.input);
        }
        match args.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
            Format::Text => write_text(&mut out, &report)?,
        }
    }
    Ok(ExitCode::from(if unreadable { 2 } else { u8::from(findings) }))
}

/// Whether a stream's figures make the exit code 1: what a viewer could see or an attacker could have done. Priority 3,
/// duplicates and reordering alone do not.
fn has_findings(stream: &StreamReport) -> bool {
    let ts = stream.ts.as_ref().is_some_and(|ts| {
        let continuity = ts.continuity_errors;
        continuity.source + continuity.network + continuity.unknown > 0
            || ts.sync_byte_errors + ts.transport_errors + ts.crc_errors > 0
    });
    ts || stream.transport.lost > 0 || !stream.findings.is_empty()
}

fn inspect(path: &Path, policy: &Policy, geneve_port: u16) -> InputReport {
    let mut report = InputReport {
        schema: SCHEMA,
        input: path.display().to_string(),
        error: None,
        packets: PacketTotals::default(),
        drop_reasons: BTreeMap::new(),
        streams: Vec::new(),
    };
    if let Err(error) = inspect_into(path, policy, geneve_port, &mut report) {
        report.error = Some(format!("{error:#}"));
    }
    report
}

/// Fills the report with whatever could be read; the error says why that was not all.
fn inspect_into(path: &Path, policy: &Policy, geneve_port: u16, report: &mut InputReport) -> anyhow::Result<()> {
    match Input::open(path)? {
        Input::Capture(capture) => {
            let wrapped = is_wrapped(path, geneve_port)?;
            inspect_capture(capture, policy, geneve_port, wrapped, report)
        }
        Input::TransportStream(reader) => inspect_ts(reader, report),
    }
}

/// Whether a capture was made between load balancer and appliance: then only GENEVE is for the appliance, and all else in
/// it was left to the kernel. A capture without GENEVE is judged as if every packet had come wrapped.
fn is_wrapped(path: &Path, geneve_port: u16) -> Result<bool, InputError> {
    let Input::Capture(mut capture) = Input::open(path)? else {
        return Ok(false);
    };
    let mut frame = Vec::new();
    for _ in 0..PACKETS_TO_TELL {
        match capture.next() {
            Some(Ok(captured)) => {
                as_ethernet(captured.link, captured.data, &mut frame);
                if engine::is_geneve(&frame, geneve_port) {
                    return Ok(true);
                }
            }
            Some(Err(_)) | None => break,
        }
    }
    Ok(false)
}

/// Puts a captured packet into `frame` as the appliance's interface would have received it: captures of other link types
/// get an Ethernet header.
fn as_ethernet(link: LinkType, data: &[u8], frame: &mut Vec<u8>) {
    frame.clear();
    if link == LinkType::Ethernet {
        frame.extend_from_slice(data);
        return;
    }
    let ip = link.ip_packet(data);
    let ether_type: [u8; 2] = if ip.first().is_some_and(|first| first >> 4 == 6) {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    };
    frame.extend_from_slice(&[0x02; 12]);
    frame.extend_from_slice(&ether_type);
    frame.extend_from_slice(ip);
}

fn inspect_capture<R: Read>(
    mut capture: CaptureReader<R>,
    policy: &Policy,
    geneve_port: u16,
    wrapped: bool,
    report: &mut InputReport,
) -> anyhow::Result<()> {
    let config = engine::Config {
        geneve_port,
        content: Content::Full,
        keep_gone: true,
        ..Default::default()
    };
    let mut engine = Engine::new(config);
    let published = Published { policy, generation: 1 };
    let mut frame = Vec::new();
    let mut outcome = Ok(());
    while let Some(next) = capture.next() {
        let captured = match next {
            Ok(captured) => captured,
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        };
        let now = Timestamp::from_nanos(captured.timestamp);
        if wrapped {
            as_ethernet(captured.link, captured.data, &mut frame);
            engine.process(now, &published, &mut frame);
        } else {
            engine.process_bare(now, &published, captured.link.ip_packet(captured.data));
        }
        engine.tick(now, TICK_BUDGET);
        // A report has no use for events; they would only fill the outbox.
        while engine.next_event().is_some() {}
    }
    engine.finish();
    let counters = engine.counters();
    report.packets = PacketTotals {
        seen: counters.seen,
        returned: counters.returned,
        dropped: counters.dropped_total(),
        passed: counters.passed,
    };
    report.drop_reasons = counters.drops().map(|(reason, count)| (reason.name(), count)).collect();
    report.streams = engine.streams();
    outcome
}

fn inspect_ts<R: Read>(mut reader: TsReader<R>, report: &mut InputReport) -> anyhow::Result<()> {
    let mut inspection = file::Inspection::new();
    let mut outcome = Ok(());
    while let Some(batch) = reader.next_batch() {
        match batch {
            Ok(batch) => inspection.packets(batch.packets().map(|(_, packet)| packet)),
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        }
    }
    let packets = inspection.count();
    report.packets = PacketTotals {
        seen: packets,
        returned: packets,
        ..PacketTotals::default()
    };
    report.streams = vec![inspection.finish(reader.counts().sync_losses)];
    outcome
}

fn write_text(out: &mut impl Write, report: &InputReport) -> std::io::Result<()> {
    let PacketTotals {
        seen,
        returned,
        dropped,
        passed,
    } = report.packets;
    writeln!(out, "{}", report.input)?;
    writeln!(
        out,
        "  packets   {seen} seen, {returned} returned, {dropped} dropped, {passed} passed"
    )?;
    for (reason, count) in &report.drop_reasons {
        writeln!(out, "  dropped   {count} {reason}")?;
    }
    for stream in &report.streams {
        write_stream(out, stream)?;
    }
    Ok(())
}

fn write_stream(out: &mut impl Write, stream: &StreamReport) -> std::io::Result<()> {
    let identity = &stream.identity;
    write!(out, "  {} ", identity.protocol.name())?;
    if let (Some(source), Some(destination)) = (identity.source, identity.destination) {
        write!(out, "{source} -> {destination}")?;
    }
    if let Some(ssrc) = identity.ssrc {
        write!(out, "  ssrc 0x{ssrc:08x}")?;
    }
    if let Some(id) = &identity.stream_id {
        write!(out, "  stream id {id:?}")?;
    }
    if let Some(rule) = &identity.rule {
        write!(out, "  rule {rule}")?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "    state       {}, worst {}",
        stream.state.name(),
        stream.worst_state.name()
    )?;
    writeln!(
        out,
        "    packets     {} ({} bytes), encryption {}",
        stream.packets, stream.bytes, stream.encryption
    )?;
    let t = &stream.transport;
    writeln!(
        out,
        "    transport   {} lost, {} reordered, {} duplicated, {} retransmitted, {} late, {} resets",
        t.lost, t.reordered, t.duplicated, t.retransmitted, t.late, t.resets
    )?;
    for (finding, count) in &stream.findings {
        writeln!(out, "    finding     {finding} {count}")?;
    }
    let Some(ts) = &stream.ts else {
        return writeln!(out, "    ts          not visible");
    };
    let c = ts.continuity_errors;
    writeln!(
        out,
        "    ts          {} packets, {} duplicates",
        ts.packets, ts.duplicates
    )?;
    writeln!(
        out,
        "    continuity  {} source, {} network, {} unknown",
        c.source, c.network, c.unknown
    )?;
    writeln!(
        out,
        "    errors      {} sync byte, {} transport error",
        ts.sync_byte_errors, ts.transport_errors
    )?;
    for pid in &ts.pids {
        writeln!(
            out,
            "    pid 0x{:04x}  {} packets, {} continuity errors",
            pid.pid, pid.packets, pid.continuity_errors
        )?;
    }
    Ok(())
}
