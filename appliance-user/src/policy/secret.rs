//! Secrets of a policy: SRT passphrases. They are overwritten when they are dropped, kept once however often a policy is
//! cloned, and have neither `Display` nor `Serialize`; `Debug` shows that there is one, not what it is.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::glob::Glob;

/// The shortest passphrase in bytes that SRT takes (`SRTO_PASSPHRASE`).
pub const MIN_PASSPHRASE: usize = 10;
/// The longest passphrase in bytes that SRT takes.
pub const MAX_PASSPHRASE: usize = 79;

/// The passphrase of an SRT session: 10 to 79 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Arc<Zeroizing<Vec<u8>>>);

impl Passphrase {
    /// Takes a passphrase over, without copying it.
    ///
    /// # Errors
    /// [`PassphraseError`] where SRT would not take it.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PassphraseError> {
        match bytes.len() {
            ..MIN_PASSPHRASE => Err(PassphraseError::TooShort),
            MIN_PASSPHRASE..=MAX_PASSPHRASE => Ok(Passphrase(Arc::new(bytes))),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// The passphrase, as it goes into PBKDF2.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<passphrase>")
    }
}

/// Why SRT would not take a passphrase. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Fewer than [`MIN_PASSPHRASE`] bytes.
    #[error("the passphrase has fewer than {MIN_PASSPHRASE} bytes")]
    TooShort,
    /// More than [`MAX_PASSPHRASE`] bytes.
    #[error("the passphrase has more than {MAX_PASSPHRASE} bytes")]
    TooLong,
}

/// The passphrases of a rule and the stream ids that each is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passphrases {
    /// In the order of the file.
    by_stream_id: Vec<(Glob, Passphrase)>,
    for_all: Option<Passphrase>,
}

impl Passphrases {
    /// One passphrase for every session.
    pub fn one(passphrase: Passphrase) -> Self {
        Passphrases {
            by_stream_id: Vec::new(),
            for_all: Some(passphrase),
        }
    }

    /// Sets the passphrase of every session that has none of its own.
    pub(super) fn insert_for_all(&mut self, passphrase: Passphrase) {
        self.for_all = Some(passphrase);
    }

    /// Adds a passphrase for one stream id, or for all that a glob matches. The glob `*` is for every session, also for one
    /// whose stream id is not known.
    pub fn insert(&mut self, stream_id: Glob, passphrase: Passphrase) {
        if stream_id.as_str() == "*" {
            self.insert_for_all(passphrase);
        } else {
            self.by_stream_id.push((stream_id, passphrase));
        }
    }

    /// The passphrase of a session with this stream id: the one whose key is the very id, else the first whose glob matches,
    /// else the one for all. `None` stands for an id that is not known, because the session was joined after its handshake,
    /// and has the one for all only; a handshake without a stream id has the empty one.
    pub fn for_stream_id(&self, stream_id: Option<&str>) -> Option<&Passphrase> {
        let by_id = stream_id.and_then(|id| {
            let exact = self.by_stream_id.iter().find(|(glob, _)| glob.as_str() == id);
            exact.or_else(|| self.by_stream_id.iter().find(|(glob, _)| glob.matches(id.as_bytes())))
        });
        by_id.map(|(_, passphrase)| passphrase).or(self.for_all.as_ref())
    }

    /// Every passphrase, for a session whose stream id is not known: the key material proves which one is right.
    pub fn iter(&self) -> impl Iterator<Item = &Passphrase> {
        self.for_all
            .iter()
            .chain(self.by_stream_id.iter().map(|(_, passphrase)| passphrase))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.for_all.is_none() && self.by_stream_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    fn glob(text: &str) -> Glob {
        Glob::new(text).unwrap()
    }

    #[test]
    fn srt_takes_10_to_79_bytes() {
        let of = |length: usize| Passphrase::new(Zeroizing::new(vec![b'x'; length])).map(|p| p.as_bytes().len());
        assert_eq!(of(9), Err(PassphraseError::TooShort));
        assert_eq!(of(0), Err(PassphraseError::TooShort));
        assert_eq!((of(10), of(79)), (Ok(10), Ok(79)));
        assert_eq!(of(80), Err(PassphraseError::TooLong));
    }

    #[test]
    fn exact_ids_come_before_globs_and_globs_before_all() {
        let mut all = Passphrases::default();
        assert!(all.is_empty() && all.for_stream_id(Some("live/ch1")).is_none());
        all.insert(glob("live/*"), passphrase("for live streams"));
        all.insert(glob("live/ch*"), passphrase("never the first glob"));
        all.insert(glob("live/ch1"), passphrase("for channel one"));
        let of = |all: &Passphrases, id| all.for_stream_id(id).map(|p| p.as_bytes().to_vec());
        assert_eq!(of(&all, Some("live/ch1")), Some(b"for channel one".to_vec()));
        assert_eq!(of(&all, Some("live/ch2")), Some(b"for live streams".to_vec()));
        assert_eq!(
            (of(&all, Some("vod")), of(&all, None), of(&all, Some(""))),
            (None, None, None)
        );
        all.insert(glob("*"), passphrase("for everyone else"));
        for id in [Some("vod"), Some(""), None] {
            assert_eq!(of(&all, id), Some(b"for everyone else".to_vec()), "{id:?}");
        }
        assert_eq!(of(&all, Some("live/ch1")), Some(b"for channel one".to_vec()));
        assert_eq!(all.iter().count(), 4);
    }

    #[test]
    fn a_dump_shows_no_passphrase() {
        let mut all = Passphrases::one(passphrase("correct horse battery"));
        all.insert(glob("live/*"), passphrase("staple staple"));
        let dump = format!("{all:?} {all:#?}");
        assert!(
            dump.contains("<passphrase>") && !dump.contains("horse") && !dump.contains("staple"),
            "{dump}"
        );
    }
}
