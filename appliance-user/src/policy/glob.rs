//! Globs over SRT stream ids.
//!
//! A stream id is not a path: `/` is a character like any other, and braces are literal because SRT's own access control
//! syntax begins with `#!{`. `*` is any run of characters, `?` any one, `[a-z]` one of a set, `[!a-z]` one outside it, and
//! `\` takes the next character literally. Matching takes at most (glob length x id length) steps and no memory.

use std::fmt;

use zeroize::Zeroize;

/// The longest stream id of an SRT handshake in bytes (draft-sharabayko-srt 3.2.1.3); a longer glob matches nothing more.
pub const MAX_STREAM_ID: usize = 512;

/// What one position of a glob takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Run,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Token::Literal(literal) => *literal == c,
            Token::One => true,
            Token::Run => false,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// Why a text is not a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Longer than any stream id can be.
    #[error("the glob is longer than the {MAX_STREAM_ID} bytes a stream id can have")]
    TooLong,
    /// `[` without its `]`.
    #[error("\"[\" has no closing \"]\"")]
    OpenClass,
    /// `[]` or `[!]`, which no character can match.
    #[error("the set between \"[\" and \"]\" is empty")]
    EmptyClass,
    /// A range such as `z-a`.
    #[error("the range {0:?}-{1:?} runs backwards")]
    BackwardRange(char, char),
    /// `\` with nothing after it.
    #[error("the glob ends with a lone \"\\\"")]
    LoneBackslash,
}

/// One glob over SRT stream ids, RTMP applications or stream keys. It is overwritten when it is dropped, for a stream key is
/// a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    /// [`GlobError`] names what keeps the text from being one.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.len() > MAX_STREAM_ID {
            return Err(GlobError::TooLong);
        }
        // Never grown, so that no copy of a secret stays behind; and whole from the start, so that it is overwritten also
        // where the text turns out to be no glob.
        let mut glob = Glob {
            text: text.to_owned(),
            tokens: Vec::with_capacity(text.len()),
        };
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            glob.tokens.push(match c {
                '*' => Token::Run,
                '?' => Token::One,
                '[' => class(&mut chars)?,
                '\\' => Token::Literal(chars.next().ok_or(GlobError::LoneBackslash)?),
                literal => Token::Literal(literal),
            });
        }
        Ok(glob)
    }

    /// The glob as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the glob stands for one text only, itself.
    pub(super) fn is_plain(&self) -> bool {
        // An escaped character makes the text another one than the glob.
        !self.text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the whole id matches. Bytes that are not UTF-8 are taken by `*`, `?` and negated sets only.
    pub fn matches(&self, id: &[u8]) -> bool {
        let id = String::from_utf8_lossy(id);
        let mut at_token = 0;
        let mut rest = id.chars();
        // Where to go on when a later token fails: after the last run, with that run one character longer.
        let mut resume = None;
        loop {
            let token = self.tokens.get(at_token);
            if token == Some(&Token::Run) {
                at_token += 1;
                resume = Some((at_token, rest.clone()));
                continue;
            }
            let before = rest.clone();
            match (token, rest.next()) {
                (None, None) => return true,
                (Some(token), Some(c)) if token.takes(c) => at_token += 1,
                _ => {
                    let Some((token_after_run, run_end)) = resume.as_mut() else {
                        return false;
                    };
                    if before.as_str().is_empty() || run_end.next().is_none() {
                        return false;
                    }
                    at_token = *token_after_run;
                    rest = run_end.clone();
                }
            }
        }
    }
}

