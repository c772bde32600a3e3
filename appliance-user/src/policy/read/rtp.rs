//! `[rule.rtp]`.

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::{plain, protocol_section};
use crate::policy::diagnostic::{Collector, Problem};
use crate::policy::fields::Fields;
use crate::policy::rule::{MAX_SSRC, Path, Protocol, RtpRule, Rule};
use crate::policy::{schema, value};

const PATHS_REMEDY: &str = "write paths = [{ source = .., destination = .., destination_port = .. }, { .. }]";

/// Reads the section; `admitted` is the rule as far as it is read, for its addresses and ports.
pub(super) fn read(
    rule: &Fields<'_, '_>,
    admitted: &Rule,
    protocol: Option<Protocol>,
    out: &mut Collector<'_>,
) -> RtpRule {
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
        paths: read_paths(&rtp, admitted, out),
    }
}

/// The two paths of a stream that is sent twice (SMPTE ST 2022-7).
fn read_paths(rtp: &Fields<'_, '_>, admitted: &Rule, out: &mut Collector<'_>) -> Option<[Path; 2]> {
    let value = rtp.find("paths")?;
    let DeValue::Array(items) = value.get_ref() else {
        out.error(
            &value.span(),
            value::expected("a list of two paths", value.get_ref(), PATHS_REMEDY),
        );
        return None;
    };
    let (Some(first), Some(second), 2) = (items.first(), items.get(1), items.len()) else {
        let message = format!("a stream is sent on two paths, not on {}", items.len());
        out.error(&value.span(), Problem::new(message, PATHS_REMEDY));
        return None;
    };
    let paths = [first, second].map(|item| read_path(item, admitted, out));
    let [Some(one), Some(other)] = paths else { return None };
    if overlap(&one.source, &other.source) && overlap(&one.destination, &other.destination) && one.port == other.port {
        let problem = Problem::new(
            "a packet could be of both paths",
            "the paths must differ in source, destination or destination_port",
        );
        out.error(&second.span(), problem);
        return None;
    }
    Some([one, other])
}

/// One path, told where it leaves what the rule admits.
fn read_path(item: &Spanned<DeValue<'_>>, admitted: &Rule, out: &mut Collector<'_>) -> Option<Path> {
    let DeValue::Table(table) = item.get_ref() else {
        out.error(&item.span(), value::expected("a path", item.get_ref(), PATHS_REMEDY));
        return None;
    };
    let path = Fields::new(table, item.span(), &schema::PATH, out);
    let source = path.required("source", "say where the path's packets come from", out, value::prefix);
    let destination = path.required("destination", "say where the path's packets go", out, value::prefix);
    let port = path.required("destination_port", "say to which port the media goes", out, |v| {
        value::integer::<u16>(v, 1..=65535)
    });
    let read = Path {
        source: source?,
        destination: destination?,
        port: port?,
    };
    let beyond = [
        ("source", !within(&read.source, &admitted.sources)),
        (
            "destination",
            !admitted.destinations.is_empty() && !within(&read.destination, &admitted.destinations),
        ),
        (
            "destination_port",
            !admitted.ports.is_empty() && !admitted.ports.contains(read.port),
        ),
    ];
    for (key, _) in beyond.iter().filter(|(_, beyond)| *beyond) {
        let message = format!("the path's {key} is not within the rule's");
        out.error(
            &path.value_span(key),
            Problem::new(message, format!("add it to the rule's {key}")),
        );
    }
    if read.source.addr().is_ipv4() != read.destination.addr().is_ipv4() {
        let problem = Problem::new(
            "no packet has a source and a destination of different families",
            "write both as IPv4 or both as IPv6",
        );
        out.error(&path.value_span("destination"), problem);
        return None;
    }
    beyond.iter().all(|(_, beyond)| !beyond).then_some(read)
}

fn within(prefix: &IpNet, admitted: &[IpNet]) -> bool {
    // Neighbouring networks are merged, so that two halves hold a whole.
    IpNet::aggregate(&admitted.to_vec())
        .iter()
        .any(|net| net.contains(prefix))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
