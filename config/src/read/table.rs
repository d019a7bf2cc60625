//! Tables of the document, read by the key table.
//!
//! A table that is not there reads as one full of defaults. It refuses keys that the key table does not know,
//! and, when it is done, a reader that forgot one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Cell, Context, article, dotted, join, listed};
use crate::error::Draft;
use crate::keys::{Fallback, Key, Kind, Section};
use crate::near::nearest;

/// A table of the document, or the lack of one.
pub(crate) struct Table<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) path: String,
    /// Where to point when something is missing.
    pub(crate) span: Range<usize>,
    section: &'static Section,
    entries: Option<&'a DeTable<'a>>,
    /// What is missing in something that is no table at all is not worth a second mistake.
    silent: bool,
    asked: RefCell<BTreeSet<&'static str>>,
}

/// A value under one of the names of a table of tables.
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) name_span: Range<usize>,
    pub(crate) table: Table<'a>,
}

impl<'a> Table<'a> {
    /// Opens the whole document.
    pub(crate) fn root(
        context: &'a Context<'a>,
        section: &'static Section,
        entries: &'a DeTable<'a>,
    ) -> Self {
        Self::open(context, section, String::new(), 0..0, Some(entries))
    }

    fn open(
        context: &'a Context<'a>,
        section: &'static Section,
        path: String,
        span: Range<usize>,
        entries: Option<&'a DeTable<'a>>,
    ) -> Self {
        let table = Self { context, path, span, section, entries, silent: false, asked: RefCell::default() };
        table.refuse_unknown_keys();
        table
    }

