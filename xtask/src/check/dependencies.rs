//! Who may use whom: the table of `ARCHITECTURE.md`, as data.
//!
//! Dependencies of tests are free. Refuses a package that the table does not know: it needs a place first.

use anyhow::{Result, bail};

use super::metadata::{Metadata, Package};

/// One package's row.
struct Row {
    name: &'static str,
    /// Packages of ours that it may name.
    may_use: &'static [&'static str],
    /// Packages that it must not be built from, however long the way; with the reason.
    must_not_reach: &'static [(&'static str, &'static str)],
    others: Others,
}

/// Whether packages from elsewhere may be used.
#[derive(PartialEq, Eq)]
enum Others {
    Allowed,
    None,
}

const ENGINE_HAS_NO_WORDS: &str = "the engine is usable and testable without a daemon and its words";
const CONFIG_IS_TEXT: &str = "a mistake is found without starting anything; can be fuzzed";

const TABLE: [Row; 9] = [
    Row { name: "policies", may_use: &[], must_not_reach: &[], others: Others::None },
    Row {
        name: "config",
        may_use: &["policies"],
        must_not_reach: &[
            ("tokio", CONFIG_IS_TEXT),
            ("engine", CONFIG_IS_TEXT),
            ("nix", CONFIG_IS_TEXT),
            ("rustix", CONFIG_IS_TEXT),
            ("clap", CONFIG_IS_TEXT),
        ],
        others: Others::Allowed,
    },
    Row {
        name: "engine",
        may_use: &["policies"],
        must_not_reach: &[
            ("toml", ENGINE_HAS_NO_WORDS),
            ("clap", ENGINE_HAS_NO_WORDS),
            ("config", ENGINE_HAS_NO_WORDS),
            ("axum", ENGINE_HAS_NO_WORDS),
        ],
        others: Others::Allowed,
    },
    Row {
        name: "supervisor",
        may_use: &["config", "engine", "policies"],
        must_not_reach: &[],
        others: Others::Allowed,
    },
    Row {
        name: "system-tests",
        may_use: &["config", "engine", "policies"],
        must_not_reach: &[],
        others: Others::Allowed,
    },
    Row { name: "counter", may_use: &[], must_not_reach: &[], others: Others::None },
    Row { name: "memhog", may_use: &[], must_not_reach: &[], others: Others::Allowed },
    Row {
        name: "benches",
        may_use: &["engine", "system-tests"],
        must_not_reach: &[],
        others: Others::Allowed,
    },
    Row { name: "xtask", may_use: &[], must_not_reach: &[], others: Others::Allowed },
];

/// Every package of ours against its row.
pub(crate) fn check(metadata: &Metadata) -> Result<()> {
    let broken: Vec<String> = metadata.members().flat_map(|package| mistakes(metadata, package)).collect();
    if !broken.is_empty() {
        bail!("\n    {}", broken.join("\n    "));
    }
    Ok(())
}

fn mistakes(metadata: &Metadata, package: &Package) -> Vec<String> {
    let name = &package.name;
    let Some(row) = TABLE.iter().find(|row| row.name == name) else {
        return vec![format!(
            "{name} has no row in xtask's table: say what it may use, there and in ARCHITECTURE.md"
        )];
    };
    let mut mistakes = Vec::new();
    for used in metadata.uses(package) {
        if used.is_member && !row.may_use.contains(&used.name.as_str()) {
            mistakes.push(format!("{name} must not use {}", used.name));
        }
        if !used.is_member && row.others == Others::None {
            mistakes.push(format!("{name} must not use {}: it uses std only", used.name));
        }
    }
    for (reached, way) in metadata.reaches(package) {
        if let Some((_, reason)) = row.must_not_reach.iter().find(|(banned, _)| *banned == reached.name) {
            mistakes.push(format!("{name} must not reach {} ({}): {reason}", reached.name, way.join(" > ")));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::super::metadata::invented;
    use super::*;

    fn complaint(packages: &[(&str, &[&str])]) -> String {
        check(&invented(packages)).expect_err("a broken rule").to_string()
    }

    #[test]
    fn the_intended_shape_passes() {
        let packages: &[(&str, &[&str])] = &[
            ("policies", &["dev:PROPTEST"]),
            ("config", &["policies", "TOML"]),
            ("engine", &["policies", "TOKIO", "dev:TOML"]),
            ("supervisor", &["config", "engine", "policies", "CLAP", "TOKIO"]),
            ("PROPTEST", &[]),
            ("TOML", &[]),
            ("TOKIO", &[]),
            ("CLAP", &[]),
        ];
        check(&invented(packages)).expect("as drawn");
    }

    #[test]
    fn our_own_workspace_follows_the_table() {
        check(&Metadata::of_workspace().expect("cargo knows us")).expect("as drawn");
    }

    #[test]
    fn policies_use_nothing() {
        assert!(
            complaint(&[("policies", &["SERDE"]), ("SERDE", &[])]).contains("policies must not use serde")
        );
        assert!(
            complaint(&[("policies", &["engine"]), ("engine", &[])]).contains("policies must not use engine")
        );
    }

    #[test]
    fn a_long_way_round_is_found_and_shown() {
        let packages: &[(&str, &[&str])] = &[("engine", &["A"]), ("A", &["TOML"]), ("TOML", &[])];
        assert!(complaint(packages).contains("engine must not reach toml (engine > a > toml)"));
        let packages: &[(&str, &[&str])] = &[("config", &["A"]), ("A", &["TOKIO"]), ("TOKIO", &[])];
        assert!(complaint(packages).contains("config must not reach tokio (config > a > tokio)"));
    }

    #[test]
    fn directions_are_not_turned_round_and_unknown_packages_need_a_place() {
        assert!(
            complaint(&[("engine", &["config"]), ("config", &[])]).contains("engine must not use config")
        );
        assert!(complaint(&[("utils", &[])]).contains("utils has no row"));
    }
}
