//! What is wrong with a policy, and where: errors and warnings with the file, line and column they stand at.

use std::fmt;
use std::ops::Range;

use super::files::Place;

/// One error or warning of a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, without a final full stop.
    pub message: String,
    /// What to do about it, without a final full stop.
    pub remedy: String,
}

impl Diagnostic {
    fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}; {}",
            self.file, self.line, self.column, self.message, self.remedy
        )
    }
}

/// Everything that is wrong with a policy, in the order of the file. Never empty; `Display` writes one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(Vec<Diagnostic>);

impl PolicyErrors {
    /// These errors in the order of the file; at least one.
    pub(super) fn new(mut errors: Vec<Diagnostic>) -> Self {
        errors.sort_by_key(Diagnostic::place);
        PolicyErrors(errors)
    }

    /// The errors in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// What is wrong and what to do about it, before its place is known.
#[derive(Debug)]
pub(super) struct Problem {
    message: String,
    remedy: String,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// A value and the bytes of the file that it came from.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) span: Range<usize>,
    pub(super) value: T,
}

/// Bytes from one count of characters to the next.
const STEP: usize = 1024;

/// Gathers errors and warnings while a policy is read, so that all of them are told at once.
pub(super) struct Collector<'t> {
    file: &'t str,
    text: &'t str,
    /// Byte offset of the first character of each line.
    line_starts: Vec<usize>,
    /// Characters before each whole [`STEP`] of bytes, so that a place far out in a long line is found without counting its way.
    characters: Vec<usize>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'t> Collector<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let mut before = 0;
        let characters = text.as_bytes().chunks(STEP).map(|bytes| {
            let here = before;
            before += begun(bytes);
            here
        });
        Collector {
            file,
            text,
            line_starts,
            characters: characters.collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, span: &Range<usize>, problem: Problem) {
        let diagnostic = self.place(span.start, problem);
        self.errors.push(diagnostic);
    }

    pub(super) fn warning(&mut self, span: &Range<usize>, problem: Problem) {
        let diagnostic = self.place(span.start, problem);
        self.warnings.push(diagnostic);
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// The errors in the order of the file.
    pub(super) fn into_errors(self) -> PolicyErrors {
        PolicyErrors::new(self.errors)
    }

    /// The warnings in the order of the file.
    pub(super) fn into_warnings(mut self) -> Vec<Diagnostic> {
        self.warnings.sort_by_key(Diagnostic::place);
        self.warnings
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Where a byte offset is.
    pub(super) fn place_of(&self, offset: usize) -> Place {
        let line = self.line(offset);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self
            .characters_before(offset)
            .saturating_sub(self.characters_before(start));
        Place {
            file: self.file.to_owned(),
            line,
            column: before + 1,
        }
    }

    fn characters_before(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let counted = offset / STEP;
        let rest = self.text.as_bytes().get(counted * STEP..offset).unwrap_or_default();
        // There is no entry for the end of a text of whole steps.
        match self.characters.get(counted) {
            Some(before) => before + begun(rest),
            None => self.text.chars().count(),
        }
    }

    fn place(&self, offset: usize, problem: Problem) -> Diagnostic {
        let Place { file, line, column } = self.place_of(offset);
        let Problem { message, remedy } = problem;
        Diagnostic {
            file,
            line,
            column,
            message,
            remedy,
        }
    }
}

/// Characters that begin in these bytes of UTF-8: all bytes but those that continue one.
fn begun(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_however_long_the_line_is() {
        for length in [0, 1, 700, STEP / 2, STEP / 2 + 1, 3 * STEP] {
            let text = format!("first\n{}", "a\u{e9}".repeat(length));
            let out = Collector::new("p.toml", &text);
            for (offset, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
                let expected = text[line_start..offset].chars().count() + 1;
                assert_eq!(out.place_of(offset).column, expected, "{offset} of {}", text.len());
            }
        }
    }
}
