//! `docs/compatibility.md` says what the matrix expects, and the last run of the matrix was as expected.
//!
//! `cargo xtask matrix` runs the matrix and writes the document; `cargo xtask fix` (or `UPDATE_DOCS=1`) writes all of it but the last run.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

use system_tests::matrix::{differences, written};

#[test]
fn the_document_is_the_generated_one() {
    assert_eq!(differences(), Vec::<String>::new(), "the run is not what the table says");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let present = fs::read_to_string(&file).unwrap_or_default();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, written(&present)).expect("the document is written");
    }
    let present = fs::read_to_string(&file).unwrap_or_default();
    assert!(present == written(&present), "docs/compatibility.md is out of date: run `cargo xtask fix`");
    assert!(present.contains(" cells on Linux "), "it has no last run: run `cargo xtask matrix`");
}
