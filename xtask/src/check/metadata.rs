//! What `cargo metadata` says about our packages and those of others. Refuses to change the lock file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// Packages by cargo's id, and who uses whom.
pub(crate) struct Metadata {
    packages: BTreeMap<String, Package>,
}

/// One package.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// `None`: a folder of ours.
    pub(crate) source: Option<String>,
    pub(crate) is_member: bool,
    /// Ids of what it is built with or from, tests aside.
    pub(crate) uses: BTreeSet<String>,
}

impl Metadata {
    /// Asks cargo.
    pub(crate) fn of_workspace() -> Result<Metadata> {
        let text = command::output(command::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
        Metadata::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Result<Metadata> {
        let value: Value = serde_json::from_str(text).context("can't read what cargo metadata printed")?;
        let members: BTreeSet<&str> = strings(&value["workspace_members"]).collect();
        let mut packages = BTreeMap::new();
        for package in list(&value["packages"]) {
            let id = text_of(package, "id")?;
            packages.insert(id.clone(), read_package(package, members.contains(id.as_str()))?);
        }
        for node in list(&value["resolve"]["nodes"]) {
            let id = text_of(node, "id")?;
            let package =
                packages.get_mut(&id).with_context(|| format!("cargo metadata resolves unknown {id}"))?;
            for used in list(&node["deps"]).filter(|used| is_built_with(used)) {
                package.uses.insert(text_of(used, "pkg")?);
            }
        }
        Ok(Metadata { packages })
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages().filter(|package| package.is_member)
    }

    /// What a package names in its own manifest.
    pub(crate) fn uses<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a Package> {
        package.uses.iter().filter_map(|id| self.packages.get(id))
    }

    /// Each package that it is built from, with the names of those between.
    pub(crate) fn reaches<'a>(&'a self, package: &'a Package) -> Vec<(&'a Package, Vec<&'a str>)> {
        let mut seen = BTreeSet::new();
        let mut found: Vec<(&Package, Vec<&str>)> = Vec::new();
        let mut waiting = vec![(package, vec![package.name.as_str()])];
        while let Some((from, way)) = waiting.pop() {
            for used in self.uses(from) {
                if seen.insert((&used.name, &used.version)) {
                    let way: Vec<&str> = way.iter().copied().chain([used.name.as_str()]).collect();
                    found.push((used, way.clone()));
                    waiting.push((used, way));
                }
            }
        }
        found
    }

    /// Names that occur with more than one version.
    pub(crate) fn duplicates(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in self.packages() {
            versions.entry(&package.name).or_default().push(&package.version);
        }
        versions.retain(|_, versions| versions.len() > 1);
        versions
    }
}

fn read_package(package: &Value, is_member: bool) -> Result<Package> {
    Ok(Package {
        name: text_of(package, "name")?,
        version: text_of(package, "version")?,
        license: package["license"].as_str().map(str::to_owned),
        source: package["source"].as_str().map(str::to_owned),
        is_member,
        uses: BTreeSet::new(),
    })
}

/// Dependencies of tests only have kind `dev`; the others none or `build`.
fn is_built_with(used: &Value) -> bool {
    list(&used["dep_kinds"]).any(|kind| kind["kind"].as_str() != Some("dev"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

fn text_of(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| format!("cargo metadata gives no {key}"))
}

/// Metadata as cargo prints it, for tests: `(name, [uses])`, an upper-case name being a package of others'.
#[cfg(test)]
pub(crate) fn invented(packages: &[(&str, &[&str])]) -> Metadata {
    let described = packages.iter().map(|(name, _)| {
        let source = name.chars().all(char::is_uppercase).then_some("registry+https://github.com/rust-lang/crates.io-index");
        serde_json::json!({ "id": name, "name": name.to_lowercase(), "version": "1.0.0", "license": "MIT", "source": source })
    });
    let nodes = packages.iter().map(|(name, uses)| {
        let deps = uses.iter().map(|used| match used.strip_prefix("dev:") {
            Some(used) => serde_json::json!({ "pkg": used, "dep_kinds": [{ "kind": "dev" }] }),
            None => serde_json::json!({ "pkg": used, "dep_kinds": [{ "kind": null }, { "kind": "dev" }] }),
        });
        serde_json::json!({ "id": name, "deps": deps.collect::<Vec<_>>() })
    });
    let members = packages.iter().map(|(name, _)| *name).filter(|name| !name.chars().all(char::is_uppercase));
    let text = serde_json::json!({
        "packages": described.collect::<Vec<_>>(),
        "workspace_members": members.collect::<Vec<_>>(),
        "resolve": { "nodes": nodes.collect::<Vec<_>>() },
    });
    Metadata::parse(&text.to_string()).expect("well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_through_others_and_not_through_tests() {
        let metadata = invented(&[("a", &["B", "dev:D"]), ("B", &["C"]), ("C", &["B"]), ("D", &[])]);
        let a = metadata.members().next().expect("one member");
        let mut ways: Vec<String> = metadata.reaches(a).into_iter().map(|(_, way)| way.join(" > ")).collect();
        ways.sort();
        assert_eq!(ways, ["a > b", "a > b > c"]);
    }

    #[test]
    fn our_own_workspace_can_be_read() {
        let metadata = Metadata::of_workspace().expect("cargo knows us");
        let names: BTreeSet<&str> = metadata.members().map(|package| package.name.as_str()).collect();
        assert!(names.contains("xtask") && names.contains("policies"), "{names:?}");
    }
}
