//! The operator's policy: parsed, validated and compiled once into an immutable [`Policy`].
//!
//! Pure: text in, policy or errors out. Nothing here reads files, knows the time or keeps state, so a snapshot may be shared
//! by every worker.
//!
//! # Which rule a packet belongs to
//! Rules are asked in the order of the file and the first that takes a packet has it. A rule takes a packet by its source,
//! destination, destination port, GWLB endpoint and IP transport. Besides the ports it lists, a rule takes the companions of
//! its protocol without their being listed: RTCP on P+1 (rtp, rtp-fec, rist), FEC on P+2 and P+4 (rtp-fec). A companion
//! port is given up to a later rule that lists that very port and would have the packet if it were not for companions, so
//! that streams on neighbouring ports do not steal from each other. A later rule for any port gets no companions.

pub mod action;
mod compile;
mod describe;
mod diagnostic;
mod fields;
mod files;
pub mod glob;
mod index;
mod kernel;
mod read;
mod review;
pub mod rule;
mod schema;
pub mod secret;
pub mod set;
pub mod stream_type;
mod trie;
mod value;

use std::net::IpAddr;

use tidegate_common::flow::Tuple;

pub use action::{DefaultAction, FailureAction};
pub use describe::Description;
pub use diagnostic::{Diagnostic, PolicyErrors};
pub use files::{ReadSecret, SecretFile, SecretKind, Unreadable};
pub use kernel::{FailureWish, KernelPrefix};
pub use read::{parse, parse_bytes};
pub use rule::{Protocol, Rule};

use index::{Found, Index};

/// The largest policy text in bytes: 1,024 for each of [`MAX_RULES`].
pub const MAX_TEXT: usize = 16 << 20;
/// The most rules a policy may have.
pub const MAX_RULES: usize = 16_384;
/// The most sources and destinations all rules together may list. The kernel holds one more of each address family: the prefix
/// that stands for every address.
pub const MAX_PREFIXES: usize = 65_535;
/// The most ports, ranges of ports and endpoints all rules together may list: it bounds the memory of a look-up's tables.
pub const MAX_PORTS: usize = 65_536;

const _: () = assert!(MAX_PREFIXES < tidegate_common::maps::MAX_PREFIXES as usize);

/// A rule's place in the file, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A compiled policy. Immutable; the generation that cached verdicts carry is attached by whoever publishes it.
#[derive(Clone, Debug)]
pub struct Policy {
    default_action: DefaultAction,
    rules: Vec<Rule>,
    index: Index,
    observes_all: bool,
    warnings: Vec<Diagnostic>,
    /// What the text refers to, in its order.
    files: Vec<SecretFile>,
    /// Whether the rules have what those files hold.
    has_secrets: bool,
}

impl Policy {
    /// What `inspect` uses without a policy: no rules, everything is returned and judged by the defaults.
    pub fn observe_all() -> Policy {
        Policy {
            observes_all: true,
            ..Policy::compile(DefaultAction::Return, Vec::new())
        }
    }

    /// Whether this is [`Policy::observe_all`]: traffic that no rule admits is to be judged all the same.
    pub fn observes_all(&self) -> bool {
        self.observes_all
    }

    /// What happens to packets that no rule admits.
    pub fn default_action(&self) -> DefaultAction {
        self.default_action
    }

    /// The rules in the order of the file; [`RuleId`] indexes it.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of an id that this policy gave out.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(usize::try_from(id.0).ok()?)
    }

    /// The rule that a packet in the rule's own direction belongs to (its source is one of the rule's sources).
    pub fn match_forward(&self, tuple: &Tuple) -> Option<RuleId> {
        let Found { rule, own } = self.index.forward(tuple)?;
        // Only a rule that lists the port goes before one that takes it as a companion.
        let lists = |id: &u32| self.rule(RuleId(*id)).is_some_and(|rule| !rule.ports.is_empty());
        Some(RuleId(own.filter(|own| *own == rule || lists(own)).unwrap_or(rule)))
    }

    /// The first rule that a packet may be a reply for: it goes from one of the rule's destinations to one of its sources,
    /// and comes from the very port that its protocol replies from. That is the listed port P for srt and any, P+1 (RTCP)
    /// for rtp, rtp-fec and rist; ts-udp has no replies. A rule without ports takes replies from any. A rule without
    /// destinations takes them from anywhere if its protocol needs them (srt, rist, any), else from nowhere.
    pub fn match_reverse(&self, tuple: &Tuple) -> Option<RuleId> {
        self.index.reverse(tuple).map(RuleId)
    }

    /// Whether any rule lists this source at all, whatever its destination.
    pub fn source_listed(&self, source: IpAddr) -> bool {
        self.index.lists_source(source)
    }

    /// What the kernel lists: every source, and the destinations of rules whose protocol answers, each with the
    /// strictest failure action of all rules that cover it.
    pub fn kernel_prefixes(&self) -> Vec<KernelPrefix> {
        kernel::kernel_prefixes(&self.rules)
    }

    /// What is allowed but probably not meant, in the order of the file.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// What the policy compiles to, for people.
    pub fn describe(&self) -> Description<'_> {
        Description(self)
    }
}

#[cfg(test)]
mod tests;