    /// Whether the document has this key, right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.key_span(name).is_some()
    }

    /// Where the key itself stands.
    pub(crate) fn key_span(&self, name: &str) -> Option<Range<usize>> {
        self.entries?.get_key_value(name).map(|(key, _)| key.span())
    }

    /// Whether something else was written in its place; that was noted.
    pub(crate) fn is_no_table(&self) -> bool {
        self.silent
    }

    /// The path of one of its keys.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Reads a key's value or its default; `None` if it is wrong (noted), or absent and without default.
    pub(crate) fn get<T>(&self, name: &'static str, read: impl Fn(&Cell<'_>) -> Option<T>) -> Option<T> {
        let key = self.ask(name);
        if let Some((written, value)) = self.entries.and_then(|entries| entries.get_key_value(name)) {
            let cell = Cell { context: self.context, path: self.path_of(name), kind: key.kind, value };
            let result = read(&cell);
            self.context.place(&cell.path, covering(&written.span(), &value.span()), result.is_some());
            return result;
        }
        match key.fallback {
            Fallback::Absent(_) => None,
            Fallback::Value(literal) => {
                let value = DeValue::parse(literal).expect("a test reads every default of the key table");
                let cell =
                    Cell { context: self.context, path: self.path_of(name), kind: key.kind, value: &value };
                read(&cell)
            }
            Fallback::Required => {
                self.refuse_missing(key);
                None
            }
        }
    }

    /// Reads one of its tables; one that is not there reads as empty.
    pub(crate) fn table(&self, name: &'static str) -> Table<'a> {
        let key = self.ask(name);
        let Kind::Table(section) = key.kind else { unreachable!("`{name}` is not a table in the key table") };
        let path = self.path_of(name);
        match self.entries.and_then(|entries| entries.get_key_value(name)) {
            Some((written, value)) => self.open_value(section, path, written.span(), value),
            None => {
                let silent = self.silent;
                Self { silent, ..Self::open(self.context, section, path, self.span.clone(), None) }
            }
        }
    }

    /// Reads one of its tables, if it is there.
    pub(crate) fn table_if_written(&self, name: &'static str) -> Option<Table<'a>> {
        self.ask(name);
        self.has(name).then(|| self.table(name))
    }

    /// Reads one of its tables of tables.
    pub(crate) fn named_tables(&self, name: &'static str) -> Vec<Named<'a>> {
        let key = self.ask(name);
        let Kind::Tables(what, section) = key.kind else {
            unreachable!("`{name}` is not a table of tables in the key table")
        };
        let Some((_, value)) = self.entries.and_then(|entries| entries.get_key_value(name)) else {
            return Vec::new();
        };
        let Some(entries) = value.get_ref().as_table() else {
            let message = format!("`{name}` is {}, not a table", article(value.get_ref().type_str()));
            let hint = format!("write a table for each {what}: `[{}]`", section.title);
            self.context.note(Draft::error(value.span(), message).hint(hint));
            self.context.place(&self.path_of(name), value.span(), false);
            return Vec::new();
        };
        let path = self.path_of(name);
        if !entries.is_empty() {
            self.context.place(&path, value.span(), true);
        }
        let open = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let inner: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let table = self.open_value(section, join(&path, inner), key.span(), value);
            Named { name: inner.as_ref(), name_span: key.span(), table }
        };
        entries.iter().map(open).collect()
    }

    /// Reads one of its lists of tables.
    pub(crate) fn table_list(&self, name: &'static str) -> Vec<Table<'a>> {
        let key = self.ask(name);
        let Kind::TableList(section) = key.kind else {
            unreachable!("`{name}` is not a list of tables in the key table")
        };
        let Some((_, value)) = self.entries.and_then(|entries| entries.get_key_value(name)) else {
            return Vec::new();
        };
        let path = self.path_of(name);
        let Some(values) = value.get_ref().as_array() else {
            let message =
                format!("`{name}` is {}, not a list of tables", article(value.get_ref().type_str()));
            let hint = format!("write `[[{}]]` for each", section.title);
            self.context.note(Draft::error(value.span(), message).hint(hint));
            self.context.place(&path, value.span(), false);
            return Vec::new();
        };
        let open = |(at, value): (usize, &'a Spanned<DeValue<'a>>)| {
            self.open_value(section, join(&path, &at.to_string()), value.span(), value)
        };
        values.iter().enumerate().map(open).collect()
    }

    /// Counts a key as read although it isn't there.
    pub(crate) fn pass_over(&self, name: &'static str) {
        self.ask(name);
    }

    /// That one and only one of these keys is written; `None` after noting why not.
    pub(crate) fn exactly_one_of(
        &self,
        what: &str,
        names: &[&'static str],
        hint: &str,
    ) -> Option<&'static str> {
        self.asked.borrow_mut().extend(names);
        let mut present: Vec<_> = names
            .iter()
            .filter_map(|name| self.key_span(name).map(|span| (span.start, span, *name)))
            .collect();
        present.sort_by_key(|(start, ..)| *start);
        match present.as_slice() {
            [] if self.silent => None,
            [] => {
                self.context.note(Draft::error(self.span.clone(), format!("there is no {what}")).hint(hint));
                None
            }
            [(_, _, only)] => Some(*only),
            [(_, first, one), (_, second, other), ..] => {
                let message = format!("`{other}` stands beside `{one}`, but only one {what} is possible");
                let draft = Draft::error(second.clone(), message);
                self.context.note(draft.also(first.clone(), "the first one").hint("leave one of them out"));
                None
            }
        }
    }

    /// Ends the reading: every key of the key table must have been asked for.
    pub(crate) fn done(self) {
        let asked = self.asked.into_inner();
        for key in self.section.keys.iter().filter(|key| key.is_supported()) {
            debug_assert!(
                asked.contains(key.name),
                "`{}` of [{}] is never read",
                key.name,
                self.section.title
            );
        }
    }

    fn open_value(
        &self,
        section: &'static Section,
        path: String,
        key_span: Range<usize>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Table<'a> {
        let span = header_span(self.context.source, key_span, &value.span());
        let entries = value.get_ref().as_table();
        self.context.place(&path, span.clone(), entries.is_some());
        if entries.is_none() {
            let kind = article(value.get_ref().type_str());
            let name = path.rsplit('/').next().unwrap_or_default();
            let draft = Draft::error(value.span(), format!("`{name}` is {kind}, not a table"));
            self.context.note(draft.hint(format!("write `[{}]`, or `{name} = {{ ... }}`", dotted(&path))));
        }
        let silent = self.silent || entries.is_none();
        Self { silent, ..Self::open(self.context, section, path, span, entries) }
    }

    fn ask(&self, name: &'static str) -> &'static Key {
        self.asked.borrow_mut().insert(name);
        self.section.key(name).expect("the key table has every key that is read")
    }

    fn refuse_missing(&self, key: &Key) {
        self.context.place(&self.path_of(key.name), self.span.clone(), false);
        if self.silent || self.is_misspelled(key.name) {
            return;
        }
        let draft = Draft::error(self.span.clone(), format!("`{}` is missing", key.name));
        self.context.note(draft.hint(format!("add `{} = {}`", key.name, key.example)));
    }

    /// Whether an unknown key is there, which was answered by "did you mean this one?".
    pub(crate) fn is_misspelled(&self, name: &str) -> bool {
        let unknown = |key: &&str| self.section.key(key).is_none();
        let written = self.entries.into_iter().flatten().map(|(key, _)| key.get_ref().as_ref());
        written.filter(unknown).any(|key| self.nearest_key(key) == Some(name))
    }

    fn nearest_key(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.section.keys.iter().map(|key| key.name))
    }

    fn refuse_unknown_keys(&self) {
        for (written, _) in self.entries.into_iter().flatten() {
            let name: &str = written.get_ref();
            let draft = match self.section.key(name).map(|key| key.kind) {
                Some(Kind::Unsupported(instead)) => {
                    let message = format!("`{name}` is not supported by this version");
                    Draft::error(written.span(), message).hint(instead)
                }
                Some(Kind::Owned(owner)) => {
                    Draft::error(written.span(), format!("`{name}` cannot be set here")).hint(owner)
                }
                Some(_) => continue,
                None => self.unknown_key(name, written.span()),
            };
            self.context.place(&self.path_of(name), written.span(), false);
            self.context.note(draft);
        }
    }

    fn unknown_key(&self, name: &str, span: Range<usize>) -> Draft {
        let supported = self.section.keys.iter().filter(|key| key.is_supported()).map(|key| key.name);
        let hint = match self.nearest_key(name) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.section.keys.is_empty() => "this table has no keys: write it as `{}`".to_owned(),
            None => format!("known here: {}", listed(supported)),
        };
        let place = match self.path.as_str() {
            "" => "at the top level".to_owned(),
            path => format!("in [{}]", dotted(path)),
        };
        Draft::error(span, format!("unknown key `{name}` {place}")).hint(hint)
    }
}

/// From the key to the end of its value, if that lies behind it.
fn covering(key: &Range<usize>, value: &Range<usize>) -> Range<usize> {
    if key.end <= value.start { key.start..value.end } else { value.clone() }
}

/// Where to point for a table: at its header, or at its key.
fn header_span(source: &str, key: Range<usize>, value: &Range<usize>) -> Range<usize> {
    let header = source.get(value.clone()).is_some_and(|text| text.starts_with('['));
    if header { value.clone() } else { key }
}
