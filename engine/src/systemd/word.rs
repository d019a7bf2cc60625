//! Command lines of systemd's.

/// Whether a character means itself wherever it stands in one. A program's path can have no others: systemd expands nothing in it.
pub fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._+-".contains(c)
}

/// One word of a command line, where `%` and `$` have a meaning of their own.
pub fn word(text: &str) -> String {
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}
