//! What the transport stream says: rates, programmes with their components, TR 101 290, cues.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{LABEL, line, list, plural, rate, tally};
use crate::engine::report::{Cue, CueReport, PidReport, StreamReport, TsReport};
use crate::engine::ts::{ComponentReport, Indicator, ProgrammeReport};
use crate::policy::stream_type;

/// Cues shown; the JSON report has more.
const CUES: usize = 12;
/// stream_type of PES packets with private data, of which the descriptors say more.
const PRIVATE: u8 = 0x06;

pub(super) fn write(out: &mut impl Write, stream: &StreamReport, ts: &TsReport) -> io::Result<()> {
    line(out, "ts", &summary(ts))?;
    let mut others: BTreeMap<u16, &PidReport> = ts.pids.iter().map(|pid| (pid.pid, pid)).collect();
    let tables = ts.analysis.iter().map(|analysis| &analysis.tables);
    for programme in tables.flat_map(|tables| &tables.programmes) {
        write_programme(out, programme, ts, &mut others)?;
    }
    let others: Vec<String> = others.values().map(|pid| pid_item(pid)).collect();
    list(out, "pids", &others, "  ")?;
    let violations: Vec<String> = stream
        .tr101290
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(number, count)| format!("{number} {}: {count}", etsi_name(number)))
        .collect();
    list(out, "tr 101 290", &violations, ", ")?;
    match &stream.splice {
        Some(splice) => write_cues(out, splice, &stream.scte35),
        None => Ok(()),
    }
}

fn summary(ts: &TsReport) -> String {
    let mut parts = vec![plural(ts.packets, "packet")];
    if let Some(analysis) = &ts.analysis {
        parts.extend(analysis.mean_bitrate.map(rate));
        let null = analysis.mean_null_percent.filter(|percent| *percent > 0.0);
        parts.extend(null.map(|percent| format!("{percent:.1}% null packets")));
    }
    tally(&mut parts, ts.duplicates, "duplicate");
    tally(&mut parts, ts.sync_byte_errors, "sync byte error");
    tally(&mut parts, ts.transport_errors, "transport error");
    tally(&mut parts, ts.crc_errors, "CRC error");
    if let Some(tables) = ts.analysis.as_ref().map(|analysis| &analysis.tables) {
        parts.extend(tables.network_name.as_ref().map(|name| format!("network {name:?}")));
    }
    parts.join(", ")
}

fn write_programme(
    out: &mut impl Write,
    programme: &ProgrammeReport,
    ts: &TsReport,
    others: &mut BTreeMap<u16, &PidReport>,
) -> io::Result<()> {
    let mut text = programme.number.to_string();
    if let Some(name) = &programme.name {
        text.push_str(&format!(" {name:?}"));
    }
    text.push_str(&format!(": PMT 0x{:04x}", programme.pmt_pid));
    if programme.version.is_none() {
        text.push_str(" not seen");
    }
    if let Some(pid) = programme.pcr_pid {
        text.push_str(&format!(", PCR 0x{pid:04x}"));
        text.push_str(&pcr_intervals(ts, pid).unwrap_or_default());
    }
    line(out, "programme", &text)?;
    for component in &programme.components {
        let own = ts.pids.iter().find(|pid| pid.pid == component.pid);
        others.remove(&component.pid);
        writeln!(out, "{:LABEL$}{}", "", component_line(component, own).trim_end())?;
    }
    Ok(())
}

fn pcr_intervals(ts: &TsReport, pid: u16) -> Option<String> {
    let carrier = ts.pids.iter().find(|known| known.pid == pid)?;
    let pcr = carrier.analysis.as_ref()?.pcr.filter(|pcr| pcr.intervals > 0)?;
    let [mean, most] = [pcr.mean_interval_us, pcr.max_interval_us].map(|micros| micros as f64 / 1e3);
    let jitter = pcr.max_jitter_us.map(|jitter| jitter as f64 / 1e3);
    let jitter = jitter.map_or(String::new(), |jitter| format!(", jitter up to {jitter:.1} ms"));
    let accuracy = pcr.max_accuracy_ns;
    let accuracy = accuracy.map_or(String::new(), |ns| format!(", accurate to {}", fine_time(ns)));
    Some(format!(" every {mean:.0} ms (at most {most:.0} ms{jitter}{accuracy})"))
}

