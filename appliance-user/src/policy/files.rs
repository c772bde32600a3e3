//! The files that a policy refers to: which they are, and what becomes of the policy once somebody has read them.
//!
//! Nothing here opens a file. Messages name the key of the policy, never what a file holds.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::diagnostic::{Diagnostic, Problem};
use super::glob::{Glob, GlobError};
use super::rule::Rule;
use super::secret::{Passphrase, PassphraseError};
use super::value::quoted;
use super::{Policy, PolicyErrors, RuleId};

/// The largest passphrase file in bytes: room for a passphrase, a byte order mark and line ends, and for a mistake to be seen.
const MAX_PASSPHRASE_FILE: usize = 4 << 10;
/// The largest file of stream keys in bytes.
const MAX_STREAM_KEY_FILE: usize = 64 << 10;
/// The most stream keys of one file: each `publish` is compared with all of them.
const MAX_STREAM_KEYS: usize = 1024;

/// What a file that a policy refers to holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// The passphrase of SRT sessions, alone in its file but for an end of line.
    Passphrase {
        /// The stream ids it is for, or `None` for every session.
        stream_id: Option<Glob>,
    },
    /// RTMP stream keys: globs, one a line; empty lines and what follows a `#` at the start of a line mean nothing.
    StreamKeys,
}

/// A file that a policy refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    pub(super) path: PathBuf,
    pub(super) rule: RuleId,
    pub(super) kind: SecretKind,
    pub(super) place: Place,
}

