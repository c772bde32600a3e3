//! The two actions that the kernel takes on its own: for what no rule admits, and when no worker is alive.
//!
//! The same enums, with the same numbers, are values of the BPF maps in `tidegate-common`; once they live there this
//! file is a re-export of those.

/// What happens to a packet that must be forwarded while no worker is alive on its queue. The numbers are part of the
/// BPF map layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureAction {
    /// Send the packet back to the load balancer uninspected.
    Return = 0,
    /// Drop the packet.
    Drop = 1,
    /// Leave the packet to the kernel's network stack.
    Pass = 2,
}

/// What happens to a packet that no rule admits. The numbers are part of the BPF map layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DefaultAction {
    /// Drop the packet.
    Drop = 0,
    /// Send the packet back to the load balancer.
    Return = 1,
}
