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