/// Where in a policy something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl SecretFile {
    /// The path as the policy has it; a relative one starts where the policy's file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rule that refers to it.
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// What it holds.
    pub fn kind(&self) -> &SecretKind {
        &self.kind
    }

    /// The most bytes that it may have.
    pub fn max_bytes(&self) -> usize {
        match self.kind {
            SecretKind::Passphrase { .. } => MAX_PASSPHRASE_FILE,
            SecretKind::StreamKeys => MAX_STREAM_KEY_FILE,
        }
    }

    fn error(&self, Unreadable { message, remedy }: Unreadable) -> Diagnostic {
        Diagnostic {
            file: self.place.file.clone(),
            line: self.place.line,
            column: self.place.column,
            message,
            remedy,
        }
    }

    /// Puts what the file holds into its rule.
    fn put(&self, rule: &mut Rule, content: Zeroizing<Vec<u8>>) -> Result<(), Unreadable> {
        if content.len() > self.max_bytes() {
            return Err(self.unfit(&format!("is longer than {} bytes", self.max_bytes()), "shorten it"));
        }
        match &self.kind {
            SecretKind::Passphrase { stream_id } => {
                let passphrase = self.passphrase(content)?;
                let passphrases = &mut rule.srt.passphrases;
                match stream_id {
                    Some(glob) => passphrases.insert(glob.clone(), passphrase),
                    None => passphrases.insert_for_all(passphrase),
                }
            }
            SecretKind::StreamKeys => rule.rtmp.stream_keys = Some(self.stream_keys(&content)?),
        }
        Ok(())
    }

    fn passphrase(&self, mut content: Zeroizing<Vec<u8>>) -> Result<Passphrase, Unreadable> {
        let alone = "write the passphrase alone into it, 10 to 79 bytes";
        let end = ["\r\n", "\n"].iter().find(|end| content.ends_with(end.as_bytes()));
        let length = content.len() - end.map_or(0, |end| end.len());
        content.truncate(length);
        if content.starts_with(BYTE_ORDER_MARK) {
            return Err(self.unfit("starts with a byte order mark", "save it as plain text"));
        }
        if content.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err(self.unfit("has more than one line", alone));
        }
        Passphrase::new(content).map_err(|error| {
            let message = match error {
                PassphraseError::TooShort => "holds fewer than the 10 bytes of the shortest passphrase",
                PassphraseError::TooLong => "holds more than the 79 bytes of the longest passphrase",
            };
            self.unfit(message, alone)
        })
    }

    fn stream_keys(&self, content: &[u8]) -> Result<Vec<Glob>, Unreadable> {
        let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
        // Never grown, so that no copy of a key stays behind; the globs' own texts do not move.
        let mut keys = Vec::with_capacity(content.split(|byte| *byte == b'\n').count().min(MAX_STREAM_KEYS));
        for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let wrong = |what: &str, remedy: &str| Err(self.unfit(&format!("has {what} in line {}", at + 1), remedy));
            let Ok(text) = std::str::from_utf8(line) else {
                return wrong("bytes that are not UTF-8", "save it as UTF-8");
            };
            let remedy = "\"*\", \"?\" and \"[a-z]\" are wildcards; \"\\\\\" makes one literal";
            match Glob::new(text) {
                Ok(_) if keys.len() == MAX_STREAM_KEYS => {
                    return wrong(
                        &format!("more than {MAX_STREAM_KEYS} stream keys"),
                        "merge keys into globs",
                    );
                }
                Ok(glob) => keys.push(glob),
                // The error of a range shows its ends, which are part of the key.
                Err(GlobError::BackwardRange(..)) => return wrong("a range that runs backwards", remedy),
                Err(GlobError::TooLong) => return wrong("a key that is too long", remedy),
                Err(GlobError::OpenClass) => return wrong("\"[\" without its \"]\"", remedy),
                Err(GlobError::EmptyClass) => return wrong("an empty set between \"[\" and \"]\"", remedy),
                Err(GlobError::LoneBackslash) => return wrong("a lone \"\\\" at the end", remedy),
            }
        }
        if keys.is_empty() {
            return Err(self.unfit(
                "lists no stream key, so nobody could publish",
                "write globs into it, one a line",
            ));
        }
        Ok(keys)
    }

    fn unfit(&self, what: &str, remedy: &str) -> Unreadable {
        Unreadable {
            message: format!("the file {} {what}", quoted(&self.path.to_string_lossy())),
            remedy: remedy.to_owned(),
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Why a file that a policy refers to cannot be used, and what to do about it. Neither may show what the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong, without a final full stop.
    pub message: String,
    /// What to do about it, without a final full stop.
    pub remedy: String,
}

/// Reads one of a policy's files; its bytes are to be overwritten when they are dropped.
pub type ReadSecret<'r> = dyn FnMut(&SecretFile) -> Result<Zeroizing<Vec<u8>>, Unreadable> + 'r;

/// A file that a key names, before its rule has a number.
pub(super) struct FileUse {
    pub(super) path: PathBuf,
    pub(super) kind: SecretKind,
}

/// A path as a key may name it.
pub(super) fn path(text: &str) -> Result<PathBuf, Problem> {
    /// The longest path that Linux takes (PATH_MAX).
    const LONGEST: usize = 4096;
    let remedy = "write the path of a file, such as \"/etc/tidegate/passphrase\"";
    if text.is_empty() || text.len() >= LONGEST || text.contains('\0') {
        return Err(Problem::new(format!("{} is not a path", quoted(text)), remedy));
    }
    if text.ends_with('/') {
        return Err(Problem::new(format!("{} is a folder", quoted(text)), remedy));
    }
    Ok(PathBuf::from(text))
}

impl Policy {
    /// The files that the policy refers to, in the order of its text.
    pub fn files(&self) -> impl Iterator<Item = &SecretFile> {
        self.files.iter()
    }

    /// The files that one rule refers to.
    pub(super) fn files_of(&self, rule: RuleId) -> impl Iterator<Item = &SecretFile> {
        // Rules come in order, and so do their files.
        let from = self.files.partition_point(|file| file.rule < rule);
        let files = self.files.get(from..).unwrap_or_default();
        files.iter().take_while(move |file| file.rule == rule)
    }

    /// Whether files are still to be read: until then what needs a passphrase stays ciphered, and rules with a file of stream
    /// keys admit none.
    pub fn lacks_secrets(&self) -> bool {
        !self.files.is_empty() && !self.has_secrets
    }

    /// The policy with what its files hold. `read` is asked for each of them, and is to return its bytes.
    ///
    /// # Errors
    /// All files that cannot be read or do not hold what they should, each at the place of the policy that names it.
    pub fn with_secrets(mut self, read: &mut ReadSecret<'_>) -> Result<Policy, PolicyErrors> {
        let mut errors = Vec::new();
        for file in &self.files {
            let Some(rule) = self.rules.get_mut(file.rule.0 as usize) else {
                continue;
            };
            if let Err(problem) = read(file).and_then(|content| file.put(rule, content)) {
                errors.push(file.error(problem));
            }
        }
        if !errors.is_empty() {
            return Err(PolicyErrors::new(errors));
        }
        self.has_secrets = true;
        Ok(self)
    }
}
