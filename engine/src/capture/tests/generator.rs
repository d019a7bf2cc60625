//! Random trees and random changes to them, from a seed.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// xorshift64*: the same numbers everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len())]) }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).expect("a byte")).collect()
    }

    fn name(&mut self) -> PathBuf {
        let number = self.below(1000);
        let mut name = format!("n{number}").into_bytes();
        match self.below(6) {
            0 => name.extend_from_slice(b"\xff\xfe%"),
            1 => name.extend_from_slice("ü \n".as_bytes()),
            2 => name.resize(255, b'l'),
            _ => {}
        }
        PathBuf::from(std::ffi::OsString::from_vec(name))
    }
}

/// Folders (the root among them) and everything else, in a fixed order.
fn entries(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut folders, mut others) = (vec![root.to_owned()], Vec::new());
    let mut next = 0;
    while next < folders.len() {
        let mut names: Vec<_> = std::fs::read_dir(&folders[next])
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .collect();
        names.sort();
        for path in names {
            let kind = std::fs::symlink_metadata(&path).expect("status").file_type();
            if kind.is_dir() { folders.push(path) } else { others.push(path) }
        }
        next += 1;
    }
    (folders, others)
}

/// Does `count` random things to the tree. Whatever isn't possible is not done.
pub(super) fn mutate(root: &Path, dice: &mut Dice, count: usize) {
    for _ in 0..count {
        let (folders, others) = entries(root);
        let folder = dice.pick(&folders).expect("the root").clone();
        let new = folder.join(dice.name());
        let free = std::fs::symlink_metadata(&new).is_err();
        let regular: Vec<PathBuf> = others
            .iter()
            .filter(|path| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file()))
            .cloned()
            .collect();
        match dice.below(20) {
            0..=4 if free => create_file(&new, dice),
            5 | 6 if free => std::fs::create_dir(&new).expect("folder"),
            7 if free => symlink(PathBuf::from("/etc").join(dice.name()), &new).expect("link"),
            8 if free => node(&new, dice),
            9 | 10 if free => {
                if let Some(old) = dice.pick(&others) {
                    std::fs::hard_link(old, &new).expect("hard link");
                }
            }
            11 => change_file(dice.pick(&regular), dice),
            12 => {
                if let Some(old) = dice.pick(&others) {
                    std::fs::remove_file(old).expect("removed");
                }
            }
            13 if folder != root && dice.below(3) == 0 => std::fs::remove_dir_all(&folder).expect("removed"),
            14 if free => {
                if let Some(old) = dice.pick(&others) {
                    std::fs::rename(old, &new).expect("renamed");
                }
            }
            15 if folder != root => {
                let to = root.join(dice.name());
                if std::fs::symlink_metadata(&to).is_err() && !to.starts_with(&folder) {
                    std::fs::rename(&folder, to).expect("renamed");
                }
            }
            16 => attributes(dice.pick(&regular).unwrap_or(&folder), dice),
            17 => attributes(&folder, dice),
            18 => swap_kind(dice.pick(&others), dice),
            19 => attributes_of_link(dice.pick(&others), dice),
            _ => {}
        }
    }
}

fn create_file(path: &Path, dice: &mut Dice) {
    let size = [0, 1, 100, 4096, 5000, 70_000][dice.below(6)];
    let content = dice.bytes(size);
    std::fs::write(path, content).expect("written");
    if dice.below(3) == 0 {
        let file = OpenOptions::new().write(true).open(path).expect("opened");
        file.write_all_at(b"far away", 1_000_000).expect("written");
    }
}

fn change_file(path: Option<&PathBuf>, dice: &mut Dice) {
    let Some(path) = path else { return };
    let before = std::fs::symlink_metadata(path).expect("status");
    let file = OpenOptions::new().write(true).open(path).expect("opened");
    match dice.below(4) {
        0 => file.set_len(before.len() / 2).expect("cut"),
        1 => file.set_len(before.len() + 10_000).expect("grown"),
        2 => file.write_all_at(&dice.bytes(50), before.len()).expect("appended"),
        _ => {
            file.write_all_at(&dice.bytes(1), before.len() / 2).expect("overwritten");
            // As if nothing had happened: only the time of change tells.
            file.set_modified(before.modified().expect("time")).expect("set");
        }
    }
}

fn node(path: &Path, dice: &mut Dice) {
    let (kind, device) = match dice.below(3) {
        0 => (FileType::CharacterDevice, rustix::fs::makedev(0, 0)),
        1 => (FileType::BlockDevice, rustix::fs::makedev(7, 200)),
        _ => (FileType::Fifo, 0),
    };
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).expect("node");
}

fn attributes(path: &Path, dice: &mut Dice) {
    let regular = std::fs::symlink_metadata(path).expect("status").is_file();
    match dice.below(4) {
        0 => {
            let mode = [0o4755, 0o2750, 0o1777, 0o600, 0o000][dice.below(5)];
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
        }
        1 => {
            let owner = u32::try_from(dice.below(5) * 1000).expect("small");
            std::os::unix::fs::lchown(path, Some(owner), Some(owner + 1)).expect("owner");
        }
        2 => {
            let names: &[&str] = if regular {
                &["user.note", "trusted.overlay.metacopy", "security.test", "user.empty"]
            } else {
                &["trusted.overlay.opaque", "user.note", "trusted.overlay.origin"]
            };
            let name = CString::new(names[dice.below(names.len())]).expect("a name");
            let value = if dice.below(4) == 0 { Vec::new() } else { dice.bytes(30) };
            rustix::fs::lsetxattr(path, &name, &value, XattrFlags::empty()).expect("attribute");
        }
        _ => set_time(path, dice),
    }
}

fn attributes_of_link(path: Option<&PathBuf>, dice: &mut Dice) {
    let Some(path) = path else { return };
    let owner = u32::try_from(dice.below(3) * 7).expect("small");
    std::os::unix::fs::lchown(path, Some(owner), Some(owner)).expect("owner");
    set_time(path, dice);
}

fn set_time(path: &Path, dice: &mut Dice) {
    let time = Timespec {
        tv_sec: i64::try_from(dice.below(2_000_000_000)).expect("fits"),
        tv_nsec: i64::try_from(dice.below(1_000_000_000)).expect("fits"),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("time");
}

/// A file becomes a folder with something in it, or a link to one.
fn swap_kind(path: Option<&PathBuf>, dice: &mut Dice) {
    let Some(path) = path else { return };
    std::fs::remove_file(path).expect("removed");
    if dice.below(2) == 0 {
        symlink("/", path).expect("link");
        return;
    }
    std::fs::create_dir(path).expect("folder");
    create_file(&path.join("inside"), dice);
}
