//! From the policy's text to validated rules: every error of the file in one go.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::action::{DefaultAction, FailureAction};
use super::diagnostic::{At, Collector, Problem};
use super::fields::Fields;
use super::glob::Glob;
use super::rule::{
    CLEAR_AFTER, ContinuityLimit, Encryption, LossLimit, MAX_SSRC, MalformedTs, OnExceed, OnUnverified, Protocol,
    RAISE_AFTER, RtmpRule, RtpRule, Rule, SrtRule, TsRule,
};
use super::set::PortSet;
use super::{MAX_PREFIXES, MAX_RULES, MAX_TEXT, Policy, PolicyErrors, review, schema, value};

/// The longest rule name in characters; names become labels of metrics.
const MAX_NAME: usize = 64;
/// What a limit's window may be. Its upper end bounds how many incidents the judge has to remember.
const WINDOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// How long a block may last.
const HOLD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// What a reorder window may be. Its upper end bounds how many digests the judge has to keep.
const REORDER_WINDOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30);

const ON_EXCEED: [(&str, OnExceed); 2] = [("alert", OnExceed::Alert), ("block", OnExceed::Block)];

/// Parses, validates and compiles a policy. `file_name` only serves the messages.
///
/// # Errors
/// All that is wrong, in the order of the file: what breaks the TOML syntax if anything does, else what is wrong with the
/// keys and values.
pub fn parse(file_name: &str, text: &str) -> Result<Policy, PolicyErrors> {
    // A byte order mark is no character of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Collector::new(file_name, text);
    if text.len() > MAX_TEXT {
        let problem = Problem::new(
            format!("the policy is longer than {MAX_TEXT} bytes"),
            "merge its prefixes or rules",
        );
        out.error(&(0..0), problem);
        return Err(out.into_errors());
    }
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let message = error.message().replace('\n', " ");
        let problem = Problem::new(
            format!("this is not TOML: {message}"),
            "correct the syntax here or just before",
        );
        out.error(&error.span().unwrap_or(0..0), problem);
    }
    if out.has_errors() {
        // What is left of a broken document would only give errors that are not the operator's.
        return Err(out.into_errors());
    }
    let root = Fields::new(document.get_ref(), 0..0, &schema::ROOT, &mut out);
    let (default_action, rules) = read_root(&root, &mut out);
    if out.has_errors() {
        return Err(out.into_errors());
    }
    review::warn(&rules, &mut out);
    let rules = rules.into_iter().map(|rule| rule.value).collect();
    Ok(Policy::compile(default_action, rules).with_warnings(out.into_warnings()))
}

/// Like [`parse`], for the bytes of a file.
///
/// # Errors
/// As [`parse`]; and where the first byte stands that is not UTF-8.
pub fn parse_bytes(file_name: &str, bytes: &[u8]) -> Result<Policy, PolicyErrors> {
    // Before anything else: what was read of a file that is too long may end within a character.
    if bytes.len() > MAX_TEXT {
        return Err(too_long(Collector::new(file_name, "")));
    }
    let sound = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(file_name, text),
        Err(error) => bytes.get(..error.valid_up_to()).unwrap_or_default(),
    };
    let text = String::from_utf8_lossy(sound);
    let mut out = Collector::new(file_name, &text);
    out.error(
        &(text.len()..text.len()),
        Problem::new("the file is not UTF-8 text", "save it as UTF-8"),
    );
    Err(out.into_errors())
}

fn too_long(mut out: Collector<'_>) -> PolicyErrors {
    let problem = Problem::new(
        format!("the policy is longer than {MAX_TEXT} bytes"),
        "merge its prefixes or rules",
    );
    out.error(&(0..0), problem);
    out.into_errors()
}

