//! What clippy's bans can't express: parts of `std` and of other crates that a package of ours must not name
//! outside its tests.
//!
//! A plain search through the text, comments and tests aside; tests stand at the end of a file or in files
//! of their own. Refuses exceptions without a reason.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One ban.
struct Ban {
    package: &'static str,
    names: &'static [&'static str],
    reason: &'static str,
}

const EFFECTS: &[&str] = &["std::fs", "std::net", "std::thread", "std::process", "std::os"];
const WRITING: &[&str] =
    &["File::create", "File::options", "OpenOptions", "fs::write", "fs::rename", "fs::copy"];
const SPAWNING: &[&str] = &["std::process::Command", "tokio::process", "process::Command::new"];

const BANS: [Ban; 7] = [
    Ban { package: "policies", names: EFFECTS, reason: "decisions touch nothing (invariant 1)" },
    Ban {
        package: "policies",
        names: &[
            "std::env",
            "std::io",
            "std::time::Instant",
            "SystemTime",
            "HashMap",
            "HashSet",
            "RandomState",
        ],
        reason: "decisions are the same for the same history (invariant 1)",
    },
    Ban {
        package: "config",
        names: &["std::fs", "std::thread", "std::process", "std::env"],
        reason: "config gets text and gives data",
    },
    // Addresses are data, so `std::net` as a whole is not banned.
    Ban {
        package: "config",
        names: &["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs"],
        reason: "config gets text and gives data",
    },
    Ban {
        package: "config",
        names: &["SystemTime::now", "Instant::now"],
        reason: "config gets text and gives data",
    },
    Ban {
        package: "supervisor",
        names: WRITING,
        reason: "files are written by engine::durable only (invariant 5)",
    },
    Ban {
        package: "supervisor",
        names: SPAWNING,
        reason: "processes are spawned by engine::process only (invariant 5)",
    },
];

/// A line that may break a ban: package, end of the file's path, the name, and why.
type Exception = (&'static str, &'static str, &'static str, &'static str);

const EXCEPTIONS: [Exception; 1] = [(
    "supervisor",
    "cli/export.rs",
    "File::create",
    "the command line writes an archive where its user says, whole or not at all by a rename of its own",
)];

/// Every ban against every file of its package.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut broken = Vec::new();
    for ban in &BANS {
        for file in rust_files(&root.join(ban.package).join("src"))? {
            let text = read(&file)?;
            for (line, name) in violations(&text, ban.names) {
                let shown = file.strip_prefix(root).unwrap_or(&file);
                if !is_excepted(ban.package, shown, name) {
                    broken.push(format!("{}:{line}: {name}: {}", shown.display(), ban.reason));
                }
            }
        }
    }
    if !broken.is_empty() {
        bail!("\n    {}", broken.join("\n    "));
    }
    Ok(())
}

/// Source files with more lines than that.
pub(crate) fn longer_than(root: &Path, lines_max: usize) -> Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    for folder in ["policies", "config", "engine", "supervisor", "tests", "examples", "xtask"] {
        for file in rust_files(&root.join(folder))? {
            let lines = read(&file)?.lines().count();
            if lines > lines_max {
                found.push((file.strip_prefix(root).unwrap_or(&file).to_owned(), lines));
            }
        }
    }
    Ok(found)
}

fn is_excepted(package: &str, file: &Path, name: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(of, ending, allowed, _)| *of == package && file.ends_with(ending) && *allowed == name)
}

/// Numbers of the lines that name something banned.
fn violations<'a>(text: &str, names: &[&'a str]) -> Vec<(usize, &'a str)> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let code = lines.iter().enumerate().take_while(|(index, _)| !begins_tests(&lines[*index..]));
    code.filter(|(_, line)| !line.starts_with("//"))
        .flat_map(|(index, line)| {
            let code = line.split(" // ").next().unwrap_or(line);
            names.iter().filter(move |name| names_it(code, name)).map(move |name| (index + 1, *name))
        })
        .collect()
}

/// A module of tests written out here; one in a file of its own (`mod tests;`) may be followed by code.
fn begins_tests(lines: &[&str]) -> bool {
    let [first, rest @ ..] = lines else { return false };
    first.starts_with("#[cfg(test)]")
        && rest
            .iter()
            .find(|line| !line.starts_with("#["))
            .is_some_and(|line| line.starts_with("mod ") && line.contains('{'))
}

/// `std::fs` is in `use std::fs::File` and not in `std::fsync`.
fn names_it(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// All of a folder but its tests.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_tests = path.file_stem().is_some_and(|stem| stem == "tests" || stem == "target");
            if path.is_dir() && !is_tests {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !is_tests {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_words_and_not_in_comments_or_tests() {
        let text = "\
//! std::fs is not used
use std::fs::File;
let fine = std::fsync();
let also = mystd::fs(); // std::fs
    let bad = std::fs::read(path);
#[cfg(test)]
mod tests { use std::fs; }
";
        assert_eq!(violations(text, &["std::fs"]), [(2, "std::fs"), (5, "std::fs")]);
        let elsewhere =
            "#[cfg(test)]\nmod tests;\nuse std::fs;\n#[cfg(test)]\n#[path = \"x\"]\nmod x {\nuse std::fs;";
        assert_eq!(violations(elsewhere, &["std::fs"]), [(3, "std::fs")]);
    }

    #[test]
    fn a_broken_ban_is_reported_with_its_place() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for package in ["policies", "config", "supervisor"] {
            std::fs::create_dir_all(root.path().join(package).join("src")).expect("a folder");
        }
        std::fs::create_dir_all(root.path().join("config/src/check")).expect("a folder");
        std::fs::write(root.path().join("config/src/check/tests.rs"), "use std::fs;").expect("a file");
        check(root.path()).expect("nothing wrong yet");
        std::fs::write(root.path().join("config/src/check/paths.rs"), "\nuse std::fs;").expect("a file");
        let error = check(root.path()).expect_err("a broken ban").to_string();
        assert!(error.contains("config/src/check/paths.rs:2: std::fs: config gets text"), "{error}");
    }

    #[test]
    fn long_files_are_counted() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["policies", "config", "engine", "supervisor", "tests", "examples", "xtask"] {
            std::fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        std::fs::write(root.path().join("engine/long.rs"), "x\n".repeat(11)).expect("a file");
        std::fs::write(root.path().join("engine/short.rs"), "x\n".repeat(10)).expect("a file");
        assert_eq!(longer_than(root.path(), 10).expect("read"), [("engine/long.rs".into(), 11)]);
    }
}
