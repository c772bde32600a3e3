//! Single values of a policy: from a TOML value to its meaning, or to what is wrong with it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::diagnostic::Problem;
use super::glob::Glob;
use super::schema::nearest;
use super::stream_type;

/// A text of the file as messages show it: quoted, control characters escaped, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{:?}...", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// What a value is, for a message that it should be something else.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {}", quoted(number.as_str()).trim_matches('"')),
        DeValue::Float(_) => "a fraction".to_owned(),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn expected(what: &str, value: &DeValue<'_>, remedy: &str) -> Problem {
    Problem::new(format!("expected {what}, found {}", found(value)), remedy)
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Problem> {
    value
        .as_bool()
        .ok_or_else(|| expected("true or false", value, "write true or false without quotes"))
}

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Problem> {
    value
        .as_str()
        .ok_or_else(|| expected("a text", value, "write it in double quotes"))
}

/// A whole number within a range.
pub(super) fn integer<T: TryFrom<u64>>(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<T, Problem> {
    let (low, high) = (range.start(), range.end());
    let remedy = format!("write a whole number from {low} to {high}");
    let number = value
        .as_integer()
        .ok_or_else(|| expected("a whole number", value, &remedy))?;
    let number = u64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|number| range.contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Problem::new(format!("{} is not between {low} and {high}", found(value)), remedy))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Problem> {
    let words = choices.iter().map(|(word, _)| *word);
    let listed = words
        .clone()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let Some(text) = value.as_str() else {
        return Err(expected("a text", value, &format!("write one of {listed}")));
    };
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            let meant = nearest(text, words)
                .map(|word| format!("did you mean {word:?}? "))
                .unwrap_or_default();
            Problem::new(
                format!("{} is not a known value", quoted(text)),
                format!("{meant}write one of {listed}"),
            )
        })
}

/// The units of durations, in nanoseconds, the largest first.
const DURATIONS: [(&str, u64); 4] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];
/// Those that are too fine for anything but the accuracy of a clock.
const FINE_DURATIONS: [(&str, u64); 3] = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// A duration such as `"500ms"`, `"2s"`, `"1m"` or `"1h"`, within a range.
pub(super) fn duration(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    const REMEDY: &str = "write a whole number and ms, s, m or h in quotes, such as \"500ms\" or \"2s\"";
    duration_in(value, range, &DURATIONS, REMEDY)
}

/// A short duration such as `"500ns"`, `"1us"` or `"1ms"`, within a range.
pub(super) fn fine_duration(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    const REMEDY: &str = "write a whole number and ns, us or ms in quotes, such as \"500ns\"";
    duration_in(value, range, &FINE_DURATIONS, REMEDY)
}

fn duration_in(
    value: &DeValue<'_>,
    range: &RangeInclusive<Duration>,
    units: &[(&str, u64)],
    remedy: &str,
) -> Result<Duration, Problem> {
    let text = value.as_str().ok_or_else(|| expected("a duration", value, remedy))?;
    let (number, unit) = number_and_unit(text, units)
        .ok_or_else(|| Problem::new(format!("{} is not a duration", quoted(text)), remedy))?;
    let length = number
        .and_then(|number| number.checked_mul(unit))
        .map(Duration::from_nanos);
    length.filter(|length| range.contains(length)).ok_or_else(|| {
        let bounds = format!("{} to {}", spelled(*range.start()), spelled(*range.end()));
        Problem::new(
            format!("{} is out of range", quoted(text)),
            format!("write a duration from {bounds}"),
        )
    })
}

/// A whole number, `None` inside where it is beyond 64 bits, and what the unit behind it stands for.
fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<(Option<u64>, u64)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).filter(|_| digits > 0)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((number.parse().ok(), *factor))
}

/// A duration as a policy would spell it, in the largest unit that needs no fraction.
pub(super) fn spelled(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let mut units = DURATIONS.iter().chain(&FINE_DURATIONS);
    match units.find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(u128::from(*unit))) {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => "0ms".to_owned(),
    }
}

/// The units of bit rates in bits per second, the largest first.
const RATES: [(&str, u64); 4] = [
    ("Gbps", 1_000_000_000),
    ("Mbps", 1_000_000),
    ("kbps", 1_000),
    ("bps", 1),
];
/// The highest bit rate that a policy may name: no interface of the appliance's kind carries more.
const MAX_RATE: u64 = 400_000_000_000;

