//! Reading a table of the policy key by key, every error told where it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Collector, Problem};
use super::schema::Section;
use super::value::expected;

/// A table whose keys were compared with its section.
pub(super) struct Fields<'v, 'i> {
    table: &'v DeTable<'i>,
    span: Range<usize>,
    section: &'static Section,
}

impl<'v, 'i> Fields<'v, 'i> {
    /// Takes a table up, telling of every key that does not belong into the section or has no meaning yet.
    pub(super) fn new(
        table: &'v DeTable<'i>,
        span: Range<usize>,
        section: &'static Section,
        out: &mut Collector<'_>,
    ) -> Self {
        for key in table.keys() {
            if let Some(problem) = section.problem(key.get_ref()) {
                out.error(&key.span(), problem);
            }
        }
        Fields { table, span, section }
    }

    /// The bytes that stand for the whole table: its header, or its braces.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The bytes of a key's value, or of the whole table where the key is absent.
    pub(super) fn value_span(&self, key: &str) -> Range<usize> {
        self.find(key).map_or_else(|| self.span(), Spanned::span)
    }

    /// The bytes of a key itself, if it is there.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table
            .keys()
            .find(|known| known.get_ref() == key)
            .map(Spanned::span)
    }

    pub(super) fn find(&self, key: &str) -> Option<&'v Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// A value, or `None` where it is absent or wrong.
    pub(super) fn value<T>(
        &self,
        key: &str,
        out: &mut Collector<'_>,
        read: impl FnOnce(&'v DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.find(key)?;
        read(value.get_ref())
            .map_err(|problem| out.error(&value.span(), problem))
            .ok()
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        hint: &str,
        out: &mut Collector<'_>,
        read: impl FnOnce(&'v DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        self.require(key, hint, out);
        self.value(key, out, read)
    }

    /// Tells that a key is missing, unless it is there in another spelling, which has been told by then.
    pub(super) fn require(&self, key: &str, hint: &str, out: &mut Collector<'_>) {
        let mistyped = || {
            self.table
                .keys()
                .any(|typed| self.section.meant(typed.get_ref()) == Some(key))
        };
        if self.find(key).is_none() && !mistyped() {
            let problem = Problem::new(format!("the key {key:?} is missing in {}", self.section.title), hint);
            out.error(&self.span, problem);
        }
    }

    /// The items of a list that are right; empty where the key is absent.
    pub(super) fn items<T>(
        &self,
        key: &str,
        out: &mut Collector<'_>,
        read: impl Fn(&'v DeValue<'i>) -> Result<T, Problem>,
    ) -> Vec<At<T>> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let problem = expected(
                "a list",
                value.get_ref(),
                "put square brackets around it, even around one",
            );
            out.error(&value.span(), problem);
            return Vec::new();
        };
        let mut read_items = Vec::with_capacity(items.len());
        for item in items.iter() {
            match read(item.get_ref()) {
                Ok(value) => read_items.push(At {
                    span: item.span(),
                    value,
                }),
                Err(problem) => out.error(&item.span(), problem),
            }
        }
        read_items
    }

    /// Tells that a list is there but empty, where that would admit nothing.
    pub(super) fn refuse_empty(&self, key: &str, remedy: &str, out: &mut Collector<'_>) {
        let Some(value) = self.find(key) else { return };
        if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
            out.error(
                &value.span(),
                Problem::new(format!("{key:?} is empty and would admit nothing"), remedy),
            );
        }
    }

    /// A table within this one.
    pub(super) fn table(
        &self,
        key: &str,
        section: &'static Section,
        out: &mut Collector<'_>,
    ) -> Option<Fields<'v, 'i>> {
        let value = self.find(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            let remedy = "write its keys in braces, or below a header of its own in square brackets";
            out.error(&value.span(), expected("a table", value.get_ref(), remedy));
            return None;
        };
        Some(Fields::new(table, value.span(), section, out))
    }
}
