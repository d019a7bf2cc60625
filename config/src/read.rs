//! Reads a TOML document, collecting every mistake.
//!
//! A reader never fails: what cannot be read is noted and answered with `None`, and the rest is read on. Each
//! place read is remembered, so that the rules across fields can point at it, and can hold their tongue about
//! values that are already known to be wrong. It refuses to stop early.

mod table;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

pub(crate) use table::{Named, Table};

use crate::error::Draft;
use crate::keys::Kind;

/// What all readers of one document share.
pub(crate) struct Context<'a> {
    source: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    drafts: RefCell<Vec<Draft>>,
    places: RefCell<BTreeMap<String, Place>>,
}

/// Where something stands in the document.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) span: Range<usize>,
    sound: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(source: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { source, env, drafts: RefCell::default(), places: RefCell::default() }
    }

    pub(crate) fn source(&self) -> &'a str {
        self.source
    }

    /// A variable of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    pub(crate) fn note(&self, draft: Draft) {
        self.drafts.borrow_mut().push(draft);
    }

    /// All that was noted, and where everything stands.
    pub(crate) fn finish(self) -> (Vec<Draft>, Places) {
        (self.drafts.into_inner(), Places(self.places.into_inner()))
    }

    fn place(&self, path: &str, span: Range<usize>, sound: bool) {
        self.places.borrow_mut().insert(path.to_owned(), Place { span, sound });
    }
}

/// Where everything read stands, by path (`service/web/checkpoint/volumes/0`).
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// The place written for this path, if it was written.
    pub(crate) fn written(&self, path: &str) -> Option<Range<usize>> {
        self.0.get(path).map(|place| place.span.clone())
    }

    /// The place of this path or, if it was left to its default, of the nearest table around it.
    pub(crate) fn nearest(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(span) = self.written(path) {
                return span;
            }
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => return 0..0,
            }
        }
    }

    /// Whether nothing wrong was found at any of these paths.
    pub(crate) fn sound(&self, paths: &[&str]) -> bool {
        paths.iter().all(|path| self.0.get(*path).is_none_or(|place| place.sound))
    }
}

/// A value of the document.
pub(crate) struct Cell<'c> {
    pub(crate) context: &'c Context<'c>,
    pub(crate) path: String,
    pub(crate) kind: Kind,
    value: &'c Spanned<DeValue<'c>>,
}

impl<'c> Cell<'c> {
    pub(crate) fn value(&self) -> &'c DeValue<'c> {
        self.value.get_ref()
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes that the value is wrong.
    pub(crate) fn fault<T>(&self, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.context.note(Draft::error(self.span(), message).hint(hint));
        None
    }

    /// Notes that the value is of the wrong type.
    pub(crate) fn mistyped<T>(&self, wanted: &str, hint: impl Into<String>) -> Option<T> {
        self.fault(format!("expected {wanted}, found {}", article(self.value().type_str())), hint)
    }

    /// Reads a list, every item of it.
    pub(crate) fn list<T>(&self, read: impl Fn(&Cell<'_>) -> Option<T>) -> Option<Vec<T>> {
        let Kind::List(kind) = self.kind else { unreachable!("`{}` is no list in the key table", self.path) };
        let Some(values) = self.value().as_array() else {
            return self.mistyped("a list", "put it in brackets: `[...]`");
        };
        let items: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let path = join(&self.path, &at.to_string());
                let item = Cell { context: self.context, path, kind: *kind, value };
                let result = read(&item);
                self.context.place(&item.path, value.span(), result.is_some());
                result
            })
            .collect();
        items.into_iter().collect()
    }

    /// Reads a table of names of its own; `read` gets each name with its value.
    pub(crate) fn by_name<T>(
        &self,
        read: impl Fn(&str, Range<usize>, &Cell<'_>) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        let Some(values) = self.value().as_table() else {
            return self.mistyped("a table", "write `{ NAME = \"value\" }`");
        };
        let items: Vec<_> = values
            .iter()
            .map(|(key, value)| {
                let name: &str = key.get_ref();
                let path = join(&self.path, name);
                let cell = Cell { context: self.context, path, kind: Kind::Text, value };
                read(name, key.span(), &cell).map(|item| (name.to_owned(), item))
            })
            .collect();
        items.into_iter().collect()
    }
}

/// `` `a`, `b`, `c` ``
pub(crate) fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// A path as people write it: `service.web.checkpoint`, `service."db.main"`.
fn dotted(path: &str) -> String {
    let bare = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let quoted = |name: &str| if bare(name) { name.to_owned() } else { format!("{name:?}") };
    let names: Vec<_> = path.split('/').map(quoted).collect();
    names.join(".")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn article(kind: &str) -> String {
    match kind {
        "string" => "text".to_owned(),
        "array" => "a list".to_owned(),
        "integer" => "a whole number".to_owned(),
        "float" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "datetime" => "a date".to_owned(),
        other => format!("a {other}"),
    }
}