/// A bit rate such as `"25Mbps"` in bits per second.
pub(super) fn bitrate(value: &DeValue<'_>) -> Result<u64, Problem> {
    const REMEDY: &str =
        "write a whole number and bps, kbps, Mbps or Gbps in quotes, such as \"25Mbps\" or \"1500kbps\"";
    let text = value.as_str().ok_or_else(|| expected("a bit rate", value, REMEDY))?;
    let Some((number, unit)) = number_and_unit(text, &RATES) else {
        let same = |(name, _): &&(&str, u64)| {
            text.get(text.len().saturating_sub(name.len())..)
                .is_some_and(|end| end.eq_ignore_ascii_case(name))
        };
        let meant = RATES
            .iter()
            .find(same)
            .and_then(|(name, _)| Some(format!("{}{name}", text.get(..text.len() - name.len())?)))
            .filter(|meant| number_and_unit(meant, &RATES).is_some())
            .map(|meant| format!("did you mean {meant:?}? "));
        return Err(Problem::new(
            format!("{} is not a bit rate", quoted(text)),
            format!("{}{REMEDY}", meant.unwrap_or_default()),
        ));
    };
    let rate = number.and_then(|number| number.checked_mul(unit));
    rate.filter(|rate| (1..=MAX_RATE).contains(rate)).ok_or_else(|| {
        Problem::new(
            format!("{} is out of range", quoted(text)),
            format!("write a bit rate from 1bps to {}", spelled_rate(MAX_RATE)),
        )
    })
}

/// A bit rate as a policy would spell it, in the largest unit that needs no fraction.
pub(super) fn spelled_rate(rate: u64) -> String {
    let whole = RATES.iter().find(|(_, unit)| rate > 0 && rate.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{rate}bps"), |(name, unit)| format!("{}{name}", rate / unit))
}

/// A PID, or a range of PIDs in quotes, as (lowest, highest).
pub(super) fn pids(value: &DeValue<'_>) -> Result<(u16, u16), Problem> {
    const REMEDY: &str = "write a PID from 0 to 8191 without quotes, or a range in quotes such as \"256-511\"";
    if value.is_integer() {
        let pid = integer(value, 0..=MAX_PID)?;
        return Ok((pid, pid));
    }
    let text = value
        .as_str()
        .ok_or_else(|| expected("a PID or a range of PIDs", value, REMEDY))?;
    let wrong = || Problem::new(format!("{} is not a range of PIDs", quoted(text)), REMEDY);
    let pid = |text: &str| {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
        let number = u16::from_str_radix(digits, radix)
            .ok()
            .filter(|pid| u64::from(*pid) <= MAX_PID);
        number.filter(|_| !digits.starts_with('+'))
    };
    let (low, high) = text.split_once('-').ok_or_else(wrong)?;
    let (from, to) = (pid(low).ok_or_else(wrong)?, pid(high).ok_or_else(wrong)?);
    if from > to {
        let message = format!("the range {} runs backwards", quoted(text));
        return Err(Problem::new(message, format!("write \"{high}-{low}\"")));
    }
    Ok((from, to))
}

/// The highest PID: 13 bits (ISO/IEC 13818-1 2.4.3.3).
const MAX_PID: u64 = 8191;

/// A stream type by number or by name.
pub(super) fn stream_type(value: &DeValue<'_>) -> Result<u8, Problem> {
    let remedy =
        "write its number from 0 to 255, or a name such as \"h264\", \"h265\", \"aac\" or \"scte35\" in quotes";
    if value.is_integer() {
        return integer(value, 0..=255);
    }
    let text = value.as_str().ok_or_else(|| expected("a stream type", value, remedy))?;
    stream_type::by_name(text).ok_or_else(|| {
        let meant = nearest(text, stream_type::names())
            .map(|name| format!("did you mean {name:?}? "))
            .unwrap_or_default();
        Problem::new(
            format!("{} is not a known stream type", quoted(text)),
            format!("{meant}{remedy}"),
        )
    })
}

/// A glob over stream ids, applications or stream keys.
pub(super) fn glob(value: &DeValue<'_>) -> Result<Glob, Problem> {
    glob_of(text(value)?)
}

/// A glob, from a text of the policy.
pub(super) fn glob_of(text: &str) -> Result<Glob, Problem> {
    Glob::new(text).map_err(|error| {
        Problem::new(
            error.to_string(),
            "\"*\", \"?\" and \"[a-z]\" are wildcards; \"\\\\\" makes one literal",
        )
    })
}

/// An address or a network in CIDR notation, without host bits.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<IpNet, Problem> {
    const REMEDY: &str = "write an address or a network, such as \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"";
    let text = value
        .as_str()
        .ok_or_else(|| expected("an address or network", value, REMEDY))?;
    let (address, length) = text
        .split_once('/')
        .map_or((text, None), |(address, length)| (address, Some(length)));
    let wrong = || Problem::new(format!("{} is neither an address nor a network", quoted(text)), REMEDY);
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    reject_mapped(address)?;
    let Some(length) = length else { return host(address) };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let all_digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = length
        .parse::<u8>()
        .ok()
        .filter(|length| all_digits && *length <= longest)
        .ok_or_else(|| {
            Problem::new(
                format!("{} has no valid prefix length", quoted(text)),
                format!("write a length from 0 to {longest} after the \"/\""),
            )
        })?;
    let net = IpNet::new(address, length).map_err(|_| wrong())?;
    if net.trunc() != net {
        return Err(Problem::new(
            format!("{} has bits set beyond its prefix length", quoted(text)),
            format!(
                "write \"{}\" for the network or \"{address}\" for the one host",
                net.trunc()
            ),
        ));
    }
    Ok(net)
}