impl Drop for Glob {
    fn drop(&mut self) {
        self.text.zeroize();
        for token in &mut self.tokens {
            match token {
                Token::Literal(c) => c.zeroize(),
                Token::Class { ranges, .. } => ranges.iter_mut().for_each(Zeroize::zeroize),
                Token::One | Token::Run => {}
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads what follows `[` up to and with its `]`.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, GlobError> {
    let negated = chars.as_str().starts_with('!');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(GlobError::OpenClass)? {
            ']' if ranges.is_empty() => return Err(GlobError::EmptyClass),
            ']' => return Ok(Token::Class { negated, ranges }),
            '\\' => chars.next().ok_or(GlobError::OpenClass)?,
            c => c,
        };
        let mut ahead = chars.clone();
        // A "-" before the closing bracket is literal.
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(']')) | (Some('-'), None) => low,
            (Some('-'), Some('\\')) => {
                let escaped = ahead.next().ok_or(GlobError::OpenClass)?;
                *chars = ahead;
                escaped
            }
            (Some('-'), Some(high)) => {
                *chars = ahead;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(GlobError::BackwardRange(low, high));
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_whole_ids() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "live/ch1", true),
            ("#!::r=live/*", "#!::r=live/ch1,m=publish", true),
            ("#!::r=live/*", "#!::r=vod/ch1", false),
            ("#!::r=live/*", "x#!::r=live/ch1", false),
            ("#!{r=live}", "#!{r=live}", true),
            ("ch?", "ch1", true),
            ("ch?", "ch\u{e9}", true),
            ("ch?", "ch", false),
            ("ch?", "ch12", false),
            ("ch[1-3x]", "ch2", true),
            ("ch[1-3x]", "chx", true),
            ("ch[1-3x]", "ch4", false),
            ("ch[!1-3]", "ch4", true),
            ("ch[!1-3]", "ch", false),
            ("[a-]", "-", true),
            (r"[\]]", "]", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*ab", "aab", true),
            ("a**b", "ab", true),
        ];
        for (glob, id, expected) in table {
            assert_eq!(
                Glob::new(glob).unwrap().matches(id.as_bytes()),
                *expected,
                "{glob} on {id}"
            );
        }
    }

    #[test]
    fn bytes_that_are_not_text_need_a_wildcard() {
        assert!(Glob::new("ch*").unwrap().matches(b"ch\xff\xfe"));
        assert!(!Glob::new("ch").unwrap().matches(b"ch\xff"));
    }

    #[test]
    fn refuses_what_is_no_glob() {
        assert_eq!(Glob::new("[abc"), Err(GlobError::OpenClass));
        assert_eq!(Glob::new("[a-"), Err(GlobError::OpenClass));
        assert_eq!(Glob::new("[]"), Err(GlobError::EmptyClass));
        assert_eq!(Glob::new("[!]"), Err(GlobError::EmptyClass));
        assert_eq!(Glob::new("[z-a]"), Err(GlobError::BackwardRange('z', 'a')));
        assert_eq!(Glob::new("a\\"), Err(GlobError::LoneBackslash));
        assert_eq!(Glob::new(&"a".repeat(513)), Err(GlobError::TooLong));
    }

    #[test]
    fn many_runs_stay_quick() {
        let glob = Glob::new(&"*a".repeat(256)).unwrap();
        assert!(!glob.matches(&[b'b'; 512]));
        assert!(!glob.matches("ab".repeat(250).as_bytes()));
        assert!(glob.matches("ba".repeat(256).as_bytes()));
    }

    proptest! {
        /// `globset` is the independent judge, over the syntax both share (no `**`, which it reads as path segments).
        #[test]
        fn agrees_with_globset(text in "([ab/]|\\*[ab]|\\?|\\[ab\\]|\\[!a\\]|\\[a-b\\]){0,8}\\*?", id in "[abc/]{0,10}") {
            let theirs = globset::Glob::new(&text).unwrap().compile_matcher();
            let ours = Glob::new(&text).unwrap();
            prop_assert_eq!(ours.matches(id.as_bytes()), theirs.is_match_candidate(&globset::Candidate::from_bytes(id.as_bytes())));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), id in any::<Vec<u8>>()) {
            if let Ok(glob) = Glob::new(&text) {
                glob.matches(&id);
            }
        }
    }
}
