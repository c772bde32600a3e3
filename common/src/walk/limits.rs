//! How far a walk may go: the kernel's limits and user space's.

/// How many repeated headers a walker follows before it gives up.
pub trait Limits {
    /// VLAN tags before the outer IP header. A frame with more is not for us: nothing in it was recognised.
    const VLAN_TAGS: usize;
    /// GENEVE options, where they are looked at.
    const GENEVE_OPTIONS: usize;
    /// IPv6 extension headers, each kind counted alike.
    const EXTENSION_HEADERS: usize;
}

/// What the kernel's verifier can follow within its budget.
#[derive(Clone, Copy, Debug)]
pub struct KernelLimits;

impl Limits for KernelLimits {
    const VLAN_TAGS: usize = 1;
    const GENEVE_OPTIONS: usize = 8;
    const EXTENSION_HEADERS: usize = 4;
}

/// What user space accepts: all options that fit (63 empty ones), and more of the others than any real sender uses.
#[derive(Clone, Copy, Debug)]
pub struct UserLimits;

impl Limits for UserLimits {
    const VLAN_TAGS: usize = 2;
    const GENEVE_OPTIONS: usize = 63;
    const EXTENSION_HEADERS: usize = 16;
}
