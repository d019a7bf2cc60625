//! Options of `docker create` and `podman create`.
//!
//! They are taken apart as these programs do it (a switch takes no value, any other option takes one, short
//! ones may be joined: `-itd`), so that a value is never mistaken for an option. It refuses those that are
//! at odds with being supervised, and whatever would be taken for the image; the rest is docker's or
//! podman's to judge.

use std::ops::Range;

use toml::Spanned;

use super::{ContainerRuntime, arguments};
use crate::error::Draft;
use crate::read::Cell;

/// Long options without a value, of docker and podman together. One that is missing here, since it is newer,
/// can be written as `--option=true`.
const SWITCHES: [&str; 26] = [
    "detach",
    "disable-content-trust",
    "env-host",
    "help",
    "http-proxy",
    "init",
    "interactive",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-kill-disable",
    "passwd",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "rm",
    "rmi",
    "rootfs",
    "sig-proxy",
    "tls-verify",
    "tty",
    "unsetenv-all",
    "use-api-socket",
];

/// Short ones, and what they stand for.
const SHORT_SWITCHES: [(char, &str); 5] =
    [('P', "publish-all"), ('d', "detach"), ('i', "interactive"), ('q', "quiet"), ('t', "tty")];

/// An option as it stands in one argument.
#[derive(Debug, PartialEq, Eq)]
struct Written<'a> {
    /// As people write it, for messages: `--tty`, `-t`.
    shown: String,
    /// The long name; a short one's letter if it has no long name here.
    name: &'a str,
    value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    /// In the same argument.
    Here(&'a str),
    /// It is the next argument.
    Next,
    /// It takes none.
    Switch,
}

/// Options alone, none of which is at odds with us.
pub(crate) fn create_args(cell: &Cell<'_>, runtime: ContainerRuntime) -> Option<Vec<String>> {
    let args = arguments(cell)?;
    let spans: Vec<_> = cell.value().as_array()?.iter().map(Spanned::span).collect();
    let drafts = judge(&args, &spans, runtime);
    let right = drafts.is_empty();
    drafts.into_iter().for_each(|draft| cell.context.note(draft));
    right.then_some(args)
}

fn judge(args: &[String], spans: &[Range<usize>], runtime: ContainerRuntime) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut rest = args.iter().zip(spans);
    while let Some((text, span)) = rest.next() {
        if !is_option(text) {
            let draft = Draft::error(span.clone(), "this is no option, and would be taken for the image");
            drafts.push(
                draft.hint("`image` and `command` are keys of their own; write options as `--option=value`"),
            );
            continue;
        }
        if let Some(example) = joined(text) {
            let draft = Draft::error(span.clone(), "an option and its value stand in one text");
            drafts.push(draft.hint(format!("write two texts: `{example}`")));
            continue;
        }
        for written in taken_apart(text) {
            let value = match written.value {
                Value::Here(value) => Some(value),
                Value::Next => rest.next().map(|(next, _)| next.as_str()),
                Value::Switch => Some("true"),
            };
            let draft = match value {
                Some(value) => conflict(&written, value, runtime)
                    .map(|(message, hint)| Draft::error(span.clone(), message).hint(hint)),
                None => Some(valueless(span.clone())),
            };
            drafts.extend(draft);
        }
    }
    drafts
}

/// `-` and `--` are none.
fn is_option(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && rest != "-")
}

/// `--env A=B` or `-e A=B` in one text, as on a command line: the option, and how it is written right.
fn joined(text: &str) -> Option<&'static str> {
    let (option, _) = text.split_once(char::is_whitespace)?;
    let is_long = option.starts_with("--") && !option.contains('=');
    let is_short = option.len() == 2;
    if is_long {
        return Some("\"--option\", \"value\"");
    }
    is_short.then_some("\"-o\", \"value\"")
}

fn taken_apart(text: &str) -> Vec<Written<'_>> {
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Value::Here(value)),
            None if SWITCHES.contains(&long) => (long, Value::Switch),
            None => (long, Value::Next),
        };
        return vec![Written { shown: format!("--{name}"), name, value }];
    }
    let mut found = Vec::new();
    for (at, letter) in text.char_indices().skip(1) {
        let rest = &text[at + letter.len_utf8()..];
        let shown = format!("-{letter}");
        let switch = SHORT_SWITCHES.iter().find(|(short, _)| *short == letter).map(|(_, name)| *name);
        let name = switch.unwrap_or(&text[at..at + letter.len_utf8()]);
        let value = match (rest.strip_prefix('='), switch) {
            (Some(value), _) => Value::Here(value),
            (None, Some(_)) => Value::Switch,
            (None, None) if rest.is_empty() => Value::Next,
            (None, None) => Value::Here(rest),
        };
        let goes_on = value == Value::Switch;
        found.push(Written { shown, name, value });
        if !goes_on {
            break;
        }
    }
    found
}

/// It is not named, since an unknown name may come from the environment.
fn valueless(span: Range<usize>) -> Draft {
    let draft = Draft::error(span, "this option has no value, and would take the image for it");
    draft.hint("write its value behind it; if it takes none, write it as `--switch=true`")
}

/// What is at odds with us about an option, and what to do instead.
fn conflict(written: &Written<'_>, value: &str, runtime: ContainerRuntime) -> Option<(String, &'static str)> {
    let on = !matches!(value, "0" | "f" | "F" | "false" | "False" | "FALSE");
    let (why, hint) = match (written.name, runtime) {
        ("restart", _) if value != "no" => (
            "lets two restart the container: the supervisor does it already",
            "leave it out, or write `no`; `[service.NAME.restart]` says what happens after a crash",
        ),
        ("health-on-failure", ContainerRuntime::Podman) if value == "restart" => (
            "lets two restart the container: the supervisor does it already",
            "leave it out; the service's probes say when it is to be recovered",
        ),
        ("rm", _) if on => {
            ("removes the container at its end, and nothing is left to be restored", "leave it out")
        }
        ("rmi", _) if on => ("removes the image at the container's end", "leave it out"),
        ("replace", _) if on => (
            "removes the container that is there, and what is in it",
            "leave it out: the container is created if there is none",
        ),
        ("detach", _) if on => {
            ("has no meaning here: the supervisor starts the container itself", "leave it out")
        }
        ("name", _) => ("names the container a second time", "leave it out: its name is `container`"),
        ("tty", _) if on => (
            "gives the service a terminal, whose other end is outside and cannot be in an image",
            "leave it out",
        ),
        ("init", ContainerRuntime::Docker) if on => (
            "makes every restore fail, for docker mounts its init from the host",
            "leave it out; if children must be reaped, start `tini` from the image",
        ),
        _ => return None,
    };
    Some((format!("`{}` {why}", written.shown), hint))
}
