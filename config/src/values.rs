//! From one cell to one value of ours: texts, numbers, durations, sizes, choices.
//!
//! Each function answers `None` after noting what is wrong and what would be right. Messages show the file's
//! own text, never what a variable of the environment was expanded to. It refuses bare numbers for durations,
//! relative paths, and letters whose meaning is unclear (`512M`).

mod cluster;
mod container;
mod create_args;
mod network;
mod replica;
mod signal;
mod unit;

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use policies::id::ServiceName;
use toml::de::DeValue;

use crate::expand::expand;
use crate::keys::{Kind, Words};
use crate::kinds;
use crate::near::nearest;
use crate::read::{Cell, listed};

pub(crate) use cluster::{bucket, device, endpoint, network_address, node_name};
pub(crate) use container::{ContainerRuntime, LONGEST_SOCKET, container, image, socket};
pub(crate) use create_args::create_args;
pub(crate) use network::{address, header_value, is_header_name, request_path, status_range, url, web_url};
pub(crate) use replica::replica_place;
pub(crate) use signal::signal;
pub(crate) use unit::unit;

/// Longer than any duration that means something, and short enough to be added without overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A text with its variables expanded.
pub(crate) fn text(cell: &Cell<'_>) -> Option<String> {
    let DeValue::String(written) = cell.value() else {
        return cell.mistyped("text", "put it in quotes: `\"...\"`");
    };
    let text = expand(cell, written)?;
    if text.contains('\0') {
        return cell.fault("a text may not contain a zero byte", "remove `\\u0000`");
    }
    Some(text)
}

/// A text that says something.
pub(crate) fn word(cell: &Cell<'_>) -> Option<String> {
    let text = text(cell)?;
    if text.trim().is_empty() {
        return cell.fault("the text is empty", "write something, or leave the key out");
    }
    Some(text)
}

/// A name that ends up in file names and labels.
pub(crate) fn name(cell: &Cell<'_>) -> Option<String> {
    let text = word(cell)?;
    if text.len() > 253 || !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return cell.fault("the name has characters that names cannot have", "use `A-Z a-z 0-9 . _ -`");
    }
    Some(text)
}

/// An absolute path, without `.` and `..`, no slash at its end.
pub(crate) fn path(cell: &Cell<'_>) -> Option<PathBuf> {
    let text = word(cell)?;
    let path = Path::new(&text);
    if !path.is_absolute() {
        return cell.fault(
            "the path is relative, and the supervisor has no folder to begin from",
            "write it from `/` on",
        );
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return cell.fault("the path goes up by `..`", "write the folder that is meant");
    }
    Some(path.components().collect())
}

/// A program and its arguments.
pub(crate) fn command(cell: &Cell<'_>) -> Option<Vec<String>> {
    if matches!(cell.value(), DeValue::String(_)) {
        return cell.mistyped("a list", "write program and arguments apart: `[\"program\", \"argument\"]`");
    }
    let command = cell.list(text)?;
    match command.first().map(String::as_str) {
        None | Some("") => {
            cell.fault("the command is empty", "write the program first: `[\"/usr/bin/program\"]`")
        }
        Some(program) if is_relative(program) => refuse_relative_program(cell),
        Some(_) => Some(command),
    }
}

/// A program alone.
pub(crate) fn program(cell: &Cell<'_>) -> Option<PathBuf> {
    let program = word(cell)?;
    if is_relative(&program) { refuse_relative_program(cell) } else { Some(program.into()) }
}

fn is_relative(program: &str) -> bool {
    program.contains('/') && !program.starts_with('/')
}

fn refuse_relative_program<T>(cell: &Cell<'_>) -> Option<T> {
    cell.fault(
        "the program's path is relative",
        "write it from `/` on, or a name alone to be found in `PATH`",
    )
}

