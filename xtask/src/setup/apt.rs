//! Debian packages and sources, by way of apt.
//!
//! Installs what is named, with a word before it does. Sources of newer suites are read through a private
//! configuration in a folder of ours: the host's own sources, lists and pins stay as they are. Refuses to
//! start a package's service (programs that come with one are unpacked, not installed).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::host::{find_program, is_root};
use crate::command;

/// Where Debian's archive is when the host names no mirror of its own.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fails, naming what is wanted, if packages can't be had here at all.
pub(crate) fn require(wanted: &str) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("{wanted} is missing and this host has no apt-get: install it with your package manager");
    }
    Ok(())
}

/// Installs those of the packages that are missing, and says so first.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    require(&missing.join(" "))?;
    if !is_root() {
        bail!(
            "{why} needs Debian packages, and only root may install them:\n    \
             sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    println!("setup: {why}: installing with apt-get: {}", missing.join(" "));
    with_fresh_lists(|| {
        command::output(apt_get().args(["install", "-y", "--no-install-recommends"]).args(&missing)).map(drop)
    })
}

/// Downloads packages and those they depend on that are missing here, and unpacks them into a folder.
///
/// Nothing is installed, no maintainer script runs, no service starts.
pub(crate) fn unpack(packages: &[&str], work: &Path) -> Result<PathBuf> {
    unpack_with(packages, work, &[])
}

/// The same with all that they depend on, whatever is installed here: what is unpacked needs nothing of this host.
pub(crate) fn unpack_whole(packages: &[&str], work: &Path) -> Result<PathBuf> {
    let nothing = work.join("status");
    fs::write(&nothing, "").with_context(|| format!("can't write {}", nothing.display()))?;
    unpack_with(packages, work, &[format!("Dir::State::status={}", nothing.display())])
}

fn unpack_with(packages: &[&str], work: &Path, options: &[String]) -> Result<PathBuf> {
    require(&packages.join(" "))?;
    let archives = work.join("archives");
    let root = work.join("root");
    for folder in [&archives.join("partial"), &root] {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    }
    with_fresh_lists(|| {
        let mut download = apt_get();
        download.args(["install", "-y", "--no-install-recommends", "--download-only"]);
        // No lock of the host's is taken, for none of its files is written: works without root as well.
        download.args(["-o", "Debug::NoLocking=1"]);
        download.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
        download.args(options.iter().flat_map(|option| ["-o", option]));
        command::output(download.args(packages)).map(drop)
    })?;
    let files = files_ending(&archives, "deb")?;
    if files.is_empty() {
        bail!("apt-get downloaded nothing for {}", packages.join(" "));
    }
    for file in files {
        command::output(Command::new("dpkg-deb").arg("-x").arg(file).arg(&root))?;
    }
    Ok(root)
}

/// Names of the library packages among what [`unpack`] downloaded into `work`.
pub(crate) fn library_packages(work: &Path) -> Result<Vec<String>> {
    let files = files_ending(&work.join("archives"), "deb")?;
    let names = files.iter().filter_map(|file| file.file_name()?.to_str()?.split('_').next());
    Ok(names.filter(|name| name.starts_with("lib")).map(str::to_owned).collect())
}

/// The folders of an unpacked tree in which the loader should look first.
pub(crate) fn library_path(root: &Path) -> Result<OsString> {
    let mut folders = Vec::new();
    for library in
        ["usr/lib", "lib"].map(|folder| root.join(folder)).into_iter().filter(|folder| folder.is_dir())
    {
        for entry in fs::read_dir(&library).with_context(|| format!("can't read {}", library.display()))? {
            let path = entry?.path();
            // The folders named after the machine, such as `x86_64-linux-gnu`.
            if path.is_dir() && path.to_string_lossy().contains("-linux-") {
                folders.push(path);
            }
        }
    }
    std::env::join_paths(folders).context("can't make a library path")
}

/// The version apt would install from the host's own sources.
pub(crate) fn candidate(package: &str) -> Option<String> {
    let ask = || parse_candidate(&command::output(Command::new("apt-cache").args(["policy", package])).ok()?);
    ask().or_else(|| {
        // Images often come without any lists. If they can't be had, there is no candidate either.
        renew_lists().ok()?;
        ask()
    })
}

/// Brings the newest upstream source of a package that a Debian suite has, as one tar file.
pub(crate) fn source(package: &str, suite: &str, work: &Path, log: &Path) -> Result<PathBuf> {
    require(&format!("the source of {package}"))?;
    if !Path::new(KEYRING).exists() {
        install(&["debian-archive-keyring"], "checking the signature of Debian's sources")?;
    }
    let mut failures = Vec::new();
    for mirror in mirrors() {
        match source_from(&mirror, package, suite, work, log) {
            Ok(tar) => return Ok(tar),
            Err(error) => failures.push(format!("{mirror}: {error:#}")),
        }
    }
    bail!("no mirror gave the source of {package} from {suite}: is there a network?\n{}", failures.join("\n"))
}

fn source_from(mirror: &str, package: &str, suite: &str, work: &Path, log: &Path) -> Result<PathBuf> {
    let private = work.join(format!("apt-{suite}"));
    if private.exists() {
        fs::remove_dir_all(&private)?; // of a mirror tried before
    }
    let downloads = private.join("downloads");
    let configuration = write_private_configuration(&private, mirror, suite)?;
    fs::create_dir_all(&downloads)?;
    let apt = || {
        let mut apt = apt_get();
        apt.env("APT_CONFIG", &configuration).current_dir(&downloads);
        apt
    };
    command::logged(apt().arg("update").args(["-o", "APT::Update::Error-Mode=any"]), log)?;
    command::logged(apt().args(["source", "--tar-only", package]), log)?;
    let tars: Vec<PathBuf> = files_with(&downloads, ".orig.tar.")?;
    match tars.as_slice() {
        [tar] => Ok(tar.clone()),
        _ => bail!("expected one original tar of {package} in {}, found {}", downloads.display(), tars.len()),
    }
}

/// `APT_CONFIG` is read before the host's configuration, whose proxies and such go on to hold.
fn write_private_configuration(private: &Path, mirror: &str, suite: &str) -> Result<PathBuf> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(private.join(folder))
            .with_context(|| format!("can't make {}", private.display()))?;
    }
    let list = private.join("sources.list");
    let configuration = private.join("apt.conf");
    let place = private.display();
    fs::write(&list, format!("deb-src [signed-by={KEYRING}] {mirror} {suite} main\n"))
        .and_then(|()| {
            fs::write(
                &configuration,
                format!(
                    "Dir::Etc::sourcelist \"{place}/sources.list\";\n\
                     Dir::Etc::sourceparts \"-\";\n\
                     Dir::Etc::preferences \"-\";\n\
                     Dir::Etc::preferencesparts \"-\";\n\
                     Dir::State::lists \"{place}/lists\";\n\
                     Dir::Cache \"{place}/cache\";\n\
                     APT::Sandbox::User \"root\";\n"
                ),
            )
        })
        .with_context(|| format!("can't write apt configuration in {place}"))?;
    Ok(configuration)
}

