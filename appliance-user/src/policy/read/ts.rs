//! `[rule.ts]`: the limits on the transport stream.

mod tr101290;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{plain, protocol_section};
use crate::policy::diagnostic::{At, Collector, Problem};
use crate::policy::fields::Fields;
use crate::policy::rule::{
    self, BitrateLimit, ContinuityLimit, LossLimit, MalformedTs, NullPacketsLimit, OnExceed, PidsLimit, Protocol,
    Scte35Rule, StreamTypesLimit, TsRule,
};
use crate::policy::set::PidSet;
use crate::policy::{review, schema, value};

/// What a limit's window may be. Its upper end bounds how many incidents the judge has to remember.
const WINDOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// What a rate or a share may be taken over. Below the lower end a handful of datagrams would decide.
const RATE_WINDOW: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// How long a block may last.
const HOLD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// What a pre-roll may be asked to be.
const PREROLL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// What a bit rate is averaged over, and a share of null packets is taken over, where a limit does not say.
const BITRATE_WINDOW: Duration = Duration::from_secs(1);
const NULL_PACKETS_WINDOW: Duration = Duration::from_secs(10);

const ON_EXCEED: [(&str, OnExceed); 2] = [("alert", OnExceed::Alert), ("block", OnExceed::Block)];

/// The PID of the PAT, which every transport stream has (ISO/IEC 13818-1 2.4.4.3).
const PAT: u16 = 0;
/// The PID of null packets.
const NULL: u16 = 0x1FFF;