/// Arguments of something that is named elsewhere.
pub(crate) fn arguments(cell: &Cell<'_>) -> Option<Vec<String>> {
    if matches!(cell.value(), DeValue::String(_)) {
        return cell.mistyped("a list", "write each argument apart: `[\"argument\", \"argument\"]`");
    }
    cell.list(text)
}

/// `true` or `false`.
pub(crate) fn flag(cell: &Cell<'_>) -> Option<bool> {
    cell.value()
        .as_bool()
        .or_else(|| cell.mistyped("true or false", "write `true` or `false`, without quotes"))
}

/// A whole number in the range of the key table.
pub(crate) fn whole(cell: &Cell<'_>) -> Option<i64> {
    let Kind::Whole { min, max } = cell.kind else { unreachable!("`{}` is no whole number", cell.path) };
    let DeValue::Integer(_) = cell.value() else {
        return cell
            .mistyped("a whole number", format!("write a number from {min} to {max}, without quotes"));
    };
    match integer(cell.value()).and_then(|value| i64::try_from(value).ok()) {
        Some(value) if (min..=max).contains(&value) => Some(value),
        Some(_) | None => {
            cell.fault("the number is out of range", format!("write a number from {min} to {max}"))
        }
    }
}

/// The same, for counts.
pub(crate) fn count(cell: &Cell<'_>) -> Option<u32> {
    whole(cell).map(|value| u32::try_from(value).expect("the key table's range of a count fits"))
}

/// The same, for small numbers that may be signed elsewhere.
pub(crate) fn small(cell: &Cell<'_>) -> Option<i32> {
    whole(cell).map(|value| i32::try_from(value).expect("the key table's range fits"))
}

/// A number in the range of the key table.
pub(crate) fn number(cell: &Cell<'_>) -> Option<f64> {
    let Kind::Number { min, max } = cell.kind else { unreachable!("`{}` is no number", cell.path) };
    let value = match cell.value() {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
        DeValue::Integer(_) => integer(cell.value()).map(|value| value as f64),
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            return cell.mistyped("a number", format!("write a number from {min} to {max}, without quotes"));
        }
    };
    match value {
        Some(value) if (min..=max).contains(&value) => Some(value),
        Some(_) | None => {
            cell.fault("the number is out of range", format!("write a number from {min} to {max}"))
        }
    }
}

/// A duration longer than nothing.
pub(crate) fn duration(cell: &Cell<'_>) -> Option<Duration> {
    let duration = duration_or_zero(cell)?;
    if duration.is_zero() {
        return cell.fault("the duration is zero", "write one longer than nothing, as `\"10s\"`");
    }
    Some(duration)
}

/// A duration, or `never`.
pub(crate) fn duration_or_never(cell: &Cell<'_>) -> Option<Option<Duration>> {
    match cell.value() {
        DeValue::String(text) if text == "never" => Some(None),
        _ => duration(cell).map(Some),
    }
}

/// A duration that may be zero.
pub(crate) fn duration_or_zero(cell: &Cell<'_>) -> Option<Duration> {
    const FORM: &str = "write a number with its unit, as `\"500ms\"`, `\"30s\"` or `\"1h 30m\"`";
    let written = match cell.value() {
        DeValue::String(_) => text(cell)?,
        DeValue::Integer(number) => {
            let hint = format!("write its unit, as `\"{number}s\"` or `\"{number}ms\"`");
            return cell.fault("the duration has no unit", hint);
        }
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return cell.mistyped("a duration", FORM),
    };
    let bare = written.trim();
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return cell.fault("the duration has no unit", FORM);
    }
    match humantime::parse_duration(&written) {
        Ok(duration) if duration <= LONGEST => Some(duration),
        Ok(_) => cell.fault("the duration is longer than ten years", "write a shorter one"),
        Err(_) => cell.fault("this is not a duration", FORM),
    }
}

