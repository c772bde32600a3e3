//! A prefix trie over both address families.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// A map from prefixes of both families to values.
#[derive(Clone, Debug)]
pub(super) struct PrefixTrie<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T: Default> PrefixTrie<T> {
    pub(super) fn new() -> Self {
        PrefixTrie {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
        }
    }

    /// The value of exactly this prefix, made if there is none.
    pub(super) fn at(&mut self, prefix: IpNet) -> &mut T {
        match prefix {
            IpNet::V4(prefix) => self.v4.entry(prefix).or_default(),
            IpNet::V6(prefix) => self.v6.entry(prefix).or_default(),
        }
    }

    /// The values of every prefix that covers this one, itself included, the shortest first.
    pub(super) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = &T> {
        let (v4, v6) = match prefix {
            IpNet::V4(prefix) => (Some(self.v4.cover_values(&prefix)), None),
            IpNet::V6(prefix) => (None, Some(self.v6.cover_values(&prefix))),
        };
        v4.into_iter().flatten().chain(v6.into_iter().flatten())
    }

    /// Every prefix, IPv4 before IPv6, each in ascending order.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.v4.keys().map(IpNet::V4).chain(self.v6.keys().map(IpNet::V6))
    }
}
