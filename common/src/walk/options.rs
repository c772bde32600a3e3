//! The GENEVE options: what the load balancer says in them, and whether they are sound.

use super::steps::{plus, whole};
use super::{Limits, Outer, Stop, geneve, options_end};
use crate::cursor::{Cursor, SliceCursor};
use crate::drop_reason::DropReason;
use crate::wire::geneve::{AwsOption, Geneve, OptionHeader};

/// What the load balancer's GENEVE options say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encapsulation {
    /// Endpoint id (class 0x0108 type 1).
    pub endpoint: Option<u64>,
    /// Attachment id (class 0x0108 type 2).
    pub attachment: Option<u64>,
    /// Flow cookie (class 0x0108 type 3).
    pub cookie: Option<u32>,
}

/// Which endpoint the load balancer's option names.
#[inline(always)]
pub(super) fn endpoint<L: Limits, C: Cursor>(cursor: &C, outer: &Outer, header: &Geneve) -> Result<Option<u64>, Stop> {
    let mut endpoint = None;
    each::<L, C>(cursor, outer, header, |option, at| {
        if endpoint.is_none() && option.aws() == Some(AwsOption::Endpoint) {
            endpoint = Some(u64::from_be_bytes(whole(cursor, at)?));
        }
        Ok(())
    })?;
    Ok(endpoint)
}

/// What the load balancer's options say in a frame whose outer headers were walked.
///
/// # Errors
/// Why the options are not to be believed.
pub fn encapsulation<L: Limits>(frame: &[u8], outer: &Outer) -> Result<Encapsulation, Stop> {
    let cursor = SliceCursor::new(frame);
    let header = geneve(&cursor, outer)?;
    let mut found = Encapsulation::default();
    each::<L, _>(&cursor, outer, &header, |option, at| {
        keep(&cursor, &mut found, option, at)
    })?;
    Ok(found)
}

/// Shows each option with its data's offset; the options must add up to the length in the header. A critical option is
/// fatal where the header announces one: those that are known here are not critical.
#[inline(always)]
pub(super) fn each<L: Limits, C: Cursor>(
    cursor: &C,
    outer: &Outer,
    header: &Geneve,
    mut show: impl FnMut(OptionHeader, usize) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let end = cursor.settle(options_end(outer, header));
    let mut at = plus(outer.geneve, Geneve::LEN);
    for _ in 0..L::GENEVE_OPTIONS {
        if at >= end {
            break;
        }
        let data = plus(at, OptionHeader::LEN);
        let option = OptionHeader::new(whole(cursor, at)?);
        let next = plus(data, option.data_length());
        if next > end {
            return Err(Stop::Malformed(DropReason::GeneveOptions));
        }
        if header.has_critical() && option.is_critical() {
            return Err(Stop::Malformed(DropReason::GeneveCriticalOption));
        }
        show(option, data)?;
        at = next;
    }
    if at < end { Err(Stop::BeyondLimits) } else { Ok(()) }
}

/// Takes over an option that the load balancer made; of several with one type the first counts.
fn keep<C: Cursor>(cursor: &C, found: &mut Encapsulation, option: OptionHeader, at: usize) -> Result<(), Stop> {
    match option.aws() {
        Some(AwsOption::Endpoint) if found.endpoint.is_none() => {
            found.endpoint = Some(u64::from_be_bytes(whole(cursor, at)?));
        }
        Some(AwsOption::Attachment) if found.attachment.is_none() => {
            found.attachment = Some(u64::from_be_bytes(whole(cursor, at)?));
        }
        Some(AwsOption::Cookie) if found.cookie.is_none() => {
            found.cookie = Some(u32::from_be_bytes(whole(cursor, at)?));
        }
        _ => {}
    }
    Ok(())
}
