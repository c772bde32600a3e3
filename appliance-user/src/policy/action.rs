//! What happens to packets that nobody inspects. The kernel acts on these, so they are defined beside its maps.

pub use tidegate_common::maps::{DefaultAction, FailureAction};