pub(super) fn read(rule: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> TsRule {
    let defaults = TsRule::default();
    let Some(ts) = protocol_section(rule, "ts", &schema::TS, protocol, Protocol::carries_ts, out) else {
        return defaults;
    };
    let choices = [("alert", MalformedTs::Alert), ("drop", MalformedTs::Drop)];
    let malformed_ts = ts
        .value("malformed_ts", out, |v| value::choice(v, &choices))
        .unwrap_or(defaults.malformed_ts);
    if let (MalformedTs::Drop, Some(protocol @ (Protocol::Srt | Protocol::Rist))) = (malformed_ts, protocol) {
        let message = format!(
            "malformed_ts = \"drop\" is pointless on {}: its sender only repeats it",
            protocol.name()
        );
        out.error(
            &ts.value_span("malformed_ts"),
            Problem::new(message, "write malformed_ts = \"alert\""),
        );
    }
    TsRule {
        continuity: read_continuity(&ts, out),
        network_loss: read_network_loss(&ts, protocol, out),
        malformed_ts,
        tr101290: tr101290::read(&ts, out),
        stream_types: read_stream_types(&ts, out),
        pids: read_pids(&ts, out),
        bitrate: read_bitrate(&ts, out),
        null_packets: read_null_packets(&ts, out),
        scte35: read_scte35(&ts, out),
    }
}

fn read_continuity(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> ContinuityLimit {
    let defaults = ContinuityLimit::default();
    let Some(limit) = ts.table("continuity", &schema::CONTINUITY, out) else {
        return defaults;
    };
    let pids = plain(limit.items("ignore_pids", out, |v| value::integer::<u16>(v, 0..=8191)));
    let (on_exceed, hold) = read_action(&limit, out);
    let read = ContinuityLimit {
        max_incidents: read_count(&limit, "max_incidents", defaults.max_incidents, out),
        window: read_window(&limit, &WINDOW, defaults.window, out),
        on_exceed,
        hold,
        ignore_pids: pids.into_iter().collect(),
    };
    review::warn_unreachable(&read, &limit.value_span("max_incidents"), out);
    read
}

fn read_network_loss(ts: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> LossLimit {
    let defaults = LossLimit::default();
    let Some(limit) = ts.table("network_loss", &schema::NETWORK_LOSS, out) else {
        return defaults;
    };
    if protocol == Some(Protocol::TsUdp)
        && let Some(span) = ts.key_span("network_loss")
    {
        let message = "network_loss can never be exceeded: ts-udp has no sequence numbers that would show a loss";
        out.warning(
            &span,
            Problem::new(message, "leave it out; continuity sees what loss does"),
        );
    }
    let (on_exceed, hold) = read_action(&limit, out);
    LossLimit {
        max_packets: read_count(&limit, "max_packets", defaults.max_packets, out),
        window: read_window(&limit, &WINDOW, defaults.window, out),
        on_exceed,
        hold,
    }
}

/// What to do where a limit is exceeded, and how long a block lasts.
fn read_action(limit: &Fields<'_, '_>, out: &mut Collector<'_>) -> (OnExceed, Duration) {
    let on_exceed = limit.value("on_exceed", out, |v| value::choice(v, &ON_EXCEED));
    let hold = limit.value("hold", out, |v| value::duration(v, &HOLD));
    (on_exceed.unwrap_or_default(), hold.unwrap_or(rule::HOLD))
}

/// How many of something a limit lets pass.
fn read_count(limit: &Fields<'_, '_>, key: &str, default: u32, out: &mut Collector<'_>) -> u32 {
    limit
        .value(key, out, |v| value::integer(v, 0..=u64::from(u32::MAX)))
        .unwrap_or(default)
}

fn read_window(
    limit: &Fields<'_, '_>,
    range: &RangeInclusive<Duration>,
    default: Duration,
    out: &mut Collector<'_>,
) -> Duration {
    limit
        .value("window", out, |v| value::duration(v, range))
        .unwrap_or(default)
}

fn read_stream_types(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<StreamTypesLimit> {
    let limit = ts.table("stream_types", &schema::STREAM_TYPES, out)?;
    let hint = "list what components may be, such as allowed = [\"h264\", \"aac\"]";
    limit.require("allowed", hint, out);
    limit.refuse_empty("allowed", hint, out);
    let allowed = plain(limit.items("allowed", out, value::stream_type));
    let (on_exceed, hold) = read_action(&limit, out);
    Some(StreamTypesLimit {
        allowed: allowed.into_iter().collect(),
        on_exceed,
        hold,
    })
}

fn read_pids(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<PidsLimit> {
    let limit = ts.table("pids", &schema::PIDS, out)?;
    let set = |ranges: Vec<(u16, u16)>| {
        ranges
            .into_iter()
            .flat_map(|(low, high)| low..=high)
            .collect::<PidSet>()
    };
    limit.refuse_empty("allowed", "leave allowed out to let every PID come", out);
    let mut allowed = plain(limit.items("allowed", out, value::pids));
    let required = limit.items("required", out, value::pids);
    let restricts = limit.find("allowed").is_some();
    if !restricts && limit.find("required").is_none() {
        let hint = "list PIDs in allowed, such as [0, \"256-511\"], or in required";
        out.error(&limit.span(), Problem::new("pids names no PID", hint));
    }
    // Stuffing says nothing, and null_packets is there to limit it.
    allowed.push((NULL, NULL));
    let allowed = set(allowed);
    if restricts {
        for At { span, value } in &required {
            let missing = (value.0..=value.1).find(|pid| !allowed.contains(*pid));
            if let Some(pid) = missing {
                let problem = Problem::new(
                    format!("PID {pid} is required, but allowed does not list it"),
                    "add it to allowed",
                );
                out.error(span, problem);
            }
        }
        if !allowed.contains(PAT) {
            let message = "allowed leaves out PID 0, the PAT: every transport stream exceeds this limit";
            out.warning(&limit.value_span("allowed"), Problem::new(message, "add 0 to allowed"));
        }
    }
    let (on_exceed, hold) = read_action(&limit, out);
    Some(PidsLimit {
        allowed: restricts.then_some(allowed),
        required: set(plain(required)),
        on_exceed,
        hold,
    })
}

fn read_bitrate(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<BitrateLimit> {
    let limit = ts.table("bitrate", &schema::BITRATE, out)?;
    let min = limit.value("min", out, value::bitrate);
    let max = limit.value("max", out, value::bitrate);
    if limit.find("min").is_none() && limit.find("max").is_none() {
        let problem = Problem::new("bitrate sets no limit", "write min or max, such as max = \"25Mbps\"");
        out.error(&limit.span(), problem);
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!(
            "min, {}, is above max, {}: no stream could keep both",
            value::spelled_rate(min),
            value::spelled_rate(max)
        );
        out.error(&limit.value_span("min"), Problem::new(message, "exchange them"));
    }
    let (on_exceed, hold) = read_action(&limit, out);
    Some(BitrateLimit {
        min,
        max,
        window: read_window(&limit, &RATE_WINDOW, BITRATE_WINDOW, out),
        on_exceed,
        hold,
    })
}

fn read_null_packets(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<NullPacketsLimit> {
    let limit = ts.table("null_packets", &schema::NULL_PACKETS, out)?;
    let hint = "say how many per cent of the TS packets may be null packets, such as max_percent = 60";
    let max_percent = limit.required("max_percent", hint, out, |v| value::integer::<u8>(v, 0..=100));
    if max_percent == Some(100) {
        let problem = Problem::new(
            "this limit can never be exceeded: a stream has no more than 100 per cent of null packets",
            "write 99 or less, or remove null_packets",
        );
        out.warning(&limit.value_span("max_percent"), problem);
    }
    let (on_exceed, hold) = read_action(&limit, out);
    Some(NullPacketsLimit {
        max_percent: max_percent.unwrap_or(100),
        window: read_window(&limit, &RATE_WINDOW, NULL_PACKETS_WINDOW, out),
        on_exceed,
        hold,
    })
}

fn read_scte35(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> Scte35Rule {
    let defaults = Scte35Rule::default();
    let Some(section) = ts.table("scte35", &schema::SCTE35, out) else {
        return defaults;
    };
    let (on_exceed, hold) = read_action(&section, out);
    let read = Scte35Rule {
        bad_crc: section.value("bad_crc", out, value::flag).unwrap_or(defaults.bad_crc),
        unannounced: section
            .value("unannounced", out, value::flag)
            .unwrap_or(defaults.unannounced),
        min_preroll: section.value("min_preroll", out, |v| value::duration(v, &PREROLL)),
        on_exceed,
        hold,
    };
    if !read.bad_crc && !read.unannounced && section.find("min_preroll").is_none() && on_exceed == OnExceed::Block {
        let problem = Problem::new(
            "on_exceed = \"block\" can never come to pass: everything that scte35 judges is switched off",
            "write bad_crc = true, unannounced = true or min_preroll, or remove on_exceed",
        );
        out.warning(&section.value_span("on_exceed"), problem);
    }
    read
}
