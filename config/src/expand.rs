//! `${VAR}` in texts.
//!
//! `$${` stands for `${` itself; a `$` before anything else is a `$`. It refuses variables that are not set,
//! since an empty password or path is worse than a mistake shown.

use std::ops::Range;

use crate::error::Draft;
use crate::read::Cell;

/// The text with its variables put in; `None` after noting each that is wrong.
pub(crate) fn expand(cell: &Cell<'_>, written: &str) -> Option<String> {
    let mut expanded = String::with_capacity(written.len());
    let mut rest = written;
    let mut right = true;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            expanded.push_str(&rest[..at - 1]);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            let draft = Draft::error(position(cell, &rest[at..]), "`${` has no closing `}`");
            cell.context.note(draft.hint("write `${NAME}`, or `$${` for the characters themselves"));
            return None;
        };
        let name = &rest[at + 2..at + end];
        match variable(cell, name) {
            Ok(value) => expanded.push_str(&value),
            Err(draft) => {
                cell.context.note(*draft);
                right = false;
            }
        }
        rest = &rest[at + end + 1..];
    }
    expanded.push_str(rest);
    right.then_some(expanded)
}

fn variable(cell: &Cell<'_>, name: &str) -> Result<String, Box<Draft>> {
    let reference = format!("${{{name}}}");
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let draft = Draft::error(position(cell, &reference), "this is not the name of a variable");
        let hint = "names are made of `A-Z a-z 0-9 _`; write `$${` for the characters themselves";
        return Err(Box::new(draft.hint(hint)));
    }
    cell.context.variable(name).ok_or_else(|| {
        let draft = Draft::error(position(cell, &reference), format!("the variable `{name}` is not set"));
        let hint = "set it in the supervisor's environment, or write `$${` for the characters themselves";
        Box::new(draft.hint(hint))
    })
}

/// Where the reference stands in the file; the whole value if escapes hide it.
fn position(cell: &Cell<'_>, reference: &str) -> Range<usize> {
    let span = cell.span();
    match cell.context.source().get(span.clone()).and_then(|text| text.find(reference)) {
        Some(at) => span.start + at..span.start + at + reference.len(),
        None => span,
    }
}
