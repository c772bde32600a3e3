//! From the policy's text to validated rules: every error of the file in one go.

mod rtmp;
mod rtp;
mod rule;
mod srt;
mod ts;

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use super::action::DefaultAction;
use super::diagnostic::{At, Collector, Problem};
use super::fields::Fields;
use super::files::{FileUse, SecretFile};
use super::index::Index;
use super::rule::{Protocol, Rule};
use super::{MAX_PORTS, MAX_PREFIXES, MAX_RULES, MAX_TEXT, Policy, PolicyErrors, RuleId, review, schema, value};

/// Parses, validates and compiles a policy. `file_name` only serves the messages. The files that the policy refers to are not
/// read here: see [`Policy::with_secrets`].
///
/// # Errors
/// All that is wrong, in the order of the file: what breaks the TOML syntax if anything does, else what is wrong with the
/// keys and values.
pub fn parse(file_name: &str, text: &str) -> Result<Policy, PolicyErrors> {
    // A byte order mark is no character of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Collector::new(file_name, text);
    if text.len() > MAX_TEXT {
        return Err(too_long(out));
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
    let (default_action, rules, files) = read_root(&root, &mut out);
    if out.has_errors() {
        return Err(out.into_errors());
    }
    let index = Index::build(rules.iter().map(|rule| &rule.value));
    review::warn(&rules, &index, &mut out);
    let rules = rules.into_iter().map(|rule| rule.value).collect();
    let policy = Policy::indexed(default_action, rules, index).with_files(files);
    Ok(policy.with_warnings(out.into_warnings()))
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

fn read_root(root: &Fields<'_, '_>, out: &mut Collector<'_>) -> (DefaultAction, Vec<At<Rule>>, Vec<SecretFile>) {
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
    let (rules, files) = read_rules(root, out);
    (default_action.unwrap_or(DefaultAction::Drop), rules, files)
}

fn read_rules(root: &Fields<'_, '_>, out: &mut Collector<'_>) -> (Vec<At<Rule>>, Vec<SecretFile>) {
    let (mut rules, mut files) = (Vec::new(), Vec::new());
    let Some(value) = root.find("rule") else {
        return (rules, files);
    };
    let DeValue::Array(items) = value.get_ref() else {
        out.error(
            &value.span(),
            Problem::new("rules are a list", "write [[rule]] in double brackets"),
        );
        return (rules, files);
    };
    let mut names = HashMap::new();
    let (mut prefixes, mut ports) = (0, 0);
    for (number, (id, item)) in (0u32..).zip(items.iter()).enumerate() {
        if number == MAX_RULES {
            let problem = Problem::new(
                format!("more than {MAX_RULES} rules"),
                "merge rules that differ in prefixes only",
            );
            out.error(&item.span(), problem);
            break;
        }
        let Some((rule, uses)) = rule::read(item, &mut names, out) else {
            continue;
        };
        let more = rule.value.sources.len() + rule.value.destinations.len();
        if exceeds(&mut prefixes, more, MAX_PREFIXES) {
            let problem = Problem::new(
                format!("the rules up to here list more than {MAX_PREFIXES} sources and destinations"),
                "merge neighbouring networks into larger ones",
            );
            out.error(&item.span(), problem);
        }
        let more = rule.value.ports.ranges().len() + rule.value.endpoints.len();
        if exceeds(&mut ports, more, MAX_PORTS) {
            let problem = Problem::new(
                format!("the rules up to here list more than {MAX_PORTS} ranges of ports and endpoints"),
                "merge neighbouring ports into ranges",
            );
            out.error(&item.span(), problem);
        }
        rules.push(rule);
        files.extend(uses.into_iter().map(
            |At {
                 span,
                 value: FileUse { path, kind },
             }| SecretFile {
                path,
                rule: RuleId(id),
                kind,
                place: out.place_of(span.start),
            },
        ));
    }
    (rules, files)
}

/// Adds to a sum. Whether it was within the limit before and is not now: once for a policy.
fn exceeds(sum: &mut usize, more: usize, limit: usize) -> bool {
    let before = *sum;
    *sum += more;
    before <= limit && *sum > limit
}

/// The values of a list without their places.
fn plain<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
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
