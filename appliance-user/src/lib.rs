//! Placeholder while the workspace is laid out.

/// Everything that touches the machine.
#[cfg(feature = "appliance")]
pub mod control {
    pub mod object;
}
