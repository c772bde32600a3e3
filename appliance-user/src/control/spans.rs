//! The kernel's whitelist as it is written into the maps: prefixes in, sorted spans and screens out.

use ipnet::IpNet;
use tidegate_common::maps::{Admit, Screen, Span4, Span6};

/// The addresses of one family, cut into spans.
pub struct Listing<S> {
    /// What the program looks at first.
    pub screen: Screen,
    /// Ascending and without gaps, the first at address 0. No two neighbours have one answer.
    pub spans: Vec<S>,
}

/// A span before it is written for the kernel: the first address, left-aligned in 128 bits, and [`Admit::answer`].
type Cut = (u128, u32);

/// The spans of the IPv4 prefixes among these. Of a prefix that stands there twice the later counts.
pub fn v4(prefixes: &[(IpNet, Admit)]) -> Listing<Span4> {
    listing(prefixes, true, |(start, answer)| Span4 {
        start: (start >> 96) as u32,
        answer,
    })
}

/// The spans of the IPv6 prefixes among these.
pub fn v6(prefixes: &[(IpNet, Admit)]) -> Listing<Span6> {
    listing(prefixes, false, |(start, answer)| Span6::new(start, answer))
}

fn listing<S>(prefixes: &[(IpNet, Admit)], is_v4: bool, span: impl Fn(Cut) -> S) -> Listing<S> {
    let mut listed: Vec<(u128, u8, u32)> = prefixes
        .iter()
        .filter(|(prefix, _)| prefix.addr().is_ipv4() == is_v4)
        .map(|(prefix, admit)| (first(*prefix), prefix.prefix_len(), Admit::answer(Some(*admit))))
        .collect();
    // Stable: what stands twice keeps its order.
    listed.sort_by_key(|(start, length, _)| (*start, *length));
    let cuts = cuts(&listed);
    let mut screen = Screen {
        spans: u32::try_from(cuts.len()).unwrap_or(u32::MAX),
        ..Screen::EMPTY
    };
    let ends = cuts.iter().skip(1).map(|(start, _)| start - 1).chain([u128::MAX]);
    for ((start, _), end) in cuts.iter().zip(ends).filter(|((_, answer), _)| *answer != 0) {
        screen.open((start >> 112) as u16, (end >> 112) as u16);
    }
    Listing {
        screen,
        spans: cuts.into_iter().map(span).collect(),
    }
}

/// A prefix's first address, left-aligned.
fn first(prefix: IpNet) -> u128 {
    match prefix {
        IpNet::V4(net) => u128::from(net.network().to_bits()) << 96,
        IpNet::V6(net) => net.network().to_bits(),
    }
}

/// Cuts along the borders of sorted prefixes. Prefixes nest or are apart, so those that hold the address looked at form a
/// stack with the longest on top.
fn cuts(listed: &[(u128, u8, u32)]) -> Vec<Cut> {
    let mut cuts = vec![(0, 0)];
    let mut open: Vec<(u128, u32)> = Vec::new();
    for (start, length, answer) in listed {
        close(&mut open, &mut cuts, Some(*start));
        cut(&mut cuts, *start, *answer);
        let last = start | u128::MAX.checked_shr(u32::from(*length)).unwrap_or(0);
        open.push((last, *answer));
    }
    close(&mut open, &mut cuts, None);
    cuts
}

/// Ends the open prefixes that end before an address, or all of them.
fn close(open: &mut Vec<(u128, u32)>, cuts: &mut Vec<Cut>, before: Option<u128>) {
    while let Some((last, _)) = open.pop_if(|(last, _)| before.is_none_or(|start| *last < start)) {
        let around = open.last().map_or(0, |(_, answer)| *answer);
        if let Some(next) = last.checked_add(1) {
            cut(cuts, next, around);
        }
    }
}

