//! `tidegate inspect`: captures and `.ts` files through the same engine as live traffic, at the capture's own times.

mod capture;
mod extract;
mod text;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::extract::{Evidence, Folder};
use crate::engine::file;
use crate::engine::report::{InputReport, PacketTotals, SCHEMA, SeamlessReport, StreamReport, StreamState};
use crate::io::input::Input;
use crate::io::policy_file;
use crate::io::ts_file::TsReader;
use crate::policy::rule::Scte35Rule;
use crate::policy::{Policy, Rule};

/// Exit codes: everything was read and nothing is wrong; something is; something could not be read.
const EXIT_CLEAN: u8 = 0;
const EXIT_FINDINGS: u8 = 1;
const EXIT_UNREADABLE: u8 = 2;

/// The number of Continuity_count_error in ETSI TR 101 290.
const CONTINUITY: &str = "1.4";

/// Packets of a file between two looks for events: fewer than the engine keeps events for.
const PACKETS_AT_A_TIME: usize = 512;

/// Judge captures (pcap, pcapng; GENEVE-wrapped or bare) and .ts files.
///
/// Exits with 0 if all is well, with 1 if there are findings, and with 2 if an input or the policy cannot be read.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Policy to judge by; without it everything is observed and admitted.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write each stream's TS (in the order it was sent, decrypted where possible) and the events as JSON lines (in the order
    /// of time) to this folder.
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
    /// Judge continuity alone: no tables, clocks, TR 101 290 and cues.
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Option<Only>,
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

/// What is judged of a transport stream where not all is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Continuity counters.
    Continuity,
}

/// How inputs are inspected.
struct How<'p> {
    policy: &'p Policy,
    geneve_port: u16,
    /// Tables, clocks, TR 101 290 and cues are judged, too.
    analyse: bool,
}

/// Runs the command: 0 clean, 1 findings, 2 a policy or an input that could not be read to its end, or a report that could
/// not be written.
///
/// # Errors
/// None: what goes wrong is told on standard error and in the exit code, for 1 would say "findings".
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let code = inspect_all(args).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        EXIT_UNREADABLE
    });
    Ok(ExitCode::from(code))
}

fn inspect_all(args: &InspectArgs) -> anyhow::Result<u8> {
    let policy = match &args.policy {
        None => Policy::observe_all(),
        Some(path) => policy_file::load(path)?,
    };
    let how = How {
        policy: &policy,
        geneve_port: args.geneve_port,
        analyse: args.only.is_none(),
    };
    let mut folder = args.extract.as_deref().map(Folder::create).transpose()?;
    let mut code = EXIT_CLEAN;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for input in &args.inputs {
        let report = inspect(input, &how, folder.as_mut());
        let verdict = verdict(&report, &policy);
        code = code.max(verdict);
        match args.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
            Format::Text => text::write(&mut out, &report, verdict)?,
        }
        out.flush()?;
        if let Some(error) = &report.error {
            eprintln!("{}: {error}", report.input);
        }
    }
    Ok(code)
}

/// The exit code that one input alone would give.
fn verdict(report: &InputReport, policy: &Policy) -> u8 {
    // What the rules refuse is a finding; what is dropped without a policy is no IP packet, and nobody's fault here.
    let refused = !policy.observes_all() && report.packets.dropped + report.shadow_drops > 0;
    let missing = report.expectations.iter().any(|expected| expected.times_missing > 0);
    if report.error.is_some() {
        EXIT_UNREADABLE
    } else if refused || missing || report.streams.iter().any(|stream| has_findings(stream, policy)) {
        EXIT_FINDINGS
    } else {
        EXIT_CLEAN
    }
}

/// Whether a stream's figures make the exit code 1: what a viewer could see, an attacker could have done, or a limit of its
/// rule, or of the defaults where it has none, did not allow. Of the paths of a pair what neither brought counts. Priority 3,
/// duplicates and reordering alone do not, nor does what the rule says is to be ignored.
fn has_findings(stream: &StreamReport, policy: &Policy) -> bool {
    let name = stream.identity.rule.as_deref();
    let rule = policy.rules().iter().find(|rule| Some(rule.name.as_str()) == name);
    let excused = |pid| rule.is_some_and(|rule| rule.ts.continuity.ignore_pids.contains(pid));
    let merged = merged(stream);
    let lost = merged.map_or(stream.transport.lost, |merged| merged.lost);
    let ts = stream.ts.as_ref().is_some_and(|ts| {
        let errors = ts.continuity_errors;
        let only_of_path = merged.is_some_and(|merged| merged.lost == 0) && errors.source + errors.unknown == 0;
        ts.sync_byte_errors + ts.transport_errors + ts.crc_errors > 0
            || !only_of_path && ts.pids.iter().any(|pid| pid.continuity_errors > 0 && !excused(pid.pid))
    });
    let exceeded = stream.state.max(stream.worst_state) > StreamState::Healthy;
    let violated = |(number, count): (&&str, &u64)| *count > 0 && is_serious(number);
    let mut cues = stream.splice.iter().flat_map(|splice| splice.findings.keys());
    ts || exceeded
        || lost > 0
        || !stream.findings.is_empty()
        || stream.tr101290.iter().any(violated)
        || cues.any(|finding| is_cue_fault(finding, rule))
}