fn read_root(root: &Fields<'_, '_>, out: &mut Collector<'_>) -> (DefaultAction, Vec<At<Rule>>) {
    const VERSION_HINT: &str = "write version = 1 at the top of the file";
    root.required("version", VERSION_HINT, out, |v| {
        match v.as_integer().map(|n| (n.as_str(), n.radix())) {
            Some(("1", _)) => Ok(()),
            _ => Err(value::expected(
                "version 1",
                v,
                "write version = 1: this release reads no other",
            )),
        }
    });
    let hint = "write default_action = \"drop\" or \"return\": what happens to packets that no rule admits";
    let choices = [("drop", DefaultAction::Drop), ("return", DefaultAction::Return)];
    let default_action = root.required("default_action", hint, out, |v| value::choice(v, &choices));
    let rules = read_rules(root, out);
    (default_action.unwrap_or(DefaultAction::Drop), rules)
}

fn read_rules(root: &Fields<'_, '_>, out: &mut Collector<'_>) -> Vec<At<Rule>> {
    let Some(value) = root.find("rule") else {
        return Vec::new();
    };
    let DeValue::Array(items) = value.get_ref() else {
        out.error(
            &value.span(),
            Problem::new("rules are a list", "write [[rule]] in double brackets"),
        );
        return Vec::new();
    };
    let mut rules = Vec::new();
    let mut names = HashMap::new();
    let mut prefixes = 0;
    for (number, item) in items.iter().enumerate() {
        if number == MAX_RULES {
            let problem = Problem::new(
                format!("more than {MAX_RULES} rules"),
                "merge rules that differ in prefixes only",
            );
            out.error(&item.span(), problem);
            break;
        }
        let Some(rule) = read_rule(item, &mut names, out) else {
            continue;
        };
        let before = prefixes;
        prefixes += rule.value.sources.len() + rule.value.destinations.len();
        if before <= MAX_PREFIXES && prefixes > MAX_PREFIXES {
            let problem = Problem::new(
                format!("the rules up to here list more than {MAX_PREFIXES} sources and destinations"),
                "merge neighbouring networks into larger ones",
            );
            out.error(&item.span(), problem);
        }
        rules.push(rule);
    }
    rules
}

/// One rule; a placeholder where a part is wrong, which has been told by then. `names` holds the line of each name.
fn read_rule(
    item: &Spanned<DeValue<'_>>,
    names: &mut HashMap<String, usize>,
    out: &mut Collector<'_>,
) -> Option<At<Rule>> {
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
    let value = Rule {
        name,
        protocol: protocol.unwrap_or(Protocol::Any),
        sources,
        destinations,
        ports: PortSet::new(plain(ports)),
        endpoints,
        reorder_window: read_reorder_window(&rule, protocol, out),
        enforce: rule.value("enforce", out, value::flag).unwrap_or(true),
        expected: false,
        silence: None,
        raise_after: RAISE_AFTER,
        clear_after: CLEAR_AFTER,
        on_failure: rule.value("on_failure", out, |v| value::choice(v, &on_failure)),
        srt: read_srt(&rule, protocol, out),
        rtp: read_rtp(&rule, protocol, out),
        rtmp: RtmpRule::default(),
        ts: read_ts(&rule, protocol, out),
    };
    Some(At {
        span: rule.span(),
        value,
    })
}

fn plain<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
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
    rule.required("protocol", hint, out, |v| match v.as_str() {
        Some("rtmp") => Err(schema::not_supported_yet("protocol \"rtmp\"")),
        _ => value::choice(v, &names),
    })
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
        let message = format!("protocol {:?} has no sequence numbers to put in order", protocol.name());
        out.error(
            &rule.value_span("reorder_window"),
            Problem::new(message, "leave reorder_window out"),
        );
    }
    Some(window)
}

/// A section that only some protocols give a meaning; told as an error on the others.
fn protocol_section<'v, 'i>(
    rule: &Fields<'v, 'i>,
    key: &str,
    section: &'static schema::Section,
    protocol: Option<Protocol>,
    fits: impl Fn(Protocol) -> bool,
    out: &mut Collector<'_>,
) -> Option<Fields<'v, 'i>> {
    let span = rule.key_span(key)?;
    if let Some(protocol) = protocol.filter(|protocol| !fits(*protocol)) {
        let others: Vec<_> = Protocol::ALL
            .into_iter()
            .filter(|p| fits(*p))
            .map(Protocol::name)
            .collect();
        let message = format!("{} has no meaning for protocol {:?}", section.title, protocol.name());
        let remedy = format!("remove it: it is for {}", others.join(", "));
        out.error(&span, Problem::new(message, remedy));
    }
    rule.table(key, section, out)
}

