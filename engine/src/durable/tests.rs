use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it exists").permissions().mode() & 0o7777
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn atomic_write_replaces_whole_and_leaves_nothing_beside() {
    let folder = folder();
    let path = folder.path().join("state");
    for content in ["first, longer", "second"] {
        atomic_write(&path, content.as_bytes(), FILE_MODE).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), content);
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(names(folder.path()), ["state"]);
    }
}

#[test]
fn atomic_write_that_fails_leaves_nothing_beside() {
    let folder = folder();
    fs::create_dir(folder.path().join("taken")).expect("created");
    let error =
        atomic_write(&folder.path().join("taken"), b"x", FILE_MODE).expect_err("a folder is in the way");
    assert_eq!(error.kind(), "refused", "{error}");
    assert_eq!(names(folder.path()), ["taken"]);
}

#[test]
fn folders_are_private_and_a_link_is_not_taken_for_one() {
    let folder = folder();
    create_dir_all(&folder.path().join("a/b/c")).expect("created");
    assert_eq!(mode_of(&folder.path().join("a/b")), 0o700);
    create_dir_all(&folder.path().join("a/b/c")).expect("there already");
    symlink(folder.path().join("a"), folder.path().join("link")).expect("linked");
    assert_eq!(create_dir(&folder.path().join("link")).expect_err("a link").kind(), "refused");
}

#[test]
fn remove_tree_removes_links_and_never_what_they_point_to() {
    let folder = folder();
    let (kept, removed) = (folder.path().join("kept"), folder.path().join("removed"));
    fs::create_dir_all(&kept).expect("created");
    fs::write(kept.join("file"), "x").expect("written");
    create_dir_all(&removed.join("deep")).expect("created");
    symlink(&kept, removed.join("deep/link")).expect("linked");
    remove_tree(&removed).expect("removed");
    assert!(!removed.exists() && kept.join("file").exists());
    remove_tree(&removed).expect("gone already");
    symlink(&kept, &removed).expect("linked");
    assert!(remove_tree(&removed).is_err() || !removed.exists());
    assert!(kept.join("file").exists());
}

#[test]
fn reading_refuses_links_fifos_and_what_is_too_long() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "12345").expect("written");
    assert_eq!(read_limited(&file, 5).expect("just short enough"), b"12345");
    assert_eq!(read_limited(&file, 4).expect_err("too long").kind(), "corrupt");
    symlink(&file, folder.path().join("link")).expect("linked");
    assert_eq!(open_regular(&folder.path().join("link")).expect_err("a link").kind(), "refused");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    assert_eq!(open_regular(&fifo).expect_err("a FIFO").kind(), "refused");
    assert_eq!(open_regular(&folder.path().join("none")).expect_err("absent").kind(), "invalid");
}

#[test]
fn a_new_file_never_replaces_one() {
    let folder = folder();
    let path = folder.path().join("file");
    let mut file = NewFile::create(&path).expect("created");
    file.write(b"head").expect("written");
    file.write_at(b"tail", 8).expect("written");
    file.set_length(16).expect("sized");
    file.finish().expect("synced");
    assert_eq!(fs::read(&path).expect("read"), b"head\0\0\0\0tail\0\0\0\0");
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(NewFile::create(&path).expect_err("it exists").kind(), "refused");
}

#[test]
fn copies_are_equal_within_and_across_file_systems() {
    let (here, content) = (folder(), (0..700_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("a temporary folder in memory");
    fs::write(here.path().join("from"), &content).expect("written");
    for target in [here.path().join("to"), elsewhere.path().join("to")] {
        let (from, to) = (File::open(here.path().join("from")), File::create_new(&target));
        let (from, to) = (from.expect("opened"), to.expect("created"));
        clone_or_copy(&from, &to, &target).expect("copied");
        assert!(fs::read(&target).expect("read") == content);
        let copied = copy_range(&from, 10, &to, content.len() as u64, 1 << 40, &target).expect("copied");
        assert_eq!(copied, content.len() as u64 - 10, "stops at the end of the original");
        assert!(fs::read(&target).expect("read")[content.len()..] == content[10..]);
    }
}

#[test]
fn a_log_gives_back_what_was_appended_and_cuts_every_torn_end() {
    let folder = folder();
    let path = folder.path().join("log");
    let (mut log, found) = Log::open(&path).expect("opened");
    assert_eq!(found, Replay::default());
    for record in [&b"one"[..], b"", b"two \xff bytes"] {
        log.append(record).expect("appended");
    }
    assert_eq!(log.append(b"a\nb").expect_err("a newline").kind(), "internal");
    let whole = fs::read(&path).expect("read");
    log.append(b"the last").expect("appended");
    let all = fs::read(&path).expect("read");
    for cut in whole.len()..all.len() {
        fs::write(&path, &all[..cut]).expect("written");
        let (mut log, found) = Log::open(&path).expect("opened");
        assert_eq!(found.records, [&b"one"[..], b"", b"two \xff bytes"], "cut at {cut}");
        assert_eq!((found.torn_bytes, found.damaged_lines), ((cut - whole.len()) as u64, 0));
        log.append(b"next").expect("appended");
        assert_eq!(Log::read_all(&path).expect("read").records.last().expect("one"), b"next");
    }
}

#[test]
fn a_log_with_a_flipped_byte_loses_that_line_only_and_says_so() {
    let folder = folder();
    let path = folder.path().join("log");
    let (mut log, _) = Log::open(&path).expect("opened");
    for record in [&b"first"[..], b"second", b"third"] {
        log.append(record).expect("appended");
    }
    let all = fs::read(&path).expect("read");
    let second = CHECK + 5 + 1..CHECK * 2 + 5 + 6 + 1;
    for at in second {
        let mut bytes = all.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let found = Log::read_all(&path).expect("read");
        assert_eq!(found.records, [&b"first"[..], b"third"], "flipped at {at}");
        assert!(found.damaged_lines > 0 && found.torn_bytes == 0);
    }
}

/// Checksum and space.
const CHECK: usize = 17;

#[test]
fn rewriting_a_log_keeps_what_is_given_and_can_go_on() {
    let folder = folder();
    let path = folder.path().join("log");
    let (mut log, _) = Log::open(&path).expect("opened");
    for _ in 0..50 {
        log.append(b"old").expect("appended");
    }
    log.rewrite([&b"kept"[..]]).expect("rewritten");
    log.append(b"new").expect("appended");
    assert_eq!(Log::read_all(&path).expect("read").records, [&b"kept"[..], b"new"]);
    assert_eq!(log.length(), fs::metadata(&path).expect("there").len());
}