/// Whether what was found of splice information is a fault, where the rule does not say that it is none.
fn is_cue_fault(finding: &str, rule: Option<&Rule>) -> bool {
    let minds = |limit: fn(&Scte35Rule) -> bool| rule.is_none_or(|rule| limit(&rule.ts.scte35));
    match finding {
        "bad-crc" | "malformed" => minds(|cues| cues.bad_crc),
        "unannounced" => minds(|cues| cues.unannounced),
        // Whoever encrypts a cue means to. A short pre-roll is told where the rule asks for it, and then exceeds its limit.
        _ => false,
    }
}

/// Whether the stream is one path of a pair (SMPTE ST 2022-7) whose merge is known in full, so that what the network did to
/// this path alone reached nobody.
fn merged(stream: &StreamReport) -> Option<&SeamlessReport> {
    let rtp = stream.rtp.as_ref().filter(|rtp| !rtp.partial)?;
    rtp.seamless.as_ref()
}

/// Whether a violation of that number of ETSI TR 101 290 is a finding: priorities 1 and 2. Continuity (1.4) is told by PID,
/// for rules may excuse some.
fn is_serious(number: &str) -> bool {
    number != CONTINUITY && (number.starts_with("1.") || number.starts_with("2."))
}

fn inspect(path: &Path, how: &How<'_>, folder: Option<&mut Folder>) -> InputReport {
    let mut report = InputReport {
        schema: SCHEMA,
        input: path.display().to_string(),
        error: None,
        packets: PacketTotals::default(),
        drop_reasons: BTreeMap::new(),
        shadow_drops: 0,
        shadow_drop_reasons: BTreeMap::new(),
        flows_refused: 0,
        expectations: Vec::new(),
        streams: Vec::new(),
    };
    if let Err(error) = inspect_into(path, how, folder, &mut report) {
        report.error = Some(format!("{error:#}"));
    }
    report
}

/// Fills the report with whatever could be read; the error says why that was not all.
fn inspect_into(
    path: &Path,
    how: &How<'_>,
    folder: Option<&mut Folder>,
    report: &mut InputReport,
) -> anyhow::Result<()> {
    let input = Input::open(path)?;
    let mut evidence = folder.map(|folder| folder.input(path)).transpose()?;
    match input {
        Input::Capture(reader) => capture::inspect(reader, how, evidence.as_mut(), report),
        Input::TransportStream(reader) => inspect_ts(reader, how, evidence.as_mut(), report),
    }?;
    evidence.map_or(Ok(()), Evidence::finish)
}

fn inspect_ts<R: Read>(
    mut reader: TsReader<R>,
    how: &How<'_>,
    mut evidence: Option<&mut Evidence>,
    report: &mut InputReport,
) -> anyhow::Result<()> {
    let mut inspection = file::Inspection::new(evidence.is_some(), how.analyse);
    let mut outcome = Ok(());
    while let Some(batch) = reader.next_batch() {
        match batch {
            Ok(batch) => {
                if batch.skipped() > 0 && inspection.count() > 0 {
                    inspection.sync_lost();
                }
                let mut packets = batch.packets().map(|(_, packet)| packet).peekable();
                while packets.peek().is_some() {
                    inspection.packets(packets.by_ref().take(PACKETS_AT_A_TIME));
                    collect(&mut inspection, evidence.as_deref_mut())?;
                }
            }
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
    inspection.finish();
    collect(&mut inspection, evidence)?;
    report.streams = vec![inspection.report()];
    outcome
}

fn collect(inspection: &mut file::Inspection, mut evidence: Option<&mut Evidence>) -> anyhow::Result<()> {
    while let Some(event) = inspection.next_event() {
        evidence
            .as_mut()
            .map_or(Ok(()), |evidence| evidence.event(event.at, &event))?;
    }
    while let Some(media) = inspection.next_media() {
        evidence.as_mut().map_or(Ok(()), |evidence| evidence.media(&media))?;
    }
    Ok(())
}
