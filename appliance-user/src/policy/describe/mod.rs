//! What a policy compiles to, spelled out for people: every rule with the limits that hold, and what the kernel admits.

mod ts;

use std::fmt::{self, Display, Formatter};

use super::action::{DefaultAction, FailureAction};
use super::glob::Glob;
use super::kernel::FailureWish;
use super::rule::{Encryption, OnUnverified, Path, Protocol, Rule};
use super::value::{quoted, spelled};
use super::{KernelPrefix, Policy, RuleId, SecretKind};

/// A policy's description; made by [`Policy::describe`], written by `Display`.
pub struct Description<'p>(pub(super) &'p Policy);

impl Display for Description<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        let default_action = match policy.default_action() {
            DefaultAction::Drop => "drop",
            DefaultAction::Return => "return",
        };
        writeln!(f, "what no rule admits: {default_action}")?;
        for (id, rule) in (0..).map(RuleId).zip(policy.rules()) {
            writeln!(f, "\nrule {} {}", id.0 + 1, quoted(&rule.name))?;
            describe_admission(f, rule)?;
            describe_judgement(f, rule)?;
            describe_protocol(f, rule)?;
            describe_files(f, policy, id)?;
            if rule.protocol.carries_ts() {
                ts::describe(f, rule)?;
            }
        }
        let prefixes = policy.kernel_prefixes();
        writeln!(
            f,
            "\nthe kernel admits {} prefixes, each with its action while no worker is alive:",
            prefixes.len()
        )?;
        for KernelPrefix { prefix, wish } in prefixes {
            writeln!(f, "  {:<18} {}", prefix.to_string(), wish_text(wish))?;
        }
        if !policy.warnings().is_empty() {
            writeln!(f, "\nwarnings:")?;
            for warning in policy.warnings() {
                writeln!(f, "  {warning}")?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, key: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {key:<17} {value}")
}

fn describe_admission(f: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
    let ports = if rule.ports.is_empty() {
        "any".to_owned()
    } else {
        rule.ports.to_string()
    };
    line(f, "protocol", rule.protocol.name())?;
    line(f, "source", list(&rule.sources))?;
    line(f, "destination", list(&rule.destinations))?;
    line(f, "destination_port", ports)?;
    line(f, "companions", companions(rule))?;
    line(f, "replies", replies(rule))?;
    line(
        f,
        "endpoint",
        list(rule.endpoints.iter().map(|id| format!("{id:#018x}"))),
    )?;
    line(
        f,
        "enforce",
        if rule.enforce {
            "true"
        } else {
            "false: judged and told, nothing dropped or blocked"
        },
    )?;
    line(
        f,
        "on_failure",
        rule.on_failure.map_or("as --on-failure says", action_name),
    )
}

fn describe_judgement(f: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
    let silence = match (rule.silence, rule.expected) {
        (None, _) => "no finding".to_owned(),
        (Some(silence), true) => format!("more than {}, also before the first packet: alert", spelled(silence)),
        (Some(silence), false) => format!("more than {}: alert", spelled(silence)),
    };
    line(f, "silence", silence)?;
    line(
        f,
        "findings",
        format!(
            "told after {}, told to be over after {}",
            spelled(rule.raise_after),
            spelled(rule.clear_after)
        ),
    )?;
    if rule.protocol.has_sequence_numbers() {
        let window = rule
            .reorder_window
            .map_or_else(|| auto_window(rule.protocol).to_owned(), spelled);
        line(f, "reorder_window", window)?;
    }
    Ok(())
}

fn describe_protocol(f: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
    let globs = |globs: &Option<Vec<Glob>>| list(globs.iter().flatten().map(|glob| quoted(glob.as_str())));
    if rule.protocol == Protocol::Srt {
        line(f, "stream_id", globs(&rule.srt.stream_ids))?;
        line(f, "encryption", encryption_name(rule.srt.encryption))?;
        if rule.srt.encryption != Encryption::Forbidden {
            line(f, "key_length", list(rule.srt.key_lengths.iter().flatten()))?;
        }
        line(f, "on_unverified", on_unverified_name(rule.srt.on_unverified))?;
    }
    if rule.protocol == Protocol::Rtmp {
        line(f, "application", globs(&rule.rtmp.applications))?;
        line(f, "on_unverified", on_unverified_name(rule.rtmp.on_unverified))?;
    }
    if rule.protocol.is_rtp() {
        line(
            f,
            "payload_type",
            list(rule.rtp.payload_types.iter().flat_map(|types| types.iter())),
        )?;
        line(f, "max_ssrc", rule.rtp.max_ssrc)?;
        for Path {
            source,
            destination,
            port,
        } in rule.rtp.paths.iter().flatten()
        {
            line(f, "path", format!("{source} to {destination} port {port}"))?;
        }
    }
    Ok(())
}

/// The files of a rule, and whether they are read; never what they hold.
fn describe_files(f: &mut Formatter<'_>, policy: &Policy, id: RuleId) -> fmt::Result {
    let state = if policy.lacks_secrets() {
        "not read"
    } else {
        "read, sound"
    };
    let rule = policy.rule(id);
    let protocol = rule.map(|rule| rule.protocol);
    let mut passphrase = false;
    let mut stream_keys = false;
    for file in policy.files_of(id) {
        let path = quoted(&file.path().to_string_lossy());
        match file.kind() {
            SecretKind::Passphrase { stream_id } => {
                passphrase = true;
                let sessions = stream_id
                    .as_ref()
                    .map_or_else(|| "every session".to_owned(), |id| quoted(id.as_str()));
                line(f, "passphrase_file", format!("{path} for {sessions}: {state}"))?;
            }
            SecretKind::StreamKeys => {
                stream_keys = true;
                line(f, "stream_key_file", format!("{path}: {state}"))?;
            }
        }
    }
    let enciphered = rule.is_some_and(|rule| rule.srt.encryption != Encryption::Forbidden);
    if protocol == Some(Protocol::Srt) && enciphered && !passphrase {
        line(
            f,
            "passphrase_file",
            "none: encrypted sessions are judged by their packets only",
        )?;
    }
    if protocol == Some(Protocol::Rtmp) && !stream_keys {
        line(f, "stream_key_file", "none: every stream key may publish")?;
    }
    Ok(())
}

/// Items with commas between, or "any" where there are none.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "any".to_owned()
    } else {
        items.join(", ")
    }
}

