//! `tar` for CRIU, while a container stands still.
//!
//! CRIU packs each tmpfs of a container by running `tar`, which runs `gzip`: 5 ms of pause each, and most of them (those that
//! mask folders of `/proc` and `/sys`, `/dev/shm`) are empty. Under this name our own program packs an empty folder at once, and hands
//! everything else to the real `tar`. What it writes is what that one would: one entry, the folder itself.

use std::ffi::{CString, OsStr, OsString};
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::durable;
use crate::error::{Error, Report, Result};

const NAME: &str = "tar";
const BLOCK: usize = 512;

/// To be called first in `main`: if the program was called `tar`, it does that and gives its exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.collect();
    let called = Path::new(arguments.first()?);
    if called.file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    let packed = empty_folder(&arguments).and_then(|folder| gzip(&archive(&folder)?));
    let written = packed.map(|bytes| std::io::stdout().write_all(&bytes));
    Some(match written {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) => ExitCode::FAILURE,
        None => real_tar(&arguments),
    })
}

/// A folder to be put first into CRIU's `PATH`, in which `tar` is this program.
pub(super) fn folder(parent: &Path, program: &Path) -> Result<PathBuf> {
    let folder = parent.join("bin");
    durable::create_dir(&folder)?;
    let link = folder.join(NAME);
    match std::os::unix::fs::symlink(program, &link) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::Unavailable(Report::new(format!("make {}", link.display())).because(e)))
        }
        _ => Ok(folder),
    }
}

/// The folder, if nothing but an empty one is to be packed.
fn empty_folder(arguments: &[OsString]) -> Option<Metadata> {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let at = arguments.iter().position(|argument| argument == "--directory")?;
    let folder = Path::new(arguments.get(at + 1)?);
    let all_of_it = arguments.get(at + 2..)?.iter().eq(["."].iter().map(OsStr::new));
    if !has("--create") || !has("--gzip") || !all_of_it || std::fs::read_dir(folder).ok()?.next().is_some() {
        return None;
    }
    std::fs::metadata(folder).ok().filter(Metadata::is_dir)
}

/// Its header and the end of the archive; nothing if a number is too large for the format.
fn archive(folder: &Metadata) -> Option<Vec<u8>> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |value: u64, digits: usize| {
        let text = format!("{value:0digits$o}");
        (text.len() == digits).then(|| text.into_bytes())
    };
    put(0, b"./");
    put(100, &octal(u64::from(folder.mode() & 0o7777), 7)?);
    put(108, &octal(u64::from(folder.uid()), 7)?);
    put(116, &octal(u64::from(folder.gid()), 7)?);
    put(124, &octal(0, 11)?);
    put(136, &octal(u64::try_from(folder.mtime()).ok()?, 11)?);
    put(148, b"        ");
    put(156, b"5");
    put(257, b"ustar  \0");
    let sum = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..155].copy_from_slice(&[octal(sum, 6)?, vec![0]].concat());
    Some([&header[..], &[0; 2 * BLOCK]].concat())
}

/// One stored block: compressing 1.5 KB would take longer than writing them.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok()?;
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(bytes);
    packed.extend(crc32(bytes).to_le_bytes());
    packed.extend(u32::from(length).to_le_bytes());
    Some(packed)
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

/// Becomes the next `tar` in `PATH`; comes back only if there is none.
fn real_tar(arguments: &[OsString]) -> ExitCode {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let programs = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    let real = programs.filter(|tar| tar.is_file() && tar.canonicalize().ok() != own);
    let words: Option<Vec<CString>> =
        arguments.iter().map(|word| CString::new(word.clone().into_vec()).ok()).collect();
    for tar in real {
        if let (Ok(tar), Some(words)) = (CString::new(tar.as_os_str().as_bytes()), &words) {
            let _ = nix::unistd::execv(&tar, words);
        }
    }
    eprintln!("tar: there is none in PATH");
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command::Command;

    fn words(folder: &Path) -> Vec<OsString> {
        let folder = folder.to_str().expect("plain");
        ["tar", "--create", "--gzip", "--one-file-system", "--directory", folder, "."]
            .map(OsString::from)
            .to_vec()
    }

    #[tokio::test]
    async fn an_empty_folder_is_packed_as_tar_does_it() {
        let (folder, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1750);
        std::fs::set_permissions(folder.path(), mode).expect("set");
        let found = empty_folder(&words(folder.path())).expect("it is empty");
        let bytes = gzip(&archive(&found).expect("small numbers")).expect("short");
        let file = to.path().join("a.tar.gz");
        durable::atomic_write_volatile(&file, &bytes, 0o600).expect("written");
        let into = to.path().join("into");
        durable::create_dir(&into).expect("made");
        let path = |path: &Path| path.display().to_string();
        let argv =
            ["tar".to_owned(), "--extract".to_owned(), "--gzip".to_owned(), "--file".to_owned(), path(&file)];
        let argv = argv.into_iter().chain(["--directory".to_owned(), path(&into)]);
        let output = Command::new(argv.collect()).run().await.expect("tar can be run");
        assert!(output.success() && output.stderr.is_empty(), "{output:?}");
        let made = std::fs::metadata(&into).expect("it is there");
        assert_eq!((made.mode() & 0o7777, made.mtime()), (0o1750, found.mtime()));
    }

    #[test]
    fn anything_else_is_for_the_real_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(empty_folder(&words(folder.path())).is_some());
        assert!(empty_folder(&words(folder.path())[..6]).is_none(), "not all of it");
        let extract: Vec<OsString> =
            ["tar", "--extract", "--gzip", "--directory", "/", "."].map(OsString::from).to_vec();
        assert!(empty_folder(&extract).is_none());
        durable::create_dir(&folder.path().join("one")).expect("made");
        assert!(empty_folder(&words(folder.path())).is_none(), "not empty");
        assert!(main(["/usr/bin/supervisor".into()].into_iter()).is_none(), "another name");
    }

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
