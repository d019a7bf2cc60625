//! Files: written in folders that belong to the image, and removed while they are open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Holder, agreed, ensure};

/// Bytes of a removed file that CRIU takes without being asked.
pub(super) const SMALL: u64 = 4096;

pub(super) struct Files {
    number: u64,
    all: Vec<(PathBuf, File)>,
}

fn write(file: &File, number: u64) -> io::Result<()> {
    file.write_all_at(&number.to_ne_bytes(), 0)
}

fn read(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

impl Files {
    pub(super) fn make(folders: &[PathBuf]) -> io::Result<Self> {
        ensure(!folders.is_empty(), "a folder is needed")?;
        let made = |folder: &PathBuf| {
            let path = folder.join("number");
            make(&path).map(|file| (path, file))
        };
        let mut files = Self { number: 0, all: folders.iter().map(made).collect::<io::Result<_>>()? };
        files.put(0)?;
        Ok(files)
    }
}

impl Holder for Files {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.number = number;
        self.all.iter().try_for_each(|(_, file)| write(file, number))
    }

    fn get(&mut self) -> io::Result<u64> {
        let mut numbers = vec![self.number];
        for (path, file) in &self.all {
            numbers.push(read(file)?);
            numbers.push(read(&File::open(path)?)?);
        }
        agreed("memory and files", numbers)
    }
}

pub(super) struct Removed {
    file: File,
    bytes: u64,
}

impl Removed {
    pub(super) fn make(folder: &Path, bytes: u64) -> io::Result<Self> {
        let path = folder.join("removed");
        let file = make(&path)?;
        // Not a hole: what is written is what counts.
        file.write_all_at(&vec![1; usize::try_from(bytes).map_err(io::Error::other)?], 0)?;
        std::fs::remove_file(path)?;
        Ok(Self { file, bytes })
    }
}

impl Holder for Removed {
    fn put(&mut self, number: u64) -> io::Result<()> {
        write(&self.file, number)
    }

    fn get(&mut self) -> io::Result<u64> {
        ensure(self.file.metadata()?.len() == self.bytes, "the removed file has another length")?;
        read(&self.file)
    }
}
