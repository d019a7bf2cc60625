//! Licences and origins of the packages we are built from, from what cargo knows.
//!
//! The lists are those of `deny.toml`, read from there, so that this check and `cargo deny` can't disagree.
//! Refuses a package without a licence expression, and any that does not come from crates.io.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::metadata::{Metadata, Package};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every package of others' that cargo may build.
pub(crate) fn check(metadata: &Metadata) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
    let allowed = allowed_licences(&text)?;
    let others = metadata.packages().filter(|package| !package.is_member);
    let wrong: Vec<String> = others.filter_map(|package| mistake(package, &allowed)).collect();
    if !wrong.is_empty() {
        bail!("\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

fn mistake(package: &Package, allowed: &BTreeSet<String>) -> Option<String> {
    let Package { name, version, .. } = package;
    if package.source.as_deref() != Some(CRATES_IO) {
        let source = package.source.as_deref().unwrap_or("a folder outside the workspace");
        return Some(format!("{name} {version} comes from {source}, not from crates.io"));
    }
    let Some(license) = &package.license else {
        return Some(format!("{name} {version} names no licence"));
    };
    match permits(license, allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} {version}: licence `{license}` is not in deny.toml's list")),
        Err(error) => Some(format!("{name} {version}: licence `{license}`: {error:#}")),
    }
}

/// The strings of `allow = [...]` under `[licenses]`: the one list in it.
fn allowed_licences(text: &str) -> Result<BTreeSet<String>> {
    let section = text.split_once("[licenses]").context("deny.toml has no [licenses]")?.1;
    let list = section.split_once("allow = [").context("deny.toml allows no licences")?.1;
    let list = list.split_once(']').context("the list of licences in deny.toml has no end")?.0;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether an SPDX expression leaves us a way that only needs allowed licences.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> Result<bool> {
    // The old way to write OR, still found in manifests.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let permitted = either(&mut rest, allowed)?;
    match rest {
        [] => Ok(permitted),
        [word, ..] => bail!("unexpected `{word}`"),
    }
}

fn either(words: &mut &[&str], allowed: &BTreeSet<String>) -> Result<bool> {
    let mut permitted = both(words, allowed)?;
    while next_is(words, "OR") {
        permitted |= both(words, allowed)?;
    }
    Ok(permitted)
}

fn both(words: &mut &[&str], allowed: &BTreeSet<String>) -> Result<bool> {
    let mut permitted = one(words, allowed)?;
    while next_is(words, "AND") {
        permitted &= one(words, allowed)?;
    }
    Ok(permitted)
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> Result<bool> {
    if next_is(words, "(") {
        let permitted = either(words, allowed)?;
        if !next_is(words, ")") {
            bail!("a bracket is not closed");
        }
        return Ok(permitted);
    }
    let [licence, rest @ ..] = *words else {
        bail!("it ends too soon");
    };
    if matches!(*licence, "OR" | "AND" | "WITH" | ")") {
        bail!("unexpected `{licence}`");
    }
    *words = rest;
    if !next_is(words, "WITH") {
        return Ok(allowed.contains(*licence));
    }
    let [exception, rest @ ..] = *words else {
        bail!("it ends too soon");
    };
    *words = rest;
    Ok(allowed.contains(&format!("{licence} WITH {exception}")))
}

fn next_is(words: &mut &[&str], wanted: &str) -> bool {
    match *words {
        [word, rest @ ..] if *word == wanted => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> BTreeSet<String> {
        ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into()
    }

    #[test]
    fn expressions_are_weighed() {
        for (expression, permitted) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Unicode-3.0", true),
            ("MIT AND Unicode-3.0 OR GPL-3.0", true),
            ("GPL-3.0 AND MIT OR LGPL-2.1", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
        ] {
            assert_eq!(permits(expression, &allowed()).expect(expression), permitted, "{expression}");
        }
    }

    #[test]
    fn nonsense_is_not_taken_for_a_licence() {
        for expression in ["", "OR", "MIT OR", "MIT MIT", "(MIT", "MIT)", "MIT WITH", "AND MIT"] {
            assert!(permits(expression, &allowed()).is_err(), "{expression}");
        }
    }

    #[test]
    fn packages_from_elsewhere_or_without_licence_are_refused() {
        let package = |license: Option<&str>, source: Option<&str>| Package {
            name: "x".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
            is_member: false,
            uses: BTreeSet::new(),
        };
        assert_eq!(mistake(&package(Some("MIT"), Some(CRATES_IO)), &allowed()), None);
        for wrong in [
            package(None, Some(CRATES_IO)),
            package(Some("GPL-3.0"), Some(CRATES_IO)),
            package(Some("MIT"), Some("git+https://example.org/x")),
            package(Some("MIT"), None),
        ] {
            assert!(mistake(&wrong, &allowed()).is_some());
        }
    }

    #[test]
    fn our_own_packages_are_in_order() {
        check(&Metadata::of_workspace().expect("cargo knows us")).expect("licences and origins");
    }

    #[test]
    fn the_list_is_read_from_its_section_only() {
        let text = "[bans]\nallow = [\"no\"]\n[licenses]\n# why\nallow = [\n  \"MIT\", # a\n  \"ISC\",\n]\nx = [\"no\"]\n";
        assert_eq!(allowed_licences(text).expect("a list"), ["MIT", "ISC"].map(str::to_owned).into());
        assert!(allowed_licences("[bans]\n").is_err());
    }
}
