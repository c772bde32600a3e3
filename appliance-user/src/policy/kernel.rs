//! What the kernel's whitelist holds: prefixes of admitted sources, each with the action it takes while no worker is alive.
//!
//! The kernel knows addresses, not rules, and a longest-prefix match gives one entry only. So each prefix carries the
//! strictest action of every rule whose prefix covers it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::action::FailureAction;
use super::rule::Rule;
use super::trie::PrefixTrie;

/// One entry of the kernel's whitelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelPrefix {
    /// Inner sources that the kernel admits.
    pub prefix: IpNet,
    /// What the rules that cover the prefix ask for.
    pub wish: FailureWish,
}

/// What the rules that cover a prefix say of `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FailureWish {
    /// The strictest `on_failure` of those that have one.
    pub strictest: Option<FailureAction>,
    /// Whether one of them has none and so follows the appliance's `--on-failure`.
    pub follows_default: bool,
}

impl FailureWish {
    /// The strictest action of every rule that covers the prefix, given the appliance's `--on-failure`.
    pub fn resolve(self, on_failure: FailureAction) -> FailureAction {
        match (self.strictest, self.follows_default) {
            (Some(action), false) => action,
            (Some(action), true) => stricter(action, on_failure),
            (None, _) => on_failure,
        }
    }

    fn and(self, other: FailureWish) -> FailureWish {
        FailureWish {
            strictest: match (self.strictest, other.strictest) {
                (Some(a), Some(b)) => Some(stricter(a, b)),
                (a, b) => a.or(b),
            },
            follows_default: self.follows_default || other.follows_default,
        }
    }
}

/// The stricter of two actions: drop before pass before return.
fn stricter(a: FailureAction, b: FailureAction) -> FailureAction {
    let rank = |action| match action {
        FailureAction::Return => 0,
        FailureAction::Pass => 1,
        FailureAction::Drop => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// The prefixes that a rule needs admitted: its sources and, where its protocol answers, its receivers.
pub(super) fn prefixes_of(rule: &Rule) -> Vec<IpNet> {
    let mut prefixes = rule.sources.clone();
    if rule.protocol.reply_offset().is_none() {
        return prefixes;
    }
    for everywhere in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
        // Replies go to the rule's sources, so they are of a source's family.
        let same_family = |prefix: &&IpNet| prefix.addr().is_ipv4() == everywhere.addr().is_ipv4();
        if !rule.sources.iter().any(|source| same_family(&source)) {
            continue;
        }
        prefixes.extend(rule.destinations.iter().filter(same_family));
        if rule.replies_from_anywhere() {
            prefixes.push(everywhere);
        }
    }
    prefixes
}

/// The entries for these rules, IPv4 before IPv6, without repetition.
pub(super) fn kernel_prefixes(rules: &[Rule]) -> Vec<KernelPrefix> {
    let mut trie = PrefixTrie::<FailureWish>::new();
    for rule in rules {
        let wish = FailureWish {
            strictest: rule.on_failure,
            follows_default: rule.on_failure.is_none(),
        };
        for prefix in prefixes_of(rule) {
            let entry = trie.at(prefix);
            *entry = entry.and(wish);
        }
    }
    let covered = |prefix| {
        trie.covering(prefix)
            .fold(FailureWish::default(), |all, wish| all.and(*wish))
    };
    trie.prefixes()
        .map(|prefix| KernelPrefix {
            prefix,
            wish: covered(prefix),
        })
        .collect()
}
