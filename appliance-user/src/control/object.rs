//! provisional
pub const OBJECT: Option<&[u8]> = None;
