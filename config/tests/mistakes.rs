//! The exact text of what people see for each kind of mistake: each `mistakes/NAME.toml` is refused with
//! `NAME.txt`, each `warnings/NAME.toml` is accepted with the warnings of `NAME.txt`.
//!
//! `UPDATE_TEXTS=1` writes the texts, to be read before they are committed; `cargo xtask fix` leaves them alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, Severity};

fn env(name: &str) -> Option<String> {
    match name {
        "HOST_NAME" => Some("alpha".to_owned()),
        "RELATIVE" => Some("secret/folder".to_owned()),
        _ => None,
    }
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    cases
}

/// Compares with the golden text, or writes it; answers what differs.
fn compare(case: &Path, found: &str) -> Option<String> {
    let golden = case.with_extension("txt");
    if std::env::var_os("UPDATE_TEXTS").is_some() {
        fs::write(&golden, found).unwrap();
        return None;
    }
    let wanted = fs::read_to_string(&golden).unwrap_or_default();
    (wanted != found).then(|| format!("{}\n--- wanted\n{wanted}\n--- found\n{found}", case.display()))
}

fn origin(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn mistakes_read_as_agreed() {
    let differing: Vec<_> = cases("mistakes")
        .iter()
        .filter_map(|case| {
            let text = fs::read_to_string(case).unwrap();
            let errors = Config::parse(&text, &origin(case), &env).expect_err(&origin(case));
            compare(case, &format!("{errors}\n"))
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

#[test]
fn warnings_read_as_agreed() {
    let differing: Vec<_> = cases("warnings")
        .iter()
        .filter_map(|case| {
            let text = fs::read_to_string(case).unwrap();
            let config =
                Config::parse(&text, &origin(case), &env).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(config.warnings().iter().all(|warning| warning.severity == Severity::Warning));
            let warnings: Vec<_> = config.warnings().iter().map(|warning| format!("{warning}\n")).collect();
            compare(case, &warnings.join("\n"))
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

#[test]
fn positions_are_those_of_the_excerpt() {
    for case in cases("mistakes") {
        let text = fs::read_to_string(&case).unwrap();
        let errors = Config::parse(&text, "file.toml", &env).unwrap_err();
        for mistake in errors.mistakes {
            let position = format!("--> file.toml:{}:{}\n", mistake.line, mistake.column);
            assert!(mistake.excerpt.contains(&position), "{position} is not in\n{}", mistake.excerpt);
        }
    }
}

#[test]
fn values_of_the_environment_are_never_shown() {
    let text = "[store]\npath = \"${RELATIVE}\"\ncompression = \"${RELATIVE}\"\nmin_free = \"${RELATIVE}\"\n\
                [service.web]\nrunc = { bundle = \"${RELATIVE}\" }\nstop_signal = \"${RELATIVE}\"\n\
                stop_timeout = \"${RELATIVE}\"\ndepends_on = [\"${RELATIVE}\"]\n\
                [service.box]\nprocess.command = [\"${RELATIVE}\"]\n\
                docker = { container = \"${RELATIVE}\", image = \" ${RELATIVE}\", socket = \"${RELATIVE}\", \
                create_args = [\"${RELATIVE}\", \"--restart=${RELATIVE}\", \"--${RELATIVE}\"] }\n";
    let errors = Config::parse(text, "file.toml", &env).unwrap_err();
    assert_eq!(errors.mistakes.len(), 15, "{errors}");
    assert!(!errors.to_string().contains("secret"), "{errors}");
}