/// From this address on the answer is another; the last word on an address counts.
fn cut(cuts: &mut Vec<Cut>, start: u128, answer: u32) {
    cuts.pop_if(|(at, _)| *at == start);
    if cuts.last().is_none_or(|(_, before)| *before != answer) {
        cuts.push((start, answer));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use tidegate_common::maps::{FailureAction, MAX_PREFIXES, MAX_SPANS};

    use super::*;

    fn any_prefixes() -> impl Strategy<Value = Vec<(IpNet, Admit)>> {
        let bits = prop_oneof![
            any::<u128>(),
            Just(0),
            Just(u128::MAX),
            (0u128..4).prop_map(|n| n << 112),
            (0u128..4).prop_map(|n| n << 96)
        ];
        let length = prop_oneof![0u8..=32, Just(16), Just(32)];
        let action = prop::option::of(prop::sample::select(vec![FailureAction::Return, FailureAction::Drop]));
        let prefix =
            (any::<bool>(), bits, length, any::<bool>(), action).prop_map(|(is_v4, bits, length, long, action)| {
                let net = if is_v4 {
                    IpNet::new(IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)), length)
                } else {
                    IpNet::new(
                        IpAddr::V6(Ipv6Addr::from_bits(bits)),
                        length + if long { 96 } else { 0 },
                    )
                };
                (net.expect("a length of the family").trunc(), Admit::new(action))
            });
        prop::collection::vec(prefix, 0..30)
    }

    /// What the longest of the prefixes that hold an address says, the later of two that are equal.
    fn naive(listed: &[(IpNet, Admit)], address: IpAddr) -> u32 {
        let holding = listed.iter().filter(|(prefix, _)| prefix.contains(&address));
        Admit::answer(
            holding
                .max_by_key(|(prefix, _)| prefix.prefix_len())
                .map(|(_, admit)| *admit),
        )
    }

    fn is_open(screen: &Screen, start: u16) -> bool {
        screen.bits[usize::from(start / 64)] >> (start % 64) & 1 == 1
    }

    proptest! {
        #[test]
        fn spans_answer_as_the_longest_prefix_does(listed in any_prefixes()) {
            let (four, six) = (v4(&listed), v6(&listed));
            prop_assert_eq!((four.spans[0].start, six.spans[0].high, six.spans[0].low), (0, 0, 0));
            prop_assert_eq!((four.screen.spans as usize, six.screen.spans as usize), (four.spans.len(), six.spans.len()));
            for (at, span) in four.spans.iter().enumerate() {
                let last = four.spans.get(at + 1).map_or(u32::MAX, |next| next.start - 1);
                prop_assert!(span.start <= last);
                for address in [span.start, last, span.start + (last - span.start) / 2] {
                    prop_assert_eq!(span.answer, naive(&listed, IpAddr::V4(Ipv4Addr::from_bits(address))));
                    prop_assert!(span.answer == 0 || is_open(&four.screen, (address >> 16) as u16));
                }
            }
            for (at, span) in six.spans.iter().enumerate() {
                let first = |span: &Span6| u128::from(span.high) << 64 | u128::from(span.low);
                let last = six.spans.get(at + 1).map_or(u128::MAX, |next| first(next) - 1);
                for address in [first(span), last, first(span) + (last - first(span)) / 2] {
                    prop_assert_eq!(span.answer, naive(&listed, IpAddr::V6(Ipv6Addr::from_bits(address))));
                    prop_assert!(span.answer == 0 || is_open(&six.screen, (address >> 112) as u16));
                }
            }
            // Clear is everything else, or the screen would be none.
            for start in (0..=u16::MAX).step_by(251) {
                let own = |prefix: &IpNet| prefix.addr().is_ipv4() && {
                    let IpNet::V4(net) = prefix else { return false };
                    (net.network().to_bits() >> 16..=net.broadcast().to_bits() >> 16).contains(&u32::from(start))
                };
                prop_assert_eq!(is_open(&four.screen, start), listed.iter().any(|(prefix, _)| own(prefix)));
            }
        }
    }

    #[test]
    fn as_many_prefixes_as_can_be_fit_into_the_map() {
        // Every second address: no two spans can be joined.
        let hosts = (0..MAX_PREFIXES).map(|n| IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + n * 2))));
        let listed: Vec<_> = hosts.map(|host| (host, Admit::new(None))).collect();
        assert_eq!(v4(&listed).spans.len(), MAX_SPANS as usize);
        assert_eq!(v6(&listed).spans, [Span6::new(0, 0)]);
    }
}
