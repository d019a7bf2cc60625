//! The text of our unit for systemd. The one place of it: `install-unit` writes it, and packages ship what `install-unit --print`
//! says.
//!
//! It refuses paths that systemd would read as something else.

use std::path::Path;

use engine::systemd::{is_plain, word};

use super::failure::Failure;

const TEMPLATE: &str = include_str!("unit/supervisor.service");

/// The unit that runs `program` with this configuration; both paths are absolute.
pub(crate) fn text(program: &Path, config: &Path) -> Result<String, Failure> {
    let program = whole(program)?;
    if !program.chars().all(is_plain) {
        // systemd expands nothing in the name of a program, and so has no way to write such a one.
        let text = format!("{program}: systemd needs a program's path of letters, digits and / . _ + - only");
        return Err(Failure::Invalid(text));
    }
    Ok(TEMPLATE.replace("@PROGRAM@", program).replace("@CONFIG@", &word(whole(config)?)))
}

fn whole(path: &Path) -> Result<&str, Failure> {
    let refused = |why: &str| Failure::Invalid(format!("{}: {why}", path.display()));
    let text = path.to_str().ok_or_else(|| refused("systemd needs a path in UTF-8"))?;
    match text.chars().any(char::is_control) {
        true => Err(refused("systemd needs a path without control characters")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &str) -> String {
        let text = text(Path::new("/usr/bin/supervisor"), Path::new(config)).expect("a unit");
        assert!(!text.contains('@'), "nothing is left to be filled in:\n{text}");
        text.lines().find(|line| line.starts_with("ExecStart=")).expect("it starts something").to_owned()
    }

    #[test]
    fn paths_are_written_as_systemd_reads_them() {
        let table = [
            ("/etc/supervisor/ha.toml", "/etc/supervisor/ha.toml"),
            ("/srv/my services/ha.toml", r#""/srv/my services/ha.toml""#),
            (r#"/a"b\c"#, r#""/a\"b\\c""#),
            ("/100%/$HOME", r#""/100%%/$$HOME""#),
        ];
        for (path, expected) in table {
            assert_eq!(line(path), format!("ExecStart=/usr/bin/supervisor run --config {expected}"));
        }
    }

    #[test]
    fn paths_that_cannot_be_written_are_refused() {
        for (program, config) in
            [("/opt/a b/supervisor", "/x"), ("/opt/$x", "/x"), ("/bin/x", "/a\nExecStop=/x")]
        {
            let failure = text(Path::new(program), Path::new(config)).expect_err("refused");
            assert!(failure.exit_code() == 2 && failure.to_string().contains("systemd needs"), "{failure}");
        }
    }
}
