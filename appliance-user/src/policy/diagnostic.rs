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

/// Gathers errors and warnings while a policy is read, so that all of them are told at once.
pub(super) struct Collector<'t> {
    file: &'t str,
    text: &'t str,
    /// Byte offset of the first character of each line.
    line_starts: Vec<usize>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'t> Collector<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Collector {
            file,
            text,
            line_starts,
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
        let before = self.text.get(start..offset).map_or(0, |s| s.chars().count());
        Place {
            file: self.file.to_owned(),
            line,
            column: before + 1,
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
