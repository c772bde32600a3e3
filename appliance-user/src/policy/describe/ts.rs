//! The limits on the transport stream, spelled out.

use std::fmt::{self, Formatter};
use std::time::Duration;

use super::{line, list};
use crate::policy::rule::{MalformedTs, OnExceed, PidsLimit, Rule, Scte35Rule, Tr101290Limit, Tr101290Thresholds};
use crate::policy::set::PidSet;
use crate::policy::stream_type;
use crate::policy::value::{spelled, spelled_rate};

pub(super) fn describe(f: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
    let ts = &rule.ts;
    let continuity = &ts.continuity;
    let limit = exceeded(
        continuity.max_incidents,
        "incidents",
        continuity.window,
        then(continuity.on_exceed, continuity.hold),
    );
    let ignored = match continuity.ignore_pids.is_empty() {
        true => String::new(),
        false => format!("; PIDs {} are not judged", pid_ranges(&continuity.ignore_pids)),
    };
    line(f, "continuity", limit + &ignored)?;
    if rule.protocol.has_sequence_numbers() {
        let loss = &ts.network_loss;
        let then = then(loss.on_exceed, loss.hold);
        line(
            f,
            "network_loss",
            exceeded(loss.max_packets, "packets", loss.window, then),
        )?;
    }
    let malformed_ts = match ts.malformed_ts {
        MalformedTs::Alert => "alert",
        MalformedTs::Drop => "drop",
    };
    line(f, "malformed_ts", malformed_ts)?;
    describe_tr101290(f, &ts.tr101290)?;
    describe_contents(f, rule)?;
    line(f, "scte35", scte35(&ts.scte35))
}

fn describe_tr101290(f: &mut Formatter<'_>, limit: &Tr101290Limit) -> fmt::Result {
    let what = match limit.priority {
        0 => return line(f, "tr101290", "measured, and no violation counts"),
        1 => "violations of priority 1".to_owned(),
        priority => format!("violations of priorities 1 to {priority}"),
    };
    let then = then(limit.on_exceed, limit.hold);
    line(f, "tr101290", exceeded(limit.max_violations, &what, limit.window, then))?;
    if limit.thresholds != Tr101290Thresholds::default() {
        line(f, "thresholds", thresholds(&limit.thresholds))?;
    }
    Ok(())
}

/// The thresholds that are not TR 101 290's own.
fn thresholds(these: &Tr101290Thresholds) -> String {
    let standard = Tr101290Thresholds::default();
    let all = [
        ("pat", these.pat, standard.pat),
        ("pmt", these.pmt, standard.pmt),
        ("pid", these.pid, standard.pid),
        ("pcr_repetition", these.pcr_repetition, standard.pcr_repetition),
        ("pcr_discontinuity", these.pcr_discontinuity, standard.pcr_discontinuity),
        ("pcr_accuracy", these.pcr_accuracy, standard.pcr_accuracy),
        ("pts", these.pts, standard.pts),
        ("nit", these.nit, standard.nit),
        ("sdt", these.sdt, standard.sdt),
        ("eit", these.eit, standard.eit),
        ("tdt", these.tdt, standard.tdt),
        ("section_gap", these.section_gap, standard.section_gap),
        ("unreferenced_pid", these.unreferenced_pid, standard.unreferenced_pid),
    ];
    let own = all.iter().filter(|(_, this, standard)| this != standard);
    list(own.map(|(key, this, _)| format!("{key} {}", spelled(*this))))
}

/// What may be in the stream, where the rule says anything of it.
fn describe_contents(f: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
    let ts = &rule.ts;
    if let Some(limit) = &ts.stream_types {
        let names = limit.allowed.iter().map(|value| {
            let name = stream_type::name(value).map(|name| format!(" ({name})"));
            format!("{value:#04x}{}", name.unwrap_or_default())
        });
        let then = then(limit.on_exceed, limit.hold);
        line(f, "stream_types", format!("others than {}: {then}", list(names)))?;
    }
    if let Some(limit) = &ts.pids {
        line(f, "pids", pids(limit))?;
    }
    if let Some(limit) = &ts.bitrate {
        let min = limit.min.map(|min| format!("less than {}", spelled_rate(min)));
        let max = limit.max.map(|max| format!("more than {}", spelled_rate(max)));
        let bounds: Vec<_> = [min, max].into_iter().flatten().collect();
        let then = then(limit.on_exceed, limit.hold);
        let text = format!("{} over {}: {then}", bounds.join(" or "), spelled(limit.window));
        line(f, "bitrate", text)?;
    }
    if let Some(limit) = &ts.null_packets {
        let (window, then) = (spelled(limit.window), then(limit.on_exceed, limit.hold));
        let text = format!("more than {}% over {window}: {then}", limit.max_percent);
        line(f, "null_packets", text)?;
    }
    Ok(())
}

fn pids(limit: &PidsLimit) -> String {
    let others = limit
        .allowed
        .as_ref()
        .map(|allowed| format!("others than {}", pid_ranges(allowed)));
    let absent = (!limit.required.is_empty()).then(|| format!("absence of any of {}", pid_ranges(&limit.required)));
    let what: Vec<_> = [others, absent].into_iter().flatten().collect();
    format!("{}: {}", what.join(", "), then(limit.on_exceed, limit.hold))
}

fn scte35(rule: &Scte35Rule) -> String {
    let checks = [
        rule.bad_crc.then(|| "bad CRC".to_owned()),
        rule.unannounced.then(|| "a cue on an unannounced PID".to_owned()),
        rule.min_preroll
            .map(|least| format!("pre-roll below {}", spelled(least))),
    ];
    let checks: Vec<_> = checks.into_iter().flatten().collect();
    if checks.is_empty() {
        return "nothing is judged".to_owned();
    }
    format!("{}: {}", checks.join(", "), then(rule.on_exceed, rule.hold))
}

fn then(on_exceed: OnExceed, hold: Duration) -> String {
    match on_exceed {
        OnExceed::Alert => "alert".to_owned(),
        OnExceed::Block => format!("block for {}", spelled(hold)),
    }
}

fn exceeded(max: u32, what: &str, window: Duration, then: String) -> String {
    format!("more than {max} {what} within {}: {then}", spelled(window))
}

/// PIDs as a policy would list them, runs of them as ranges.
fn pid_ranges(pids: &PidSet) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for pid in pids.iter() {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == pid => *high = pid,
            _ => ranges.push((pid, pid)),
        }
    }
    list(ranges.into_iter().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    }))
}
