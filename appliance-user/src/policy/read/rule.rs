//! One `[[rule]]`: what it admits, and what holds for all its streams.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::{plain, rtmp, rtp, srt, ts};
use crate::policy::action::FailureAction;
use crate::policy::diagnostic::{At, Collector, Problem};
use crate::policy::fields::Fields;
use crate::policy::files::FileUse;
use crate::policy::rule::{CLEAR_AFTER, Protocol, RAISE_AFTER, RtpRule, Rule};
use crate::policy::set::PortSet;
use crate::policy::{review, schema, value};

/// The longest rule name in characters; names become labels of metrics.
const MAX_NAME: usize = 64;
/// What a reorder window may be. Its upper end bounds how many digests the judge has to keep.
const REORDER_WINDOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30);
/// What a silence may be. The lower end is above the pauses of a sound network and a busy machine.
const SILENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// How long a finding may have to last before it is told, or to be gone before its end is.
const DEBOUNCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// One rule and the files it refers to; placeholders where a part is wrong, which has been told by then. `names` holds the line
/// of each name.
pub(super) fn read(
    item: &Spanned<DeValue<'_>>,
    names: &mut HashMap<String, usize>,
    out: &mut Collector<'_>,
) -> Option<(At<Rule>, Vec<At<FileUse>>)> {
    let DeValue::Table(table) = item.get_ref() else {
        out.error(
            &item.span(),
            value::expected("a rule", item.get_ref(), "write rules as [[rule]] tables"),
        );
        return None;
    };
    let rule = Fields::new(table, item.span(), &schema::RULE, out);
    let name = read_name(&rule, names, out);
    let protocol = read_protocol(&rule, out);
    rule.require("source", "list who may send, such as source = [\"192.0.2.0/24\"]", out);
    rule.refuse_empty(
        "source",
        "list who may send, or \"0.0.0.0/0\" and \"::/0\" for everyone",
        out,
    );
    let sources = read_prefixes(&rule, "source", out);
    let destinations = read_prefixes(&rule, "destination", out);
    let ports = rule.items("destination_port", out, value::ports);
    let mut endpoints: Vec<u64> = plain(rule.items("endpoint", out, value::endpoint));
    endpoints.sort_unstable();
    endpoints.dedup();
    let on_failure = [
        ("return", FailureAction::Return),
        ("drop", FailureAction::Drop),
        ("pass", FailureAction::Pass),
    ];
    let mut files = Vec::new();
    let (expected, silence) = read_silence(&rule, out);
    let value = Rule {
        name,
        protocol: protocol.unwrap_or(Protocol::Any),
        sources,
        destinations,
        ports: PortSet::new(plain(ports)),
        endpoints,
        reorder_window: read_reorder_window(&rule, protocol, out),
        enforce: rule.value("enforce", out, value::flag).unwrap_or(true),
        expected,
        silence,
        raise_after: rule
            .value("raise_after", out, |v| value::duration(v, &DEBOUNCE))
            .unwrap_or(RAISE_AFTER),
        clear_after: rule
            .value("clear_after", out, |v| value::duration(v, &DEBOUNCE))
            .unwrap_or(CLEAR_AFTER),
        on_failure: rule.value("on_failure", out, |v| value::choice(v, &on_failure)),
        srt: srt::read(&rule, protocol, &mut files, out),
        rtp: RtpRule::default(),
        rtmp: rtmp::read(&rule, protocol, &mut files, out),
        ts: ts::read(&rule, protocol, out).into(),
    };
    let rtp = rtp::read(&rule, &value, protocol, out);
    let value = Rule { rtp, ..value };
    let span = rule.span();
    Some((At { span, value }, files))
}

fn read_name(rule: &Fields<'_, '_>, names: &mut HashMap<String, usize>, out: &mut Collector<'_>) -> String {
    let hint = "give the rule a name of its own, such as name = \"contribution\"";
    let name = rule.required("name", hint, out, |v| {
        let name = value::text(v)?;
        let fits = !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
        let remedy = format!("write 1 to {MAX_NAME} printable characters");
        if fits {
            Ok(name)
        } else {
            Err(Problem::new(format!("{} is no name", value::quoted(name)), remedy))
        }
    });
    let Some(name) = name else { return String::new() };
    let span = rule.value_span("name");
    let line = out.line(span.start);
    if let Some(first) = names.get(name) {
        let message = format!("the name {} is taken by the rule of line {first}", value::quoted(name));
        out.error(&span, Problem::new(message, "give every rule a name of its own"));
    } else {
        names.insert(name.to_owned(), line);
    }
    name.to_owned()
}

fn read_protocol(rule: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<Protocol> {
    let names = Protocol::ALL.map(|protocol| (protocol.name(), protocol));
    let hint = "say what the streams are, such as protocol = \"srt\"";
    rule.required("protocol", hint, out, |v| value::choice(v, &names))
}

/// The prefixes of a list; one that another prefix of the list already covers is told as a warning.
fn read_prefixes(rule: &Fields<'_, '_>, key: &str, out: &mut Collector<'_>) -> Vec<IpNet> {
    let items = rule.items(key, out, value::prefix);
    review::warn_repeated(&items, out);
    plain(items)
}

fn read_reorder_window(rule: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> Option<Duration> {
    let window = rule.value("reorder_window", out, |v| match v.as_str() {
        Some("auto") => Ok(None),
        _ => value::duration(v, &REORDER_WINDOW).map(Some),
    })??;
    if let Some(protocol) = protocol.filter(|protocol| !protocol.has_sequence_numbers()) {
        let message = match protocol {
            Protocol::Rtmp => "protocol \"rtmp\" is put in order by TCP".to_owned(),
            _ => format!("protocol {:?} has no sequence numbers to put in order", protocol.name()),
        };
        out.error(
            &rule.value_span("reorder_window"),
            Problem::new(message, "leave reorder_window out"),
        );
    }
    Some(window)
}

/// Whether the rule's streams are waited for, and how long they may be silent.
fn read_silence(rule: &Fields<'_, '_>, out: &mut Collector<'_>) -> (bool, Option<Duration>) {
    let expected = rule.value("expected", out, value::flag).unwrap_or(false);
    let silence = rule.value("silence", out, |v| value::duration(v, &SILENCE));
    if expected && rule.find("silence").is_none() {
        let problem = Problem::new(
            "expected does not say how long a stream may stay away",
            "write silence beside it, such as silence = \"2s\"",
        );
        out.error(&rule.key_span("expected").unwrap_or_else(|| rule.span()), problem);
    }
    (expected, silence)
}