fn read_srt(rule: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> SrtRule {
    let defaults = SrtRule::default();
    let Some(srt) = protocol_section(rule, "srt", &schema::SRT, protocol, |p| p == Protocol::Srt, out) else {
        return defaults;
    };
    srt.refuse_empty("stream_id", "leave stream_id out to admit every stream id", out);
    let globs = srt.items("stream_id", out, |v| {
        Glob::new(value::text(v)?).map_err(|error| {
            Problem::new(
                error.to_string(),
                "\"*\", \"?\" and \"[a-z]\" are wildcards; \"\\\\\" makes one literal",
            )
        })
    });
    let encryption = [
        ("required", Encryption::Required),
        ("optional", Encryption::Optional),
        ("forbidden", Encryption::Forbidden),
    ];
    let on_unverified = [("return", OnUnverified::Return), ("drop", OnUnverified::Drop)];
    SrtRule {
        stream_ids: srt.find("stream_id").map(|_| plain(globs)),
        encryption: srt
            .value("encryption", out, |v| value::choice(v, &encryption))
            .unwrap_or(defaults.encryption),
        on_unverified: srt
            .value("on_unverified", out, |v| value::choice(v, &on_unverified))
            .unwrap_or(defaults.on_unverified),
        ..defaults
    }
}

fn read_rtp(rule: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> RtpRule {
    let defaults = RtpRule::default();
    let Some(rtp) = protocol_section(rule, "rtp", &schema::RTP, protocol, Protocol::is_rtp, out) else {
        return defaults;
    };
    rtp.refuse_empty(
        "payload_type",
        "leave payload_type out to admit every payload type",
        out,
    );
    let payload_types = plain(rtp.items("payload_type", out, |v| value::integer::<u8>(v, 0..=127)));
    RtpRule {
        payload_types: rtp.find("payload_type").map(|_| payload_types.into_iter().collect()),
        max_ssrc: rtp
            .value("max_ssrc", out, |v| value::integer(v, 1..=u64::from(MAX_SSRC)))
            .unwrap_or(defaults.max_ssrc),
        paths: None,
    }
}

fn read_ts(rule: &Fields<'_, '_>, protocol: Option<Protocol>, out: &mut Collector<'_>) -> TsRule {
    let defaults = TsRule::default();
    let Some(ts) = protocol_section(rule, "ts", &schema::TS, protocol, |p| p != Protocol::Any, out) else {
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
        ..defaults
    }
}

fn read_continuity(ts: &Fields<'_, '_>, out: &mut Collector<'_>) -> ContinuityLimit {
    let defaults = ContinuityLimit::default();
    let Some(limit) = ts.table("continuity", &schema::CONTINUITY, out) else {
        return defaults;
    };
    let pids = plain(limit.items("ignore_pids", out, |v| value::integer::<u16>(v, 0..=8191)));
    let read = ContinuityLimit {
        max_incidents: limit
            .value("max_incidents", out, |v| value::integer(v, 0..=u64::from(u32::MAX)))
            .unwrap_or(defaults.max_incidents),
        window: limit
            .value("window", out, |v| value::duration(v, &WINDOW))
            .unwrap_or(defaults.window),
        on_exceed: limit
            .value("on_exceed", out, |v| value::choice(v, &ON_EXCEED))
            .unwrap_or_default(),
        hold: limit
            .value("hold", out, |v| value::duration(v, &HOLD))
            .unwrap_or(defaults.hold),
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
    LossLimit {
        max_packets: limit
            .value("max_packets", out, |v| value::integer(v, 0..=u64::from(u32::MAX)))
            .unwrap_or(defaults.max_packets),
        window: limit
            .value("window", out, |v| value::duration(v, &WINDOW))
            .unwrap_or(defaults.window),
        on_exceed: limit
            .value("on_exceed", out, |v| value::choice(v, &ON_EXCEED))
            .unwrap_or_default(),
        hold: limit
            .value("hold", out, |v| value::duration(v, &HOLD))
            .unwrap_or(defaults.hold),
    }
}