fn companions(rule: &Rule) -> &'static str {
    match (rule.protocol, rule.ports.is_empty()) {
        (Protocol::RtpFec, false) => "RTCP on each port + 1, FEC on + 2 and + 4",
        (Protocol::Rtp | Protocol::Rist, false) => "RTCP on each port + 1",
        _ => "none",
    }
}

fn replies(rule: &Rule) -> String {
    let Some(offset) = rule.protocol.reply_offset() else {
        return "none".to_owned();
    };
    if rule.destinations.is_empty() && !rule.replies_from_anywhere() {
        return "none, for no destination is listed".to_owned();
    }
    let from = if rule.destinations.is_empty() {
        "anywhere"
    } else {
        "the destinations"
    };
    let ports = match (rule.ports.is_empty(), offset) {
        (true, _) => "any port",
        (false, 0) => "the destination ports",
        (false, _) => "each destination port + 1 (RTCP)",
    };
    format!("from {from}, {ports}")
}

fn auto_window(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Srt => "auto: the negotiated latency, 1s while it is not known",
        Protocol::Rist => "auto: 1s",
        _ => "auto: 50ms",
    }
}

fn action_name(action: FailureAction) -> &'static str {
    match action {
        FailureAction::Return => "return",
        FailureAction::Drop => "drop",
        FailureAction::Pass => "pass",
    }
}

fn encryption_name(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::Required => "required",
        Encryption::Optional => "optional",
        Encryption::Forbidden => "forbidden",
    }
}

fn on_unverified_name(on_unverified: OnUnverified) -> &'static str {
    match on_unverified {
        OnUnverified::Return => "return",
        OnUnverified::Drop => "drop",
    }
}

fn wish_text(wish: FailureWish) -> String {
    match (wish.strictest, wish.follows_default) {
        (Some(FailureAction::Drop), _) => "drop".to_owned(),
        (Some(action), false) => action_name(action).to_owned(),
        (Some(action), true) => format!("{}, or --on-failure where that is stricter", action_name(action)),
        (None, _) => "as --on-failure says".to_owned(),
    }
}