/// A number of bytes.
pub(crate) fn size(cell: &Cell<'_>) -> Option<u64> {
    const FORM: &str =
        "write a whole number with its unit, as `\"512MiB\"` or `\"10GB\"`, or bytes without quotes";
    let written = match cell.value() {
        DeValue::String(_) => text(cell)?,
        DeValue::Integer(_) => {
            let bytes = integer(cell.value()).and_then(|value| u64::try_from(value).ok());
            return bytes.or_else(|| cell.fault("the size is out of range", FORM));
        }
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return cell.mistyped("a size", FORM),
    };
    let written = written.trim();
    let digits = written.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = written.split_at(digits);
    let unit = unit.trim();
    if let "k" | "K" | "m" | "M" | "g" | "G" | "t" | "T" = unit {
        let letter = unit.to_ascii_uppercase();
        let hint = format!("write `{letter}iB` (powers of 1024) or `{letter}B` (powers of 1000)");
        return cell.fault("the unit of this size can mean two things", hint);
    }
    let Some(factor) = bytes_in(unit) else { return cell.fault("this is not a size", FORM) };
    let Ok(number) = number.parse::<u64>() else { return cell.fault("this is not a size", FORM) };
    number.checked_mul(factor).or_else(|| cell.fault("the size is out of range", FORM))
}

fn bytes_in(unit: &str) -> Option<u64> {
    match unit {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1000),
        "MB" => Some(1000_u64.pow(2)),
        "GB" => Some(1000_u64.pow(3)),
        "TB" => Some(1000_u64.pow(4)),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    }
}

/// One of a closed set of words.
pub(crate) fn choice<T: Words>(cell: &Cell<'_>) -> Option<T> {
    let known = || T::ALL.iter().map(|choice| choice.word());
    if !matches!(cell.value(), DeValue::String(_)) {
        return cell.mistyped("a word", format!("one of {}", listed(known())));
    }
    let written = text(cell)?;
    if let Some(choice) = T::ALL.iter().find(|choice| choice.word() == written) {
        return Some(*choice);
    }
    let hint = match nearest(&written, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", listed(known())),
    };
    cell.fault("this word is not known here", hint)
}

/// One of the kinds of events that hooks are told of.
pub(crate) fn event_kind(cell: &Cell<'_>) -> Option<String> {
    let written = text(cell)?;
    if written == kinds::UNHEARD {
        return cell
            .fault("no hook is told that a hook has failed: it would never come to rest", "leave it out");
    }
    if kinds::names().any(|kind| kind == written) {
        return Some(written);
    }
    let hint = match nearest(&written, kinds::names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "docs/configuration.md lists the kinds of events".to_owned(),
    };
    cell.fault("there are no events of this kind", hint)
}

/// The name of a service; whether there is one of that name is seen later.
pub(crate) fn service_name(cell: &Cell<'_>) -> Option<ServiceName> {
    let written = text(cell)?;
    match ServiceName::try_from(written.as_str()) {
        Ok(name) => Some(name),
        Err(_) => cell.fault(
            "this cannot be the name of a service",
            "names are made of `a-z 0-9 _ . -`, begin with a letter or digit, and have at most 63 characters",
        ),
    }
}

/// `name`, `uid` or `uid:gid`.
pub(crate) fn user(cell: &Cell<'_>) -> Option<String> {
    const FORM: &str = "write `\"name\"`, `\"uid\"` or `\"uid:gid\"`";
    if !matches!(cell.value(), DeValue::String(_)) {
        return cell.mistyped("text", FORM);
    }
    let user = text(cell)?;
    let is_number = |part: &str| !part.is_empty() && part.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    let right = match user.split_once(':') {
        Some((uid, gid)) => is_number(uid) && is_number(gid),
        None if user.bytes().all(|byte| byte.is_ascii_digit()) => is_number(&user),
        None => {
            !user.starts_with('-')
                && user.chars().all(|c| c.is_alphanumeric() || "._-".contains(c) || c == '$')
        }
    };
    if right { Some(user) } else { cell.fault("this is not a user", FORM) }
}

/// The integer of a value, whatever base it is written in.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}
