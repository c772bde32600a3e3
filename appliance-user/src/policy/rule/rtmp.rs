//! What a rule says of RTMP.

use std::fmt;

use super::OnUnverified;
use crate::policy::glob::Glob;

/// What a rule says of RTMP. `Debug` does not show the stream keys: whoever knows one can publish.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RtmpRule {
    /// Applications that `connect` may name, or `None` for every one.
    pub applications: Option<Vec<Glob>>,
    /// Stream keys that `publish` may name, or `None` for every one. Empty, and so admitting none, until the file that lists
    /// them is read.
    pub stream_keys: Option<Vec<Glob>>,
    /// What happens to a connection that was joined in mid-stream, or fell silent for so long that it was forgotten.
    pub on_unverified: OnUnverified,
}

impl RtmpRule {
    /// Whether a `connect` to this application may pass.
    pub fn admits_application(&self, application: &[u8]) -> bool {
        admits(self.applications.as_deref(), application)
    }

    /// Whether a `publish` with this stream key may pass.
    pub fn admits_stream_key(&self, key: &[u8]) -> bool {
        admits(self.stream_keys.as_deref(), key)
    }
}

fn admits(globs: Option<&[Glob]>, name: &[u8]) -> bool {
    globs.is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)))
}

impl fmt::Debug for RtmpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream_keys = self.stream_keys.as_ref().map(|keys| format!("<{} globs>", keys.len()));
        f.debug_struct("RtmpRule")
            .field("applications", &self.applications)
            .field("stream_keys", &stream_keys)
            .field("on_unverified", &self.on_unverified)
            .finish()
    }
}
