//! `cargo xtask package`: a Debian package and a tarball, with unit, manual pages and completions as the program itself makes them.
//!
//! Refuses to install anything, and to call a program static that is not.

mod deb;
mod program;
mod tarball;
mod tree;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::prepare::target_folder;
pub(crate) use program::{Profile, build_static, lacks_for_static};

use program::Program;

/// What the packages are called. Debian has another `supervisor`.
const NAME: &str = "supervisor-ha";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// A program that is built already, instead of a release build.
    program: Option<PathBuf>,
    /// Where the packages go.
    into: Option<PathBuf>,
    /// The package's own part of its version.
    revision: u32,
    /// Compress for speed: for tests.
    quick: bool,
}

/// Builds and packs; `arguments` are `--program FILE`, `--into FOLDER`, `--revision N`, `--quick`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = parse(arguments)?;
    let into = match &wanted.into {
        Some(folder) => folder.clone(),
        None => target_folder()?.join("package"),
    };
    fs::create_dir_all(&into).with_context(|| format!("can't make {}", into.display()))?;
    let programs = match &wanted.program {
        Some(program) => vec![Program::given(program)?],
        None => program::build()?,
    };
    let work = into.join("work");
    for (number, program) in programs.iter().enumerate() {
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("can't remove {}", work.display()))?;
        }
        let tree = tree::make(&work.join("tree"), program)?;
        tarball::make(&tree, program, &into)?;
        // The first is the one for hosts like this; Debian has one C library.
        if number == 0 {
            deb::make(&tree, program, &into, wanted.revision, wanted.quick)?;
        }
    }
    fs::remove_dir_all(&work).with_context(|| format!("can't remove {}", work.display()))
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted { program: None, into: None, revision: 1, quick: false };
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--program" => wanted.program = Some(std::path::absolute(value()?)?),
            "--into" => wanted.into = Some(std::path::absolute(value()?)?),
            "--revision" => wanted.revision = value()?.parse().context("a revision is a number")?,
            "--quick" => wanted.quick = true,
            _ => bail!("package knows --program FILE, --into FOLDER, --revision N and --quick, not {word}"),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood() {
        let parsed = |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let none = Wanted { program: None, into: None, revision: 1, quick: false };
        assert_eq!(parsed("").expect("nothing"), none);
        let all = Wanted { program: Some("/p".into()), into: Some("/i".into()), revision: 2, quick: true };
        assert_eq!(parsed("--program /p --into /i --revision 2 --quick").expect("all"), all);
        for wrong in ["--program", "--revision x", "--fast"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