/// A single address, as a network of one.
fn host(address: IpAddr) -> Result<IpNet, Problem> {
    if address.is_unspecified() {
        return Err(Problem::new(
            format!("no packet has the address {address}"),
            format!("write \"{address}/0\" for every address of the family"),
        ));
    }
    Ok(IpNet::from(address))
}

/// An IPv4 packet's source never looks like `::ffff:192.0.2.1`, so such a prefix would silently match nothing.
fn reject_mapped(address: IpAddr) -> Result<(), Problem> {
    let IpAddr::V6(v6) = address else { return Ok(()) };
    v6.to_ipv4_mapped().map_or(Ok(()), |v4| {
        Err(Problem::new(
            format!("{v6} is an IPv4 address in IPv6 dress, which no packet on the wire has"),
            format!("write it as IPv4, {v4}"),
        ))
    })
}

/// A port, or a range of ports in quotes, as (lowest, highest).
pub(super) fn ports(value: &DeValue<'_>) -> Result<(u16, u16), Problem> {
    const REMEDY: &str = "write a port from 1 to 65535 without quotes, or a range in quotes such as \"6000-6010\"";
    if value.is_integer() {
        let port = integer(value, 1..=65535)?;
        return Ok((port, port));
    }
    let text = value
        .as_str()
        .ok_or_else(|| expected("a port or a range of ports", value, REMEDY))?;
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let wrong = || Problem::new(format!("{} is not a range of ports", quoted(text)), REMEDY);
    let (low, high) = text.split_once('-').ok_or_else(wrong)?;
    let (low, high) = (port(low).ok_or_else(wrong)?, port(high).ok_or_else(wrong)?);
    if low > high {
        let remedy = format!("write \"{high}-{low}\"");
        return Err(Problem::new(
            format!("the range {} runs backwards", quoted(text)),
            remedy,
        ));
    }
    Ok((low, high))
}

/// A GWLB endpoint id: 64 bits, as a number or as hexadecimal text.
pub(super) fn endpoint(value: &DeValue<'_>) -> Result<u64, Problem> {
    const REMEDY: &str = "write the id as a number or as \"0x\" and up to 16 hexadecimal digits in quotes";
    if value.is_integer() {
        return integer(value, 0..=u64::MAX);
    }
    let text = value
        .as_str()
        .ok_or_else(|| expected("an endpoint id", value, REMEDY))?;
    let digits = text
        .strip_prefix("0x")
        .filter(|d| d.len() <= 16 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Problem::new(format!("{} is not an endpoint id", quoted(text)), REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    fn written(text: &str) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(text))
    }

    proptest! {
        #[test]
        fn what_is_spelled_reads_as_it_was(nanos in prop_oneof![0u64..5_000, any::<u64>()], unit in 0u32..4) {
            let any_length = Duration::ZERO..=Duration::MAX;
            let fine = Duration::from_nanos(nanos);
            prop_assert_eq!(fine_or_coarse(&spelled(fine), &any_length), Some(fine));
            let rate = (nanos % MAX_RATE / 1000_u64.pow(unit) * 1000_u64.pow(unit)).max(1);
            prop_assert_eq!(bitrate(&written(&spelled_rate(rate))).ok(), Some(rate));
        }

        #[test]
        fn pid_ranges_are_read_in_either_base(low in 0u16..=8191, high in 0u16..=8191) {
            for text in [format!("{low}-{high}"), format!("{low:#x}-{high:#06x}"), format!("{low}-{high:#X}").replace("0X", "0x")] {
                prop_assert_eq!(pids(&written(&text)).ok(), (low <= high).then_some((low, high)), "{}", text);
            }
        }
    }

    fn fine_or_coarse(text: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let value = written(text);
        fine_duration(&value, range).or_else(|_| duration(&value, range)).ok()
    }
}