/// The host's own Debian mirrors, then Debian's.
pub(crate) fn mirrors() -> Vec<String> {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for ending in ["list", "sources"] {
        let files = files_ending(Path::new("/etc/apt/sources.list.d"), ending).unwrap_or_default();
        texts.extend(files.iter().filter_map(|file| fs::read_to_string(file).ok()));
    }
    choose_mirrors(&texts.join("\n"))
}

fn choose_mirrors(sources: &str) -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    let configured = sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        // Only Debian's main archive holds the sources; other vendors and the security archive do not.
        .filter(|word| word.ends_with("/debian"));
    for mirror in configured.chain([DEFAULT_MIRROR]) {
        if !mirrors.iter().any(|known| known == mirror) {
            mirrors.push(mirror.to_owned());
        }
    }
    mirrors
}

/// Package lists may be absent (images often drop them) or name files that are gone: fetch them, try again.
fn with_fresh_lists(attempt: impl Fn() -> Result<()>) -> Result<()> {
    let Err(first) = attempt() else {
        return Ok(());
    };
    if !is_root() {
        return Err(first.context("apt-get failed (stale lists? `sudo apt-get update` renews them)"));
    }
    renew_lists()?;
    attempt()
}

fn renew_lists() -> Result<()> {
    println!("setup: renewing apt's lists (apt-get update)");
    command::output(apt_get().arg("update")).map(drop)
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("-q").env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    // A host that starts services at installation asks for the run level; 1 means: none.
    apt.env("RUNLEVEL", "1");
    apt
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${db:Status-Status}", package]);
    command::output(&mut query).is_ok_and(|status| status == "installed")
}

fn parse_candidate(policy: &str) -> Option<String> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))
        .map(str::trim)
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
}

fn files_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    files_with(folder, &format!(".{ending}"))
        .map(|files| files.into_iter().filter(|file| file.extension().is_some_and(|e| e == ending)).collect())
}

fn files_with(folder: &Path, part: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && name.contains(part) && !name.ends_with(".asc") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_the_hosts_own_first_and_only_debians() {
        let sources = "\
            # deb http://old.example/debian bookworm main\n\
            Types: deb\nURIs: http://mirror.example/debian/\nSigned-By: /usr/share/keyrings/x.gpg\n\
            deb [arch=amd64] https://other.example/pub/debian bookworm main\n\
            deb http://deb.debian.org/debian-security bookworm-security main\n\
            URIs: https://deb.nodesource.com/node_20.x\n\
            deb http://mirror.example/debian bookworm-updates main\n";
        assert_eq!(
            choose_mirrors(sources),
            ["http://mirror.example/debian", "https://other.example/pub/debian", DEFAULT_MIRROR]
        );
        assert_eq!(choose_mirrors(""), [DEFAULT_MIRROR]);
    }

    #[test]
    fn candidate_is_read_and_none_is_none() {
        let policy = "criu:\n  Installed: (none)\n  Candidate: 3.17.1-2+deb12u1\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("3.17.1-2+deb12u1"));
        assert_eq!(parse_candidate("criu:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn private_configuration_stays_in_its_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("private");
        let file = write_private_configuration(&place, "http://m.example/debian", "sid").expect("written");
        let text = fs::read_to_string(file).expect("the configuration");
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            let value = line.split('"').nth(1).expect("a quoted value");
            assert!(value == "-" || Path::new(value).starts_with(&place), "{line}");
        }
        let list = fs::read_to_string(place.join("sources.list")).expect("the list");
        assert!(
            list.starts_with("deb-src [signed-by=") && list.ends_with("http://m.example/debian sid main\n")
        );
    }
}
