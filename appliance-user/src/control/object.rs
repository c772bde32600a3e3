//! The XDP program's object file, as it is built into this binary.

/// The object file; `None` in a binary that was built without it.
pub const OBJECT: Option<&[u8]> = None;