/// Nanoseconds as people say them.
fn fine_time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

fn component_line(component: &ComponentReport, own: Option<&PidReport>) -> String {
    let kind = stream_type::name(component.stream_type)
        .filter(|_| component.stream_type != PRIVATE)
        .unwrap_or(component.kind);
    let language = component.language.as_deref().unwrap_or_default().escape_debug();
    let analysis = own.and_then(|pid| pid.analysis.as_ref());
    let rate = analysis.and_then(|pid| pid.mean_bitrate).map(rate).unwrap_or_default();
    let mut remarks = vec![own.map_or("no packets".to_owned(), |pid| plural(pid.packets, "packet"))];
    tally(&mut remarks, own.map_or(0, |pid| pid.continuity_errors), "error");
    if analysis.is_some_and(|pid| pid.scrambled) {
        remarks.push("scrambled".to_owned());
    }
    format!(
        "0x{:04x}  {kind:<16} {language:<3} {rate:>12}  {}",
        component.pid,
        remarks.join(", ")
    )
}

fn pid_item(pid: &PidReport) -> String {
    match pid.continuity_errors {
        0 => format!("0x{:04x} {}", pid.pid, pid.packets),
        errors => format!("0x{:04x} {} ({})", pid.pid, pid.packets, plural(errors, "error")),
    }
}

/// ETSI's name for one of its numbers.
fn etsi_name(number: &str) -> &'static str {
    let known = Indicator::ALL.iter().find(|indicator| indicator.number() == number);
    known.map_or("", |indicator| indicator.name())
}

fn write_cues(out: &mut impl Write, splice: &CueReport, cues: &[Cue]) -> io::Result<()> {
    let mut parts = vec![plural(splice.sections, "section")];
    let commands = splice.commands.iter().map(|(name, count)| format!("{count} {name}"));
    parts.extend(commands);
    tally(&mut parts, splice.repeats, "repeat");
    line(out, "cues", &parts.join(", "))?;
    let news: Vec<&Cue> = cues.iter().filter(|cue| cue.repeat == 0).collect();
    for cue in news.iter().rev().take(CUES).rev() {
        writeln!(out, "{:LABEL$}{}", "", cue_line(cue))?;
    }
    if let Some(more) = news.len().checked_sub(CUES).filter(|more| *more > 0) {
        writeln!(out, "{:LABEL$}and {more} before these", "")?;
    }
    Ok(())
}

fn cue_line(cue: &Cue) -> String {
    let mut parts = vec![
        format!("0x{:04x} {}", cue.pid, cue.command),
        format!("event 0x{:08x}", cue.event_id),
    ];
    parts.extend(cue.segmentation.map(str::to_owned));
    if cue.cancels {
        parts.push("cancels it".to_owned());
    }
    if cue.cancelled {
        parts.push("cancelled later".to_owned());
    }
    match cue.out_of_network {
        Some(true) => parts.push("out".to_owned()),
        Some(false) => parts.push("in".to_owned()),
        None => {}
    }
    if cue.immediate {
        parts.push("at once".to_owned());
    }
    if let Some(preroll) = cue.preroll_ms {
        parts.push(format!("pre-roll {:.1} s", preroll as f64 / 1e3));
    }
    if let Some(duration) = cue.duration_ms {
        parts.push(format!("for {:.1} s", duration as f64 / 1e3));
    }
    if !cue.announced {
        parts.push("not announced by the PMT".to_owned());
    }
    parts.join(", ")
}
