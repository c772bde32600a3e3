//! Placeholder while the workspace is laid out.

#[cfg(feature = "appliance")]
pub mod io;
