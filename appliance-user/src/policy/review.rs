//! Warnings: what is allowed in a policy but probably not meant.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::diagnostic::{At, Collector, Problem};
use super::index::{Index, Union};
use super::rule::{ContinuityLimit, Protocol, Rule};
use super::trie::PrefixTrie;
use super::value::{quoted, spelled};

/// All events within this time are one incident.
const INCIDENT: Duration = Duration::from_millis(500);

/// Rules that one is compared with in full when a shadow is looked for, at most: it bounds the time that a policy takes.
const MAX_COMPARED: usize = 16;

/// Warns of everything that shows only when a rule, or all of them, are looked at as a whole.
pub(super) fn warn(rules: &[At<Rule>], index: &Index, out: &mut Collector<'_>) {
    if rules.is_empty() {
        let problem = Problem::new(
            "the policy has no rule: default_action decides on every packet",
            "add a [[rule]]",
        );
        out.warning(&(0..0), problem);
    }
    for rule in rules {
        warn_families(rule, out);
        warn_open_replies(rule, out);
    }
    warn_shadowed(rules, index, out);
}

/// Warns of each prefix that another prefix of the same list covers, or that stands there twice.
pub(super) fn warn_repeated(items: &[At<IpNet>], out: &mut Collector<'_>) {
    let mut trie = PrefixTrie::<Vec<IpNet>>::new();
    for item in items {
        trie.at(item.value).push(item.value);
    }
    let mut seen = HashMap::new();
    for item in items {
        let prefix = item.value;
        let remedy = "remove it";
        if let Some(first) = seen.insert(prefix, item.span.start) {
            let message = format!("{prefix} stands in this list already, at line {}", out.line(first));
            out.warning(&item.span, Problem::new(message, remedy));
        } else if let Some(cover) = trie.covering(prefix).flatten().find(|cover| **cover != prefix) {
            out.warning(
                &item.span,
                Problem::new(format!("{prefix} is covered by {cover} of this list"), remedy),
            );
        }
    }
}

/// Warns of a limit that no stream can exceed.
pub(super) fn warn_unreachable(limit: &ContinuityLimit, span: &Range<usize>, out: &mut Collector<'_>) {
    let later = limit.window.as_millis() / INCIDENT.as_millis();
    if u128::from(limit.max_incidents) <= later {
        return;
    }
    let message = format!(
        "this limit can never be exceeded: events within 500ms are one incident, so at most {} fit into {}",
        later + 1,
        spelled(limit.window)
    );
    let needed = INCIDENT.saturating_mul(limit.max_incidents);
    let remedy = format!(
        "set max_incidents to {later} at most, or window to {} at least",
        spelled(needed)
    );
    out.warning(span, Problem::new(message, remedy));
}

/// Warns of sources that can never match because no destination is of their family, and the other way round.
fn warn_families(rule: &At<Rule>, out: &mut Collector<'_>) {
    let Rule {
        name,
        sources,
        destinations,
        ..
    } = &rule.value;
    if destinations.is_empty() {
        return;
    }
    for (is_v4, family) in [(true, "IPv4"), (false, "IPv6")] {
        let has = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.addr().is_ipv4() == is_v4);
        let (these, others) = match (has(sources), has(destinations)) {
            (true, false) => ("sources", "destination"),
            (false, true) => ("destinations", "source"),
            _ => continue,
        };
        let message = format!(
            "the {family} {these} of rule {} never match: it has no {family} {others}",
            quoted(name)
        );
        out.warning(
            &rule.span,
            Problem::new(message, format!("add one, or remove the {family} {these}")),
        );
    }
}

/// Warns of a rule that opens the kernel's whitelist to every address because its receivers may be anywhere.
fn warn_open_replies(rule: &At<Rule>, out: &mut Collector<'_>) {
    let Rule {
        name,
        protocol,
        sources,
        ..
    } = &rule.value;
    if !rule.value.replies_from_anywhere() {
        return;
    }
    let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let opened = |all: &&IpNet| {
        !sources.contains(all)
            && sources
                .iter()
                .any(|source| source.addr().is_ipv4() == all.addr().is_ipv4())
    };
    let opened: Vec<_> = everywhere.iter().filter(opened).map(IpNet::to_string).collect();
    if opened.is_empty() {
        return;
    }
    let message = format!(
        "rule {} has no destination, so the kernel must admit {} for the replies of protocol {:?}",
        quoted(name),
        opened.join(" and "),
        protocol.name()
    );
    out.warning(&rule.span, Problem::new(message, "list the receivers in destination"));
}

/// Warns of each rule that lists nothing that an earlier rule would not take first.
///
/// The index names the earlier rules that take the corners of what a rule lists, and only those are compared with it in full,
/// the first [`MAX_COMPARED`] of them. Hardly ever is there another than the one that shadows it; rules that are made for it
/// could hide a shadow behind so many that take the corners and not what lies between. Nor is it told where several rules
/// together take what a rule lists and none of them all of it.
fn warn_shadowed(rules: &[At<Rule>], index: &Index, out: &mut Collector<'_>) {
    // Made when a rule is first compared with.
    let mut unions: HashMap<u32, (Union, Union)> = HashMap::new();
    for (number, rule) in (0u32..).zip(rules) {
        let mut earlier = index.takers_of_corners(number, &rule.value).take(MAX_COMPARED);
        let shadow = earlier.find_map(|number| {
            let other = rules.get(number as usize)?;
            let (sources, destinations) = unions
                .entry(number)
                .or_insert_with(|| (Union::of(&other.value.sources), Union::of(&other.value.destinations)));
            let covers = covers_rest(&other.value, &rule.value)
                && sources.holds_all(&rule.value.sources)
                && (other.value.destinations.is_empty()
                    || !rule.value.destinations.is_empty() && destinations.holds_all(&rule.value.destinations));
            covers.then_some(other)
        });
        if let Some(other) = shadow {
            let (name, other_name) = (quoted(&rule.value.name), quoted(&other.value.name));
            let line = out.line(other.span.start);
            let message =
                format!("rule {name} never sees what it lists: rule {other_name} of line {line} takes all of it");
            out.warning(
                &rule.span,
                Problem::new(message, "put it before the other, or remove it"),
            );
        }
    }
}

/// Whether the other rule takes every transport, port and endpoint that this one lists.
fn covers_rest(other: &Rule, rule: &Rule) -> bool {
    let transport = other.protocol == Protocol::Any
        || rule.protocol != Protocol::Any && (other.protocol == Protocol::Rtmp) == (rule.protocol == Protocol::Rtmp);
    let ports = other.ports.is_empty() || !rule.ports.is_empty() && rule.ports.is_subset(&other.ports);
    let listed = |id: &u64| other.endpoints.binary_search(id).is_ok();
    let endpoints = other.endpoints.is_empty() || !rule.endpoints.is_empty() && rule.endpoints.iter().all(listed);
    transport && ports && endpoints
}
