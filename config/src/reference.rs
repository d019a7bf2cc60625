//! `docs/configuration.md`, made of the key table.
//!
//! It refuses to be edited by hand: a test compares the file with this text.

use std::fmt::Write;

use crate::keys::{Fallback, Key, Kind, ROOT, Section};
use crate::kinds::EVENT_KINDS;

const HEAD: &str = "\
<!-- Made from the key table in config/src/keys by `cargo xtask fix`; changes made here are lost. -->

# Configuration

One TOML file says everything: `supervisor --config ha.toml`. `supervisor check --config ha.toml` finds every mistake in
it without starting anything, and `supervisor check --print-schema` gives a JSON Schema for editors. A file that has
changed is read again by itself, and on SIGHUP; one with mistakes changes nothing. Services that are the same before
and after are not touched.

```toml
[service.redis]
process = { command = [\"/usr/bin/redis-server\", \"--save\", \"\"] }

[service.redis.checkpoint]
interval = \"10s\"

[service.redis.probe.ping]
exec = { command = [\"/usr/bin/redis-cli\", \"ping\"] }
start_period = \"5s\"
```

## Values

| type | written as |
| --- | --- |
| duration | text with units: `\"500ms\"`, `\"30s\"`, `\"1h 30m\"`; a bare number is a mistake |
| size | text with a unit, `\"512MiB\"` (1024) or `\"10GB\"` (1000), or a whole number of bytes |
| path | text, absolute; `..` is a mistake |
| address | text, `\"host:port\"` or `\"[::1]:port\"` |

`${VAR}` in any text is replaced by that variable of the supervisor's environment; a variable that is not set is a
mistake. `$${` stands for the characters `${`.
";

/// The reference for people, as Markdown.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    sections(&ROOT, &mut Vec::new(), &mut text);
    kinds(&mut text);
    unsupported(&mut text);
    text
}

/// Every table once, where it comes first.
fn sections(section: &'static Section, described: &mut Vec<&'static str>, text: &mut String) {
    if described.contains(&section.title) {
        return;
    }
    described.push(section.title);
    if !section.title.is_empty() {
        describe(section, text).expect("writing to a string cannot fail");
    }
    for key in section.keys {
        if let Kind::Table(inner) | Kind::Tables(_, inner) | Kind::TableList(inner) = key.kind {
            sections(inner, described, text);
        }
    }
}

fn describe(section: &Section, text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n## [{}]\n\n{}", section.title, section.doc)?;
    if section.keys.is_empty() {
        return Ok(());
    }
    writeln!(text)?;
    writeln!(text, "| key | type | default | meaning |\n| --- | --- | --- | --- |")?;
    for key in section.keys.iter().filter(|key| key.is_supported()) {
        let (kind, fallback) = (cell(&type_name(key.kind)), cell(&fallback(key)));
        writeln!(text, "| `{}` | {kind} | {fallback} | {} |", key.name, cell(&meaning(key)))?;
    }
    Ok(())
}

fn kinds(text: &mut String) {
    text.push_str("\n## Kinds of events\n\n| kind | meaning |\n| --- | --- |\n");
    for (name, meaning) in EVENT_KINDS {
        writeln!(text, "| `{name}` | {} |", cell(meaning)).expect("writing to a string cannot fail");
    }
}

fn unsupported(text: &mut String) {
    text.push_str(
        "\n## Not in this version\n\nThese keys are known, and answered by an error that says \
    what to do instead:\n\n",
    );
    let mut found = Vec::new();
    collect_unsupported(&ROOT, &mut found);
    for (title, names) in found {
        let place = if title.is_empty() { "top level".to_owned() } else { format!("`[{title}]`") };
        writeln!(text, "- {place}: {}", names.join(", ")).expect("writing to a string cannot fail");
    }
}

fn collect_unsupported(section: &Section, found: &mut Vec<(&'static str, Vec<String>)>) {
    let is_unsupported = |key: &&Key| matches!(key.kind, Kind::Unsupported(_));
    let names: Vec<_> =
        section.keys.iter().filter(is_unsupported).map(|key| format!("`{}`", key.name)).collect();
    if !names.is_empty() && !found.iter().any(|(title, _)| *title == section.title) {
        found.push((section.title, names));
    }
    for key in section.keys {
        if let Kind::Table(inner) | Kind::Tables(_, inner) | Kind::TableList(inner) = key.kind {
            collect_unsupported(inner, found);
        }
    }
}

fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Duration => "duration, not zero".to_owned(),
        Kind::DurationOrZero => "duration".to_owned(),
        Kind::DurationOrNever => "duration or `\"never\"`".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::Whole { min, max } => format!("{min} to {max}"),
        Kind::Number { min, max } => format!("{min:.1} to {max:.1}"),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Choice(words) => {
            let words: Vec<_> = words().iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(" or ")
        }
        Kind::Signal => "signal".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Url => "URL".to_owned(),
        Kind::Event => "[kind of event](#kinds-of-events)".to_owned(),
        Kind::User => "user".to_owned(),
        Kind::Output => "path or `\"journal\"`".to_owned(),
        Kind::StatusRange => "code or range".to_owned(),
        Kind::ServiceName => "name of a service".to_owned(),
        Kind::List(item) => format!("list of: {}", type_name(*item)),
        Kind::TextByName => "table of texts".to_owned(),
        Kind::Table(_) => "table".to_owned(),
        Kind::Tables(..) => "tables by name".to_owned(),
        Kind::TableList(_) => "list of tables, `[[...]]`".to_owned(),
        Kind::Unsupported(_) | Kind::Owned(_) => unreachable!("only keys that do something are described"),
    }
}

fn fallback(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => "must be written".to_owned(),
        Fallback::Absent("") => "-".to_owned(),
        Fallback::Absent(words) => words.to_owned(),
        Fallback::Value(literal) => format!("`{literal}`"),
    }
}

fn meaning(key: &Key) -> String {
    match key.kind {
        Kind::Table(inner) | Kind::Tables(_, inner) | Kind::TableList(inner) => {
            format!("See [{}].", inner.title)
        }
        _ if key.example.is_empty() => key.doc.to_owned(),
        _ => format!("{} Example: `{}`.", key.doc, key.example),
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
