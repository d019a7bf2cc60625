//! The one table of keys: names, types, defaults, words for people.
//!
//! The reader, the JSON Schema, `docs/configuration.md` and the hints about unknown keys all take theirs from
//! here, so they cannot disagree; tests hold the reader to it in both directions. It refuses to hold code:
//! what a value means is said where it is read.

mod checkpoint;
mod cluster;
mod container;
mod failover;
mod group;
mod hooks;
mod node;
mod probe;
mod replica;
mod restart;
mod service;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;

pub(crate) use node::ROOT;

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// How people write it: `service.NAME.checkpoint`.
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    /// A value that is right, as TOML; empty where the default or a table of its own serves as one.
    pub(crate) example: &'static str,
    pub(crate) doc: &'static str,
}

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Path,
    /// Longer than nothing.
    Duration,
    /// Zero is allowed.
    DurationOrZero,
    /// A duration, or `never`.
    DurationOrNever,
    Size,
    Whole {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Flag,
    Choice(fn() -> Vec<&'static str>),
    Signal,
    Address,
    Url,
    /// One of the kinds of events.
    Event,
    User,
    Output,
    /// `200` or `"200-399"`.
    StatusRange,
    ServiceName,
    List(&'static Kind),
    /// Names of their own, each with a text.
    TextByName,
    Table(&'static Section),
    /// Tables under names of their own; the word says what a name names.
    Tables(&'static str, &'static Section),
    /// A list of tables, `[[...]]`.
    TableList(&'static Section),
    /// Known, answered by an error; the words say what to do instead.
    Unsupported(&'static str),
    /// Known, answered by an error, since something else decides it; the words say what.
    Owned(&'static str),
}

/// What holds when a key is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// A mistake.
    Required,
    /// Something is missing, and that means what these words say.
    Absent(&'static str),
    /// This, as TOML.
    Value(&'static str),
}

impl Section {
    /// The key of this name, if there is one.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    const fn required(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Self {
        Self { name, kind, fallback: Fallback::Required, example, doc }
    }

    /// `absent` says what holds if the key is not written.
    const fn optional(
        name: &'static str,
        kind: Kind,
        absent: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, fallback: Fallback::Absent(absent), example, doc }
    }

    const fn default(name: &'static str, kind: Kind, value: &'static str, doc: &'static str) -> Self {
        Self { name, kind, fallback: Fallback::Value(value), example: "", doc }
    }

    const fn table(name: &'static str, section: &'static Section) -> Self {
        Self {
            name,
            kind: Kind::Table(section),
            fallback: Fallback::Absent(""),
            example: "",
            doc: section.doc,
        }
    }

    const fn unsupported(name: &'static str, instead: &'static str) -> Self {
        let kind = Kind::Unsupported(instead);
        Self { name, kind, fallback: Fallback::Absent(""), example: "", doc: "" }
    }

    const fn owned(name: &'static str, owner: &'static str) -> Self {
        Self { name, kind: Kind::Owned(owner), fallback: Fallback::Absent(""), example: "", doc: "" }
    }

    /// Whether the key does something in this version.
    pub(crate) fn is_supported(&self) -> bool {
        !matches!(self.kind, Kind::Unsupported(_) | Kind::Owned(_))
    }
}

/// A closed set of choices, each with its word.
pub(crate) trait Words: Copy + PartialEq + 'static {
    const ALL: &'static [Self];

    fn word(self) -> &'static str;
}

/// The words alone.
pub(crate) fn words<T: Words>() -> Vec<&'static str> {
    T::ALL.iter().map(|choice| choice.word()).collect()
}
